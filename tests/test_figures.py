"""Figures that both questions draw, read back from their axes."""

import matplotlib.pyplot as plt
import pytest

from hw3.figures import learning_curves
from hw3.style import report_style


def test_a_figure_that_was_open_before_stays_open() -> None:
    own = plt.figure()
    with report_style():
        plt.figure()
    assert plt.get_fignums() == [own.number]
    plt.close(own)


def test_learning_curves_stand_at_the_amounts_in_order() -> None:
    starts = {
        "simulated": {100: (0.7, (0.6, 0.8)), 0: (0.5, (0.3, 0.6))},
        "random": {30: (0.2, (0.1, 0.3))},
    }
    [axes] = learning_curves(starts, "images", "AP").axes
    assert [own.get_text() for own in axes.get_xticklabels()] == ["0", "30", "100"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("images", "AP")
    points = [(*line.get_xdata(), *line.get_ydata()) for line in axes.lines]
    assert points == [(-0.04, 1.96, 0.5, 0.7), (1.04, 0.2)]  # side by side
    bars = [[segment.tolist() for segment in own.get_segments()] for own in axes.collections]
    at = [[-0.04, 0.3], [-0.04, 0.6]], [[1.96, 0.6], [1.96, 0.8]], [[1.04, 0.1], [1.04, 0.3]]
    assert bars == [[*at[:2]], [at[2]]]
    named = [(own.get_text(), own.get_color()) for own in axes.get_legend().get_texts()]
    assert named == [
        (title, line.get_color()) for title, line in zip(starts, axes.lines, strict=True)
    ]


def test_a_third_start_is_hollow_and_a_fourth_has_no_look() -> None:
    starts = {name: {n: (0.2, (0.1, 0.3))} for n, name in enumerate("abcd")}
    three = {name: starts[name] for name in "abc"}
    lines = learning_curves(three, "images", "AP").axes[0].lines
    assert [line.get_fillstyle() for line in lines] == ["full", "full", "none"]
    with pytest.raises(ValueError, match="zip"):
        learning_curves(starts, "images", "AP")
