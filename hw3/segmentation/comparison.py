"""What a change of the settings is worth: runs that differ in it, compared on the same slices."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw3.errors import InputError
from hw3.records import RunRecord
from hw3.segmentation.metrics import SliceCounts, dice_gain


class Gain(NamedTuple):
    """Difference of the pooled Dice, after a change minus before.

    Example:
        >>> Gain(mean=0.02, interval=(-0.01, 0.05), seeds=(0.03, 0.01)).seeds
        (0.03, 0.01)
    """

    mean: float
    """Over the seeds."""
    interval: tuple[float, float]
    """95 %, over patients."""
    seeds: tuple[float, ...]
    """That of each seed."""


def gain(before: Sequence[RunRecord], after: Sequence[RunRecord], part: str = "test") -> Gain:
    """What the change from `before` to `after` adds to the pooled Dice of one part of the data.

    Args:
        before: runs, one a seed.
        after: runs of the same seeds, in the same order, on the same slices.
        part: train, validation or test.

    Raises:
        InputError: if the runs do not pair up.

    Example:
        >>> def run(hits):
        ...     counts = {"a": {"slice_indices": [1], "true_positive": [hits]}}
        ...     counts["a"] |= {"false_positive": [2], "false_negative": [8 - hits]}
        ...     evidence = {"pixels_per_slice": 100, "test": counts}
        ...     split = {"test": {"a": [1]}}
        ...     return RunRecord("unet", {}, {"split": split}, seed=0, evidence=evidence)
        >>> round(gain([run(hits=6)], [run(hits=8)]).mean, 3)
        0.139
    """
    if not before or len(before) != len(after):
        raise InputError(f"{len(before)} runs before and {len(after)} after do not pair up")
    parts = []
    for first, second in zip(before, after, strict=True):
        mine, other = (own.data["split"][part] for own in (first, second))
        if first.seed != second.seed or mine != other:
            names = f"{first.name} and {second.name}"
            raise InputError(f"{names} differ in seed or {part} slices: no pair to compare")
        (patient_ids, pixels), (_, changed) = (_pixels(own, part) for own in (first, second))
        parts.append((patient_ids, pixels, changed))
    mean, interval = dice_gain(parts)
    return Gain(mean, tuple(interval), tuple(dice_gain([own])[0] for own in parts))


def _pixels(record: RunRecord, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Patient ids (n,), and true positive, false positive and false negative pixels (n, 3)."""
    evidence = record.evidence
    counts = SliceCounts.from_evidence(evidence[part], evidence["pixels_per_slice"])
    columns = (counts.true_positive, counts.false_positive, counts.false_negative)
    return counts.patient_ids, np.stack(columns, axis=1)
