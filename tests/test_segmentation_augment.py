from collections.abc import Callable

import numpy as np
import pytest

from hw3.errors import InputError
from hw3.segmentation.augment import TRANSFORMS, Augmentation

SIDE = 24
ORIENTATIONS: list[Callable[[np.ndarray], np.ndarray]] = [
    *(lambda a, turns=turns: np.rot90(a, turns) for turns in range(4)),
    *(lambda a, turns=turns: np.rot90(np.fliplr(a), turns) for turns in range(4)),
]
"""The eight symmetries of a square."""


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


def only(*names: str) -> Augmentation:
    return Augmentation(seed=0, without=tuple(set(TRANSFORMS) - set(names)))


def orientation(mask: np.ndarray, moved: np.ndarray) -> int:
    """Which of `ORIENTATIONS` took `mask` to `moved`."""
    (found,) = [i for i, turn in enumerate(ORIENTATIONS) if np.array_equal(turn(mask), moved)]
    return found


def test_the_mask_moves_with_the_image_and_stays_binary(image, mask) -> None:
    augmentation = Augmentation(seed=0)
    seen = set()
    for index in range(100):
        new_image, new_mask = augmentation(image, mask, 0, index)
        assert new_image.dtype == new_mask.dtype == np.uint8
        assert set(np.unique(new_mask).tolist()) == {0, 1}
        inside, outside = new_image[new_mask == 1], new_image[new_mask == 0]
        assert inside.min() > outside.max() + 30
        seen.add(orientation(mask, new_mask))
    assert seen == set(range(8))


def test_the_input_is_left_alone(image, mask) -> None:
    before = image.copy(), mask.copy()
    for index in range(10):
        Augmentation(seed=0)(image, mask, 0, index)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_another_draw_for_each_seed_epoch_and_index_and_the_same_on_a_rerun(image, mask) -> None:
    keys = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)]

    def draw(seed: int, epoch: int, index: int) -> bytes:
        return Augmentation(seed)(image, mask, epoch, index)[0].tobytes()

    first = [draw(*key) for key in keys]
    assert len(set(first)) > 5  # two may agree: a transform is not always applied
    assert [draw(*key) for key in reversed(keys)] == first[::-1]


def test_a_draw_does_not_depend_on_those_before_it(image, mask) -> None:
    used, fresh = Augmentation(seed=0), Augmentation(seed=0)
    for index in range(7):
        used(image, mask, 0, index)
    assert np.array_equal(used(image, mask, 3, 5)[0], fresh(image, mask, 3, 5)[0])


@pytest.mark.parametrize(
    ("name", "effects"),
    [
        ("quarter turns", ORIENTATIONS[1:4]),
        ("mirroring left to right", [np.fliplr]),
        ("mirroring top to bottom", [np.flipud]),
    ],
)
def test_a_geometric_transform_by_itself(image, mask, name, effects) -> None:
    seen = set()
    for index in range(60):
        new_image, new_mask = only(name)(image, mask, 0, index)
        seen.add(orientation(mask, new_mask))
        np.testing.assert_array_equal(new_image, 80 + 100 * np.repeat(new_mask[..., None], 3, 2))
    assert seen == {0, *(orientation(mask, effect(mask)) for effect in effects)}


def test_brightness_and_contrast_by_themselves(image, mask) -> None:
    draws = [only("brightness and contrast")(image, mask, 0, index) for index in range(60)]
    assert all(np.array_equal(new_mask, mask) for _, new_mask in draws)
    assert all(np.ptp(new_image, axis=2).max() == 0 for new_image, _ in draws)
    contrasts = {int(np.ptp(new_image)) for new_image, _ in draws}
    darkest = {int(new_image.min()) for new_image, _ in draws}
    assert 100 in contrasts
    assert min(contrasts) >= 78  # 100 (1 - 0.2), rounded
    assert max(contrasts) <= 122
    assert min(darkest) < 60 < 100 < max(darkest)


def test_hue_and_saturation_by_themselves(mask) -> None:
    red = np.full((SIDE, SIDE, 3), (200, 60, 40), dtype=np.uint8)
    draws = [only("hue and saturation")(red, mask, 0, index) for index in range(60)]
    assert all(np.array_equal(new_mask, mask) for _, new_mask in draws)
    colours = {tuple(new_image[0, 0].tolist()) for new_image, _ in draws}
    assert (200, 60, 40) in colours
    assert len(colours) > 20
    assert len({colour.index(sorted(colour)[1]) for colour in colours}) > 1  # the hue turns


@pytest.mark.parametrize("left_out", TRANSFORMS)
def test_each_can_be_left_out(image, mask, left_out) -> None:
    augmentation = Augmentation(seed=0, without=(left_out,))
    kept = {type(transform) for transform in augmentation.compose.transforms}
    assert kept == {type(t) for name, t in TRANSFORMS.items() if name != left_out}
    augmentation(image, mask, 0, 0)


def test_all_left_out_change_nothing(image, mask) -> None:
    new_image, new_mask = only()(image, mask, 0, 0)
    np.testing.assert_array_equal(new_image, image)
    np.testing.assert_array_equal(new_mask, mask)


def test_the_draws_of_different_transforms_are_independent(image, mask) -> None:
    names = ("mirroring left to right", "mirroring top to bottom", "brightness and contrast")
    augmentation = only(*names)
    rows = []
    for index in range(1000):
        new_image, new_mask = augmentation(image, mask, 0, index)
        below, right = np.argwhere(new_mask).mean(axis=0) > SIDE / 2
        rows.append((below, right, np.ptp(new_image) != 100 or new_image.min() != 80))
    drawn = np.array(rows, dtype=float)
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.06  # four standard errors
    correlation = np.corrcoef(drawn.T)
    assert np.abs(correlation - np.eye(3)).max() < 0.13


def test_quarter_turns_draw_every_orientation(image, mask) -> None:
    turned = [
        orientation(mask, only("quarter turns")(image, mask, 0, index)[1]) for index in range(400)
    ]
    assert np.bincount(turned, minlength=4)[:4].min() > 40


def test_an_unknown_transform_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="shearing is no transform; choose from quarter turns"):
        Augmentation(seed=0, without=("shearing",))
