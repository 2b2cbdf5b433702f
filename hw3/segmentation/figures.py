"""Figures 1.1 to 1.5, and those of 3.4, 3.7 and 3.8: each draws one from arrays or records."""

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hw3.records import RunRecord
from hw3.segmentation.augment import Augmentation
from hw3.segmentation.comparison import Gain
from hw3.segmentation.dataset import LggDataset
from hw3.segmentation.errors import areas_and_dice
from hw3.segmentation.metrics import SliceCounts, count_pixels, dice
from hw3.segmentation.model import UNetVGG16
from hw3.style import (
    FROZEN,
    MUTED,
    PREDICTED,
    TRAIN,
    TRAINED,
    TRUE,
    VALIDATION,
    outline,
    report_style,
    show_image,
)

DARK = 25
"""Up to this value, of 255, a pixel may lie outside a head."""


def slices_with_masks(dataset: LggDataset, indices: Sequence[int]) -> Figure:
    """Figure 1.1: slices above their masks.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> from hw3.segmentation.experiment import prepare
        >>> dataset, _ = prepare(SMOKE)
        >>> len(slices_with_masks(dataset, [0, 1, 2]).axes)
        6
    """
    images, masks = dataset.images[list(indices)], dataset.masks[list(indices)]
    return _pairs(images, masks, [dataset.slice_id(index) for index in indices])


def augmented_slices(
    dataset: LggDataset, indices: Sequence[int], augmentation: Augmentation, epoch: int = 0
) -> Figure:
    """Figure 1.2: the same, each after one random draw of the transforms.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> from hw3.segmentation.experiment import prepare
        >>> dataset, _ = prepare(SMOKE)
        >>> len(augmented_slices(dataset, [0, 1, 2], Augmentation(seed=0)).axes)
        6
    """
    drawn = [
        augmentation(np.array(dataset.images[index]), np.array(dataset.masks[index]), epoch, index)
        for index in indices
    ]
    images, masks = zip(*drawn, strict=True)
    return _pairs(images, masks, [dataset.slice_id(index) for index in indices])


def architecture(model: UNetVGG16, size: int) -> Figure:
    """Figure 1.3: the network's levels with shapes and parameters, read off the model itself.

    Args:
        model: measured with one forward pass.
        size: side of the input in pixels.

    Example:
        The first block's two convolutions have (3 × 9 + 1) × 64 and (64 × 9 + 1) × 64 parameters:

        >>> figure = architecture(UNetVGG16("random"), size=32)
        >>> [text.get_text() for text in figure.axes[0].texts[:3]]
        ['VGG16 block 1', '64 × 32 × 32', '38,720 frozen']
    """
    shapes = _output_shapes(model, size)
    levels = len(model.encoder)
    with report_style():
        figure, axes = plt.subplots(figsize=(8, 4.6))
        for depth, block in enumerate(model.encoder):
            _box(axes, 0, -depth, f"VGG16 block {depth + 1}", shapes[block], block)
        for step, level in enumerate(model.decoder):
            depth = levels - 2 - step
            _box(axes, 2, -depth, f"decoder {depth + 1}", shapes[level], level)
            axes.annotate(
                "", (1.96, -depth), (1.04, -depth), arrowprops={"arrowstyle": "->", "color": MUTED}
            )
            axes.text(1.5, -depth + 0.07, "skip", ha="center", color=MUTED, fontsize=8)
        for depth in range(levels - 1):
            _arrow(axes, (0.5, -depth - 0.33), (0.5, -depth - 0.67), "max pool")
            if depth < levels - 2:
                _arrow(axes, (2.5, -depth - 0.67), (2.5, -depth - 0.33), "upsample × 2")
        start, end = (1.04, -(levels - 1)), (2.5, -(levels - 2) - 0.33)
        _arrow(axes, start, end, "upsample × 2", "angle,angleA=0,angleB=90")
        _box(axes, 3.3, 0, "1 × 1 convolution", shapes[model.head], model.head)
        _arrow(axes, (3.04, 0), (3.26, 0))
        axes.set(xlim=(-0.1, 4.4), ylim=(-levels + 0.55, 0.5))
        axes.set_axis_off()
    return figure


def curves(runs: dict[str, RunRecord]) -> Figure:
    """Figure 1.4: accuracy, loss, IoU and Dice over epochs, one block of four panels a run.

    Args:
        runs: finished runs by the title of their block.

    Example:
        >>> values = {"accuracy": 0.99, "loss": 0.4, "iou": 0.5, "dice": 0.67}
        >>> history = [{"epoch": epoch, "train": values, "validation": values} for epoch in (1, 2)]
        >>> figure = curves({"U-Net": RunRecord("unet", {}, data={}, seed=0, history=history)})
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['Accuracy', 'Loss', 'IoU', 'Dice']
    """
    with report_style():
        figure = plt.figure(figsize=(8, 5 * len(runs)))
        blocks = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
        for block, (title, record) in zip(blocks, runs.items(), strict=True):
            block.suptitle(title, x=0.02, ha="left", weight="bold")
            _curve_panels(block.subplots(2, 2, sharex=True), record)
    return figure


def _curve_panels(grid: np.ndarray, record: RunRecord) -> None:
    epochs = [entry["epoch"] for entry in record.history]
    panels = {"accuracy": "Accuracy", "loss": "Loss", "iou": "IoU", "dice": "Dice"}
    for axes, (name, title) in zip(grid.flat, panels.items(), strict=True):
        for part, color in (("train", TRAIN), ("validation", VALIDATION)):
            values = [entry[part][name] for entry in record.history]
            axes.plot(epochs, values, color=color, marker="o", markersize=3)
        axes.set_title(title, loc="left")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    for part, color, y in (("training", TRAIN, 0.28), ("validation", VALIDATION, 0.14)):
        grid[1, 1].text(0.97, y, part, color=color, ha="right", transform=grid[1, 1].transAxes)


def evaluation(
    dataset: LggDataset, indices: Sequence[int], probabilities: np.ndarray, threshold: float = 0.5
) -> Figure:
    """Figure 1.5: slices with the true outline and the predicted one, in the order given.

    Args:
        dataset: the data set.
        indices: of n slices.
        probabilities: (n, height, width) at native resolution.
        threshold: above it, a pixel is called tumour.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> from hw3.segmentation.experiment import prepare
        >>> dataset, _ = prepare(SMOKE)
        >>> figure = evaluation(dataset, [0, 3], np.zeros((2, 64, 64)))
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['rightly empty', 'tumour missed']
    """
    columns = 5
    rows = -(-len(indices) // columns)
    with report_style():
        figure, grid = plt.subplots(rows, columns, figsize=(8, 1.95 * rows), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, index, probability in zip(grid.flat, indices, probabilities, strict=False):
            truth, predicted = dataset.native_masks[index], probability > threshold
            height, width = truth.shape
            axes.imshow(dataset.images[index], extent=(-0.5, width - 0.5, height - 0.5, -0.5))
            outline(axes, truth, TRUE)
            outline(axes, predicted, PREDICTED, "dashed")
            axes.set_title(_verdict(*count_pixels(predicted, truth)), fontsize=8)
            _zoom(axes, dataset.images[index], truth.shape)
        figure.text(0.35, -0.03, "true outline", color=TRUE, ha="center")
        figure.text(0.65, -0.03, "predicted outline (dashed)", color=PREDICTED, ha="center")
    return figure


def dice_by_size(panels: dict[str, SliceCounts], parts: int = 5) -> Figure:
    """Dice of each slice with tumour against the tumour's area, one panel a run.

    Args:
        panels: counts by title.
        parts: the slices, ordered by area, are cut into so many equal parts; a line joins their
            means.

    Example:
        >>> columns = (["a", "a"], [1, 2], [6, 40], [2, 0], [2, 0])
        >>> counts = SliceCounts(*map(np.array, columns), pixels=100)
        >>> figure = dice_by_size({"U-Net": counts}, parts=2)
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [0.75, 1.0]
    """
    with report_style():
        figure, grid = plt.subplots(1, len(panels), figsize=(8, 3), sharey=True, squeeze=False)
        for axes, (title, counts) in zip(grid[0], panels.items(), strict=True):
            areas, scores = areas_and_dice(counts)
            axes.set(xscale="log", xlabel="area of the tumour, pixels", ylim=(-0.03, 1.09))
            axes.set_title(title, loc="left")
            if not len(areas):
                axes.text(0.03, 0.06, "no slice with tumour", transform=axes.transAxes, color=MUTED)
                continue
            axes.scatter(areas, scores, s=9, color=MUTED, alpha=0.5, linewidth=0)
            sets = np.array_split(np.arange(len(areas)), min(parts, len(areas)))
            means = [(np.median(areas[own]), scores[own].mean()) for own in sets]
            axes.plot(*zip(*means, strict=True), color=PREDICTED, marker="o", linewidth=2)
            for number, (area, mean) in enumerate(means):
                falls = number > 0 and mean < means[number - 1][1]
                axes.annotate(
                    f"{mean:.2f}",
                    (area, mean),
                    (0, -8 if falls else 7),  # on the side where the line is not
                    textcoords="offset points",
                    ha="center",
                    va="top" if falls else "bottom",
                    color=PREDICTED,
                    weight="bold",
                    fontsize=8,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
                )
        grid[0, 0].set_ylabel("Dice of the slice")
    return figure


def distances(runs: dict[str, tuple[np.ndarray, np.ndarray]], tolerance: float) -> Figure:
    """How far outlines lie apart: cumulative shares of slices, one panel a measure.

    Args:
        runs: one or two by title: (n,) 95 % Hausdorff distances in pixels, and (n,) surface Dice
            in [0, 1]; n may be 0.
        tolerance: of the surface Dice, in pixels.

    Example:
        >>> figure = distances({"try": (np.array([1.0, 3.0]), np.array([0.5, 1.0]))}, tolerance=2)
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['95 % Hausdorff distance, pixels', 'surface Dice within 2 pixels']
    """
    labels = ("95 % Hausdorff distance, pixels", f"surface Dice within {tolerance:g} pixels")
    with report_style():
        figure, grid = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
        for number, (axes, label) in enumerate(zip(grid, labels, strict=True)):
            axes.set(xlabel=label, ylim=(0, 1.02))
            for row, (title, color) in enumerate(_colored(runs)):
                values, step = runs[title][number], 0.09 * row
                height = 0.05 + step if number == 0 else 0.93 - step  # where the curves are not
                beside = {"color": color, "fontsize": 8, "ha": ("left", "right")[number]}
                if not len(values):
                    beside |= {"ha": "left"}
                    axes.text(0.03, height, f"{title}: no slice with both masks", **beside)
                    continue
                axes.ecdf(values, color=color, linewidth=2)
                middle = float(np.median(values))
                axes.axvline(middle, color=color, linestyle="dotted")
                axes.text(middle, height, f" {title}: median {middle:.2f} ", **beside)
        grid[0].set_ylabel("share of slices, up to here")
    return figure


def calibration(runs: dict[str, dict[str, list[float]]]) -> Figure:
    """Predicted probability against the share of pixels that are tumour, and pixels a bin.

    Args:
        runs: one or two by title: `bins` of `hw3.segmentation.errors.examine`.

    Example:
        >>> bins = {"pixels": [100, 50], "probability": [10.0, 40.0], "tumour": [5, 45]}
        >>> calibration({"try": bins}).axes[0].lines[1].get_ydata().tolist()
        [0.05, 0.9]
    """
    with report_style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
        left.plot([0, 1], [0, 1], color=MUTED, linestyle="dotted")
        beside = {"fontsize": 8, "transform": left.transAxes}
        left.text(0.04, 0.75, "dotted: perfectly calibrated", color=MUTED, **beside)
        for row, (title, color) in enumerate(_colored(runs)):
            pixels, probability, tumour = (
                np.array(runs[title][name]) for name in ("pixels", "probability", "tumour")
            )
            filled = pixels > 0
            left.plot(
                probability[filled] / pixels[filled],
                tumour[filled] / pixels[filled],
                color=color,
                marker="o",
            )
            left.text(0.04, 0.92 - 0.08 * row, title, color=color, **beside)
            edges = np.linspace(0, 1, len(pixels) + 1)
            right.stairs(pixels / pixels.sum(), edges, color=color, linewidth=2)
        left.set(xlabel="mean predicted probability", ylabel="share that is tumour")
        right.set(xlabel="predicted probability", ylabel="share of all pixels", yscale="log")
    return figure


def gains(rows: dict[str, Gain]) -> Figure:
    """What each change adds to the pooled Dice: the mean with its interval, and each seed's dot.

    Example:
        >>> found = Gain(-0.02, (-0.05, 0.01), (-0.03, -0.01), slices=(393, 393))
        >>> figure = gains({"without mirroring": found})
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['without mirroring']
    """
    with report_style():
        figure, axes = plt.subplots(figsize=(7, 0.7 + 0.42 * len(rows)))
        for height, gain in enumerate(rows.values()):
            axes.plot(gain.interval, [height] * 2, color=TRAIN, linewidth=2, alpha=0.6)
            axes.plot(gain.mean, height, "o", color=TRAIN, markersize=8)
            axes.plot(gain.seeds, [height] * len(gain.seeds), "|", color=MUTED, markersize=11)
        axes.axvline(0, color=MUTED, linestyle=":", linewidth=1.5)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="pooled Dice on test slices, difference")
    return figure


def leak(pairs: np.ndarray) -> Figure:
    """Dice of each test patient, held out against leaked: above the diagonal the leak has helped.

    Args:
        pairs: of `hw3.segmentation.comparison.patient_dice`, at least one row.

    Example:
        >>> leak(np.array([[0.6, 0.8], [0.7, 0.6]])).axes[0].texts[0].get_text()
        'better after the leak: 1 of 2'
    """
    with report_style():
        figure, axes = plt.subplots(figsize=(4.4, 4.4))
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="dotted")
        axes.scatter(*pairs.T, s=26, color=TRAIN, alpha=0.75, linewidth=0)
        above = int((pairs[:, 1] > pairs[:, 0]).sum())
        axes.text(0.02, 0.97, f"better after the leak: {above} of {len(pairs)}", va="top")
        axes.set(xlim=(-0.02, 1), ylim=(-0.02, 1), aspect="equal")
        axes.set(xlabel="Dice, patient held out", ylabel="Dice, patient's other slices trained on")
    return figure


def _colored(runs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The titles of one or two runs, the one that matters first, each with its colour."""
    return zip(runs, (TRAINED, MUTED)[: len(runs)], strict=True)


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
    return f"false tumour, {false_positive} px" if false_positive else "rightly empty"


def _pairs(images: Sequence, masks: Sequence, titles: Sequence[str]) -> Figure:
    with report_style():
        figure, grid = plt.subplots(2, len(images), figsize=(8, 3.5), squeeze=False)
        for column, (image, mask, title) in enumerate(zip(images, masks, titles, strict=True)):
            patient, _, number = title.rpartition("_")
            show_image(grid[0, column], image, f"{patient[:12]}\nslice {number}")
            show_image(grid[1, column], mask)
    return figure


def _output_shapes(model: UNetVGG16, size: int) -> dict[torch.nn.Module, tuple[int, ...]]:
    shapes: dict[torch.nn.Module, tuple[int, ...]] = {}

    def note(module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        shapes[module] = tuple(output.shape[1:])

    parts, training = [*model.encoder, *model.decoder, model.head], model.training
    hooks = [part.register_forward_hook(note) for part in parts]
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, size, size, device=model.mean.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return shapes


def _box(
    axes: Axes, x: float, y: float, name: str, shape: tuple[int, ...], part: torch.nn.Module
) -> None:
    parameters = list(part.parameters())
    frozen = not any(parameter.requires_grad for parameter in parameters)
    count = sum(parameter.numel() for parameter in parameters)
    color = FROZEN if frozen else TRAINED
    axes.add_patch(Rectangle((x, y - 0.33), 1.04, 0.66, color=color, alpha=0.25, linewidth=0))
    state = f"{count:,} {'frozen' if frozen else 'trained'}"
    centred = {"ha": "center", "va": "center", "fontsize": 8}
    axes.text(x + 0.52, y + 0.16, name, weight="bold", **centred)
    axes.text(x + 0.52, y - 0.02, " × ".join(map(str, shape)), **centred)
    axes.text(x + 0.52, y - 0.2, state, color=MUTED, **centred)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    connection: str = "arc3",
) -> None:
    style = {"arrowstyle": "->", "color": MUTED, "connectionstyle": connection}
    axes.annotate("", end, start, arrowprops=style)
    middle = (start[1] + end[1]) / 2
    axes.text(end[0] + 0.05, middle, text, va="center", color=MUTED, fontsize=7.5)
