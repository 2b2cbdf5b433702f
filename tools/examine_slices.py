"""Examine a U-Net's slices: python tools/examine_slices.py RECORD WEIGHTS DATA PART.

PART is train, validation or test. Writes book/examined/<record>-<part>.json, since neither the
slices nor the weights are in the book: what was examined, then each slice.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import nn

from hw3 import records
from hw3.data import InputError, write_atomically
from hw3.segmentation import experiment
from hw3.segmentation.lgg import LggDataset
from hw3.segmentation.metrics import count_pixels

FOLDER = Path(__file__).resolve().parent.parent / "book/examined"
TOLERANCE = 2.0  # of the surface Dice, in pixels
BINS = 10  # of equal width, in which predicted probabilities are counted
SYMMETRIES = [(turns, step) for step in (1, -1) for turns in range(4)]
"""Quarter turns of a square image, and the step through its columns: -1 mirrors it."""


def main() -> None:
    """Examine one part of one run."""
    if len(sys.argv) != 5 or sys.argv[4] not in experiment.PARTS:
        sys.exit(__doc__)
    path, weights, source, part = sys.argv[1:]
    try:
        record = records.load(Path(path))
        model, dataset, _ = experiment.restore(record, source, Path(weights))
    except InputError as error:
        sys.exit(str(error))
    bins, slices = examine(model, dataset, dataset.indices_of(record.data["split"][part]))
    what = {"record": record.name, "key": record.key, "part": part, "tolerance": TOLERANCE}
    lines = [what | records.provenance() | {"bins": bins}, *slices]
    text = ",\n".join(map(json.dumps, lines))
    write_atomically(FOLDER / f"{Path(path).stem}-{part}.json", f"[{text}]\n".encode())


def examine(
    model: nn.Module, dataset: LggDataset, indices: np.ndarray
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Plain numbers, ready for JSON.

    Returns:
        Of all pixels, by predicted probability, their number, the sum of their probabilities, and
        how many are tumour. And for each slice the pixels `plain` and `averaged` over symmetries,
        each [true positive, false positive, false negative], and `hausdorff_95` in pixels and
        `surface_dice`, None where either mask is empty.
    """
    native = dataset.native_masks.shape[1:]
    slices, bins = [], np.zeros((3, BINS))
    for index in indices:
        mask = dataset.native_masks[index].astype(bool)
        [plain] = experiment.predict(model, dataset.images[[index]], native)
        averaged = predict_averaged(model, dataset.images[index], native)
        number = np.minimum((plain * BINS).astype(int), BINS - 1).ravel()
        for row, own in zip(bins, (None, plain.ravel(), mask.ravel()), strict=True):
            row += np.bincount(number, own, minlength=BINS)
        hausdorff, surface_dice = surface_distances(plain > 0.5, mask)
        slices.append(
            {
                "patient_id": str(dataset.patient_ids[index]),
                "slice_index": int(dataset.slice_indices[index]),
                "plain": count_pixels(plain > 0.5, mask),
                "averaged": count_pixels(averaged > 0.5, mask),
                "hausdorff_95": hausdorff,
                "surface_dice": surface_dice,
            }
        )
    return dict(zip(("pixels", "probability", "tumour"), bins.tolist(), strict=True)), slices


def predict_averaged(model: nn.Module, image: np.ndarray, native: tuple[int, int]) -> np.ndarray:
    """(height, width) tumour probabilities, the mean over the eight symmetries of the square."""
    looks = [np.rot90(image[:, ::step], turns) for turns, step in SYMMETRIES]
    found = zip(experiment.predict(model, np.stack(looks), native), SYMMETRIES, strict=True)
    return np.mean([np.rot90(one, -turns)[:, ::step] for one, (turns, step) in found], axis=0)


def surface_distances(
    predicted: np.ndarray, mask: np.ndarray
) -> tuple[float, float] | tuple[None, None]:
    """95 % Hausdorff distance in pixels, and surface Dice (Nikolov et al. 2021).

    Outlines are the pixels of a mask with a neighbour, left, right, above or below, outside it. The
    first is the larger of the two directions' 95th percentiles of the distance from one outline to
    the other; the second is the share of outline pixels, of both, that lie within TOLERANCE.
    """
    if not (predicted.any() and mask.any()):
        return None, None
    one, other = (own & ~binary_erosion(own) for own in (predicted, mask))
    there, back = distance_transform_edt(~other)[one], distance_transform_edt(~one)[other]
    hausdorff = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hausdorff), float((np.concatenate([there, back]) <= TOLERANCE).mean())


if __name__ == "__main__":
    main()
