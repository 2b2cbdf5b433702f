"""Question 1 from data to record: prepare, train, score, find again, predict."""

import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal, Self

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hw3 import __version__, records, training
from hw3.backbones import load_state, read_state
from hw3.data import PREDICTED_RGB, InputError, read_picture
from hw3.records import RunRecord, check_weights, checked, keep, trained
from hw3.segmentation import lgg
from hw3.segmentation.lgg import LggDataset
from hw3.segmentation.losses import LOSSES, dice_loss
from hw3.segmentation.metrics import SliceCounts, count_pixels, dice, iou, scores
from hw3.segmentation.model import UNetVGG16
from hw3.segmentation.samples import SliceSamples
from hw3.settings import Count, Profile, SegmentationSettings, data_folder
from hw3.simulated.brains import simulate_lgg

PARTS = ("train", "validation", "test")
ENDINGS = ("_predicted.png", "_overlay.png")
"""Of the files that `look` fills."""
VALIDATED = ("dice", "iou", "accuracy", "dice_batch_mean", "iou_batch_mean")
BATCH = 16
"""Slices predicted at once."""
ENCODER_NORMS = "encoder_norms"
"""In a weights file without the encoder: by what that of the run is known."""
Number = Annotated[int, Field(ge=0, le=2**31, strict=True)]


class Data(BaseModel):
    """What is read from a record's data: the slices of each patient in each part."""

    fingerprint: str
    split: dict[Literal["train", "validation", "test"], dict[str, list[Number]]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = [(p, n) for part in self.split.values() for p, own in part.items() for n in own]
        if len({*named}) < len(named):
            raise ValueError("split: a slice is there twice")
        return self


class Counts(BaseModel):
    """Counted pixels of one patient's slices."""

    slice_indices: list[Number]
    true_positive: list[Number]
    false_positive: list[Number]
    false_negative: list[Number]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({len(column) for _, column in self}) > 1:
            raise ValueError("its columns differ in length")
        return self


class Evidence(BaseModel):
    """What a record's results are derived from."""

    pixels_per_slice: Annotated[Number, Field(gt=0)]
    train: dict[str, Counts]
    validation: dict[str, Counts]
    test: dict[str, Counts]


class Scoring(BaseModel):
    """What is read from a record's settings."""

    batch_size: Count


def prepare(
    profile: Profile, source: str | None = None, settings: SegmentationSettings | None = None
) -> LggDataset:
    """The data set of a profile: simulated on the spot, or the real one, found or fetched.

    Args:
        profile: decides between the two, and the sizes.
        source: real data from elsewhere, see `hw3.segmentation.lgg.fetch_lgg`.
        settings: whose `image_size` slices are decoded to; the profile's if not given.

    Example:
        >>> from hw3.settings import SMOKE
        >>> len(prepare(SMOKE)), prepare(SMOKE).kind
        (36, 'simulated')
    """
    folder = data_folder()
    if source is None and profile.simulated:
        root = simulate_lgg(folder / f"simulated-{profile.name}-{__version__}", **profile.brains)
    elif source is None and (folder / "kaggle_3m").is_dir():
        root = folder
    else:
        root = lgg.fetch_lgg(source or "kaggle", folder)
    size = settings.image_size if settings else profile.sizes.get("unet", {}).get("image_size", 256)
    return lgg.read_lgg(root, size=size, cache=folder / "cache")


def run(
    settings: SegmentationSettings,
    dataset: LggDataset,
    folder: Path,
    name: str = "unet",
    note: str = "",
    workers: int | None = None,
) -> tuple[RunRecord, UNetVGG16]:
    """Train and score, or find the same run finished in `folder`, or go on where it stopped.

    Returns:
        The record, and the trained model in evaluation mode.

    Example:
        >>> from hw3.settings import SMOKE, recipe
        >>> os.environ["HW3_PROFILE"] = "smoke"
        >>> record, model = run(recipe("unet").but(epochs=1), prepare(SMOKE), folder)
        epoch 1/1  learning_rate ...  seconds ...  validation dice ...
        >>> {part: results["slices"] for part, results in record.results.items()}
        {'train': 28, 'validation': 4, 'test': 4}
    """
    if dataset.images.shape[1] != settings.image_size:
        raise InputError(
            f"image_size is {settings.image_size}, but the data set was decoded at "
            f"{dataset.images.shape[1]}: read it again at the same size"
        )
    accelerator = training.make_accelerator(settings.mixed_precision)
    split = lgg.split(dataset, settings.split, settings.seed)
    data = {
        "kind": dataset.kind,
        "note": note,
        "fingerprint": dataset.fingerprint,
        "slices": len(dataset),
        "patients": len(np.unique(dataset.patient_ids)),
        "split": dataset.split_ids(split),
    }
    record = records.start(name, settings, settings.encoder_weights, data)
    if finished := records.finished(record, folder):
        return finished, trained(build(settings), record.weights_in(folder), accelerator)

    torch.manual_seed(settings.seed)
    task = training.Task(
        build(settings, settings.encoder_weights),
        SliceSamples(dataset, split["train"], settings),
        lambda model, batch: train_step(model, batch, LOSSES[settings.loss]),
    )

    def validate(model: nn.Module, _epoch: int) -> dict[str, Any]:
        counts, loss = count(model, dataset, split["validation"], accelerator, settings)
        if not math.isfinite(loss):  # the last step of an epoch may have ruined the weights
            raise FloatingPointError(f"the validation loss is {loss}: lower the learning rate")
        result = scores(counts, batch_size=settings.batch_size)
        return {"validation": {"loss": loss} | {name: result[name] for name in VALIDATED}}

    task.after_epoch = validate if len(split["validation"]) else None
    checkpoint = folder / f"{record.stem}.checkpoint.pt"
    record.history = training.fit(task, settings, accelerator, checkpoint, record.key, workers)
    for entry in record.history:
        counts, total = entry.pop("counts"), entry.pop("pixels")
        entry["train"] = {
            "loss": entry.pop("loss"),
            "dice": float(dice(*counts)),
            "iou": float(iou(*counts)),
            "accuracy": 1 - (counts[1] + counts[2]) / total,
        }
    clock = perf_counter()  # from here on, and here alone, the test part is read
    record.evidence = _evidence(task.model, dataset, split, accelerator)
    record.seconds_per_image = round((perf_counter() - clock) / len(dataset), 5)
    record.results = derive_results(record)
    keep(record, task.model, folder, accelerator)
    return record, task.model


def build(settings: SegmentationSettings, encoder_weights: str = "random") -> UNetVGG16:
    """The network that the settings describe, in the faster layout."""
    model = UNetVGG16(encoder_weights, settings.decoder_channels, settings.width)
    return model.to(memory_format=torch.channels_last)


def train_step(model: nn.Module, batch: dict[str, Any], loss: Callable) -> dict[str, Tensor]:
    """One forward pass: the loss, and the counts from which figure 1.4 is drawn."""
    mask = batch["mask"]
    logits = model(to_unit_range(batch["image"]))
    with torch.no_grad():
        predicted, truth = logits > 0, mask > 0
        kinds = (predicted & truth, predicted & ~truth, ~predicted & truth)
        counts = torch.stack([kind.sum() for kind in kinds])
    pixels = torch.tensor(mask.numel(), device=mask.device)
    return {"loss": loss(logits, mask), "counts": counts, "pixels": pixels}


def to_unit_range(images: Tensor) -> Tensor:
    """(batch, 3, height, width) uint8 to float in [0, 1], channels last."""
    return images.to(memory_format=torch.channels_last).float() / 255


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray, native: tuple[int, int]) -> np.ndarray:
    """Tumour probabilities (n, height, width) at the native resolution.

    Args:
        model: in evaluation mode.
        images: (n, size, size, 3) uint8.
        native: height and width of the result; logits are interpolated to it.

    Example:
        >>> from hw3.settings import SegmentationSettings
        >>> model = build(SegmentationSettings(width=0.25, decoder_channels=(8, 8, 8, 8))).eval()
        >>> predict(model, np.zeros((1, 32, 32, 3), np.uint8), native=(64, 48)).shape
        (1, 64, 48)
    """
    return _to_native(_logits(model, images), native).sigmoid().cpu().numpy()


def segment(settings: SegmentationSettings, model: nn.Module, image: np.ndarray) -> np.ndarray:
    """Tumour probabilities (height, width) of one image (height, width, 3) uint8 of any size."""
    side = (settings.image_size, settings.image_size)
    resized = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
    return predict(model, resized[None], image.shape[:2])[0]


@torch.inference_mode()
def count(
    model: nn.Module,
    dataset: LggDataset,
    indices: np.ndarray,
    accelerator: Accelerator,
    settings: SegmentationSettings | None = None,
) -> tuple[SliceCounts, float]:
    """Pixels of each slice at probability 0.5 and native resolution, in order; the mean loss.

    The loss is a mean over slices of that of their batch, at the network's resolution, as
    validation losses are commonly stated.
    """
    native = dataset.native_masks.shape[1:]
    loss = LOSSES[settings.loss] if settings else dice_loss
    size = settings.batch_size if settings else BATCH

    def count_batch(batch: np.ndarray) -> list[tuple[int, int, int, float]]:
        logits = _logits(model, dataset.images[batch])
        masks = torch.from_numpy(dataset.masks[batch])[:, None].to(logits.device)
        batch_loss = loss(logits, masks).item()
        predicted = (_to_native(logits, native) > 0).cpu().numpy()
        pairs = zip(predicted, dataset.native_masks[batch], strict=True)
        return [(*count_pixels(*pair), batch_loss) for pair in pairs]

    batches = [indices[start : start + size] for start in range(0, len(indices), size)]
    rows = np.array(training.map_in_order(count_batch, batches, accelerator)).reshape(-1, 4)
    counts = SliceCounts(
        dataset.patient_ids[indices],
        dataset.slice_indices[indices],
        *rows[:, :3].T.astype(np.int64),
        pixels=native[0] * native[1],
    )
    return counts, float(rows[:, 3].mean())


def derive_results(record: RunRecord) -> dict[str, Any]:
    """Every entry of `record.results`, from the evidence; InputError if that is not the split's."""
    evidence = checked(record, Evidence, "evidence").model_dump()
    split = checked(record, Data, "data").split
    batch_size = checked(record, Scoring, "settings").batch_size
    results = {}
    for part in PARTS:
        counts = SliceCounts.from_evidence(evidence[part], evidence["pixels_per_slice"])
        counted = counts.true_positive + counts.false_positive + counts.false_negative
        if (counted > counts.pixels).any():
            raise InputError(f"record {record.name}: evidence.{part} exceeds pixels_per_slice")
        slices = {patient: own["slice_indices"] for patient, own in evidence[part].items()}
        if slices != split.get(part):
            fault = f"evidence.{part} is not of the slices that data.split.{part} names"
            raise InputError(f"record {record.name}: {fault}")
        if slices:
            results[part] = scores(counts, batch_size=batch_size)
    return results


def headline(record: RunRecord) -> str:
    """What a run reached, for the terminal."""
    return "\n".join(
        f"{part}: dice {own['dice']:.4f}  iou {own['iou']:.4f}"
        for part, own in record.results.items()
    )


def restore(
    record: RunRecord, source: str, weights: Path
) -> tuple[nn.Module, LggDataset, Accelerator]:
    """A run's model, ready to predict, and its data; InputError if either is not the record's."""
    check_weights(record, weights)
    settings, folder = records.settings_of(record, SegmentationSettings), data_folder()
    root = lgg.fetch_lgg(source, folder)
    dataset = lgg.read_lgg(root, size=settings.image_size, cache=folder / "cache")
    if dataset.fingerprint != checked(record, Data, "data").fingerprint:
        raise InputError(f"{source}: these are not the data of record {record.name}")
    accelerator = training.accelerator_to_predict(settings.mixed_precision)
    return trained(build(settings), weights, accelerator), dataset, accelerator


def predict_evidence(record: RunRecord, source: str, weights: Path) -> dict[str, Any]:
    """The evidence of a record, predicted anew on the real data in `source`."""
    model, dataset, accelerator = restore(record, source, weights)
    slices = checked(record, Data, "data").split
    split = {part: dataset.indices_of(slices.get(part, {})) for part in PARTS}
    return _evidence(model, dataset, split, accelerator)


def load(
    path: Path, weights: Path | None = None, encoder_weights: str = "imagenet"
) -> tuple[SegmentationSettings, nn.Module]:
    """A trained network, ready to predict in float32, and its settings.

    Args:
        path: of the record of the run that made the weights, see also `hw3.records.shipped`.
        weights: safetensors file; the one beside the record if not given.
        encoder_weights: for a file without the frozen VGG16, as the one of this package; see
            `hw3.backbones.vgg16_features`. An InputError if it is not what the run had.
    """
    record, weights = records.load(path), weights or path.with_suffix(".safetensors")
    settings = records.settings_of(record, SegmentationSettings)
    check_weights(record, weights)
    state = read_state(weights)
    norms = state.pop(ENCODER_NORMS, None)
    if norms is None and encoder_weights != "imagenet":
        raise InputError(f"{weights} holds its encoder: leave out {encoder_weights}")
    model = build(settings, "random" if norms is None else encoder_weights)
    if norms is not None:
        state |= {f"encoder.{name}": value for name, value in model.encoder.state_dict().items()}
        if not torch.allclose(encoder_norms(state), norms, rtol=1e-3):
            remedy = "give torchvision's VGG16_Weights.IMAGENET1K_FEATURES"
            fault = f"--encoder-weights is {encoder_weights}, not the encoder that the run had"
            raise InputError(f"{fault}; {remedy}")
    load_state(model, state, weights)
    return settings, model.eval().to(training.processes().device)


def encoder_norms(state: dict[str, Tensor]) -> Tensor:
    """The norm of each of the encoder's convolutions, (13,) float32."""
    kernels = [state[own] for own in sorted(state) if own.startswith("encoder.")]
    kernels = [own for own in kernels if own.dim() > 1]
    return torch.stack([kernel.float().norm() for kernel in kernels])


def look(
    settings: SegmentationSettings, model: nn.Module, path: Path, _number: int = 0
) -> tuple[bytes, ...]:
    """PNG files of a picture's mask (0 and 255) and of its outline; see `ENDINGS`."""
    image = read_picture(path)
    mask = (segment(settings, model, image) > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    line = max(1, round(max(image.shape) / 500))  # seen when the whole slice fits a screen
    overlay = cv2.drawContours(image.copy(), outlines, -1, PREDICTED_RGB, line)
    return tuple(cv2.imencode(".png", own)[1].tobytes() for own in (255 * mask, overlay[..., ::-1]))


def _evidence(
    model: nn.Module, dataset: LggDataset, split: dict[str, np.ndarray], accelerator: Accelerator
) -> dict[str, Any]:
    counts = {
        part: count(model, dataset, indices, accelerator)[0].to_evidence() if len(indices) else {}
        for part, indices in split.items()
    }
    return {"pixels_per_slice": dataset.native_masks[0].size} | counts


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
