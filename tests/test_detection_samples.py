"""Crops from five small images, in which every sign has a colour of its own."""

import ast
from collections import Counter

import cv2
import numpy as np
import pytest
import torch

from hw3.data import InputError
from hw3.detection.gtsdb import GtsdbDataset
from hw3.detection.samples import Augmentation, CropSamples, cut_boxes
from hw3.detection.tiles import TILE
from hw3.settings import FasterRcnnSettings, SsdSettings

CROP = 32
SIZES = ((60, 100), (48, 40), (24, 20), (32, 70), (64, 64))
"""(height, width); the third image is smaller than a crop, the fourth as high as one."""
SIGNS = {
    0: [(0, 0, 10, 12), (40, 30, 50, 40), (88, 45, 100, 60)],
    1: [],
    2: [(3, 4, 17, 20)],
    3: [(20, 0, 52, 32)],
    4: [(30, 30, 42, 42), (36, 44, 46, 54)],
}
IDS = (3, 8, 20, 21, 40)
WINDOW = (100, 50, 200, 150)


def colour(image: int, sign: int) -> tuple[int, int, int]:
    return (255, 20 * image, 20 * sign)


def pixels(image: int) -> np.ndarray:
    """Noise without full red, and each sign a rectangle in its colour."""
    drawn = np.random.default_rng(image)
    canvas = drawn.integers(200, size=(*SIZES[image], 3), dtype=np.uint8)
    for sign, (x1, y1, x2, y2) in enumerate(SIGNS[image]):
        canvas[y1:y2, x1:x2] = colour(image, sign)
    return canvas


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> GtsdbDataset:
    folder = tmp_path_factory.mktemp("roads")
    paths = tuple(folder / f"{image_id:05d}.png" for image_id in IDS)
    for image, path in enumerate(paths):
        cv2.imwrite(str(path), pixels(image)[..., ::-1])
    boxes = [np.array(SIGNS[image], dtype=np.float32).reshape(-1, 4) for image in range(5)]
    labels = [(image + np.arange(len(SIGNS[image]))) % 4 + 1 for image in range(5)]
    return GtsdbDataset(
        folder, IDS, paths, SIZES, boxes, labels, labels, [], "colours", kind="simulated"
    )


def samples(dataset: GtsdbDataset, image_ids=IDS, augmented=False, **chosen):
    """Crops that keep their colours, unless they are to be augmented."""
    settings = FasterRcnnSettings(**{"crop_size": CROP, "crops": 100} | chosen)
    made = CropSamples(dataset, image_ids, settings)
    if not augmented:
        made.augmentation = lambda image, _epoch, _index: image
    return made


def place(sample: dict) -> tuple[int, tuple[int, int, int, int]]:
    """Index of the image and the window, which the id names."""
    image_id, _, window = sample["id"].partition(" ")
    return IDS.index(int(image_id)), ast.literal_eval(window)


def places(crops: CropSamples) -> list[tuple[int, tuple[int, int, int, int]]]:
    return [place(crops[0, index]) for index in range(len(crops))]


@pytest.mark.parametrize("sign_share", [0.0, 0.5, 1.0])
def test_pixels_are_the_windows_and_boxes_lie_on_their_signs(dataset, sign_share) -> None:
    crops = samples(dataset, sign_share=sign_share)
    seen = set()
    for sample in (crops[0, index] for index in range(len(crops))):
        image, (left, top, right, bottom) = place(sample)
        height, width = SIZES[image]
        assert sample["image"].shape == (3, min(CROP, height), min(CROP, width))
        assert sample["image"].dtype == torch.uint8 and sample["image"].is_contiguous()
        boxes, labels = sample["boxes"], sample["labels"]
        assert (boxes.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert boxes.shape == (len(labels), 4)
        shown = sample["image"].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(shown, pixels(image)[top:bottom, left:right])
        for (x1, y1, x2, y2), own in zip(boxes.int().tolist(), labels.tolist(), strict=True):
            [(_, _, last)] = np.unique(shown[y1:y2, x1:x2].reshape(-1, 3), axis=0)
            sign = last // 20
            full = SIGNS[image][sign]
            assert own == (image + sign) % 4 + 1
            area = (full[2] - full[0]) * (full[3] - full[1])
            assert 0.6 * area <= (x2 - x1) * (y2 - y1) <= area
            assert (shown == colour(image, sign)).all(axis=2).sum() == (x2 - x1) * (y2 - y1)
            seen.add((image, sign))
    assert len(seen) >= (7 if sign_share else 4)


def test_every_crop_around_a_sign_holds_it_whole_anywhere(dataset) -> None:
    found = places(samples(dataset, sign_share=1.0, crops=300))
    for image, (left, top, right, bottom) in found:
        assert any(
            left <= x1 and top <= y1 and x2 <= right and y2 <= bottom
            for x1, y1, x2, y2 in SIGNS[image]
        )
    drawn = Counter(image for image, _ in found)
    assert set(drawn) == {0, 2, 3, 4}  # the second image has no sign
    assert drawn[0] == pytest.approx(300 * 3 / 7, abs=30)  # signs are drawn, not images
    # Signs of the last lie at 30-42 and 36-46 of 64 columns, at 30-42 and 44-54 of 64 rows.
    found = places(samples(dataset, [40], sign_share=1.0, crops=800))
    for axis in (0, 1):
        assert {window[axis] for _, window in found} == set(range(10, 33))


@pytest.mark.parametrize("side", [32, 26])  # 26 x 26 of 32 x 32 pixels: 66 %
def test_a_sign_as_large_as_the_crop_or_larger_fills_it(dataset, side) -> None:
    crops = samples(dataset, [21], sign_share=1.0)
    crops.side = side
    for index in range(10):
        assert crops[0, index]["boxes"].tolist() == [[0, 0, side, side]]


def test_windows_lie_anywhere_in_every_image(dataset) -> None:
    found = places(samples(dataset, sign_share=0.0, crops=2000))
    drawn = Counter(image for image, _ in found)
    assert set(drawn) == set(range(5))  # the one without signs too
    assert all(count == pytest.approx(400, abs=60) for count in drawn.values())
    for axis, starts in ((0, range(9)), (1, range(17))):
        assert {window[axis] for image, window in found if image == 1} == {*starts}


def test_an_image_smaller_than_the_crop_comes_whole_and_is_filled_up_for_ssd(dataset) -> None:
    for sign_share in (0.0, 1.0):
        plain = samples(dataset, [20], sign_share=sign_share)[0, 0]
        assert place(plain) == (2, (0, 0, 20, 24))
        assert plain["image"].shape == (3, 24, 20)
    tiles = CropSamples(dataset, [20], SsdSettings(crops=20, sign_share=1.0))
    for index in range(20):  # with black, which is not augmented
        sample = tiles[0, index]
        assert sample["image"].shape == (3, TILE, TILE)
        assert sample["image"][:, 24:].max() == sample["image"][:, :, 20:].max() == 0
        shown = sample["image"][:, :24, :20].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(shown, tiles.augmentation(pixels(2), 0, index))
        assert sample["boxes"].tolist() == plain["boxes"].tolist() == [[3, 4, 17, 20]]


def test_seed_epoch_and_index_decide_the_sample(dataset) -> None:
    first, again, other = (samples(dataset, augmented=True, seed=own) for own in (0, 0, 1))
    drawn = [first[2, index] for index in range(20)]
    for index in reversed(range(20)):
        assert again[2, index]["id"] == drawn[index]["id"]
        assert all(again[2, index][k].equal(drawn[index][k]) for k in ("image", "boxes", "labels"))
    found = [
        tuple(place(source[epoch, index]) for index in range(10))
        for source, epoch in ((first, 0), (first, 1), (first, 2), (other, 0))
    ]
    assert len(set(found)) == 4
    keys = [(seed, epoch, part) for seed in (0, 1) for epoch in (0, 1) for part in (0, 20)]
    augmented = {
        b"".join(Augmentation(seed)(pixels(3), epoch, part + n).tobytes() for n in range(20))
        for seed, epoch, part in keys
    }
    assert len(augmented) == len(keys)


@pytest.mark.parametrize("kind", [FasterRcnnSettings, SsdSettings])
def test_without_crops_each_image_comes_whole_and_once(dataset, kind) -> None:
    whole = CropSamples(dataset, [3, 8, 40], kind())
    assert len(whole) == 3
    for epoch in range(2):
        found = [whole[epoch, index] for index in range(3)]
        assert [place(sample)[0] for sample in found] == [0, 1, 4]
        for index, sample in enumerate(found):
            image, _ = place(sample)
            shown = sample["image"].permute(1, 2, 0).numpy()
            expected = Augmentation(seed=0)(pixels(image), epoch, index)
            np.testing.assert_array_equal(shown, expected)
            assert sample["boxes"].tolist() == [list(box) for box in SIGNS[image]]
            assert sample["labels"].tolist() == dataset.labels[image].tolist()
        assert found[1]["boxes"].shape == (0, 4)


@pytest.mark.parametrize("crops", [5, None])
def test_training_images_without_any_sign_are_refused(dataset, crops) -> None:
    with pytest.raises(InputError, match="the 1 training images hold no sign"):
        samples(dataset, [8], crops=crops)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((110, 60, 130, 80), (10, 10, 30, 30)),  # inside
        ((92, 60, 112, 80), (0, 10, 12, 30)),  # 12 of 20 columns: 60 %
        ((91, 60, 111, 80), None),  # 11 of 20
        ((110, 45, 130, 65), (10, 0, 30, 15)),  # 15 of 20 rows
        ((184, 134, 204, 154), (84, 84, 100, 100)),  # 16 x 16 of 20 x 20: 64 %
        ((185, 135, 205, 155), None),  # 15 x 15: 56 %, though 75 % of each side
        ((80, 60, 100, 80), None),  # touches the window from outside
        ((50, 0, 250, 200), None),  # four times the window
        ((120, 60, 120, 80), None),  # without area
        ((110.5, 60.25, 130.5, 80.25), (10.5, 10.25, 30.5, 30.25)),
    ],
    ids=str,
)
def test_boxes_are_cut_as_by_hand(box, expected) -> None:
    found, kept = cut_boxes(boxes(box), WINDOW)
    assert found.dtype == np.float32 and found.shape == (len(kept), 4)
    assert found.tolist() == ([list(expected)] if expected else [])
    assert kept.tolist() == ([0] if expected else [])


def test_three_fifths_are_enough_whatever_the_size() -> None:
    sizes = [(width, height) for width in range(5, 130, 5) for height in range(7, 130)]
    given = boxes(*((0, 0, *size) for size in sizes))
    for (width, height), box in zip(sizes, given, strict=True):
        assert cut_boxes(box[None], (0, 0, 3 * width // 5, height))[1].tolist() == [0]
        assert not cut_boxes(box[None], (0, 0, 3 * width // 5 - 1, height))[1].size


def test_no_box_is_ever_empty_reversed_or_outside() -> None:
    given = np.random.default_rng(0).integers(60, 240, size=(3000, 4))  # any order of corners
    found, kept = cut_boxes(given.astype(np.float32), WINDOW)
    assert len(kept) and (found[:, 2:] > found[:, :2]).all()
    assert found.min() >= 0 and found.max() <= 100
    assert cut_boxes(boxes(), WINDOW)[0].shape == (0, 4)


def test_light_and_colour_change_and_nothing_moves() -> None:
    """Six patches of 10 x 7 pixels, one colour each: dark to the left and bright to the right."""
    upper = [(60, 60, 60), (70, 90, 60), (180, 180, 180)]
    lower = [(60, 110, 80), (150, 120, 120), (200, 190, 180)]
    patches = np.array([upper, lower], dtype=np.uint8).repeat(10, axis=0).repeat(7, axis=1)
    before = patches.copy()
    changed = np.stack([Augmentation(seed=0)(patches, 0, index) for index in range(200)])
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(patches, before)
    as_it_was = (changed == patches).all(axis=(1, 2, 3)).mean()
    assert 0.1 < as_it_was < 0.3  # 0.3 * 0.7 = 0.21
    changed = changed.astype(int)
    blocks = changed.reshape(200, 2, 10, 3, 7, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()  # each patch has one colour, where it was
    left, _, right = blocks[:, :, 0, :, 0].sum(axis=-1).transpose(2, 0, 1)
    assert (left < right).all()  # nothing is mirrored
    brightness = changed.mean(axis=(1, 2, 3)) - patches.mean()
    assert brightness.min() < -25 and brightness.max() > 25
    grey, coloured = changed[:, 0, 0], changed[:, 10, 0]
    assert np.ptp(grey, axis=1).max() <= 1  # grey stays grey
    assert len(np.unique(np.ptp(coloured, axis=1))) > 10
