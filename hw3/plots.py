"""The report's figures, each drawn from data or records, in one visual language."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from hw3.detection.gtsdb import GROUPS, SIZE_GROUPS, GtsdbDataset
from hw3.records import RunRecord
from hw3.segmentation.lgg import LggDataset
from hw3.segmentation.metrics import count_pixels, dice
from hw3.segmentation.model import UNetVGG16
from hw3.segmentation.samples import Augmentation
from hw3.simulated.signs import SIGN_NAMES
from hw3.tables import over_seeds

TRUE, PREDICTED = "#009E73", "#D55E00"
"""Green for the truth, red for predictions, as in the report, and safe for the colour-blind."""
TRAIN, VALIDATION = "#0072B2", "#9A6700"
TWO_STAGE, ONE_STAGE = "#0072B2", "#882255"
FROZEN, TRAINED, MUTED = "#9AA5B1", "#0072B2", "#5B6570"

WIDTH = 6.0
"""Of nearly every figure, in inches: shrunk to a phone of 360 pixels, ten points are 8 pixels."""
PHOTO_DPI = 150
SETTINGS = {
    "figure.facecolor": "white",  # opaque, so that text stays readable in the dark theme
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
DARK = 25
"""Up to this value, of 255, a pixel may lie outside a head."""
SIZE_LABELS = ("small, < 32 px", "medium, 32-45 px", "large, > 45 px")

Point = tuple[float, float]
Counts = dict[str, dict[str, int]]
"""Signs by group, then by size, as `GtsdbDataset.counts` gives them."""
Runs = dict[str, Sequence[RunRecord]]
"""By title, a detector's runs, which differ in their seed; one title or two."""


@contextmanager
def report_style() -> Iterator[None]:
    """The book's matplotlib settings; pyplot forgets the figures made inside."""
    before = plt.get_fignums()
    with plt.rc_context(SETTINGS):
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - set(before):
                plt.close(number)


def show_image(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """Draw an image without ticks, grid or frame."""
    axes.imshow(image, cmap="gray" if image.ndim == 2 else None, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def outline(axes: Axes, mask: np.ndarray, color: str, style: str = "solid") -> None:
    """Draw the border of a mask, if it holds anything."""
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=color, linewidths=1.3, linestyles=style)


def slices_with_masks(
    dataset: LggDataset, indices: Sequence[int], augmentation: Augmentation | None = None
) -> Figure:
    """Figures 1.1, 1.2: slices above their masks; with an augmentation, after one draw of it."""
    with report_style():
        figure, grid = plt.subplots(2, len(indices), figsize=(WIDTH, 2.9), squeeze=False)
        for (above, below), index in zip(grid.T, indices, strict=True):
            image, mask = np.array(dataset.images[index]), np.array(dataset.masks[index])
            if augmentation:
                image, mask = augmentation(image, mask, 0, index)
            patient = dataset.patient_ids[index][:12].rstrip("_")  # without a date
            show_image(above, image, f"{patient}\nslice {dataset.slice_indices[index]}")
            show_image(below, mask)
    return figure


def architecture(model: UNetVGG16, size: int) -> Figure:
    """Figure 1.3: the network's levels with shapes, for images of this side, and parameters."""
    image = torch.zeros(1, 3, size, size, device=model.mean.device)
    shapes = [tuple(features.shape[1:]) for features in model.encode(image)]
    levels = len(shapes)
    with report_style():
        figure, axes = plt.subplots(figsize=(5, 6))
        for depth, block in enumerate(model.encoder):
            _level(axes, 0, -depth, f"VGG16 block {depth + 1}", shapes[depth], block)
            if depth:
                _arrow(axes, (0.5, 0.67 - depth), (0.5, 0.33 - depth), "max pool")
        for depth, level in enumerate(reversed(model.decoder)):
            shape = (level[0].out_channels, *shapes[depth][1:])
            _level(axes, 1.6, -depth, f"decoder {depth + 1}", shape, level)
            _arrow(axes, (1.02, -depth), (1.58, -depth))
            axes.text(1.3, 0.05 - depth, "skip", ha="center", color=MUTED, fontsize=9)
            if depth:
                _arrow(axes, (2.1, 0.33 - depth), (2.1, 0.67 - depth), "upsample × 2")
        turn = "angle,angleA=0,angleB=90"
        _arrow(axes, (1.02, 1 - levels), (2.1, 1.67 - levels), "upsample × 2", turn)
        _level(axes, 1.6, 1, "1 × 1 convolution", (1, size, size), model.head)
        _arrow(axes, (2.1, 0.33), (2.1, 0.67))
        axes.set(xlim=(-0.05, 2.9), ylim=(0.6 - levels, 1.4))
        axes.set_axis_off()
    return figure


def curves(runs: dict[str, RunRecord]) -> Figure:
    """Figure 1.4: accuracy, loss, IoU and Dice over epochs, a block of four panels for each title.

    A run without validation slices has the curves of training alone.
    """
    with report_style():
        figure = plt.figure(figsize=(WIDTH, 0.4 + 4.2 * len(runs)))
        blocks = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
        for block, (title, record) in zip(blocks, runs.items(), strict=True):
            block.suptitle(title, x=0.02, ha="left", weight="bold")
            _curve_panels(block.subplots(2, 2, sharex=True), record)
        colors = {"training": TRAIN, "validation": VALIDATION}
        _legend(figure, {name: {"color": color} for name, color in colors.items()})
    return figure


def evaluation(dataset: LggDataset, indices: Sequence[int], probabilities: np.ndarray) -> Figure:
    """Figure 1.5: n slices with their outlines, true and predicted.

    `probabilities` are (n, height, width), at native resolution.
    """
    rows, columns = -(-len(indices) // 5), 5
    with report_style():
        figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, 1.6 * rows), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, index, probability in zip(grid.flat, indices, probabilities, strict=False):
            truth, predicted = dataset.native_masks[index], probability > 0.5
            height, width = truth.shape
            show_image(axes, dataset.images[index], _verdict(*count_pixels(predicted, truth)))
            axes.images[0].set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
            outline(axes, truth, TRUE)
            outline(axes, predicted, PREDICTED, "dashed")
            _zoom(axes, dataset.images[index], truth.shape)
        dashed = {"color": PREDICTED, "linestyle": "dashed"}
        _legend(figure, {"true outline": {"color": TRUE}, "predicted outline": dashed})
    return figure


def annotated_sign(dataset: GtsdbDataset, index: int, margin: int = 60) -> Figure:
    """Figure 2.1: the largest sign of an image, and its surroundings, with its box and names."""
    boxes_xyxy = dataset.boxes_xyxy[index]
    sign = int(np.argmax(boxes_xyxy[:, 2] - boxes_xyxy[:, 0]))
    x1, y1, x2, y2 = boxes_xyxy[sign].astype(int)
    group = GROUPS[dataset.labels[index][sign] - 1]
    name = SIGN_NAMES[dataset.class_ids[index][sign]]
    with report_style():
        size = {"figsize": (WIDTH, 2.4), "dpi": PHOTO_DPI}
        figure, (whole, close) = plt.subplots(1, 2, width_ratios=(1.9, 1), **size)
        show_image(whole, dataset.image(index), f"image {dataset.image_ids[index]:05d}")
        show_image(close, dataset.image(index), f"{name}\n{group}, {x2 - x1} px wide")
        close.set(xlim=(x1 - margin, x2 + margin), ylim=(y2 + margin, y1 - margin))
        for axes in (whole, close):
            _box(axes, (x1, y1, x2, y2), TRUE, 1.5)
    return figure


def histogram_by_group(panels: dict[str, Counts]) -> Figure:
    """Figures 2.2, 2.4, 2.6: how many signs of each group, a panel for each data set."""
    bars = {title: [sum(own[group].values()) for group in GROUPS] for title, own in panels.items()}
    return _bars(GROUPS, bars)


def histogram_by_size(panels: dict[str, Counts]) -> Figure:
    """Figures 2.3, 2.5, 2.7: how many signs of each size, a panel for each data set."""
    bars = {
        title: [sum(own[group][size] for group in GROUPS) for size in SIZE_GROUPS]
        for title, own in panels.items()
    }
    return _bars(SIZE_LABELS, bars)


def ap_by_threshold(runs: Runs) -> Figure:
    """Figures 2.8, 2.12: mean AP over the groups against the IoU threshold, and its interval."""
    with report_style():
        figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
        for title, color, scores in _colored(runs, "ap_by_threshold"):
            thresholds, (values, low, high) = [float(name) for name in scores], _columns(scores)
            axes.fill_between(thresholds, low, high, color=color, alpha=0.15, linewidth=0)
            label = title if scores else f"{title}: no sign in the test images"
            axes.plot(thresholds, values, "o-", color=color, label=label)
        axes.set(xlabel="IoU threshold", ylabel="mean AP")
        figure.legend(loc="outside upper left", labelcolor="linecolor")
    return figure


def ap_by_group(runs: Runs) -> Figure:
    """Figures 2.9, 2.13: AP at IoU 0.5 of each sign group."""
    return _dots(runs, "ap50_by_class", dict(zip(GROUPS, GROUPS, strict=True)))


def ap_by_size(runs: Runs) -> Figure:
    """Figures 2.10, 2.14: mean AP at IoU 0.5 of each size."""
    return _dots(runs, "ap50_by_size", dict(zip(SIZE_GROUPS, SIZE_LABELS, strict=True)))


def boxes(
    dataset: GtsdbDataset,
    image_ids: Sequence[int],
    detections: list[dict[str, Any]],
    score_threshold: float = 0.5,
) -> Figure:
    """Figures 2.11, 2.15: true boxes in green, predicted ones in red, named and scored.

    `detections` are in COCO's results format; those of other images or lower scores are left out.
    """
    columns, rows = 2, max(1, -(-len(image_ids) // 2))
    with report_style():
        size = {"figsize": (WIDTH, 3.9 / columns * rows), "dpi": PHOTO_DPI}
        figure, grid = plt.subplots(rows, columns, squeeze=False, **size)
        for axes in grid.flat:
            axes.set_axis_off()
        names: dict[Axes, list[Text]] = {}
        for axes, image_id in zip(grid.flat, image_ids, strict=False):
            index = dataset.image_ids.index(image_id)
            show_image(axes, dataset.image(index), f"image {image_id:05d}")
            for box in dataset.boxes_xyxy[index]:
                _box(axes, box, TRUE, 2.2)
            here = [own for own in detections if own["image_id"] == image_id]
            sure = [own for own in here if own["score"] >= score_threshold]
            names[axes] = [_named_box(axes, own) for own in sure]
        _legend(figure, {"true box": {"color": TRUE}, "predicted box": {"color": PREDICTED}})
        figure.draw_without_rendering()  # until then the extents of names are not known
        for axes, own in names.items():
            _part_names(axes, own)
    return figure


def found_signs(image: np.ndarray, detections: list[dict[str, Any]]) -> Figure:
    """One image (height, width, 3) uint8 with detections in COCO's format, named and scored."""
    height, width = image.shape[:2]
    with report_style():
        size = (WIDTH, min(2 * WIDTH, WIDTH * height / width))
        figure, axes = plt.subplots(figsize=size, dpi=PHOTO_DPI)
        show_image(axes, image)
        names = [_named_box(axes, own) for own in detections]
        figure.draw_without_rendering()
        _part_names(axes, names)
    return figure


def found_tumour(image: np.ndarray, probability: np.ndarray) -> Figure:
    """One slice (height, width, 3) uint8 with its outline, beside probabilities (height, width)."""
    with report_style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 0.52 * WIDTH))
        show_image(left, image, f"{(probability > 0.5).sum()} pixels outlined")
        outline(left, probability > 0.5, PREDICTED)
        show_image(right, probability, f"probability, at most {probability.max():.2f}")
        right.images[0].set_clim(0, 1)
    return figure


def _legend(figure: Figure, lines: dict[str, dict[str, str]]) -> None:
    handles = [Line2D([], [], label=name, **style) for name, style in lines.items()]
    where = {"loc": "outside lower center", "ncols": len(lines)}
    figure.legend(handles=handles, labelcolor="linecolor", **where)


def _level(
    axes: Axes, x: float, y: float, name: str, shape: tuple[int, ...], part: torch.nn.Module
) -> None:
    parameters = list(part.parameters())
    frozen = not any(parameter.requires_grad for parameter in parameters)
    count = sum(parameter.numel() for parameter in parameters)
    color = FROZEN if frozen else TRAINED
    axes.add_patch(Rectangle((x, y - 0.33), 1, 0.66, color=color, alpha=0.25, linewidth=0))
    centred = {"x": x + 0.5, "ha": "center", "va": "center", "fontsize": 9}
    axes.text(y=y + 0.19, s=name, weight="bold", **centred)
    axes.text(y=y, s=" × ".join(map(str, shape)), **centred)
    axes.text(y=y - 0.19, s=f"{count:,} {'frozen' if frozen else 'trained'}", **centred)


def _arrow(axes: Axes, start: Point, end: Point, text: str = "", bent: str = "arc3") -> None:
    style = {"arrowstyle": "->", "color": MUTED, "connectionstyle": bent}
    axes.annotate("", end, start, arrowprops=style)
    middle = (start[1] + end[1]) / 2
    axes.text(end[0] + 0.05, middle, text, va="center", color=MUTED, fontsize=9)


def _curve_panels(grid: np.ndarray, record: RunRecord) -> None:
    panels = {"accuracy": "Accuracy", "loss": "Loss", "iou": "IoU", "dice": "Dice"}
    for axes, (name, title) in zip(grid.flat, panels.items(), strict=True):
        for part, color in (("train", TRAIN), ("validation", VALIDATION)):
            epochs = [entry for entry in record.history if part in entry]
            values = [entry[part][name] for entry in epochs]
            axes.plot([own["epoch"] for own in epochs], values, "o-", color=color, markersize=3)
        axes.set_title(title, loc="left")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid[1]:
        axes.set_xlabel("epoch")


def _zoom(axes: Axes, image: np.ndarray, shape: tuple[int, int]) -> None:
    """Leave out what is dark around a head, in a square."""
    bright = np.argwhere(image.max(axis=2) > DARK)
    if len(bright):
        scale = np.divide(shape, image.shape[:2])
        low, high = bright.min(axis=0) * scale, (bright.max(axis=0) + 1) * scale
        half = 0.52 * (high - low).max()
        (y, x) = (low + high) / 2 - 0.5
        axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))


def _verdict(true_positive: int, false_positive: int, false_negative: int) -> str:
    if true_positive + false_negative:
        score = float(dice(true_positive, false_positive, false_negative))
        return f"Dice {score:.2f}" if true_positive else "tumour missed"
    return f"false, {false_positive} px" if false_positive else "rightly empty"


def _bars(names: Sequence[str], panels: dict[str, Sequence[int]]) -> Figure:
    """One panel a data set, each with a scale of its own, since one may be far larger."""
    with report_style():
        size = (WIDTH, 0.7 + 0.34 * len(names))
        figure, grid = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
        colors = (TRAINED, MUTED)[: len(panels)]
        for axes, (title, values), color in zip(grid[0], panels.items(), colors, strict=True):
            axes.bar_label(axes.barh(names, values, color=color, height=0.6), padding=3)
            axes.set_title(title, loc="left")
            axes.set(xlim=(0, 1.2 * max(1, *values)), xlabel="signs")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
    return figure


def _dots(runs: Runs, key: str, names: dict[str, str]) -> Figure:
    """A row for each name: of each title a value with its interval, and the value as text."""
    with report_style():
        size = (WIDTH, 0.9 + 0.24 * len(names) * len(runs) + 0.2 * len(runs))
        figure, axes = plt.subplots(figsize=size)
        for number, (title, color, scores) in enumerate(_colored(runs, key)):
            shift = 0.3 * (number - (len(runs) - 1) / 2)
            places = {name: place + shift for place, name in enumerate(names)}
            heights, (values, low, high) = [places[name] for name in scores], _columns(scores)
            axes.hlines(heights, low, high, color=color, linewidth=2.5, alpha=0.5)
            axes.plot(values, heights, "o", color=color, label=title)
            beside = {"transform": axes.get_yaxis_transform(), "va": "center", "color": color}
            for name, place in places.items():
                text = f"{scores[name][0]:.2f}" if name in scores else "no sign"
                axes.text(1.02, place, text, **beside)
        axes.set_yticks(range(len(names)), names.values())
        axes.set(xlabel="AP at IoU 0.5", ylim=(len(names) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside upper left", labelcolor="linecolor")
    return figure


def _colored(runs: Runs, key: str) -> Iterator[tuple[str, str, dict]]:
    """Title, colour and `over_seeds` of one or two detectors."""
    for (title, own), color in zip(runs.items(), (TRAINED, MUTED)[: len(runs)], strict=True):
        yield title, color, over_seeds(own, key)


def _columns(scores: dict[str, tuple[float, list[float]]]) -> np.ndarray:
    """(3, n): values, and the lower and upper ends of their intervals."""
    return np.array([(value, *ends) for value, ends in scores.values()]).reshape(-1, 3).T


def _named_box(axes: Axes, found: dict[str, Any]) -> Text:
    """The box, and the name beside it, on the side where the image has more room."""
    x, y, width, height = found["bbox"]
    _box(axes, (x, y, x + width, y + height), PREDICTED)
    name = f"{GROUPS[found['category_id'] - 1]} {found['score']:.2f}"
    across = axes.get_xlim()[1]
    left, gap = x + width / 2 > across / 2, across / 80
    at, side = (x - gap, "right") if left else (x + width + gap, "left")
    plate = {"facecolor": PREDICTED, "edgecolor": "none", "pad": 0.8}
    style = {"color": "white", "fontsize": 7.5, "in_layout": False, "bbox": plate}
    return axes.text(at, y + height / 2, name, va="center", ha=side, **style)


def _part_names(axes: Axes, names: Sequence[Text]) -> None:
    """Move a name that would lie on another to below it."""
    placed: list[Bbox] = []
    for text in sorted(names, key=lambda own: own.get_position()[1]):
        extent = text.get_window_extent()
        while covered := [own.y0 for own in placed if extent.overlaps(own)]:
            extent = extent.translated(0, min(covered) - extent.y1 - 2)
        middle = (extent.y0 + extent.y1) / 2
        text.set_y(axes.transData.inverted().transform((0, middle))[1])
        placed.append(extent)


def _box(axes: Axes, box: Sequence[float], color: str, width: float = 1.0) -> None:
    x1, y1, x2, y2 = box
    sides = (x2 - x1, y2 - y1)
    axes.add_patch(Rectangle((x1, y1), *sides, fill=False, edgecolor=color, linewidth=width))
