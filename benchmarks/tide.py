"""Ask TIDE for the errors of the tests' random cases, and write tests/tide.json.

    pip install --target build/tide --no-deps tidecv appdirs seaborn pandas
    PYTHONPATH=build/tide python benchmarks/tide.py

TIDE cannot be installed beside this package: it wants the OpenCV with windows.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tidecv

TESTS = Path(__file__).resolve().parent.parent / "tests"
KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
CASES = 20


def main() -> None:
    """Write what TIDE says of each case."""
    sys.path.insert(0, str(TESTS))
    from test_detection_error_types import random_case

    cases = [ask(*random_case(seed)) for seed in range(CASES)]
    made = {"made_by": "python benchmarks/tide.py", "tidecv": version("tidecv"), "cases": cases}
    (TESTS / "tide.json").write_text(json.dumps(made, indent=1) + "\n")


def ask(truths: list[dict], detections: list[dict]) -> dict[str, Any]:
    """AP at IoU 0.5 in percent, and by kind of error the number and the AP that it costs."""
    real, predicted = tidecv.Data("truths"), tidecv.Data("detections")
    for entry in truths:
        real.add_image(entry["image_id"], str(entry["image_id"]))
        for (x1, y1, x2, y2), label in zip(entry["boxes_xyxy"], entry["labels"], strict=True):
            real.add_ground_truth(entry["image_id"], label, [x1, y1, x2 - x1, y2 - y1])
    for own in detections:
        predicted.add_detection(own["image_id"], own["category_id"], own["score"], own["bbox"])
    run = tidecv.TIDE().evaluate(real, predicted, mode=tidecv.TIDE.BOX)
    counts = {kind.short_name: len(found) for kind, found in run.error_dict.items()}
    costs = {kind.short_name: float(cost) for kind, cost in run.fix_main_errors().items()}
    return {
        "ap": float(run.ap),
        "counts": [counts[kind] for kind in KINDS],
        "costs": [costs[kind] for kind in KINDS],
    }


if __name__ == "__main__":
    main()
