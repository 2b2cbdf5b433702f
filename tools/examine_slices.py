"""Examine a U-Net's slices: python tools/examine_slices.py RECORD WEIGHTS DATA PART.

PART is train, validation or test. Writes book/examined/<record>-<part>.json, since neither the
slices nor the weights are in the book: what was examined, then each slice.
"""

import json
import sys
from pathlib import Path

from hw3 import records
from hw3.errors import InputError
from hw3.segmentation import errors, experiment

FOLDER = Path(__file__).resolve().parent.parent / "book/examined"
PARTS = ("train", "validation", "test")
TOLERANCE = 2.0  # of the surface Dice, in pixels


def main() -> None:
    """Examine one part of one run."""
    if len(sys.argv) != 5 or sys.argv[4] not in PARTS:
        sys.exit(__doc__)
    path, weights, source, part = sys.argv[1:]
    try:
        record = records.load(Path(path))
        model, dataset, split, _ = experiment.restore(record, source, Path(weights))
        found = errors.examine(model, dataset, split[part], tolerance=TOLERANCE)
    except InputError as error:
        sys.exit(str(error))
    what = {"record": record.name, "key": record.key, "part": part, "tolerance": TOLERANCE}
    lines = [what | records.provenance() | {"bins": found["bins"]}, *found["slices"]]
    text = ",\n".join(map(json.dumps, lines))
    records.write_atomically(FOLDER / f"{Path(path).stem}-{part}.json", f"[{text}]\n".encode())


if __name__ == "__main__":
    main()
