"""Average precision by COCO's rules: matched once, everything else derived from the matches.

Matching and 101-point interpolation are those of the COCO evaluation (Lin et al. 2014, "Microsoft
COCO"), with sizes by a box's width instead of its area. The exact area under the interpolated
curve ("all" points) is PASCAL VOC's from 2010 on (Everingham et al. 2010).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Literal

import numpy as np

from hw3.data import InputError
from hw3.detection import gtsdb

LABELS = range(1, len(gtsdb.GROUPS) + 1)
SIZE_GROUPS = ("all", *gtsdb.SIZE_GROUPS)
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100  # of one image and label
BOX = np.dtype("i8, i8, f8, 4f8, U6")
BOX.names = ("image", "label", "score", "xywh", "size_group")


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detection found which truth, for every IoU threshold and size group.

    Attributes:
        image_ids: (images,) int, ascending; a box's `image` is an index into it.
        iou_thresholds: (thresholds,) float.
        truths: (g,) BOX, in order of image id, then as given; their score is 1.
        detections: (n,) BOX, in order of score, then image id, then as given.
        found: (size groups, thresholds, n) int, the truth that each detection found, -1 for none.
    """

    image_ids: np.ndarray
    iou_thresholds: np.ndarray
    truths: np.ndarray
    detections: np.ndarray
    found: np.ndarray


def match(
    truths: list[dict], detections: list[dict], iou_thresholds: np.ndarray = IOU_THRESHOLDS
) -> Matches:
    """Match detections to truths of the same image and label, the best score first.

    Args:
        truths: one an image, signs or none: `image_id`, `boxes_xyxy` (g, 4), `labels` (g,).
        detections: COCO results: `image_id`, `category_id`, `bbox` [x, y, width, height], `score`.
        iou_thresholds: the least IoU of a match.

    Raises:
        InputError: with all faulty detections.

    Example:
        An IoU of 22 / 30 is enough for thresholds up to 0.7:

        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 30, 30]], "labels": [1]}]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 30, 22], "score": 0.9}]
        >>> match(truths, found).found[0].flatten().tolist()
        [0, 0, 0, 0, 0, -1, -1, -1, -1, -1]
    """
    truths = sorted(truths, key=lambda entry: entry["image_id"])
    number = {entry["image_id"]: index for index, entry in enumerate(truths)}
    _check(truths, detections, number)
    true = _boxes(
        (number[entry["image_id"]], label, 1, (x1, y1, x2 - x1, y2 - y1))
        for entry in truths
        for (x1, y1, x2, y2), label in zip(entry["boxes_xyxy"], entry["labels"], strict=True)
    )
    rows = ((d["image_id"], d["category_id"], d["score"], tuple(d["bbox"])) for d in detections)
    boxes = _boxes((number[image_id], *row) for image_id, *row in rows)
    boxes = boxes[np.lexsort((boxes["image"], -boxes["score"]))]
    kept = np.zeros(len(boxes), dtype=bool)
    found = np.full((len(SIZE_GROUPS), len(iou_thresholds), len(boxes)), -1)
    outside = ~np.array([_inside(true, group) for group in SIZE_GROUPS])
    true_rows = _rows(true)
    for pair, rows in _rows(boxes).items():
        rows = rows[:MAX_DETECTIONS]
        kept[rows] = True
        if theirs := true_rows.get(pair):
            iou = box_iou(boxes["xywh"][rows], true["xywh"][theirs])
            chosen = _match_greedily(iou, outside[:, theirs], iou_thresholds)
            found[..., rows] = np.append(theirs, -1)[chosen]
    return Matches(np.array([*number]), iou_thresholds, true, boxes[kept], found[..., kept])


def precision_recall(
    matches: Matches, label: int, iou_threshold: float = 0.5, size_group: str = "all"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall (nan without truths) and score, (m,) each, of the best 1, ..., m."""
    detections, hit, truths = _counted(matches, label, iou_threshold, size_group)
    recall = np.cumsum(hit) / (len(truths) or np.nan)
    return np.cumsum(hit) / np.arange(1, len(hit) + 1), recall, detections["score"]


def interpolate(precision: np.ndarray) -> np.ndarray:
    """The best precision at this or any higher recall, along the last axis."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def average_precision(
    matches: Matches,
    label: int,
    iou_threshold: float = 0.5,
    size_group: str = "all",
    interpolation: Literal["101", "all"] = "101",
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Area under the interpolated precision-recall curve of one label.

    Args:
        matches: of all images.
        label: 1-4.
        iou_threshold: one of those matched at.
        size_group: all, small, medium, large. Truths outside it, what found them, and what found
            nothing and is outside itself count neither for nor against.
        interpolation: COCO's mean over 101 recall levels, or the exact area.
        weights: (..., images) int, how often each image counts; once by default.

    Returns:
        (...) float in [0, 1], nan (undefined) where there is no truth.

    Example:
        One of two signs is found, with the best score: precision is 1 up to a recall of 0.5.

        >>> signs = [[0, 0, 20, 20], [100, 0, 120, 20]]
        >>> truths = [{"image_id": 7, "boxes_xyxy": signs, "labels": [1, 1]}]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> area = average_precision(match(truths, found), label=1, interpolation="all")
        >>> round(float(area), 3)
        0.5
    """
    detections, hit, truths = _counted(matches, label, iou_threshold, size_group)
    weights = np.ones(len(matches.image_ids), dtype=int) if weights is None else weights
    # Between true positives precision only falls, so the interpolated curve needs no other point:
    # what lies between two of them is counted once, and only then weighted.
    between = np.zeros((len(matches.image_ids), hit.sum() + 1))
    np.add.at(between, (detections["image"], np.cumsum(hit) - hit), 1)
    counted = np.cumsum(weights @ between[:, :-1], axis=-1)
    true_positive = np.cumsum(weights[..., detections["image"][hit]], axis=-1)
    positive = weights[..., truths["image"]].sum(axis=-1, keepdims=True)
    recall = true_positive / np.maximum(positive, 1)
    if interpolation == "101":
        recall = np.searchsorted(RECALL_LEVELS, recall, side="right") / len(RECALL_LEVELS)
    precision = interpolate(true_positive / (counted + np.spacing(1)))
    area = (precision * np.diff(recall, axis=-1, prepend=0)).sum(axis=-1)
    return np.where(positive[..., 0] > 0, area, np.nan)[()]


def mean_average_precision(
    matches: Matches,
    iou_threshold: float | None = 0.5,
    labels: Sequence[int] = LABELS,
    **options: Any,
) -> np.ndarray:
    """Mean of `average_precision`, with its options, over those labels for which it is defined.

    With the threshold None, the mean over all thresholds that were matched at.
    """
    if iou_threshold is None:
        at = partial(mean_average_precision, matches, labels=labels, **options)
        return np.mean([at(threshold) for threshold in matches.iou_thresholds], axis=0)
    return _mean([average_precision(matches, k, iou_threshold, **options) for k in labels])


def share_found(
    matches: Matches, size_group: str = "all", weights: np.ndarray | None = None
) -> np.ndarray:
    """Share of the signs that some detection of their label finds, at any score; nan if none.

    At the lowest IoU threshold that was matched at; labels are not averaged, but pooled. For the
    arguments see `average_precision`.
    """
    inside = _inside(matches.truths, size_group)
    lowest = matches.found[0, matches.iou_thresholds.argmin()]
    found = inside & np.isin(np.arange(len(matches.truths)), lowest)
    weights = np.ones(len(matches.image_ids), dtype=int) if weights is None else weights
    image = matches.truths["image"]
    signs = weights[..., image[inside]].sum(axis=-1)
    return np.where(signs, weights[..., image[found]].sum(axis=-1), np.nan) / np.maximum(signs, 1)


def pooled(
    runs: Sequence[Matches],
    statistic: Callable[..., np.ndarray] = mean_average_precision,
    against: Sequence[Matches] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, list[float] | None]:
    """Mean of a score over runs (seeds, splits, folds) with one 95 % percentile interval.

    Each resample draws runs with replacement, and from all their images as many as there are
    (Efron 1979). An image comes with every run that was tested on it. A run scores as copies of
    its images would, but for the order of equal scores in an image.

    Args:
        runs: one or more.
        statistic: `statistic(matches, weights=weights)` gives a value for each row of weights
            (draws, images). Where it is nan (undefined) the run is left out of the mean.
        against: another recipe's runs on the same images, in the same order. Value and interval
            are then of the paired difference, from the same draws.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        The value, nan if it is undefined; [low, high], None if it is undefined in all resamples.
    """
    others = [None] * len(runs) if against is None else against
    if not runs or len(others) != len(runs):
        raise InputError(f"{len(runs)} runs against {len(others)}: give pairs, one at least")
    images = np.unique(np.concatenate([own.image_ids for own in runs]))
    generator = np.random.default_rng(seed)
    weights = _draws(generator, len(images), resamples)

    def score(matches: Matches) -> np.ndarray:
        return statistic(matches, weights=weights[:, np.isin(images, matches.image_ids)])

    values = []
    for own, other in zip(runs, others, strict=True):
        if other is not None and not np.array_equal(own.image_ids, other.image_ids):
            raise InputError("a pair of runs was tested on different images: use the same")
        values.append(score(own) - (0 if other is None else score(other)))
    mean = _mean(values, _draws(generator, len(runs), resamples).T)
    return float(mean[0]), _interval(mean[1:])


STATISTICS: dict[str, dict[str, Callable[..., np.ndarray]]] = {
    "ap50": {"": mean_average_precision},
    "ap": {"": partial(mean_average_precision, iou_threshold=None)},
    "ap_by_threshold": {
        f"{own:.2f}": partial(mean_average_precision, iou_threshold=own) for own in IOU_THRESHOLDS
    },
    "ap50_by_class": {
        name: partial(average_precision, label=label) for label, name in enumerate(gtsdb.GROUPS, 1)
    },
    "ap50_by_size": {
        name: partial(mean_average_precision, size_group=name) for name in gtsdb.SIZE_GROUPS
    },
    "competition": {
        name: partial(average_precision, label=label, iou_threshold=0.6, interpolation="all")
        for label, name in enumerate(gtsdb.GROUPS[:3], 1)
    },
}
"""How scores come from matches, by key and then by threshold, class or size, "" for a single one.
`competition` is GTSDB's own rule (Houben et al. 2013): each of three groups alone, exact area."""


def scores(matches: Matches, resamples: int = 1000) -> dict[str, Any]:
    """All `STATISTICS`, each with a 95 % interval `<key>_interval`; None if undefined."""
    weights = _draws(np.random.default_rng(0), len(matches.image_ids), resamples)
    result: dict[str, Any] = {}
    for key, statistics in STATISTICS.items():
        drawn = {name: own(matches, weights=weights) for name, own in statistics.items()}
        first = {name: None if np.isnan(own[0]) else float(own[0]) for name, own in drawn.items()}
        intervals = {name: _interval(own[1:]) for name, own in drawn.items()}
        result |= {key: first.get("", first), f"{key}_interval": intervals.get("", intervals)}
    return result


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, g) intersection over union of xywh boxes; 0, not undefined, for empty boxes."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], second[:, :2] + second[:, 2:])
    intersection = np.maximum(high - low, 0).prod(axis=-1)
    union = first[:, 2:].prod(axis=1)[:, None] + second[:, 2:].prod(axis=1) - intersection
    return np.divide(intersection, union, where=intersection > 0, out=np.zeros_like(union))


def _draws(generator: np.random.Generator, count: int, resamples: int) -> np.ndarray:
    """(1 + resamples, count) int: how often each counts, once at first, then as it is drawn."""
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.concatenate([np.ones((1, count), dtype=int), drawn])


def _mean(values: Sequence[np.ndarray], weights: np.ndarray | int = 1) -> np.ndarray:
    """Mean along the first axis of the values that are defined; nan where none is."""
    total = np.sum(~np.isnan(values) * weights, axis=0)
    return np.nansum(values * np.array(weights), axis=0) / np.where(total, total, np.nan)


def _interval(values: np.ndarray) -> list[float] | None:
    values = values[~np.isnan(values)]
    return np.percentile(values, [2.5, 97.5]).tolist() if values.size else None


def _counted(
    matches: Matches, label: int, iou_threshold: float, size_group: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The detections that count, (m,) bool: which found a truth, and the truths that count."""
    threshold = np.flatnonzero(np.isclose(matches.iou_thresholds, iou_threshold))
    if not threshold.size:
        raise InputError(f"iou_threshold {iou_threshold}: matched at {matches.iou_thresholds} only")
    found = matches.found[SIZE_GROUPS.index(size_group), threshold[0]]
    inside = _inside(matches.truths, size_group)
    own = _inside(matches.detections, size_group)
    counts = np.where(found < 0, own, np.append(inside, False)[found])
    counts &= matches.detections["label"] == label
    truths = matches.truths[inside & (matches.truths["label"] == label)]
    return matches.detections[counts], found[counts] >= 0, truths


def _inside(boxes: np.ndarray, size_group: str) -> np.ndarray:
    return (boxes["size_group"] == size_group) | (size_group == "all")


def _boxes(rows: Iterable[tuple[int, int, float, tuple[float, ...]]]) -> np.ndarray:
    return np.array([(*row, gtsdb.size_group(row[-1][2])) for row in rows], dtype=BOX)


def _rows(boxes: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """Where the boxes of each image and label are."""
    rows = defaultdict(list)
    for row, pair in enumerate(boxes[["image", "label"]].tolist()):
        rows[pair].append(row)
    return rows


def _match_greedily(iou: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(size groups, thresholds, n): the truth that each detection takes of those left, or -1.

    `iou` is (n, g), best score first; `ignored` (size groups, g) are taken if no other will do.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    free = np.ones((len(ignored), len(limits), iou.shape[1]), dtype=bool)
    chosen = np.full((*free.shape[:2], len(iou)), -1)
    rank = iou.argsort(axis=1, kind="stable").argsort(axis=1)  # of equal IoUs, the later is higher
    for row in np.flatnonzero(iou.max(axis=1) >= limits.min()):
        preference = (rank[row] + iou.shape[1] * ~ignored)[:, None]
        possible = free & (iou[row] >= limits)
        best = np.where(possible, preference, -1).argmax(axis=-1)
        group, threshold = np.nonzero(possible.any(axis=-1))
        chosen[group, threshold, row] = best[group, threshold]
        free[group, threshold, best[group, threshold]] = False
    return chosen


def _check(truths: list[dict], detections: list[dict], image_ids: dict[int, int]) -> None:
    faults = []
    if len(image_ids) != len(truths) or not truths:
        faults.append("truths: give each image once, and one at least")
    if unknown := {label for entry in truths for label in entry["labels"]} - {*LABELS}:
        faults.append(f"truths: labels {sorted(unknown)} are not 1-4")
    for index, d in enumerate(detections):
        numbers = [*d.get("bbox", ()), d.get("score", np.nan)]
        if d.get("image_id") not in image_ids:
            faults.append(f"detection {index}: image_id {d.get('image_id')} is not in the truths")
        if d.get("category_id") not in LABELS:
            faults.append(f"detection {index}: category_id {d.get('category_id')} is not 1-4")
        if len(numbers) != 5 or not all(map(isfinite, numbers)) or min(numbers[2:4]) < 0:
            faults.append(f"detection {index}: bbox and score {numbers} are not 4 + 1 numbers")
    if faults:
        raise InputError("COCO results are needed:\n  " + "\n  ".join(faults))
