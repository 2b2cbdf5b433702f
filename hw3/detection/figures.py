"""Figures of chapters 2 and 3. Each function draws one from the data set, a record or numbers."""

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import Bbox

from hw3.detection.dataset import GROUPS, SIZE_GROUPS, GtsdbDataset
from hw3.detection.signs import SIGN_NAMES
from hw3.records import RunRecord, chain
from hw3.style import (
    MUTED,
    ONE_STAGE,
    PREDICTED,
    TRAINED,
    TRUE,
    TWO_STAGE,
    report_style,
    show_image,
)

Counts = dict[str, dict[str, int]]
"""Signs by group, then by size."""
PHOTO_DPI = 150
BESIDE = {"textcoords": "offset points", "va": "center", "fontsize": 8}
OFFSETS = (((7, 0), "left"), ((-7, 0), "right"), ((0, -10), "center"), ((0, 10), "center"))
"""Where a name may stand beside its point, in points, and which of its sides is there."""
SIZE_LABELS = ("small\n(< 32 px)", "medium\n(32-45 px)", "large\n(> 45 px)")


def annotated_sign(dataset: GtsdbDataset, index: int, margin: int = 60) -> Figure:
    """Figure 2.1: the largest sign of an image, and its surroundings, with its box and names.

    Example:
        >>> from PIL import Image
        >>> from hw3.detection.dataset import read_gtsdb
        >>> Image.new("RGB", (64, 48)).save(folder / "00000.ppm")
        >>> _ = (folder / "gt.txt").write_text("00000.ppm;10;8;30;28;14")
        >>> print(annotated_sign(read_gtsdb(folder), 0).axes[1].get_title())
        stop
        other, 20 px wide
    """
    boxes = dataset.boxes_xyxy[index]
    sign = int(np.argmax(boxes[:, 2] - boxes[:, 0]))
    x1, y1, x2, y2 = boxes[sign].astype(int)
    group = GROUPS[dataset.labels[index][sign] - 1]
    name = SIGN_NAMES[dataset.class_ids[index][sign]]
    with report_style():
        figure, (whole, close) = plt.subplots(1, 2, figsize=(8, 2.9), width_ratios=(1.9, 1))
        image = dataset.image(index)
        show_image(whole, image, f"image {dataset.image_ids[index]:05d}")
        show_image(close, image, f"{name}\n{group}, {x2 - x1} px wide")
        close.set(xlim=(x1 - margin, x2 + margin), ylim=(y2 + margin, y1 - margin))
        for axes in (whole, close):
            _box(axes, (x1, y1, x2, y2), TRUE)
    return figure


def histogram_by_group(panels: dict[str, Counts]) -> Figure:
    """Figures 2.2, 2.4, 2.6: how many signs of each group, a panel for each data set.

    Args:
        panels: signs by group and size, as `GtsdbDataset.counts` gives them, by title.

    Example:
        >>> counts = {group: {"small": 2, "medium": 1, "large": 0} for group in GROUPS}
        >>> figure = histogram_by_group({"real data": counts})
        >>> [int(bar.get_height()) for bar in figure.axes[0].patches]
        [3, 3, 3, 3]
    """
    return _bars(
        GROUPS,
        {title: [sum(own[group].values()) for group in GROUPS] for title, own in panels.items()},
    )


def histogram_by_size(panels: dict[str, Counts]) -> Figure:
    """Figures 2.3, 2.5, 2.7: how many signs of each size, a panel for each data set.

    Args:
        panels: signs by group and size, as `GtsdbDataset.counts` gives them, by title.

    Example:
        >>> counts = {group: {"small": 2, "medium": 1, "large": 0} for group in GROUPS}
        >>> figure = histogram_by_size({"real data": counts})
        >>> [int(bar.get_height()) for bar in figure.axes[0].patches]
        [8, 4, 0]
    """
    return _bars(
        SIZE_LABELS,
        {
            title: [sum(own[group][size] for group in GROUPS) for size in SIZE_GROUPS]
            for title, own in panels.items()
        },
    )


def ap_by_threshold(runs: dict[str, RunRecord]) -> Figure:
    """Figures 2.8, 2.12: mean AP over the four groups against the IoU threshold.

    Example:
        >>> record = RunRecord("ssd300", {}, data={}, seed=0)
        >>> record.results["ap_by_threshold"] = {"0.50": 0.8, "0.75": 0.6}
        >>> record.results["ap_by_threshold_interval"] = {"0.50": [0.7, 0.9], "0.75": [0.5, 0.7]}
        >>> ap_by_threshold({"one-stage": record}).axes[0].lines[0].get_ydata()
        array([0.8, 0.6])
    """
    with report_style():
        figure, axes = plt.subplots(figsize=(6.5, 3.2))
        for (title, record), color in zip(runs.items(), (TRAINED, MUTED)[: len(runs)], strict=True):
            _curve(axes, title, record, color)
        axes.legend(loc="lower left", labelcolor="linecolor")
    return figure


def ap_by_group(runs: dict[str, RunRecord]) -> Figure:
    """Figures 2.9, 2.13: AP at IoU 0.5 of each sign group.

    Example:
        >>> record = RunRecord("ssd300", {}, data={}, seed=0)
        >>> record.results["ap50_by_class"] = dict.fromkeys(GROUPS, 0.8)
        >>> record.results["ap50_by_class_interval"] = dict.fromkeys(GROUPS, [0.7, 0.9])
        >>> figure = ap_by_group({"one-stage": record})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['0.80', '0.80', '0.80', '0.80']
    """
    return _points(runs, "ap50_by_class", dict(zip(GROUPS, GROUPS, strict=True)))


def ap_by_size(runs: dict[str, RunRecord]) -> Figure:
    """Figures 2.10, 2.14: mean AP at IoU 0.5 of each size.

    Example:
        >>> record = RunRecord("ssd300", {}, data={}, seed=0)
        >>> record.results["ap50_by_size"] = {"small": 0.5, "medium": 0.8, "large": 0.9}
        >>> record.results["ap50_by_size_interval"] = dict.fromkeys(SIZE_GROUPS, [0.4, 1.0])
        >>> figure = ap_by_size({"one-stage": record})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['0.50', '0.80', '0.90']
    """
    return _points(runs, "ap50_by_size", dict(zip(SIZE_GROUPS, SIZE_LABELS, strict=True)))


def compared(runs: dict[str, RunRecord]) -> Figure:
    """Figure 2.16: a two-stage and a one-stage run, by IoU threshold and by size.

    Example:
        >>> record = RunRecord("run", {}, data={}, seed=0)
        >>> for key, names in {"ap_by_threshold": ["0.50"], "ap50_by_size": SIZE_GROUPS}.items():
        ...     record.results[key] = dict.fromkeys(names, 0.8)
        ...     record.results[f"{key}_interval"] = dict.fromkeys(names, [0.7, 0.9])
        >>> figure = compared({"two-stage": record, "one-stage": record})
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['two-stage', 'one-stage']
    """
    with report_style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
        for number, (title, record) in enumerate(runs.items()):
            color = (TWO_STAGE, ONE_STAGE)[number]
            _curve(left, title, record, color)
            _row(right, record, "ap50_by_size", SIZE_GROUPS, color, shift=0.24 * number - 0.12)
        left.legend(loc="lower left", labelcolor="linecolor")
        right.set_xticks(range(len(SIZE_GROUPS)), SIZE_LABELS)
        right.set(ylabel="AP at IoU 0.5", ylim=(-0.03, 1.05), xlim=(-0.5, len(SIZE_GROUPS) - 0.3))
    return figure


def boxes(
    dataset: GtsdbDataset,
    image_ids: Sequence[int],
    detections: list[dict[str, Any]],
    score_threshold: float = 0.5,
    columns: int = 2,
) -> Figure:
    """Figures 2.11, 2.15, 3.3, 3.4: true boxes in green, predicted ones in red, named and scored.

    Args:
        dataset: holds the images.
        image_ids: to show.
        detections: in COCO's results format, of any images.
        score_threshold: those below it are left out.
        columns: images beside each other.

    Example:
        >>> from PIL import Image
        >>> from hw3.detection.dataset import read_gtsdb
        >>> Image.new("RGB", (64, 48)).save(folder / "00000.ppm")
        >>> _ = (folder / "gt.txt").write_text("00000.ppm;10;8;30;28;14")
        >>> found = [{"image_id": 0, "category_id": 4, "bbox": [10, 8, 20, 20], "score": 0.9}]
        >>> figure = boxes(read_gtsdb(folder), [0], found)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['other 0.90']
    """
    number = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
    rows = max(1, -(-len(image_ids) // columns))
    with report_style():
        size = (8, 5.1 / columns * rows)
        dpi = PHOTO_DPI if rows <= 3 else 0.65 * PHOTO_DPI  # so that many photographs weigh less
        figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, dpi=dpi)
        for axes in grid.flat:
            axes.set_axis_off()
        names: list[list[tuple[Text, float]]] = []
        for axes, image_id in zip(grid.flat, image_ids, strict=False):
            show_image(axes, dataset.image(number[image_id]), f"image {image_id:05d}")
            for box in dataset.boxes_xyxy[number[image_id]]:
                _box(axes, box, TRUE, 2.5)
            shown = (
                found
                for found in detections
                if found["image_id"] == image_id and found["score"] >= score_threshold
            )
            names.append([_named_box(axes, own, font_size=6.5 * 2 / columns) for own in shown])
        figure.text(0.35, -0.02, "true box", color=TRUE, ha="center")
        figure.text(0.65, -0.02, "predicted box", color=PREDICTED, ha="center")
        figure.draw_without_rendering()  # until then the extents of names are not known
        for own in names:
            _part_names(own)
    return figure


def error_costs(panels: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Figure 3.2: what each kind of error costs, a panel for each title, a bar for each detector.

    Args:
        panels: by title of the panel, then by detector: AP lost, by kind of error.

    Example:
        >>> lost = {"missed": 0.25, "background": 0.05}
        >>> figure = error_costs({"real data": {"two-stage": lost, "one-stage": lost}})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['0.250', '0.050', '0.250', '0.050']
    """
    with report_style():
        figure, axes = plt.subplots(
            1, len(panels), figsize=(8, 3.2), sharex=True, sharey=True, squeeze=False
        )
        for own, (title, detectors) in zip(axes[0], panels.items(), strict=True):
            height = 0.8 / len(detectors)
            colors = zip(detectors.items(), (TWO_STAGE, ONE_STAGE)[: len(detectors)], strict=True)
            for number, ((name, lost), color) in enumerate(colors):
                places = np.arange(len(lost)) + (number - (len(detectors) - 1) / 2) * height
                bars = own.barh(places, list(lost.values()), height, color=color, label=name)
                names = [f"{value:.3f}" if value >= 0.0005 else "" for value in lost.values()]
                own.bar_label(bars, names, padding=2, fontsize=8)
            own.set_yticks(range(len(lost)), list(lost))
            own.set_title(title, loc="left")
            own.set_xlabel("AP at IoU 0.5 lost")
            own.margins(x=0.18)
        axes[0, 0].invert_yaxis()
        axes[0, 0].legend(loc="upper right", labelcolor="linecolor")
    return figure


def margins(images: Sequence[int], found: dict[str, list[float]]) -> Figure:
    """Figure 3.5: how far a score may lie from the truth, against the number of test images.

    Example:
        >>> found = {"one detector": [0.1, 0.05], "apart": [0.14, 0.07], "together": [0.12, 0.06]}
        >>> [line.get_label() for line in margins([100, 400], found).axes[0].lines]
        ['one detector', 'apart', 'together']
    """
    with report_style():
        figure, axes = plt.subplots(figsize=(6.5, 3.4))
        for (name, own), color in zip(found.items(), (MUTED, ONE_STAGE, TWO_STAGE), strict=True):
            axes.plot(images, own, color=color, marker="o", label=name)
        axes.legend(labelcolor="linecolor")
        axes.set(xlabel="test images", ylabel="margin of AP at IoU 0.5", ylim=(0, None))
    return figure


def minutes(
    recipes: dict[str, Sequence[RunRecord]],
    published: dict[str, float],
    known: Sequence[RunRecord] = (),
) -> Figure:
    """Figure 3.16: AP at IoU 0.5 against minutes of training on one core, a point per run.

    Args:
        recipes: by name, the runs that differ in their seed alone; a line joins those of one
            device, which the marker names. What follows a comma in the name stands beside them, and
            the colour says which detector it is.
        published: AP of others, by what they did, drawn as lines across.
        known: runs that others may go on from, see `hw3.records.chain`; their minutes count, too.

    Example:
        >>> runs = [RunRecord("run", {"model": "ssd300"}, data={}, seed=seed) for seed in range(2)]
        >>> for run, run.results in zip(runs, [{"ap50": 0.75}, {"ap50": 0.8125}], strict=True):
        ...     run.seconds_training, run.hardware = 300, {"device": "CPU", "count": 2}
        >>> axes = minutes({"SSD300, short": runs}, {"published": 0.875}).axes[0]
        >>> [text.get_text() for text in axes.texts]
        ['published', 'short']
        >>> [points.get_offsets().tolist() for points in axes.collections]
        [[[10.0, 0.75], [10.0, 0.8125]]]
    """
    devices = sorted({run.hardware["device"] for runs in recipes.values() for run in runs})
    markers = dict(zip(devices, cycle("osD^v"), strict=False))
    detectors = {"faster-rcnn": ("Faster R-CNN", TWO_STAGE), "ssd300": ("SSD300", ONE_STAGE)}
    with report_style():
        figure, axes = plt.subplots(figsize=(7, 4.6))
        for name, own in published.items():
            axes.axhline(own, color=MUTED, linewidth=1, linestyle=":")
            place = {"xycoords": axes.get_yaxis_transform(), "ha": "right", "va": "bottom"}
            axes.annotate(name, (1, own), color=MUTED, fontsize=8, **place)
        groups = []
        for name, runs in recipes.items():
            label, color = detectors[runs[0].settings["model"]]
            times = [sum(own.device_minutes for own in chain(run, known)) for run in runs]
            points = list(zip(times, (run.results["ap50"] for run in runs), strict=True))
            own_devices = [run.hardware["device"] for run in runs]
            for device in dict.fromkeys(own_devices):
                near = [own for own, at in zip(points, own_devices, strict=True) if at == device]
                style = {"s": 26, "alpha": 0.8, "marker": markers[device], "zorder": 3}
                axes.scatter(*zip(*near, strict=True), color=color, label=label, **style)
                axes.plot(*zip(*near, strict=True), color=color, linewidth=1)
                groups.append((name.split(", ")[-1], near, color))
        for device, marker in markers.items() if len(markers) > 1 else ():
            axes.plot([], [], marker, color=MUTED, label=device)
        handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        axes.legend(handles.values(), handles, labelcolor="linecolor", loc="lower left")
        axes.set(
            xlabel="minutes of training steps, times the cores that took them",
            ylabel="AP at IoU 0.5",
            xscale="log",
        )
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks([5, 10, 20, 50, 100, 200])
        axes.margins(x=0.15)
        _label_beside(axes, groups)
    return figure


def _label_beside(axes: Axes, groups: list[tuple[str, list[tuple[float, float]], str]]) -> None:
    """Each name beside one of its points, where it covers least of points, lines and names."""
    axes.figure.canvas.draw()  # before it, nothing has a place
    points = axes.transData.transform([point for _, near, _ in groups for point in near])
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    drawn = [line for line in axes.lines if len(line.get_xdata())]
    taken += [own.get_window_extent() for own in (*axes.texts, *drawn)]
    for name, near, color in groups:
        places = [
            axes.annotate(name, point, offset, ha=side, color=color, **BESIDE)
            for point in near
            for offset, side in OFFSETS
        ]
        boxes = [place.get_window_extent() for place in places]
        covered = [box.count_overlaps(taken) for box in boxes]
        best = covered.index(min(covered))
        taken.append(boxes[best])
        for place in (*places[:best], *places[best + 1 :]):
            place.remove()


def coverage(boxes_xyxy: np.ndarray, covered: dict[str, np.ndarray], signs: int = 40) -> Figure:
    """Figure 3.9: the share of signs that some anchor covers, against their width.

    Args:
        boxes_xyxy: (n, 4) true boxes.
        covered: (n,) bool by way of looking: two of one stage, then one or two of two stages.
        signs: in a point; each point is the mean of so many signs next to each other in width.

    Example:
        Two small signs that are not covered, and two large ones that are:

        >>> signs = np.array([[0, 0, width, width] for width in (16, 20, 80, 90)])
        >>> hit = np.array([False, False, True, True])
        >>> figure = coverage(signs, dict.fromkeys(("whole", "tiles", "two-stage"), hit), signs=2)
        >>> figure.axes[0].lines[0].get_xydata().tolist()
        [[18.0, 0.0], [85.0, 1.0]]
    """
    widths = boxes_xyxy[:, 2] - boxes_xyxy[:, 0]
    bins = np.array_split(np.argsort(widths), max(1, len(widths) // signs))
    centres = [float(widths[own].mean()) for own in bins]
    styles = (
        {"color": ONE_STAGE, "linestyle": "--", "marker": "o"},
        {"color": ONE_STAGE, "marker": "o", "markersize": 11, "markerfacecolor": "none"},
        {"color": TWO_STAGE, "marker": "o"},
        {"color": TWO_STAGE, "linestyle": "--", "marker": "o", "markersize": 4},
    )
    with report_style():
        figure, axes = plt.subplots(figsize=(6.5, 3.4))
        for (name, own), style in zip(covered.items(), styles[: len(covered)], strict=True):
            axes.plot(centres, [own[members].mean() for members in bins], **style, label=name)
        axes.legend(labelcolor="linecolor", loc="center right")
        axes.set(xlabel="width of a sign in pixels", ylabel="share covered", ylim=(-0.03, 1.05))
    return figure


def predicted_and_measured(
    panels: dict[str, tuple[dict, dict]], intervals: dict[str, dict[str, list[float] | None]]
) -> Figure:
    """Figure 3.10: by size, the share of signs that an anchor covers and that a detection finds.

    Two panels a row.

    Args:
        panels: by title: the shares covered and the shares found, each by size.
        intervals: by title and size: [low, high] of the share found, or None where it has none.

    Example:
        >>> share = {"small": 0.2, "medium": 0.8, "large": 1.0}
        >>> found = {"real data": {"small": [0.1, 0.3], "medium": [0.7, 0.9], "large": None}}
        >>> figure = predicted_and_measured({"real data": (share, share)}, found)
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['covered', 'found']
    """
    with report_style():
        rows, columns = -(-len(panels) // 2), min(2, len(panels))
        figure, grid = plt.subplots(
            rows, columns, figsize=(7, 2.8 * rows), sharey=True, squeeze=False
        )
        for axes, (title, shares) in zip(grid.flat, panels.items(), strict=False):
            marks = (("covered", MUTED, "_"), ("found", ONE_STAGE, "o"))
            for own, (name, color, marker) in zip(shares, marks, strict=True):
                values = [own[size] for size in SIZE_GROUPS]
                axes.plot(
                    values,
                    marker,
                    color=color,
                    markersize=7 if marker == "o" else 26,
                    markeredgewidth=2.5 if marker == "_" else 0,
                    label=name,
                )
            for place, size in enumerate(SIZE_GROUPS):
                if found := intervals[title][size]:
                    axes.vlines(place, *found, color=ONE_STAGE, linewidth=1.5)
            axes.set_title(title, loc="left")
            axes.set_xticks(range(len(SIZE_GROUPS)), SIZE_LABELS)
            axes.set(ylim=(-0.03, 1.05), xlim=(-0.5, len(SIZE_GROUPS) - 0.5))
        for axes in grid[:, 0]:
            axes.set_ylabel("share of signs")
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        grid[0, 0].legend(labelcolor="linecolor", loc="lower right")
    return figure


def precision_recall(precision: np.ndarray, recall: np.ndarray, envelope: np.ndarray) -> Figure:
    """A precision-recall curve as measured, and its interpolation, whose area is the AP.

    Example:
        >>> precision, recall = np.array([1.0, 0.5, 0.75]), np.array([0.5, 0.5, 1.0])
        >>> figure = precision_recall(precision, recall, envelope=np.array([1.0, 0.75, 0.75]))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['area = average precision']
    """
    levels = np.append(np.zeros_like(recall[:1]), recall)  # the area begins at recall 0
    heights = np.append(envelope[:1], envelope)
    with report_style():
        figure, axes = plt.subplots(figsize=(6.5, 3.2))
        axes.fill_between(levels, heights, color=TRAINED, alpha=0.12, step="pre")
        axes.plot(recall, precision, color=MUTED, marker=".", linewidth=1)
        axes.step(levels, heights, color=TRAINED, where="pre")
        axes.text(0.02, 0.1, "area = average precision", color=TRAINED)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    return figure


def _bars(names: Sequence[str], panels: dict[str, Sequence[int]]) -> Figure:
    """One panel a data set, each with a scale of its own, since one may be far larger."""
    with report_style():
        size = (4 * max(len(panels), 1.5), 2.8)
        figure, grid = plt.subplots(1, len(panels), figsize=size, squeeze=False)
        colors = (TRAINED, MUTED)[: len(panels)]
        for axes, (title, values), color in zip(grid[0], panels.items(), colors, strict=True):
            axes.bar_label(axes.bar(names, values, color=color, width=0.6), padding=2)
            axes.set_title(title, loc="left")
            axes.set(ylim=(0, 1.15 * max(1, *values)))
            axes.grid(axis="x", visible=False)
        grid[0, 0].set_ylabel("signs")
    return figure


def _points(runs: dict[str, RunRecord], key: str, names: dict[str, str]) -> Figure:
    """AP values with 95 % intervals, one panel a run."""
    with report_style():
        size = (max(6, 4 * len(runs)), 2.9)
        figure, grid = plt.subplots(1, len(runs), figsize=size, sharey=True, squeeze=False)
        for axes, (title, record) in zip(grid[0], runs.items(), strict=True):
            _row(axes, record, key, names, TRAINED)
            axes.set_xticks(range(len(names)), names.values())
            axes.set_title(title, loc="left")
            axes.set(ylim=(-0.03, 1.05), xlim=(-0.5, len(names) - 0.3))
        grid[0, 0].set_ylabel("AP at IoU 0.5")
    return figure


def _row(
    axes: Axes, record: RunRecord, key: str, names: Iterable[str], color: str, shift: float = 0
) -> None:
    """One point with its interval for each name, at 0, 1, 2, ... and the shift."""
    for place, name in enumerate(names):
        value, interval = (record.results[f"{key}{end}"][name] for end in ("", "_interval"))
        if value is None:
            axes.text(place, 0.03, "no such\nsign", ha="center", color=MUTED, fontsize=8)
            continue
        axes.vlines(place + shift, *interval, color=color, linewidth=2, alpha=0.5)
        axes.plot(place + shift, value, "o", color=color)
        side, align = (-0.06, "right") if shift < 0 else (0.08, "left")
        axes.text(place + shift + side, value, f"{value:.2f}", va="center", ha=align, fontsize=9)


def _curve(axes: Axes, title: str, record: RunRecord, color: str) -> None:
    """Mean AP against the IoU threshold, in a band that is its interval."""
    values, intervals = (record.results[f"ap_by_threshold{end}"] for end in ("", "_interval"))
    axes.set(xlabel="IoU threshold", ylabel="mean AP", ylim=(0, 1.02))
    if None in values.values():
        axes.plot([], color=color, label=f"{title}: no sign in the test images")
        return
    thresholds = [float(threshold) for threshold in values]
    axes.fill_between(thresholds, *zip(*intervals.values(), strict=True), color=color, alpha=0.15)
    axes.plot(thresholds, list(values.values()), color=color, marker="o", label=title)


def _named_box(axes: Axes, found: dict[str, Any], font_size: float) -> tuple[Text, float]:
    """The name drawn above the box, and where it would begin below it."""
    x, y, width, height = found["bbox"]
    _box(axes, (x, y, x + width, y + height), PREDICTED)
    name = f"{GROUPS[found['category_id'] - 1]} {found['score']:.2f}"
    plate = {"facecolor": PREDICTED, "edgecolor": "none", "pad": 0.8}
    # Near the right border a name would leave the image, and make room for itself beside it.
    left, side = (x, "left") if x < 0.7 * axes.get_xlim()[1] else (x + width, "right")
    text = axes.text(
        left, y - 3, name, color="white", fontsize=font_size, va="bottom", ha=side, bbox=plate
    )
    text.set_in_layout(False)
    return text, y + height + 3


def _part_names(names: list[tuple[Text, float]]) -> None:
    """Move a name that lies on an earlier one to below its box, if it lies on none there."""
    placed: list[Bbox] = []
    for text, below in names:
        above = text.get_position()[1]
        if text.get_window_extent().count_overlaps(placed):
            text.set(y=below, va="top")
            if text.get_window_extent().count_overlaps(placed):
                text.set(y=above, va="bottom")
        placed.append(text.get_window_extent())


def _box(axes: Axes, box: Sequence[float], color: str, width: float = 1.3) -> None:
    x1, y1, x2, y2 = box
    sides = (x2 - x1, y2 - y1)
    axes.add_patch(Rectangle((x1, y1), *sides, fill=False, edgecolor=color, linewidth=width))
