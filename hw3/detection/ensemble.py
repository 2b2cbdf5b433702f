"""Several detectors as one, from what their records keep: nothing is predicted anew."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torchvision.ops import box_iou

from hw3.detection.dataset import GROUPS
from hw3.errors import InputError
from hw3.records import RunRecord


def averaged(runs: Sequence[RunRecord], iou_threshold: float = 0.5) -> RunRecord:
    """Detectors that know the same groups, as one: boxes that overlap become their mean.

    Weighted boxes fusion (Solovyev et al. 2021, https://arxiv.org/abs/1910.13302). In each image
    and group, from the highest score down, a box joins the cluster whose mean box it overlaps
    most, or begins one. A cluster's box is the mean of its boxes, weighted by their scores. Its
    score is their mean, times the share of the detectors that found it. Boxes of score 0, which
    would weigh nothing, are left out.

    Args:
        runs: two or more of the same `group`, tested on the same images.
        iou_threshold: overlap above which a box joins a cluster.

    Returns:
        The first run's record with the averaged detections, and without history and results.

    Raises:
        InputError: if there are fewer than two, they know different groups, or they were tested
            on different images.

    Example:
        Both find a sign, with boxes that are 2 pixels apart; one has a false alarm:

        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
        >>> alarm = {"image_id": 7, "category_id": 1, "bbox": [90, 0, 20, 20], "score": 0.6}
        >>> runs = []
        >>> for x, others in ((0, []), (2, [alarm])):
        ...     found = {"image_id": 7, "category_id": 1, "bbox": [x, 0, 20, 20], "score": 0.8}
        ...     evidence = {"truths": truths, "detections": [found, *others]}
        ...     runs.append(RunRecord("run", {}, data={}, seed=0, evidence=evidence))
        >>> [(own["bbox"], own["score"]) for own in averaged(runs).evidence["detections"]]
        [([1.0, 0.0, 20.0, 20.0], 0.8), ([90.0, 0.0, 20.0, 20.0], 0.3)]
    """
    if len(runs) < 2:
        raise InputError(f"{len(runs)} run(s) given: averaging takes two or more")
    groups = [run.settings.get("group") for run in runs]
    if len(set(groups)) > 1:
        raise InputError(f"the runs know {', '.join(map(str, groups))}: give runs of one `group`")
    _check_images(runs)
    found: dict[tuple[int, int], list[tuple[float, np.ndarray]]] = defaultdict(list)
    for run in runs:
        for own in run.evidence["detections"]:
            x, y, width, height = own["bbox"]
            box = np.array([x, y, x + width, y + height])
            if own["score"] > 0:
                found[own["image_id"], own["category_id"]].append((own["score"], box))
    detections = [
        {
            "image_id": image_id,
            "category_id": label,
            "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(cluster.score(len(runs)), 4),
        }
        for (image_id, label), boxes in found.items()
        for cluster in _clusters(boxes, iou_threshold)
        for x1, y1, x2, y2 in [cluster.box]
    ]
    evidence = {"truths": runs[0].evidence["truths"], "detections": detections}
    return replace(runs[0], history=[], evidence=evidence, results={})


def joined(runs: Sequence[RunRecord]) -> RunRecord:
    """Detectors that each know one group, as one that knows all: signs and detections together.

    Args:
        runs: each of another group, tested on the same images.

    Returns:
        The first run's record with the signs of all and each group's own detections, and without
        group, history and results.

    Raises:
        InputError: if the runs were tested on different images, or two know the same group.

    Example:
        >>> runs = []
        >>> for label, group in enumerate(("prohibitory", "mandatory"), 1):
        ...     sign = {"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [label]}
        ...     found = {"image_id": 7, "category_id": label, "bbox": [0, 0, 20, 20], "score": 0.9}
        ...     run = RunRecord("run", {"group": group}, data={}, seed=0)
        ...     run.evidence = {"truths": [sign], "detections": [found]}
        ...     runs.append(run)
        >>> together = joined(runs)
        >>> together.evidence["truths"][0]["labels"], len(together.evidence["detections"])
        ([1, 2], 2)
    """
    groups = [run.settings.get("group") for run in runs]
    if not groups or None in groups or len(set(groups)) < len(groups):
        raise InputError(f"the runs know {', '.join(map(str, groups))}: give one run a group")
    _check_images(runs)
    merged = [
        {
            "image_id": parts[0]["image_id"],
            "boxes_xyxy": [box for own in parts for box in own["boxes_xyxy"]],
            "labels": [label for own in parts for label in own["labels"]],
        }
        for parts in zip(*(run.evidence["truths"] for run in runs), strict=True)
    ]
    detections = [  # a run knows no other label, but its weights may
        found
        for run, group in zip(runs, groups, strict=True)
        for found in run.evidence["detections"]
        if found["category_id"] == GROUPS.index(group) + 1
    ]
    evidence = {"truths": merged, "detections": detections}
    settings = runs[0].settings | {"group": None}
    return replace(runs[0], settings=settings, history=[], evidence=evidence, results={})


@dataclass
class _Cluster:
    """Boxes of one thing, and their mean, weighted by their scores."""

    box: np.ndarray
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, score: float, box: np.ndarray) -> None:
        self.boxes.append(box)
        self.scores.append(score)
        self.box = np.average(self.boxes, axis=0, weights=self.scores)

    def score(self, detectors: int) -> float:
        return float(np.mean(self.scores)) * min(len(self.scores), detectors) / detectors


def _clusters(found: list[tuple[float, np.ndarray]], iou_threshold: float) -> list[_Cluster]:
    clusters: list[_Cluster] = []
    for score, box in sorted(found, key=lambda own: -own[0]):
        means = torch.tensor(np.array([cluster.box for cluster in clusters])).reshape(-1, 4)
        overlaps = box_iou(torch.tensor(box)[None], means)[0]
        if clusters and overlaps.max() > iou_threshold:
            cluster = clusters[int(overlaps.argmax())]
        else:
            cluster = _Cluster(box)
            clusters.append(cluster)
        cluster.add(score, box)
    return clusters


def _check_images(runs: Sequence[RunRecord]) -> None:
    images = {tuple(own["image_id"] for own in run.evidence["truths"]) for run in runs}
    if len(images) > 1 or len({run.data.get("fingerprint") for run in runs}) > 1:
        raise InputError("the runs were tested on different images: use the same")
