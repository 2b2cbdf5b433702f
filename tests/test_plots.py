"""The report's figures, read back from their axes."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from hw3 import plots
from hw3.detection.gtsdb import GROUPS, SIZE_GROUPS, GtsdbDataset, read_gtsdb
from hw3.plots import MUTED, PREDICTED, TRAIN, TRAINED, TRUE, VALIDATION
from hw3.records import RunRecord
from hw3.segmentation.model import UNetVGG16
from hw3.segmentation.samples import Augmentation
from hw3.simulated.signs import SIGN_NAMES

LINES = (
    "00000.png;10;10;30;30;1",  # prohibitory, small
    "00000.png;40;20;86;60;14",  # other, large
    "00000.png;50;70;82;90;38",  # mandatory, medium
    "00002.png;20;20;40;40;2",
    "00003.png;20;20;40;40;11",  # danger
)


def texts(part: Figure | Axes) -> list[str]:
    return [text.get_text() for text in part.findobj(Text) if text.get_text()]


def drawn(figure: Figure) -> Figure:
    """The same figure, after pyplot was found empty and the figure could be rendered."""
    assert plt.get_fignums() == []
    figure.savefig(BytesIO(), bbox_inches="tight")
    return figure


@pytest.mark.parametrize("augmentation", [None, Augmentation(seed=3)], ids=["plain", "drawn"])
def test_slices_stand_above_their_masks(tiny_dataset, augmentation) -> None:
    figure = drawn(plots.slices_with_masks(tiny_dataset, [4, 0, 35], augmentation))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    for column, index in enumerate((4, 0, 35)):
        expected = np.array(tiny_dataset.images[index]), np.array(tiny_dataset.masks[index])
        if augmentation:  # as in the first epoch of training
            expected = augmentation(*expected, 0, index)
        np.testing.assert_array_equal(shown[column], expected[0])
        np.testing.assert_array_equal(shown[3 + column], expected[1])
        number = tiny_dataset.slice_indices[index]
        assert figure.axes[column].get_title().endswith(f"\nslice {number}")


def test_the_architectures_numbers_are_the_models() -> None:
    torch.manual_seed(0)
    model = UNetVGG16("random", (16, 8, 8, 8)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = texts(drawn(plots.architecture(model, 64)))
    encoder = [sum(own.numel() for own in block.parameters()) for block in model.encoder]
    trained = [*reversed(model.decoder), model.head]
    numbers = [f"{number:,} frozen" for number in encoder]
    numbers += [f"{sum(own.numel() for own in part.parameters()):,} trained" for part in trained]
    assert [text for text in found if text.endswith((" frozen", " trained"))] == numbers
    assert sum(encoder) == 14_714_688  # VGG16 without its classifier
    shapes = {"64 × 64 × 64", "512 × 4 × 4", "16 × 8 × 8", "8 × 64 × 64", "1 × 64 × 64"}
    assert shapes < set(found)
    # Measuring left no trace.
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules()) and model.training


def test_curves_are_the_histories() -> None:
    names = ("accuracy", "loss", "iou", "dice")  # accuracy top left, loss top right
    values = [dict(zip(names, np.arange(4) + step, strict=True)) for step in (0.1, 0.2, 0.3)]
    first, second = {"epoch": 1, "train": values[0]}, {"epoch": 2, "train": values[1]}
    histories = {"Real": [first | {"validation": values[2]}, second], "All": [first]}
    runs = {title: RunRecord("run", {}, {}, 0, history=own) for title, own in histories.items()}
    figure = drawn(plots.curves(runs))
    assert {"Real", "All", "training", "validation", "epoch"} <= set(texts(figure))
    panels = figure.findobj(plt.Axes)
    assert [axes.get_title(loc="left").lower() for axes in panels] == [*names] * 2
    for place, (above, below) in enumerate(zip(panels[:4], panels[4:], strict=True)):
        train, validation = above.lines
        assert train.get_xydata().tolist() == [[1, place + 0.1], [2, place + 0.2]]
        assert validation.get_xydata().tolist() == [[1, place + 0.3]]
        colors = [to_hex(line.get_color()) for line in above.lines]
        assert colors == [TRAIN.lower(), VALIDATION.lower()]
        assert [len(line.get_xdata()) for line in below.lines] == [1, 0]


def outlines(axes: Axes) -> set[str]:
    colors = {to_hex(color) for own in axes.collections for color in own.get_edgecolor()}
    return {{TRUE.lower(): "true", PREDICTED.lower(): "predicted"}[color] for color in colors}


def test_evaluation_shows_both_outlines_and_says_how_good_they_are(tiny_dataset) -> None:
    areas = tiny_dataset.native_masks.sum(axis=(1, 2), dtype=np.int64)
    full, empty = int(areas.argmax()), int(areas.argmin())
    assert areas[empty] == 0
    probabilities = np.zeros((6, 64, 64), np.float32)
    probabilities[0] = 0.9 * tiny_dataset.native_masks[full]
    probabilities[1, ::2] = 0.9
    probabilities[4, 3:5, 7:9] = 0.51
    probabilities[4, 20:, 20:] = 0.5  # not above the threshold
    probabilities[5] = 1
    overlap = int(tiny_dataset.native_masks[full][::2].sum())
    indices = [full, full, full, empty, empty, full]
    figure = drawn(plots.evaluation(tiny_dataset, indices, probabilities))
    assert [(axes.get_title(), outlines(axes)) for axes in figure.axes if axes.images] == [
        ("Dice 1.00", {"true", "predicted"}),
        (f"Dice {2 * overlap / (64 * 32 + areas[full]):.2f}", {"true", "predicted"}),
        ("tumour missed", {"true"}),
        ("rightly empty", set()),
        ("false, 4 px", {"predicted"}),
        # A mask that covers all has no outline.
        (f"Dice {2 * areas[full] / (64 * 64 + areas[full]):.2f}", {"true"}),
    ]
    assert len(figure.axes) == 10  # two rows of five, the rest empty
    assert {"true outline", "predicted outline"} <= set(texts(figure))


def test_outlines_lie_on_the_slice_which_is_shown_without_the_dark_around_it(tiny_dataset) -> None:
    image = np.zeros((1, 20, 20, 3), np.uint8)
    image[0, 4:12, 6:10] = 200  # of twenty rows and columns; the masks have forty
    probability = np.zeros((1, 40, 40), np.float32)
    probability[0, 10:20, 20:30] = 1
    dataset = replace(tiny_dataset, images=image, native_masks=np.zeros((1, 40, 40), np.uint8))
    axes = plots.evaluation(dataset, [0], probability).axes[0]
    assert axes.images[0].get_extent() == [-0.5, 39.5, 39.5, -0.5]
    (path,) = axes.collections[0].get_paths()
    np.testing.assert_allclose(path.get_extents().get_points(), [[19.5, 9.5], [29.5, 19.5]])
    assert axes.get_xlim() == pytest.approx((15.5 - 8.32, 15.5 + 8.32))
    assert axes.get_ylim() == pytest.approx((15.5 + 8.32, 15.5 - 8.32))
    oblong = np.zeros((1, 40, 60), np.uint8)
    dark = replace(dataset, images=0 * image, native_masks=oblong)
    axes = plots.evaluation(dark, [0], oblong.astype(np.float32)).axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 59.5), (39.5, -0.5))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> GtsdbDataset:
    """Four images, one of them without a sign."""
    folder: Path = tmp_path_factory.mktemp("roads")
    (folder / "gt.txt").write_text("\n".join(LINES))
    for image_id in range(4):
        image = np.random.default_rng(image_id).integers(256, size=(100, 120, 3), dtype=np.uint8)
        plt.imsave(folder / f"{image_id:05d}.png", image)
    return read_gtsdb(folder)


def detection(image_id: int, label: int, score: float, bbox: tuple[float, ...]) -> dict:
    return {"image_id": image_id, "category_id": label, "bbox": list(bbox), "score": score}


def rectangles(axes: Axes, color: str) -> list[list[float]]:
    """[x, y, width, height] of the boxes in this colour."""
    return [
        [*patch.get_xy(), patch.get_width(), patch.get_height()]
        for patch in axes.patches
        if isinstance(patch, Rectangle) and to_hex(patch.get_edgecolor()) == color.lower()
    ]


def test_the_largest_sign_is_annotated(dataset) -> None:
    whole, close = drawn(plots.annotated_sign(dataset, 0, margin=5)).axes
    assert whole.get_title() == "image 00000"
    assert close.get_title() == f"{SIGN_NAMES[14]}\nother, 46 px wide"
    for axes in (whole, close):
        np.testing.assert_array_equal(axes.images[0].get_array(), dataset.image(0))
        assert rectangles(axes, TRUE) == [[40, 20, 46, 40]]
    assert (close.get_xlim(), close.get_ylim()) == ((35, 91), (65, 15))


@pytest.mark.parametrize(
    ("image_ids", "by_group", "by_size"),
    [([0, 1, 2, 3], [2, 1, 1, 1], [3, 1, 1]), ([], [0, 0, 0, 0], [0, 0, 0])],
)
def test_bars_are_as_long_as_the_counts(dataset, image_ids, by_group, by_size) -> None:
    panels = {"other": dataset.counts([0]), "own": dataset.counts(image_ids)}
    groups, sizes = plots.histogram_by_group(panels), plots.histogram_by_size(panels)
    for figure, names, expected in ((groups, GROUPS, by_group), (sizes, SIZE_GROUPS, by_size)):
        first, axes = drawn(figure).axes
        assert [bar.get_width() for bar in axes.patches] == expected
        assert [text.get_text() for text in axes.texts] == list(map(str, expected))
        assert axes.get_title(loc="left") == "own"
        assert first_words(first.get_yticklabels()) == list(names)
        low, high = axes.get_ylim()
        assert low > high  # the first name is on top


def first_words(labels: list[Text]) -> list[str]:
    return [label.get_text().split(",")[0] for label in labels]


def detector(key: str, scores: dict[str, tuple[float, list[float]] | None]) -> list[RunRecord]:
    """Its only run, with these scores and their intervals."""
    results = {
        name: {part: own and own[place] for part, own in scores.items()}
        for place, name in enumerate((key, f"{key}_interval"))
    }
    return [RunRecord("run", {}, {}, seed=0, results=results)]


def test_lines_are_the_ap_of_each_threshold_and_no_run_is_left_out_without_a_word() -> None:
    scores = {"0.50": (0.9, [0.75, 0.95]), "0.75": (0.8, [0.7, 0.85])}
    real, empty = (detector("ap_by_threshold", own) for own in (scores, {"0.50": None}))
    (axes,) = drawn(plots.ap_by_threshold({"Real": real, "Empty": empty})).axes
    line, without = axes.lines
    assert line.get_xydata().tolist() == [[0.5, 0.9], [0.75, 0.8]]
    corners = {tuple(corner) for corner in axes.collections[0].get_paths()[0].vertices.tolist()}
    assert corners == {(0.5, 0.75), (0.5, 0.95), (0.75, 0.7), (0.75, 0.85)}
    assert [to_hex(own.get_color()) for own in axes.lines] == [TRAINED.lower(), MUTED.lower()]
    assert line.get_label() == "Real" and not len(without.get_xdata())
    assert without.get_label() == "Empty: no sign in the test images"
    assert 0.65 < axes.get_ylim()[0] < 0.7  # not at 0, where nothing is
    with pytest.raises(ValueError, match="zip"):
        plots.ap_by_threshold(dict.fromkeys("abc", real))


@pytest.mark.parametrize(
    ("draw", "key", "names"),
    [(plots.ap_by_group, "ap50_by_class", GROUPS), (plots.ap_by_size, "ap50_by_size", SIZE_GROUPS)],
)
def test_each_part_has_its_ap_as_a_point_and_as_text(draw, key, names) -> None:
    scores = {name: (0.9 - n / 10, [0.5 - n / 10, 0.95]) for n, name in enumerate(names)}
    runs = scores, dict(list(scores.items())[1:])
    titled = {"Real": detector(key, runs[0]), "Simulated": detector(key, runs[1])}
    (axes,) = drawn(draw(titled)).axes
    shown = ["0.90", "0.80", "0.70", "0.60"][: len(names)]
    assert [text.get_text() for text in axes.texts] == [*shown, "no sign", *shown[1:]]
    for line, bars, own, title in zip(axes.lines, axes.collections, runs, titled, strict=True):
        assert line.get_label() == title
        assert line.get_xdata().tolist() == [value for value, _ in own.values()]
        assert np.rint(line.get_ydata()).tolist() == [names.index(name) for name in own]
        segments = [bar[:, 0].tolist() for bar in bars.get_segments()]
        assert segments == [interval for _, interval in own.values()]
    assert first_words(axes.get_yticklabels()) == list(names)


FOUND = [
    detection(0, 1, 0.91, (11, 9, 20, 21)),
    detection(0, 4, 0.5, (40, 20, 40, 40)),
    detection(0, 2, 0.4999, (1, 2, 3, 4)),
    detection(2, 3, 0.75, (5, 6, 7, 8)),
]


def test_boxes_are_drawn_in_their_image_and_above_the_threshold(dataset) -> None:
    figure = drawn(plots.boxes(dataset, [2, 0, 1], FOUND))
    second, first, without, empty = figure.axes
    for axes, image_id in ((second, 2), (first, 0), (without, 1)):
        assert axes.get_title() == f"image 0000{image_id}"
        np.testing.assert_array_equal(axes.images[0].get_array(), dataset.image(image_id))
    assert rectangles(first, TRUE) == [[10, 10, 20, 20], [40, 20, 46, 40], [50, 70, 32, 20]]
    assert rectangles(first, PREDICTED) == [[11, 9, 20, 21], [40, 20, 40, 40]]
    assert {"prohibitory 0.91", "other 0.50"} < set(texts(first)) and not without.patches
    assert rectangles(second, PREDICTED) == [[5, 6, 7, 8]]
    assert not empty.images and {"true box", "predicted box"} < set(texts(figure))
    axes = plots.boxes(dataset, [0], FOUND, score_threshold=0.6).axes[0]
    assert len(rectangles(axes, PREDICTED)) == 1
    assert not any(axes.images for axes in drawn(plots.boxes(dataset, [], FOUND)).axes)


def test_names_stand_beside_their_boxes_and_hide_no_other(dataset) -> None:
    found = [detection(0, label, 0.9, (90, 40, 10, 10)) for label in (4, 2, 3)]
    names = drawn(plots.boxes(dataset, [0], found)).axes[0].texts
    assert [text.get_ha() for text in names] == ["right"] * 3  # there is no room on the right
    extents = [text.get_window_extent() for text in names]
    assert [own.count_overlaps(extents) for own in extents] == [1, 1, 1]  # each with itself


def test_what_is_found_in_pictures_of_ones_own() -> None:
    image, probability = np.full((40, 30, 3), 7, np.uint8), np.zeros((40, 30))
    assert not drawn(plots.found_signs(image, [])).axes[0].patches
    assert not drawn(plots.found_tumour(image, probability)).axes[0].collections
    [axes] = drawn(plots.found_signs(image, FOUND[:1])).axes
    assert len(rectangles(axes, PREDICTED)) == len(axes.texts) == 1
    probability[10:20, 5:10] = 0.75
    left, right = drawn(plots.found_tumour(image, probability)).axes
    assert left.get_title() == "50 pixels outlined" and len(left.collections) == 1
    assert right.get_title() == "probability, at most 0.75"
    assert right.images[0].get_clim() == (0, 1)
