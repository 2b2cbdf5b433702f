"""Question 2 from data to record: prepare, train, detect, score, find again, predict."""

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Self

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from hw3 import __version__, records, training
from hw3.backbones import WEIGHTS, load_weights
from hw3.data import PREDICTED_RGB, InputError, read_picture
from hw3.detection import ap, gtsdb
from hw3.detection.gtsdb import GROUPS, GtsdbDataset
from hw3.detection.models import Detections, build, predict
from hw3.detection.samples import CropSamples, collate
from hw3.detection.tiles import TILE, distinct, predict_tiled
from hw3.records import RunRecord, check_weights, checked, keep, trained
from hw3.settings import DetectionSettings, FasterRcnnSettings, Profile, SsdSettings, data_folder
from hw3.simulated.roads import simulate_gtsdb

KINDS = (FasterRcnnSettings, SsdSettings)
ENDINGS = ("_signs.json", "_boxes.png")
"""Of the files that `look` fills."""
DRAWN_SCORE = 0.5
"""Score from which a detection is drawn into a picture of one's own."""
LARGE_SIGN = 40
"""Pixels from which a sign is seen well enough in a smaller copy of a picture."""
MAX_GRADIENT_NORM = 5.0
Label = Annotated[int, Field(ge=1, le=len(GROUPS), strict=True)]
ImageId = Annotated[int, Field(ge=0, le=2**31, strict=True)]
Place = Annotated[float, Field(ge=-1e6, le=1e6, strict=True)]
Side = Annotated[float, Field(ge=0, le=1e6, strict=True)]


class Split(BaseModel):
    """Which images are trained on, and which are tested."""

    train: list[ImageId] = []
    test: Annotated[list[ImageId], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({*self.train, *self.test}) < len(self.train) + len(self.test):
            raise ValueError("an image is there twice")
        return self


class Data(BaseModel):
    """What is read from a record's data."""

    fingerprint: str
    split: Split


class Truth(BaseModel):
    """The signs of one image."""

    image_id: ImageId
    boxes_xyxy: list[tuple[Place, Place, Place, Place]]
    labels: list[Label]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.boxes_xyxy) != len(self.labels):
            raise ValueError("boxes_xyxy and labels differ in length")
        for x1, y1, x2, y2 in self.boxes_xyxy:
            if x1 > x2 or y1 > y2:
                raise ValueError(f"boxes_xyxy: {[x1, y1, x2, y2]} is reversed")
        return self


class Detection(BaseModel):
    """One detection in COCO's results format."""

    image_id: ImageId
    category_id: Label
    bbox: tuple[Place, Place, Side, Side]
    score: Annotated[float, Field(ge=0, le=1, strict=True)]


class Evidence(BaseModel):
    """What a record's results are derived from."""

    truths: list[Truth]
    detections: list[Detection]


def prepare(
    profile: Profile, source: str | None = None, settings: DetectionSettings | None = None
) -> GtsdbDataset:
    """The data set of a profile: simulated on the spot, or the real one, found or fetched.

    Args:
        profile: decides between the two, and the sizes.
        source: real data from elsewhere, see `hw3.detection.gtsdb.fetch_gtsdb`.
        settings: as question 1 takes them; photographs are read as they are, whatever they say.

    Example:
        >>> from hw3.settings import SMOKE
        >>> len(prepare(SMOKE)), prepare(SMOKE).kind
        (10, 'simulated')
    """
    folder = data_folder()
    if source is None and profile.simulated:
        root = simulate_gtsdb(folder / f"simulated-{profile.name}-{__version__}", **profile.roads)
    elif source is None and (folder / "FullIJCNN2013").is_dir():
        root = folder
    else:
        root = gtsdb.fetch_gtsdb(source or "download", folder)
    return gtsdb.read_gtsdb(root)


def run(
    settings: DetectionSettings,
    dataset: GtsdbDataset,
    folder: Path,
    name: str = "",
    note: str = "",
    workers: int | None = None,
) -> tuple[RunRecord, nn.Module]:
    """Train and score, or find the same run finished in `folder`, or go on where it stopped.

    Returns:
        The record, and the trained model in evaluation mode.

    Example:
        >>> from hw3.settings import SMOKE, recipe
        >>> os.environ["HW3_PROFILE"] = "smoke"
        >>> record, model = run(recipe("faster-rcnn").but(epochs=1), prepare(SMOKE), folder)
        epoch 1/1  learning_rate ...  seconds ...  loss ...
        >>> len(record.evidence["truths"]), sorted(record.results)[:2]
        (2, ['ap', 'ap50'])
    """
    accelerator = training.make_accelerator(settings.mixed_precision)
    split = gtsdb.split(dataset.image_ids, settings.split, settings.seed)
    data = {
        "kind": dataset.kind,
        "note": note,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset),
        "signs": sum(map(len, dataset.labels)),
        "split": split,
    }
    weights = _start_weights(settings)
    record = records.start(name or settings.model, settings, weights, data)
    if finished := records.finished(record, folder):
        kept = record.weights_in(folder)
        return finished, trained(build(settings, str(kept)), kept, accelerator)

    torch.manual_seed(settings.seed)
    samples = CropSamples(dataset, split["train"], settings)
    task = training.Task(build(settings, weights), samples, train_step)
    task.collate, task.max_gradient_norm = collate, MAX_GRADIENT_NORM

    checkpoint = folder / f"{record.stem}.checkpoint.pt"
    record.history = training.fit(task, settings, accelerator, checkpoint, record.key, workers)
    clock = perf_counter()
    record.evidence = evidence(settings, task.model, dataset, split["test"], accelerator)
    record.seconds_per_image = round((perf_counter() - clock) / len(split["test"]), 4)
    record.results = derive_results(record)
    keep(record, task.model, folder, accelerator)
    return record, task.model


def train_step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """One forward pass: torchvision's summed loss."""
    images = [image.float() / 255 for image in batch["image"]]
    pairs = zip(batch["boxes"], batch["labels"], strict=True)
    targets = [{"boxes": boxes, "labels": labels} for boxes, labels in pairs]
    return {"loss": sum(model(images, targets).values())}


def detect(settings: DetectionSettings, model: nn.Module, image: np.ndarray) -> Detections:
    """Signs in one image (height, width, 3) uint8, whole or in tiles as the settings say.

    Example:
        >>> from hw3.settings import SsdSettings
        >>> settings = SsdSettings(weights="random", frozen_blocks=0, width=1 / 16, crops=8)
        >>> found = detect(settings, build(settings), np.zeros((300, 450, 3), np.uint8))
        >>> sorted(found), found["boxes_xyxy"].shape[1:]
        (['boxes_xyxy', 'labels', 'scores'], (4,))
    """
    device = next(model.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    pixels = pixels.to(device).float() / 255
    tiled = isinstance(settings, SsdSettings) and settings.crops
    return predict_tiled(model, pixels) if tiled else predict(model, pixels)


def search(settings: DetectionSettings, model: nn.Module, image: np.ndarray) -> Detections:
    """Signs in a picture of any size, larger ones than GTSDB's included; see `detect`.

    A network that was trained on native crops knows signs of 16 to 127 pixels alone. So the picture
    is also looked at halved, and halved again, as long as a tile fits into the larger copy.
    """
    looks, size = [detect(settings, model, image)], image.shape[1::-1]
    while settings.crops and min(image.shape[:2]) >= TILE:
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        found = detect(settings, model, image)
        boxes = found["boxes_xyxy"]
        large = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) >= LARGE_SIGN
        enlarged = boxes * np.tile(np.divide(size, image.shape[1::-1]), 2).astype(np.float32)
        looks.append({name: own[large] for name, own in (found | {"boxes_xyxy": enlarged}).items()})
    return distinct(looks) if len(looks) > 1 else looks[0]


def evidence(
    settings: DetectionSettings,
    model: nn.Module,
    dataset: GtsdbDataset,
    image_ids: Sequence[int],
    accelerator: Accelerator,
) -> dict[str, list]:
    """Truths and detections as `ap.match` takes them, rounded: what is scored is what is kept."""
    number = {image_id: index for index, image_id in enumerate(dataset.image_ids)}

    def detect_one(image_id: int) -> list[dict[str, Any]]:
        with accelerator.autocast():
            found = detect(settings, model, dataset.image(number[image_id]))
        return to_coco(image_id, found)

    truths = [
        {
            "image_id": image_id,
            "boxes_xyxy": dataset.boxes_xyxy[number[image_id]].tolist(),
            "labels": dataset.labels[number[image_id]].tolist(),
        }
        for image_id in image_ids
    ]
    return {
        "truths": truths,
        "detections": training.map_in_order(detect_one, image_ids, accelerator),
    }


def to_coco(image_id: int, found: Detections) -> list[dict[str, Any]]:
    """One image's detections in COCO's results format: bbox is [x, y, width, height]."""
    columns = (found["boxes_xyxy"], found["labels"], found["scores"])
    return [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(score), 4),
        }
        for (x1, y1, x2, y2), label, score in zip(*columns, strict=True)
    ]


def derive_results(record: RunRecord) -> dict[str, Any]:
    """Every entry of `record.results`, from the evidence; InputError if that is not the split's."""
    evidence, data = checked(record, Evidence, "evidence"), checked(record, Data, "data")
    tested = [truth.image_id for truth in evidence.truths]
    found = {detection.image_id for detection in evidence.detections}
    if sorted(tested) != sorted(data.split.test) or not found <= {*tested}:
        fault = "evidence is not of the images that data.split.test names"
        raise InputError(f"record {record.name}: {fault}; give it as train wrote it")
    return ap.scores(ap.match(record.evidence["truths"], record.evidence["detections"]))


def headline(record: RunRecord) -> str:
    """What a run reached, for the terminal."""
    return f"test: AP at IoU 0.5 {record.results['ap50']}  AP {record.results['ap']}"


def predict_evidence(record: RunRecord, source: str, weights: Path) -> dict[str, Any]:
    """A record's evidence, predicted anew; InputError if data or weights are not the record's."""
    check_weights(record, weights)
    dataset = gtsdb.read_gtsdb(gtsdb.fetch_gtsdb(source, data_folder()))
    data = checked(record, Data, "data")
    if dataset.fingerprint != data.fingerprint:
        raise InputError(f"{source}: these are not the data of record {record.name}")
    settings = records.settings_of(record, *KINDS)
    accelerator = training.accelerator_to_predict(settings.mixed_precision)
    model = trained(build(settings, str(weights)), weights, accelerator)
    return evidence(settings, model, dataset, data.split.test, accelerator)


def load(path: Path, weights: Path | None = None) -> tuple[DetectionSettings, nn.Module]:
    """A trained network, ready to predict in float32, and its settings.

    Args:
        path: of the record of the run that made the weights, see also `hw3.records.shipped`.
        weights: safetensors file; the one beside the record if not given.

    Example:
        >>> settings, model = load(records.shipped("faster-rcnn"))
        >>> settings.backbone, model.training
        ('vgg16-fpn', False)
    """
    record, weights = records.load(path), weights or path.with_suffix(".safetensors")
    settings = records.settings_of(record, *KINDS)
    check_weights(record, weights)
    model = build(settings, str(weights))
    load_weights(model, weights)
    return settings, model.eval().to(training.processes().device)


def look(
    settings: DetectionSettings, model: nn.Module, path: Path, number: int = 0
) -> tuple[bytes, ...]:
    """All signs in a picture as JSON, and the sure ones drawn as PNG; see `ENDINGS`."""
    image = read_picture(path)
    found = to_coco(number, search(settings, model, image))
    for detection in found:
        detection |= {"file_name": path.name, "group": GROUPS[detection["category_id"] - 1]}
    sure = [detection for detection in found if detection["score"] >= DRAWN_SCORE]
    return json.dumps(found, indent=1).encode(), _drawn(image, sure)


def _start_weights(settings: DetectionSettings) -> str:
    """`simulated` is a file of this package."""
    if settings.weights != "simulated":
        return settings.weights
    return str(WEIGHTS / f"start_{settings.model.replace('-', '_')}.safetensors")


def _drawn(image: np.ndarray, found: list[dict[str, Any]]) -> bytes:
    """PNG bytes of the image with boxes, names and scores, as large as suits the image."""
    canvas, orange = image[..., ::-1].copy(), PREDICTED_RGB[::-1]
    scale = max(0.4, max(image.shape) / 2000)
    line = round(3 * scale) or 1
    for detection in found:
        x, y, width, height = (round(value) for value in detection["bbox"])
        cv2.rectangle(canvas, (x, y), (x + width, y + height), orange, line)
        text = f"{detection['group']} {detection['score']:.2f}"
        font = (cv2.FONT_HERSHEY_SIMPLEX, scale)
        (length, tall), below = cv2.getTextSize(text, *font, line)
        # Beside its box, since above and below it stand other signs.
        right = x + width + line
        left = right if right + length <= image.shape[1] else max(0, x - line - length)
        foot = y + (height + tall) // 2
        cv2.rectangle(canvas, (left, foot - tall), (left + length, foot + below), orange, -1)
        cv2.putText(canvas, text, (left, foot), *font, (255, 255, 255), line, cv2.LINE_AA)
    return cv2.imencode(".png", canvas)[1].tobytes()
