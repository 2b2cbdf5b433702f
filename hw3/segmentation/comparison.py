"""What a change of the settings is worth: runs that differ in it, compared on the same slices."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw3.errors import InputError
from hw3.records import RunRecord
from hw3.segmentation.metrics import SliceCounts, dice, dice_gain


class Gain(NamedTuple):
    """Difference of the pooled Dice, after a change minus before.

    Example:
        >>> Gain(mean=0.02, interval=(-0.01, 0.05), seeds=(0.03, 0.01), slices=(393, 393)).seeds
        (0.03, 0.01)
    """

    mean: float
    """Over the seeds."""
    interval: tuple[float, float]
    """95 %, over patients."""
    seeds: tuple[float, ...]
    """That of each seed."""
    slices: tuple[int, ...]
    """How many were compared, for each seed."""


def gain(
    before: Sequence[RunRecord], after: Sequence[RunRecord], parts: Sequence[str] = ("test",)
) -> Gain:
    """What the change from `before` to `after` adds to the pooled Dice of parts of the data.

    Args:
        before: runs, one a seed.
        after: runs of the same seeds on the same data, in the same order. They are compared on
            the slices that both have scored.
        parts: of train, validation and test, those whose slices count.

    Raises:
        InputError: if the runs do not pair up, or share no slice.

    Example:
        >>> def run(hits):
        ...     counts = {"a": {"slice_indices": [1], "true_positive": [hits]}}
        ...     counts["a"] |= {"false_positive": [2], "false_negative": [8 - hits]}
        ...     evidence = {"pixels_per_slice": 100, "test": counts}
        ...     return RunRecord("unet", {}, {"fingerprint": "f00d"}, seed=0, evidence=evidence)
        >>> round(gain([run(hits=6)], [run(hits=8)]).mean, 3)
        0.139
    """
    pairs = _pairs(before, after, parts)
    mean, interval = dice_gain(pairs)
    seeds = tuple(dice_gain([pair])[0] for pair in pairs)
    return Gain(mean, tuple(interval), seeds, tuple(len(ids) for ids, _, _ in pairs))


def mean_dice(runs: Sequence[RunRecord], part: str) -> float:
    """Pooled Dice of one part of the data, the mean over runs.

    Example:
        >>> run = RunRecord("unet", {}, {}, seed=0, results={"test": {"dice": 0.75}})
        >>> mean_dice([run, run], "test")
        0.75
    """
    return sum(run.results[part]["dice"] for run in runs) / len(runs)


def patient_dice(
    before: Sequence[RunRecord], after: Sequence[RunRecord], parts: Sequence[str] = ("test",)
) -> np.ndarray:
    """Dice of each patient with tumour, before and after, on the slices that `gain` compares.

    Returns:
        (n, 2) in [0, 1]: a patient that several seeds score has a row for each.

    Example:
        >>> def run(hits):
        ...     counts = {"a": {"slice_indices": [1], "true_positive": [hits]}}
        ...     counts["a"] |= {"false_positive": [2], "false_negative": [8 - hits]}
        ...     evidence = {"pixels_per_slice": 100, "test": counts}
        ...     return RunRecord("unet", {}, {"fingerprint": "f00d"}, seed=0, evidence=evidence)
        >>> patient_dice([run(hits=6)], [run(hits=8)]).round(3).tolist()
        [[0.75, 0.889]]
    """
    rows = []
    for ids, *sides in _pairs(before, after, parts):
        for patient in np.unique(ids):
            volumes = [side[ids == patient].sum(axis=0) for side in sides]
            true_positive, _, false_negative = volumes[0]
            if true_positive + false_negative:
                rows.append([float(dice(*volume)) for volume in volumes])
    return np.array(rows).reshape(-1, 2)


def _pairs(
    before: Sequence[RunRecord], after: Sequence[RunRecord], parts: Sequence[str]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each seed patient ids (n,), and pixels (n, 3) before and after."""
    if not before or len(before) != len(after):
        raise InputError(f"{len(before)} runs before and {len(after)} after do not pair up")
    return [_pair(*runs, parts) for runs in zip(before, after, strict=True)]


def _pair(
    before: RunRecord, after: RunRecord, parts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mine, other = _pixels(before, parts), _pixels(after, parts)
    both = [own for own in other if own in mine]
    same = before.seed == after.seed and before.data["fingerprint"] == after.data["fingerprint"]
    if not same or not both:
        names = f"{before.name} and {after.name}"
        shared = f"{' and '.join(parts)} slices"
        raise InputError(f"{names} differ in seed, data or {shared}: no pair to compare")
    patient_ids = np.array([patient for patient, _ in both])
    return (
        patient_ids,
        np.array([mine[own] for own in both]),
        np.array([other[own] for own in both]),
    )


def _pixels(record: RunRecord, parts: Sequence[str]) -> dict[tuple[str, int], np.ndarray]:
    """True positive, false positive and false negative pixels by patient and slice."""
    pixels, evidence = {}, record.evidence
    for part in parts:
        counts = SliceCounts.from_evidence(evidence[part], evidence["pixels_per_slice"])
        slices = zip(counts.patient_ids.tolist(), counts.slice_indices.tolist(), strict=True)
        columns = (counts.true_positive, counts.false_positive, counts.false_negative)
        pixels |= zip(slices, np.stack(columns, axis=1), strict=True)
    return pixels
