"""Average precision beside pycocotools: the largest difference, and the time of 1000 resamples.

    python benchmarks/average_precision.py --cases 500

The cases and the call of pycocotools are those of the tests.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from test_detection_ap import LABELS, coco_average_precision, difference, random_case

from hw3.detection.ap import bootstrap, match, mean_average_precision, scores


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200, help="random cases to compare")
    parser.add_argument("--images", type=int, default=300, help="images of the timed set")
    parser.add_argument("--resamples", type=int, default=1000, help="resamples of the timed set")
    parser.add_argument("--calls", type=int, default=5, help="calls of pycocotools that are timed")
    options = parser.parse_args()

    def case(seed: int) -> tuple[list[dict], list[dict]]:
        generator = np.random.default_rng((1, seed))
        return random_case(generator, labels=LABELS[: 1 + seed % 4], ties=seed % 8 > 3)

    largest = max(difference(case(seed)) for seed in range(options.cases))
    print(f"largest difference from pycocotools over {options.cases} cases, each of 10 thresholds,")
    print(f"4 labels, 4 size groups: {largest:.1e}")

    timed = random_case(np.random.default_rng(0), images=options.images, signs=2, detections=66)
    truths, detections = timed
    signs = sum(len(entry["labels"]) for entry in truths)
    print(f"\n{options.images} images, {signs} signs, {len(detections)} detections, 4 labels,")
    print(f"{os.cpu_count()} CPU cores, numpy {np.__version__}")
    matches = match(truths, detections)
    print(f"matching, once, for 4 size groups: {seconds(lambda: match(*timed)):8.2f} s")
    name = f"{options.resamples} resamples of"
    over_thresholds = partial(mean_average_precision, iou_threshold=None)
    for label, statistic in (("AP50", mean_average_precision), ("AP 0.50-0.95", over_thresholds)):
        taken = seconds(lambda s=statistic: bootstrap(matches, s, resamples=options.resamples))
        print(f"{name} {label}: {taken:8.2f} s")
    taken = seconds(lambda: scores(matches, resamples=options.resamples))
    print(f"{name} every score of a record: {taken:8.2f} s")
    calls = [seconds(lambda: coco_average_precision(*timed)) for _ in range(options.calls)]
    each = sum(calls) / len(calls)
    print(f"{options.resamples} calls of pycocotools (4 size groups), extrapolated from")
    print(f"{options.calls} of {each:.2f} s: {options.resamples * each:8.0f} s")


if __name__ == "__main__":
    main()
