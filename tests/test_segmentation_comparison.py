"""Gains between runs, on counts small enough to divide by hand."""

import numpy as np
import pytest

from hw3.errors import InputError
from hw3.records import RunRecord
from hw3.segmentation.comparison import gain, patient_dice
from hw3.segmentation.figures import gains, leak
from hw3.segmentation.metrics import dice_gain

COLUMNS = ("slice_indices", "true_positive", "false_positive", "false_negative")


def run(*slices: tuple[str, int, int, int], seed: int = 0, fingerprint: str = "f00d") -> RunRecord:
    """A run with test slices of one patient each: id, and the three kinds of pixels."""
    counts = {
        patient: dict(zip(COLUMNS, ([1], *([n] for n in triple)), strict=True))
        for patient, *triple in slices
    }
    evidence = {"pixels_per_slice": 100, "test": counts}
    data = {"fingerprint": fingerprint}
    return RunRecord(f"seed{seed}", {}, data, seed=seed, evidence=evidence)


def test_gain_is_of_the_pooled_dice_and_the_mean_of_the_seeds() -> None:
    before = [run(("a", 6, 2, 2), ("b", 0, 0, 4)), run(("a", 5, 5, 5), seed=1)]
    after = [run(("a", 8, 0, 0), ("b", 0, 0, 4)), run(("a", 4, 6, 6), seed=1)]
    found = gain(before, after)
    first, second = 16 / 20 - 12 / 20, 8 / 20 - 10 / 20
    assert found.seeds == pytest.approx((first, second))
    assert found.mean == pytest.approx((first + second) / 2)
    assert found.interval[0] <= found.mean <= found.interval[1]


def test_resampled_patients_are_the_same_for_both_sides_and_all_parts() -> None:
    ids = np.array(["a", "b"])
    before, after = np.array([[1, 1, 0], [9, 1, 1]]), np.array([[1, 1, 0], [9, 1, 1]])
    assert dice_gain([(ids, before, after)] * 2) == (0.0, [0.0, 0.0])
    # "a" gains and "b" loses as much in the other part: whoever is drawn, they cancel out.
    up, down = np.array([[2, 0, 0], [9, 1, 1]]), np.array([[0, 2, 1], [9, 1, 1]])
    mean, (low, high) = dice_gain([(ids, before, up), (ids, up, before)])
    assert (mean, low, high) == pytest.approx((0, 0, 0))
    assert dice_gain([(ids, before, down)])[0] < 0


def test_a_patient_that_one_part_lacks_is_no_slice_of_it() -> None:
    parts = [
        (np.array(["b"]), np.array([[1, 1, 1]]), np.array([[2, 0, 0]])),
        (np.array(["a"]), np.array([[3, 1, 1]]), np.array([[3, 1, 1]])),
    ]
    assert dice_gain(parts)[0] == pytest.approx(0.25)


def test_only_the_slices_that_both_runs_scored_are_compared() -> None:
    before, after = run(("a", 6, 2, 2), ("b", 0, 9, 9)), run(("c", 9, 9, 9), ("a", 8, 0, 0))
    found = gain([before], [after])
    assert (found.mean, found.slices) == (pytest.approx(16 / 16 - 12 / 16), (1,))
    assert patient_dice([before], [after]).tolist() == [[0.75, 1.0]]


def test_slices_of_several_parts_count_whichever_part_the_other_run_has_them_in() -> None:
    before, after = run(("a", 6, 2, 2)), run(("b", 3, 0, 1))
    before.evidence["validation"] = run(("b", 2, 0, 2)).evidence["test"]
    after.evidence["validation"] = run(("a", 8, 0, 0)).evidence["test"]
    with pytest.raises(InputError, match="test slices: no pair"):
        gain([before], [after])
    both = ("validation", "test")
    found = gain([before], [after], both)
    assert (found.mean, found.slices) == (pytest.approx(22 / 23 - 16 / 22), (2,))
    assert sorted(patient_dice([before], [after], both)[:, 0]) == [pytest.approx(2 / 3), 0.75]


def test_dice_of_patients_with_tumour_seed_after_seed() -> None:
    first, second = run(("a", 6, 2, 2), ("b", 0, 3, 0)), run(("a", 4, 0, 4), ("b", 0, 0, 0))
    pairs = patient_dice(
        [first, run(("c", 1, 0, 0), seed=1)], [second, run(("c", 0, 0, 1), seed=1)]
    )
    assert pairs.tolist() == pytest.approx(np.array([[0.75, 2 / 3], [1.0, 0.0]]))
    assert patient_dice([run(("b", 0, 3, 0))], [run(("b", 0, 0, 0))]).shape == (0, 2)


def test_the_figure_of_a_leak_has_a_point_a_patient() -> None:
    pairs = np.array([[0.5, 0.5], [0.2, 0.9], [0.8, 0.7]])
    [axes] = leak(pairs).axes
    assert axes.collections[0].get_offsets().tolist() == pairs.tolist()
    assert axes.texts[0].get_text().endswith("1 of 3")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], []),
        ([run(("a", 1, 0, 0))], []),
        ([run(("a", 1, 0, 0))], [run(("a", 1, 0, 0), seed=1)]),
        ([run(("a", 1, 0, 0))], [run(("b", 1, 0, 0))]),
        ([run(("a", 1, 0, 0))], [run(("a", 1, 0, 0), fingerprint="beef")]),
    ],
    ids=["none", "one side", "other seed", "other slices", "other data"],
)
def test_runs_that_do_not_pair_up_are_refused(before, after) -> None:
    with pytest.raises(InputError, match="pair"):
        gain(before, after)


def test_the_figure_has_a_row_a_change_and_a_mark_a_seed() -> None:
    before = [run(("a", 6, 2, 2), seed=seed) for seed in (0, 1)]
    found = gain(before, [run(("a", 8, 0, 0)), run(("a", 7, 1, 1), seed=1)])
    [axes] = gains({"without mirroring": found}).axes
    interval, mean, seeds = axes.lines[:3]
    assert tuple(interval.get_xdata()) == found.interval
    assert tuple(mean.get_xdata()) == (found.mean,)
    assert tuple(seeds.get_xdata()) == found.seeds
