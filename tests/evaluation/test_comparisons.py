"""Paired differences and what is said of them; what reranking moved."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from waldo_utils.evaluation import changes, comparisons
from waldo_utils.figures import grids

HITS = [np.array([[1, 0], [0, 1], [0, 0]], bool), np.array([[1, 1], [0, 1], [1, 0]], bool)]


def test_metric_values_are_means_over_seeds():
    relevant = np.array([1, 2, 1])
    assert comparisons.metric_values(HITS, relevant, "R@1").tolist() == [1, 0, 0.5]
    assert comparisons.metric_values(HITS, relevant, "R@2").tolist() == [1, 1, 0.5]
    # MAP@R of query 1 is (1/2) / 2 in both seeds
    assert comparisons.metric_values(HITS, relevant, "MAP@R").tolist() == [1, 0.25, 0.5]
    with pytest.raises(ValueError, match="R@10 needs 10 neighbors per query, got 2"):
        comparisons.metric_values(HITS, relevant, "R@10")
    with pytest.raises(ValueError, match="1 queries have nothing to find"):
        comparisons.metric_values(HITS, np.array([0, 1, 1]), "R@1")


def test_differences_have_intervals_and_sentences():
    products = np.arange(200)
    values = {"a": np.zeros(200), "b": np.ones(200), "c": (products % 2).astype(float), "d": 1 - products % 2}
    pairs = [("b", "a"), ("a", "b"), ("c", "d")]
    table = comparisons.paired_differences(values, pairs, products, 200, "R@1")
    assert table.difference.tolist() == [1, -1, 0]
    assert (table.low.tolist()[:2], table.high.tolist()[:2]) == ([1, -1], [1, -1])
    assert table.low[2] < 0 < table.high[2]
    lines = comparisons.sentences(table).splitlines()
    assert lines[0] == "R@1 of b against a: +100.00 points (+100.00 to +100.00), higher"
    assert [line.split(", ")[-1] for line in lines] == ["higher", "lower", "no difference found"]


def test_the_nearest_is_of_the_product_or_of_the_category():
    orders = [np.array([[1], [2], [3], [2]]), np.array([[2], [0], [3], [2]])]
    assert comparisons.nearest_is_of(orders, np.array([0, 0, 1, 2])).tolist() == [0.5, 0.5, 0, 0]
    assert comparisons.nearest_is_of(orders, np.array([0, 0, 1, 1])).tolist() == [0.5, 0.5, 1, 1]


# Six photos of products 0 (0, 1, 2) and 1 (3, 4, 5).
LABELS = np.array([0, 0, 0, 1, 1, 1])
BEFORE = np.array([[3, 4, 5, 1], [3, 0, 2, 4], [0, 1, 3, 4], [4, 5, 0, 1], [0, 3, 5, 1], [3, 4, 0, 1]])
AFTER = np.array([[1, 3, 4, 5], [2, 0, 3, 4], [0, 1, 3, 4], [0, 5, 1, 4], [3, 5, 0, 1], [3, 4, 0, 1]])


def test_rank_changes_are_the_largest_of_each_product():
    # Up: photo 1 for query 0 from rank 4 to 1 is the largest of product 0, photo 3 for query 4 from 2 to 1
    # the first of product 1. Down: photo 4 for query 3 from 1 to 4.
    up, down = changes.rank_changes(BEFORE, AFTER, LABELS)
    assert up.to_numpy().tolist() == [[0, 1, 4, 1], [4, 3, 2, 1]]
    assert down.to_numpy().tolist() == [[3, 4, 1, 4]]
    assert up.columns.tolist() == ["query", "neighbor", "rank before", "rank after"]
    assert len(changes.rank_changes(BEFORE, AFTER, LABELS, count=1)[0]) == 1
    assert [len(side) for side in changes.rank_changes(BEFORE, BEFORE, LABELS)] == [0, 0]
    with pytest.raises(ValueError, match="different neighbors"):
        changes.rank_changes(BEFORE, AFTER + 1, LABELS)


def test_pairs_to_explain_are_one_right_and_one_wrong_beside_the_right_one():
    assert changes.pairs_to_explain(BEFORE, AFTER, LABELS) == [
        (0, 1, "right: brought up from rank 4 to 1"),
        (3, 0, "wrong: another product, put first"),
        (3, 4, "right, for the same query: pushed down from rank 1 to 4"),
    ]
    assert changes.pairs_to_explain(BEFORE, BEFORE, LABELS) == []


def test_the_rank_change_grid_names_old_and_new_ranks():
    up, down = changes.rank_changes(BEFORE, AFTER, LABELS)
    figure = grids.rank_change_grid(
        lambda row: Image.new("RGB", (30, 20), (40 * row, 100, 0)), {"up": up, "down": down}, columns=1
    )
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["query", "rank 4 → 1", "query", "rank 2 → 1", "query", "rank 1 → 4"]
    empty = pd.DataFrame(columns=up.columns)
    assert len(grids.rank_change_grid(lambda row: None, {"up": empty}).axes) == 10
