"""What several pages share, or what is too long to stand on one of them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from hw3.detection import ap
from hw3.detection.gtsdb import GROUPS
from hw3.detection.tiles import TILE, tile_origins
from hw3.plots import MUTED, TRAINED
from hw3.records import RunRecord, load
from hw3.segmentation.metrics import SliceCounts, dice

Score = tuple[float, Sequence[float]]
"""A value and its interval."""
GTSDB_SIZE = (800, 1360)
SLICE_PIXELS = 256**2
BINNED = ("pixels", "probability", "tumour")


def matches_of(run: RunRecord) -> ap.Matches:
    """A detector's boxes on its test images, matched at an IoU of 0.5."""
    return ap.match(run.evidence["truths"], run.evidence["detections"], np.array([0.5]))


@torch.no_grad()
def covered(
    model: nn.Module,
    boxes_xyxy: np.ndarray,
    tiled: bool = False,
    image_size: tuple[int, int] = GTSDB_SIZE,
) -> np.ndarray:
    """Which boxes some anchor of a detector covers at an IoU of 0.5 or more, (n,) bool.

    Args:
        model: Faster R-CNN or SSD300, with its anchors on an image as it would resize it.
        boxes_xyxy: (n, 4) in native pixels.
        tiled: the model sees native tiles, not the whole image.
        image_size: height and width in native pixels.
    """
    if tiled:
        corners = torch.tensor(tile_origins(*image_size)).repeat(1, 2)
        anchors = (_anchors(model, (TILE, TILE)) + corners[:, None]).flatten(0, 1)
    else:
        anchors = _anchors(model, image_size)
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float32)
    return np.array([bool(box_iou(box[None], anchors).max() >= 0.5) for box in boxes])


def folds(folder: Path) -> list[RunRecord]:
    """The five runs of the U-Net's cross-validation; each tests patients of its own."""
    return [load(path) for path in sorted(folder.glob("lgg-patients-fold?.json"))]


def counts(runs: Sequence[RunRecord], parts: Sequence[str] = ("test",)) -> SliceCounts:
    """The pixels of all runs, for each in parts of its data, so that they are scored together.

    A slice that several runs count is another one in each, but its patient is the same: whoever
    resamples patients draws them in all runs at once.
    """
    pixels = runs[0].evidence["pixels_per_slice"]
    found = [
        (number, SliceCounts.from_evidence(run.evidence[part], pixels))
        for number, run in enumerate(runs)
        for part in parts
    ]
    return SliceCounts(
        np.concatenate([own.patient_ids for _, own in found]),
        np.concatenate([own.slice_indices + 1000 * number for number, own in found]),
        *np.concatenate([own.triple for _, own in found], axis=1),
        pixels=pixels,
    )


def patient_dice(before: SliceCounts, after: SliceCounts) -> np.ndarray:
    """Dice of each patient with tumour, over the slices that both have counted: (patients, 2)."""
    mine, other = map(_by_slice, (before, after))
    volumes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, 3), int))
    for patient, number in sorted(mine.keys() & other.keys()):
        volumes[patient] += np.array([mine[patient, number], other[patient, number]])
    pairs = [dice(*own.T) for own in volumes.values() if own[0, 0] + own[0, 2]]
    return np.array(pairs).reshape(-1, 2)


def read_examined(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What tools/examine_slices.py kept of some slices, several files together.

    Returns:
        Of each slice `patient_id`, `slice_index`, pixels of one look (`plain`) and of eight
        (`averaged`) as true positive, false positive and false negative, and `hausdorff_95` in
        pixels and `surface_dice`, None where either mask is empty. Of ten bins of predicted
        probability the `pixels`, the sum of their `probability`, and how many are `tumour`.
    """
    parts = [json.loads(Path(path).read_text()) for path in paths]
    headers = [header for header, *_ in parts]
    bins = {name: np.sum([own["bins"][name] for own in headers], axis=0) for name in BINNED}
    return [own for _, *slices in parts for own in slices], bins


def looked_at(slices: list[dict[str, Any]], looks: Literal["plain", "averaged"]) -> SliceCounts:
    """The counts of examined slices, by one look or by the mean of eight."""
    names = ("patient_id", "slice_index", looks)
    patient_ids, numbers, pixels = (np.array([own[name] for own in slices]) for name in names)
    return SliceCounts(patient_ids, numbers, *pixels.T, pixels=SLICE_PIXELS)


def learning_curve(axes: Axes, starts: dict[str, dict[int, Score]], unit: str) -> None:
    """Scores with their intervals by amount of training data, a line for each of two starts."""
    places = {amount: place for place, amount in enumerate(sorted(set().union(*starts.values())))}
    for number, (title, scores) in enumerate(starts.items()):
        amounts, color = sorted(scores), (TRAINED, MUTED)[number]
        at = [places[amount] + 0.2 * number - 0.1 for amount in amounts]  # none hides another
        values, intervals = zip(*(scores[amount] for amount in amounts), strict=True)
        axes.vlines(at, *zip(*intervals, strict=True), color=color, linewidth=2, alpha=0.5)
        axes.plot(at, values, "o-", color=color, label=title)
    axes.set_xticks(list(places.values()), list(map(str, places)))
    axes.set(xlabel=unit, ylim=(0, 1.02))


def _anchors(model: nn.Module, image_size: tuple[int, int]) -> Tensor:
    """(anchors, 4) xyxy in native pixels."""
    images, _ = model.eval().transform([torch.zeros(3, *image_size)])
    generator = model.anchor_generator if isinstance(model, SSD) else model.rpn.anchor_generator
    anchors = generator(images, list(model.backbone(images.tensors).values()))[0]
    resized, native = (torch.tensor(own[::-1]) for own in (images.image_sizes[0], image_size))
    return anchors * (native / resized).repeat(2)


def _by_slice(counted: SliceCounts) -> dict[tuple[str, int], np.ndarray]:
    keys = zip(counted.patient_ids.tolist(), counted.slice_indices.tolist(), strict=True)
    return dict(zip(keys, counted.triple.T, strict=True))


def found_by_group(runs: Sequence[RunRecord], score_threshold: float = 0.5) -> list[list[Any]]:
    """Signs and false alarms at an IoU of 0.5, as means over runs: a row for each group and all.

    Args:
        runs: of one recipe, tested on the same images.
        score_threshold: from which a detection is a confident one.

    Returns:
        Group, its signs, those found at any score, those found with confidence, and confident
        false alarms.
    """
    rows: list[list[Any]] = []
    matches = [matches_of(run) for run in runs]
    for group in (*GROUPS, "all"):
        labels = range(1, len(GROUPS) + 1) if group == "all" else [GROUPS.index(group) + 1]
        each = []
        for own in matches:
            mine = np.isin(own.detections["label"], labels)
            hit, sure = own.found[0, 0] >= 0, own.detections["score"] >= score_threshold
            each.append([(mine & hit).sum(), (mine & hit & sure).sum(), (mine & ~hit & sure).sum()])
        signs = int(np.isin(matches[0].truths["label"], labels).sum())
        rows.append([group, signs, *(f"{mean:.1f}" for mean in np.mean(each, axis=0))])
    return rows
