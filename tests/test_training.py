import math
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import get_worker_info

from hw3 import training
from hw3.data import InputError
from hw3.settings import REPORT, SegmentationSettings
from hw3.training import Interrupted, Task, epoch_batches, fit, make_accelerator, map_in_order

STEPS = 4  # an epoch, of Points in batches of 4, with two samples left out
EPOCHS = 3
RATE = 0.05
SETTINGS = REPORT["unet"].but(
    epochs=EPOCHS, batch_size=4, learning_rate=RATE, weight_decay=0.01, schedule="one_cycle"
)

torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.2  # else 5 s for each loader that ends

processes = multiprocessing.get_context("forkserver")  # a fork of this one would copy its threads
processes.set_forkserver_preload(["hw3.training", "pytest", "torch._dynamo"])


class Points:
    """18 samples whose inputs, like an augmentation, are decided by (epoch, index)."""

    def __len__(self) -> int:
        return 18

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        values = np.random.default_rng(key).normal(size=4).astype(np.float32)
        return {"x": torch.from_numpy(values), "id": f"point-{key[1]}"}


class Pairs:
    """Hand-made (x, y) for a line through the origin."""

    def __init__(self, *pairs: tuple[float, float]) -> None:
        self.pairs = torch.tensor(pairs, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        x, y = self.pairs[key[1]].split(1)
        return {"x": x, "y": y, "id": f"pair-{key[1]}"}


@pytest.fixture(autouse=True)
def saved_after_every_step(monkeypatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)


def noisy_step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Draws from Python's and NumPy's global states; the model's dropout draws from torch's."""
    assert model.training
    target = batch["x"].sum(1, keepdim=True) + random.random() + np.random.random()
    return {"loss": mse_loss(model(batch["x"]), target), "seen": torch.tensor(len(batch["x"]))}


def train(
    checkpoint: Path | None = None,
    step: Callable = noisy_step,
    after_epoch: Callable | None = None,
    key: str = "points",
    workers: int | None = None,
) -> tuple[list[dict], dict[str, Tensor]]:
    """Train a small network with everything that has a state; its history and weights."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)
    task = Task(nn.Sequential(*layers), Points(), step, after_epoch)
    history = fit(task, SETTINGS, make_accelerator(), checkpoint, key, workers)
    return history, task.model.state_dict()


def squared_error(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    return {"loss": mse_loss(model(batch["x"]), batch["y"])}


def train_line(
    samples: Pairs | Points, workers: int | None = None, norm: float | None = None, **changes: Any
) -> nn.Linear:
    """The model y = w x, trained from w = 0 with squared error."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    task = Task(model, samples, squared_error, max_gradient_norm=norm)
    settings = REPORT["unet"].but(**{"epochs": 1, "learning_rate": 0.25} | changes)
    fit(task, settings, make_accelerator(), workers=workers)
    return model


def assert_same(found: tuple[list, dict], expected: tuple[list, dict]) -> None:
    """The same history but for its times, and the same weights bit for bit."""
    for entry, other in zip(found[0], expected[0], strict=True):
        assert entry.keys() == other.keys()
        assert all(entry[name] == other[name] for name in entry if "seconds" not in name)
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(found[1][name], value) for name, value in expected[1].items())


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[list[dict], dict[str, Tensor]]:
    return train()


# Killed and started again


def train_in_process(folder: Path, place: str = "", number: int = 0) -> None:
    """Train with a checkpoint in `folder`, killed when `place` is reached for the `number`th time.

    A run that lives writes `result.pt`.
    """
    torch.set_num_threads(1)
    training.CHECKPOINT_SECONDS = 0
    reached = dict.fromkeys(("step", "epoch", "before rename", "renamed"), 0)
    replace = os.replace

    def reach(here: str) -> None:
        reached[here] += 1
        if here == place and reached[here] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        values = noisy_step(model, batch)
        reach("step")
        return values

    def after_epoch(_model: nn.Module, _epoch: int) -> dict[str, Any]:
        drawn = torch.rand(()).item()
        reach("epoch")
        return {"validation": {"drawn": drawn}}

    def dying_replace(source: Path, target: Path) -> None:
        reach("before rename")
        replace(source, target)
        reach("renamed")

    os.replace = dying_replace
    torch.save(train(folder / "run.pt", step, after_epoch), folder / "result.pt")


def start(target: Callable, *arguments: Any) -> multiprocessing.Process:
    process = processes.Process(target=target, args=arguments)
    process.start()
    return process


def finish(*started: multiprocessing.Process) -> list[int | None]:
    """Exit codes; the negative of a signal's number for a process that it ended."""
    for process in started:
        process.join(60)
    return [process.exitcode for process in started]


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("unkilled")
    assert finish(start(train_in_process, folder)) == [0]
    return torch.load(folder / "result.pt")


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("step", 1),  # nothing saved yet
        ("step", STEPS + 2),
        ("epoch", 1),  # all steps of an epoch saved, not yet the epoch
        ("before rename", STEPS + 1),  # while the first whole epoch is saved
        ("renamed", STEPS + 1),
        ("renamed", EPOCHS * (STEPS + 1)),  # the run is complete, but has not returned
    ],
)
def test_killed_run_ends_as_an_unkilled_one(tmp_path, unkilled, place, number) -> None:
    assert finish(start(train_in_process, tmp_path, place, number)) == [-signal.SIGKILL]
    assert not (tmp_path / "result.pt").exists()
    assert finish(start(train_in_process, tmp_path)) == [0]
    assert_same(torch.load(tmp_path / "result.pt"), unkilled)


# Interrupted


@pytest.mark.parametrize(
    ("number", "place", "times"),
    [
        (signal.SIGINT, "step", 2),
        (signal.SIGTERM, "step", STEPS),
        (signal.SIGINT, "epoch", 1),
        (signal.SIGINT, "epoch", EPOCHS),
    ],
)
def test_signal_saves_and_says_how_to_resume(tmp_path, uninterrupted, number, place, times) -> None:
    seen = {"step": 0, "epoch": 0}

    def reach(here: str) -> None:
        seen[here] += 1
        if here == place and seen[here] == times:
            signal.raise_signal(number)

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        reach("step")
        return noisy_step(model, batch)

    def after_epoch(model: nn.Module, epoch: int) -> dict[str, Any]:
        reach("epoch")
        assert (model.training, epoch) == (False, seen["epoch"])
        return {}

    handler, checkpoint = signal.getsignal(number), tmp_path / "run.pt"
    with pytest.raises(Interrupted, match="Run the same command again") as raised:
        train(checkpoint, step, after_epoch)
    assert str(checkpoint) in str(raised.value) and seen[place] == times
    assert signal.getsignal(number) is handler
    assert_same(train(checkpoint, step, after_epoch), uninterrupted)
    assert seen == {"step": STEPS * EPOCHS, "epoch": EPOCHS}  # nothing twice


# Checkpoints


def test_checkpoint_of_another_run_or_a_damaged_one_is_refused_and_kept(tmp_path) -> None:
    train(checkpoint := tmp_path / "run.pt", key="one")
    whole = checkpoint.read_bytes()
    flipped = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    faults = [(own, "damaged") for own in (b"", whole[:-1], flipped)]
    for content, fault in [(whole, "other settings or data"), *faults]:
        checkpoint.write_bytes(content)
        with pytest.raises(InputError, match=rf"run\.pt.*{fault}.*; delete it"):
            train(checkpoint, key="another")
        assert checkpoint.read_bytes() == content
    with pytest.raises(InputError, match="key is empty: name the run"):
        train(tmp_path / "state.pt", key="")


def test_a_new_run_names_the_states_that_it_leaves_aside(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    own, other = (tmp_path / f"unet-{digits}.checkpoint.pt" for digits in ("0" * 10, "a1" * 5))
    for path in (other, tmp_path / f"unet-2-{'b' * 10}.checkpoint.pt", tmp_path / "unet.pt"):
        path.touch()
    train(own)
    first, *epochs = capsys.readouterr().out.splitlines()
    assert first == f"{other}: of other settings or another version, left aside"
    assert len(epochs) == EPOCHS


# The order of the samples, and the processes that load them


def test_epoch_batches_are_a_seeded_permutation_without_the_remainder() -> None:
    batches = epoch_batches(10, 3, seed=5, epoch=2)
    order = np.random.default_rng((5, 2)).permutation(10)
    assert batches == [[(2, index) for index in order[start : start + 3]] for start in (0, 3, 6)]
    for batch_size in (19, 0, -1):
        with pytest.raises(InputError, match=rf"batch_size is {batch_size}: .* 18 training sampl"):
            epoch_batches(18, batch_size, 0, 0)


def test_worker_processes_change_nothing(uninterrupted) -> None:
    assert_same(train(workers=2), uninterrupted)


class Faulty(Points):
    """What goes wrong in a process that loads, if anything."""

    def __init__(self, fault: Callable[[], None]) -> None:
        self.fault = fault

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        self.fault()
        return {"x": torch.ones(1), "y": torch.ones(1), "id": "a"}


def unreadable() -> None:
    raise InputError("00001.jpg: cannot be decoded; give another copy")


def without_room() -> None:
    raise RuntimeError("unable to write to file </torch_7>: No space left on device (28)")


def killed() -> None:
    os.kill(os.getpid() if get_worker_info() else 0, signal.SIGKILL)


def hangs() -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("fault", "workers", "told"),
    [
        (unreadable, 0, r"00001\.jpg: cannot be decoded; give another copy"),
        (unreadable, 1, r"00001\.jpg: cannot be decoded; give another copy"),
        (without_room, 1, "RuntimeError: unable .*/dev/shm .*--workers 0"),
        (killed, 1, "DataLoader .*/dev/shm .*--workers 0"),
        (hangs, 1, "DataLoader .*/dev/shm .*--workers 0"),
    ],
)
def test_a_fault_of_loading_is_told_in_one_line(monkeypatch, fault, workers, told) -> None:
    monkeypatch.setattr(training, "LOADER_SECONDS", 1 if fault is hangs else 60)
    with pytest.raises(InputError) as caught:
        train_line(Faulty(fault), batch_size=2, workers=workers)
    assert re.fullmatch(told, str(caught.value))


def ignores_interrupts() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_ctrl_c_does_not_end_the_processes_that_load() -> None:
    train_line(Faulty(ignores_interrupts), workers=1, batch_size=18)


# Values worked out by hand


@pytest.mark.parametrize(("norm", "gradient"), [(None, -10), (4.0, -4), (20.0, -10)])
def test_gradient_is_cut_to_its_largest_norm(norm, gradient) -> None:
    """The gradient at w = 0 is -10."""
    model = train_line(Pairs((1, 2), (2, 4)), norm=norm, batch_size=2)
    assert model.weight.grad.item() == pytest.approx(gradient, rel=1e-5)


@pytest.mark.parametrize(
    ("weight_decay", "theirs"), [(0.0, torch.optim.Adam), (0.1, torch.optim.AdamW)]
)
def test_the_optimiser_is_torchs_and_samples_come_in_order(weight_decay, theirs) -> None:
    pairs, expected = Pairs((1, 2), (3, 4), (5, -6)), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(expected.weight)
    optimizer = theirs(expected.parameters(), lr=0.25, weight_decay=weight_decay)
    for epoch in range(4):
        for [key] in epoch_batches(3, 1, 0, epoch):
            optimizer.zero_grad()
            squared_error(expected, pairs[key])["loss"].backward()
            optimizer.step()
    model = train_line(pairs, batch_size=1, epochs=4, weight_decay=weight_decay)
    assert torch.equal(model.weight, expected.weight)


def test_one_cycle_lasts_as_many_steps_as_training(uninterrupted) -> None:
    rates = [entry["learning_rate"] for entry in uninterrupted[0]]
    assert rates == pytest.approx([0.04665, 0.01415, 0.00173], abs=1e-5)  # torch's, of 12 steps


def test_integers_are_summed_and_floats_averaged() -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        number = int(batch["id"][0].removeprefix("pair-"))
        return {
            "loss": model(batch["x"]).mean(),
            "number": torch.tensor(float(number)),
            "counts": torch.tensor([number, 2**40]),
        }

    settings = REPORT["unet"].but(epochs=2, batch_size=1)
    task = Task(nn.Linear(1, 1), Pairs(*[(1, 1)] * 4), step)
    for epoch, entry in enumerate(fit(task, settings, make_accelerator()), 1):
        assert (entry["epoch"], entry["samples"]) == (epoch, 4)
        assert (entry["number"], entry["counts"]) == (1.5, [6, 2**42])
        assert 0 <= entry["seconds_waiting"] <= entry["seconds"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_with_the_ids_of_its_batch(value) -> None:
    batches = [[index for _, index in own] for own in epoch_batches(6, 2, seed=0, epoch=0)]
    [(step, batch)] = [(step, own) for step, own in enumerate(batches, 1) if 5 in own]
    named = ", ".join(f"pair-{index}" for index in batch)
    with pytest.raises(FloatingPointError, match=rf"epoch 1, step {step}: .*; batch: {named}$"):
        train_line(Pairs(*[(1, 2)] * 5, (1, value)), batch_size=2)


def test_weights_that_the_last_step_has_ruined_stop_the_run() -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        nothing = (model.bias * 0).sqrt().sum()  # it is 0, and its gradient is not a number
        return {"loss": model(batch["x"]).square().mean() + nothing}

    task = Task(nn.Linear(4, 1), Points(), step)
    with pytest.raises(FloatingPointError, match="after epoch 1 the weights are not finite: lower"):
        fit(task, SETTINGS.but(batch_size=18), make_accelerator())


# Devices, logs


def ask_for_fp16() -> None:
    with pytest.raises(InputError, match="mixed_precision is fp16: this device has none; choose"):
        make_accelerator("fp16")


def test_a_precision_that_the_device_has_not_is_refused_but_to_predict() -> None:
    assert finish(start(ask_for_fp16)) == [0]
    assert training.accelerator_to_predict("fp16").mixed_precision == "no"


def test_a_notebook_has_no_log(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    train()
    assert capsys.readouterr() == ("", "")


# Several processes


def train_in_parallel(folder: Path, rank: int, world: int, interrupted: bool) -> None:
    """One of `world` processes: train, and write what this one got to `<rank>.pt`."""
    torch.set_num_threads(1)
    training.CHECKPOINT_SECONDS = 0
    if world > 1:
        os.environ |= {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
        os.environ |= {name: str(world) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
        meeting = f"file://{folder / 'meeting'}"  # a port could be another's
        torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=world)
    accelerator = make_accelerator()
    own_ids, calls = [], 0

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if interrupted and calls == 2 and rank == world - 1:
            signal.raise_signal(signal.SIGINT)
        own_ids.extend(batch["id"])
        out, target = model(batch["x"]), batch["x"].sum(1, keepdim=True)
        counts = torch.stack([torch.tensor(len(out)), (out > 0).sum(), (out > target).sum()])
        return {"loss": mse_loss(out, target), "counts": counts}

    def after_epoch(model: nn.Module, _epoch: int) -> dict[str, Any]:
        def count(number: int) -> list[int]:
            return [number] * number + [int((model(torch.full((1, 4), number / 7)) > 0).sum())]

        counts = map_in_order(count, range(7), accelerator)
        return {"counted": counts, "buffers": [buffer.tolist() for buffer in model.buffers()]}

    def run(norm: bool) -> tuple[list[dict], dict[str, Tensor]]:
        torch.manual_seed(rank)
        middle = nn.BatchNorm1d(8) if norm else nn.Tanh()
        model = nn.Sequential(nn.Linear(4, 8), middle, nn.Linear(8, 1))
        task = Task(model, Points(), step, after_epoch)
        settings = SegmentationSettings(epochs=2, batch_size=4, learning_rate=0.01)
        history = fit(task, settings, accelerator, folder / f"{norm}.pt", "points")
        return history, model.state_dict()

    if interrupted:
        with pytest.raises(Interrupted):
            run(norm=False)
    plain, ids = run(norm=False), list(own_ids)
    torch.save((plain, ids, run(norm=True)), folder / f"{rank}.pt")


def parallel(folder: Path, world: int, interrupted: bool = False) -> list[tuple]:
    folder.mkdir()
    started = [start(train_in_parallel, folder, rank, world, interrupted) for rank in range(world)]
    assert finish(*started) == [0] * world
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def test_two_processes_count_what_one_counts_and_go_on_where_they_were_stopped(tmp_path) -> None:
    [(alone, ids, _)] = parallel(tmp_path / "one", 1)
    (first, first_ids, _), (second, second_ids, _) = both = parallel(tmp_path / "two", 2)
    assert not set(first_ids[:8]) & set(second_ids[:8])
    assert sorted(first_ids + second_ids) == sorted(ids)
    assert_same(second, first)
    for entry, expected in zip(first[0], alone[0], strict=True):
        assert all(entry[name] == expected[name] for name in ("samples", "counts", "counted"))
        assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    for name, value in alone[1].items():
        assert torch.allclose(first[1][name], value, atol=1e-5)
    buffers = [[entry["buffers"] for entry in result[2][0]] for result in both]
    assert buffers[0] == buffers[1]  # the statistics that were looked at are those that are saved
    for resumed, _, _ in parallel(tmp_path / "interrupted", 2, interrupted=True):
        assert_same(resumed, first)


def test_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size 4 does not divide by 3 processes"):
        training._share([[(0, 0)] * 4], SimpleNamespace(process_index=0, num_processes=3))
