import math
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from itertools import chain
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
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        x, y = map(float, self.pairs[key[1]])
        return {"x": torch.tensor([x]), "y": torch.tensor([y]), "id": f"pair-{key[1]}"}


@pytest.fixture(autouse=True)
def saved_after_every_step(monkeypatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)


def noisy_step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Draws from Python's and NumPy's global states; the model's dropout draws from torch's."""
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
) -> tuple[list[dict], nn.Linear]:
    """Train y = w x from w = 0 with squared error; its history and the model."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    task = Task(model, samples, squared_error, max_gradient_norm=norm)
    settings = REPORT["unet"].but(**{"epochs": 1, "learning_rate": 0.25} | changes)
    return fit(task, settings, make_accelerator(), workers=workers), model


def without_seconds(history: list[dict]) -> list[dict]:
    return [
        {name: value for name, value in entry.items() if "seconds" not in name} for entry in history
    ]


def assert_same(found: tuple[list, dict], expected: tuple[list, dict]) -> None:
    """The same history but for its times, and the same weights bit for bit."""
    assert without_seconds(found[0]) == without_seconds(expected[0])
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
    reached = dict.fromkeys(("step", "epoch", "half a file", "before rename", "renamed"), 0)
    fsync, replace = os.fsync, os.replace

    def reach(here: str) -> bool:
        reached[here] += 1
        return here == place and reached[here] == number

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        values = noisy_step(model, batch)
        if reach("step"):
            die()
        return values

    def after_epoch(_model: nn.Module, _epoch: int) -> dict[str, Any]:
        drawn = torch.rand(()).item()
        if reach("epoch"):
            die()
        return {"validation": {"drawn": drawn}}

    def dying_fsync(file: int) -> None:
        if reach("half a file"):
            os.ftruncate(file, os.fstat(file).st_size // 2)
            die()
        fsync(file)

    def dying_replace(source: Path, target: Path) -> None:
        if reach("before rename"):
            die()
        replace(source, target)
        if reach("renamed"):
            die()

    os.fsync, os.replace = dying_fsync, dying_replace
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
        ("half a file", STEPS + 1),  # while the first whole epoch is saved
        ("before rename", STEPS + 1),
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
    ("number", "last_step"), [(signal.SIGINT, 2), (signal.SIGTERM, STEPS), (signal.SIGINT, STEPS)]
)
def test_signal_saves_and_says_how_to_resume(tmp_path, uninterrupted, number, last_step) -> None:
    steps = []

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        steps.append(batch["id"])
        if len(steps) == last_step:
            signal.raise_signal(number)
        return noisy_step(model, batch)

    handler, checkpoint = signal.getsignal(number), tmp_path / "run.pt"
    with pytest.raises(Interrupted, match="Run the same command again") as raised:
        train(checkpoint, step)
    assert str(checkpoint) in str(raised.value)
    assert len(steps) == last_step
    assert signal.getsignal(number) is handler
    assert_same(train(checkpoint), uninterrupted)


@pytest.mark.parametrize("epoch", [1, EPOCHS])
def test_signal_after_an_epoch_stops_once_the_epoch_is_saved(
    tmp_path, uninterrupted, epoch
) -> None:
    seen = []

    def after_epoch(model: nn.Module, number: int) -> dict[str, Any]:
        seen.append((model.training, number))
        if number == epoch:
            signal.raise_signal(signal.SIGINT)
        return {}

    with pytest.raises(Interrupted):
        train(tmp_path / "run.pt", after_epoch=after_epoch)
    assert seen == [(False, number + 1) for number in range(epoch)]
    history, weights = train(tmp_path / "run.pt", after_epoch=after_epoch)
    assert [number for _, number in seen] == [1, 2, 3]
    assert_same((history, weights), uninterrupted)


# Checkpoints


@pytest.fixture(scope="module")
def checkpoint_of_a_run(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "run.pt"
    train(path, key="one")
    return path.read_bytes()


def test_checkpoint_of_another_run_is_refused_and_kept(tmp_path, checkpoint_of_a_run) -> None:
    (checkpoint := tmp_path / "run.pt").write_bytes(checkpoint_of_a_run)
    with pytest.raises(InputError, match=r"run\.pt.*other settings or data; delete it"):
        train(checkpoint, key="another")
    assert checkpoint.read_bytes() == checkpoint_of_a_run


def test_a_damaged_checkpoint_is_refused_wherever_the_damage_is(
    tmp_path, checkpoint_of_a_run
) -> None:
    content, checkpoint = checkpoint_of_a_run, tmp_path / "run.pt"
    places = [0, 31, 32, len(content) - 1]
    places += np.random.default_rng(0).integers(len(content), size=20).tolist()
    flipped = [
        content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for place in places
    ]
    for damaged in (b"", b"not torch", content[:-100], content[:16], content + b"\0", *flipped):
        checkpoint.write_bytes(damaged)
        with pytest.raises(InputError, match=r"run\.pt: damaged, or no checkpoint .*delete it"):
            train(checkpoint)


def test_a_checkpoint_needs_a_key_or_another_run_could_take_it(tmp_path) -> None:
    with pytest.raises(InputError, match="key is empty: name the run"):
        train(tmp_path / "state.pt", key="")


def test_finished_run_is_not_trained_again(tmp_path, uninterrupted) -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        raise AssertionError("trained again")

    train(tmp_path / "run.pt")
    assert_same(train(tmp_path / "run.pt", step), uninterrupted)


def test_a_new_run_names_the_states_that_it_leaves_aside(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    own, other = (tmp_path / f"unet-{digits}.checkpoint.pt" for digits in ("0" * 10, "a1" * 5))
    for path in (other, tmp_path / f"unet-2-{'b' * 10}.checkpoint.pt", tmp_path / "unet.pt"):
        path.touch()
    train(own)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{other}: of other settings or another version, left aside"
    assert len(lines) == EPOCHS
    train(own)
    assert "left aside" not in capsys.readouterr().out


# The order of the samples, and the processes that load them


def test_epoch_batches_are_a_seeded_permutation_without_the_remainder() -> None:
    batches = epoch_batches(10, 3, seed=5, epoch=2)
    order = np.random.default_rng((5, 2)).permutation(10)
    assert batches == [[(2, index) for index in order[start : start + 3]] for start in (0, 3, 6)]
    epochs = [[*chain(*epoch_batches(10, 3, 5, epoch))] for epoch in range(20)]
    assert {index for epoch in epochs for _, index in epoch} == set(range(10))
    assert sorted(chain(*epoch_batches(6, 2, 0, 0))) == [(0, index) for index in range(6)]


@pytest.mark.parametrize("batch_size", [19, 0, -1])
def test_impossible_batch_size_is_refused(batch_size) -> None:
    with pytest.raises(InputError, match=rf"batch_size is {batch_size}: .* 18 training samples"):
        epoch_batches(18, batch_size, 0, 0)


def test_samples_are_asked_for_in_the_stated_order() -> None:
    seen = []

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        assert model.training
        seen.append(batch["id"])
        return noisy_step(model, batch)

    train(step=step)
    batches = [batch for epoch in range(EPOCHS) for batch in epoch_batches(18, 4, 0, epoch)]
    assert seen == [[f"point-{index}" for _, index in batch] for batch in batches]


def test_worker_processes_change_nothing(uninterrupted) -> None:
    assert_same(train(workers=2), uninterrupted)


class Broken(Points):
    """What goes wrong in a process that loads."""

    def __init__(self, fault: Callable[[], None]) -> None:
        self.fault = fault

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        self.fault()
        return super().__getitem__(key)


def unreadable() -> None:
    raise InputError("00001.jpg: cannot be decoded; give another copy")


def killed() -> None:
    os.kill(os.getpid() if get_worker_info() else 0, signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_input_reads_alike_wherever_it_is_found(workers) -> None:
    with pytest.raises(InputError) as caught:
        train_line(Broken(unreadable), batch_size=2, workers=workers)
    assert str(caught.value) == "00001.jpg: cannot be decoded; give another copy"


def without_room() -> None:
    raise RuntimeError("unable to write to file </torch_7>: No space left on device (28)")


def test_shared_memory_that_is_full_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^RuntimeError: unable .*/dev/shm .*--workers 0$"):
        train_line(Broken(without_room), batch_size=2, workers=1)


@pytest.mark.parametrize("fault", [killed, lambda: time.sleep(60)], ids=["killed", "hangs"])
def test_a_loading_process_that_dies_or_hangs_is_told_in_one_line(monkeypatch, fault) -> None:
    monkeypatch.setattr(training, "LOADER_SECONDS", 1)
    with pytest.raises(InputError, match=r"^DataLoader .*/dev/shm .*--workers 0$") as caught:
        train_line(Broken(fault), batch_size=2, workers=1)
    assert "\n" not in str(caught.value)


def test_ctrl_c_does_not_end_the_processes_that_load() -> None:
    class Asked(Points):
        def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
            ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            return {"x": torch.ones(1), "y": torch.tensor([float(ignored)]), "id": "a"}

    history, _ = train_line(Asked(), workers=1, batch_size=18)
    assert history[0]["loss"] == 1  # of y = 1 where 0 is predicted


# Values worked out by hand


@pytest.mark.parametrize(("norm", "gradient"), [(None, -10), (4.0, -4), (20.0, -10)])
def test_gradient_is_cut_to_its_largest_norm(norm, gradient) -> None:
    """The gradient at w = 0 is -10."""
    _, model = train_line(Pairs((1, 2), (2, 4)), norm=norm, batch_size=2)
    assert model.weight.grad.item() == pytest.approx(gradient, rel=1e-5)


@pytest.mark.parametrize(
    ("weight_decay", "theirs"), [(0.0, torch.optim.Adam), (0.1, torch.optim.AdamW)]
)
def test_the_optimiser_is_torchs(weight_decay, theirs) -> None:
    pairs, expected = Pairs((1, 2), (3, 4), (5, -6)), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(expected.weight)
    optimizer = theirs(expected.parameters(), lr=0.25, weight_decay=weight_decay)
    for epoch in range(4):
        for [key] in epoch_batches(3, 1, 0, epoch):
            optimizer.zero_grad()
            squared_error(expected, pairs[key])["loss"].backward()
            optimizer.step()
    _, model = train_line(pairs, batch_size=1, epochs=4, weight_decay=weight_decay)
    assert torch.equal(model.weight, expected.weight)


def test_one_cycle_lasts_as_many_steps_as_training() -> None:
    settings = SETTINGS.but(epochs=10)
    steps = 10 * len(epoch_batches(43, settings.batch_size, 0, 0))
    optimizer, scheduler = training._optimizer(nn.Linear(1, 1), settings, steps // 10)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(RATE) and np.argmax(rates) == 29  # of 100
    assert rates[-1] == pytest.approx(RATE / 25 / 1e4)  # torch's own end, with the last step


def test_integers_are_summed_and_floats_averaged() -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        number = int(batch["id"][0].removeprefix("pair-"))
        return {
            "loss": model(batch["x"]).mean(),
            "number": torch.tensor(float(number)),
            "counts": torch.tensor([number, 2**40]),
            "hit": torch.tensor(number > 1),
        }

    settings = REPORT["unet"].but(epochs=2, batch_size=1)
    task = Task(nn.Linear(1, 1), Pairs(*[(1, 1)] * 4), step)
    history = fit(task, settings, make_accelerator())
    assert not task.model.training
    for entry, epoch in zip(history, (1, 2), strict=True):
        assert (entry["epoch"], entry["samples"]) == (epoch, 4)
        assert entry["number"] == 1.5
        assert entry["counts"] == [6, 2**42]
        assert entry["hit"] == 2
        assert 0 <= entry["seconds_waiting"] <= entry["seconds"]
        devices = training.hardware()["count"]
        assert entry["device_seconds"] == pytest.approx(devices * entry["seconds"], abs=0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_with_the_ids_of_its_batch(value) -> None:
    samples = Pairs(*[(1, 2)] * 5, (1, value))
    order = [index for [(_, index)] in epoch_batches(6, 1, seed=0, epoch=0)]
    step = order.index(5) + 1
    with pytest.raises(FloatingPointError, match=rf"epoch 1, step {step}: .*; batch: pair-5$"):
        train_line(samples, batch_size=1)
    with pytest.raises(FloatingPointError) as raised:
        train_line(samples, batch_size=6)
    assert all(f"pair-{index}" in str(raised.value) for index in range(6))


def test_weights_that_the_last_step_has_ruined_stop_the_run(tmp_path) -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        nothing = (model.bias * 0).sqrt().sum()  # it is 0, and its gradient is not a number
        return {"loss": model(batch["x"]).square().mean() + nothing}

    task, checkpoint = Task(nn.Linear(4, 1), Points(), step), tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match="after epoch 1 the weights are not finite: lower"):
        fit(task, SETTINGS.but(batch_size=18), make_accelerator(), checkpoint, "points")


# Devices, logs


def ask_for_fp16() -> None:
    with pytest.raises(InputError, match="mixed_precision is fp16: this device has none; choose"):
        make_accelerator("fp16")


def test_a_precision_that_the_device_has_not_is_refused() -> None:
    assert finish(start(ask_for_fp16)) == [0]


def test_a_run_in_fp16_predicts_in_what_a_cpu_has() -> None:
    assert training.accelerator_to_predict("fp16").mixed_precision == "no"


def test_log_has_one_plain_line_an_epoch_and_a_notebook_none(capsys, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    train(after_epoch=lambda model, epoch: {"validation": {"dice": epoch / 4}})
    out, err = capsys.readouterr()
    starts = [line.split("  ")[0] for line in out.splitlines()]
    assert starts == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert "  loss " in out and "  validation dice 0.75" in out and "\r" not in out and not err
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
        assert entry["samples"] == expected["samples"] == STEPS * 4
        assert entry["counts"] == expected["counts"]
        assert entry["counted"] == expected["counted"]
        assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    for name, value in alone[1].items():
        assert torch.allclose(first[1][name], value, atol=1e-5)
    buffers = [[entry["buffers"] for entry in result[2][0]] for result in both]
    assert buffers[0] == buffers[1]  # the statistics that were looked at are those that are saved
    for resumed, _, _ in parallel(tmp_path / "interrupted", 2, interrupted=True):
        assert_same(resumed, first)


def test_map_in_order_joins_the_results_of_one_process() -> None:
    accelerator = make_accelerator()
    assert map_in_order(lambda n: [n] * n, [3, 0, 2], accelerator) == [3, 3, 3, 2, 2]
    assert map_in_order(lambda n: [n], [], accelerator) == []


def test_batch_that_cannot_be_shared_is_refused() -> None:
    three = SimpleNamespace(process_index=0, num_processes=3)
    assert training._share([[(0, n) for n in range(6)]], three) == [[(0, 0), (0, 3)]]
    with pytest.raises(InputError, match="batch_size 4 does not divide by 3 processes"):
        training._share([[(0, n) for n in range(4)]], three)
