from dataclasses import replace
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from hw3.records import RunRecord
from hw3.segmentation import figures
from hw3.segmentation.augment import Augmentation
from hw3.segmentation.dataset import LggDataset
from hw3.segmentation.metrics import SliceCounts
from hw3.segmentation.model import UNetVGG16
from hw3.style import PREDICTED, TRAIN, TRUE, VALIDATION


@pytest.fixture(scope="module")
def model() -> UNetVGG16:
    torch.manual_seed(0)
    return UNetVGG16("random", (16, 8, 8, 8))


@pytest.fixture
def record() -> RunRecord:
    def values(start: float) -> dict[str, float]:
        names = ("loss", "dice", "iou", "accuracy")
        return {name: start + i / 10 for i, name in enumerate(names)}

    history = [
        {"epoch": epoch, "train": values(epoch / 20), "validation": values(epoch / 30)}
        for epoch in (1, 2, 3)
    ]
    return RunRecord(name="run", settings={}, data={}, seed=0, history=history)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def drawn(figure: Figure) -> Figure:
    """The same figure, after pyplot was found empty and the figure could be rendered."""
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == []
    file = BytesIO()
    figure.savefig(file, bbox_inches="tight")
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def test_slices_stand_above_their_masks(tiny_dataset) -> None:
    figure = drawn(figures.slices_with_masks(tiny_dataset, [4, 0, 35]))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 6
    for column, index in enumerate((4, 0, 35)):
        np.testing.assert_array_equal(shown[column], tiny_dataset.images[index])
        np.testing.assert_array_equal(shown[3 + column], tiny_dataset.masks[index])
    numbers = [axes.get_title().splitlines()[1] for axes in figure.axes[:3]]
    assert numbers == [f"slice {tiny_dataset.slice_indices[index]}" for index in (4, 0, 35)]


def test_augmented_slices_are_those_that_training_draws(tiny_dataset) -> None:
    augmentation = Augmentation(seed=3)
    figure = drawn(figures.augmented_slices(tiny_dataset, [4, 5], augmentation, epoch=2))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    for column, index in enumerate((4, 5)):
        image, mask = np.array(tiny_dataset.images[index]), np.array(tiny_dataset.masks[index])
        expected = augmentation(image, mask, 2, index)
        np.testing.assert_array_equal(shown[column], expected[0])
        np.testing.assert_array_equal(shown[2 + column], expected[1])


def test_the_architectures_numbers_are_the_models(model) -> None:
    found = texts(drawn(figures.architecture(model, 64)))
    numbers: dict[str, list[int]] = {"frozen": [], "trained": []}
    for text in found:
        count, _, state = text.partition(" ")
        if state in numbers:
            numbers[state].append(int(count.replace(",", "")))

    def parameters(part: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in part.parameters())

    assert numbers["frozen"] == [parameters(block) for block in model.encoder]
    assert sum(numbers["frozen"]) == 14_714_688  # VGG16 without its classifier
    levels = [*model.decoder, model.head]
    assert sorted(numbers["trained"]) == sorted(parameters(level) for level in levels)
    assert sum(sum(counts) for counts in numbers.values()) == parameters(model)
    for shape in ("64 × 64 × 64", "512 × 4 × 4", "16 × 8 × 8", "8 × 64 × 64", "1 × 64 × 64"):
        assert shape in found


def test_drawing_the_architecture_leaves_the_weights_alone(model) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    figures.architecture(model, 32)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_curves_are_the_histories(record) -> None:
    other = RunRecord(name="other", settings={}, data={}, seed=0, history=record.history[:2])
    figure = drawn(figures.curves({"Real": record, "Simulated": other}))
    assert {"Real", "Simulated", "training", "validation", "epoch"} <= set(texts(figure))
    panels = figure.findobj(plt.Axes)
    names = ["accuracy", "loss", "iou", "dice"]  # accuracy top left, loss top right
    assert [axes.get_title(loc="left").lower() for axes in panels] == names * 2
    for run, own in ((record, panels[:4]), (other, panels[4:])):
        for name, axes in zip(names, own, strict=True):
            for part, color in (("train", TRAIN), ("validation", VALIDATION)):
                (line,) = [line for line in axes.lines if to_hex(line.get_color()) == color.lower()]
                assert line.get_xdata().tolist() == [entry["epoch"] for entry in run.history]
                assert line.get_ydata().tolist() == [entry[part][name] for entry in run.history]


def colours(axes: plt.Axes) -> set[str]:
    return {to_hex(color) for contour in axes.collections for color in contour.get_edgecolor()}


def test_evaluation_shows_both_outlines_and_says_how_good_they_are(tiny_dataset) -> None:
    areas = tiny_dataset.native_masks.sum(axis=(1, 2), dtype=np.int64)
    full, empty = int(areas.argmax()), int(areas.argmin())
    assert areas[empty] == 0
    truth = np.array(tiny_dataset.native_masks[full])
    probabilities = np.zeros((6, 64, 64), np.float32)
    probabilities[0] = 0.9 * truth
    probabilities[1, ::2] = 0.9
    probabilities[4, 3:5, 7:9] = 0.51
    probabilities[4, 20:, 20:] = 0.5  # not above the threshold
    probabilities[5] = 1
    overlap = int(truth[::2].sum())
    assert overlap
    indices = [full, full, full, empty, empty, full]
    figure = drawn(figures.evaluation(tiny_dataset, indices, probabilities))
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == [
        "Dice 1.00",
        f"Dice {2 * overlap / (64 * 32 + areas[full]):.2f}",
        "tumour missed",
        "rightly empty",
        "false tumour, 4 px",
        f"Dice {2 * areas[full] / (64 * 64 + areas[full]):.2f}",
    ]
    true, predicted = TRUE.lower(), PREDICTED.lower()
    assert [colours(axes) for axes in panels] == [
        {true, predicted},
        {true, predicted},
        {true},
        set(),
        {predicted},
        {true},  # a mask that covers all has no outline
    ]
    assert len(figure.axes) == 10  # two rows of five, the rest empty
    assert {"true outline", "predicted outline (dashed)"} <= set(texts(figure))


def test_outlines_lie_on_the_image_whatever_its_resolution(tiny_dataset) -> None:
    probability = np.zeros((1, 64, 64), np.float32)
    probability[0, 10:20, 30:50] = 1
    index = int(tiny_dataset.native_masks.sum(axis=(1, 2), dtype=np.int64).argmin())
    axes = figures.evaluation(tiny_dataset, [index], probability).axes[0]
    assert axes.images[0].get_extent() == [-0.5, 63.5, 63.5, -0.5]
    (path,) = axes.collections[0].get_paths()
    np.testing.assert_allclose(path.get_extents().get_points(), [[29.5, 9.5], [49.5, 19.5]])


def test_a_slice_is_shown_without_the_dark_around_it(tiny_dataset) -> None:
    image = np.zeros((1, 20, 20, 3), np.uint8)
    image[0, 4:12, 6:10] = 200  # of twenty rows and columns; the masks have forty
    mask = np.zeros((1, 40, 40), np.uint8)
    dataset = replace(tiny_dataset, images=image, native_masks=mask)
    axes = figures.evaluation(dataset, [0], np.zeros((1, 40, 40), np.float32)).axes[0]
    assert axes.get_xlim() == pytest.approx((15.5 - 8.32, 15.5 + 8.32))
    assert axes.get_ylim() == pytest.approx((15.5 + 8.32, 15.5 - 8.32))
    dark = replace(dataset, images=0 * image)
    axes = figures.evaluation(dark, [0], np.zeros((1, 40, 40), np.float32)).axes[0]
    assert axes.get_xlim() == (-0.5, 39.5)


def test_slices_that_are_not_square_cover_their_masks() -> None:
    images, masks = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 40, 60), np.uint8)
    dataset = LggDataset(np.array(["a"]), np.array([1]), images, masks, masks, "")
    axes = figures.evaluation(dataset, [0], np.zeros((1, 40, 60), np.float32)).axes[0]
    assert axes.images[0].get_extent() == [-0.5, 59.5, 39.5, -0.5]


def test_means_by_size_go_from_small_to_large_and_leave_empty_slices_out() -> None:
    columns = (["a"] * 4, [1, 2, 3, 4], [0, 100, 1, 9], [7, 0, 1, 0], [0, 0, 1, 1])
    counts = SliceCounts(*map(np.array, columns), pixels=400)
    figure = drawn(figures.dice_by_size({"real": counts, "simulated": counts}, parts=3))
    for axes in figure.axes:
        areas, means = axes.lines[0].get_data()
        assert list(areas) == [2, 10, 100]
        assert list(means) == pytest.approx([0.5, 18 / 19, 1])
        assert len(axes.collections[0].get_offsets()) == 3


def test_distances_are_cumulative_shares_with_their_medians() -> None:
    one = (np.array([0.0, 2, 9]), np.array([0.2, 0.8, 1]))
    figure = drawn(figures.distances({"one": one, "other": (one[0] + 1, one[1] / 2)}, 2))
    medians = [text.strip() for text in texts(figure) if "median" in text]
    assert medians == [
        "one: median 2.00",
        "other: median 3.00",
        "one: median 0.80",
        "other: median 0.40",
    ]
    assert figure.axes[0].lines[0].get_ydata()[-1] == 1


def test_empty_bins_are_left_out_of_the_calibration() -> None:
    bins = {"pixels": [90, 0, 10], "probability": [9.0, 0.0, 9.0], "tumour": [0, 0, 8]}
    left, right = drawn(figures.calibration({"one": bins, "other": bins})).axes
    assert left.lines[1].get_xdata().tolist() == pytest.approx([0.1, 0.9])
    assert left.lines[1].get_ydata().tolist() == pytest.approx([0, 0.8])
    assert right.patches[0].get_data().values.tolist() == pytest.approx([0.9, 0, 0.1])


def test_nothing_to_draw_is_said() -> None:
    columns = (["a"], [1], [0], [3], [0])
    healthy = SliceCounts(*map(np.array, columns), pixels=400)
    assert "no slice with tumour" in texts(drawn(figures.dice_by_size({"healthy": healthy})))
    empty = drawn(figures.distances({"empty": (np.array([]), np.array([]))}, 2))
    assert texts(empty).count("empty: no slice with both masks") == 2


def test_a_third_run_has_no_colour_and_is_not_left_out_in_silence() -> None:
    bins = {"pixels": [90, 10], "probability": [9.0, 9.0], "tumour": [0, 8]}
    with pytest.raises(ValueError, match="zip"):
        figures.calibration(dict.fromkeys("abc", bins))
