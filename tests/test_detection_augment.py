import numpy as np
import pytest

from hw3.detection.augment import MIN_VISIBLE, Augmentation, cut_boxes

WINDOW = (100, 50, 200, 150)
PATCHES = np.array(
    [
        [(60, 60, 60), (70, 90, 60), (180, 180, 180)],
        [(60, 110, 80), (150, 120, 120), (200, 190, 180)],
    ],
    dtype=np.uint8,
)
"""Dark to the left and bright to the right, neither grey nor symmetric."""


@pytest.fixture
def image() -> np.ndarray:
    """Six patches of 10 x 7 pixels, one colour each."""
    return PATCHES.repeat(10, axis=0).repeat(7, axis=1)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((110, 60, 130, 80), (10, 10, 30, 30)),  # inside
        ((100, 50, 200, 150), (0, 0, 100, 100)),  # the window itself
        ((92, 60, 112, 80), (0, 10, 12, 30)),  # 12 of 20 columns: 60 %
        ((91, 60, 111, 80), None),  # 11 of 20
        ((188, 60, 208, 80), (88, 10, 100, 30)),
        ((189, 60, 209, 80), None),
        ((110, 45, 130, 65), (10, 0, 30, 15)),  # 15 of 20 rows
        ((110, 41, 130, 61), None),
        ((110, 138, 130, 158), (10, 88, 30, 100)),
        ((184, 134, 204, 154), (84, 84, 100, 100)),  # 16 x 16 of 20 x 20: 64 %
        ((185, 135, 205, 155), None),  # 15 x 15: 56 %, though 75 % of each side
        ((80, 60, 100, 80), None),  # touches the window from outside
        ((200, 150, 220, 170), None),
        ((10, 10, 30, 30), None),
        ((50, 0, 250, 200), None),  # four times the window
        ((110.5, 60.25, 130.5, 80.25), (10.5, 10.25, 30.5, 30.25)),
    ],
    ids=str,
)
def test_boxes_are_cut_as_by_hand(box, expected) -> None:
    found, kept = cut_boxes(boxes(box), WINDOW)
    assert found.dtype == np.float32
    assert found.tolist() == ([list(expected)] if expected else [])
    assert kept.tolist() == ([0] if expected else [])


def test_three_fifths_are_enough_whatever_the_size() -> None:
    sizes = [(width, height) for width in range(5, 130, 5) for height in range(7, 130)]
    given = boxes(*((0, 0, *size) for size in sizes))
    for (width, height), box in zip(sizes, given, strict=True):
        assert cut_boxes(box[None], (0, 0, 3 * width // 5, height))[1].tolist() == [0]
        assert not cut_boxes(box[None], (0, 0, 3 * width // 5 - 1, height))[1].size


def test_kept_boxes_are_named_by_their_place_in_the_list() -> None:
    given = boxes(
        (0, 0, 10, 10), (150, 60, 170, 80), (195, 60, 215, 80), (110, 60, 130, 80), (1, 1, 3, 3)
    )
    before = given.copy()
    found, kept = cut_boxes(given, WINDOW)
    assert kept.tolist() == [1, 3]
    assert found.tolist() == [[50, 10, 70, 30], [10, 10, 30, 30]]
    np.testing.assert_array_equal(given, before)


def test_a_sign_at_the_images_border_stays_whole() -> None:
    corners = boxes((0, 0, 20, 30), (1340, 780, 1360, 800))
    assert cut_boxes(corners, (0, 0, 96, 96))[0].tolist() == [[0, 0, 20, 30]]
    assert cut_boxes(corners, (1264, 704, 1360, 800))[0].tolist() == [[76, 76, 96, 96]]
    assert cut_boxes(corners, (0, 0, 1360, 800))[0].tolist() == corners.tolist()


@pytest.mark.parametrize("min_visible", [0.0, 1e-6, MIN_VISIBLE, 1.0])
def test_no_box_is_ever_empty_reversed_or_outside(min_visible) -> None:
    drawn = np.random.default_rng(0)
    given = drawn.integers(60, 240, size=(3000, 4)).astype(np.float32)  # any order of corners
    found, kept = cut_boxes(given, WINDOW, min_visible)
    assert len(kept)
    assert (found[:, 2:] > found[:, :2]).all()
    assert found.min() >= 0
    assert found.max() <= 100
    sides, original = found[:, 2:] - found[:, :2], given[kept, 2:] - given[kept, :2]
    assert (sides.prod(axis=1) >= 0.999 * min_visible * original.prod(axis=1)).all()


def test_without_a_share_slivers_are_kept_but_nothing_without_area() -> None:
    given = boxes((81, 60, 101, 80), (80, 60, 100, 80), (120, 60, 120, 80))
    found, kept = cut_boxes(given, WINDOW, min_visible=0)
    assert kept.tolist() == [0]
    assert found.tolist() == [[0, 10, 1, 30]]


def test_no_boxes_stay_no_boxes() -> None:
    for given in (boxes(), boxes((0, 0, 10, 10))):
        found, kept = cut_boxes(given, WINDOW)
        assert found.shape == (0, 4)
        assert found.dtype == np.float32
        assert kept.shape == (0,)
        assert np.zeros(len(given), dtype=np.int64)[kept].dtype == np.int64


@pytest.mark.parametrize("shape", [(20, 21, 3), (1, 1, 3), (97, 33, 3)])
def test_shape_and_dtype_stay(shape) -> None:
    image = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    before = image.copy()
    for index in range(20):
        changed = Augmentation(seed=0)(image, 0, index)
        assert changed.shape == shape
        assert changed.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_seed_epoch_and_index_alone_decide_the_draw(image) -> None:
    augmentation = Augmentation(seed=3)
    first = [augmentation(image, epoch, index) for epoch in range(3) for index in range(8)]
    again = Augmentation(seed=3)
    np.random.seed(1)
    reverse = [again(image, epoch, index) for epoch in (2, 1, 0) for index in reversed(range(8))]
    np.testing.assert_array_equal(first, reverse[::-1])
    distinct = {changed.tobytes() for changed in first}
    assert len(distinct) > 12  # two in five stay as they are, or nearly
    other = [Augmentation(seed=4)(image, epoch, i) for epoch in range(3) for i in range(8)]
    assert not np.array_equal(first, other)


def test_epochs_differ(image) -> None:
    augmentation = Augmentation(seed=0)
    epochs = [[augmentation(image, epoch, index) for index in range(6)] for epoch in range(3)]
    assert len({np.array(changed).tobytes() for changed in epochs}) == 3


def test_some_images_stay_as_they_are(image) -> None:
    augmentation = Augmentation(seed=0)
    changed = [not np.array_equal(augmentation(image, 0, index), image) for index in range(200)]
    assert 0.7 < np.mean(changed) < 0.9  # 1 - 0.3 * 0.7 = 0.79


def test_nothing_moves_and_nothing_is_mirrored(image) -> None:
    augmentation = Augmentation(seed=0)
    for index in range(200):
        changed = augmentation(image, 0, index).astype(int)
        tiles = changed.reshape(2, 10, 3, 7, 3)
        assert (tiles == tiles[:, :1, :, :1]).all()  # each patch has one colour, where it was
        left, _, right = tiles[:, 0, :, 0].sum(axis=-1).T
        assert (left < right).all()


def test_brightness_contrast_and_colour_change(image) -> None:
    augmentation = Augmentation(seed=0)
    changed = np.stack([augmentation(image, 0, index) for index in range(100)]).astype(int)
    brightness = changed.mean(axis=(1, 2, 3)) - image.mean()
    assert brightness.min() < -25
    assert brightness.max() > 25
    grey, coloured = changed[:, 0, 0], changed[:, 10, 0]
    assert np.ptp(grey, axis=1).max() <= 1  # grey stays grey
    assert len(np.unique(np.ptp(coloured, axis=1))) > 10
