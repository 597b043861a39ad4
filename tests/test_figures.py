"""Figures draw what they are given; whether they look right is for the eye."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from waldo_utils import figures

LABELS = np.array([0, 0, 1, 1])
NEIGHBORS = np.array([[1, 2], [2, 0], [0, 3], [2, 1]])


def photo(row):
    return Image.new("RGB", (30, 20), (60 * row, 100, 0))


def marks(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_neighbor_grid_marks_hits_and_misses():
    figure = figures.neighbor_grid(photo, NEIGHBORS, [0, 1], LABELS, count=2)
    assert marks(figure) == ["✓", "✗", "✗", "✓"]


def test_before_after_grid_tells_old_ranks():
    figure = figures.before_after_grid(photo, NEIGHBORS, NEIGHBORS[:, ::-1], [1], LABELS, count=2)
    assert [text for text in marks(figure) if text.startswith("was")] == ["was 2", "was 1"]


def test_saved_figures_are_small_pngs(tmp_path):
    figure = figures.photo_sheet([photo(i) for i in range(4)], columns=2, titles=list("abcd"))
    figures.save(figure, tmp_path / "figures" / "sheet.png")
    with Image.open(tmp_path / "figures" / "sheet.png") as saved:
        assert saved.format == "PNG"
        assert saved.width > 150
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["sheet.png"]


def test_recall_bars_have_the_values_in_per_cent():
    table = pd.DataFrame(
        {
            "method": ["CO", "RRT"],
            "R@1": [0.5, 0.6],
            "R@10": [0.8, 0.9],
            "R@1 low": [0.4, 0.5],
            "R@1 high": [0.6, 0.7],
        }
    )
    figure = figures.recall_bars(table)
    assert [round(bar.get_height()) for bar in figure.axes[0].patches] == [50, 80, 60, 90]


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (
            figures.learning_curves,
            {"epoch": [0, 1], "loss": [np.nan, 1.0], "validation R@1": [0.1, 0.2], "seed": [0, 0]},
        ),
        (
            figures.difference_plot,
            {"method": ["b"], "baseline": ["a"], "difference": [0.1], "low": [0.05], "high": [0.2]},
        ),
        (figures.category_bars, {"category": ["mug"], "R@1": [0.5], "category accuracy": [0.9]}),
    ],
)
def test_charts_draw(draw, table):
    assert draw(pd.DataFrame(table)).axes


def test_heatmap_writes_per_cent():
    table = pd.DataFrame({"shortlist": [0.5], "reranker": [0.25], "both": [0.2]}, index=["blur"])
    assert {"50.0", "25.0", "20.0"} <= set(marks(figures.ablation_heatmap(table)))
