from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hw3.segmentation import samples
from hw3.segmentation.lgg import LggDataset
from hw3.segmentation.samples import TRANSFORMS, Augmentation, SliceSamples
from hw3.settings import SegmentationSettings

SIDE = 24
ORIENTATIONS: list[Callable[[np.ndarray], np.ndarray]] = [
    *(lambda a, turns=turns: np.rot90(a, turns) for turns in range(4)),
    *(lambda a, turns=turns: np.rot90(np.fliplr(a), turns) for turns in range(4)),
]
"""The eight symmetries of a square."""
WHOLE = SegmentationSettings(image_size=32)


@pytest.fixture
def mask() -> np.ndarray:
    """A letter L off the centre: each symmetry of the square moves it elsewhere."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[2:12, 3:5] = mask[10:12, 3:9] = 1
    return mask


@pytest.fixture
def image(mask) -> np.ndarray:
    """Grey 80, and 180 where the mask is."""
    return np.repeat((80 + 100 * mask)[..., None], 3, axis=2).astype(np.uint8)


@pytest.fixture
def only(monkeypatch) -> Callable[..., Augmentation]:
    def make(*names: str) -> Augmentation:
        monkeypatch.setattr(samples, "TRANSFORMS", {name: TRANSFORMS[name] for name in names})
        return Augmentation(seed=0)

    return make


def plain(dataset: LggDataset, indices: np.ndarray, **sizes) -> SliceSamples:
    """Samples that are not augmented."""
    made = SliceSamples(dataset, indices, WHOLE.but(**sizes))
    made.augmentation = lambda image, mask, *_key: (image, mask)
    return made


def test_the_mask_moves_with_the_image_and_stays_binary(image, mask) -> None:
    augmentation, before = Augmentation(seed=0), (image.copy(), mask.copy())
    seen = [0] * 8
    for index in range(200):
        new_image, new_mask = augmentation(image, mask, 0, index)
        assert new_image.dtype == new_mask.dtype == np.uint8
        inside, outside = new_image[new_mask == 1], new_image[new_mask == 0]
        assert inside.min() > outside.max() + 30
        (found,) = [i for i, own in enumerate(ORIENTATIONS) if np.array_equal(own(mask), new_mask)]
        seen[found] += 1
    assert min(seen) > 10  # of 25
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_another_draw_for_each_seed_epoch_and_index_and_the_same_on_a_rerun(image, mask) -> None:
    keys = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)]
    used = {seed: Augmentation(seed) for seed in (0, 1)}

    def draw(augmentation: Augmentation, *key: int) -> bytes:
        return augmentation(image, mask, *key)[0].tobytes()

    first = [draw(used[seed], *key) for seed, *key in keys]
    assert len(set(first)) > 5  # two may agree: a transform is not always applied
    fresh = [draw(Augmentation(seed), *key) for seed, *key in reversed(keys)]
    assert fresh == first[::-1]


def test_colours_by_themselves(image, mask, only) -> None:
    augmentation = only("brightness and contrast")
    draws = [augmentation(image, mask, 0, index) for index in range(60)]
    assert all(np.array_equal(new_mask, mask) for _, new_mask in draws)
    assert all(np.ptp(new_image, axis=2).max() == 0 for new_image, _ in draws)
    contrasts, darkest = zip(*((int(np.ptp(own)), int(own.min())) for own, _ in draws), strict=True)
    assert 78 <= min(contrasts) < 100 < max(contrasts) <= 122  # 100 (1 +- 0.2), rounded
    assert min(darkest) < 60 < 100 < max(darkest)
    red, augmentation = np.full_like(image, (200, 60, 40)), only("hue and saturation")
    hues = [augmentation(red, mask, 0, index)[0][0, 0].argsort().tolist() for index in range(60)]
    assert {tuple(own) for own in hues} >= {(2, 1, 0), (1, 2, 0)}


def test_the_draws_of_different_transforms_are_independent(image, mask, only) -> None:
    names = ("mirroring left to right", "mirroring top to bottom", "brightness and contrast")
    augmentation = only(*names)
    rows = []
    for index in range(1000):
        new_image, new_mask = augmentation(image, mask, 0, index)
        below, right = np.argwhere(new_mask).mean(axis=0) > SIDE / 2
        rows.append((below, right, np.ptp(new_image) != 100 or new_image.min() != 80))
    drawn = np.array(rows, dtype=float)
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.06  # four standard errors
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.13


def test_samples_in_the_layout_that_training_takes(tiny_dataset) -> None:
    found = plain(tiny_dataset, np.array([3, 5]))
    sample = found[0, 1]
    assert len(found) == 2
    assert sample["id"] == tiny_dataset.slice_id(5)
    assert sample["image"].shape == (3, 32, 32)
    assert sample["mask"].shape == (1, 32, 32)
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), tiny_dataset.images[5])
    np.testing.assert_array_equal(sample["mask"][0], tiny_dataset.masks[5])
    augmented = SliceSamples(tiny_dataset, np.array([3, 5]), WHOLE)[7, 1]
    pair = np.array(tiny_dataset.images[5]), np.array(tiny_dataset.masks[5])
    image, mask = Augmentation(WHOLE.seed)(*pair, 7, 1)  # of this epoch and index
    np.testing.assert_array_equal(augmented["image"].permute(1, 2, 0), image)
    np.testing.assert_array_equal(augmented["mask"][0], mask)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_crops_are_windows_with_tumour_as_often_as_asked(tiny_dataset, monkeypatch, share) -> None:
    monkeypatch.setattr(samples, "TUMOUR_SHARE", share)
    found = plain(tiny_dataset, np.arange(12), crop_size=16, seed=3)
    ids, corners = [tiny_dataset.slice_id(i) for i in range(12)], set()
    for key in np.ndindex(4, 12):
        sample = found[key]
        number = ids.index(sample["id"])
        assert share or number == key[1]
        image, mask = sample["image"].permute(1, 2, 0).numpy(), tiny_dataset.masks[number]
        whole = tiny_dataset.images[number]
        windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 16, 3))[:, :, 0]
        places = np.argwhere((windows == image).all((2, 3, 4)))
        masks = [mask[y : y + 16, x : x + 16] for y, x in places]
        assert any(np.array_equal(sample["mask"][0], own) for own in masks)
        assert not share or sample["mask"].any()
        corners |= {tuple(place) for place in places}
    assert len(corners) > 20
    again = plain(tiny_dataset, np.arange(12), crop_size=16, seed=3)
    assert again[3, 11]["image"].equal(sample["image"])
    assert not again[2, 11]["image"].equal(sample["image"])


def test_crops_of_slices_without_any_tumour_and_as_large_as_the_slices(tiny_dataset) -> None:
    nothing = replace(tiny_dataset, masks=np.zeros_like(tiny_dataset.masks))
    crop, whole = (plain(nothing, np.arange(2), crop_size=side)[0, 1] for side in (16, 32))
    assert crop["id"] == nothing.slice_id(1) and crop["image"].shape == (3, 16, 16)
    np.testing.assert_array_equal(whole["image"].permute(1, 2, 0), nothing.images[1])


@pytest.mark.parametrize("crops", [3, 40])
def test_samples_come_from_all_slices_however_many_there_are(tiny_dataset, crops) -> None:
    indices = np.arange(5, 17)
    found = plain(tiny_dataset, indices, crop_size=16, crops=crops)
    assert len(found) == crops
    drawn = [found[epoch, index]["id"] for epoch in range(240 // crops) for index in range(crops)]
    assert set(drawn) == {tiny_dataset.slice_id(index) for index in indices}
    assert drawn[: 2 * crops] != 2 * drawn[:crops]
    assert [found[0, index]["id"] for index in range(crops)] == drawn[:crops]
