"""What both experiments share, tried on a linear layer."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hw3 import records, runs
from hw3.backbones import save_weights
from hw3.errors import InputError
from hw3.profiles import SegmentationSettings
from hw3.records import RunRecord
from hw3.runs import settings_of
from hw3.training import epoch_batches, make_accelerator


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    epochs: int = 2
    batch_size: int = 4
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    schedule: str = "constant"
    weights: str = "random"

    def check(self) -> None:
        """Anything goes."""


DATA = {"kind": "simulated", "fingerprint": "abc", "split": {"train": [1], "test": [2]}}


def start(settings: Settings | None = None, sources: list[Path] | None = None, **data) -> RunRecord:
    settings = settings or Settings()
    return runs.start_record("run", "linear", settings, DATA | data, sources or [], "weights")


class Training:
    """Fills in a record and returns a layer; remembers how often it was asked."""

    def __init__(self) -> None:
        self.checkpoints: list[Path] = []

    def __call__(self, record: RunRecord, checkpoint: Path) -> nn.Module:
        self.checkpoints.append(checkpoint)
        checkpoint.write_bytes(b"the state of a run")
        torch.manual_seed(5)
        record.history = [{"epoch": 1, "seconds": 1.24}, {"epoch": 2, "seconds": 2.03}]
        record.results = {"score": 0.5}
        return nn.Linear(3, 2).train()


def find_or_train(record: RunRecord, folder: Path, train) -> tuple[RunRecord, nn.Module]:
    return runs.find_or_train(
        record, folder, make_accelerator(), build=lambda: nn.Linear(3, 2), train=train
    )


def test_a_record_starts_with_all_that_is_known_before() -> None:
    record = start(Settings(seed=3))
    assert (record.name, record.seed) == ("run", 3)
    assert record.settings == {
        "model": "linear",
        "seed": 3,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "schedule": "constant",
        "weights": "random",
    }
    assert record.data == DATA
    assert record.weights == {"start": "random"}
    assert (record.history, record.results, record.evidence) == ([], {}, {})
    assert torch.__version__.startswith(record.versions["torch"])
    assert len(record.key) == 64


def test_settings_data_and_code_are_in_the_key(tmp_path) -> None:
    source = tmp_path / "code.py"
    source.write_text("first")
    keys = [
        start().key,
        start(Settings(seed=1)).key,
        start(Settings(learning_rate=0.2)).key,
        start(Settings(weights="imagenet")).key,
        start(fingerprint="other").key,
        start(sources=[source]).key,
        runs.start_record("run", "other", Settings(), DATA, [], "weights").key,
    ]
    source.write_text("second")
    keys.append(start(sources=[source]).key)
    assert len(set(keys)) == len(keys)
    assert start(note="a remark").key == start().key


def test_a_weights_file_is_known_by_name_and_content_never_by_path(tmp_path) -> None:
    keys = {}
    for folder, content in (("here", b"one"), ("there", b"one"), ("elsewhere", b"two")):
        path = tmp_path / folder / "start.safetensors"
        path.parent.mkdir()
        path.write_bytes(content)
        record = start(Settings(weights=str(path)))
        assert record.weights["start"] == record.settings["weights"] == "start.safetensors"
        assert record.weights["start_sha256"] == records.file_sha256(path)
        saved = record.save(tmp_path / "record.json").read_text()
        assert folder not in json.loads(saved)["settings"]["weights"]
        assert str(tmp_path) not in saved
        keys[folder] = record.key
    assert keys["here"] == keys["there"] != keys["elsewhere"]


@pytest.mark.parametrize("name", ["missing.pt", "."])
def test_starting_weights_that_are_no_file_are_refused(tmp_path, name) -> None:
    with pytest.raises(InputError, match=r"weights: .*is no file"):
        start(Settings(weights=str(tmp_path / name)))


def test_a_run_is_trained_once_and_then_found(tmp_path) -> None:
    train = Training()
    record, model = find_or_train(start(), tmp_path, train)
    stem = f"run-{record.key[:10]}"
    assert train.checkpoints == [tmp_path / f"{stem}.checkpoint.pt"]
    assert not model.training
    assert record.seconds_training == 3.3
    weights = tmp_path / f"{stem}.safetensors"
    assert record.weights == {"start": "random", "sha256": records.file_sha256(weights)}
    assert records.load(tmp_path / f"{stem}.json") == record
    assert not train.checkpoints[0].exists()

    found, again = find_or_train(start(), tmp_path, train)
    assert len(train.checkpoints) == 1
    assert found == record
    assert not again.training
    assert all(value.equal(model.state_dict()[k]) for k, value in again.state_dict().items())


def test_only_a_whole_run_of_the_same_key_is_found(tmp_path) -> None:
    train = Training()
    record, _ = find_or_train(start(), tmp_path, train)
    find_or_train(start(Settings(seed=1)), tmp_path, train)
    assert len(train.checkpoints) == 2
    (tmp_path / f"{record.stem}.safetensors").unlink()
    find_or_train(start(), tmp_path, train)
    assert len(train.checkpoints) == 3
    (tmp_path / f"{record.stem}.json").unlink()
    find_or_train(start(), tmp_path, train)
    assert len(train.checkpoints) == 4


def test_a_run_that_fails_leaves_nothing_to_be_found(tmp_path) -> None:
    def fail(_record: RunRecord, _checkpoint: Path) -> nn.Module:
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        find_or_train(start(), tmp_path, fail)
    assert list(tmp_path.iterdir()) == []


def test_only_the_runs_own_weights_are_taken(tmp_path) -> None:
    record, _ = find_or_train(start(), tmp_path, Training())
    weights = tmp_path / f"{record.stem}.safetensors"
    runs.check_weights(record, weights)
    other = tmp_path / "other.safetensors"
    save_weights(nn.Linear(3, 2), other)
    with pytest.raises(InputError, match=r"other\.safetensors: these are not the weights.* run"):
        runs.check_weights(record, other)
    with pytest.raises(InputError, match=r"none\.safetensors: no such weights file"):
        runs.check_weights(record, tmp_path / "none.safetensors")


def read(path: Path) -> np.ndarray:
    if "bad" in path.name:
        raise InputError(f"{path}: cannot be decoded")
    return np.full((1, 1), len(path.name))


def test_weights_that_were_exchanged_are_not_taken_for_the_runs(tmp_path) -> None:
    record, _ = find_or_train(start(), tmp_path, Training())
    save_weights(nn.Linear(3, 2), tmp_path / f"{record.stem}.safetensors")
    with pytest.raises(InputError, match="these are not the weights of record run"):
        find_or_train(start(), tmp_path, Training())


def test_a_result_never_overwrites_what_was_given(tmp_path) -> None:
    paths = [tmp_path / "road.png", tmp_path / "road_overlay.png"]
    with pytest.raises(InputError, match=r"road_overlay\.png: a result would overwrite this file"):
        runs.outputs(paths, tmp_path / "." / "x" / "..", ["_overlay.png"])
    found = runs.outputs(paths, tmp_path / "to", ["_overlay.png"])
    assert [own.name for (own,) in found.values()] == [
        "road_overlay.png",
        "road_overlay_overlay.png",
    ]


@pytest.mark.parametrize("place", ["", "kaggle_3m", "FullIJCNN2013"])
def test_what_a_simulator_made_is_never_called_real(tmp_path, place) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / "simulated-smoke" / "kaggle_3m").mkdir(parents=True)
    (tmp_path / "simulated-smoke" / "kaggle_3m" / ".simulated.json").touch()  # a neighbour
    assert runs.kind_of(tmp_path) == "real"
    (tmp_path / place / ".simulated.json").touch()
    assert runs.kind_of(tmp_path) == "simulated"


def made(folder: Path, *names: str) -> list[Path]:
    """Files of these names, empty."""
    for path in (paths := [folder / name for name in names]):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return paths


def test_images_are_read_by_path_in_order(tmp_path) -> None:
    paths = made(tmp_path, "b.png", "a/long.png")
    images = runs.read_all(paths, read)
    assert list(images) == paths
    assert [int(image[0, 0]) for image in images.values()] == [5, 8]
    assert runs.read_all([], read) == {}


def test_all_faults_of_a_users_files_are_named_at_once(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = made(Path(), "a.png", "bad1.png", "c.png", "x/a.jpg", "bad2.png", "d.png")
    with pytest.raises(InputError) as caught:
        runs.read_all([*paths, Path("none.png"), Path("x")], read)
    assert str(caught.value).split("; ") == [
        "bad1.png: cannot be decoded",
        "x/a.jpg: a second file named a",
        "rename one",
        "bad2.png: cannot be decoded",
        "none.png: no such file",
        "name images, FOLDER/* for those of a folder",
        "x: no such file",
        "name images, FOLDER/* for those of a folder",
    ]


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(1))]


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_constant_rate_needs_no_scheduler(weight_decay) -> None:
    settings = Settings(weight_decay=weight_decay)
    optimizer, scheduler = runs.optimiser(settings, parameters(), 100)
    assert scheduler is None
    assert isinstance(optimizer, torch.optim.AdamW)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.1, weight_decay)


def test_without_weight_decay_it_is_adam() -> None:
    (ours,), (theirs,) = parameters(), parameters()
    optimizers = runs.optimiser(Settings(), [ours], 100)[0], torch.optim.Adam([theirs], lr=0.1)
    for step in range(5):
        ours.grad, theirs.grad = torch.full((1,), 0.3 - step), torch.full((1,), 0.3 - step)
        for optimizer in optimizers:
            optimizer.step()
    assert ours.equal(theirs)
    assert ours.item() != 1


@pytest.mark.parametrize(
    ("epochs", "samples", "batch_size"),
    [(10, 43, 4), (3, 8, 4), (1, 4, 4), (2, 7, 4), (25, 9, 8), (5, 4, 4)],
)
def test_one_cycle_lasts_as_many_steps_as_training(epochs, samples, batch_size) -> None:
    settings = Settings(epochs=epochs, batch_size=batch_size, schedule="one_cycle")
    optimizer, scheduler = runs.optimiser(settings, parameters(), samples)
    steps = sum(len(epoch_batches(samples, batch_size, 0, epoch)) for epoch in range(epochs))
    assert scheduler.total_steps == steps
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) <= 0.1
    assert rates[-1] == pytest.approx(0.1 / 25 / 1e4)  # torch's own end, reached with the last step
    with pytest.raises(ValueError, match="Tried to step"):
        scheduler.step()


def test_one_cycle_rises_for_three_tenths_and_falls() -> None:
    settings = replace(Settings(), epochs=10, schedule="one_cycle")
    optimizer, scheduler = runs.optimiser(settings, parameters(), 40)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    peak = int(np.argmax(rates))
    assert peak == 29
    assert rates[peak] == pytest.approx(0.1)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()


def test_settings_newer_than_a_record_have_their_defaults() -> None:
    record = RunRecord("old", {"model": "unet", "epochs": 3}, data={}, seed=0)
    found = settings_of(record, {"unet": SegmentationSettings})
    assert found == SegmentationSettings(epochs=3)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"model": "yolo"}, "its model is yolo, not unet"),
        ({"epochs": 3}, "its model is None, not unet"),
        ({"model": "unet", "momentum": 0.9}, "does not know: momentum; train again"),
    ],
)
def test_a_record_of_something_else_is_refused(settings, fault) -> None:
    record = RunRecord("other", settings, data={}, seed=0)
    with pytest.raises(InputError, match=f"record other: .*{fault}"):
        settings_of(record, {"unet": SegmentationSettings})
