"""Every record under book/runs is scored again, by the package and by other means."""

import contextlib
import io
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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
    truths = record.evidence["truths"]
    assert [truth["image_id"] for truth in truths] == record.data["split"]["test"]
    assert not set(record.data["split"]["train"]) & set(record.data["split"]["test"])
    annotations = [
        {
            "image_id": truth["image_id"],
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        for truth in truths
        for (x1, y1, x2, y2), label in zip(truth["boxes_xyxy"], truth["labels"], strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": truth["image_id"]} for truth in truths],
            "categories": [{"id": label} for label in (1, 2, 3, 4)],
            "annotations": [own | {"id": number} for number, own in enumerate(annotations, 1)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(record.evidence["detections"]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert record.results["ap"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    assert record.results["ap50"] == pytest.approx(evaluation.stats[1], abs=1e-9)
