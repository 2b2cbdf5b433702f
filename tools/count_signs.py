"""Count the signs of the published GTSDB: python tools/count_signs.py FULLIJCNN2013.

Writes book/gtsdb_counts.json, so that the book can show real counts where the data set is not.
"""

import json
import sys
from pathlib import Path

from hw3 import records
from hw3.data import InputError
from hw3.detection.gtsdb import GtsdbDataset, read_gtsdb, split

TARGET = Path(__file__).resolve().parent.parent / "book/gtsdb_counts.json"
SEED = 0  # of the random split: the first that the book's runs take


def main() -> None:
    """Count in all images and in both parts of both splits."""
    dataset = given(__doc__)
    ids = dataset.image_ids
    parts = {"all": {"all": list(ids)}}
    parts |= {name: split(ids, name, SEED) for name in ("official", "random")}
    made = {
        "source": "GTSDB, gt.txt of FullIJCNN2013 as published",
        "made_by": "python tools/count_signs.py",
        "commit": records.provenance()["commit"],
        "random_split_seed": SEED,
        "notices": dataset.notices,
        "counts": {
            name: {part: dataset.part_counts(own) for part, own in named.items()}
            for name, named in parts.items()
        },
    }
    TARGET.write_text(json.dumps(made, indent=1) + "\n")


def given(usage: str) -> GtsdbDataset:
    """The data set in the folder that is a tool's only argument; else it ends with the reason."""
    if len(sys.argv) != 2:
        sys.exit(usage)
    try:
        return read_gtsdb(Path(sys.argv[1]))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
