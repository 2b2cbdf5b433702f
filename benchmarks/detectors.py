"""Seconds and memory of looking at one road: each detector in a process of its own, in turn.

    python benchmarks/detectors.py --write

The detectors are those of the full profile and of runs on real data, wide and narrow; the book's
own runs are as wide as the narrow ones.
Their weights are random: with whatever weights, they do the same arithmetic. The road is simulated,
of the size of the real photographs. Memory is the peak that a look adds to what the process holds
with the detector in it. `--write` writes book/detector_costs.json, from which section 2.4 quotes;
start it on a machine that does nothing else.
"""

import argparse
import json
import multiprocessing
import resource
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from hw3 import profiles, records
from hw3.detection import experiment
from hw3.detection.dataset import read_image
from hw3.detection.simulate import simulate_gtsdb
from hw3.profiles import DetectionSettings

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "book/detector_costs.json"
WIDTH, HEIGHT = 1360, 800


def main() -> None:
    """Print a line for each detector; write the file if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--looks", type=int, default=3, help="looks that are timed, after a first")
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.name}")
    options = parser.parse_args()
    image = road()
    rows = []
    for name, settings in detectors():
        rows.append({"detector": name, **in_own_process(settings, image, options.looks)})
        print(json.dumps(rows[-1]), flush=True)
    if options.write:
        made = {"image": [WIDTH, HEIGHT], "looks": options.looks, **records.provenance()}
        TARGET.write_text(json.dumps(made | {"detectors": rows}, indent=1) + "\n")


def detectors() -> Iterator[tuple[str, DetectionSettings]]:
    """The settings to measure, by the names that the table has."""
    for title, field, wide, narrow in (
        ("Faster R-CNN", "faster_rcnn", "gtsdb-frcnn-third-run", "gtsdb-frcnn"),
        ("SSD300", "ssd300", "gtsdb-ssd-second-run", "gtsdb-ssd-tiles"),
    ):
        yield f"{title}, full profile", getattr(profiles.FULL, field)
        for width, run in (("VGG16 in full width", wide), ("a quarter as wide", narrow)):
            record = records.load(ROOT / f"book/runs/{run}.json")
            yield f"{title}, real data, {width}", experiment.settings_of(record)


def road() -> np.ndarray:
    """One simulated road, (HEIGHT, WIDTH, 3) uint8."""
    with TemporaryDirectory() as folder:
        simulate_gtsdb(Path(folder), images=1, width=WIDTH, height=HEIGHT, seed=0)
        return read_image(next(Path(folder).rglob("00000.*")))


def in_own_process(settings: DetectionSettings, image: np.ndarray, looks: int) -> dict[str, Any]:
    """What `measure` says, from a fresh process, so that no other detector's memory counts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, settings, image, looks).result()


def measure(settings: DetectionSettings, image: np.ndarray, looks: int) -> dict[str, Any]:
    """Parameters, megabytes of weights and at the peak of a look, and median seconds of a look."""
    model = experiment.build(settings, "random").eval()
    before = resident_megabytes()
    seconds = []
    for _ in range(looks + 1):
        clock = perf_counter()
        experiment.detect(settings, model, image)
        seconds.append(perf_counter() - clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_megabytes": round(sum(p.nbytes for p in model.parameters()) / 2**20, 1),
        "peak_megabytes": round(peak - before),
        "seconds": round(median(seconds[1:]), 3),
    }


def resident_megabytes() -> float:
    """What this process holds now, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
