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

RUNS = sorted((Path(__file__).parent.parent / "book/runs").rglob("*.json"))
MODELS = {path: records.load(path).settings["model"] for path in RUNS}
SEGMENTERS = [path for path, model in MODELS.items() if model == "unet"]
DETECTORS = [path for path in RUNS if path not in SEGMENTERS]


def test_there_are_records():
    assert SEGMENTERS and DETECTORS


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_results_follow_from_the_evidence(path):
    record = records.load(path)
    experiment = segmentation if record.settings["model"] == "unet" else detection
    assert compare(record.results, experiment.derive_results(record)) == []
    assert record.data["kind"] == ("simulated" if "simulated" in path.parts else "real")
    assert record.commit and "changes" not in record.commit
    assert len(record.weights["sha256"]) == 64


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_masks_by_plain_arithmetic(path):
    record = records.load(path)
    split = record.data["split"]
    for part, patients in split.items():
        counted = record.evidence[part]
        assert {p: own["slice_indices"] for p, own in counted.items()} == patients
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
    slices = {
        part: {(p, s) for p, own in patients.items() for s in own}
        for part, patients in split.items()
    }
    assert sum(map(len, slices.values())) == len(set().union(*slices.values()))
    left_out = record.data["slices"] - sum(map(len, slices.values()))
    drawn = record.settings.get("train_patients")
    if drawn is not None:
        assert len(split["train"]) == drawn
    elif record.settings["split"] == "leaking":
        # Each leaked slice has put out another.
        assert left_out in (len(slices["test"]) - 1, len(slices["test"]))
    else:
        assert left_out == 0


def test_every_run_on_real_slices_met_the_same_tumours():
    """Copies of the data that were unpacked on other machines have other fingerprints."""
    pixels, prints = {}, set()
    for path in SEGMENTERS:
        record = records.load(path)
        if record.data["kind"] != "real":
            continue
        prints.add(record.data["fingerprint"])
        for part in filter(record.data["split"].get, record.data["split"]):
            for patient, own in record.evidence[part].items():
                columns = (own[c] for c in ("slice_indices", "true_positive", "false_negative"))
                for number, found, missed in zip(*columns, strict=True):
                    assert pixels.setdefault((patient, number), found + missed) == found + missed
    assert len(pixels) == 3929 and len(prints) > 1


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_detections_by_pycocotools(path):
    record = records.load(path)
    truths = record.evidence["truths"]
    assert [truth["image_id"] for truth in truths] == record.data["split"]["test"]
    assert not set(record.data["split"]["train"]) & set(record.data["split"]["test"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": truth["image_id"]} for truth in truths],
            "categories": [{"id": label} for label in (1, 2, 3, 4)],
            "annotations": [
                {
                    "id": 1 + 1000 * number + place,
                    "image_id": truth["image_id"],
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
                for number, truth in enumerate(truths)
                for place, ((x1, y1, x2, y2), label) in enumerate(
                    zip(truth["boxes_xyxy"], truth["labels"], strict=True)
                )
            ],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(record.evidence["detections"]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert record.results["ap"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    assert record.results["ap50"] == pytest.approx(evaluation.stats[1], abs=1e-9)
