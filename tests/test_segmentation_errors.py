"""Distances, calibration and averaging, on masks small enough to count by eye."""

import json
import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from torch import nn

from hw3.errors import InputError
from hw3.segmentation import errors
from hw3.segmentation.errors import (
    averaging_gain,
    calibration_error,
    counts_of,
    examine,
    predict_averaged,
    read_examined,
    surface_distances,
)
from hw3.segmentation.metrics import SliceCounts, scores


def square(top: int, left: int, side: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


class Brightness(nn.Module):
    """Logits that grow with a pixel's red."""

    def __init__(self, weights: torch.Tensor | float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.weights = weights

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images[:, :1] * self.weights - 0.5) * self.scale


def test_equal_masks_are_at_distance_0() -> None:
    assert surface_distances(square(3, 3, 6), square(3, 3, 6), 0) == (0.0, 1.0)


def test_single_pixels_are_as_far_apart_as_they_are() -> None:
    far = surface_distances(square(2, 3, 1), square(5, 7, 1), 4.99)
    assert far == (5.0, 0.0)
    assert surface_distances(square(2, 3, 1), square(5, 7, 1), 5.0) == (5.0, 1.0)


def test_far_pixels_weigh_little_in_the_95th_percentile_and_fully_in_the_share() -> None:
    mask = square(2, 2, 10, size=60)
    predicted = mask.copy()
    predicted[50, 50] = True  # one of 37 outline pixels
    hausdorff, share = surface_distances(predicted, mask, 1)
    assert hausdorff == 0
    assert share == pytest.approx(1 - 1 / 73)


def test_inside_of_a_mask_is_no_outline() -> None:
    mask, hollow = square(2, 2, 9), square(2, 2, 9)
    hollow[6, 6] = False  # an outline of four pixels more, in the middle
    hausdorff, share = surface_distances(hollow, mask, 1)
    assert share == pytest.approx(1 - 4 / (32 + 36))
    assert hausdorff == 3


@pytest.mark.parametrize("empty", [(True, False), (False, True), (True, True)])
def test_distance_to_nothing_is_undefined(empty) -> None:
    pair = [square(0, 0, 0) if own else square(2, 2, 4) for own in empty]
    assert surface_distances(*pair, 2) is None


@pytest.mark.parametrize("seed", range(8))
def test_agreement_with_monai(seed) -> None:
    generator = np.random.default_rng(seed)
    tall = generator.random((2, 24, 30)) < 0.02
    grown = [
        torch.nn.functional.max_pool2d(torch.tensor(own[None, None], dtype=torch.float), 5, 1, 2)
        for own in tall
    ]
    grown[0][..., :3, :] = seed % 2  # touch the border
    tolerance = float(generator.integers(0, 4))
    own = surface_distances(*(mask[0, 0].bool().numpy() for mask in grown), tolerance)
    options = {"include_background": True}
    theirs = (
        compute_hausdorff_distance(*grown, percentile=95, **options).item(),
        compute_surface_dice(*grown, class_thresholds=[tolerance], **options).item(),
    )
    assert own == pytest.approx(theirs, abs=1e-5)


def test_bins_hold_every_pixel_once() -> None:
    probabilities = np.array([[[0.0, 0.05, 0.15, 0.95, 1.0]]], dtype=np.float32)
    masks = np.array([[[False, True, False, True, False]]])
    pixels, total, tumour = errors._bins(probabilities, masks)
    assert pixels.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert total == pytest.approx([0.05, 0.15, 0, 0, 0, 0, 0, 0, 0, 1.95])
    assert tumour.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_counts_of_either_look_are_those_of_the_slices(tmp_path) -> None:
    slices = [
        {"patient_id": "b", "slice_index": 2, "plain": [1, 2, 3], "averaged": [4, 0, 0]},
        {"patient_id": "a", "slice_index": 9, "plain": [0, 5, 0], "averaged": [0, 0, 0]},
    ]
    header = {"part": "test", "bins": {"pixels": [150, 50], "probability": [], "tumour": []}}
    path = tmp_path / "unet-test.json"
    path.write_text(json.dumps([header, *slices]))
    examined = read_examined(path)
    assert examined == header | {"slices": slices}
    plain, averaged = (counts_of(examined, looks) for looks in ("plain", "averaged"))
    assert plain.patient_ids.tolist() == ["b", "a"] and plain.slice_indices.tolist() == [2, 9]
    assert (plain.true_positive.tolist(), plain.false_positive.tolist()) == ([1, 0], [2, 5])
    assert plain.false_negative.tolist() == [3, 0] and plain.pixels == averaged.pixels == 100
    assert scores(plain, batch_size=1)["dice"] == pytest.approx(2 / 12)
    assert scores(averaged, batch_size=1)["accuracy"] == 1


def test_calibration_error_weighs_bins_by_their_pixels() -> None:
    # Bins of 80 and 20 pixels, off by 0.05 and 0.3: 0.8 x 0.05 + 0.2 x 0.3.
    bins = {"pixels": [80, 20], "probability": [4, 16], "tumour": [0, 10]}
    assert calibration_error(bins) == pytest.approx(0.1)
    assert calibration_error(bins | {"tumour": [4, 16]}) == 0


def test_averaging_undoes_each_symmetry(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    found = predict_averaged(Brightness(), images, (16, 16))
    alone = 1 / (1 + np.exp(-(images[..., 0] / 255 - 0.5) * 20))
    assert found == pytest.approx(alone, abs=1e-5)


def test_average_is_over_the_eight_symmetries() -> None:
    weights = torch.zeros(16, 16)
    weights[0, 3] = 1  # this place alone lets red through
    image = np.full((1, 16, 16, 3), 255, np.uint8)
    [found] = predict_averaged(Brightness(weights), image, (16, 16))
    low, high = 1 / (1 + math.exp(10)), 1 / (1 + math.exp(-10))
    places = {(0, 3), (0, 12), (15, 3), (15, 12), (3, 0), (12, 0), (3, 15), (12, 15)}
    for place in places:
        assert found[place] == pytest.approx((7 * low + high) / 8)
    assert found[0, 0] == pytest.approx(low)
    assert (found > 0.1).sum() == len(places)


def test_slices_that_are_not_square_are_refused() -> None:
    with pytest.raises(InputError, match="16 x 32"):
        predict_averaged(Brightness(), np.zeros((1, 16, 32, 3), np.uint8), (16, 32))


def test_gain_is_of_the_pooled_dice_and_paired_by_patient() -> None:
    slices = [
        {"patient_id": "a", "plain": [8, 1, 1], "averaged": [9, 0, 1]},
        {"patient_id": "a", "plain": [0, 2, 0], "averaged": [0, 0, 0]},
        {"patient_id": "b", "plain": [0, 0, 10], "averaged": [0, 0, 10]},
    ]
    value, (low, high) = averaging_gain(slices)
    assert value == pytest.approx(18 / 29 - 16 / 30)
    # Only "a" drawn gives the most, only "b" nothing.
    assert low == 0 and high == pytest.approx(18 / 19 - 16 / 20)


def test_examination_is_plain_and_agrees_with_its_parts(tiny_dataset) -> None:
    dataset = tiny_dataset
    indices = np.arange(len(dataset))[::3]
    examined = examine(Brightness(), dataset, indices, batch_size=4)
    assert json.loads(json.dumps(examined))["bins"] == examined["bins"]
    assert [own["slice_index"] for own in examined["slices"]] == (
        dataset.slice_indices[indices].tolist()
    )
    pixels = dataset.native_masks[0].size
    assert sum(examined["bins"]["pixels"]) == pixels * len(indices)
    tumour = [int(dataset.native_masks[i].sum()) for i in indices]
    assert sum(examined["bins"]["tumour"]) == sum(tumour)
    for own, area in zip(examined["slices"], tumour, strict=True):
        true_positive, false_positive, false_negative = own["plain"]
        assert true_positive + false_negative == area
        either_empty = area == 0 or true_positive + false_positive == 0
        assert (own["hausdorff_95"] is None) == (own["surface_dice"] is None) == either_empty


def test_slices_without_tumour_have_no_place_among_the_sizes() -> None:
    columns = (["a", "a", "b", "b"], [1, 2, 1, 2], [0, 30, 0, 1], [5, 10, 0, 0], [0, 10, 4, 3])
    counts = SliceCounts(*map(np.array, columns), pixels=100)
    areas, scores = errors.areas_and_dice(counts)
    assert areas.tolist() == [4, 4, 40]  # equal areas keep their order
    assert scores.tolist() == [0, 2 / 5, 60 / 80]
