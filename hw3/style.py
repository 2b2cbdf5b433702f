"""One visual language for every figure of the book."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

TRUE, PREDICTED = "#009E73", "#D55E00"
"""Green for the truth, red for predictions, as in the report, and safe for the colour-blind."""
PREDICTED_RGB = tuple(round(255 * value) for value in to_rgb(PREDICTED))
TRAIN, VALIDATION = "#0072B2", "#9A6700"
TWO_STAGE, ONE_STAGE = "#0072B2", "#882255"
FROZEN, TRAINED, MUTED = "#9AA5B1", "#0072B2", "#5B6570"

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


@contextmanager
def report_style() -> Iterator[None]:
    """The book's matplotlib settings; pyplot forgets the figures made inside.

    Example:
        >>> with report_style():
        ...     figure, axes = plt.subplots()
        >>> axes.spines["top"].get_visible(), plt.get_fignums()
        (False, [])
    """
    before = plt.get_fignums()
    with plt.rc_context(SETTINGS):
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - set(before):
                plt.close(number)


def show_image(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """Draw an image without ticks, grid or frame.

    Example:
        >>> axes = plt.figure().add_subplot()
        >>> show_image(axes, np.zeros((4, 6, 3), dtype=np.uint8), "black")
        >>> axes.get_title(), axes.images[0].get_size()
        ('black', (4, 6))
    """
    axes.imshow(image, cmap="gray" if image.ndim == 2 else None, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def outline(axes: Axes, mask: np.ndarray, color: str, style: str = "solid") -> None:
    """Draw the border of a mask, if it holds anything.

    Example:
        >>> axes = plt.figure().add_subplot()
        >>> outline(axes, np.eye(3, dtype=bool), TRUE)
        >>> outline(axes, np.zeros((3, 3), dtype=bool), PREDICTED)
        >>> len(axes.collections)
        1
    """
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=color, linewidths=1.3, linestyles=style)
