import math
import multiprocessing
import os
import random
import signal
import subprocess
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
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hw3 import training
from hw3.errors import InputError
from hw3.training import Interrupted, epoch_batches, fit, make_accelerator, map_in_order

STEPS = 4  # an epoch, of Points at BATCH, with two samples left out
EPOCHS = 3
BATCH = 4

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


accelerator_of_a_run = make_accelerator


def noisy_step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Draws from Python's and NumPy's global states; the model's dropout draws from torch's."""
    target = batch["x"].sum(1, keepdim=True) + random.random() + np.random.random()
    return {"loss": mse_loss(model(batch["x"]), target), "seen": torch.tensor(len(batch["x"]))}


def train(
    checkpoint: Path | None = None,
    step: Callable = noisy_step,
    validate: Callable | None = None,
    **options: Any,
) -> tuple[list[dict], dict[str, Tensor]]:
    """Train a small network with everything that has a state; its history and weights."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=EPOCHS * STEPS)
    history = fit(
        model,
        step,
        Points(),
        optimizer,
        epochs=EPOCHS,
        batch_size=BATCH,
        seed=0,
        accelerator=accelerator_of_a_run(),
        scheduler=scheduler,
        validate=validate,
        checkpoint=checkpoint,
        key=options.pop("key", "points"),
        checkpoint_seconds=0,
        **options,
    )
    return history, model.state_dict()


def train_line(samples: Pairs, *, rate: float, batch_size: int, **options: Any) -> tuple:
    """Train y = w x from w = 0 with SGD and squared error; its history and final w."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    if halve := options.pop("halve", False):
        halve = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"loss": mse_loss(model(batch["x"]), batch["y"])}

    options = {"epochs": 1, "seed": 0, "accelerator": make_accelerator()} | options
    history = fit(
        model, step, samples, optimizer, batch_size=batch_size, scheduler=halve or None, **options
    )
    return history, model.weight.item()


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


def train_in_process(folder: Path, place: str = "", number: int = 0, pause: float = 0.0) -> None:
    """Train with a checkpoint in `folder`, killed when `place` is reached for the `number`th time.

    A run that lives writes `result.pt`.
    """
    torch.set_num_threads(1)
    reached = dict.fromkeys(("step", "validate", "half a file", "before rename", "renamed"), 0)
    fsync, replace = os.fsync, os.replace

    def reach(here: str) -> bool:
        reached[here] += 1
        return here == place and reached[here] == number

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        time.sleep(pause)
        values = noisy_step(model, batch)
        if reach("step"):
            die()
        return values

    def validate(model: nn.Module) -> dict[str, Any]:
        drawn = torch.rand(()).item()
        if reach("validate"):
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
    torch.save(train(folder / "run.pt", step, validate), folder / "result.pt")


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
        ("step", STEPS),
        ("step", STEPS + 2),
        ("validate", 1),  # all steps of an epoch saved, not yet the epoch
        ("validate", EPOCHS),
        ("half a file", 3),
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


def test_run_killed_from_outside_again_and_again_ends_as_an_unkilled_one(
    tmp_path, unkilled
) -> None:
    checkpoint, codes = tmp_path / "run.pt", []

    def changed() -> int:
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    for _ in range(2 * EPOCHS * STEPS):  # every start gets further, so these are enough
        before = changed()
        process = start(train_in_process, tmp_path, "", 0, 0.005)
        while process.is_alive() and (changed() == before or len(codes) >= 4):
            time.sleep(0.001)
        process.kill()
        codes += finish(process)
        if codes[-1] == 0:
            break
    assert codes == [-signal.SIGKILL] * 4 + [0]
    assert_same(torch.load(tmp_path / "result.pt"), unkilled)


# Interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("last_step", [2, STEPS])
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
def test_signal_during_validation_stops_once_the_epoch_is_saved(tmp_path, epoch) -> None:
    seen = []

    def validate(model: nn.Module) -> dict[str, Any]:
        seen.append(model.training)
        if len(seen) == epoch:
            signal.raise_signal(signal.SIGINT)
        return {}

    with pytest.raises(Interrupted):
        train(tmp_path / "run.pt", validate=validate)
    assert seen == [False] * epoch
    assert len(torch.load(tmp_path / "run.pt")["history"]) == epoch


def test_second_signal_acts_at_once() -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt) as raised:
        train(step=step)
    assert not isinstance(raised.value, Interrupted)


def test_interrupted_without_checkpoint_says_that_nothing_was_saved() -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        signal.raise_signal(signal.SIGINT)
        return noisy_step(model, batch)

    with pytest.raises(Interrupted, match="nothing was saved"):
        train(step=step)


# Checkpoints that cannot be used


def test_a_checkpoint_without_a_scaler_goes_on_where_there_is_one(
    tmp_path, uninterrupted, monkeypatch
) -> None:
    checkpoint = tmp_path / "run.pt"

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        signal.raise_signal(signal.SIGINT)
        return noisy_step(model, batch)

    with pytest.raises(Interrupted):
        train(checkpoint, step)

    def scaling() -> Accelerator:
        accelerator = make_accelerator()
        accelerator.scaler = torch.amp.GradScaler("cpu", enabled=False)
        return accelerator

    monkeypatch.setitem(globals(), "accelerator_of_a_run", scaling)
    assert_same(train(checkpoint), uninterrupted)


def test_another_precision_in_one_process_is_refused_with_the_remedy() -> None:
    make_accelerator("no")
    with pytest.raises(InputError, match=r"mixed_precision fp16 cannot be had .*restart Python"):
        make_accelerator("fp16")


def test_checkpoint_of_another_run_is_refused_and_kept(tmp_path) -> None:
    checkpoint = tmp_path / "run.pt"
    train(checkpoint, key="one")
    content = checkpoint.read_bytes()
    with pytest.raises(InputError, match=r"run\.pt.*other settings or data; delete it"):
        train(checkpoint, key="another")
    assert checkpoint.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"not torch", "truncated", "a list"])
def test_corrupt_checkpoint_is_refused_with_the_remedy(tmp_path, content) -> None:
    checkpoint = tmp_path / "run.pt"
    if content == "truncated":
        train(checkpoint)
        content = checkpoint.read_bytes()[:-100]
    if content == "a list":
        torch.save([1, 2], checkpoint)
    else:
        checkpoint.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.pt: not a checkpoint .*delete it"):
        train(checkpoint)


def test_finished_run_is_not_trained_again(tmp_path, uninterrupted) -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        raise AssertionError("trained again")

    train(tmp_path / "run.pt")
    assert_same(train(tmp_path / "run.pt", step), uninterrupted)


# The order of the samples


def test_epoch_batches_are_a_seeded_permutation_without_the_remainder() -> None:
    batches = epoch_batches(10, 3, seed=5, epoch=2)
    order = np.random.default_rng((5, 2)).permutation(10)
    assert batches == [[(2, index) for index in order[start : start + 3]] for start in (0, 3, 6)]
    assert batches == epoch_batches(10, 3, seed=5, epoch=2)
    assert batches != epoch_batches(10, 3, seed=6, epoch=2)
    others = [
        [index for batch in epoch_batches(10, 3, 5, epoch) for _, index in batch]
        for epoch in range(20)
    ]
    assert all(len(set(indices)) == 9 for indices in others)
    assert len({tuple(indices) for indices in others}) == 20
    assert {index for indices in others for index in indices} == set(range(10))


def test_epoch_batches_use_every_sample_where_they_divide_evenly() -> None:
    batches = epoch_batches(6, 2, seed=0, epoch=0)
    assert sorted(chain(*batches)) == [(0, index) for index in range(6)]
    assert epoch_batches(4, 4, seed=0, epoch=0)[0] != [(0, 0), (0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("batch_size", [19, 0, -1])
def test_impossible_batch_size_is_refused_before_any_training(batch_size) -> None:
    with pytest.raises(InputError, match=rf"batch_size is {batch_size}: .* 18 training samples"):
        fit(
            nn.Linear(4, 1),
            noisy_step,
            Points(),
            torch.optim.SGD(nn.Linear(4, 1).parameters()),
            epochs=1,
            batch_size=batch_size,
            seed=0,
            accelerator=make_accelerator(),
        )


def test_samples_are_asked_for_in_the_stated_order() -> None:
    seen = []

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        seen.append(batch["id"])
        return noisy_step(model, batch)

    train(step=step)
    batches = [batch for epoch in range(EPOCHS) for batch in epoch_batches(18, BATCH, 0, epoch)]
    assert seen == [[f"point-{index}" for _, index in batch] for batch in batches]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_input_reads_alike_wherever_it_is_found(workers) -> None:
    class Broken(Points):
        def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
            raise InputError("00001.jpg: cannot be decoded; give another copy")

    with pytest.raises(InputError) as caught:
        train_line(Broken(), rate=0.1, batch_size=2, workers=workers)
    assert str(caught.value) == "00001.jpg: cannot be decoded; give another copy"


def test_worker_processes_change_nothing(uninterrupted) -> None:
    assert_same(train(workers=2), uninterrupted)


@pytest.mark.parametrize(
    ("device", "cores", "workers"), [("cpu", 8, 0), ("cuda", 8, 4), ("cuda", 2, 2)]
)
def test_a_gpu_gets_processes_that_load_its_data(monkeypatch, device, cores, workers) -> None:
    monkeypatch.setattr(training.os, "sched_getaffinity", lambda _pid: range(cores), raising=False)
    assert training._workers(SimpleNamespace(device=torch.device(device))) == workers


# Values worked out by hand


def test_two_steps_of_a_line() -> None:
    """w = 0: loss (4 + 16) / 2, gradient -10; w = 1: loss (1 + 4) / 2, gradient -5."""
    history, w = train_line(Pairs((1, 2), (2, 4)), rate=0.1, batch_size=2, epochs=2)
    assert [entry["loss"] for entry in history] == pytest.approx([10, 2.5])
    assert w == pytest.approx(1.5)


def test_losses_of_an_epoch_are_averaged_over_its_steps() -> None:
    """w = 0: loss 4, gradient -4; w = 1: loss 1, gradient -2."""
    history, w = train_line(Pairs((1, 2), (1, 2)), rate=0.25, batch_size=1)
    assert history[0]["loss"] == pytest.approx(2.5)
    assert w == pytest.approx(1.5)


def test_scheduler_is_stepped_once_a_batch() -> None:
    """The rates are 1/4 and 1/8: w goes from 0 to 1, and by 2/8 to 1.25."""
    history, w = train_line(Pairs((1, 2), (1, 2)), rate=0.25, batch_size=1, halve=True)
    assert w == pytest.approx(1.25)
    assert history[0]["learning_rate"] == pytest.approx(1 / 16)


@pytest.mark.parametrize(("norm", "expected"), [(4.0, 0.4), (20.0, 1.0)])
def test_gradient_is_cut_to_its_largest_norm(norm, expected) -> None:
    """The gradient at w = 0 is -10."""
    samples = Pairs((1, 2), (2, 4))
    _, w = train_line(samples, rate=0.1, batch_size=2, max_gradient_norm=norm)
    assert w == pytest.approx(expected, rel=1e-5)


def test_integers_are_summed_and_floats_averaged() -> None:
    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        number = int(batch["id"][0].removeprefix("pair-"))
        return {
            "loss": model(batch["x"]).mean(),
            "number": torch.tensor(float(number)),
            "counts": torch.tensor([number, 2**40]),
            "hit": torch.tensor(number > 1),
        }

    model = nn.Linear(1, 1)
    history = fit(
        model,
        step,
        Pairs(*[(1, 1)] * 4),
        torch.optim.SGD(model.parameters(), lr=0),
        epochs=2,
        batch_size=1,
        seed=0,
        accelerator=make_accelerator(),
    )
    for entry, epoch in zip(history, (1, 2), strict=True):
        assert (entry["epoch"], entry["samples"]) == (epoch, 4)
        assert entry["number"] == 1.5
        assert entry["counts"] == [6, 2**42]
        assert entry["hit"] == 2
        assert 0 <= entry["seconds_waiting"] <= entry["seconds"]
        devices = training.hardware()["count"]
        assert entry["device_seconds"] == pytest.approx(devices * entry["seconds"], abs=0.01)


def test_a_checkpoint_needs_a_key_or_another_run_could_take_it(tmp_path) -> None:
    with pytest.raises(InputError, match="key is empty: name the run"):
        train(tmp_path / "state.pt", key="")


def test_a_precision_that_the_device_has_not_is_refused() -> None:
    code = "from hw3.training import make_accelerator; make_accelerator('fp16')"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "InputError: mixed_precision is fp16: this device has none; choose auto" in done.stderr


def test_a_run_in_fp16_predicts_in_what_a_cpu_has() -> None:
    assert training.accelerator_to_predict("fp16").mixed_precision == "no"


def test_validate_sees_the_model_in_evaluation_mode_and_its_values_are_kept() -> None:
    modes = []

    def validate(model: nn.Module) -> dict[str, Any]:
        modes.append(model.training)
        return {"validation": {"score": len(modes)}}

    def step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        assert model.training
        return noisy_step(model, batch)

    history, _ = train(step=step, validate=validate)
    assert modes == [False] * EPOCHS
    assert [entry["validation"]["score"] for entry in history] == [1, 2, 3]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_with_the_ids_of_its_batch(value) -> None:
    samples = Pairs(*[(1, 2)] * 5, (1, value))
    order = [index for [(_, index)] in epoch_batches(6, 1, seed=0, epoch=0)]
    step = order.index(5) + 1
    with pytest.raises(FloatingPointError, match=rf"epoch 1, step {step}; batch: pair-5$"):
        train_line(samples, rate=0.1, batch_size=1)
    with pytest.raises(FloatingPointError) as raised:
        train_line(samples, rate=0.1, batch_size=6)
    assert all(f"pair-{index}" in str(raised.value) for index in range(6))


def test_log_has_one_plain_line_an_epoch(capsys, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    train()
    out, err = capsys.readouterr()
    starts = [line.split("  ")[0] for line in out.splitlines()]
    assert starts == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert "  loss " in out and "\r" not in out and not err


def test_notebook_stores_no_output_of_the_loop(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    train()
    assert capsys.readouterr() == ("", "")


# Several processes


def train_in_parallel(folder: Path, rank: int, world: int, interrupted: bool) -> None:
    """One of `world` processes: train, and write what this one got to `<rank>.pt`."""
    torch.set_num_threads(1)
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

    def validate(model: nn.Module) -> dict[str, Any]:
        def count(number: int) -> list[int]:
            return [number] * number + [int((model(torch.full((1, 4), number / 7)) > 0).sum())]

        counts = map_in_order(count, range(7), accelerator)
        return {"counted": counts, "buffers": [buffer.tolist() for buffer in model.buffers()]}

    def run(norm: bool) -> tuple[list[dict], dict[str, Tensor]]:
        torch.manual_seed(rank)
        middle = nn.BatchNorm1d(8) if norm else nn.Tanh()
        model = nn.Sequential(nn.Linear(4, 8), middle, nn.Linear(8, 1))
        history = fit(
            model,
            step,
            Points(),
            torch.optim.SGD(model.parameters(), lr=0.01),
            epochs=2,
            batch_size=BATCH,
            seed=0,
            accelerator=accelerator,
            validate=validate,
            checkpoint=folder / f"{norm}.pt",
            key="points",
        )
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


def test_two_processes_count_what_one_counts(tmp_path) -> None:
    [(alone, ids, _)] = parallel(tmp_path / "one", 1)
    (first, first_ids, _), (second, second_ids, _) = both = parallel(tmp_path / "two", 2)
    assert not set(first_ids[:8]) & set(second_ids[:8])
    assert sorted(first_ids + second_ids) == sorted(ids)
    assert_same(second, first)
    for entry, expected in zip(first[0], alone[0], strict=True):
        assert entry["samples"] == expected["samples"] == STEPS * BATCH
        assert entry["counts"] == expected["counts"]
        assert entry["counted"] == expected["counted"]
        assert entry["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert all(torch.allclose(first[1][name], value) for name, value in alone[1].items())
    buffers = [[entry["buffers"] for entry in result[2][0]] for result in both]
    assert buffers[0] == buffers[1]  # the statistics that were validated are those that are saved


def test_two_processes_interrupted_and_resumed_count_what_they_would_have(tmp_path) -> None:
    expected = parallel(tmp_path / "whole", 2)[0][0]
    for resumed, _, _ in parallel(tmp_path / "interrupted", 2, interrupted=True):
        assert_same(resumed, expected)


def test_map_in_order_joins_the_results_of_one_process() -> None:
    accelerator = make_accelerator()
    assert map_in_order(lambda n: [n] * n, [3, 0, 2], accelerator) == [3, 3, 3, 2, 2]
    assert map_in_order(lambda n: [n], [], accelerator) == []


def test_batch_that_cannot_be_shared_is_refused() -> None:
    class Three:
        process_index, num_processes = 0, 3

    assert training._share([[(0, n) for n in range(6)]], Three()) == [[(0, 0), (0, 3)]]
    with pytest.raises(InputError, match="batch_size 4 does not divide by 3 processes"):
        training._share([[(0, n) for n in range(4)]], Three())


@pytest.mark.parametrize(("library", "calls"), [("glibc", [(-4, 0), (-1, -1)]), ("", [])])
def test_freed_memory_is_kept_where_the_c_library_can(library, calls, monkeypatch) -> None:
    made: list[tuple[int, int]] = []
    allocator = SimpleNamespace(mallopt=lambda *values: made.append(values))
    monkeypatch.setattr(training.ctypes, "CDLL", lambda _name: allocator)
    monkeypatch.setattr(training.platform, "libc_ver", lambda: (library, "2.36"))
    training._keep_freed_memory()
    assert made == calls
