"""Figures draw what they are given; whether they look right is for the eye."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from waldo_utils.figures import curves, grids, style

LABELS = np.array([0, 0, 1, 1])
NEIGHBORS = np.array([[1, 2], [2, 0], [0, 3], [2, 1]])


def photo(row):
    return Image.new("RGB", (30, 20), (60 * row, 100, 0))


def marks(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_neighbor_grid_marks_hits_and_misses():
    figure = grids.neighbor_grid(photo, NEIGHBORS, [0, 1], LABELS, count=2)
    assert marks(figure) == ["✓", "✗", "✗", "✓"]


def test_before_after_grid_tells_old_ranks():
    figure = grids.before_after_grid(photo, NEIGHBORS, NEIGHBORS[:, ::-1], [1], LABELS, count=2)
    assert [text for text in marks(figure) if text.startswith("was")] == ["was 2", "was 1"]


def test_saved_figures_are_small_pngs_and_photos_jpegs(tmp_path):
    figure = grids.photo_sheet([photo(i) for i in range(4)], columns=2, titles=list("abcd"))
    style.save(figure, tmp_path / "figures" / "sheet.png")
    with Image.open(tmp_path / "figures" / "sheet.png") as saved:
        assert saved.format == "PNG"
        assert saved.width > 150
    style.save(figure, tmp_path / "figures" / "sheet.jpg")
    with Image.open(tmp_path / "figures" / "sheet.jpg") as saved:
        assert saved.format == "JPEG"
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["sheet.jpg", "sheet.png"]


TABLE = pd.DataFrame(
    {
        "method": ["CO", "RRT"],
        "R@1": [0.5, 0.6], "R@1 low": [0.4, 0.5], "R@1 high": [0.6, 0.7],
        "R@10": [0.8, 0.9], "R@10 low": [0.7, 0.8], "R@10 high": [0.9, 0.95],
    }
)  # fmt: skip


def test_intervals_have_a_panel_per_metric_and_mark_the_best():
    axes = curves.metric_intervals(TABLE).axes
    assert [ax.get_title() for ax in axes] == ["recall@1", "recall@10"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["CO", "RRT"]
    spans, dots = axes[0].lines[::2], axes[0].lines[1::2]
    assert np.allclose([line.get_xdata() for line in spans], [[40, 60], [50, 70]])
    assert np.allclose([line.get_xdata() for line in dots], [[50], [60]])
    assert [text.get_text() for text in axes[1].texts] == ["80.0", "90.0"]
    assert [line.get_color() for line in dots] == [style.BLUE, style.ORANGE]


def test_differences_have_a_panel_per_metric_and_a_mark_per_verdict():
    table = pd.DataFrame(
        {
            "metric": ["R@1", "R@1", "MAP@R", "MAP@R"], "method": ["b", "c"] * 2, "baseline": ["a"] * 4,
            "difference": [0.1, 0.0, -0.1, 0.0], "low": [0.05, -0.1, -0.2, -0.1],
            "high": [0.2, 0.1, -0.05, 0.1],
        }
    )  # fmt: skip
    axes = curves.difference_plot(table).axes
    assert [ax.get_title() for ax in axes] == ["difference of R@1", "difference of MAP@R"]
    marks = [[line.get_marker() for line in ax.lines if line.get_marker() in ("^", "v", "o")] for ax in axes]
    assert marks == [["o", "^"], ["o", "v"]]


@pytest.mark.parametrize("watched", [{}, {"test R@1": [0.1, 0.3]}])
def test_learning_curves_draw_test_dashed(watched):
    log = {"epoch": [0, 1], "loss": [np.nan, 1.0], "validation R@1": [0.1, 0.2], "seed": [0, 0]}
    axes = curves.learning_curves(pd.DataFrame(log | watched)).axes
    dashed = [line for line in axes[1].lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert len(dashed) == len(watched)


def test_category_bars_and_score_histograms_draw():
    table = {"category": ["mug"], "R@1": [0.5], "category accuracy": [0.9]}
    bounds = {
        f"{name} {end}": [value]
        for name in ("R@1", "category accuracy")
        for end, value in (("low", 0.4), ("high", 0.95))
    }
    assert len(curves.category_bars(pd.DataFrame(table | bounds)).axes[0].patches) == 2
    figure = curves.score_histograms({"CO": (np.array([0.5, 0.9]), np.array([0.1, 0.4]), 0.5)})
    assert [ax.get_title() for ax in figure.axes] == ["CO"]


def test_a_grid_without_a_query_says_so():
    figure = grids.neighbor_grid(None, np.zeros((2, 5), int), [], np.zeros(2, int))
    assert "no query to show" in [ax.get_xlabel() for ax in figure.axes]
