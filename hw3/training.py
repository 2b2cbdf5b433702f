"""The one training loop, used by both questions.

What a batch contains is decided by (seed, epoch) alone, and how a sample is augmented by (seed,
epoch, index) alone. Nothing that workers or processes do can change either, so a run that was
killed goes on from its last checkpoint and ends with the weights of an uninterrupted one.
"""

import ctypes
import hashlib
import os
import platform
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, gather_object, send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from hw3.data import InputError, write_atomically
from hw3.records import check_writable
from hw3.settings import Settings

WORKERS = 4
"""Processes that load data for a GPU, where there are as many cores."""
LOADER_SECONDS = 600
"""How long a batch may take that such a process loads."""
CHECKPOINT_SECONDS = 120.0
"""The state is saved that often within an epoch, and after each epoch."""
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
SampleKey = tuple[int, int]
"""Epoch and index, which a data set needs to know to return one augmented sample."""


@dataclass
class Task:
    """What is trained, on what, and how one step goes."""

    model: nn.Module
    samples: Dataset[dict[str, Any]]
    """Map-style, by `SampleKey`; a sample holds at least "id", a string."""
    step: Callable[[nn.Module, dict[str, Any]], dict[str, Tensor]]
    """Takes the model and a batch, and returns "loss" and what else is to be summed or averaged."""
    after_epoch: Callable[[nn.Module, int], dict[str, Any]] | None = None
    """Takes the model in evaluation mode and the number of finished epochs; its return value joins
    the epoch's entry in the history."""
    collate: Callable[[list], dict[str, Any]] | None = None
    max_gradient_norm: float | None = None
    """Larger gradients are scaled down to it."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after its state was saved."""


def fit(
    task: Task,
    settings: Settings,
    accelerator: Accelerator,
    checkpoint: Path | None = None,
    key: str = "",
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Train for all epochs, from the checkpoint on if there is one.

    Args:
        task: its model is left in evaluation mode.
        settings: their epochs, batch_size, seed, learning_rate, weight_decay, schedule.
        accelerator: from `make_accelerator`.
        checkpoint: file for the state of the run.
        key: identifies the run, so that another's checkpoint is refused; needed with one.
        workers: processes that load data; None for none on a CPU, and a few beside a GPU.

    Returns:
        A history: entries with `epoch`, `samples`, `learning_rate`, `seconds` (steps only),
        `seconds_waiting` (of these, for data), what `step` returned (integers summed, others
        averaged), what `after_epoch` did.

    Raises:
        FloatingPointError: at the first loss that is not finite, or after an epoch whose last step
            has ruined the weights.
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
        InputError: for a checkpoint that is damaged or another run's; if a loading process dies.

    Example:
        Fit y = 2 x from a slope of 0. The loss is 4 before the first step.

        >>> from hw3.settings import REPORT
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> samples = {(0, index): {"id": str(index), "x": torch.ones(1)} for index in range(4)}
        >>> def step(model, batch):
        ...     return {"loss": (model(batch["x"]) - 2 * batch["x"]).square().mean()}
        >>> settings = REPORT["unet"].but(epochs=1, batch_size=4, learning_rate=0.5)
        >>> history = fit(Task(model, samples, step), settings, make_accelerator())
        epoch 1/1  learning_rate 0.5  seconds ...  loss 4
        >>> round(model.weight.item(), 3)
        0.5
    """
    run = _Run(task, settings, accelerator, checkpoint, key)
    with _signals_noted() as interrupted, _loader_faults_told(), run.progress() as bar:
        for epoch in range(run.epoch, settings.epochs):
            run.model.train()
            for batch in run.batches(epoch, workers):
                with accelerator.autocast():
                    values = task.step(run.model, batch)
                if not torch.isfinite(values["loss"]):
                    raise FloatingPointError(run.where(values["loss"], batch))
                run.optimizer.zero_grad()
                accelerator.backward(values["loss"])
                if task.max_gradient_norm is not None:
                    accelerator.clip_grad_norm_(run.model.parameters(), task.max_gradient_norm)
                run.optimizer.step()
                if run.scheduler is not None and not accelerator.optimizer_step_was_skipped:
                    run.scheduler.step()
                run.add(values)
                bar.update()
                run.save_when_due(interrupted)
            run.close_epoch()
            run.save_when_due(interrupted, due=True)
    run.model.eval()
    return run.history


def make_accelerator(mixed_precision: str = "auto") -> Accelerator:
    """Accelerate's object for the device at hand: CPU, one GPU, or one of several processes.

    "auto" is the best precision that a GPU has, "no" on a CPU. An InputError if the device has not
    what is asked for, or this process has used another before.
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
    """As `make_accelerator`, for a run that was trained elsewhere: fp16 gives way on a CPU."""
    lacking = mixed_precision == "fp16" and _cpu_alone()
    return make_accelerator("auto" if lacking else mixed_precision)


def processes() -> PartialState:
    """Which of how many processes this is; it can be asked before there is an accelerator."""
    return PartialState(cpu=_cpu_alone())


def _cpu_alone() -> bool:
    """Whether there is no CUDA GPU; Apple's have no float64, in which losses are summed."""
    return not torch.cuda.is_available()


def _keep_freed_memory() -> None:
    """Let glibc keep freed tensors' memory, which it would ask for again a page at a time."""
    if platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_MAX, 0)
        allocator.mallopt(_M_TRIM_THRESHOLD, -1)


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[list[SampleKey]]:
    """The whole epoch's batches in order: a seeded permutation, without the last incomplete batch.

    Every step's gradient is over equally many samples; which are left out changes each epoch.
    """
    if not 1 <= batch_size <= count:
        raise InputError(f"batch_size is {batch_size}: choose 1 to the {count} training samples")
    order = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    starts = range(0, count - batch_size + 1, batch_size)
    return [[(epoch, index) for index in order[start : start + batch_size]] for start in starts]


def map_in_order(
    function: Callable[[Any], list], items: Sequence, accelerator: Accelerator
) -> list:
    """Apply `function`, which returns a list, to this process's share of `items`; join all.

    Every item is seen by exactly one process, so that counts add up to those of a single one.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    own = [(i, function(items[i])) for i in range(rank, len(items), world)]
    everything = gather_object(own) if world > 1 else own
    everything.sort(key=lambda pair: pair[0])
    return [result for _, results in everything for result in results]


def epoch_line(entry: dict[str, Any], epochs: int) -> str:
    """One line for a log: the epoch and its scalar values."""
    values = entry | {f"validation {k}": v for k, v in entry.get("validation", {}).items()}
    shown = [f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float)]
    return f"epoch {entry['epoch']}/{epochs}  " + "  ".join(shown)


@dataclass(eq=False)
class _Run:
    """The state that a checkpoint holds, and how it is saved and found again."""

    task: Task
    settings: Settings
    accelerator: Accelerator
    checkpoint: Path | None
    key: str

    def __post_init__(self) -> None:
        if self.checkpoint is not None and not self.key:
            raise InputError("key is empty: name the run whose state the checkpoint keeps")
        task, settings = self.task, self.settings
        first = epoch_batches(len(task.samples), settings.batch_size, settings.seed, 0)
        self.steps_an_epoch = len(first)
        optimizer, self.scheduler = _optimizer(task.model, settings, self.steps_an_epoch)
        self.model, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        self.history: list[dict[str, Any]] = []
        self._reset()
        if self.checkpoint is not None:
            self._find(self.checkpoint)
        self.clock = self.saved = time.perf_counter()

    @property
    def epoch(self) -> int:
        return len(self.history)

    def progress(self) -> tqdm:
        """A bar on a terminal, nothing in a log or a notebook."""
        total = self.settings.epochs * self.steps_an_epoch
        done = self.epoch * self.steps_an_epoch + self.steps
        hidden = not sys.stderr.isatty()
        return tqdm(total=total, initial=done, unit="step", disable=hidden, leave=False)

    def batches(self, epoch: int, workers: int | None) -> Iterator[dict[str, Any]]:
        """What is left of the epoch, on the device."""
        settings, samples = self.settings, self.task.samples
        workers = _workers(self.accelerator) if workers is None else workers
        batches = epoch_batches(len(samples), settings.batch_size, settings.seed, epoch)
        loader = DataLoader(
            samples,
            batch_sampler=_share(batches[self.steps :], self.accelerator),
            collate_fn=self.task.collate,
            num_workers=workers,
            timeout=LOADER_SECONDS if workers else 0,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # else each loader would draw from the global state
            pin_memory=self.accelerator.device.type == "cuda",
        )
        self.clock = time.perf_counter()
        for batch in loader:
            batch = send_to_device(batch, self.accelerator.device)
            self.waiting += time.perf_counter() - self.clock
            yield batch
            self.clock = time.perf_counter()

    def where(self, loss: Tensor, batch: dict[str, Any]) -> str:
        place = f"epoch {self.epoch + 1}, step {self.steps + 1}"
        ids = ", ".join(map(str, batch["id"]))
        return f"loss is {loss.item()} in {place}: lower the learning rate; batch: {ids}"

    def add(self, values: dict[str, Tensor]) -> None:
        """Count the step that was taken."""
        for name, value in values.items():
            value = value.detach()
            shares = self.accelerator.num_processes
            value = value.double() / shares if value.is_floating_point() else value.long()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1
        self.seconds += time.perf_counter() - self.clock

    def close_epoch(self) -> None:
        """Add the finished epoch to the history."""
        entry: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "samples": self.steps * self.settings.batch_size,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(self.seconds, 3),
            "seconds_waiting": round(self.waiting, 3),
        }
        for name, total in self._sums_of_all().items():
            entry[name] = (total / self.steps if total.is_floating_point() else total).tolist()
        unwrapped = self.accelerator.unwrap_model(self.model)
        for buffer in unwrapped.buffers():
            broadcast(buffer)  # BatchNorm's statistics differ, and the first process saves its
        if not all(own.isfinite().all() for own in unwrapped.state_dict().values()):
            fault = f"after epoch {entry['epoch']} the weights are not finite"
            raise FloatingPointError(f"{fault}: lower the learning rate")
        if self.task.after_epoch is not None:
            self.model.eval()
            entry |= self.task.after_epoch(unwrapped, entry["epoch"])
        self.history.append(entry)
        self._reset()
        log(epoch_line(entry, self.settings.epochs), self.accelerator)

    def save_when_due(self, interrupted: threading.Event, due: bool = False) -> None:
        """Save the state now and then; after a signal, save it and stop."""
        overdue = due or time.perf_counter() - self.saved > CHECKPOINT_SECONDS
        stop, overdue = _any_process(self.accelerator, interrupted.is_set(), overdue)
        if stop or overdue:
            self._save()
            self.saved = time.perf_counter()
        if stop:
            kept = f"state saved in {self.checkpoint}. Run the same command again to go on."
            lost = "nothing was saved, since no checkpoint was asked for"
            raise Interrupted(f"stopped; {kept if self.checkpoint else lost}")

    def _reset(self) -> None:
        self.steps, self.seconds, self.waiting, self.sums = 0, 0.0, 0.0, dict[str, Tensor]()

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        states, sums = gather_object([_random_states()]), self._sums_of_all()
        if not self.accelerator.is_main_process:
            return
        content = {
            "key": self.key,
            "history": self.history,
            "steps": self.steps,
            "seconds": self.seconds,
            "waiting": self.waiting,
            "sums": sums,
            "random": states,
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
        } | {name: part.state_dict() for name, part in self._stateful().items()}
        buffer = BytesIO()
        torch.save(content, buffer)
        # torch.load checks no checksum: a flipped bit would go on to other weights.
        digest = hashlib.sha256(buffer.getbuffer()).digest()
        write_atomically(self.checkpoint, digest + buffer.getvalue())

    def _find(self, checkpoint: Path) -> None:
        """Go on from the state in this file; or start anew, where it can be saved."""
        if checkpoint.exists():
            self._resume(checkpoint)
        elif self.accelerator.is_main_process:
            check_writable(checkpoint.parent)
            for other in _other_states(checkpoint):
                log(f"{other}: of other settings or another version, left aside", self.accelerator)

    def _resume(self, checkpoint: Path) -> None:
        content = checkpoint.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            fault = "damaged, or no checkpoint of hw3"
            raise InputError(f"{checkpoint}: {fault}; delete it to start over")
        state = torch.load(BytesIO(content[32:]), map_location="cpu", weights_only=True)
        if state["key"] != self.key:
            fault = "belongs to a run with other settings or data"
            raise InputError(f"{checkpoint}: {fault}; delete it to start over")
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        for name, part in self._stateful().items():
            if name in state:  # on another GPU there may not have been a scaler
                part.load_state_dict(state[name])
        for name in ("history", "steps", "seconds", "waiting"):
            setattr(self, name, state[name])
        self.sums = send_to_device(state["sums"], self.accelerator.device)
        if not self.accelerator.is_main_process:  # the first process goes on with those of all
            self.sums = {name: torch.zeros_like(total) for name, total in self.sums.items()}
        if len(state["random"]) == self.accelerator.num_processes:
            _set_random_states(state["random"][self.accelerator.process_index])
        log(f"going on from epoch {self.epoch + 1}, step {self.steps}", self.accelerator)

    def _sums_of_all(self) -> dict[str, Tensor]:
        return {name: self.accelerator.reduce(own, "sum") for name, own in self.sums.items()}

    def _stateful(self) -> dict[str, Any]:
        parts = {"optimizer": self.optimizer, "scheduler": self.scheduler}
        parts |= {"scaler": self.accelerator.scaler}
        return {name: part for name, part in parts.items() if part is not None}


def _optimizer(
    model: nn.Module, settings: Settings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
    """AdamW (Adam, as in the report, where there is no weight decay) and its schedule."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = settings.learning_rate
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=settings.weight_decay)
    if settings.schedule == "constant":
        return optimizer, None
    total = settings.epochs * steps
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total)


def _other_states(checkpoint: Path) -> list[Path]:
    """States of runs of the same name with another key, ten digits of which are in its name."""
    name = checkpoint.name.removesuffix(".checkpoint.pt")[:-10]
    digits = "[0-9a-f]" * 10
    found = checkpoint.parent.glob(f"{escape(name)}{digits}.checkpoint.pt")
    return sorted(own for own in found if own != checkpoint)


def _share(batches: list[list[SampleKey]], accelerator: Accelerator) -> list[list[SampleKey]]:
    """This process's part of every batch: together the processes see what one would see."""
    rank, world = accelerator.process_index, accelerator.num_processes
    if batches and len(batches[0]) % world:
        raise InputError(f"batch_size {len(batches[0])} does not divide by {world} processes")
    return [batch[rank::world] for batch in batches]


def _workers(accelerator: Accelerator) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(WORKERS, cores or 1) if accelerator.device.type == "cuda" else 0


def _ignore_interrupts(_worker: int) -> None:
    """Ctrl-C reaches every process; those that load go on until the state is saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _loader_faults_told() -> Iterator[None]:
    """Say in one line what a process that loads data has found, or that there is none any more."""
    try:
        yield
    except InputError as error:  # from another process it comes with all of its traceback
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None
    except (OSError, RuntimeError) as error:
        told = str(error).strip().splitlines() or [""]
        full = "DataLoader worker" in told[0] and re.search("No space|unable to|shared", told[-1])
        if not full and not told[0].startswith("DataLoader"):  # "... is killed", "timed out"
            raise
        remedy = "give /dev/shm more room (docker run --shm-size=4g), or choose --workers 0"
        raise InputError(f"{told[-1 if full else 0]}: {remedy}") from None


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


def log(line: str, accelerator: Accelerator) -> None:
    """Print a line once, above the bar; a notebook stays without it."""
    if accelerator.is_main_process and "ipykernel" not in sys.modules:
        tqdm.write(line)
