from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from hw3.detection import ap, figures
from hw3.detection.dataset import GROUPS, SIZE_GROUPS, GtsdbDataset, read_gtsdb
from hw3.detection.signs import SIGN_NAMES
from hw3.records import RunRecord
from hw3.style import MUTED, ONE_STAGE, PREDICTED, TRAINED, TRUE, TWO_STAGE

LINES = (
    "00000.png;10;10;30;30;1",  # prohibitory, small
    "00000.png;40;20;86;60;14",  # other, large
    "00000.png;50;70;82;90;38",  # mandatory, medium
    "00002.png;20;20;40;40;2",
    "00003.png;20;20;40;40;11",  # danger
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> GtsdbDataset:
    """Four images, one of them without a sign."""
    folder: Path = tmp_path_factory.mktemp("roads")
    (folder / "gt.txt").write_text("\n".join(LINES))
    for image_id in range(4):
        image = np.random.default_rng(image_id).integers(256, size=(100, 120, 3), dtype=np.uint8)
        plt.imsave(folder / f"{image_id:05d}.png", image)
    return read_gtsdb(folder)


def truth(image_id: int, dataset: GtsdbDataset) -> dict:
    return {
        "image_id": image_id,
        "boxes_xyxy": dataset.boxes_xyxy[image_id].tolist(),
        "labels": dataset.labels[image_id].tolist(),
    }


def record(dataset: GtsdbDataset, image_ids: list[int]) -> RunRecord:
    """Scores of a detector that finds the signs of labels 1 and 2, a little to the right."""
    truths = [truth(image_id, dataset) for image_id in image_ids]
    found = [
        detection(entry["image_id"], label, 0.9, (x1 + 2, y1, x2 - x1, y2 - y1))
        for entry in truths
        for (x1, y1, x2, y2), label in zip(entry["boxes_xyxy"], entry["labels"], strict=True)
        if label < 3
    ]
    results = ap.scores(ap.match(truths, found), resamples=50)
    return RunRecord(name="run", settings={}, data={}, seed=0, results=results)


def detection(image_id: int, label: int, score: float, bbox: tuple[float, ...]) -> dict:
    return {"image_id": image_id, "category_id": label, "bbox": list(bbox), "score": score}


@pytest.fixture(scope="module")
def runs(dataset) -> dict[str, RunRecord]:
    return {"Real": record(dataset, [0, 1, 2, 3]), "Simulated": record(dataset, [1, 2])}


def texts(part: Figure | Axes) -> list[str]:
    return [text.get_text() for text in part.findobj(Text) if text.get_text()]


def drawn(figure: Figure) -> Figure:
    """The same figure, after pyplot was found empty and the figure could be rendered."""
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == []
    file = BytesIO()
    figure.savefig(file, bbox_inches="tight")
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def rectangles(axes: Axes, color: str) -> list[list[float]]:
    """[x, y, width, height] of the boxes in this colour."""
    return [
        [*patch.get_xy(), patch.get_width(), patch.get_height()]
        for patch in axes.patches
        if isinstance(patch, Rectangle) and to_hex(patch.get_edgecolor()) == color.lower()
    ]


def points(axes: Axes) -> list[list[float]]:
    return [[line.get_xdata()[0], line.get_ydata()[0]] for line in axes.lines]


def test_the_largest_sign_is_annotated(dataset) -> None:
    figure = drawn(figures.annotated_sign(dataset, 0, margin=5))
    whole, close = figure.axes
    assert whole.get_title() == "image 00000"
    assert close.get_title() == f"{SIGN_NAMES[14]}\nother, 46 px wide"
    for axes in (whole, close):
        np.testing.assert_array_equal(axes.images[0].get_array(), dataset.image(0))
        assert rectangles(axes, TRUE) == [[40, 20, 46, 40]]
    assert (close.get_xlim(), close.get_ylim()) == ((35, 91), (65, 15))


@pytest.mark.parametrize(
    ("image_ids", "by_group", "by_size"),
    [
        ([0, 1, 2, 3], [2, 1, 1, 1], [3, 1, 1]),
        ([0], [1, 1, 0, 1], [1, 1, 1]),
        ([2, 3], [1, 0, 1, 0], [2, 0, 0]),
        ([1], [0, 0, 0, 0], [0, 0, 0]),
        ([], [0, 0, 0, 0], [0, 0, 0]),
    ],
)
def test_bars_are_as_high_as_the_counts(dataset, image_ids, by_group, by_size) -> None:
    panels = {"other": dataset.counts([0]), "own": dataset.counts(image_ids)}
    groups = drawn(figures.histogram_by_group(panels)).axes[1]
    sizes = drawn(figures.histogram_by_size(panels)).axes[1]
    for axes, expected in ((groups, by_group), (sizes, by_size)):
        assert [bar.get_height() for bar in axes.patches] == expected
        assert [text.get_text() for text in axes.texts] == list(map(str, expected))
        assert axes.get_ylim()[1] > max(1, *expected)
        assert axes.get_title(loc="left") == "own"
        assert axes.figure.axes[0].get_ylabel() == "signs"
    assert [label.get_text() for label in groups.get_xticklabels()] == list(GROUPS)
    names = [label.get_text().split()[0] for label in sizes.get_xticklabels()]
    assert names == list(SIZE_GROUPS)


def test_lines_are_the_ap_of_each_threshold(runs) -> None:
    (axes,) = drawn(figures.ap_by_threshold(runs)).axes
    for line, band, (title, run), color in zip(
        axes.lines, axes.collections, runs.items(), (TRAINED, MUTED), strict=True
    ):
        values = run.results["ap_by_threshold"]
        assert line.get_label() == title
        assert to_hex(line.get_color()) == color.lower()
        assert line.get_xdata().tolist() == [float(threshold) for threshold in values]
        assert line.get_ydata().tolist() == list(values.values())
        intervals = np.array(list(run.results["ap_by_threshold_interval"].values()))
        corners = band.get_paths()[0].vertices
        assert corners[:, 1].min() == intervals.min()
        assert corners[:, 1].max() == intervals.max()
    assert len(set(axes.lines[0].get_ydata())) > 1


def test_a_run_without_signs_is_named_without_a_line(dataset, runs) -> None:
    empty = record(dataset, [1])
    assert set(empty.results["ap_by_threshold"].values()) == {None}
    (axes,) = drawn(figures.ap_by_threshold({"Empty": empty, "Real": runs["Real"]})).axes
    assert "Empty: no sign in the test images" in texts(axes)
    values = list(runs["Real"].results["ap_by_threshold"].values())
    assert [list(line.get_ydata()) for line in axes.lines] == [[], values]
    assert to_hex(axes.lines[1].get_color()) == MUTED.lower()
    (alone,) = drawn(figures.ap_by_threshold({"Empty": empty})).axes
    assert "Empty: no sign in the test images" in texts(alone)


@pytest.mark.parametrize(
    ("draw", "key", "names"),
    [
        (figures.ap_by_group, "ap50_by_class", GROUPS),
        (figures.ap_by_size, "ap50_by_size", SIZE_GROUPS),
    ],
)
def test_points_are_the_ap_of_each_part_and_text_where_there_is_none(
    runs, draw, key, names
) -> None:
    figure = drawn(draw(runs))
    for axes, (title, run) in zip(figure.axes, runs.items(), strict=True):
        values = [run.results[key][name] for name in names]
        assert axes.get_title(loc="left") == title
        defined = [[place, value] for place, value in enumerate(values) if value is not None]
        assert points(axes) == defined
        assert texts(axes).count("no such\nsign") == values.count(None)
        assert [f"{value:.2f}" in texts(axes) for _, value in defined] == [True] * len(defined)
        bars = [bar.get_segments()[0] for bar in axes.collections]
        intervals = [run.results[f"{key}_interval"][names[place]] for place, _ in defined]
        assert [segment[:, 1].tolist() for segment in bars] == intervals
    assert None not in runs["Real"].results[key].values()
    assert None in runs["Simulated"].results[key].values()
    labels = [label.get_text().split("\n")[0] for label in figure.axes[0].get_xticklabels()]
    assert labels == list(names)


@pytest.mark.parametrize("draw", [figures.ap_by_group, figures.ap_by_size])
def test_parts_without_any_sign_are_all_text(dataset, draw) -> None:
    (axes,) = drawn(draw({"Empty": record(dataset, [1])})).axes
    assert points(axes) == []
    assert "no such\nsign" in texts(axes)


FOUND = [
    detection(0, 1, 0.91, (11, 9, 20, 21)),
    detection(0, 4, 0.5, (40, 20, 40, 40)),
    detection(0, 2, 0.4999, (1, 2, 3, 4)),
    detection(2, 3, 0.75, (5, 6, 7, 8)),
    detection(3, 1, 0.99, (9, 9, 9, 9)),
]


def test_boxes_are_drawn_in_their_image_and_above_the_threshold(dataset) -> None:
    figure = drawn(figures.boxes(dataset, [2, 0, 1], FOUND))
    second, first, without, empty = figure.axes
    assert [axes.get_title() for axes in figure.axes[:3]] == [f"image 0000{i}" for i in (2, 0, 1)]
    for axes, image_id in ((second, 2), (first, 0), (without, 1)):
        np.testing.assert_array_equal(axes.images[0].get_array(), dataset.image(image_id))
    assert rectangles(first, TRUE) == [[10, 10, 20, 20], [40, 20, 46, 40], [50, 70, 32, 20]]
    assert rectangles(first, PREDICTED) == [[11, 9, 20, 21], [40, 20, 40, 40]]
    assert {"prohibitory 0.91", "other 0.50"} < set(texts(first))
    assert rectangles(second, TRUE) == [[20, 20, 20, 20]]
    assert rectangles(second, PREDICTED) == [[5, 6, 7, 8]]
    assert "danger 0.75" in texts(second)
    assert not without.patches
    assert not empty.images
    assert {"true box", "predicted box"} < set(texts(figure))


def test_a_name_that_would_hide_another_stands_below_its_box(dataset) -> None:
    place = (20, 40, 30, 20)
    found = [detection(0, 4, 0.9, place), detection(0, 2, 0.8, place), detection(0, 3, 0.7, place)]
    names = drawn(figures.boxes(dataset, [0], found)).axes[0].texts
    assert [(text.get_position()[1], text.get_va()) for text in names] == [
        (37, "bottom"),
        (63, "top"),
        (37, "bottom"),  # both places are taken: it stays
    ]


def test_another_threshold_draws_other_boxes(dataset) -> None:
    for threshold, expected in ((0.0, 3), (0.6, 1), (0.95, 0)):
        figure = figures.boxes(dataset, [0], FOUND, score_threshold=threshold)
        assert len(rectangles(figure.axes[0], PREDICTED)) == expected
        assert len(rectangles(figure.axes[0], TRUE)) == 3


def test_no_images_make_an_empty_figure(dataset) -> None:
    figure = drawn(figures.boxes(dataset, [], FOUND))
    assert not any(axes.images or axes.patches for axes in figure.axes)


def test_the_curve_and_its_envelope_are_those_given() -> None:
    precision, recall = np.array([1, 0.5, 2 / 3, 0.5]), np.array([0.25, 0.25, 0.5, 0.5])
    envelope = ap.interpolate(precision)
    (axes,) = drawn(figures.precision_recall(precision, recall, envelope)).axes
    measured, stepped = axes.lines
    assert measured.get_xdata().tolist() == recall.tolist()
    assert measured.get_ydata().tolist() == precision.tolist()
    assert stepped.get_xdata().tolist() == [0, *recall]
    assert stepped.get_ydata().tolist() == [envelope[0], *envelope]
    (outline,) = axes.collections[0].get_paths()[0].to_polygons()
    x, y = outline.T
    shaded = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert shaded == pytest.approx(np.sum(np.diff(recall, prepend=0) * envelope))
    assert stepped.get_drawstyle() == "steps-pre"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")


def test_a_curve_without_detections_is_drawn_empty() -> None:
    nothing = np.zeros(0)
    (axes,) = drawn(figures.precision_recall(nothing, nothing, nothing)).axes
    assert [len(line.get_xdata()) for line in axes.lines] == [0, 0]


def test_no_run_is_left_out_without_a_word(runs) -> None:
    with pytest.raises(ValueError, match="zip"):
        figures.ap_by_threshold(dict.fromkeys("abc", runs["Real"]))
    with pytest.raises(ValueError, match="zip"):
        figures.error_costs({"real": {name: {"missed": 0.1} for name in "abc"}})


def test_bars_are_as_long_as_the_costs() -> None:
    first, second = {"background": 0.1, "missed": 0.02}, {"background": 0.0, "missed": 0.3}
    panels = {"Real": {"Two": first, "One": second}, "Simulated": {"Two": second, "One": first}}
    figure = drawn(figures.error_costs(panels))
    for axes, detectors in zip(figure.axes, panels.values(), strict=True):
        bars = axes.containers
        assert [bar.get_label() for bar in bars] == ["Two", "One"]
        assert [to_hex(bar[0].get_facecolor()) for bar in bars] == [
            color.lower() for color in (TWO_STAGE, ONE_STAGE)
        ]
        for container, lost in zip(bars, detectors.values(), strict=True):
            assert [bar.get_width() for bar in container] == list(lost.values())
        assert bars[0][0].get_y() < bars[1][0].get_y() < bars[0][1].get_y()
        assert {"0.100", "0.020", "0.300"} <= set(texts(axes)) and "0.000" not in texts(axes)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(panels)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(first)
    low, high = figure.axes[0].get_ylim()
    assert low > high  # the first kind is on top


def test_two_detectors_are_compared_by_threshold_and_by_size(runs, dataset) -> None:
    left, right = drawn(figures.compared(runs)).axes
    colors = [color.lower() for color in (TWO_STAGE, ONE_STAGE)]
    assert [line.get_label() for line in left.lines] == list(runs)
    assert [to_hex(line.get_color()) for line in left.lines] == colors
    for line, run in zip(left.lines, runs.values(), strict=True):
        assert line.get_ydata().tolist() == list(run.results["ap_by_threshold"].values())
    expected = [
        [place + shift, run.results["ap50_by_size"][size]]
        for run, shift in zip(runs.values(), (-0.12, 0.12), strict=True)
        for place, size in enumerate(SIZE_GROUPS)
        if run.results["ap50_by_size"][size] is not None
    ]
    np.testing.assert_allclose(points(right), expected)


def test_margins_are_drawn_against_images() -> None:
    found = {"alone": [0.2, 0.1], "apart": [0.3, 0.15], "together": [0.1, 0.05]}
    (axes,) = drawn(figures.margins([50, 200], found)).axes
    assert {line.get_label(): [*line.get_ydata()] for line in axes.lines} == found
    assert all([*line.get_xdata()] == [50, 200] for line in axes.lines)
    assert axes.get_ylim()[0] == 0


def test_each_run_is_a_point_at_its_minutes_in_the_colour_of_its_detector() -> None:
    def run(model: str, seed: int, seconds: float, ap50: float) -> RunRecord:
        own = RunRecord("run", {"model": model}, data={}, seed=seed, results={"ap50": ap50})
        own.seconds_training, own.hardware = seconds / 2, {"device": "CPU", "count": 2}
        return own

    recipes = {
        "short": [run("faster-rcnn", 0, 60, 0.75), run("faster-rcnn", 1, 120, 0.5)],
        "long": [run("faster-rcnn", 0, 600, 0.875)],
        "SSD300, tiles": [run("ssd300", 0, 300, 0.625)],
    }
    recipes["short"][1].weights = {"sha256": "f00d"}
    recipes["long"][0].weights = {"start_sha256": "f00d"}
    known = recipes["short"]
    (axes,) = drawn(figures.minutes(recipes, {"theirs": 0.95}, known)).axes
    assert [own.get_offsets().tolist() for own in axes.collections] == [
        [[1, 0.75], [2, 0.5]],
        [[12, 0.875]],
        [[5, 0.625]],
    ]
    assert [to_hex(own.get_facecolor()[0]) for own in axes.collections] == [
        color.lower() for color in (TWO_STAGE, TWO_STAGE, ONE_STAGE)
    ]
    assert [text.get_text() for text in axes.texts] == ["theirs", "short", "long", "tiles"]
    assert [own.get_text() for own in axes.get_legend().get_texts()] == ["Faster R-CNN", "SSD300"]
    assert [*axes.lines[0].get_ydata()] == [0.95, 0.95]
    assert [line.get_xydata().tolist() for line in axes.lines[1:2]] == [[[1, 0.75], [2, 0.5]]]
    recipes["long"][0].hardware["device"] = "a faster CPU"
    (axes,) = drawn(figures.minutes(recipes, {}, known)).axes
    labels = [own.get_text() for own in axes.get_legend().get_texts()]
    assert labels == ["Faster R-CNN", "SSD300", "CPU", "a faster CPU"]
    shapes = [len(own.get_paths()[0]) for own in axes.collections]
    assert shapes[0] == shapes[2] != shapes[1]
    recipes["short"][1].hardware = {"device": "a faster CPU", "count": 2}
    (axes,) = drawn(figures.minutes(recipes, {}, known)).axes
    assert [len(line.get_xydata()) for line in axes.lines[:2]] == [1, 1]  # none joins devices
    assert [text.get_text() for text in axes.texts][:2] == ["short", "short"]


def test_coverage_is_the_mean_of_neighbours_in_width() -> None:
    boxes = np.array([[0, 0, width, width] for width in (50, 10, 40, 20)], dtype=float)
    ways = {
        "whole": np.array([True, False, False, False]),
        "tiles": np.array([True, False, True, True]),
        "two": np.ones(4, dtype=bool),
    }
    (axes,) = drawn(figures.coverage(boxes, ways, signs=2)).axes
    assert all([*line.get_xdata()] == [15, 45] for line in axes.lines)
    assert {line.get_label(): [*line.get_ydata()] for line in axes.lines} == {
        "whole": [0, 0.5],
        "tiles": [0.5, 1],
        "two": [1, 1],
    }
    assert [to_hex(line.get_color()) for line in axes.lines] == [
        color.lower() for color in (ONE_STAGE, ONE_STAGE, TWO_STAGE)
    ]
    four = figures.coverage(boxes, ways | {"others": np.zeros(4, dtype=bool)}, signs=2).axes[0]
    assert [*four.lines[3].get_ydata()] == [0, 0]
    with pytest.raises(ValueError, match="zip"):  # none is left out without a word
        figures.coverage(boxes, ways | dict.fromkeys("ab", ways["two"]), signs=2)


def test_shares_covered_and_found_stand_above_each_size() -> None:
    covered = {"small": 0.0, "medium": 0.5, "large": 1.0, "all": 0.5}
    found = {"small": 0.25, "medium": 0.75, "large": np.nan, "all": 0.5}
    intervals = {"Whole": {"small": [0.125, 0.5], "medium": [0.75, 0.875], "large": None}}
    figure = drawn(figures.predicted_and_measured({"Whole": (covered, found)}, intervals))
    (axes,) = figure.axes
    ends = [own.get_segments()[0].tolist() for own in axes.collections]
    assert ends == [[[0, 0.125], [0, 0.5]], [[1, 0.75], [1, 0.875]]]
    drawn_values = {line.get_label(): [*line.get_ydata()] for line in axes.lines}
    assert drawn_values["covered"] == [0.0, 0.5, 1.0]
    assert drawn_values["found"][:2] == [0.25, 0.75] and np.isnan(drawn_values["found"][2])
    assert axes.get_title(loc="left") == "Whole"
