"""The one training loop, used by both questions.

What a batch contains is decided by (seed, epoch) alone, and how a sample is augmented by (seed,
epoch, index) alone. Nothing that workers or processes do can change either, so a run that was
killed goes on from its last checkpoint and ends with the weights of an uninterrupted one.
"""

import ctypes
import os
import platform
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, gather_object, send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from hw3.errors import InputError
from hw3.records import hardware, write_atomically

WORKERS = 4
"""Processes that load data for a GPU, where there are as many cores."""
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
SampleKey = tuple[int, int]
"""Epoch and index, which a data set needs to know to return one augmented sample."""


class Samples(Protocol):
    """A map-style data set. Samples are dictionaries and hold at least "id", a string.

    Example:
        >>> class Squares:
        ...     def __len__(self):
        ...         return 4
        ...
        ...     def __getitem__(self, key):
        ...         epoch, index = key
        ...         return {"id": str(index), "square": index**2}
        >>> Squares()[0, 3]
        {'id': '3', 'square': 9}
    """

    def __len__(self) -> int: ...
    def __getitem__(self, key: SampleKey) -> dict[str, Any]: ...


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after its state was saved.

    Example:
        >>> try:
        ...     raise Interrupted("stopped; state saved in unet.checkpoint.pt")
        ... except KeyboardInterrupt as stopped:
        ...     print(stopped)
        stopped; state saved in unet.checkpoint.pt
    """


def make_accelerator(mixed_precision: str = "auto") -> Accelerator:
    """Accelerate's object for the device at hand: CPU, one GPU, or one of several processes.

    Args:
        mixed_precision: "no", "bf16", "fp16", or "auto": the best that a GPU has, "no" on a CPU.

    Raises:
        InputError: if this process has used another precision before, or the device has it not.

    Example:
        >>> accelerator = make_accelerator()
        >>> accelerator.num_processes, accelerator.process_index
        (1, 0)
    """
    if mixed_precision == "auto":
        gpu = torch.cuda.is_available()
        fast = "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        mixed_precision = fast if gpu else "no"
    _keep_freed_memory()
    try:
        accelerator = Accelerator(mixed_precision=mixed_precision, cpu=_cpu_alone())
    except ValueError as error:
        fault = f"mixed_precision {mixed_precision} cannot be had ({error})"
        raise InputError(f"{fault}; restart Python if it was another before") from None
    if mixed_precision != "no" and not accelerator.native_amp:  # it would be float32 all the same
        raise InputError(f"mixed_precision is {mixed_precision}: this device has none; choose auto")
    return accelerator


def accelerator_to_predict(mixed_precision: str) -> Accelerator:
    """As `make_accelerator`, for a run that was trained elsewhere: fp16 gives way on a CPU.

    Args:
        mixed_precision: of the run's settings.

    Example:
        >>> accelerator_to_predict("auto").device == make_accelerator().device
        True
    """
    lacking = mixed_precision == "fp16" and _cpu_alone()
    return make_accelerator("auto" if lacking else mixed_precision)


def processes() -> PartialState:
    """Which of how many processes this is; it can be asked before there is an accelerator.

    Example:
        >>> processes().is_main_process
        True
    """
    return PartialState(cpu=_cpu_alone())


def _cpu_alone() -> bool:
    """Whether there is no CUDA GPU; accelerate, unless told, then lets each process run alone.

    Apple's GPUs have no float64, in which losses are summed, so that the CPU is taken there.
    """
    return not torch.cuda.is_available()


def _keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones.

    glibc gives large blocks back to the system and asks for them again, a page at a time, which
    slows every step on a CPU.
    """
    if platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_MAX, 0)
        allocator.mallopt(_M_TRIM_THRESHOLD, -1)


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[SampleKey]]:
    """The whole epoch's batches in order: a seeded permutation, without the last incomplete batch.

    Dropping the remainder keeps every step's gradient over equally many samples; which samples
    are left out changes with the epoch.

    Raises:
        InputError: if there are fewer samples than one batch takes, or a batch takes none.

    Example:
        >>> epoch_batches(count=5, batch_size=2, seed=0, epoch=0)
        [[(0, 2), (0, 4)], [(0, 3), (0, 0)]]
    """
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size is {batch_size}: choose 1 to the {count} training samples")
    order = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    starts = range(0, count - batch_size + 1, batch_size)
    return [[(epoch, index) for index in order[start : start + batch_size]] for start in starts]


def fit(
    model: nn.Module,
    step: Callable[[nn.Module, dict[str, Any]], dict[str, Tensor]],
    samples: Samples,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    accelerator: Accelerator,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    validate: Callable[[nn.Module], dict[str, Any]] | None = None,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
    workers: int | None = None,
    max_gradient_norm: float | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 300.0,
    key: str = "",
) -> list[dict[str, Any]]:
    """Train `model` in place and return its history, one entry an epoch.

    Args:
        model: in any state; it is moved to the accelerator's device.
        step: computes one batch's forward pass. Returns "loss" (scalar, to be minimised) and any
            other tensors to follow: integers are summed over the epoch, floats averaged.
        samples: map-style data set, indexed by (epoch, index).
        optimizer: over the parameters to train.
        epochs: passes over the samples.
        batch_size: samples a step, over all processes.
        seed: decides the order of the samples.
        accelerator: see `make_accelerator`.
        scheduler: stepped once a batch.
        validate: called on the unwrapped model after each epoch, on every process.
        collate: makes a batch of a list of samples.
        workers: processes that load data; None for none on a CPU, where they would take the cores
            that train, and for up to `WORKERS` beside a GPU, which would wait otherwise.
        max_gradient_norm: gradients are scaled down to this norm.
        checkpoint: file for the state of the run; an existing one is gone on from.
        checkpoint_seconds: the state is saved that often within an epoch, and after each epoch.
        key: identifies the run, so that another's checkpoint is refused; needed with one.

    Returns:
        Entries with `epoch`, `samples`, `learning_rate`, `seconds` (steps only), `seconds_waiting`
        (of these, waiting for data), `device_seconds` (each second times the threads or GPUs at
        work), what `step` returned, and what `validate` returned.

    Raises:
        FloatingPointError: at the first loss that is not finite, with the batch's ids.
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
        InputError: if the checkpoint belongs to another run, or has no key.

    Example:
        Fit y = 2 x from a slope of 0. The loss is 4 before the first step, 2.25 before the second.

        >>> model = nn.Linear(1, 1, bias=False)
        >>> nn.init.zeros_(model.weight).item()
        0.0
        >>> samples = {(0, index): {"id": str(index), "x": torch.ones(1)} for index in range(4)}
        >>> def step(model, batch):
        ...     return {"loss": (model(batch["x"]) - 2 * batch["x"]).square().mean()}
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
        >>> options = {"epochs": 1, "batch_size": 2, "seed": 0, "accelerator": make_accelerator()}
        >>> history = fit(model, step, samples, optimizer, **options)
        epoch 1/1  learning_rate 0.125  seconds ...  loss 3.125
        >>> history[0]["samples"], model.weight.item()
        (4, 0.875)
    """
    if checkpoint is not None and not key:
        raise InputError("key is empty: name the run whose state the checkpoint keeps")
    steps = len(epoch_batches(len(samples), batch_size, seed, 0))
    model, optimizer = accelerator.prepare(model, optimizer)
    run = _Run(model, optimizer, scheduler, accelerator, checkpoint, key)
    run.resume()
    with _signals_noted() as interrupted, _progress(epochs, steps) as bar:
        for epoch in range(run.epoch, epochs):
            model.train()
            batches = epoch_batches(len(samples), batch_size, seed, epoch)
            bar.update(epoch * steps + run.steps - bar.n)
            loader = DataLoader(
                samples,
                batch_sampler=_share(batches[run.steps :], accelerator),
                collate_fn=collate,
                num_workers=_workers(accelerator) if workers is None else workers,
                generator=torch.Generator(),  # else each loader would draw from the global state
                pin_memory=accelerator.device.type == "cuda",
            )
            clock = time.perf_counter()
            saved = clock
            for batch in _batches(loader):
                batch = send_to_device(batch, accelerator.device)
                waiting = time.perf_counter() - clock
                values = _optimise(run, step, batch, max_gradient_norm)
                run.add(values, waiting, time.perf_counter() - clock)
                bar.update()
                overdue = time.perf_counter() - saved > checkpoint_seconds
                stop, due = _any_process(accelerator, interrupted.is_set(), overdue)
                if stop or due:
                    run.save()
                    saved = time.perf_counter()
                if stop:
                    raise Interrupted(_how_to_resume(checkpoint))
                clock = time.perf_counter()
            entry = run.close_epoch(batch_size)
            for buffer in accelerator.unwrap_model(model).buffers():
                broadcast(buffer)  # BatchNorm's statistics differ, and the first process saves its
            if validate is not None:
                model.eval()
                entry |= validate(accelerator.unwrap_model(model))
            run.save()
            _log(epoch_line(entry, epochs), accelerator)
            if _any_process(accelerator, interrupted.is_set())[0]:
                raise Interrupted(_how_to_resume(checkpoint))
    model.eval()
    return run.history


def _batches(loader: DataLoader) -> Iterator[Any]:
    """The batches; a fault of the input is told as here where another process has found it."""
    try:
        yield from loader
    except InputError as error:
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None


def map_in_order(
    function: Callable[[Any], list], items: Sequence, accelerator: Accelerator
) -> list:
    """Apply `function` to this process's share of `items` and join all results in order.

    Every item is seen by exactly one process, however many there are, so that counts add up to
    those of a single process.

    Args:
        function: takes one item and returns a list of results that can be pickled.
        items: the same on every process.
        accelerator: knows the processes.

    Example:
        >>> map_in_order(lambda item: [item, item**2], [1, 2, 3], make_accelerator())
        [1, 1, 2, 4, 3, 9]
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    own = [(i, function(items[i])) for i in range(rank, len(items), world)]
    everything = gather_object(own) if world > 1 else own
    everything.sort(key=lambda pair: pair[0])
    return [result for _, results in everything for result in results]


def epoch_line(entry: dict[str, Any], epochs: int) -> str:
    """One line for a log: the epoch and its scalar values.

    Example:
        >>> epoch_line({"epoch": 1, "loss": 0.25, "validation": {"dice": 0.5}}, epochs=20)
        'epoch 1/20  loss 0.25  validation dice 0.5'
    """
    values = entry | {f"validation {k}": v for k, v in entry.get("validation", {}).items()}
    shown = [
        f"{name} {value:.4g}"
        for name, value in values.items()
        if isinstance(value, float) and name != "device_seconds"
    ]
    return f"epoch {entry['epoch']}/{epochs}  " + "  ".join(shown)


class _Run:
    """The state that a checkpoint holds, and how it is saved and found again."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        accelerator: Accelerator,
        checkpoint: Path | None,
        key: str,
    ) -> None:
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.accelerator, self.checkpoint, self.key = accelerator, checkpoint, key
        self.history: list[dict[str, Any]] = []
        self.devices = hardware()["count"]  # after a resumption it may be another number
        self.reset()

    @property
    def epoch(self) -> int:
        return len(self.history)

    def reset(self) -> None:
        self.steps, self.seconds, self.waiting, self.device_seconds = 0, 0.0, 0.0, 0.0
        self.sums: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor], waiting: float, seconds: float) -> None:
        for name, value in values.items():
            value = value.detach()
            shares = self.accelerator.num_processes
            value = value.double() / shares if value.is_floating_point() else value.long()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1
        self.waiting += waiting
        self.seconds += seconds
        self.device_seconds += seconds * self.devices

    def close_epoch(self, batch_size: int) -> dict[str, Any]:
        """Add the finished epoch to the history and return its entry."""
        entry: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "samples": self.steps * batch_size,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(self.seconds, 3),
            "seconds_waiting": round(self.waiting, 3),
            "device_seconds": round(self.device_seconds, 3),
        }
        for name, total in self._sums_of_all().items():
            entry[name] = (total / self.steps if total.is_floating_point() else total).tolist()
        self.history.append(entry)
        self.reset()
        return entry

    def save(self) -> None:
        if self.checkpoint is None:
            return
        states, sums = gather_object([_random_states()]), self._sums_of_all()
        if not self.accelerator.is_main_process:
            return
        unwrapped = self.accelerator.unwrap_model(self.model)
        content = {
            "key": self.key,
            "history": self.history,
            "steps": self.steps,
            "seconds": self.seconds,
            "waiting": self.waiting,
            "device_seconds": self.device_seconds,
            "sums": sums,
            "random": states,
            "model": unwrapped.state_dict(),
        } | {name: part.state_dict() for name, part in self._stateful().items()}
        buffer = BytesIO()
        torch.save(content, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            found = state["key"]
        except Exception as error:
            fault = f"not a checkpoint ({type(error).__name__})"
            raise InputError(f"{self.checkpoint}: {fault}; delete it to start over") from None
        if found != self.key:
            fault = "belongs to a run with other settings or data"
            raise InputError(f"{self.checkpoint}: {fault}; delete it to start over")
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        for name, part in self._stateful().items():
            if name in state:  # on another GPU there may not have been a scaler
                part.load_state_dict(state[name])
        for name in ("history", "steps", "seconds", "waiting", "device_seconds"):
            setattr(self, name, state[name])
        self.sums = send_to_device(state["sums"], self.accelerator.device)
        if not self.accelerator.is_main_process:  # the first process goes on with those of all
            self.sums = {name: torch.zeros_like(total) for name, total in self.sums.items()}
        if len(state["random"]) == self.accelerator.num_processes:
            _set_random_states(state["random"][self.accelerator.process_index])
        _log(f"going on from epoch {self.epoch + 1}, step {self.steps}", self.accelerator)

    def _sums_of_all(self) -> dict[str, Tensor]:
        return {name: self.accelerator.reduce(own, "sum") for name, own in self.sums.items()}

    def _stateful(self) -> dict[str, Any]:
        parts = {
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.accelerator.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}


def _optimise(run: _Run, step: Callable, batch: dict, max_gradient_norm: float | None) -> dict:
    """Forward, backward, update. Returns what `step` returned."""
    accelerator = run.accelerator
    with accelerator.autocast():
        values = step(run.model, batch)
    if not torch.isfinite(values["loss"]):
        where = f"epoch {run.epoch + 1}, step {run.steps + 1}"
        ids = ", ".join(map(str, batch["id"]))
        raise FloatingPointError(f"loss is {values['loss'].item()} in {where}; batch: {ids}")
    run.optimizer.zero_grad()
    accelerator.backward(values["loss"])
    if max_gradient_norm is not None:
        accelerator.clip_grad_norm_(run.model.parameters(), max_gradient_norm)
    run.optimizer.step()
    if run.scheduler is not None and not accelerator.optimizer_step_was_skipped:
        run.scheduler.step()
    return values


def _share(batches: list[list[SampleKey]], accelerator: Accelerator) -> list[list[SampleKey]]:
    """This process's part of every batch: together the processes see what one would see."""
    rank, world = accelerator.process_index, accelerator.num_processes
    if batches and len(batches[0]) % world:
        raise InputError(f"batch_size {len(batches[0])} does not divide by {world} processes")
    return [batch[rank::world] for batch in batches]


def _workers(accelerator: Accelerator) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(WORKERS, cores or 1) if accelerator.device.type == "cuda" else 0


def _any_process(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Each flag, raised if any process raised it, so that all processes act at the same step."""
    if accelerator.num_processes == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.int64, device=accelerator.device)
    return [count > 0 for count in accelerator.reduce(raised, "sum").tolist()]


def _random_states() -> dict[str, Any]:
    name, words, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, words.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def _signals_noted() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into a flag that is read between steps, where the state is whole.

    A second signal acts at once.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # only the main thread may set handlers
        return

    def note(number: int, _frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _how_to_resume(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "stopped; nothing was saved, since no checkpoint was asked for"
    return f"stopped; state saved in {checkpoint}. Run the same command again to go on."


def _progress(epochs: int, steps: int) -> tqdm:
    """A bar on a terminal, nothing in a log or a notebook."""
    return tqdm(total=epochs * steps, unit="step", disable=not sys.stderr.isatty(), leave=False)


def _log(line: str, accelerator: Accelerator) -> None:
    if accelerator.is_main_process and "ipykernel" not in sys.modules:
        tqdm.write(line)
