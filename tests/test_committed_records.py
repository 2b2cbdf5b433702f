"""Every record under book/runs is scored again, by the package and by other means."""

from pathlib import Path

import numpy as np
import pytest
from test_detection_ap import coco_average_precision

from hw3 import records
from hw3.__main__ import compare
from hw3.detection import experiment as detection
from hw3.segmentation import experiment as segmentation

RUNS = {
    path: records.load(path)
    for path in sorted((Path(__file__).parent.parent / "book/runs").rglob("*.json"))
}
SEGMENTERS = [path for path, record in RUNS.items() if record.settings["model"] == "unet"]
DETECTORS = [path for path in RUNS if path not in SEGMENTERS]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_results_follow_from_the_evidence(path) -> None:
    record = RUNS[path]
    experiment = segmentation if path in SEGMENTERS else detection
    assert compare(record.results, experiment.derive_results(record)) == []
    assert record.data["kind"] == ("simulated" if "simulated" in path.parts else "real")
    assert record.commit and "changes" not in record.commit
    assert len(record.weights["sha256"]) == 64


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_masks_by_plain_arithmetic(path) -> None:
    record = RUNS[path]
    for part, patients in record.data["split"].items():
        counted = record.evidence[part]
        assert (part in record.results) == bool(patients)
        if not patients:
            continue
        columns = ("true_positive", "false_positive", "false_negative")
        tp, fp, fn = (sum(sum(own[c]) for own in counted.values()) for c in columns)
        pixels = record.evidence["pixels_per_slice"] * sum(map(len, patients.values()))
        results = record.results[part]
        assert results["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-9)
        assert results["iou"] == pytest.approx(tp / (tp + fp + fn), abs=1e-9)
        assert results["accuracy"] == pytest.approx(1 - (fp + fn) / pixels, abs=1e-9)


def test_every_run_on_real_slices_met_the_same_tumours() -> None:
    """Copies of the data that were unpacked on other machines have other fingerprints."""
    pixels: dict[tuple[str, int], int] = {}
    for path in SEGMENTERS:
        record = RUNS[path]
        if record.data["kind"] != "real":
            continue
        for part, patients in record.data["split"].items():
            for patient in patients:
                own = record.evidence[part][patient]
                columns = (own[c] for c in ("slice_indices", "true_positive", "false_negative"))
                for number, found, missed in zip(*columns, strict=True):
                    assert pixels.setdefault((patient, number), found + missed) == found + missed
    assert len(pixels) == 3929


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_detections_by_pycocotools(path) -> None:
    record = RUNS[path]
    truths, split = record.evidence["truths"], record.data["split"]
    assert [truth["image_id"] for truth in truths] == split["test"]
    assert not set(split["train"]) & set(split["test"])
    theirs = coco_average_precision(truths, record.evidence["detections"])[..., 0]
    assert record.results["ap"] == pytest.approx(np.nanmean(theirs), abs=1e-9)
    assert record.results["ap50"] == pytest.approx(np.nanmean(theirs[0]), abs=1e-9)
