"""What both experiments do alike: start a record, find its run finished, or train and keep it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from hw3 import backbones, pictures, records, training, winograd
from hw3.backbones import load_weights, save_weights
from hw3.errors import InputError
from hw3.profiles import NAMED_WEIGHTS
from hw3.records import RunRecord

Kind = TypeVar("Kind")


class Settings(Protocol):
    """What `SegmentationSettings` and `DetectionSettings` have in common.

    Example:
        >>> from dataclasses import replace
        >>> from hw3.profiles import SMOKE
        >>> settings: Settings = replace(SMOKE.segmentation, epochs=3)
        >>> settings.epochs, settings.batch_size, settings.schedule
        (3, 8, 'constant')
    """

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

    Example:
        >>> from hw3.profiles import SMOKE
        >>> data = {"kind": "simulated", "fingerprint": "f00d"}
        >>> record = start_record("try", "unet", SMOKE.segmentation, data, [], "encoder_weights")
        >>> record.settings["model"], record.settings["epochs"], record.weights
        ('unet', 2, {'start': 'random'})
    """
    chosen = {"model": model} | asdict(settings)
    weights = {"start": chosen[weights_field]}
    if weights["start"] not in NAMED_WEIGHTS:
        path = Path(weights["start"]).expanduser()
        if not path.is_file():
            raise InputError(f"{weights_field}: {path} is no file; give one, or what --help lists")
        weights = {"start": path.name, "start_sha256": records.file_sha256(path)}
        chosen[weights_field] = path.name
    shared = [Path(own.__file__) for own in (backbones, pictures, training, winograd)]
    shared.append(Path(__file__))
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


def settings_of(record: RunRecord, kinds: dict[str, type[Kind]]) -> Kind:
    """The settings of a record, as the dataclass they were.

    Settings that are newer than the record have their defaults.

    Args:
        record: of a run of one of these models.
        kinds: dataclasses by the name of the model.

    Raises:
        InputError: if the record is of another model, or has settings that the dataclass has not.

    Example:
        >>> from hw3.profiles import SsdSettings
        >>> record = RunRecord("try", {"model": "unet"}, data={}, seed=0)
        >>> settings_of(record, {"ssd300": SsdSettings})
        Traceback (most recent call last):
            ...
        hw3.errors.InputError: record try: its model is unet, not ssd300
    """
    chosen = dict(record.settings)
    model = chosen.pop("model", None)
    if model not in kinds:
        raise InputError(f"record {record.name}: its model is {model}, not {' or '.join(kinds)}")
    if unknown := sorted(set(chosen) - {item.name for item in fields(kinds[model])}):
        fault = f"settings that this version does not know: {', '.join(unknown)}"
        raise InputError(f"record {record.name}: {fault}; train again, or use the record's commit")
    return kinds[model](**{k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()})


def kind_of(root: Path) -> str:
    """What a data set is: "simulated" where a simulator has left its mark, else "real".

    Example:
        >>> kind_of(folder)
        'real'
        >>> _ = (folder / ".simulated.json").write_text("{}")
        >>> kind_of(folder)
        'simulated'
    """
    places = (root / name / ".simulated.json" for name in ("", "kaggle_3m", "FullIJCNN2013"))
    return "simulated" if any(place.exists() for place in places) else "real"


def draw(members: Sequence[int] | Sequence[str], count: int, seed: int, field: str) -> list:
    """So many of the members at random, in order; a larger draw holds every smaller one.

    Args:
        members: ids.
        count: how many.
        seed: of the draw.
        field: the setting that says how many, to be named in the error.

    Raises:
        InputError: if there are not so many.

    Example:
        >>> small, large = (draw(range(600), n, seed=0, field="train_images") for n in (10, 30))
        >>> len(small), set(small) < set(large)
        (10, True)
    """
    if count > len(members):
        raise InputError(f"{field} is {count}, but there are only {len(members)}")
    drawn = np.random.default_rng(seed).permutation(np.array(members))
    return sorted(drawn[:count].tolist())


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

    Example:
        >>> def train(record, checkpoint):
        ...     record.history = [{"seconds": 1.5}]
        ...     return nn.Linear(2, 1)
        >>> record = RunRecord("line", settings={}, data={}, seed=0)
        >>> device = training.make_accelerator()
        >>> record, model = find_or_train(record, folder, device, lambda: nn.Linear(2, 1), train)
        >>> record.seconds_training, model.training
        (1.5, False)
        >>> sorted(path.name for path in folder.iterdir())
        ['line-.json', 'line-.safetensors']
    """
    weights = folder / f"{record.stem}.safetensors"
    if (found := records.find(folder, record)) and weights.exists():
        check_weights(found, weights)
        return found, trained(build(), weights, accelerator)
    checkpoint = folder / f"{record.stem}.checkpoint.pt"
    model = train(record, checkpoint)
    record.seconds_training = round(sum(entry["seconds"] for entry in record.history), 1)
    record.hardware["mixed_precision"] = accelerator.mixed_precision
    if accelerator.is_main_process:
        save_weights(model, weights)
        record.weights["sha256"] = records.file_sha256(weights)
        record.save(folder / f"{record.stem}.json")
        checkpoint.unlink(missing_ok=True)  # three times as large as the weights
    return record, model.eval()


def trained(model: nn.Module, weights: Path, accelerator: Accelerator) -> nn.Module:
    """The network with these weights, in evaluation mode, in the accelerator's precision.

    Args:
        model: of the right shape, with any weights.
        weights: safetensors file.
        accelerator: made for the run's `mixed_precision`.

    Example:
        >>> line = nn.Linear(2, 1, bias=False)
        >>> nn.init.constant_(line.weight, 3).tolist()
        [[3.0, 3.0]]
        >>> save_weights(line, folder / "line.safetensors")
        >>> model = nn.Linear(2, 1, bias=False)
        >>> trained(model, folder / "line.safetensors", training.make_accelerator()).weight.tolist()
        [[3.0, 3.0]]
    """
    load_weights(model, weights)
    return accelerator.prepare_model(model.eval(), evaluation_mode=True)


def check_weights(record: RunRecord, weights: Path) -> None:
    """Refuse a weights file that is not the one the record's run made.

    Raises:
        InputError: if there is no such file, or its content is another.

    Example:
        >>> record = RunRecord("line", settings={}, data={}, seed=0, weights={"sha256": "f00d"})
        >>> save_weights(nn.Linear(2, 1), folder / "line.safetensors")
        >>> check_weights(record, folder / "line.safetensors")
        Traceback (most recent call last):
            ...
        hw3.errors.InputError: ...line.safetensors: these are not the weights of record line
    """
    if not weights.is_file():
        raise InputError(
            f"{weights}: no such weights file; give --weights (train leaves it beside its record)"
        )
    if records.file_sha256(weights) != record.weights.get("sha256"):
        raise InputError(f"{weights}: these are not the weights of record {record.name}")


def read_all(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> dict[Path, np.ndarray]:
    """A user's images by path.

    Raises:
        InputError: with all faults: files that cannot be read, and equal names, whose results
            would overwrite each other.

    Example:
        >>> for name in ("a.png", "b.png"):
        ...     (folder / name).touch()
        >>> images = read_all([*folder.iterdir()], lambda path: np.zeros((2, 3)))
        >>> {path.name: image.shape for path, image in images.items()}
        {'a.png': (2, 3), 'b.png': (2, 3)}
    """
    images, faults = {}, []
    for path in paths:
        if any(path.stem == other.stem for other in images):
            faults.append(f"{path}: a second file named {path.stem}; rename one")
        if not path.is_file():
            faults.append(f"{path}: no such file; name images, FOLDER/* for those of a folder")
            continue
        try:
            images[path] = read(path)
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("; ".join(faults))
    return images


def outputs(paths: Sequence[Path], folder: Path, endings: Sequence[str]) -> dict[Path, list[Path]]:
    """Where the results of a user's files go: `<stem><ending>` in `folder`, for each of the files.

    Raises:
        InputError: if a result would overwrite one of the files.

    Example:
        >>> found = outputs([Path("a.png")], Path("to"), ["_signs.json", "_boxes.png"])
        >>> [path.as_posix() for path in found[Path("a.png")]]
        ['to/a_signs.json', 'to/a_boxes.png']
    """
    targets = {path: [folder / f"{path.stem}{ending}" for ending in endings] for path in paths}
    given = {path.resolve() for path in paths}
    for own in targets.values():
        for target in own:
            if target.resolve() in given:
                raise InputError(
                    f"{target}: a result would overwrite this file; choose another --to"
                )
    return targets


def optimiser(
    settings: Settings, parameters: list[nn.Parameter], samples: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
    """AdamW (Adam, as in the report, where there is no weight decay) and its schedule.

    Example:
        Two epochs of 28 // 8 = 3 steps are 6:

        >>> from dataclasses import replace
        >>> from hw3.profiles import SMOKE
        >>> settings = replace(SMOKE.segmentation, schedule="one_cycle")
        >>> optimizer, schedule = optimiser(settings, [nn.Parameter(torch.zeros(1))], samples=28)
        >>> schedule.total_steps
        6
    """
    rate = settings.learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=settings.weight_decay)
    if settings.schedule == "constant":
        return optimizer, None
    steps = settings.epochs * max(1, samples // settings.batch_size)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
