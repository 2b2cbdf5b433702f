"""Question 1 from data to record: prepare, train, score, find again."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hw3 import records, runs, training
from hw3.backbones import load_weights
from hw3.errors import InputError
from hw3.profiles import Profile, SegmentationSettings, data_folder
from hw3.records import RunRecord
from hw3.segmentation.augment import Augmentation
from hw3.segmentation.dataset import (
    SPLITS,
    LggDataset,
    SliceSamples,
    fetch_lgg,
    read_image,
    read_lgg,
)
from hw3.segmentation.losses import LOSSES, dice_loss
from hw3.segmentation.metrics import SliceCounts, count_pixels, dice, iou, scores
from hw3.segmentation.model import UNetVGG16
from hw3.segmentation.simulate import simulate_lgg
from hw3.style import PREDICTED_RGB
from hw3.winograd import use_winograd

DECIDING = ("augment", "dataset", "experiment", "losses", "metrics", "model")
"""Modules of this folder whose code decides what a run gives."""


def prepare(
    profile: Profile, source: str | None = None, size: int | None = None
) -> tuple[LggDataset, str]:
    """The data set of a profile, and its kind: "simulated" or "real".

    Simulated slices are made on the spot. Real ones are looked for in `source`, then in the data
    folder, then fetched from Kaggle.

    Args:
        profile: decides between the two, and the sizes.
        source: real data from elsewhere, see `hw3.segmentation.dataset.fetch_lgg`.
        size: side to decode to, if it is not the profile's `image_size`.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> dataset, kind = prepare(SMOKE)
        >>> len(dataset), kind
        (36, 'simulated')
    """
    folder, size = data_folder(), size or profile.segmentation.image_size
    if source is None and profile.simulated:
        version = records.code_sha256(Path(inspect.getfile(simulate_lgg)))[:8]  # no stale data
        root = simulate_lgg(
            folder / f"simulated-{profile.name}-{version}",
            patients=profile.patients,
            slices=profile.slices,
            size=profile.slice_size,
            seed=profile.segmentation.seed,
        )
    elif source is None and (folder / "kaggle_3m").is_dir():
        root = folder
    else:
        root = fetch_lgg(source or "kaggle", folder)
    return read_lgg(root, size=size, cache=folder / "cache"), runs.kind_of(root)


def run(
    settings: SegmentationSettings,
    dataset: LggDataset,
    *,
    kind: str,
    name: str,
    folder: Path,
    note: str = "",
    workers: int | None = None,
) -> tuple[RunRecord, UNetVGG16]:
    """Train and score, or find the same run finished in `folder`, or go on where it stopped.

    Args:
        settings: of the run.
        dataset: decoded at `settings.image_size`.
        kind: "simulated" or "real", as stated in the record.
        name: of the record.
        folder: for the record, the weights and the checkpoint.
        note: a remark on the data, kept in the record.
        workers: processes that load data, see `hw3.training.fit`.

    Returns:
        The record, and the trained model in evaluation mode.

    Example:
        >>> from dataclasses import replace
        >>> from hw3.profiles import SMOKE
        >>> dataset, kind = prepare(SMOKE)
        >>> settings = replace(SMOKE.segmentation, epochs=1)
        >>> record, model = run(settings, dataset, kind=kind, name="try", folder=folder)
        epoch 1/1  learning_rate 0.003  seconds ...  validation dice ...
        >>> {part: results["slices"] for part, results in record.results.items()}
        {'train': 28, 'validation': 4, 'test': 4}
    """
    settings.check()
    if dataset.images.shape[1] != settings.image_size:
        raise InputError(
            f"image_size is {settings.image_size}, but the data set was decoded at "
            f"{dataset.images.shape[1]}: read it again at the same size"
        )
    accelerator = training.make_accelerator(settings.mixed_precision)
    split = split_of(settings, dataset)
    data = {
        "kind": kind,
        "note": note,
        "fingerprint": dataset.fingerprint,
        "slices": len(dataset),
        "patients": len(np.unique(dataset.patient_ids)),
        "split": dataset.split_ids(split),
    }
    here = Path(__file__).parent
    sources = [here / f"{stem}.py" for stem in DECIDING]
    start = "weights" if settings.weights else "encoder_weights"
    record = runs.start_record(name, "unet", settings, data, sources, start)
    return runs.find_or_train(
        record,
        folder,
        accelerator,
        build=partial(build, settings, "random"),
        train=partial(_train, settings, dataset, split, accelerator, workers),
    )


def _train(
    settings: SegmentationSettings,
    dataset: LggDataset,
    split: dict[str, np.ndarray],
    accelerator: Accelerator,
    workers: int | None,
    record: RunRecord,
    checkpoint: Path,
) -> UNetVGG16:
    torch.manual_seed(settings.seed)
    if settings.weights:
        model = build(settings, "random")
        load_weights(model, Path(settings.weights).expanduser())
    else:
        model = build(settings, settings.encoder_weights)
    if len(split["train"]):
        record.history = _fit(
            settings, model, dataset, split, accelerator, workers, record.key, checkpoint
        )
    else:
        model = accelerator.prepare_model(model.eval(), evaluation_mode=True)
    _score(record, model, dataset, split, accelerator)
    return model


def _fit(
    settings: SegmentationSettings,
    model: UNetVGG16,
    dataset: LggDataset,
    split: dict[str, np.ndarray],
    accelerator: Accelerator,
    workers: int | None,
    key: str,
    checkpoint: Path,
) -> list[dict[str, Any]]:
    if not len(split["validation"]):
        fault = f"split is {settings.split}: it leaves no slices to validate on"
        raise InputError(f"{fault}; choose another split, or give more patients")
    augmentation = Augmentation(settings.seed, settings.without) if settings.augment else None
    samples = SliceSamples(
        dataset,
        split["train"],
        augmentation,
        crop_size=settings.crop_size,
        crops=settings.crops,
        tumour_share=settings.tumour_share,
        seed=settings.seed,
    )
    optimizer, scheduler = runs.optimiser(settings, model.trained_parameters(), len(samples))
    return training.fit(
        model,
        partial(train_step, loss=LOSSES[settings.loss]),
        samples,
        optimizer,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        accelerator=accelerator,
        scheduler=scheduler,
        validate=partial(_validate, settings, dataset, split["validation"], accelerator),
        workers=workers,
        checkpoint=checkpoint,
        key=key,
    )


def split_of(settings: SegmentationSettings, dataset: LggDataset) -> dict[str, np.ndarray]:
    """Indices of the slices of each part of the data, as the settings say.

    Example:
        >>> from dataclasses import replace
        >>> from hw3.profiles import SMOKE
        >>> dataset, _ = prepare(SMOKE)
        >>> settings = replace(SMOKE.segmentation, split="patient", train_patients=1)
        >>> {part: len(indices) for part, indices in split_of(settings, dataset).items()}
        {'train': 6, 'validation': 6, 'test': 6}
    """
    split = SPLITS[settings.split](dataset, settings.seed)
    if settings.train_patients is not None:
        ids = dataset.patient_ids[split["train"]]
        drawn = runs.draw(np.unique(ids), settings.train_patients, settings.seed, "train_patients")
        split["train"] = split["train"][np.isin(ids, drawn)]
    return split


def build(settings: SegmentationSettings, encoder_weights: str) -> UNetVGG16:
    """The network that the settings describe, with convolutions and a layout that are fast.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> build(SMOKE.segmentation, "random").head
        Conv2d(8, 1, kernel_size=(1, 1), stride=(1, 1))
    """
    model = UNetVGG16(encoder_weights, settings.decoder_channels, settings.width)
    use_winograd(model)
    return model.to(memory_format=torch.channels_last)


def train_step(model: nn.Module, batch: dict[str, Any], loss: Any) -> dict[str, Tensor]:
    """One forward pass: the loss, and the counts from which figure 1.4 is drawn.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> model = build(SMOKE.segmentation, "random")
        >>> sides = {"image": (2, 3, 32, 32), "mask": (2, 1, 32, 32)}
        >>> batch = {name: torch.zeros(shape, dtype=torch.uint8) for name, shape in sides.items()}
        >>> values = train_step(model, batch, loss=dice_loss)
        >>> values["counts"].shape, values["pixels"].item()
        (torch.Size([3]), 2048)
    """
    mask = batch["mask"]
    logits = model(to_unit_range(batch["image"]))
    with torch.no_grad():
        predicted, truth = logits > 0, mask > 0
        counts = torch.stack(
            [(predicted & truth).sum(), (predicted & ~truth).sum(), (~predicted & truth).sum()]
        )
    return {
        "loss": loss(logits, mask),
        "counts": counts,
        "pixels": torch.tensor(mask.numel(), device=mask.device),
    }


def to_unit_range(images: Tensor) -> Tensor:
    """(batch, 3, height, width) uint8 to float in [0, 1], channels last.

    Example:
        >>> to_unit_range(torch.full((1, 3, 1, 1), 51, dtype=torch.uint8)).flatten()
        tensor([0.2000, 0.2000, 0.2000])
    """
    return images.to(memory_format=torch.channels_last).float() / 255


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray, native: tuple[int, int]) -> np.ndarray:
    """Tumour probabilities at the native resolution.

    Args:
        model: in evaluation mode.
        images: (n, size, size, 3) uint8.
        native: height and width of the result; logits are interpolated to it.

    Returns:
        (n, height, width) float32 in [0, 1].

    Example:
        >>> from hw3.profiles import SMOKE
        >>> model = build(SMOKE.segmentation, "random").eval()
        >>> predict(model, np.zeros((1, 32, 32, 3), np.uint8), native=(64, 48)).shape
        (1, 64, 48)
    """
    return _to_native(_logits(model, images), native).sigmoid().cpu().numpy()


@torch.inference_mode()
def count(
    model: nn.Module,
    dataset: LggDataset,
    indices: np.ndarray,
    accelerator: Accelerator,
    *,
    batch_size: int = 16,
    loss: Callable[[Tensor, Tensor], Tensor] = dice_loss,
) -> tuple[SliceCounts, float]:
    """Count pixels at probability 0.5 for every slice, at native resolution, in order.

    Returns:
        The counts, and the mean over the slices of the loss of their batch (at the network's
        resolution), which is how a validation loss is commonly stated.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> dataset, _ = prepare(SMOKE)
        >>> model = build(SMOKE.segmentation, "random").eval()
        >>> counts, loss = count(model, dataset, np.array([0, 5]), training.make_accelerator())
        >>> counts.slice_indices.tolist(), counts.pixels
        ([1, 6], 4096)
    """
    native = dataset.native_masks.shape[1:]

    def count_batch(batch: np.ndarray) -> list[tuple[int, int, int, float]]:
        logits = _logits(model, dataset.images[batch])
        masks = torch.from_numpy(dataset.masks[batch])[:, None].to(logits.device)
        batch_loss = loss(logits, masks).item()
        predicted = (_to_native(logits, native) > 0).cpu().numpy()
        pairs = zip(predicted, dataset.native_masks[batch], strict=True)
        return [(*count_pixels(*pair), batch_loss) for pair in pairs]

    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    rows = np.array(training.map_in_order(count_batch, batches, accelerator)).reshape(-1, 4)
    counts = SliceCounts(
        dataset.patient_ids[indices],
        dataset.slice_indices[indices],
        *rows[:, :3].T.astype(np.int64),
        pixels=native[0] * native[1],
    )
    return counts, float(rows[:, 3].mean())


def _logits(model: nn.Module, images: np.ndarray) -> Tensor:
    """(n, 1, size, size) float32 logits of (n, size, size, 3) uint8 images."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device)
    return model(to_unit_range(batch)).float()


def _to_native(logits: Tensor, native: tuple[int, int]) -> Tensor:
    """(n, height, width) logits at the native resolution."""
    if logits.shape[-2:] != native:
        logits = interpolate(logits, size=native, mode="bilinear", align_corners=False)
    return logits[:, 0]


def ranked_examples(
    dataset: LggDataset, counts: SliceCounts, with_tumour: int = 7, without: int = 3
) -> np.ndarray:
    """Slices to look at, chosen by a rule: evenly spaced ranks, best and worst included.

    Args:
        dataset: holds the slices that were counted.
        counts: of some of its slices.
        with_tumour: how many slices with tumour, by falling Dice.
        without: how many slices without, by rising number of falsely marked pixels.

    Returns:
        Their indices in the data set; fewer where there are not so many.

    Example:
        Slices 0 and 2 hold tumour, and 2 is segmented better:

        >>> from hw3.profiles import SMOKE
        >>> dataset, _ = prepare(SMOKE)
        >>> names = (dataset.patient_ids[:3], dataset.slice_indices[:3])
        >>> numbers = np.array([[5, 0, 9], [0, 3, 0], [5, 0, 1]])
        >>> counts = SliceCounts(*names, *numbers, pixels=4096)
        >>> ranked_examples(dataset, counts).tolist()
        [2, 0, 1]
    """
    numbers = {dataset.slice_id(index): index for index in range(len(dataset))}
    slice_dice = dice(counts.true_positive, counts.false_positive, counts.false_negative)
    chosen = []
    for own, badness, wanted in (
        (np.flatnonzero(counts.tumour), -slice_dice, with_tumour),
        (np.flatnonzero(~counts.tumour), counts.false_positive, without),
    ):
        ranked = own[np.argsort(badness[own], kind="stable")]
        ranks = np.linspace(0, len(ranked) - 1, min(wanted, len(ranked))).round().astype(int)
        chosen += ranked[ranks].tolist()
    ids = (f"{counts.patient_ids[i]}_{counts.slice_indices[i]}" for i in chosen)
    return np.array([numbers[slice_id] for slice_id in ids], dtype=np.int64)


def derive_results(record: RunRecord) -> dict[str, Any]:
    """Every entry of `record.results`, computed anew from `record.evidence`.

    Example:
        >>> columns = (["a", "b"], [1, 1], [6, 0], [2, 3], [2, 0])
        >>> own = SliceCounts(*map(np.array, columns), pixels=100).to_evidence()
        >>> evidence = {"pixels_per_slice": 100, "train": own, "validation": own, "test": own}
        >>> record = RunRecord("unet", {"batch_size": 2}, data={}, seed=0, evidence=evidence)
        >>> round(derive_results(record)["test"]["dice"], 3)
        0.632
    """
    pixels, batch_size = record.evidence["pixels_per_slice"], record.settings["batch_size"]
    counts = {
        part: SliceCounts.from_evidence(record.evidence[part], pixels)
        for part in ("train", "validation", "test")
    }
    return {part: scores(own, batch_size=batch_size) for part, own in counts.items() if len(own)}


def settings_of(record: RunRecord) -> SegmentationSettings:
    """The settings of a record, as the dataclass they were; an InputError if not a U-Net's.

    Example:
        >>> chosen = {"model": "unet", "image_size": 128, "decoder_channels": [64, 48, 32, 24]}
        >>> settings_of(RunRecord("try", chosen, data={}, seed=0)).decoder_channels
        (64, 48, 32, 24)
    """
    return runs.settings_of(record, {"unet": SegmentationSettings})


def restore(
    record: RunRecord, source: str, weights: Path
) -> tuple[nn.Module, LggDataset, dict[str, np.ndarray], Accelerator]:
    """What a record's run ended with: its model, ready to predict, its data and their split.

    Args:
        record: of the run.
        source: real data, see `hw3.segmentation.dataset.fetch_lgg`.
        weights: the file that the run made.

    Raises:
        InputError: if the data or the weights are not those of the record.

    Example:
        >>> from dataclasses import replace
        >>> from hw3.profiles import SMOKE
        >>> source = simulate_lgg(folder, patients=1, slices=10, size=32, seed=0)
        >>> dataset = read_lgg(source, size=32, cache=folder)
        >>> settings = replace(SMOKE.segmentation, epochs=1)
        >>> record, _ = run(settings, dataset, kind="simulated", name="try", folder=folder)
        epoch 1/1  learning_rate 0.003  seconds ...
        >>> weights = folder / f"{record.stem}.safetensors"
        >>> model, dataset, split, _ = restore(record, str(source), weights)
        >>> model.training, {part: len(indices) for part, indices in split.items()}
        (False, {'train': 8, 'validation': 1, 'test': 1})
    """
    runs.check_weights(record, weights)
    settings, folder = settings_of(record), data_folder()
    dataset = read_lgg(fetch_lgg(source, folder), size=settings.image_size, cache=folder / "cache")
    if dataset.fingerprint != record.data["fingerprint"]:
        raise InputError(f"{source}: these are not the data of record {record.name}")
    accelerator = training.accelerator_to_predict(settings.mixed_precision)
    model = runs.trained(build(settings, "random"), weights, accelerator)
    return model, dataset, split_of(settings, dataset), accelerator


def predict_evidence(record: RunRecord, source: str, weights: Path) -> dict[str, Any]:
    """The evidence of a record, predicted anew on the real data in `source`.

    Raises:
        InputError: if the data or the weights are not those of the record.

    Example:
        >>> from dataclasses import replace
        >>> from hw3.profiles import SMOKE
        >>> source = simulate_lgg(folder, patients=1, slices=10, size=32, seed=0)
        >>> dataset = read_lgg(source, size=32, cache=folder)
        >>> settings = replace(SMOKE.segmentation, epochs=1)
        >>> record, _ = run(settings, dataset, kind="simulated", name="try", folder=folder)
        epoch 1/1  learning_rate 0.003  seconds ...
        >>> found = predict_evidence(record, str(source), folder / f"{record.stem}.safetensors")
        >>> sorted(found), found["pixels_per_slice"]
        (['pixels_per_slice', 'test', 'train', 'validation'], 1024)
    """
    return _evidence(*restore(record, source, weights))


def predict_files(
    paths: Sequence[Path], record: RunRecord, weights: Path, folder: Path
) -> Iterator[Path]:
    """Segment image files of any size and write a mask and an overlay for each.

    Args:
        paths: TIFF or PNG, uint8, (height, width, 3) or (height, width): a single channel stands
            for all three, as where LGG lacks a sequence.
        record: of the run that made the weights.
        weights: safetensors file.
        folder: for `<stem>_predicted.png` (0 and 255) and `<stem>_overlay.png` (outline).

    Yields:
        Each file written.

    Raises:
        InputError: for what cannot be read or would be overwritten, weights of another run, and
            LGG's `<slice>_mask.tif`, which a pattern for a patient's files takes in.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> settings, weights = SMOKE.segmentation, folder / "try.safetensors"
        >>> data = {"fingerprint": "f00d"}
        >>> record = runs.start_record("try", "unet", settings, data, [], "encoder_weights")
        >>> runs.save_weights(build(settings, "random"), weights)
        >>> record.weights["sha256"] = records.file_sha256(weights)
        >>> _ = cv2.imwrite(str(folder / "slice.png"), np.zeros((40, 60, 3), np.uint8))
        >>> [path.name for path in predict_files([folder / "slice.png"], record, weights, folder)]
        ['slice_predicted.png', 'slice_overlay.png']
    """
    if masks := [path for path in paths if path.stem.endswith("_mask")]:
        raise InputError(f"{masks[0]}: by its name a mask of LGG; name the slices alone")
    settings = settings_of(record)
    side = (settings.image_size, settings.image_size)
    runs.check_weights(record, weights)
    images = runs.read_all(paths, read_image)
    targets = runs.outputs(paths, folder, ("_predicted.png", "_overlay.png"))
    accelerator = training.accelerator_to_predict(settings.mixed_precision)
    model = runs.trained(build(settings, "random"), weights, accelerator)
    folder.mkdir(parents=True, exist_ok=True)
    for path, image in images.items():
        resized = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
        mask = (predict(model, resized[None], image.shape[:2])[0] > 0.5).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        overlay = cv2.drawContours(image.copy(), outlines, -1, PREDICTED_RGB, 1)
        for target, picture in zip(targets[path], (255 * mask, overlay[..., ::-1]), strict=True):
            records.write_atomically(target, cv2.imencode(".png", picture)[1].tobytes())
            yield target


def _validate(
    settings: SegmentationSettings,
    dataset: LggDataset,
    indices: np.ndarray,
    accelerator: Accelerator,
    model: nn.Module,
) -> dict[str, Any]:
    loss, batch_size = LOSSES[settings.loss], settings.batch_size
    counts, value = count(model, dataset, indices, accelerator, batch_size=batch_size, loss=loss)
    result = scores(counts, batch_size=batch_size)
    kept = ("dice", "iou", "accuracy", "dice_batch_mean", "iou_batch_mean")
    if not math.isfinite(value):  # the last step of an epoch may have ruined the weights
        raise FloatingPointError(f"the validation loss is {value}: lower the learning rate")
    return {"validation": {"loss": value} | {name: result[name] for name in kept}}


def _score(
    record: RunRecord,
    model: nn.Module,
    dataset: LggDataset,
    split: dict[str, np.ndarray],
    accelerator: Accelerator,
) -> None:
    """Fill in the record's results, evidence and times. The only place that reads the test part."""
    scored = sum(map(len, split.values()))
    if not scored:
        raise InputError(f"split is {record.settings['split']}: it leaves no slices to score")
    clock = perf_counter()
    record.evidence = _evidence(model, dataset, split, accelerator)
    record.seconds_per_image = round((perf_counter() - clock) / scored, 5)
    record.results = derive_results(record)
    for entry in record.history:
        counts, total = entry.pop("counts"), entry.pop("pixels")
        entry["train"] = {
            "loss": entry.pop("loss"),
            "dice": float(dice(*counts)),
            "iou": float(iou(*counts)),
            "accuracy": 1 - (counts[1] + counts[2]) / total,
        }


def _evidence(
    model: nn.Module, dataset: LggDataset, split: dict[str, np.ndarray], accelerator: Accelerator
) -> dict[str, Any]:
    counts = {
        part: count(model, dataset, indices, accelerator)[0].to_evidence() if len(indices) else {}
        for part, indices in split.items()
    }
    return {"pixels_per_slice": dataset.native_masks[0].size} | counts
