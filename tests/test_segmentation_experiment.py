import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch

from hw3 import records, training
from hw3.backbones import save_weights, vgg16_features
from hw3.errors import InputError
from hw3.profiles import FULL, SMOKE
from hw3.segmentation import experiment
from hw3.segmentation.dataset import SliceSamples, fetch_lgg
from hw3.segmentation.losses import dice_loss
from hw3.segmentation.metrics import SliceCounts, count_pixels, dice

SETTINGS = replace(SMOKE.segmentation, epochs=3, learning_rate=1e-2)
PARTS = ("train", "validation", "test")


def run(dataset, folder: Path, settings=SETTINGS):
    return experiment.run(settings, dataset, kind="simulated", name="smoke", folder=folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(tiny_dataset, runs):
    """Record and model of one small run, left in `runs`."""
    return run(tiny_dataset, runs)


@pytest.fixture
def weights(finished, runs) -> Path:
    return runs / f"{finished[0].stem}.safetensors"


@pytest.fixture
def no_training(monkeypatch) -> None:
    def refuse(*_arguments, **_options) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit", refuse)


def test_the_history_has_one_entry_an_epoch(finished) -> None:
    record, _ = finished
    assert [entry["epoch"] for entry in record.history] == [1, 2, 3]
    for entry in record.history:
        assert entry["samples"] == 24  # three batches of 8 from 28 slices
        assert {"learning_rate", "seconds", "seconds_waiting"} < set(entry)
        assert set(entry["train"]) == {"loss", "dice", "iou", "accuracy"}
        assert set(entry["validation"]) > set(entry["train"])
        overlap = entry["train"]["iou"]
        assert entry["train"]["dice"] == pytest.approx(2 * overlap / (1 + overlap))
    seconds = sum(entry["seconds"] for entry in record.history)
    assert record.seconds_training == pytest.approx(seconds, abs=0.1)


def test_trained_on_crops_scored_on_whole_slices(tiny_dataset, runs, monkeypatch) -> None:
    seen, step = [], experiment.train_step

    def spy(model, batch, loss):
        seen.extend(batch["mask"])
        return step(model, batch, loss)

    monkeypatch.setattr(experiment, "train_step", spy)
    settings = replace(SETTINGS, epochs=1, crop_size=16, tumour_share=1.0)
    record, _ = run(tiny_dataset, runs, settings)
    assert len(seen) == record.history[0]["samples"]
    assert all(mask.shape == (1, 16, 16) and mask.any() for mask in seen)
    assert record.evidence["pixels_per_slice"] == 64 * 64


def test_the_loss_falls_until_the_tumour_is_found(tiny_dataset) -> None:
    most = np.argsort(tiny_dataset.masks.sum(axis=(1, 2), dtype=np.int64))[-2:]
    samples = SliceSamples(tiny_dataset, most)
    batch = torch.utils.data.default_collate([samples[0, 0], samples[0, 1]])
    torch.manual_seed(0)
    model = experiment.build(SETTINGS, "random").train()
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=5e-2)
    losses = []
    for _ in range(40):
        losses.append(experiment.train_step(model, batch, dice_loss)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[0] > 0.7
    assert losses[-1] < 0.3
    predicted = experiment.predict(model.eval(), tiny_dataset.images[most], (32, 32)) > 0.5
    assert dice(*count_pixels(predicted, tiny_dataset.masks[most])) > 0.7


@pytest.mark.parametrize(
    ("change", "field"),
    [({"seed": -1}, "seed"), ({"split": "patients"}, "split"), ({"loss": "focal"}, "loss")],
)
def test_settings_are_checked_before_anything_else(tiny_dataset, runs, change, field) -> None:
    with pytest.raises(InputError, match=f"{field} is .*choose"):
        run(tiny_dataset, runs, replace(SETTINGS, **change))


def test_weights_that_a_last_step_has_ruined_are_not_kept(tiny_dataset, tmp_path, monkeypatch):
    fit = training.fit

    def ruined(model, *arguments, validate, **options):
        def validate_ruined(model):
            torch.nn.init.constant_(next(model.decoder.parameters()), torch.nan)
            return validate(model)

        return fit(model, *arguments, validate=validate_ruined, **options)

    monkeypatch.setattr(training, "fit", ruined)
    with pytest.raises(FloatingPointError, match="validation loss is nan: lower the learning rate"):
        run(tiny_dataset, tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_the_last_validation_is_that_of_the_results(finished) -> None:
    record, _ = finished
    last = {k: v for k, v in record.history[-1]["validation"].items() if k != "loss"}
    assert {name: record.results["validation"][name] for name in last} == last


def test_the_parts_are_disjoint_and_complete(finished, tiny_dataset) -> None:
    named = [
        f"{patient}_{number}"
        for part in PARTS
        for patient, numbers in finished[0].data["split"][part].items()
        for number in numbers
    ]
    assert len(named) == len(set(named)) == 36
    assert set(named) == {tiny_dataset.slice_id(index) for index in range(36)}
    assert [finished[0].results[part]["slices"] for part in PARTS] == [28, 4, 4]


def test_results_are_derived_from_the_stored_evidence(finished, runs) -> None:
    record, _ = finished
    stored = records.load(runs / f"{record.stem}.json")
    assert stored.results == record.results
    assert experiment.derive_results(stored) == stored.results
    assert stored.evidence["pixels_per_slice"] == 64 * 64
    stored.evidence["test"] = stored.evidence["validation"]
    assert experiment.derive_results(stored)["test"] == record.results["validation"]


def test_the_record_says_what_was_run(finished, weights, tiny_dataset) -> None:
    record, _ = finished
    assert record.settings["model"] == "unet"
    assert record.settings["epochs"] == 3
    assert record.data["kind"] == "simulated"
    assert record.data["fingerprint"] == tiny_dataset.fingerprint
    assert (record.data["slices"], record.data["patients"]) == (36, 6)
    assert record.weights["sha256"] == records.file_sha256(weights)
    assert record.seconds_per_image > 0


def test_a_finished_run_is_found_without_training(
    finished, tiny_dataset, runs, no_training
) -> None:
    found, model = run(tiny_dataset, runs)
    assert found.results == finished[0].results
    assert not model.training
    images = np.array(tiny_dataset.images[:3])
    np.testing.assert_array_equal(
        experiment.predict(model, images, (64, 64)),
        experiment.predict(finished[1], images, (64, 64)),
    )


@pytest.mark.parametrize(
    "change",
    [{"epochs": 6}, {"split": "patient"}, {"loss": "tversky"}, {"augment": False}, {"seed": 1}],
    ids=str,
)
def test_other_settings_are_another_run(finished, tiny_dataset, runs, no_training, change) -> None:
    with pytest.raises(AssertionError, match="trained again"):
        run(tiny_dataset, runs, replace(SETTINGS, **change))


def test_other_data_are_another_run(finished, tiny_dataset, runs, no_training) -> None:
    with pytest.raises(AssertionError, match="trained again"):
        run(replace(tiny_dataset, fingerprint="other"), runs)


@pytest.mark.parametrize("augment", [True, False])
def test_training_sees_the_training_part_and_the_decoder(
    finished, tiny_dataset, tmp_path, monkeypatch, augment
) -> None:
    given = []

    def stop(*arguments, **_options) -> None:
        given.extend(arguments)
        raise InterruptedError

    monkeypatch.setattr(training, "fit", stop)
    with pytest.raises(InterruptedError):
        run(tiny_dataset, tmp_path, replace(SETTINGS, augment=augment))
    model, _, samples, optimizer = given
    assert (samples.augmentation is not None) == augment
    own = np.zeros(36, dtype=bool)
    own[samples.indices] = True
    named = tiny_dataset.split_ids({"train": np.flatnonzero(own)})
    assert named["train"] == finished[0].data["split"]["train"]
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimised == {id(parameter) for parameter in model.trained_parameters()}


def test_starting_weights_are_known_by_content(tiny_dataset, tmp_path, monkeypatch) -> None:
    keys = []

    def stop(*_arguments, key: str, **_options) -> None:
        keys.append(key)
        raise InterruptedError

    monkeypatch.setattr(training, "fit", stop)
    path = tmp_path / "vgg16.safetensors"
    settings = replace(SETTINGS, encoder_weights=str(path))
    with pytest.raises(InputError, match="encoder_weights"):
        run(tiny_dataset, tmp_path, settings)
    for _ in range(2):
        save_weights(vgg16_features("random", SETTINGS.width), path)
        with pytest.raises(InterruptedError):
            run(tiny_dataset, tmp_path, settings)
    assert len(set(keys)) == 2


def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    finished, weights, tiny_dataset, tmp_path
) -> None:
    again, model = run(tiny_dataset, tmp_path)
    assert again.weights["sha256"] == records.file_sha256(weights)
    assert again.results == finished[0].results
    first = finished[1].state_dict()
    assert all(value.equal(first[name]) for name, value in model.state_dict().items())


def test_training_moved_the_decoder_and_not_the_encoder(finished) -> None:
    torch.manual_seed(SETTINGS.seed)
    start = experiment.build(SETTINGS, "random").state_dict()
    for name, value in finished[1].state_dict().items():
        assert value.equal(start[name]) == name.startswith("encoder.")


def test_patients_are_held_out_whole(tiny_dataset, tmp_path) -> None:
    record, _ = run(tiny_dataset, tmp_path, replace(SETTINGS, split="patient", epochs=1))
    patients = [set(record.data["split"][part]) for part in PARTS]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6
    assert [record.results[part]["patients"] for part in PARTS] == list(map(len, patients))


def test_a_split_without_validation_slices_is_refused_before_training(
    tiny_dataset, tmp_path, monkeypatch, no_training
) -> None:
    split = experiment.split_of(SETTINGS, tiny_dataset)
    empty = split | {"validation": split["validation"][:0]}
    monkeypatch.setattr(experiment, "split_of", lambda *_: empty)
    with pytest.raises(InputError, match="split is slice: it leaves no slices to validate on"):
        run(tiny_dataset, tmp_path, replace(SETTINGS, epochs=7))


def test_a_few_training_patients_are_drawn_and_the_other_parts_stay(tiny_dataset) -> None:
    settings = replace(SETTINGS, split="patient")
    whole = experiment.split_of(settings, tiny_dataset)
    drawn = []
    for count in (1, 3):
        split = experiment.split_of(replace(settings, train_patients=count), tiny_dataset)
        assert all(split[part].tolist() == whole[part].tolist() for part in PARTS[1:])
        assert len(split["train"]) == 6 * count
        drawn.append(set(split["train"].tolist()))
    assert drawn[0] < drawn[1] < set(whole["train"].tolist())
    with pytest.raises(InputError, match="train_patients is 5, but there are only 4"):
        experiment.split_of(replace(settings, train_patients=5), tiny_dataset)
    with pytest.raises(InputError, match="train_patients is -1: choose 0 or more, or None"):
        replace(settings, train_patients=-1).check()


def test_without_training_patients_the_starting_weights_are_scored(
    finished, weights, tiny_dataset, tmp_path, no_training
) -> None:
    settings = replace(SETTINGS, weights=str(weights), train_patients=0)
    record, model = run(tiny_dataset, tmp_path, settings)
    assert (record.history, record.seconds_training, model.training) == ([], 0, False)
    assert record.settings["weights"] == record.weights["start"] == weights.name
    assert record.weights["start_sha256"] == finished[0].weights["sha256"]
    assert record.evidence == finished[0].evidence | {"train": {}}
    assert record.results == {part: finished[0].results[part] for part in PARTS[1:]}
    assert run(tiny_dataset, tmp_path, settings)[0].results == record.results
    with pytest.raises(InputError, match=r"weights: .*nowhere\.safetensors is no file"):
        run(tiny_dataset, tmp_path, replace(settings, weights="nowhere.safetensors"))
    with pytest.raises(InputError, match="imagenet"):
        run(tiny_dataset, tmp_path, replace(settings, weights="imagenet"))


def test_training_goes_on_from_the_weights_of_a_run(finished, weights, tiny_dataset, tmp_path):
    settings = replace(SETTINGS, weights=str(weights), learning_rate=1e-9, epochs=1)
    record, model = run(tiny_dataset, tmp_path, settings)
    before = finished[1].state_dict()
    for name, value in model.named_parameters():
        assert value.allclose(before[name], atol=1e-6)
    assert record.key != finished[0].key


def test_predictions_are_probabilities_at_native_size(finished, tiny_dataset) -> None:
    images = np.array(tiny_dataset.images[:5])
    probabilities = experiment.predict(finished[1], images, (64, 64))
    assert probabilities.shape == (5, 64, 64)
    assert probabilities.dtype == np.float32
    assert 0 <= probabilities.min() < probabilities.max() <= 1
    assert experiment.predict(finished[1], images, (32, 32)).shape == (5, 32, 32)


def test_logits_are_interpolated_between_their_pixels() -> None:
    class Fixed(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 20 * images[:, :1] - 10

    images = np.random.default_rng(0).integers(256, size=(1, 16, 16, 3), dtype=np.uint8)
    found = experiment.predict(Fixed(1, 1, 1), images, (40, 24))[0]
    logits = 20 * images[0, ..., 0].astype(np.float32) / 255 - 10
    expected = cv2.resize(logits, (24, 40), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-expected)), atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_counts_are_those_of_the_predictions(finished, tiny_dataset, batch_size) -> None:
    _, model = finished
    indices = np.array([4, 2, 30, 17, 9, 8, 21])
    counts, loss = experiment.count(
        model, tiny_dataset, indices, training.make_accelerator(), batch_size=batch_size
    )
    predicted = experiment.predict(model, tiny_dataset.images[indices], (64, 64)) > 0.5
    expected = map(count_pixels, predicted, tiny_dataset.native_masks[indices])
    found = zip(counts.true_positive, counts.false_positive, counts.false_negative, strict=True)
    assert [tuple(map(int, row)) for row in found] == list(expected)
    assert counts.patient_ids.tolist() == tiny_dataset.patient_ids[indices].tolist()
    assert counts.slice_indices.tolist() == tiny_dataset.slice_indices[indices].tolist()
    assert counts.pixels == 64 * 64
    assert 0 < loss < 1


def test_a_training_step_counts_what_it_predicts() -> None:
    mask = torch.tensor([1, 1, 0, 0, 0], dtype=torch.uint8).view(1, 1, 1, 5)
    logits = torch.tensor([5.0, -5.0, 5.0, -0.1, -3.0]).view(1, 1, 1, 5)
    seen = []
    batch = {"image": torch.full((1, 3, 1, 5), 51, dtype=torch.uint8), "mask": mask}
    values = experiment.train_step(lambda images: seen.append(images) or logits, batch, dice_loss)
    assert seen[0].unique().tolist() == pytest.approx([0.2])
    assert values["counts"].tolist() == [1, 1, 1]
    assert values["pixels"].item() == 5
    assert values["loss"].equal(dice_loss(logits, mask))


def test_examples_are_ranked_best_to_worst(tiny_dataset) -> None:
    # Dice .8, 1, 0 and .4 with tumour; 9, 0 and 4 false pixels without.
    rows = [(8, 2, 2), (0, 9, 0), (5, 0, 0), (0, 0, 0), (0, 0, 4), (0, 4, 0), (3, 0, 9)]
    own = np.array([3, 5, 8, 13, 21, 30, 35])
    ids = tiny_dataset.patient_ids[own], tiny_dataset.slice_indices[own]
    counts = SliceCounts(*ids, *np.array(rows).T, pixels=100)
    assert experiment.ranked_examples(tiny_dataset, counts).tolist() == [8, 3, 35, 21, 13, 30, 5]
    assert experiment.ranked_examples(tiny_dataset, counts, 2, 1).tolist() == [8, 21, 13]
    assert experiment.ranked_examples(tiny_dataset, counts, 3, 0).tolist() == [8, 35, 21]


def test_evidence_is_predicted_anew_from_the_weights(finished, weights, tiny_lgg, tmp_path) -> None:
    record, _ = finished
    anew = experiment.predict_evidence(record, str(tiny_lgg), weights)
    assert json.loads(json.dumps(anew)) == record.evidence
    elsewhere = replace(record, data=record.data | {"fingerprint": "other"})
    with pytest.raises(InputError, match="these are not the data of record smoke"):
        experiment.predict_evidence(elsewhere, str(tiny_lgg), weights)
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"other\.safetensors: these are not the weights"):
        experiment.predict_evidence(record, str(tiny_lgg), other)


def test_files_of_ones_own_get_a_mask_and_an_overlay(finished, weights, tiny_lgg, tmp_path) -> None:
    source = next(tiny_lgg.glob("*/*_3.tif"))
    image = tifffile.imread(source)
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), np.random.default_rng(0).integers(256, size=(50, 70), dtype=np.uint8))
    folder = tmp_path / "masks"
    paths = list(experiment.predict_files([source, grey], finished[0], weights, folder))
    kinds = ("predicted", "overlay")
    names = [f"{stem}_{kind}.png" for stem in (source.stem, "grey") for kind in kinds]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    mask, overlay, grey_mask, grey_overlay = (
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths
    )
    assert (mask.shape, grey_mask.shape, grey_overlay.shape) == ((64, 64), (50, 70), (50, 70, 3))
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    expected = experiment.predict(finished[1], small[None], (64, 64))[0] > 0.5
    np.testing.assert_array_equal(mask, 255 * expected)
    differs = (overlay[..., ::-1] != image).any(axis=2)
    assert not differs[~expected].any()
    assert expected.any() == differs.any()


def test_a_part_without_slices_is_not_scored(tiny_dataset, tmp_path, monkeypatch) -> None:
    none = dict.fromkeys(("train", "validation", "test"), np.array([], dtype=int))
    monkeypatch.setitem(experiment.SPLITS, "slice", lambda _dataset, _seed: none)
    with pytest.raises(InputError, match="split is slice: it leaves no slices to score"):
        experiment.run(SETTINGS, tiny_dataset, kind="simulated", name="none", folder=tmp_path)


def test_a_mask_is_no_slice_to_predict(finished, weights, tiny_lgg, tmp_path) -> None:
    paths = sorted(next(tiny_lgg.iterdir()).glob("*.tif"))  # as a shell's pattern gives them
    with pytest.raises(InputError, match=r"_mask\.tif: by its name a mask.*the slices alone"):
        list(experiment.predict_files(paths, finished[0], weights, tmp_path / "masks"))
    assert not (tmp_path / "masks").exists()


def test_simulated_data_are_prepared_for_the_profile(tiny_dataset) -> None:
    dataset, kind = experiment.prepare(SMOKE)
    assert kind == "simulated"
    assert dataset.fingerprint == tiny_dataset.fingerprint
    assert experiment.prepare(SMOKE, size=16)[0].images.shape == (36, 16, 16, 3)


def test_real_data_are_found_where_they_are(tiny_lgg, tiny_dataset, tmp_path, monkeypatch) -> None:
    def refuse(source: str, folder: Path) -> Path:
        assert source != "kaggle", "asked Kaggle"
        return fetch_lgg(source, folder)

    monkeypatch.setattr(experiment, "fetch_lgg", refuse)
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    with pytest.raises(AssertionError, match="asked Kaggle"):
        experiment.prepare(FULL)
    dataset, kind = experiment.prepare(SMOKE, source=str(tiny_lgg))
    assert (kind, dataset.fingerprint) == ("simulated", tiny_dataset.fingerprint)
    no_mark = shutil.ignore_patterns(".simulated.json")
    real = shutil.copytree(tiny_lgg, tmp_path / "published", ignore=no_mark)
    dataset, kind = experiment.prepare(SMOKE, source=str(real))
    assert (kind, dataset.fingerprint) == ("real", tiny_dataset.fingerprint)
    (tmp_path / "kaggle_3m").symlink_to(real)
    dataset, kind = experiment.prepare(FULL, size=32)
    assert (kind, dataset.fingerprint) == ("real", tiny_dataset.fingerprint)
