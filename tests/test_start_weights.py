"""The weights from which sample's detectors start: how they are kept, and that they know signs."""

from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

import start_weights
from hw3 import records
from hw3.detection import ap, experiment
from hw3.detection.dataset import read_gtsdb
from hw3.detection.simulate import simulate_gtsdb
from hw3.errors import InputError
from hw3.profiles import SAMPLE
from hw3.records import RunRecord

SETTINGS = {"faster-rcnn": SAMPLE.faster_rcnn, "ssd300": SAMPLE.ssd300}


def test_kernels_are_halved_and_variances_are_not():
    halved = start_weights.halve({
        "kernel": torch.full((2, 3), 1.5),
        "running_var": torch.tensor([1e6]),
        "num_batches_tracked": torch.tensor(7),
    })  # fmt: skip
    assert halved["kernel"].dtype == torch.float16 and (halved["kernel"] == 1.5).all()
    assert halved["running_var"].item() == 1e6
    assert halved["num_batches_tracked"].item() == 7


def test_weights_and_record_of_a_run_are_kept(tmp_path):
    weights = tmp_path / "run.safetensors"
    safetensors.torch.save_file({"layer.weight": torch.ones(4, 4)}, weights)
    record = RunRecord("start-ssd300", {"model": "ssd300"}, {}, seed=1, key="0123456789abcdef")
    record.weights = {"sha256": records.file_sha256(weights)}
    record.save(weights.with_suffix(".json"))
    target = start_weights.keep(weights.with_suffix(".json"), tmp_path)
    assert target == tmp_path / "hw3/detection/start_ssd300.safetensors"
    with safetensors.safe_open(target, "pt") as file:
        assert file.metadata() == {"run": "start-ssd300-0123456789"}
        assert file.get_tensor("layer.weight").dtype == torch.float16
    assert records.load(tmp_path / "book/runs/simulated/start-ssd300.json") == record
    safetensors.torch.save_file({"layer.weight": torch.zeros(4, 4)}, weights)
    with pytest.raises(InputError, match="not the weights of record start-ssd300"):
        start_weights.keep(weights.with_suffix(".json"), tmp_path)


@pytest.mark.parametrize("arguments", [[], ["nowhere.json"]])
def test_a_wrong_call_ends_with_a_sentence(arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["start_weights.py", *arguments])
    with pytest.raises(SystemExit, match=r"RUN\.json|nowhere\.json: no record"):
        start_weights.main()


def test_the_kept_weights_are_small():
    assert sum(Path(own.weights).stat().st_size for own in SETTINGS.values()) <= 8e6


@pytest.mark.parametrize("model", SETTINGS)
def test_the_kept_weights_are_those_of_their_record(model):
    record = records.load(start_weights.ROOT / f"book/runs/simulated/start-{model}.json")
    settings = SETTINGS[model]
    with safetensors.safe_open(settings.weights, "pt") as file:
        assert file.metadata() == {"run": record.stem}
    shape = ("width", "tiles", "backbone", "fpn_channels", "fpn_norm", "anchor_sizes", "image_size")
    for name in shape:
        if hasattr(settings, name):
            assert getattr(experiment.settings_of(record), name) == getattr(settings, name)
    assert record.results["ap50"] > 0.5


@pytest.mark.parametrize("model", SETTINGS)
def test_a_detector_with_the_kept_weights_finds_signs_on_new_roads(model, tmp_path):
    simulate_gtsdb(tmp_path, images=6, seed=77, width=680, height=400)
    dataset = read_gtsdb(tmp_path)
    settings = SETTINGS[model]
    detector = experiment.build(settings, settings.weights)
    found = [
        detection
        for index, image_id in enumerate(dataset.image_ids)
        for detection in experiment.to_coco(
            image_id, experiment.detect(settings, detector, dataset.image(index))
        )
    ]
    truths = [
        {"image_id": i, "boxes_xyxy": boxes.tolist(), "labels": labels.tolist()}
        for i, boxes, labels in zip(
            dataset.image_ids, dataset.boxes_xyxy, dataset.labels, strict=True
        )
    ]
    assert sum(len(truth["labels"]) for truth in truths) >= 4
    assert ap.scores(ap.match(truths, found), resamples=2)["ap50"] > 0.4
