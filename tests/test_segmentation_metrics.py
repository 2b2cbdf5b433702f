import json

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_iou
from torchmetrics.functional import classification

from hw3.data import InputError
from hw3.segmentation.metrics import SliceCounts, count_pixels, dice, dice_gain, scores

# patient, slice, true positive, false positive, false negative; 100 pixels each
TABLE = [
    ("a", 1, 0, 0, 0),  # rightly left empty
    ("a", 2, 8, 2, 2),  # Dice 16/20
    ("a", 3, 0, 5, 0),  # false tumour
    ("b", 1, 3, 0, 9),  # Dice 6/15
    ("b", 2, 0, 0, 4),  # missed
]


def make(rows: list[tuple[str, int, int, int, int]], pixels: int = 100) -> SliceCounts:
    patients, *columns = zip(*rows, strict=True)
    return SliceCounts(np.array(patients), *map(np.array, columns), pixels=pixels)


def random_masks(seed: int, slices: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truth (slices, 12, 10), with slices empty in either, both and neither."""
    generator = np.random.default_rng(seed)
    truth = generator.random((slices, 12, 10)) > 0.8
    predicted = truth ^ (generator.random(truth.shape) > 0.9)
    truth[::3] = False
    predicted[::3] = False
    predicted[3::6] = generator.random(predicted[3::6].shape) > 0.9
    predicted[1::6] = False
    return predicted, truth


def count(predicted: np.ndarray, truth: np.ndarray, slices_a_patient: int = 5) -> SliceCounts:
    rows = [
        (f"p{i // slices_a_patient}", i, *count_pixels(*pair))
        for i, pair in enumerate(zip(predicted, truth, strict=True))
    ]
    return make(rows, pixels=truth[0].size)


def tensors(*masks: np.ndarray, volumes: int | None = None) -> list[torch.Tensor]:
    """(slices, 1, height, width), or (volumes, 1, depth, height, width)."""
    shape = (-1, 1, *masks[0].shape[1:])
    if volumes:
        shape = (volumes, 1, -1, *masks[0].shape[1:])
    return [torch.from_numpy(mask).reshape(shape) for mask in masks]


def test_counts_of_one_slice() -> None:
    predicted = np.array([[1, 1, 0], [0, 1, 0]], dtype=np.uint8)
    mask = np.array([[1, 0, 0], [1, 1, 1]], dtype=np.uint8)
    assert count_pixels(predicted, mask) == (2, 1, 2)
    assert count_pixels(predicted > 0, 255 * mask) == (2, 1, 2)
    assert all(type(value) is int for value in count_pixels(predicted, mask))
    with pytest.raises(InputError, match=r"predicted \(2, 3\) and mask \(2, 2\) differ"):
        count_pixels(predicted, mask[:, :2])


def test_every_score_by_hand() -> None:
    result = scores(make(TABLE), batch_size=2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    expected = {
        "slices": 5,
        "slices_with_tumour": 3,
        "patients": 2,
        "dice": 22 / 44,
        "iou": 11 / 33,
        "accuracy": 1 - 22 / 500,
        "accuracy_all_background": 1 - 26 / 500,
        # Batches of 2, 2 and 1 slices: (8, 2, 2), (3, 5, 9), (0, 0, 4).
        "dice_batch_mean": (16 / 20 + 6 / 20 + 0) / 3,
        "iou_batch_mean": (8 / 12 + 3 / 17 + 0) / 3,
        "dice_slice_mean_empty_is_1": (1 + 0.8 + 0 + 0.4 + 0) / 5,
        "dice_slice_mean_tumour_only": (0.8 + 0.4 + 0) / 3,
        # a: (8, 7, 2); b: (3, 0, 13).
        "dice_patient_mean": (16 / 25 + 6 / 19) / 2,
        "dice_patient_median": (16 / 25 + 6 / 19) / 2,
        "slice_sensitivity": 2 / 3,
        "slice_specificity": 1 / 2,
    }
    intervals = {name for name in result if name.endswith("_interval")}
    estimates = {name: value for name, value in result.items() if name not in intervals}
    assert estimates == pytest.approx(expected)
    headline = ("dice", "iou", "accuracy", "dice_patient_mean")
    assert intervals == {f"{name}_interval" for name in headline}


def test_the_median_is_over_patients_with_tumour() -> None:
    rows = [("a", 1, 1, 1, 0), ("b", 1, 1, 0, 0), ("c", 1, 1, 6, 0), ("d", 1, 0, 3, 0)]
    result = scores(make(rows), batch_size=4)
    assert result["dice_patient_median"] == pytest.approx(2 / 3)
    assert result["dice_patient_mean"] == pytest.approx((2 / 3 + 1 + 2 / 8) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_agreement_with_monai_and_torchmetrics(seed) -> None:
    predicted, truth = random_masks(seed)
    result = scores(count(predicted, truth), batch_size=7)
    slices, pooled = tensors(predicted, truth), tensors(predicted, truth, volumes=1)
    batches = [
        compute_dice(*tensors(predicted[i : i + 7], truth[i : i + 7], volumes=1))
        for i in range(0, len(truth), 7)
    ]
    pair = [mask.int() for mask in slices]
    found = [mask.flatten(1).any(dim=1).int() for mask in pair]
    for name, value in {
        "dice_slice_mean_empty_is_1": compute_dice(*slices, ignore_empty=False).mean(),
        "dice_slice_mean_tumour_only": compute_dice(*slices, ignore_empty=True).nanmean(),
        "dice_patient_mean": compute_dice(*tensors(predicted, truth, volumes=6)).nanmean(),
        "dice": compute_dice(*pooled),
        "iou": compute_iou(*pooled),
        "dice_batch_mean": torch.cat(batches).mean(),
        "accuracy": classification.binary_accuracy(*pair),
        "accuracy_all_background": classification.binary_accuracy(0 * pair[0], pair[1]),
        "slice_sensitivity": classification.binary_recall(*found),
        "slice_specificity": classification.binary_specificity(*found),
    }.items():
        assert result[name] == pytest.approx(value.item(), abs=1e-6), name


def test_intervals_are_seeded_hold_the_estimate_and_shrink_with_more_patients() -> None:
    widths = []
    for slices in (50, 800):
        counts = count(*random_masks(0, slices))
        result, again, other = (scores(counts, batch_size=8, seed=seed) for seed in (0, 0, 1))
        assert result == again and result["dice_interval"] != other["dice_interval"]
        names = [name for name in result if name.endswith("_interval")]
        for name in names:
            low, high = result[name]
            assert 0 <= low < result[name.removesuffix("_interval")] < high <= 1
        widths.append([np.ptp(result[name]) for name in names])
    assert (np.array(widths[1]) < np.array(widths[0]) / 2).all()  # about a quarter


def test_intervals_are_over_patients_not_slices() -> None:
    """Ten times the same slice of each patient is no more evidence than one."""
    rows = [("a", 1, 9, 1, 0), ("b", 1, 2, 3, 5), ("c", 1, 4, 0, 1), ("d", 1, 6, 6, 6)]
    once = scores(make(rows), batch_size=4)
    often = scores(make(rows * 10), batch_size=4)
    for name in ("dice", "iou", "accuracy", "dice_patient_mean"):
        assert often[f"{name}_interval"] == pytest.approx(once[f"{name}_interval"])


def test_what_is_not_there_has_no_score() -> None:
    result = scores(make([("a", 1, 0, 0, 0), ("b", 1, 0, 0, 0)]), batch_size=2)
    ones = ("dice", "iou", "accuracy", "accuracy_all_background", "slice_specificity")
    assert [result[name] for name in ones] == [1] * 5
    missing = ("dice_slice_mean_tumour_only", "dice_patient_mean", "dice_patient_median")
    assert all(result[name] is None for name in (*missing, "slice_sensitivity"))
    assert "dice_patient_mean_interval" not in result
    full = scores(make([("a", 1, 100, 0, 0), ("b", 1, 60, 0, 40)]), batch_size=20)
    assert (full["accuracy_all_background"], full["accuracy"]) == (0, 0.8)
    assert full["dice_batch_mean"] == full["dice"] == pytest.approx(320 / 360)
    assert full["slice_sensitivity"] == 1 and full["slice_specificity"] is None
    with pytest.raises(InputError, match="no slices"):
        scores(SliceCounts.from_evidence({}, pixels=100), batch_size=2)


def test_gain_on_the_slices_that_both_have_counted() -> None:
    before = make([("a", 1, 6, 2, 2), ("a", 2, 0, 0, 4), ("b", 1, 0, 9, 9)])
    after = make([("c", 1, 9, 9, 9), ("a", 2, 3, 0, 1), ("a", 1, 8, 0, 0)])
    gain, (low, high) = dice_gain(before, after)
    assert gain == low == high == pytest.approx(22 / 23 - 12 / 20)
    assert dice_gain(before, before) == (0.0, [0.0, 0.0])
    with pytest.raises(InputError, match="no slice was counted both before and after"):
        dice_gain(before, make([("b", 2, 1, 0, 0)]))


def test_gain_and_its_interval_by_resampling_one_by_one() -> None:
    predicted, truth = random_masks(0, 60)
    before, after = count(predicted, truth), count(predicted | np.roll(truth, 1, axis=2), truth)
    gain, interval = dice_gain(before, after)
    both = [scores(own, batch_size=8)["dice"] for own in (before, after)]
    assert gain == pytest.approx(both[1] - both[0])
    generator, gains = np.random.default_rng(1), []
    patients = np.unique(before.patient_ids)
    for _ in range(1000):
        drawn = [np.flatnonzero(before.patient_ids == p) for p in generator.choice(patients, 12)]
        own = np.concatenate(drawn)
        sides = [dice(*counts.triple[:, own].sum(axis=1)) for counts in (before, after)]
        gains.append(sides[1] - sides[0])
    assert interval == pytest.approx(np.percentile(gains, [2.5, 97.5]), abs=0.02)
