"""Where segmentations err: small tumours, outlines, calibration, averaging over symmetries."""

import json
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from torch import nn

from hw3.errors import InputError
from hw3.segmentation.dataset import LggDataset
from hw3.segmentation.experiment import predict
from hw3.segmentation.metrics import SliceCounts, count_pixels, dice, dice_gain

BINS = 10
"""Of equal width, in which predicted probabilities are counted."""
SYMMETRIES = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]
"""Quarter turns and mirroring of a square image."""


def examine(
    model: nn.Module,
    dataset: LggDataset,
    indices: np.ndarray,
    *,
    tolerance: float = 2.0,
    batch_size: int = 16,
) -> dict[str, Any]:
    """Look at slices once and keep what the other functions here derive their answers from.

    Args:
        model: in evaluation mode.
        dataset: holds the slices, which must be square.
        indices: (n,) of slices.
        tolerance: of the surface Dice, in native pixels.
        batch_size: slices predicted at once.

    Returns:
        Plain numbers, ready for JSON. `slices`: for each its `patient_id`, `slice_index`, the
        pixels `plain` and `averaged` over symmetries, each [true positive, false positive, false
        negative], and `hausdorff_95` in pixels and `surface_dice`, None where either mask is empty.
        `bins`: of all pixels, by predicted probability: their number, the sum of their
        probabilities, and how many are tumour.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> from hw3.segmentation.experiment import build, prepare
        >>> dataset, _ = prepare(SMOKE)
        >>> model = build(SMOKE.segmentation, "random").eval()
        >>> examined = examine(model, dataset, np.array([0, 5]))
        >>> [own["slice_index"] for own in examined["slices"]], sum(examined["bins"]["pixels"])
        ([1, 6], 8192.0)
    """
    native = dataset.native_masks.shape[1:]
    slices, bins = [], np.zeros((3, BINS))
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        images, masks = dataset.images[batch], dataset.native_masks[batch].astype(bool)
        plain = predict(model, images, native)
        averaged = predict_averaged(model, images, native)
        bins += _bins(plain, masks)
        for index, mask, one, mean in zip(batch, masks, plain, averaged, strict=True):
            distances = surface_distances(one > 0.5, mask, tolerance)
            slices.append(
                {
                    "patient_id": str(dataset.patient_ids[index]),
                    "slice_index": int(dataset.slice_indices[index]),
                    "plain": count_pixels(one > 0.5, mask),
                    "averaged": count_pixels(mean > 0.5, mask),
                    "hausdorff_95": distances and distances[0],
                    "surface_dice": distances and distances[1],
                }
            )
    names = ("pixels", "probability", "tumour")
    return {"slices": slices, "bins": dict(zip(names, bins.tolist(), strict=True))}


def read_examined(path: Path) -> dict[str, Any]:
    """What `tools/examine_slices.py` kept of a run: as `examine` gives it, and where it comes from.

    Example:
        >>> header = {"record": "unet", "part": "test", "bins": {}}
        >>> _ = (folder / "unet-test.json").write_text(json.dumps([header, {"slice_index": 1}]))
        >>> found = read_examined(folder / "unet-test.json")
        >>> found["part"], found["slices"]
        ('test', [{'slice_index': 1}])
    """
    header, *slices = json.loads(Path(path).read_text())
    return header | {"slices": slices}


def counts_of(examined: dict[str, Any], looks: Literal["plain", "averaged"]) -> SliceCounts:
    """The counts of the slices, each looked at once, or eight times and averaged.

    Args:
        examined: of `examine` or `read_examined`.
        looks: which of the two.

    Example:
        >>> own = {"patient_id": "a", "slice_index": 1, "plain": [6, 2, 2], "averaged": [8, 0, 0]}
        >>> counts = counts_of({"slices": [own], "bins": {"pixels": [90, 10]}}, "averaged")
        >>> counts.true_positive.tolist(), counts.pixels
        ([8], 100)
    """
    slices = examined["slices"]
    ids, numbers = (
        np.array([own[name] for own in slices]) for name in ("patient_id", "slice_index")
    )
    columns = np.array([own[looks] for own in slices], dtype=np.int64).reshape(-1, 3).T
    pixels = int(sum(examined["bins"]["pixels"])) // max(1, len(slices))
    return SliceCounts(ids, numbers, *columns, pixels=pixels)


def predict_averaged(model: nn.Module, images: np.ndarray, native: tuple[int, int]) -> np.ndarray:
    """Tumour probabilities, averaged over the eight symmetries of the square.

    Args:
        model: in evaluation mode.
        images: (n, size, size, 3) uint8.
        native: height and width of the result, equal.

    Returns:
        (n, height, width) float32 in [0, 1].

    Raises:
        InputError: if `native` is not square: a quarter turn would not fit.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> from hw3.segmentation.experiment import build
        >>> model = build(SMOKE.segmentation, "random").eval()
        >>> image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> turned = predict_averaged(model, np.rot90(image, axes=(1, 2)), (32, 32))
        >>> upright = predict_averaged(model, image, (32, 32))
        >>> np.allclose(turned, np.rot90(upright, axes=(1, 2)), atol=1e-5)
        True
    """
    if native[0] != native[1]:
        raise InputError(f"slices are {native[0]} x {native[1]} pixels: choose square ones")
    total = np.zeros((len(images), *native), np.float32)
    for turns, mirrored in SYMMETRIES:
        seen = np.rot90(images[:, :, ::-1] if mirrored else images, turns, axes=(1, 2))
        found = np.rot90(predict(model, np.ascontiguousarray(seen), native), -turns, axes=(1, 2))
        total += found[:, :, ::-1] if mirrored else found
    return total / len(SYMMETRIES)


def surface_distances(
    predicted: np.ndarray, mask: np.ndarray, tolerance: float
) -> tuple[float, float] | None:
    """95 % Hausdorff distance in pixels, and surface Dice (Nikolov et al. 2021).

    Outlines are the pixels of a mask with a neighbour, left, right, above or below, outside it. The
    first is the larger of the two directions' 95th percentiles of the distance from one outline to
    the other; the second is the share of outline pixels, of both, that lie within `tolerance`.

    Args:
        predicted: (height, width) bool.
        mask: the same shape, the truth.
        tolerance: in pixels.

    Returns:
        Both, or None where either mask is empty.

    Example:
        A square of 5 x 5 pixels, predicted three pixels too far to the right: of each outline's 16
        pixels, the 5 of the far side lie three away from the other.

        >>> mask, predicted = np.zeros((2, 9, 12), bool)
        >>> mask[2:7, 2:7] = predicted[2:7, 5:10] = True
        >>> surface_distances(predicted, mask, tolerance=2)
        (3.0, 0.6875)
    """
    if not (predicted.any() and mask.any()):
        return None
    one, other = _outline(predicted), _outline(mask)
    there, back = _distance_to(other)[one], _distance_to(one)[other]
    hausdorff = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hausdorff), float((np.concatenate([there, back]) <= tolerance).mean())


def areas_and_dice(counts: SliceCounts) -> tuple[np.ndarray, np.ndarray]:
    """Area in pixels and Dice of each slice with tumour, the smallest tumour first.

    Example:
        >>> columns = (["a", "a", "a"], [1, 2, 3], [6, 0, 1], [2, 3, 1], [2, 0, 1])
        >>> areas, scores = areas_and_dice(SliceCounts(*map(np.array, columns), pixels=100))
        >>> areas.tolist(), scores.tolist()
        ([2, 8], [0.5, 0.75])
    """
    areas = counts.true_positive + counts.false_negative
    scores = dice(counts.true_positive, counts.false_positive, counts.false_negative)
    order = np.argsort(areas, kind="stable")
    order = order[areas[order] > 0]
    return areas[order], scores[order]


def calibration_error(bins: dict[str, list[float]]) -> float:
    """Expected calibration error (Guo et al. 2017): probability against share, over all pixels.

    Args:
        bins: of `examine`.

    Example:
        A hundred pixels of probability 0.2, of which 30 are tumour:

        >>> round(calibration_error({"pixels": [100], "probability": [20], "tumour": [30]}), 3)
        0.1
    """
    pixels, probability, tumour = (np.array(bins[n]) for n in ("pixels", "probability", "tumour"))
    return float(np.abs(probability - tumour).sum() / pixels.sum())


def averaging_gain(slices: list[dict[str, Any]], seed: int = 0) -> tuple[float, list[float]]:
    """What averaging over symmetries adds to the pooled Dice, with a 95 % interval over patients.

    Args:
        slices: of `examine`.
        seed: of the bootstrap.

    Example:
        >>> slices = [{"patient_id": "a", "plain": [6, 2, 2], "averaged": [8, 0, 0]}]
        >>> averaging_gain(slices)
        (0.25, [0.25, 0.25])
    """
    ids, before, after = (
        np.array([own[name] for own in slices]) for name in ("patient_id", "plain", "averaged")
    )
    return dice_gain([(ids, before, after)], seed)


def _bins(probabilities: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(3, BINS): pixels, sum of their probabilities, tumour pixels."""
    number = np.minimum((probabilities * BINS).astype(int), BINS - 1).ravel()
    weights = (None, probabilities.ravel(), masks.ravel())
    return np.array([np.bincount(number, own, minlength=BINS) for own in weights])


def _outline(mask: np.ndarray) -> np.ndarray:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inner == 0)


def _distance_to(outline: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
