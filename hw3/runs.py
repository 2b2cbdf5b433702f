"""What both experiments do alike: start a record, find its run finished, or train and keep it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from hw3 import backbones, records, training
from hw3.backbones import load_weights, save_weights
from hw3.errors import InputError
from hw3.records import RunRecord


class Settings(Protocol):
    """What `SegmentationSettings` and `DetectionSettings` have in common."""

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    schedule: str


def start_record(
    name: str,
    model: str,
    settings: Any,
    data: dict[str, Any],
    sources: list[Path],
    weights_field: str,
) -> RunRecord:
    """A record without results yet, with the key by which its run is found again.

    Args:
        name: of the run.
        model: unet, faster-rcnn or ssd300.
        settings: dataclass.
        data: for the record; `fingerprint` is part of the key.
        sources: code files that decide the result.
        weights_field: the setting that says how the network starts. A file is recorded by name
            and content, never by a path on somebody's machine.
    """
    settings.check()
    chosen = {"model": model} | asdict(settings)
    weights = {"start": chosen[weights_field]}
    if weights["start"] not in ("coco", "imagenet", "random"):
        path = Path(weights["start"]).expanduser()
        if not path.is_file():
            raise InputError(
                f"{weights_field}: {path} is no file; give one, or a name (see --help)"
            )
        weights = {"start": path.name, "start_sha256": records.file_sha256(path)}
        chosen[weights_field] = path.name
    shared = [Path(backbones.__file__), Path(training.__file__), Path(__file__)]
    key = records.run_key([chosen, weights], data["fingerprint"], [*sources, *shared])
    return RunRecord(
        name=name,
        settings=chosen,
        data=data,
        seed=settings.seed,
        key=key,
        weights=weights,
        **records.provenance(),
    )


def find_or_train(
    record: RunRecord,
    folder: Path,
    accelerator: Accelerator,
    build: Callable[[], nn.Module],
    train: Callable[[RunRecord, Path], nn.Module],
) -> tuple[RunRecord, nn.Module]:
    """The finished run of this record if `folder` holds it; else train, and keep the result.

    Args:
        record: from `start_record`.
        folder: for record, weights and checkpoint.
        accelerator: knows the device.
        build: makes the network, with any weights.
        train: fills in the record, given a checkpoint's path, and returns the trained network.

    Returns:
        The complete record, and the network in evaluation mode on the accelerator's device.
    """
    weights = folder / f"{record.stem}.safetensors"
    if (found := records.find(folder, record)) and weights.exists():
        return found, trained(build(), weights, accelerator)
    model = train(record, folder / f"{record.stem}.checkpoint.pt")
    record.seconds_training = round(sum(entry["seconds"] for entry in record.history), 1)
    if accelerator.is_main_process:
        save_weights(model, weights)
        record.weights["sha256"] = records.file_sha256(weights)
        record.save(folder / f"{record.stem}.json")
    return record, model.eval()


def trained(model: nn.Module, weights: Path, accelerator: Accelerator) -> nn.Module:
    """The network with these weights, in evaluation mode, in the precision it was trained in.

    Args:
        model: of the right shape, with any weights.
        weights: safetensors file.
        accelerator: made for the run's `mixed_precision`.
    """
    load_weights(model, weights)
    return accelerator.prepare_model(model.eval(), evaluation_mode=True)


def check_weights(record: RunRecord, weights: Path) -> None:
    """Refuse a weights file that is not the one the record's run made.

    Raises:
        InputError: if there is no such file, or its content is another.
    """
    if not weights.is_file():
        raise InputError(f"{weights}: no such weights file; give --weights")
    if records.file_sha256(weights) != record.weights["sha256"]:
        raise InputError(f"{weights}: these are not the weights of record {record.name}")


def read_all(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> dict[Path, np.ndarray]:
    """A user's images by path.

    Raises:
        InputError: with all faults: files that cannot be read, and equal names, whose results
            would overwrite each other.
    """
    images, faults = {}, []
    for path in paths:
        if any(path.stem == other.stem for other in images):
            faults.append(f"{path}: a second file named {path.stem}; rename one")
        try:
            images[path] = read(path)
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("; ".join(faults))
    return images


def optimiser(
    settings: Settings, parameters: list[nn.Parameter], samples: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
    """AdamW (Adam, as in the report, where there is no weight decay) and its schedule."""
    rate = settings.learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=settings.weight_decay)
    if settings.schedule == "constant":
        return optimizer, None
    steps = settings.epochs * max(1, samples // settings.batch_size)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
