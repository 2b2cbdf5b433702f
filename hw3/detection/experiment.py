"""Question 2 from data to record: prepare, train, detect, score, find again."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hw3 import records, runs, training
from hw3.detection import ap
from hw3.detection.augment import Augmentation
from hw3.detection.crops import CropSamples, collate
from hw3.detection.dataset import (
    GROUPS,
    GtsdbDataset,
    fetch_gtsdb,
    read_gtsdb,
    split_official,
    split_random,
)
from hw3.detection.error_types import find_errors
from hw3.detection.models import Detections, build_faster_rcnn, build_ssd300, predict, total_loss
from hw3.detection.simulate import simulate_gtsdb
from hw3.detection.tiles import predict_tiled
from hw3.errors import InputError
from hw3.pictures import read_picture
from hw3.profiles import (
    DetectionSettings,
    FasterRcnnSettings,
    Profile,
    SsdSettings,
    data_folder,
)
from hw3.records import RunRecord
from hw3.style import PREDICTED_RGB

DECIDING = ("ap", "augment", "crops", "dataset", "error_types", "experiment", "models", "tiles")
"""Modules of this folder whose code decides what a run gives."""
ALARM_SCORE = 0.2
"""Score from which a detection on no annotated sign is a false alarm, see `hard_share`."""
DRAWN_SCORE = 0.5
"""Score from which a detection is drawn into a picture of one's own."""
MODELS: dict[str, type[DetectionSettings]] = {
    "faster-rcnn": FasterRcnnSettings,
    "ssd300": SsdSettings,
}
SPLITS = {
    "random": lambda dataset, seed: split_random(dataset.image_ids, seed),
    "official": lambda dataset, _seed: split_official(dataset.image_ids),
}


def prepare(profile: Profile, source: str | None = None) -> tuple[GtsdbDataset, str]:
    """The data set of a profile, and its kind: "simulated" or "real".

    Simulated roads are made on the spot. Real ones are looked for in `source`, then in the data
    folder, then downloaded.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> dataset, kind = prepare(SMOKE)
        >>> len(dataset), kind
        (10, 'simulated')
    """
    folder = data_folder()
    if source is None and profile.simulated:
        version = drawing_version()  # no stale data
        root = simulate_gtsdb(
            folder / f"simulated-{profile.name}-{version}",
            images=profile.images,
            width=profile.image_width,
            height=profile.image_height,
            seed=profile.faster_rcnn.seed,
        )
    elif source is None and (folder / "FullIJCNN2013").is_dir():
        root = folder
    else:
        root = fetch_gtsdb(source or "download", folder)
    return read_gtsdb(root), runs.kind_of(root)


def drawing_version() -> str:
    """Digits that change with the code and the drawings that simulated roads are made of.

    Example:
        >>> len(drawing_version())
        8
    """
    here = Path(__file__).parent
    sources = [records.code_sha256(here / name) for name in ("simulate.py", "signs.py")]
    drawings = records.file_sha256(here / "drawings.ini")
    return hashlib.sha256("".join([*sources, drawings]).encode()).hexdigest()[:8]


def run(
    settings: DetectionSettings,
    dataset: GtsdbDataset,
    *,
    kind: str,
    name: str,
    folder: Path,
    note: str = "",
    workers: int | None = None,
) -> tuple[RunRecord, nn.Module]:
    """Train and score, or find the same run finished in `folder`, or go on where it stopped.

    Args:
        settings: `FasterRcnnSettings` or `SsdSettings`.
        dataset: all images.
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
        >>> settings = replace(SMOKE.faster_rcnn, crops=4)
        >>> record, model = run(settings, dataset, kind=kind, name="try", folder=folder)
        epoch 1/1  learning_rate 0.0001  seconds ...  loss ...
        >>> len(record.evidence["truths"]), sorted(record.results)[:2]
        (2, ['ap', 'ap50'])
    """
    settings.check()
    if settings.hard_share and settings.score_threshold > ALARM_SCORE:
        fault = f"score_threshold is {settings.score_threshold}"
        raise InputError(f"{fault}: with a hard_share, choose at most {ALARM_SCORE}")
    accelerator = training.make_accelerator(settings.mixed_precision)
    dataset = _of_interest(settings, dataset)
    split = SPLITS[settings.split](dataset, settings.seed)
    if settings.train_images is not None:
        split["train"] = runs.draw(
            split["train"], settings.train_images, settings.seed, "train_images"
        )
    data = {
        "kind": kind,
        "note": note,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset),
        "signs": sum(map(len, dataset.labels)),
        "split": split,
    }
    here = Path(__file__).parent
    sources = [here / f"{stem}.py" for stem in DECIDING]
    record = runs.start_record(name, _model_name(settings), settings, data, sources, "weights")
    return runs.find_or_train(
        record,
        folder,
        accelerator,
        build=partial(build, settings, "random"),
        train=partial(_train, settings, dataset, split, accelerator, workers),
    )


def build(settings: DetectionSettings, weights: str) -> nn.Module:
    """The detector that the settings describe.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> type(build(SMOKE.faster_rcnn, "random")).__name__
        'FasterRCNN'
        >>> type(build(SMOKE.ssd300, "random")).__name__
        'SSD300'
    """
    if isinstance(settings, SsdSettings):
        return build_ssd300(
            weights=weights,
            width=settings.width,
            frozen_convolutions=settings.frozen_convolutions,
            mining=settings.mining,
            score_threshold=settings.score_threshold,
        )
    return build_faster_rcnn(
        backbone=settings.backbone,
        weights=weights,
        anchor_sizes=list(
            zip(settings.anchor_sizes[::2], settings.anchor_sizes[1::2], strict=True)
        ),
        image_size=settings.image_size,
        width=settings.width,
        fpn_channels=settings.fpn_channels,
        fpn_norm=settings.fpn_norm,
        rois_per_image=settings.rois_per_image,
        proposals=settings.proposals,
        frozen_blocks=settings.frozen_blocks,
        score_threshold=settings.score_threshold,
    )


def train_step(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """One forward pass: torchvision's summed loss.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> model = build(SMOKE.ssd300, "random").train()
        >>> batch = {"image": [torch.zeros(3, 300, 300, dtype=torch.uint8)]}
        >>> batch["boxes"] = [torch.tensor([[5.0, 5.0, 45.0, 45.0]])]
        >>> batch["labels"] = [torch.tensor([4])]
        >>> loss = train_step(model, batch)["loss"]
        >>> loss.shape, loss.requires_grad
        (torch.Size([]), True)
    """
    images = [image.float() / 255 for image in batch["image"]]
    pairs = zip(batch["boxes"], batch["labels"], strict=True)
    targets = [{"boxes": boxes, "labels": labels} for boxes, labels in pairs]
    return {"loss": total_loss(model, images, targets)}


def detect(settings: DetectionSettings, model: nn.Module, image: np.ndarray) -> Detections:
    """Signs in one image (height, width, 3) uint8, whole or in tiles as the settings say.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> model = build(SMOKE.ssd300, "random")
        >>> found = detect(SMOKE.ssd300, model, np.zeros((300, 450, 3), np.uint8))
        >>> sorted(found), found["boxes_xyxy"].shape[1:]
        (['boxes_xyxy', 'labels', 'scores'], (4,))
    """
    device = next(model.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    pixels = pixels.to(device).float() / 255
    return predict_tiled(model, pixels) if _tiled(settings) else predict(model, pixels)


def _tiled(settings: DetectionSettings) -> bool:
    return isinstance(settings, SsdSettings) and settings.tiles


def evidence(
    settings: DetectionSettings,
    model: nn.Module,
    dataset: GtsdbDataset,
    image_ids: Sequence[int],
    accelerator: Accelerator,
) -> dict[str, list]:
    """Truths and detections of these images, in the forms that `hw3.detection.ap.match` takes.

    Detections are rounded (to 0.01 pixels and four digits of score): what is scored is what is
    kept.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> dataset, _ = prepare(SMOKE)
        >>> model = build(SMOKE.faster_rcnn, "random")
        >>> kept = evidence(SMOKE.faster_rcnn, model, dataset, [0, 1], training.make_accelerator())
        >>> [truth["image_id"] for truth in kept["truths"]]
        [0, 1]
    """
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


def false_alarms(found: dict[str, list]) -> list[tuple[int, list[float]]]:
    """Where something that is no sign was taken for one, with a score of `ALARM_SCORE` or more.

    Args:
        found: as from `evidence`.

    Returns:
        Image ids and boxes xyxy in pixels, the highest score first.

    Example:
        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
        >>> places = [[0, 0, 20, 20, 0.9], [50, 0, 20, 20, 0.5], [90, 0, 20, 20, 0.1]]
        >>> found = [
        ...     {"image_id": 7, "category_id": 1, "bbox": place, "score": score}
        ...     for *place, score in places
        ... ]
        >>> false_alarms({"truths": truths, "detections": found})
        [(7, [50.0, 0.0, 70.0, 20.0])]
    """
    matches = ap.match(found["truths"], found["detections"])
    detections = matches.detections[find_errors(matches).kinds == "background"]
    detections = detections[detections["score"] >= ALARM_SCORE]
    xywh = detections["xywh"]
    corners = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
    image_ids = matches.image_ids[detections["image"]].tolist()
    return list(zip(image_ids, corners.tolist(), strict=True))


def to_coco(image_id: int, found: Detections) -> list[dict[str, Any]]:
    """One image's detections in COCO's results format: bbox is [x, y, width, height].

    Example:
        >>> found = {"boxes_xyxy": np.array([[10, 20, 40, 60]]), "labels": [4], "scores": [0.87654]}
        >>> to_coco(7, found)
        [{'image_id': 7, 'category_id': 4, 'bbox': [10.0, 20.0, 30.0, 40.0], 'score': 0.8765}]
    """
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


def example_images(record: RunRecord, count: int = 6) -> list[int]:
    """Test images to look at, by a rule: evenly spaced through those that hold signs.

    Example:
        >>> truths = [{"image_id": 7, "labels": [1]}, {"image_id": 8, "labels": []}]
        >>> truths += [{"image_id": 9, "labels": [2]}, {"image_id": 10, "labels": [3, 4]}]
        >>> record = RunRecord("ssd300", {}, data={}, seed=0, evidence={"truths": truths})
        >>> example_images(record, count=2)
        [7, 10]
    """
    with_signs = [truth["image_id"] for truth in record.evidence["truths"] if truth["labels"]]
    places = np.linspace(0, len(with_signs) - 1, min(count, len(with_signs))).round().astype(int)
    return [with_signs[place] for place in places]


def derive_results(record: RunRecord) -> dict[str, Any]:
    """Every entry of `record.results`, computed anew from `record.evidence`.

    Example:
        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> record = RunRecord("ssd300", {}, data={}, seed=0)
        >>> record.evidence = {"truths": truths, "detections": found}
        >>> round(derive_results(record)["ap50"], 3)
        1.0
    """
    return ap.scores(ap.match(record.evidence["truths"], record.evidence["detections"]))


def predict_evidence(record: RunRecord, source: str, weights: Path) -> dict[str, Any]:
    """The evidence of a record, predicted anew on the real data in `source`.

    Raises:
        InputError: if the data or the weights are not those of the record.

    Example:
        >>> from dataclasses import replace
        >>> from hw3.profiles import SMOKE
        >>> source = simulate_gtsdb(folder, images=3, seed=0, width=160, height=96)
        >>> dataset, settings = read_gtsdb(source), replace(SMOKE.faster_rcnn, crops=4)
        >>> record, _ = run(settings, dataset, kind="simulated", name="try", folder=folder)
        epoch 1/1  learning_rate 0.0001  seconds ...
        >>> found = predict_evidence(record, str(source), folder / f"{record.stem}.safetensors")
        >>> record.data["split"]["test"], [truth["image_id"] for truth in found["truths"]]
        ([2], [2])
    """
    runs.check_weights(record, weights)
    dataset = read_gtsdb(fetch_gtsdb(source, data_folder()))
    if dataset.fingerprint != record.data["fingerprint"]:
        raise InputError(f"{source}: these are not the data of record {record.name}")
    settings = settings_of(record)
    dataset = _of_interest(settings, dataset)
    accelerator = training.accelerator_to_predict(settings.mixed_precision)
    model = runs.trained(build(settings, "random"), weights, accelerator)
    return evidence(settings, model, dataset, record.data["split"]["test"], accelerator)


def predict_files(
    paths: Sequence[Path], record: RunRecord, weights: Path, folder: Path
) -> Iterator[Path]:
    """Find signs in image files and write `<stem>_signs.json` and `<stem>_boxes.png` for each.

    The first holds all detections, the second shows those with a score of at least `DRAWN_SCORE`.

    Args:
        paths: colour images of any size. In tiles, SSD300 loses signs that are wider than
            `hw3.detection.tiles.OVERLAP`: no tile holds them whole.
        record: of the run that made the weights.
        weights: safetensors file.
        folder: where to write.

    Yields:
        Each file written.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> settings, weights = SMOKE.ssd300, folder / "try.safetensors"
        >>> data = {"fingerprint": "f00d"}
        >>> record = runs.start_record("try", "ssd300", settings, data, [], "weights")
        >>> runs.save_weights(build(settings, "random"), weights)
        >>> record.weights["sha256"] = records.file_sha256(weights)
        >>> _ = cv2.imwrite(str(folder / "road.png"), np.zeros((96, 160, 3), np.uint8))
        >>> [path.name for path in predict_files([folder / "road.png"], record, weights, folder)]
        ['road_signs.json', 'road_boxes.png']
    """
    settings = settings_of(record)
    runs.check_weights(record, weights)
    images = runs.read_all(paths, partial(read_picture, upright=True))
    targets = runs.outputs(paths, folder, ("_signs.json", "_boxes.png"))
    accelerator = training.accelerator_to_predict(settings.mixed_precision)
    model = runs.trained(build(settings, "random"), weights, accelerator)
    for number, (path, image) in enumerate(images.items()):
        with accelerator.autocast():
            found = to_coco(number, detect(settings, model, image))
        for detection in found:
            detection |= {"file_name": path.name, "group": GROUPS[detection["category_id"] - 1]}
        sure = [detection for detection in found if detection["score"] >= DRAWN_SCORE]
        contents = (json.dumps(found, indent=1).encode(), _drawn(image, sure))
        for target, content in zip(targets[path], contents, strict=True):
            records.write_atomically(target, content)
            yield target


def settings_of(record: RunRecord) -> DetectionSettings:
    """The settings of a record, as the dataclass they were; an InputError if no detector's.

    Example:
        >>> chosen = {"model": "ssd300", "width": 0.25, "tiles": True}
        >>> settings = settings_of(RunRecord("try", chosen, data={}, seed=0))
        >>> type(settings).__name__, settings.width, settings.tiles
        ('SsdSettings', 0.25, True)
    """
    return runs.settings_of(record, MODELS)


def _of_interest(settings: DetectionSettings, dataset: GtsdbDataset) -> GtsdbDataset:
    return dataset.only(settings.group) if settings.group else dataset


def _train(
    settings: DetectionSettings,
    dataset: GtsdbDataset,
    split: dict[str, list[int]],
    accelerator: Accelerator,
    workers: int | None,
    record: RunRecord,
    checkpoint: Path,
) -> nn.Module:
    torch.manual_seed(settings.seed)
    model = build(settings, settings.weights)
    if split["train"]:
        alarms = []
        if settings.hard_share:
            kept = checkpoint.with_suffix("").with_suffix(".false_alarms.json")
            alarms = _mine(settings, model, dataset, split["train"], accelerator, kept)
            record.data["false_alarms"] = len(alarms)
        samples = CropSamples(
            dataset,
            split["train"],
            crop_size=settings.crop_size,
            crops=settings.crops,
            sign_share=settings.sign_share,
            balance_groups=settings.balance_groups,
            augmentation=Augmentation(settings.seed) if settings.augment else None,
            seed=settings.seed,
            false_alarms=alarms,
            hard_share=settings.hard_share,
            padded=_tiled(settings),
        )
        record.history = _fit(
            settings, model, samples, accelerator, workers, record.key, checkpoint
        )
    else:
        model = accelerator.prepare_model(model.eval(), evaluation_mode=True)
    clock = perf_counter()
    record.evidence = evidence(settings, model, dataset, split["test"], accelerator)
    record.seconds_per_image = round((perf_counter() - clock) / len(split["test"]), 4)
    record.results = derive_results(record)
    return model


def _mine(
    settings: DetectionSettings,
    model: nn.Module,
    dataset: GtsdbDataset,
    image_ids: Sequence[int],
    accelerator: Accelerator,
    kept: Path,
) -> list[tuple[int, list[float]]]:
    """The false alarms of the weights at the start; kept, so that a resumed run has the same."""
    if not kept.exists():
        model.to(accelerator.device)
        found = false_alarms(evidence(settings, model, dataset, image_ids, accelerator))
        if accelerator.is_main_process:
            records.write_atomically(kept, json.dumps(found).encode())
        accelerator.wait_for_everyone()
    return json.loads(kept.read_bytes())


def _fit(
    settings: DetectionSettings,
    model: nn.Module,
    samples: CropSamples,
    accelerator: Accelerator,
    workers: int | None,
    key: str,
    checkpoint: Path,
) -> list[dict[str, Any]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, scheduler = runs.optimiser(settings, trained, len(samples))
    return training.fit(
        model,
        train_step,
        samples,
        optimizer,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        accelerator=accelerator,
        scheduler=scheduler,
        collate=collate,
        workers=workers,
        max_gradient_norm=settings.max_gradient_norm,
        checkpoint=checkpoint,
        key=key,
    )


def _model_name(settings: DetectionSettings) -> str:
    return next(name for name, kind in MODELS.items() if type(settings) is kind)


def _drawn(image: np.ndarray, found: list[dict[str, Any]]) -> bytes:
    """PNG bytes of the image with boxes, names and scores."""
    canvas = image[..., ::-1].copy()
    red = PREDICTED_RGB[::-1]
    for detection in found:
        x, y, width, height = (round(value) for value in detection["bbox"])
        cv2.rectangle(canvas, (x, y), (x + width, y + height), red, 2)
        text = f"{detection['group']} {detection['score']:.2f}"
        cv2.putText(canvas, text, (x, max(12, y - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, red, 1)
    return cv2.imencode(".png", canvas)[1].tobytes()
