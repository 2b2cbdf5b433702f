"""Count the signs of the published GTSDB: python tools/count_signs.py FULLIJCNN2013.

Writes book/gtsdb_counts.json, so that the book can show real counts where the data set is not.
"""

import json
import sys
from pathlib import Path

from hw3 import records
from hw3.detection.dataset import GtsdbDataset, read_gtsdb, split_official, split_random
from hw3.errors import InputError

TARGET = Path(__file__).resolve().parent.parent / "book/gtsdb_counts.json"
SEED = 0  # of the random split: the one that the profiles' runs take


def main() -> None:
    """Count in all images and in both parts of both splits."""
    dataset = given(__doc__)
    ids = dataset.image_ids
    parts = {"all": {"all": list(ids)}}
    parts["official"] = split_official(ids)
    parts["random"] = split_random(ids, SEED)
    counts = {
        split: {part: dataset.part_counts(own) for part, own in named.items() if own}
        for split, named in parts.items()
    }
    made = {
        "source": "GTSDB, gt.txt of FullIJCNN2013 as published",
        "made_by": "python tools/count_signs.py",
        "commit": records.provenance()["commit"],
        "random_split_seed": SEED,
        "notices": dataset.notices,
        "counts": counts,
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
