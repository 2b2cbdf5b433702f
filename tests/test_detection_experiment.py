"""Both detectors from data to record, on six small simulated roads."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models.detection import fasterrcnn_resnet50_fpn, ssd300_vgg16

from hw3 import records, training
from hw3.__main__ import main
from hw3.data import InputError
from hw3.detection import experiment, gtsdb, models
from hw3.detection.gtsdb import GROUPS, GtsdbDataset, read_gtsdb
from hw3.detection.models import OUTPUTS, predict
from hw3.detection.tiles import predict_tiled
from hw3.settings import FULL, OURS, SMOKE, DetectionSettings, SsdSettings
from hw3.simulated.roads import simulate_gtsdb

SETTINGS: dict[str, DetectionSettings] = {
    name: OURS[name].but(**SMOKE.sizes[name] | {"crops": 4, "epochs": 1})
    for name in ("faster-rcnn", "ssd300")
}
each_model = pytest.mark.parametrize("model_name", SETTINGS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> GtsdbDataset:
    folder = tmp_path_factory.mktemp("simulated")
    return read_gtsdb(simulate_gtsdb(folder, images=6, width=320, height=192, seed=0))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(dataset, runs):
    """Record and model of one small run of each detector, left in `runs`."""
    return {name: experiment.run(settings, dataset, runs) for name, settings in SETTINGS.items()}


def same_detections(first: dict, second: dict) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


@each_model
def test_the_record_follows_from_its_evidence(finished, dataset, runs, model_name) -> None:
    record, model = finished[model_name]
    weights = record.weights_in(runs)
    assert record.name == model_name and not model.training
    assert record.settings == {"model": model_name} | SETTINGS[model_name].model_dump(mode="json")
    assert records.settings_of(record, *experiment.KINDS) == SETTINGS[model_name]
    assert record.weights == {"start": "random", "sha256": records.file_sha256(weights)}
    assert (record.data["kind"], record.data["images"]) == ("simulated", 6)
    assert record.data["split"] == gtsdb.split(dataset.image_ids, "random", 0)
    (entry,) = record.history
    assert (entry["epoch"], entry["samples"]) == (1, 4) and 0 < entry["loss"] < np.inf
    assert record.seconds_per_image > 0

    (image_id,) = record.data["split"]["test"]
    boxes, labels = dataset.boxes_xyxy[image_id], dataset.labels[image_id]
    truth = {"image_id": image_id, "boxes_xyxy": boxes.tolist(), "labels": labels.tolist()}
    found = experiment.detect(SETTINGS[model_name], model, dataset.image(image_id))
    detections = experiment.to_coco(image_id, found)
    assert detections and record.evidence == {"truths": [truth], "detections": detections}

    stored = records.load(runs / f"{record.stem}.json")
    assert experiment.derive_results(stored) == stored.results == record.results
    stored.settings = {}
    perfect = {"boxes_xyxy": boxes, "labels": labels, "scores": np.ones(len(labels))}
    stored.evidence["detections"] = experiment.to_coco(image_id, perfect)
    derived = experiment.derive_results(stored)
    assert (derived["ap50"], derived["ap"]) == pytest.approx((1, 1))


@each_model
def test_a_run_is_found_again(finished, dataset, runs, tmp_path, monkeypatch, model_name) -> None:
    torch.manual_seed(99)  # the state left behind by others does not matter
    (record, model), settings = finished[model_name], SETTINGS[model_name]
    again, _ = experiment.run(settings, dataset, tmp_path)
    assert (again.weights, again.evidence) == (record.weights, record.evidence)

    monkeypatch.setattr(training, "fit", None)
    found, same = experiment.run(settings, dataset, runs)
    assert found == record and not same.training
    image = dataset.image(0)
    assert same_detections(*(experiment.detect(settings, own, image) for own in (model, same)))
    with pytest.raises(TypeError, match="not callable"):  # is trained
        experiment.run(settings, replace(dataset, fingerprint="other"), runs)


# Models


def test_settings_reach_the_detectors() -> None:
    own = {"weights": "random", "frozen_blocks": 0, "width": 1 / 16}
    settings = SETTINGS["faster-rcnn"].but(**own, fpn_channels=8, proposals=50, rois_per_image=30)
    model = experiment.build(settings)
    assert [*model.rpn.anchor_generator.sizes] == [(16, 24), (32, 48), (64, 96), (128, 192)]
    assert model.backbone.out_channels == 8
    assert model.roi_heads.fg_bg_sampler.batch_size_per_image == 30
    assert model.train().rpn.post_nms_top_n() == 50
    whole = experiment.build(settings.but(backbone="resnet50-fpn", crops=None))
    assert len(whole.rpn.anchor_generator.sizes) == 5
    assert (whole.transform.min_size, whole.transform.max_size) == ((800,), 1333)
    assert experiment.build(SsdSettings(**own, mining="batch")).mining == "batch"


def test_images_are_seen_whole_or_in_tiles_as_the_settings_say(finished, dataset) -> None:
    image = dataset.image(0)
    pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)
    (_, one_stage), (_, two_stage) = finished["ssd300"], finished["faster-rcnn"]
    in_tiles = experiment.detect(SETTINGS["ssd300"], one_stage, image)
    at_once = experiment.detect(SETTINGS["ssd300"].but(crops=None), one_stage, image)
    assert same_detections(in_tiles, predict_tiled(one_stage, pixels))
    assert same_detections(at_once, predict(one_stage, pixels))
    assert not same_detections(in_tiles, at_once)
    found = experiment.detect(SETTINGS["faster-rcnn"], two_stage, image)
    assert same_detections(found, predict(two_stage, pixels))


def test_larger_signs_are_found_in_smaller_copies(monkeypatch) -> None:
    boxes = {  # by the height of the copy
        800: [[10, 10, 30, 30], [80, 80, 230, 240]],
        400: [[0, 0, 39, 39], [100, 50, 150, 90]],
        200: [[20, 20, 60, 60]],
    }

    def found(settings, _model, image: np.ndarray) -> dict:
        own = np.array(boxes[image.shape[0]], np.float32)
        scores = np.linspace(0.5, 0.6, len(own), dtype=np.float32) + 100 / image.shape[0]
        return {"boxes_xyxy": own, "labels": np.ones(len(own), np.int64), "scores": scores}

    monkeypatch.setattr(experiment, "detect", found)
    image = np.zeros((800, 1301, 3), np.uint8)
    every = experiment.search(SETTINGS["ssd300"], torch.nn.Identity(), image)
    exact = 1301 / 650
    expected = [[80, 80, 240, 240], [100 * exact, 100, 150 * exact, 180], [10, 10, 30, 30]]
    assert every["boxes_xyxy"] == pytest.approx(np.array(expected), abs=1)
    assert every["scores"] == pytest.approx(np.array([1.0, 0.85, 0.625]))
    whole = experiment.search(SsdSettings(), torch.nn.Identity(), image)
    assert len(whole["boxes_xyxy"]) == 2  # is resized as a whole, so that one look is enough


def test_coco_results_have_width_and_height_and_are_rounded() -> None:
    found = {
        "boxes_xyxy": np.array([[10.126, 20.5, 40.123, 60.499]], dtype=np.float32),
        "labels": np.array([4]),
        "scores": np.array([0.987654], dtype=np.float32),
    }
    assert experiment.to_coco(7, found) == [
        {"image_id": 7, "category_id": 4, "bbox": [10.13, 20.5, 30.0, 40.0], "score": 0.9877},
    ]


def test_images_are_trained_on_from_0_to_1_and_losses_summed() -> None:
    seen = []

    def model(images, _targets) -> dict[str, torch.Tensor]:
        seen.extend(images)
        return {"classification": torch.tensor(2.0), "boxes": torch.tensor(0.5)}

    batch = {"image": [torch.full((3, 4, 5), 51, dtype=torch.uint8)], "labels": [torch.tensor([3])]}
    batch |= {"boxes": [torch.tensor([[1.0, 2.0, 3.0, 4.0]])]}
    assert experiment.train_step(model, batch)["loss"].item() == 2.5
    assert seen[0].unique().tolist() == pytest.approx([0.2])


# Records and files


@each_model
def test_evidence_is_predicted_anew_from_the_weights(finished, dataset, runs, model_name) -> None:
    record, source = finished[model_name][0], str(dataset.folder)
    weights = record.weights_in(runs)
    assert experiment.predict_evidence(record, source, weights) == record.evidence
    elsewhere = replace(record, data=record.data | {"fingerprint": "other"})
    with pytest.raises(InputError, match=f"these are not the data of record {model_name}"):
        experiment.predict_evidence(elsewhere, source, weights)
    (other,) = (own for name, (own, _) in finished.items() if name != model_name)
    with pytest.raises(InputError, match=f"these are not the weights of record {model_name}"):
        experiment.predict_evidence(record, source, other.weights_in(runs))


def detection(own: records.RunRecord) -> dict:
    return own.evidence["detections"][0]


def truth(own: records.RunRecord) -> dict:
    return own.evidence["truths"][0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda own: own.evidence.pop("truths"), "evidence: truths is missing"),
        (lambda own: detection(own).update(score=1.5), r"detections.0.score is 1.5"),
        (lambda own: detection(own).update(bbox=[0, 0, -1, 2]), r"detections.0.bbox.2 is -1"),
        (lambda own: detection(own).update(bbox=[0, float("nan"), 1, 2]), r"bbox.1 is nan"),
        (lambda own: detection(own).update(bbox=[0, 0, 1]), r"bbox.3 is missing"),
        (lambda own: detection(own).update(score=True), r"detections.0.score is True"),
        (lambda own: own.data["split"].update(train=own.data["split"]["test"]), "there twice"),
        (lambda own: detection(own).update(image_id=5000), "not of the images that data.split"),
        (lambda own: truth(own).update(labels=[5]), "labels.0 is 5"),
        (lambda own: truth(own).update(labels=[1] * 9), "boxes_xyxy and labels differ in length"),
        (lambda own: truth(own).update(boxes_xyxy=[[9, 0, 5, 5]], labels=[1]), "is reversed"),
        (lambda own: own.evidence["truths"].append(truth(own)), "not of the images that data"),
        (lambda own: own.data["split"]["test"].append(99), "not of the images that data.split"),
    ],
)
def test_altered_evidence_is_refused_by_name(finished, change: Callable, named: str) -> None:
    record = deepcopy(finished["faster-rcnn"][0])
    change(record)
    with pytest.raises(InputError, match=f"^record faster-rcnn: .*{named}") as caught:
        experiment.derive_results(record)
    assert "\n" not in str(caught.value)


@each_model
def test_files_of_ones_own_get_detections_and_a_picture(
    finished, dataset, runs, tmp_path, monkeypatch, model_name
) -> None:
    record, model = finished[model_name]
    monkeypatch.setattr(experiment, "DRAWN_SCORE", 0.0)
    road, small = tmp_path / "road.png", tmp_path / "small.png"
    cv2.imwrite(str(road), dataset.image(2)[..., ::-1])
    cv2.imwrite(str(small), np.random.default_rng(0).integers(256, size=(90, 70), dtype=np.uint8))
    loaded = experiment.load(record.weights_in(runs).with_suffix(".json"))
    (found, picture), (_, grey) = (experiment.look(*loaded, file) for file in (road, small))
    signs = experiment.to_coco(0, experiment.detect(SETTINGS[model_name], model, dataset.image(2)))
    assert json.loads(found) == [
        own | {"file_name": "road.png", "group": GROUPS[own["category_id"] - 1]} for own in signs
    ]
    picture, grey = (Image.open(BytesIO(content)) for content in (picture, grey))
    assert (np.array(picture) != dataset.image(2)).any() and grey.size == (70, 90)
    monkeypatch.setattr(experiment, "DRAWN_SCORE", 1.1)
    _, bare = experiment.look(*loaded, road)
    assert (np.array(Image.open(BytesIO(bare))) == dataset.image(2)).all()


def test_data_are_simulated_for_the_profile_or_found(dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    made = experiment.prepare(SMOKE.model_copy(update={"roads": SMOKE.roads | {"images": 3}}))
    assert (made.kind, len(made), {*made.image_sizes}) == ("simulated", 3, {(192, 320)})
    given = experiment.prepare(FULL, source=str(dataset.folder))
    assert (given.kind, given.fingerprint) == ("simulated", dataset.fingerprint)
    ignore = shutil.ignore_patterns(".simulated.json")
    shutil.copytree(dataset.folder, tmp_path / "FullIJCNN2013", ignore=ignore)
    monkeypatch.setattr(gtsdb, "fetch_gtsdb", None)  # nothing is downloaded
    found = experiment.prepare(FULL)
    assert (found.kind, found.fingerprint) == ("real", dataset.fingerprint)


# The report's recipe, with files of the shape that COCO's weights have


@pytest.mark.parametrize(
    ("model_name", "build", "frozen"),
    [
        ("faster-rcnn", fasterrcnn_resnet50_fpn, "backbone.body.layer1.0.conv1.weight"),
        ("ssd300", ssd300_vgg16, "backbone.features.2.weight"),
    ],
)
def test_the_report_starts_from_coco(tmp_path, monkeypatch, model_name, build, frozen) -> None:
    monkeypatch.setenv("HW3_PROFILE", "full")
    monkeypatch.setattr(models, "WHOLE_IMAGE", (64, 128))  # else a minute
    monkeypatch.setattr(training._Run, "_save", lambda _run: None)  # else half a gigabyte
    roads = simulate_gtsdb(tmp_path / "roads", images=3, width=320, height=192, seed=0)
    state = build(weights=None, weights_backbone=None, num_classes=91).state_dict()
    state = {name: own for name, own in state.items() if not name.endswith("batches_tracked")}
    torch.save(state, tmp_path / "coco.pth")
    words = ["--recipe", "report", "--weights", str(tmp_path / "coco.pth"), "--data", str(roads)]
    words += ["--epochs", "1", "--batch-size", "2", "--runs", str(tmp_path)]
    assert main(["train", model_name, *words]) == 0
    assert main(["train", model_name, *words]) == 0  # found again, its network built anew
    record = records.load(next(tmp_path.glob(f"{model_name}-*.json")))
    assert (record.settings["weights"], record.settings["crops"]) == ("coco.pth", None)
    assert record.settings["frozen_blocks"] == 2 and record.results
    found = load_file(record.weights_in(tmp_path))
    assert found[frozen].equal(state[frozen])
    anew = {name for name in found.keys() & state.keys() if found[name].shape != state[name].shape}
    assert anew and all(name.startswith(OUTPUTS) for name in anew)  # 5 classes instead of 91
