"""Scores of segmentations, all derived from integer counts that are kept for every slice.

Count, then divide: nothing is ever averaged over batches, except where the report's own way is
computed for comparison. A ratio with nothing to count (no tumour and none predicted) is 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw3.data import InputError

RESAMPLES = 1000
COLUMNS = ("slice_indices", "true_positive", "false_positive", "false_negative")


@dataclass(frozen=True)
class SliceCounts:
    """Pixel counts of n slices in a stated order.

    Attributes:
        patient_ids: (n,) str.
        slice_indices: (n,) int64.
        true_positive, false_positive, false_negative: (n,) int64 pixels.
        pixels: pixels a slice, tumour or not.
    """

    patient_ids: np.ndarray
    slice_indices: np.ndarray
    true_positive: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray
    pixels: int

    def __len__(self) -> int:
        return len(self.true_positive)

    @property
    def triple(self) -> np.ndarray:
        """(3, n) int64: true positive, false positive and false negative pixels."""
        return np.stack([self.true_positive, self.false_positive, self.false_negative])

    @property
    def tumour(self) -> np.ndarray:
        """Which slices hold tumour in truth, as (n,) bool."""
        return self.true_positive + self.false_negative > 0

    @property
    def predicted(self) -> np.ndarray:
        """In which slices tumour was predicted, as (n,) bool."""
        return self.true_positive + self.false_positive > 0

    def to_evidence(self) -> dict[str, dict[str, list[int]]]:
        """The counts by patient, as plain numbers for a record."""
        return {
            patient: {c: getattr(self, c)[self.patient_ids == patient].tolist() for c in COLUMNS}
            for patient in dict.fromkeys(self.patient_ids.tolist())
        }

    @classmethod
    def from_evidence(cls, evidence: dict[str, dict[str, list[int]]], pixels: int) -> "SliceCounts":
        """The inverse of `to_evidence`."""
        columns = (
            np.array([n for own in evidence.values() for n in own[name]], dtype=np.int64)
            for name in COLUMNS
        )
        repeats = [len(own["slice_indices"]) for own in evidence.values()]
        return cls(np.repeat(list(evidence), repeats), *columns, pixels=pixels)


def count_pixels(predicted: np.ndarray, mask: np.ndarray) -> tuple[int, int, int]:
    """True positive, false positive and false negative pixels of one slice, from bool or {0, 1}."""
    if predicted.shape != mask.shape:
        raise InputError(f"predicted {predicted.shape} and mask {mask.shape} differ in shape")
    predicted, mask = predicted.astype(bool), mask.astype(bool)
    both = int(np.count_nonzero(predicted & mask))
    return both, int(np.count_nonzero(predicted)) - both, int(np.count_nonzero(mask)) - both


def dice(true_positive: Any, false_positive: Any, false_negative: Any) -> np.ndarray:
    """2 TP / (2 TP + FP + FN), elementwise; 1 where all three are 0 (Dice 1945).

    Example:
        >>> dice([6, 0], [2, 0], [2, 0]).tolist()
        [0.75, 1.0]
    """
    return _ratio(2 * np.asarray(true_positive), np.add(false_positive, false_negative))


def iou(true_positive: Any, false_positive: Any, false_negative: Any) -> np.ndarray:
    """TP / (TP + FP + FN), elementwise; 1 where all three are 0 (Jaccard 1912)."""
    return _ratio(np.asarray(true_positive), np.add(false_positive, false_negative))


def scores(counts: SliceCounts, *, batch_size: int, seed: int = 0) -> dict[str, Any]:
    """Every score of the records, with 95 % intervals over patients for the headline ones.

    Args:
        counts: of one part of the data, in the order in which batches were formed.
        batch_size: of the report's batch means.
        seed: of the bootstrap.

    Returns:
        `dice`, `iou`, `accuracy` (pooled); `accuracy_all_background`; `dice_batch_mean`,
        `iou_batch_mean` (the report's way); `dice_slice_mean_empty_is_1` (a slice without tumour
        scores 1 if left empty, else 0); `dice_slice_mean_tumour_only`; `dice_patient_mean` and
        `dice_patient_median` (volumes; patients with tumour in these slices);
        `slice_sensitivity`, `slice_specificity` (a slice is called positive at one pixel). A score
        that these slices cannot give (no tumour at all, say) is None.

    Example:
        Of 100 pixels, 6 are hit, 2 false and 2 missed in one slice, and 3 false in the other:

        >>> columns = (["a", "b"], [1, 1], [6, 0], [2, 3], [2, 0])
        >>> found = scores(SliceCounts(*map(np.array, columns), pixels=100), batch_size=2)
        >>> {name: round(found[name], 3) for name in ("dice", "accuracy", "dice_patient_mean")}
        {'dice': 0.632, 'accuracy': 0.965, 'dice_patient_mean': 0.75}
    """
    if not len(counts):
        raise InputError("no slices to score")
    triple, volumes = counts.triple, _by_patient(counts.patient_ids, counts.triple)
    with_tumour = volumes[:, volumes[0] + volumes[2] > 0]
    starts = np.arange(0, len(counts), batch_size)
    batches = np.add.reduceat(triple, starts, axis=1)
    slice_dice, patient_dice = dice(*triple), dice(*with_tumour)
    tumour, predicted = counts.tumour, counts.predicted
    total = counts.pixels * len(counts)
    result = {
        "slices": len(counts),
        "slices_with_tumour": int(tumour.sum()),
        "patients": volumes.shape[1],
        "dice": dice(*triple.sum(axis=1)),
        "iou": iou(*triple.sum(axis=1)),
        "accuracy": 1 - triple[1:].sum() / total,
        "accuracy_all_background": 1 - triple[[0, 2]].sum() / total,
        "dice_batch_mean": dice(*batches).mean(),
        "iou_batch_mean": iou(*batches).mean(),
        "dice_slice_mean_empty_is_1": slice_dice.mean(),
        "dice_slice_mean_tumour_only": _mean(slice_dice[tumour]),
        "dice_patient_mean": _mean(patient_dice),
        "dice_patient_median": float(np.median(patient_dice)) if patient_dice.size else None,
        "slice_sensitivity": _mean(predicted[tumour]),
        "slice_specificity": _mean(~predicted[~tumour]),
    }
    pixels = np.unique(counts.patient_ids, return_counts=True)[1] * counts.pixels
    result |= _intervals(volumes, with_tumour, pixels, seed)
    return {k: float(v) if isinstance(v, np.generic | np.ndarray) else v for k, v in result.items()}


def dice_gain(before: SliceCounts, after: SliceCounts, seed: int = 0) -> tuple[float, list[float]]:
    """What a change adds to the pooled Dice of the slices that both sides have counted.

    Returns:
        The gain, and its 95 % interval over patients, of whom both sides see the same resamples.
    """
    _, *chosen = np.intersect1d(_slice_ids(before), _slice_ids(after), return_indices=True)
    if not len(chosen[0]):
        raise InputError("no slice was counted both before and after: give counts of the same part")
    pairs = zip((before, after), chosen, strict=True)
    volumes = np.stack([_by_patient(c.patient_ids[own], c.triple[:, own]) for c, own in pairs])
    drawn = _draw(np.random.default_rng(seed), volumes.shape[2])
    resampled = drawn @ volumes.swapaxes(1, 2)
    gains = np.subtract(*(dice(*own.T) for own in resampled[::-1]))
    gain = np.subtract(*(dice(*own.sum(axis=1)) for own in volumes[::-1]))
    return float(gain), np.percentile(gains, [2.5, 97.5]).tolist()


def _intervals(volumes: np.ndarray, with_tumour: np.ndarray, pixels: np.ndarray, seed: int) -> dict:
    """Percentile bootstrap over patients: slices of one patient are not independent."""
    generator = np.random.default_rng(seed)
    patients = volumes.shape[1]
    drawn = _draw(generator, patients)
    pooled = drawn @ volumes.T
    resampled = {
        "dice": dice(*pooled.T),
        "iou": iou(*pooled.T),
        "accuracy": 1 - pooled[:, 1:].sum(axis=1) / (drawn @ pixels),
    }
    if with_tumour.shape[1]:
        chosen = generator.integers(with_tumour.shape[1], size=(RESAMPLES, with_tumour.shape[1]))
        resampled["dice_patient_mean"] = dice(*with_tumour)[chosen].mean(axis=1)
    return {
        f"{name}_interval": np.percentile(values, [2.5, 97.5]).tolist()
        for name, values in resampled.items()
    }


def _draw(generator: np.random.Generator, patients: int) -> np.ndarray:
    """(resamples, patients) int64: how often each patient is drawn, with replacement."""
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)


def _by_patient(patient_ids: np.ndarray, triple: np.ndarray) -> np.ndarray:
    """(3, patients) int64: the counts summed over each patient's slices."""
    patients, number = np.unique(patient_ids, return_inverse=True)
    volumes = np.zeros((3, len(patients)), dtype=np.int64)
    np.add.at(volumes, (slice(None), number), triple)
    return volumes


def _slice_ids(counts: SliceCounts) -> list[str]:
    pairs = zip(counts.patient_ids, counts.slice_indices, strict=True)
    return [f"{patient}_{number}" for patient, number in pairs]


def _ratio(hits: np.ndarray, errors: np.ndarray) -> np.ndarray:
    total = hits + errors
    return np.where(total > 0, hits / np.where(total > 0, total, 1), 1.0)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
