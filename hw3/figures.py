"""Figures that both questions draw."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hw3.style import MUTED, TRAINED, report_style


def learning_curves(
    starts: dict[str, dict[int, tuple[float, Sequence[float]]]], unit: str, measure: str
) -> Figure:
    """A score with its interval against the amount of training data, a line a start.

    Args:
        starts: two or three by title, each with its scores in [0, 1], at least one, by amount. The
            marks of a third are hollow.
        unit: what is counted, for the axis.
        measure: the score's name, for the axis.

    Example:
        >>> simulated = {0: (0.5, (0.4, 0.6)), 30: (0.8, (0.7, 0.9))}
        >>> starts = {"simulated": simulated, "random": {600: (0.2, (0.1, 0.3))}}
        >>> figure = learning_curves(starts, "real training images", "AP at IoU 0.5")
        >>> [own.get_text() for own in figure.axes[0].get_xticklabels()]
        ['0', '30', '600']
    """
    places = {amount: place for place, amount in enumerate(sorted(set().union(*starts.values())))}
    with report_style():
        figure, axes = plt.subplots(figsize=(6.5, 3.4))
        looks = ((TRAINED, "full"), (MUTED, "full"), (MUTED, "none"))[: len(starts)]
        for number, ((title, scores), (color, fill)) in enumerate(
            zip(starts.items(), looks, strict=True)
        ):
            aside = 0.08 * (number - (len(starts) - 1) / 2)  # so that no interval hides another
            at = [places[amount] + aside for amount in sorted(scores)]
            values, intervals = zip(*(scores[amount] for amount in sorted(scores)), strict=True)
            axes.vlines(at, *zip(*intervals, strict=True), color=color, linewidth=2, alpha=0.5)
            axes.plot(at, values, "o-", color=color, fillstyle=fill, label=title)
        axes.legend(loc="lower right", labelcolor="linecolor")
        axes.set_xticks(list(places.values()), list(map(str, places)))
        axes.set(xlabel=unit, ylabel=measure, ylim=(0, 1.02))
    return figure
