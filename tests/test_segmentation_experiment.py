import json
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch
from PIL import Image

import ship_weights
from hw3 import records, training
from hw3.backbones import vgg16_features
from hw3.data import PREDICTED_RGB, InputError
from hw3.segmentation import experiment, lgg
from hw3.segmentation.losses import dice_loss
from hw3.segmentation.metrics import SliceCounts, count_pixels, dice, scores
from hw3.segmentation.samples import SliceSamples
from hw3.settings import FULL, REPORT, SMOKE

SETTINGS = REPORT["unet"].but(
    **SMOKE.sizes["unet"] | {"crop_size": None, "epochs": 3, "learning_rate": 5e-2}
)
# Read before the tests begin, when HW3_DATA is set to a folder of their own.
LGG = Path(os.environ.get("HW3_DATA", "")) / "kaggle_3m"
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(tiny_dataset, runs):
    """Record and model of one small run, left in `runs`."""
    return experiment.run(SETTINGS, tiny_dataset, runs)


@pytest.fixture
def weights(finished, runs) -> Path:
    return finished[0].weights_in(runs)


def test_the_record_follows_from_its_evidence(finished, weights, runs, tiny_dataset) -> None:
    record, model = finished
    assert record.settings == {"model": "unet"} | SETTINGS.model_dump(mode="json")
    assert record.weights == {"start": "random", "sha256": records.file_sha256(weights)}
    data = record.data
    assert (data["kind"], data["slices"], data["patients"]) == ("simulated", 36, 6)
    named = [(p, n) for part in PARTS for p, own in data["split"][part].items() for n in own]
    assert len(named) == len(set(named)) == 36
    assert [entry["epoch"] for entry in record.history] == [1, 2, 3]
    for entry in record.history:
        assert entry["samples"] == 24  # three batches of 8 from 28 slices
        assert set(entry["train"]) == {"loss", "dice", "iou", "accuracy"} < set(entry["validation"])
        overlap = entry["train"]["iou"]
        assert entry["train"]["dice"] == pytest.approx(2 * overlap / (1 + overlap))
    for name in {*record.history[-1]["validation"]} - {"loss"}:
        assert record.results["validation"][name] == record.history[-1]["validation"][name]
    assert record.seconds_training > 0 < record.seconds_per_image and not model.training

    stored = records.load(runs / f"{record.stem}.json")
    assert experiment.derive_results(stored) == stored.results == record.results
    assert [stored.results[part]["slices"] for part in PARTS] == [28, 4, 4]


def test_a_run_is_found_again(finished, tiny_dataset, runs, tmp_path, monkeypatch) -> None:
    torch.manual_seed(99)  # the state left behind by others does not matter
    again, model = experiment.run(SETTINGS, tiny_dataset, tmp_path)
    assert (again.weights, again.results) == (finished[0].weights, finished[0].results)

    monkeypatch.setattr(training, "fit", None)
    found, same = experiment.run(SETTINGS, tiny_dataset, runs)
    assert found == finished[0] and not same.training
    torch.manual_seed(SETTINGS.seed)
    start = experiment.build(SETTINGS).state_dict()
    for name, value in finished[1].state_dict().items():
        assert value.equal(model.state_dict()[name]) and value.equal(same.state_dict()[name])
        assert value.equal(start[name]) == name.startswith("encoder.")
    with pytest.raises(TypeError, match="not callable"):  # is trained
        experiment.run(SETTINGS, replace(tiny_dataset, fingerprint="other"), runs)
    with pytest.raises(InputError, match=r"image_size is 64, but .* decoded at 32"):
        experiment.run(SETTINGS.but(image_size=64), tiny_dataset, runs)


def test_folds_train_on_crops_and_score_whole_slices(tiny_dataset, tmp_path, monkeypatch) -> None:
    seen, step = [], experiment.train_step

    def spy(*given):
        seen.extend(given[1]["mask"])
        return step(*given)

    monkeypatch.setattr(experiment, "train_step", spy)
    settings = SETTINGS.but(epochs=1, crop_size=16, crops=16, split="fold1")
    record, _ = experiment.run(settings, tiny_dataset, tmp_path)
    assert {mask.shape for mask in seen} == {(1, 16, 16)}
    assert len(seen) == record.history[0]["samples"] == 16
    assert record.evidence["pixels_per_slice"] == 64 * 64
    assert record.evidence["validation"] == {} and set(record.results) == {"train", "test"}
    patients = [set(record.data["split"][part]) for part in ("train", "test")]
    assert len(patients[0] | patients[1]) == 6 and not patients[0] & patients[1]


def test_the_loss_falls_until_the_tumour_is_found(tiny_dataset) -> None:
    most = np.argsort(tiny_dataset.masks.sum(axis=(1, 2), dtype=np.int64))[-2:]
    samples = SliceSamples(tiny_dataset, most, SETTINGS)
    batch = torch.utils.data.default_collate([samples[0, 0], samples[0, 1]])
    torch.manual_seed(0)
    model = experiment.build(SETTINGS).train()
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=5e-2)
    losses = []
    for _ in range(40):
        losses.append(experiment.train_step(model, batch, dice_loss)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[0] > 0.7 and losses[-1] < 0.3
    predicted = experiment.predict(model.eval(), tiny_dataset.images[most], (32, 32)) > 0.5
    assert dice(*count_pixels(predicted, tiny_dataset.masks[most])) > 0.7


def test_an_epoch_that_ruins_the_network_has_no_record(tiny_dataset, tmp_path, monkeypatch) -> None:
    counts = SliceCounts(*[np.ones(1, int)] * 5, pixels=9)
    monkeypatch.setattr(experiment, "count", lambda *_: (counts, np.nan))
    with pytest.raises(FloatingPointError, match="validation loss is nan: lower the learning rate"):
        experiment.run(SETTINGS, tiny_dataset, tmp_path)
    assert not list(tmp_path.glob("*.json"))


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


def test_logits_are_interpolated_between_their_pixels() -> None:
    class Fixed(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 20 * images[:, :1] - 10

    images = np.random.default_rng(0).integers(256, size=(1, 16, 16, 3), dtype=np.uint8)
    found = experiment.predict(Fixed(1, 1, 1), images, (40, 24))[0]
    logits = 20 * images[0, ..., 0].astype(np.float32) / 255 - 10
    expected = cv2.resize(logits, (24, 40), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-expected)), atol=1e-4)


def test_evidence_is_predicted_anew_from_the_weights(finished, weights, tiny_lgg, tmp_path) -> None:
    record, _ = finished
    anew = experiment.predict_evidence(record, str(tiny_lgg), weights)
    assert json.loads(json.dumps(anew)) == record.evidence
    elsewhere = replace(record, data=record.data | {"fingerprint": "other"})
    with pytest.raises(InputError, match="these are not the data of record unet"):
        experiment.predict_evidence(elsewhere, str(tiny_lgg), weights)
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"other\.safetensors: these are not the weights"):
        experiment.predict_evidence(record, str(tiny_lgg), other)


def first_of(part: dict) -> dict:
    return next(iter(part.values()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda own: own.evidence.pop("test"), "evidence: test is missing"),
        (lambda own: own.evidence.update(pixels_per_slice=-1), "pixels_per_slice is -1"),
        (lambda own: own.evidence.update(pixels_per_slice=1), "evidence.train exceeds pixels"),
        (lambda own: first_of(own.evidence["train"])["true_positive"].pop(), "differ in length"),
        (lambda own: first_of(own.evidence["train"])["true_positive"].append(0.5), "is 0.5"),
        (lambda own: own.evidence["test"].popitem(), "evidence.test is not of the slices"),
        (lambda own: first_of(own.data["split"]["test"]).append(99), "evidence.test is not of"),
        (lambda own: own.data["split"].update(test=own.data["split"]["train"]), "there twice"),
    ],
)
def test_altered_evidence_is_refused_by_name(finished, change: Callable, named: str) -> None:
    record = deepcopy(finished[0])
    change(record)
    with pytest.raises(InputError, match=f"^record unet: .*{named}") as caught:
        experiment.derive_results(record)
    assert "\n" not in str(caught.value)


def test_files_of_ones_own_get_a_mask_and_an_overlay(finished, weights, tiny_lgg, tmp_path) -> None:
    source, grey = next(tiny_lgg.glob("*/*_3.tif")), tmp_path / "g.png"
    image = tifffile.imread(source)
    cv2.imwrite(str(grey), np.random.default_rng(0).integers(256, size=(50, 70), dtype=np.uint8))
    loaded = experiment.load(weights.with_suffix(".json"))
    mask, overlay, grey_mask, grey_overlay = (
        np.array(Image.open(BytesIO(content)))
        for path in (source, grey)
        for content in experiment.look(*loaded, path)
    )
    assert (mask.shape, grey_mask.shape, grey_overlay.shape) == ((64, 64), (50, 70), (50, 70, 3))
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    expected = experiment.predict(finished[1], small[None], (64, 64))[0] > 0.5
    assert expected.any() and not expected.all()
    np.testing.assert_array_equal(mask, 255 * expected)
    differs = (overlay != image).any(axis=2)
    assert differs.any() and not differs[~expected].any()
    inside = cv2.erode(expected.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    assert not differs[inside].any()
    assert (overlay[differs] == PREDICTED_RGB).all()


def test_weights_are_shipped_without_their_encoder(finished, weights, tmp_path) -> None:
    record, model = finished
    target = ship_weights.keep(weights.with_suffix(".json"), tmp_path)
    assert target.stat().st_size < weights.stat().st_size / 2
    names = vgg16_features("random", record.settings["width"]).state_dict()
    kernels = [own.contiguous() for own in model.encoder.state_dict().values()]
    encoder = dict(zip(names, kernels, strict=True))
    path = tmp_path / "vgg16.safetensors"
    safetensors.torch.save_file(encoder, path)
    settings, loaded = experiment.load(target.with_suffix(".json"), encoder_weights=str(path))
    image = np.random.default_rng(0).integers(256, size=(50, 70, 3), dtype=np.uint8)
    expected = experiment.segment(settings, model, image)
    np.testing.assert_allclose(experiment.segment(settings, loaded, image), expected, atol=2e-3)


@pytest.mark.skipif(not LGG.is_dir(), reason="HW3_DATA holds no published LGG and VGG16")
def test_the_shipped_weights_score_as_their_run_did() -> None:
    encoder = LGG.parent / "vgg16_features.safetensors"
    settings, model = experiment.load(records.shipped("unet"), encoder_weights=str(encoder))
    name = records.load(records.shipped("unet")).name
    run = records.load(ship_weights.ROOT / f"book/runs/{name}.json")
    dataset = lgg.read_lgg(LGG, size=settings.image_size, cache=LGG.parent / "cache")
    tested = dataset.indices_of(run.data["split"]["test"])
    counts, _ = experiment.count(model, dataset, tested, training.make_accelerator("no"))
    now, before = scores(counts, batch_size=settings.batch_size), run.results["test"]
    for name in ("dice", "dice_patient_mean"):
        assert now[name] == pytest.approx(before[name], abs=0.001)


def test_data_are_simulated_or_found(tiny_lgg, tiny_dataset, tmp_path, monkeypatch) -> None:
    made = experiment.prepare(SMOKE)
    assert (made.kind, made.fingerprint) == ("simulated", tiny_dataset.fingerprint)
    assert experiment.prepare(SMOKE, settings=SETTINGS.but(image_size=16)).images.shape[1] == 16
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    given = experiment.prepare(FULL, source=str(tiny_lgg), settings=SETTINGS)
    assert (given.kind, given.fingerprint) == ("simulated", tiny_dataset.fingerprint)
    ignore = shutil.ignore_patterns(".simulated.json")
    shutil.copytree(tiny_lgg, tmp_path / "kaggle_3m", ignore=ignore)
    monkeypatch.setattr(lgg, "fetch_lgg", None)  # Kaggle is not asked
    found = experiment.prepare(FULL, settings=SETTINGS)
    assert (found.kind, found.fingerprint) == ("real", tiny_dataset.fingerprint)
