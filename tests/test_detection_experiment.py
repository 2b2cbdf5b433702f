"""Both detectors from data to record, on six small simulated roads."""

import json
import re
import shutil
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from hw3 import records, training
from hw3.backbones import save_weights
from hw3.detection import experiment
from hw3.detection.dataset import GROUPS, GtsdbDataset, fetch_gtsdb, read_gtsdb, split_random
from hw3.detection.models import predict, total_loss
from hw3.detection.simulate import simulate_gtsdb
from hw3.detection.tiles import predict_tiled
from hw3.errors import InputError
from hw3.profiles import FULL, SAMPLE, SMOKE, DetectionSettings
from hw3.records import RunRecord
from hw3.runs import draw

SETTINGS: dict[str, DetectionSettings] = {
    "faster-rcnn": replace(SMOKE.faster_rcnn, crops=4, epochs=1),
    "ssd300": replace(SMOKE.ssd300, crops=4, epochs=1),
}
each_model = pytest.mark.parametrize("model_name", SETTINGS)


@pytest.fixture(scope="module")
def roads(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    return simulate_gtsdb(folder, images=6, width=320, height=192, seed=0)


@pytest.fixture(scope="module")
def dataset(roads) -> GtsdbDataset:
    return read_gtsdb(roads)


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run(settings: DetectionSettings, dataset: GtsdbDataset, folder: Path):
    return experiment.run(settings, dataset, kind="simulated", name="tiny", folder=folder)


@pytest.fixture(scope="module")
def finished(dataset, runs_folder):
    """Record and model of one small run of each detector, left in `runs_folder`."""
    return {name: run(settings, dataset, runs_folder) for name, settings in SETTINGS.items()}


@pytest.fixture
def no_training(monkeypatch) -> None:
    def refuse(*_arguments, **_options) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit", refuse)


@pytest.fixture
def given_to_fit(monkeypatch) -> list:
    """What `fit` was called with, by name; it stops each run at once."""
    calls = []

    def stop(model, step, samples, optimizer, **options) -> None:
        calls.append({"model": model, "samples": samples, "optimizer": optimizer} | options)
        raise InterruptedError

    monkeypatch.setattr(training, "fit", stop)
    return calls


def weights_of(record: RunRecord, folder: Path) -> Path:
    return folder / f"{record.stem}.safetensors"


def same_detections(first: dict, second: dict) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


@each_model
def test_the_record_says_what_was_run(finished, dataset, runs_folder, model_name) -> None:
    record, model = finished[model_name]
    assert record.settings == {"model": model_name} | asdict(SETTINGS[model_name])
    assert (record.data["kind"], record.data["fingerprint"]) == ("simulated", dataset.fingerprint)
    assert record.data["images"] == 6
    assert record.data["signs"] == sum(map(len, dataset.boxes_xyxy))
    weights = weights_of(record, runs_folder)
    assert record.weights == {"start": "random", "sha256": records.file_sha256(weights)}
    assert record.seconds_per_image > 0
    (entry,) = record.history
    assert (entry["epoch"], entry["samples"]) == (1, 4)
    assert 0 < entry["loss"] < np.inf
    assert not model.training


@each_model
def test_the_parts_are_disjoint_and_complete(finished, dataset, model_name) -> None:
    split = finished[model_name][0].data["split"]
    assert split == split_random(dataset.image_ids, SETTINGS[model_name].seed)
    assert not set(split["train"]) & set(split["test"])
    assert sorted(split["train"] + split["test"]) == list(dataset.image_ids)
    assert len(split["test"]) == 1
    assert experiment.SPLITS["random"](dataset, 1) != split


def test_the_official_split_is_by_number(dataset) -> None:
    moved = replace(dataset, image_ids=(0, 599, 600, 601, 700, 899))
    found = [experiment.SPLITS["official"](moved, seed) for seed in (0, 1)]
    assert found == [{"train": [0, 599], "test": [600, 601, 700, 899]}] * 2


@each_model
def test_results_are_derived_from_the_stored_evidence(finished, runs_folder, model_name) -> None:
    record, _ = finished[model_name]
    stored = records.load(runs_folder / f"{record.stem}.json")
    assert stored.evidence == record.evidence
    assert stored.results == record.results
    assert experiment.derive_results(stored) == stored.results
    stored.evidence["detections"] = [
        {
            "image_id": truth["image_id"],
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 1.0,
        }
        for truth in stored.evidence["truths"]
        for (x1, y1, x2, y2), label in zip(truth["boxes_xyxy"], truth["labels"], strict=True)
    ]
    derived = experiment.derive_results(stored)
    assert (derived["ap50"], derived["ap"]) == pytest.approx((1, 1))
    assert record.results["ap50"] < 0.5


@each_model
def test_evidence_is_json_in_cocos_format(finished, dataset, model_name) -> None:
    record, model = finished[model_name]
    evidence = record.evidence
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    test = record.data["split"]["test"]
    assert evidence["truths"] == [
        {
            "image_id": image_id,
            "boxes_xyxy": dataset.boxes_xyxy[image_id].tolist(),
            "labels": dataset.labels[image_id].tolist(),
        }
        for image_id in test
    ]
    (image_id,) = test
    found = experiment.detect(SETTINGS[model_name], model, dataset.image(image_id))
    assert evidence["detections"] == experiment.to_coco(image_id, found)
    assert len(evidence["detections"]) > 20
    for detection in evidence["detections"]:
        x, y, width, height = detection["bbox"]
        assert 0 <= x <= x + width <= 320.01
        assert 0 <= y <= y + height <= 192.01
        assert detection["category_id"] in (1, 2, 3, 4)
        assert 0.05 <= detection["score"] <= 1

    truth = COCO()
    truth.dataset = {
        "images": [{"id": i, "width": 320, "height": 192} for i in dataset.image_ids],
        "categories": [{"id": label, "name": name} for label, name in enumerate(GROUPS, 1)],
        "annotations": [],
        "info": {},
    }
    truth.createIndex()
    loaded = truth.loadRes(deepcopy(evidence["detections"]))  # it adds to what it is given
    assert len(loaded.anns) == len(evidence["detections"])
    assert loaded.getImgIds() == truth.getImgIds()
    first = loaded.anns[1]
    assert first["area"] == first["bbox"][2] * first["bbox"][3]


@each_model
def test_a_finished_run_is_found_without_training(
    finished, dataset, runs_folder, no_training, model_name
) -> None:
    record, model = finished[model_name]
    found, again = run(SETTINGS[model_name], dataset, runs_folder)
    assert (found.results, found.history) == (record.results, record.history)
    assert not again.training
    image = dataset.image(0)
    detections = [experiment.detect(SETTINGS[model_name], m, image) for m in (model, again)]
    assert same_detections(*detections)


@each_model
@pytest.mark.parametrize("change", [{"epochs": 2}, {"seed": 1}, {"crops": 8}, {"augment": False}])
def test_other_settings_are_another_run(
    finished, dataset, runs_folder, no_training, model_name, change
) -> None:
    with pytest.raises(AssertionError, match="trained again"):
        run(replace(SETTINGS[model_name], **change), dataset, runs_folder)


@each_model
def test_other_data_are_another_run(
    finished, dataset, runs_folder, no_training, model_name
) -> None:
    with pytest.raises(AssertionError, match="trained again"):
        run(SETTINGS[model_name], replace(dataset, fingerprint="other"), runs_folder)


def test_all_code_that_decides_a_run_is_in_its_key(dataset, tmp_path, monkeypatch) -> None:
    sources: list[Path] = []

    def stop(_settings, _fingerprint: str, given: list[Path]) -> str:
        sources.extend(given)
        raise InterruptedError

    monkeypatch.setattr(records, "run_key", stop)
    with pytest.raises(InterruptedError):
        run(SETTINGS["ssd300"], dataset, tmp_path)
    named = {path.stem for path in sources}
    used = {"backbones", "pictures", "training", "winograd", "runs", "experiment"}
    for path in sources:
        used |= set(re.findall(r"^from hw3\.detection\.(\w+) import", path.read_text(), re.M))
        used |= set(re.findall(r"^from hw3\.detection import (\w+)$", path.read_text(), re.M))
    assert used - {"simulate"} == named  # simulated data are known by their content


@each_model
def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    finished, dataset, tmp_path, model_name
) -> None:
    torch.manual_seed(99)  # the state left behind by others does not matter
    record, model = finished[model_name]
    again, other = run(SETTINGS[model_name], dataset, tmp_path)
    assert again.weights == record.weights
    assert again.evidence == record.evidence
    torch.manual_seed(SETTINGS[model_name].seed)
    start = experiment.build(SETTINGS[model_name], "random").state_dict()
    state = other.state_dict()
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())
    assert not all(value.equal(start[name]) for name, value in state.items())


@each_model
def test_training_sees_the_training_part_alone(dataset, tmp_path, given_to_fit, model_name) -> None:
    settings = SETTINGS[model_name]
    whole_images = {"crop_size": None, "crops": 0} | (
        {"tiles": False} if hasattr(settings, "tiles") else {}
    )
    for change in ({}, {"augment": False, "schedule": "one_cycle"} | whole_images):
        with pytest.raises(InterruptedError):
            run(replace(settings, **change), dataset, tmp_path)
    crops, whole = given_to_fit
    train = split_random(dataset.image_ids, settings.seed)["train"]
    assert [dataset.image_ids[index] for index in crops["samples"].indices] == train
    assert (len(crops["samples"]), len(whole["samples"])) == (4, len(train))
    side, tiled = settings.crop_size, getattr(settings, "tiles", False)
    sides = (side if tiled else min(side, own) for own in dataset.image_sizes[0])
    assert crops["samples"][0, 0]["image"].shape == (3, *sides)
    assert crops["samples"].augmentation is not None
    assert whole["samples"].augmentation is None
    assert crops["scheduler"] is None
    assert whole["scheduler"].total_steps == settings.epochs * (len(train) // settings.batch_size)
    assert crops["max_gradient_norm"] == settings.max_gradient_norm


def test_false_alarms_cannot_be_learned_from_if_they_are_not_returned(dataset, tmp_path) -> None:
    weights = tmp_path / "start.safetensors"
    weights.touch()
    changes = {"hard_share": 0.2, "sign_share": 0.5, "weights": str(weights)}
    settings = replace(SETTINGS["ssd300"], score_threshold=0.3, **changes)
    with pytest.raises(InputError, match=r"score_threshold is 0\.3: .* choose at most 0\.2"):
        run(settings, dataset, tmp_path)


def test_a_few_training_images_are_drawn_and_the_test_part_stays(
    dataset, tmp_path, given_to_fit
) -> None:
    split = split_random(dataset.image_ids, 0)
    settings = replace(SETTINGS["ssd300"], train_images=2)
    with pytest.raises(InterruptedError):
        run(settings, dataset, tmp_path)
    (given,) = given_to_fit
    drawn = [dataset.image_ids[index] for index in given["samples"].indices]
    assert drawn == draw(split["train"], 2, 0, "train_images")
    assert set(drawn) < set(split["train"])
    assert len(drawn) == 2
    with pytest.raises(InputError, match="train_images is 6, but there are only 5"):
        run(replace(settings, train_images=6), dataset, tmp_path)
    with pytest.raises(InputError, match="train_images is -1: choose 0 or more, or None"):
        run(replace(settings, train_images=-1), dataset, tmp_path)


@each_model
def test_a_detector_of_one_group_trains_and_is_tested_on_its_signs_alone(
    dataset, roads, tmp_path, model_name
) -> None:
    group = GROUPS[dataset.labels[0][0] - 1]  # some sign of the training part
    settings = replace(SETTINGS[model_name], group=group)
    record, _ = run(settings, dataset, tmp_path)
    label = GROUPS.index(group) + 1
    assert record.data["signs"] == sum((own == label).sum() for own in dataset.labels)
    assert record.data["split"] == split_random(dataset.image_ids, 0)
    assert {own for truth in record.evidence["truths"] for own in truth["labels"]} <= {label}
    again = experiment.predict_evidence(record, str(roads), weights_of(record, tmp_path))
    assert again["truths"] == record.evidence["truths"]


def test_groups_to_choose_from_are_those_of_the_data() -> None:
    (names, _) = get_args(get_type_hints(DetectionSettings)["group"])
    assert get_args(names) == GROUPS


@each_model
def test_hard_crops_lie_where_the_starting_weights_see_signs_in_training_images(
    finished, runs_folder, dataset, tmp_path, given_to_fit, monkeypatch, model_name
) -> None:
    looked_at = []

    def see_a_sign_in_the_corner(_settings, _model, image):
        looked_at.append(image)
        return {"boxes_xyxy": np.float32([[0, 0, 9, 9]]), "labels": [2], "scores": [0.9]}

    monkeypatch.setattr(experiment, "detect", see_a_sign_in_the_corner)
    start = str(weights_of(finished[model_name][0], runs_folder))
    settings = replace(SETTINGS[model_name], weights=start, sign_share=0.25, hard_share=0.5)
    for _ in range(2):  # the second time the false alarms are found in their file
        with pytest.raises(InterruptedError):
            run(settings, dataset, tmp_path)
    train = split_random(dataset.image_ids, 0)["train"]
    assert len(looked_at) == len(train)
    for given in given_to_fit:
        crops = given["samples"]
        assert [dataset.image_ids[index] for index, _ in crops.false_alarms] == train
        assert all(box.tolist() == [0, 0, 9, 9] for _, box in crops.false_alarms)
        assert (crops.sign_share, crops.hard_share) == (0.25, 0.5)
    assert [path.name.partition(".")[2] for path in tmp_path.iterdir()] == ["false_alarms.json"]


def test_a_record_counts_its_false_alarms(
    finished, runs_folder, dataset, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(
        experiment, "false_alarms", lambda _found: [(dataset.image_ids[0], [0, 0, 9, 9])]
    )
    start = str(weights_of(finished["faster-rcnn"][0], runs_folder))
    settings = replace(SETTINGS["faster-rcnn"], weights=start, sign_share=0.5, hard_share=0.5)
    record, _ = run(settings, dataset, tmp_path)
    assert record.data["false_alarms"] == 1


def test_only_confident_detections_on_nothing_are_false_alarms() -> None:
    truths = [
        {"image_id": 3, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]},
        {"image_id": 9, "boxes_xyxy": [], "labels": []},
    ]
    places = [
        (3, 1, [0, 0, 20, 20], 0.9),  # the sign
        (3, 2, [0, 0, 20, 20], 0.8),  # of another group
        (3, 1, [10, 0, 20, 20], 0.7),  # beside it
        (3, 1, [60, 5, 10, 12], 0.3),
        (9, 4, [0, 0, 20, 20], 0.6),
        (9, 4, [50, 0, 20, 20], 0.19),
    ]
    found = [
        {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
        for image_id, label, box, score in places
    ]
    assert experiment.false_alarms({"truths": truths, "detections": found}) == [
        (9, [0, 0, 20, 20]),
        (3, [60, 5, 70, 17]),
    ]
    assert experiment.false_alarms({"truths": truths, "detections": []}) == []


@each_model
def test_without_training_images_the_starting_weights_are_scored(
    finished, dataset, runs_folder, tmp_path, no_training, model_name
) -> None:
    trained, _ = finished[model_name]
    settings = replace(
        SETTINGS[model_name], weights=str(weights_of(trained, runs_folder)), train_images=0
    )
    record, same = run(settings, dataset, tmp_path)
    assert record.data["split"] == trained.data["split"] | {"train": []}
    assert (record.history, record.seconds_training) == ([], 0)
    pairs = zip(record.evidence["detections"], trained.evidence["detections"], strict=True)
    assert all(one["bbox"] == pytest.approx(two["bbox"], abs=0.02) for one, two in pairs)
    assert not same.training
    assert run(settings, dataset, tmp_path)[0].evidence == record.evidence


@pytest.mark.parametrize(
    ("model_name", "frozen"),
    [("faster-rcnn", {"frozen_blocks": 2}), ("ssd300", {"frozen_convolutions": 4})],
)
def test_frozen_layers_are_not_trained(
    finished, runs_folder, dataset, tmp_path, given_to_fit, model_name, frozen
) -> None:
    start = str(weights_of(finished[model_name][0], runs_folder))
    with pytest.raises(InterruptedError):
        run(replace(SETTINGS[model_name], weights=start, **frozen), dataset, tmp_path)
    (given,) = given_to_fit
    optimised = {id(p) for group in given["optimizer"].param_groups for p in group["params"]}
    parameters = list(given["model"].parameters())
    assert optimised == {id(p) for p in parameters if p.requires_grad}
    assert 0 < len(optimised) < len(parameters)


@each_model
def test_a_detectors_file_can_be_the_start_and_the_run_is_found_again(
    finished, dataset, roads, runs_folder, tmp_path, monkeypatch, model_name
) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(weights_of(finished[model_name][0], runs_folder).read_bytes())
    settings = replace(SETTINGS[model_name], weights=str(start), learning_rate=1e-9)
    record, model = run(settings, dataset, tmp_path)
    assert record.settings["weights"] == record.weights["start"] == "start.safetensors"
    assert record.weights["start_sha256"] == records.file_sha256(start)
    assert str(tmp_path) not in (tmp_path / f"{record.stem}.json").read_text()

    monkeypatch.setattr(training, "fit", None)
    found, again = run(settings, dataset, tmp_path)
    assert found.evidence == record.evidence
    one, two = (experiment.detect(settings, m, dataset.image(0)) for m in (model, again))
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=1e-3)
    weights = weights_of(record, tmp_path)
    anew = experiment.predict_evidence(found, str(roads), weights)["detections"]
    assert len(anew) == len(record.evidence["detections"])
    for first, second in zip(anew, record.evidence["detections"], strict=True):
        assert first["bbox"] == pytest.approx(second["bbox"], abs=0.02)


def test_starting_weights_are_known_by_content(dataset, tmp_path, given_to_fit) -> None:
    path = tmp_path / "start.safetensors"
    settings = replace(SETTINGS["ssd300"], weights=str(path))
    with pytest.raises(InputError, match=r"weights: .*is no file"):
        run(settings, dataset, tmp_path)
    for seed in range(2):
        torch.manual_seed(seed)
        save_weights(experiment.build(SETTINGS["ssd300"], "random"), path)
        with pytest.raises(InterruptedError):
            run(settings, dataset, tmp_path)
    assert len({given["key"] for given in given_to_fit}) == 2


def test_coco_results_have_width_and_height_and_are_rounded() -> None:
    found = {
        "boxes_xyxy": np.array([[10.126, 20.5, 40.123, 60.499], [0, 0, 3, 5]], dtype=np.float32),
        "labels": np.array([4, 1]),
        "scores": np.array([0.987654, 0.05], dtype=np.float32),
    }
    detections = experiment.to_coco(7, found)
    assert detections == [
        {"image_id": 7, "category_id": 4, "bbox": [10.13, 20.5, 30.0, 40.0], "score": 0.9877},
        {"image_id": 7, "category_id": 1, "bbox": [0.0, 0.0, 3.0, 5.0], "score": 0.05},
    ]
    assert json.loads(json.dumps(detections)) == detections
    assert experiment.to_coco(7, {name: values[:0] for name, values in found.items()}) == []


def test_examples_are_evenly_spaced_through_the_images_with_signs() -> None:
    def examples(signs: list[int], *count: int) -> list[int]:
        truths = [{"image_id": 10 + i, "labels": [1] * number} for i, number in enumerate(signs)]
        record = RunRecord("run", settings={}, data={}, seed=0, evidence={"truths": truths})
        return experiment.example_images(record, *count)

    assert examples([1] * 11) == [10, 12, 14, 16, 18, 20]
    assert examples([0, 2, 0, 1, 1, 0, 3, 0], 3) == [11, 14, 16]  # of 11, 13, 14, 16
    assert examples([0, 2, 0, 1, 1, 0, 3, 0], 2) == [11, 16]
    assert examples([0, 2, 0, 1], 6) == [11, 13]
    assert examples([0, 1, 0], 1) == [11]
    assert examples([0, 0]) == []


@each_model
def test_settings_come_back_from_a_record(finished, runs_folder, model_name) -> None:
    record = records.load(runs_folder / f"{finished[model_name][0].stem}.json")
    assert experiment.settings_of(record) == SETTINGS[model_name]


@pytest.mark.parametrize("profile", [SMOKE, SAMPLE, FULL], ids=lambda profile: profile.name)
def test_settings_of_each_profile_survive_a_record(profile) -> None:
    for name, settings in (("faster-rcnn", profile.faster_rcnn), ("ssd300", profile.ssd300)):
        chosen = json.loads(json.dumps({"model": name} | asdict(settings)))
        record = RunRecord("run", settings=chosen, data={}, seed=0)
        assert experiment.settings_of(record) == settings


def test_settings_reach_the_detectors() -> None:
    settings = replace(
        SETTINGS["faster-rcnn"],
        image_size=(100, 200),
        fpn_channels=8,
        proposals=50,
        score_threshold=0.3,
    )
    model = experiment.build(settings, "random")
    sizes = model.rpn.anchor_generator.sizes
    assert list(sizes) == [(16, 24), (32, 48), (64, 96), (128, 192), (256, 384)]
    assert (model.transform.min_size, model.transform.max_size) == ((100,), 200)
    assert model.backbone.out_channels == 8
    assert model.roi_heads.score_thresh == 0.3
    assert model.roi_heads.fg_bg_sampler.batch_size_per_image == settings.rois_per_image
    assert model.train().rpn.post_nms_top_n() == 50
    vgg16 = replace(
        settings, backbone="vgg16-fpn", width=1.0, anchor_sizes=(16, 24, 32, 48, 64, 96, 128, 192)
    )
    assert len(experiment.build(vgg16, "random").rpn.anchor_generator.sizes) == 4
    ssd = replace(SETTINGS["ssd300"], score_threshold=0.2, mining="batch")
    model = experiment.build(ssd, "random")
    assert (model.score_thresh, model.mining) == (0.2, "batch")


def test_images_are_seen_whole_or_in_tiles_as_the_settings_say(finished, dataset) -> None:
    image = dataset.image(0)
    pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)
    tiled, (_, one_stage) = SETTINGS["ssd300"], finished["ssd300"]
    assert tiled.tiles
    whole = replace(tiled, tiles=False)
    in_tiles = experiment.detect(tiled, one_stage, image)
    at_once = experiment.detect(whole, one_stage, image)
    assert same_detections(in_tiles, predict_tiled(one_stage, pixels))
    assert same_detections(at_once, predict(one_stage, pixels))
    assert not same_detections(in_tiles, at_once)
    settings, (_, two_stage) = SETTINGS["faster-rcnn"], finished["faster-rcnn"]
    assert same_detections(
        experiment.detect(settings, two_stage, image), predict(two_stage, pixels)
    )


def test_a_training_step_scales_images_and_sums_the_losses() -> None:
    seen = []

    def model(images, targets) -> dict[str, torch.Tensor]:
        seen.append((images, targets))
        return {"classification": torch.tensor(2.0), "boxes": torch.tensor(0.5)}

    boxes = [torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.zeros(0, 4)]
    labels = [torch.tensor([3]), torch.zeros(0, dtype=torch.int64)]
    images = [torch.full((3, 4, 5), 51, dtype=torch.uint8), torch.zeros(3, 2, 2, dtype=torch.uint8)]
    batch = {"image": images, "boxes": boxes, "labels": labels, "id": ["a", "b"]}
    assert experiment.train_step(model, batch)["loss"].item() == 2.5
    ((given, targets),) = seen
    assert [image.shape for image in given] == [(3, 4, 5), (3, 2, 2)]
    assert given[0].unique().tolist() == pytest.approx([0.2])
    assert [target["boxes"] is own for target, own in zip(targets, boxes, strict=True)] == [
        True
    ] * 2
    assert [target["labels"].tolist() for target in targets] == [[3], []]


def test_a_training_step_gives_the_detectors_own_loss() -> None:
    torch.manual_seed(0)
    model = experiment.build(SETTINGS["ssd300"], "random").train()
    image = torch.randint(256, (3, 300, 300), dtype=torch.uint8)
    boxes, labels = torch.tensor([[20.0, 30.0, 60.0, 70.0]]), torch.tensor([2])
    batch = {"image": [image] * 2, "boxes": [boxes] * 2, "labels": [labels] * 2, "id": ["a", "b"]}
    targets = [{"boxes": boxes, "labels": labels}] * 2
    found = experiment.train_step(model, batch)["loss"]
    torch.testing.assert_close(found, total_loss(model, [image.float() / 255] * 2, targets))
    assert found.requires_grad


@each_model
def test_evidence_is_predicted_anew_from_the_weights(
    finished, roads, runs_folder, tmp_path, model_name
) -> None:
    record, _ = finished[model_name]
    weights = weights_of(record, runs_folder)
    assert experiment.predict_evidence(record, str(roads), weights) == record.evidence
    elsewhere = replace(record, data=record.data | {"fingerprint": "other"})
    with pytest.raises(InputError, match="these are not the data of record tiny"):
        experiment.predict_evidence(elsewhere, str(roads), weights)
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"other\.safetensors: these are not the weights"):
        experiment.predict_evidence(record, str(roads), other)


@each_model
def test_files_of_ones_own_get_detections_and_a_picture(
    finished, dataset, runs_folder, tmp_path, monkeypatch, model_name
) -> None:
    record, model = finished[model_name]
    monkeypatch.setattr(experiment, "DRAWN_SCORE", 0.0)
    road, small = tmp_path / "road.png", tmp_path / "small.png"
    cv2.imwrite(str(road), dataset.image(2)[..., ::-1])
    cv2.imwrite(str(small), np.random.default_rng(0).integers(256, size=(90, 70), dtype=np.uint8))
    folder = tmp_path / "found"
    weights = weights_of(record, runs_folder)
    paths = list(experiment.predict_files([road, small], record, weights, folder))
    names = ["road_signs.json", "road_boxes.png", "small_signs.json", "small_boxes.png"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)

    found = json.loads(paths[0].read_text())
    detections = experiment.to_coco(
        0, experiment.detect(SETTINGS[model_name], model, dataset.image(2))
    )
    assert detections
    assert found == [
        detection | {"file_name": "road.png", "group": GROUPS[detection["category_id"] - 1]}
        for detection in detections
    ]
    assert {detection["image_id"] for detection in json.loads(paths[2].read_text())} <= {1}
    picture, grey = cv2.imread(str(paths[1])), cv2.imread(str(paths[3]))
    assert (picture.shape, grey.shape) == ((192, 320, 3), (90, 70, 3))
    assert (picture[..., ::-1] != dataset.image(2)).any()
    monkeypatch.setattr(experiment, "DRAWN_SCORE", 1.1)
    _, bare, *_ = experiment.predict_files([road, small], record, weights, folder)
    assert (cv2.imread(str(bare))[..., ::-1] == dataset.image(2)).all()


def test_a_picture_changes_at_the_boxes_and_their_names_alone() -> None:
    image = np.full((100, 200, 3), 40, dtype=np.uint8)
    found = [{"bbox": [50.2, 40.4, 60, 30], "score": 0.876, "group": "danger"}]
    red = experiment.PREDICTED_RGB
    drawn = cv2.imdecode(np.frombuffer(experiment._drawn(image, found), np.uint8), 1)[..., ::-1]
    assert tuple(drawn[40, 80]) == tuple(drawn[70, 80]) == tuple(drawn[60, 50]) == red
    assert (drawn[44:66, 54:106] == 40).all()
    assert (drawn[20:37, 50:120] != 40).any()  # the name above
    assert (drawn[80:] == 40).all()
    nothing = cv2.imdecode(np.frombuffer(experiment._drawn(image, []), np.uint8), 1)
    np.testing.assert_array_equal(nothing, image)


def test_other_weights_and_faulty_files_are_refused(finished, runs_folder, tmp_path) -> None:
    (record, _), (other, _) = finished["faster-rcnn"], finished["ssd300"]
    text, missing = tmp_path / "text.png", tmp_path / "missing.png"
    text.write_text("no image")
    target = tmp_path / "found"
    with pytest.raises(InputError, match="these are not the weights of record tiny"):
        list(experiment.predict_files([text], record, weights_of(other, runs_folder), target))
    with pytest.raises(InputError, match="no such weights file"):
        list(experiment.predict_files([text], record, tmp_path / "none.safetensors", target))
    with pytest.raises(InputError) as caught:
        weights = weights_of(record, runs_folder)
        list(experiment.predict_files([text, missing], record, weights, target))
    assert all(str(path) in str(caught.value) for path in (text, missing))
    assert not target.exists()


def test_simulated_data_are_prepared_for_the_profile(folders) -> None:
    dataset, kind = experiment.prepare(replace(SMOKE, name="tiny", images=3))
    assert kind == "simulated"
    assert len(dataset) == 3
    assert set(dataset.image_sizes) == {(192, 320)}
    made = dataset.folder.relative_to(folders / "data").parts[0]
    assert made.startswith("simulated-tiny-")


def test_real_data_are_found_where_they_are(roads, dataset, tmp_path, monkeypatch) -> None:
    def refuse(source: str, folder: Path) -> Path:
        assert source != "download", "asked the publisher"
        return fetch_gtsdb(source, folder)

    monkeypatch.setattr(experiment, "fetch_gtsdb", refuse)
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    with pytest.raises(AssertionError, match="asked the publisher"):
        experiment.prepare(FULL)
    found, kind = experiment.prepare(SMOKE, source=str(roads))
    assert (kind, found.fingerprint) == ("simulated", dataset.fingerprint)
    no_mark = shutil.ignore_patterns(".simulated.json")
    real = shutil.copytree(roads, tmp_path / "published", ignore=no_mark)
    found, kind = experiment.prepare(SMOKE, source=str(real))
    assert (kind, found.fingerprint) == ("real", dataset.fingerprint)
    (tmp_path / "FullIJCNN2013").symlink_to(real)
    found, kind = experiment.prepare(FULL)
    assert (kind, found.fingerprint) == ("real", dataset.fingerprint)
