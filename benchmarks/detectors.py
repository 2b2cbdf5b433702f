"""Seconds and memory of looking at one road: each detector in a process of its own, in turn.

    python benchmarks/detectors.py

Both recipes, and ours at full width; the weights are random, for with whatever weights they do
the same arithmetic. The road is simulated, of the size of the real photographs. Memory is the peak
that a look adds to what the process holds with the detector in it. Writes book/detector_costs.json,
which section 2.4 shows; start it on a machine that does nothing else.
"""

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

from hw3 import records
from hw3.data import read_picture
from hw3.detection import experiment
from hw3.settings import OURS, REPORT, DetectionSettings
from hw3.simulated.roads import simulate_gtsdb

TARGET = Path(__file__).resolve().parent.parent / "book/detector_costs.json"
WIDTH, HEIGHT = 1360, 800
LOOKS = 3  # that are timed, after a first
NAMES = {"faster-rcnn": "Faster R-CNN", "ssd300": "SSD300"}


def main() -> None:
    """Print a line for each detector, and write the file."""
    made = {"image": [WIDTH, HEIGHT], "looks": LOOKS, **records.provenance(), "detectors": []}
    image = road()
    for name, settings in detectors():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(measure, settings, image, LOOKS).result()
        made["detectors"].append({"detector": name} | found)
        print(json.dumps(made["detectors"][-1]), flush=True)
    TARGET.write_text(json.dumps(made, indent=1) + "\n")


def detectors() -> Iterator[tuple[str, DetectionSettings]]:
    """The settings to measure, by the names that the table has."""
    for model, name in NAMES.items():
        yield f"{name}, as in the report", REPORT[model]
        yield f"{name}, ours", OURS[model]
        yield f"{name}, ours at full width", OURS[model].but(width=1.0)


def road() -> np.ndarray:
    """One simulated road, (HEIGHT, WIDTH, 3) uint8."""
    with TemporaryDirectory() as folder:
        simulate_gtsdb(Path(folder), images=1, width=WIDTH, height=HEIGHT, seed=0)
        return read_picture(next(Path(folder).rglob("00000.*")))


def measure(settings: DetectionSettings, image: np.ndarray, looks: int) -> dict[str, Any]:
    """Parameters, megabytes of weights and at the peak of a look, and median seconds of a look."""
    model = experiment.build(settings).eval()
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    seconds = []
    for _ in range(looks + 1):
        clock = perf_counter()
        experiment.detect(settings, model, image)
        seconds.append(perf_counter() - clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_megabytes": round(sum(p.nbytes for p in model.parameters()) / 2**20, 1),
        "peak_megabytes": round(peak - held),
        "seconds": round(median(seconds[1:]), 3),
    }


if __name__ == "__main__":
    main()
