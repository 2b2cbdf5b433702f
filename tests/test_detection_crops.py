"""Crops from five small images, in which every sign has a colour of its own."""

import ast
from collections import Counter

import cv2
import numpy as np
import pytest
import torch

from hw3.detection.augment import Augmentation
from hw3.detection.crops import CropSamples, collate
from hw3.detection.dataset import GtsdbDataset
from hw3.errors import InputError
from hw3.training import epoch_batches

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


def colour(image: int, sign: int) -> tuple[int, int, int]:
    return (255, 20 * image, 20 * sign)


def label(image: int, sign: int) -> int:
    return (image + sign) % 4 + 1


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
    labels = [
        np.array([label(image, sign) for sign in range(len(SIGNS[image]))], dtype=np.int64)
        for image in range(5)
    ]
    return GtsdbDataset(folder, IDS, paths, SIZES, boxes, labels, labels, [], "colours")


def samples(dataset: GtsdbDataset, image_ids=IDS, **options) -> CropSamples:
    chosen = {"crop_size": CROP, "crops": 100, "sign_share": 0.8, "augmentation": None, "seed": 0}
    return CropSamples(dataset, image_ids, **chosen | options)


def place(sample: dict) -> tuple[int, tuple[int, int, int, int]]:
    """Index of the image and the window, which the id names."""
    image_id, _, window = sample["id"].partition(" ")
    return IDS.index(int(image_id)), ast.literal_eval(window)


def keys(count: int) -> list[tuple[int, int]]:
    return [(0, index) for index in range(count)]


def same(first: dict, second: dict) -> bool:
    tensors = ("image", "boxes", "labels")
    return first["id"] == second["id"] and all(first[k].equal(second[k]) for k in tensors)


def holds_whole(window: tuple[int, ...], box: tuple[int, ...]) -> bool:
    left, top, right, bottom = window
    return left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom


def test_samples_are_what_training_takes(dataset) -> None:
    crops = samples(dataset)
    assert len(crops) == 100
    for key in keys(len(crops)):
        sample = crops[key]
        image, boxes, labels = sample["image"], sample["boxes"], sample["labels"]
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        assert (boxes.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert boxes.shape == (len(labels), 4)
        height, width = SIZES[place(sample)[0]]
        assert image.shape == (3, min(CROP, height), min(CROP, width))


@pytest.mark.parametrize("sign_share", [0.0, 0.5, 1.0])
def test_pixels_are_the_windows_and_boxes_lie_on_their_signs(dataset, sign_share) -> None:
    crops = samples(dataset, sign_share=sign_share)
    seen = set()
    for key in keys(len(crops)):
        sample = crops[key]
        image, (left, top, right, bottom) = place(sample)
        shown = sample["image"].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(shown, pixels(image)[top:bottom, left:right])
        for (x1, y1, x2, y2), own in zip(
            sample["boxes"].int().tolist(), sample["labels"].tolist(), strict=True
        ):
            colours = np.unique(shown[y1:y2, x1:x2].reshape(-1, 3), axis=0)
            (sign,) = [s for s in range(3) if colours.tolist() == [list(colour(image, s))]]
            full = SIGNS[image][sign]
            assert own == label(image, sign)
            area = (full[2] - full[0]) * (full[3] - full[1])
            assert 0.6 * area <= (x2 - x1) * (y2 - y1) <= area
            assert (shown == colour(image, sign)).all(axis=2).sum() == (x2 - x1) * (y2 - y1)
            seen.add((image, sign))
    assert len(seen) >= (7 if sign_share else 4)


def test_every_crop_around_a_sign_holds_it_whole(dataset) -> None:
    crops = samples(dataset, sign_share=1.0, crops=300)
    drawn = Counter()
    for key in keys(len(crops)):
        sample = crops[key]
        image, window = place(sample)
        whole = [box for box in SIGNS[image] if holds_whole(window, box)]
        assert whole
        moved = [[x - window[i % 2] for i, x in enumerate(box)] for box in whole]
        assert all(box in sample["boxes"].tolist() for box in moved)
        drawn.update([image])
    assert set(drawn) == {0, 2, 3, 4}  # the second image has no sign
    assert drawn[0] == pytest.approx(300 * 3 / 7, abs=30)  # signs are drawn, not images


def test_the_sign_may_lie_anywhere_in_its_crop(dataset) -> None:
    crops = samples(dataset, [40], sign_share=1.0, crops=800)
    starts = {place(crops[key])[1][:2] for key in keys(800)}
    # Signs lie at 30-42 and 36-46 of 64 columns, at 30-42 and 44-54 of 64 rows.
    assert {x for x, _ in starts} == set(range(10, 33))
    assert {y for _, y in starts} == set(range(10, 33))


def test_a_sign_as_large_as_the_crop_fills_it(dataset) -> None:
    crops = samples(dataset, [21], sign_share=1.0)
    for key in keys(10):
        assert place(crops[key])[1] == (20, 0, 52, 32)
        assert crops[key]["boxes"].tolist() == [[0, 0, 32, 32]]


def test_a_sign_larger_than_the_crop_fills_it_too(dataset) -> None:
    crops = samples(dataset, [21], sign_share=1.0, crop_size=26)
    for key in keys(10):  # 26 x 26 of 32 x 32 pixels: 66 %
        assert crops[key]["boxes"].tolist() == [[0, 0, 26, 26]]


def test_windows_lie_anywhere_in_every_image(dataset) -> None:
    crops = samples(dataset, sign_share=0.0, crops=2000)
    places = [place(crops[key]) for key in keys(2000)]
    drawn = Counter(image for image, _ in places)
    assert set(drawn) == set(range(5))  # the one without signs too
    assert all(count == pytest.approx(400, abs=60) for count in drawn.values())
    starts = {window[:2] for image, window in places if image == 1}
    assert {x for x, _ in starts} == set(range(9))
    assert {y for _, y in starts} == set(range(17))


def test_the_share_of_crops_around_signs_is_that_asked_for(dataset) -> None:
    crops = samples(dataset, [3, 8], sign_share=0.8, crops=1000)
    without = sum(place(crops[key])[0] == 1 for key in keys(1000))
    assert without == pytest.approx(100, abs=30)  # half of a fifth


@pytest.mark.parametrize("sign_share", [0.0, 1.0])
def test_an_image_smaller_than_the_crop_comes_whole(dataset, sign_share) -> None:
    crops = samples(dataset, [20], sign_share=sign_share)
    for key in keys(5):
        sample = crops[key]
        assert place(sample) == (2, (0, 0, 20, 24))
        assert sample["image"].shape == (3, 24, 20)
        assert sample["boxes"].tolist() == [[3, 4, 17, 20]]


def test_a_smaller_image_is_filled_up_with_black_where_that_is_asked_for(dataset) -> None:
    plain, padded = (samples(dataset, [20], padded=own)[0, 0] for own in (False, True))
    assert padded["image"].shape == (3, CROP, CROP)
    assert torch.equal(padded["image"][:, :24, :20], plain["image"])
    assert padded["image"][:, 24:].max() == padded["image"][:, :, 20:].max() == 0
    assert padded["boxes"].tolist() == plain["boxes"].tolist()


def test_only_the_images_given_are_drawn(dataset) -> None:
    crops = samples(dataset, [40, 8], sign_share=0.5)
    assert {place(crops[key])[0] for key in keys(100)} == {1, 4}


def test_epoch_and_index_decide_the_sample(dataset) -> None:
    first = samples(dataset, augmentation=Augmentation(0))
    again = samples(dataset, augmentation=Augmentation(0))
    backwards = [again[2, index] for index in reversed(range(20))][::-1]
    assert all(map(same, (first[2, index] for index in range(20)), backwards))
    assert len({place(first[2, index]) for index in range(20)}) > 10


def test_epochs_and_seeds_differ(dataset) -> None:
    crops, other = samples(dataset), samples(dataset, seed=1)
    found = [
        tuple(place(source[epoch, index]) for index in range(10))
        for source, epoch in ((crops, 0), (crops, 1), (crops, 2), (other, 0))
    ]
    assert len(set(found)) == 4


def test_workers_change_nothing(dataset) -> None:
    crops = samples(dataset, crops=12, augmentation=Augmentation(0))
    batches = epoch_batches(len(crops), 4, seed=0, epoch=1)

    def load(workers: int) -> list[dict]:
        loader = torch.utils.data.DataLoader(
            crops, batch_sampler=batches, collate_fn=collate, num_workers=workers
        )
        return list(loader)

    alone, shared = load(0), load(2)
    assert [batch["id"] for batch in alone] == [batch["id"] for batch in shared]
    for name in ("image", "boxes", "labels"):
        for one, two in zip(alone, shared, strict=True):
            assert all(a.equal(b) for a, b in zip(one[name], two[name], strict=True))


def test_augmentation_comes_after_the_cut(dataset) -> None:
    augmentation = Augmentation(seed=5)
    plain, changed = samples(dataset), samples(dataset, augmentation=augmentation)
    for index in range(10):
        before, after = plain[1, index], changed[1, index]
        assert place(before) == place(after)
        assert before["boxes"].equal(after["boxes"])
        crop = np.ascontiguousarray(before["image"].permute(1, 2, 0).numpy())
        expected = augmentation(crop, 1, index)
        np.testing.assert_array_equal(after["image"].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("crops", [0, 100])
def test_without_a_crop_size_each_image_comes_whole_and_once(dataset, crops) -> None:
    whole = samples(dataset, [3, 8, 40], crop_size=None, crops=crops)
    assert len(whole) == 3
    for epoch in range(2):
        found = [whole[epoch, index] for index in range(3)]
        assert [place(sample)[0] for sample in found] == [0, 1, 4]
        for sample in found:
            image, _ = place(sample)
            shown = sample["image"].permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(shown, pixels(image))
            assert sample["boxes"].tolist() == [list(box) for box in SIGNS[image]]
            assert sample["labels"].equal(torch.from_numpy(dataset.labels[image]))
        assert found[1]["boxes"].shape == (0, 4)


@pytest.mark.parametrize("crop_size", [CROP, None])
def test_training_images_without_any_sign_are_refused(dataset, crop_size) -> None:
    with pytest.raises(InputError, match="hold no sign"):
        samples(dataset, [8], crop_size=crop_size)


def test_a_batch_holds_lists(dataset) -> None:
    crops = samples(dataset, sign_share=0.0)
    chosen = [crops[0, index] for index in range(6)]
    batch = collate(chosen)
    assert set(batch) == {"image", "boxes", "labels", "id"}
    for name, values in batch.items():
        assert isinstance(values, list)
        assert all(value is sample[name] for value, sample in zip(values, chosen, strict=True))
    assert len({image.shape for image in batch["image"]}) > 1


def test_balanced_groups_are_drawn_equally_often_however_many_signs_they_have(dataset) -> None:
    crops = samples(dataset, sign_share=1.0, crops=800, balance_groups=True)
    drawn = Counter(place(crops[key])[0] for key in keys(800))
    # The fourth image holds the only sign of one group; of the other groups each has two.
    assert drawn[3] == pytest.approx(200, abs=40)
    assert drawn[2] == pytest.approx(100, abs=30)
    assert drawn[0] == pytest.approx(300, abs=50)


def test_crops_lie_around_false_alarms_as_often_as_asked(dataset) -> None:
    alarms = [(8, (2.4, 30.6, 8.2, 38.0)), (40, (50.0, 3.0, 58.0, 9.5))]
    crops = samples(
        dataset, [3, 8, 40], sign_share=0.2, hard_share=0.5, crops=1000, false_alarms=alarms
    )
    places = [place(crops[key]) for key in keys(1000)]
    holding = [
        sum(image == IDS.index(image_id) and holds_whole(window, box) for image, window in places)
        for image_id, box in ((8, (3, 31, 8, 38)), (40, (50, 3, 58, 9)))
    ]
    # Half of the crops, and a few of the others by chance.
    assert holding[0] == pytest.approx(300, abs=70)
    assert holding[1] == pytest.approx(280, abs=70)
    signs = sum(any(holds_whole(window, box) for box in SIGNS[image]) for image, window in places)
    assert signs >= 200


def test_a_crop_around_a_false_alarm_shows_the_signs_it_holds(dataset) -> None:
    crops = samples(
        dataset, [40], sign_share=0.0, hard_share=1.0, false_alarms=[(40, (42, 40, 60, 60))]
    )
    found = [crops[key]["boxes"] for key in keys(50)]
    assert max(map(len, found)) == 2


def test_without_false_alarms_the_crops_lie_anywhere(dataset) -> None:
    hard = samples(dataset, sign_share=0.5, hard_share=0.5)
    anywhere = samples(dataset, sign_share=0.5)
    assert all(same(hard[key], anywhere[key]) for key in keys(100))
