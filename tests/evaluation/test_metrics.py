"""Metrics on galleries that can be checked with a finger."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from waldo_utils.evaluation import metrics

# Four gallery photos of products a, a, b, c. Each row ranks the gallery for one query.
GALLERY = np.array(["a", "a", "b", "c"])
QUERIES = np.array(["a", "b", "c"])
NEIGHBORS = np.array(
    [
        [0, 2, 3],  # product a: hit at rank 1
        [3, 2, 0],  # product b: hit at rank 2
        [0, 1, 2],
    ]
)  # product c: never found


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 3), (2, 2 / 3), (3, 2 / 3)])
def test_recall_counts_queries_with_a_hit_in_the_first_k(k, expected):
    assert metrics.recall_at_k(NEIGHBORS, QUERIES, GALLERY, k) == pytest.approx(expected)


def test_recall_refuses_a_shortlist_shorter_than_k():
    with pytest.raises(ValueError, match="needs 10 neighbors"):
        metrics.recall_at_k(NEIGHBORS, QUERIES, GALLERY, k=10)


def test_average_precision_at_r_by_hand():
    # R = 2 each. Ranks 1, 2 hold hit, miss -> (1) / 2. Hit, hit -> 1. Miss, hit -> (1/2) / 2; the late hit at
    # rank 3 is beyond R and does not count.
    hits = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], bool)
    assert metrics.average_precision_at_r(hits, np.full(3, 2)) == pytest.approx([0.5, 1.0, 0.25])


def test_average_precision_at_k_divides_by_what_can_be_found():
    # k = 3. R = 2, hits at ranks 1 and 3 -> (1 + 2/3) / 2. R = 5, only 3 can be shown: hits at 1, 2, 3 -> 3 /
    # 3. R = 5, a hit at rank 2 -> (1/2) / 3. The fourth rank does not count.
    hits = np.array([[1, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 1]], bool)
    found = metrics.average_precision_at_k(hits, np.array([2, 5, 5]), k=3)
    assert found == pytest.approx([5 / 6, 1.0, 1 / 6])


def test_queries_without_anything_to_find_have_no_metric():
    hits, relevant = np.zeros((2, 100), bool), np.array([0, 1])
    hits[1, 0] = True
    values = metrics.per_query(hits, relevant)
    assert list(values) == ["R@1", "R@10", "R@100", "MAP@R", "mAP@100"]
    for value in values.values():
        assert np.isnan(value[0])
        assert value[1] == 1.0


def test_metrics_that_need_more_neighbors_are_left_out_or_refused():
    hits = np.zeros((1, 5), bool)
    assert list(metrics.per_query(hits, np.array([6]))) == ["R@1"]
    with pytest.raises(ValueError, match="MAP@R needs 6 neighbors per query, got 5"):
        metrics.average_precision_at_r(hits, np.array([6]))
    with pytest.raises(ValueError, match="mAP@100 needs 100 neighbors per query, got 5"):
        metrics.average_precision_at_k(hits, np.array([1]))


@pytest.mark.parametrize("alone", [True, False])
def test_metrics_are_those_of_pytorch_metric_learning(alone):
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((60, 4)).astype(np.float32)
    gallery_labels = rng.integers(9, size=60)
    queries, labels = gallery, gallery_labels
    if not alone:
        queries, labels = rng.standard_normal((20, 4)).astype(np.float32), rng.integers(11, size=20)
    distance = np.linalg.norm(queries[:, None] - gallery, axis=2)
    if alone:
        np.fill_diagonal(distance, np.inf)
    neighbors = distance.argsort(axis=1, kind="stable")[:, : 59 if alone else 60]
    relevant = metrics.relevant_counts(labels, None if alone else gallery_labels)
    hits, some = metrics.hits(neighbors, labels, gallery_labels), relevant > 0
    assert alone or not some.all()  # two products are not in the gallery
    named = ("precision_at_1", "mean_average_precision_at_r", "mean_average_precision")
    calculator = AccuracyCalculator(include=named, k=neighbors.shape[1], knn_func=plain_search)
    given = [torch.from_numpy(array) for array in (queries, labels, gallery, gallery_labels)]
    expected = calculator.get_accuracy(*given, ref_includes_query=alone)
    ours = (
        metrics.per_query(hits, relevant)["R@1"],
        metrics.per_query(hits, relevant)["MAP@R"],
        metrics.average_precision_at_k(hits, relevant, k=neighbors.shape[1]),
    )
    for name, values in zip(named, ours, strict=True):
        assert values[some].mean() == pytest.approx(expected[name]), name


def plain_search(query, k, reference, ref_includes_query):
    """Return the distances and rows of the k nearest references, as AccuracyCalculator asks for them."""
    distance = torch.cdist(query, reference)
    if ref_includes_query:
        distance.fill_diagonal_(torch.inf)
    return distance.topk(k, largest=False)


def test_relevant_counts_with_and_without_a_gallery():
    assert metrics.relevant_counts(np.array([7, 7, 7, 3])).tolist() == [2, 2, 2, 0]
    assert metrics.relevant_counts(QUERIES, GALLERY).tolist() == [2, 1, 1]
    assert metrics.relevant_counts(np.array(["z", "a"]), GALLERY).tolist() == [0, 2]


def test_the_query_leaves_its_own_list_by_row_or_by_position():
    # Photo 1 is an exact duplicate of photo 0: both find 0 first, the smaller row. Photo 2 finds itself
    # first.
    neighbors = np.array([[0, 1, 2], [0, 1, 2], [2, 0, 1]])
    assert metrics.self_by_row(neighbors).tolist() == [[1, 2], [0, 2], [0, 1]]
    assert metrics.self_by_position(neighbors).tolist() == [[1, 2], [1, 2], [0, 1]]
    # Two earlier duplicates fill the list of photo 2: nothing of it is there, and the last goes.
    assert metrics.self_by_row(np.array([[0, 1], [0, 1], [0, 1]])).tolist() == [[1], [0], [0]]


def test_copies_of_the_query_leave_its_list():
    # Photos 0 and 1 are the same bytes; 0, 1, 2 show product a, photo 3 product b.
    labels, copies = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])
    neighbors = np.array([[1, 3, 2], [0, 2, 3], [0, 1, 3], [2, 0, 1]])
    assert metrics.hits(neighbors, labels, labels)[:, 0].tolist() == [True, True, True, False]
    without = metrics.hits_without_copies(neighbors, labels, labels, copies)
    assert without.tolist() == [[False, True, False], [True, False, False], [True, True, False], [False] * 3]
    assert metrics.relevant_without_copies(labels, copies).tolist() == [1, 1, 2, 0]


def test_bootstrap_interval_holds_the_mean_and_shrinks_with_products():
    rng = np.random.default_rng(0)
    few, many = (rng.random((5 * n, 1)) < 0.6 for n in (20, 2000))
    intervals = [metrics.bootstrap_interval(v, np.repeat(np.arange(len(v) // 5), 5)) for v in (few, many)]
    for values, (low, high) in zip((few, many), intervals, strict=True):
        assert low < values.mean() < high
    assert intervals[1][1] - intervals[1][0] < 0.3 * (intervals[0][1] - intervals[0][0])


def test_queries_of_one_product_count_as_one_draw():
    values = np.repeat(np.random.default_rng(0).random((50, 1)) < 0.5, 10, axis=0)
    together = metrics.bootstrap_interval(values, np.repeat(np.arange(50), 10))
    apart = metrics.bootstrap_interval(values, np.arange(500))
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_interval_matches_the_normal_approximation():
    # 2,000 products of one query each, 30 % right: mean +- 1.96 * sqrt(0.3 * 0.7 / 2000) = 0.3 +- 0.0201.
    low, high = metrics.bootstrap_interval(np.arange(2000)[:, None] < 600, np.arange(2000))
    assert (low[0], high[0]) == (pytest.approx(0.2799, abs=0.002), pytest.approx(0.3201, abs=0.002))


def test_bootstrap_means_are_those_of_a_loop_over_drawn_products():
    values, products = np.array([[1.0, 0.0], [0.0, 2.0], [5.0, 3.0]]), np.array([4, 4, 9])
    means = metrics.bootstrap_means(values, products, resamples=50, seed=3)
    draws = np.concatenate(list(metrics.product_draws(2, 50, seed=3)))
    for mean, (fours, nines) in zip(means, draws.astype(int), strict=True):
        rows = [0, 1] * fours + [2] * nines
        assert mean == pytest.approx(values[rows].mean(axis=0))
    assert (draws.sum(axis=1) == 2).all()
    assert np.unique(draws[:, 0]).tolist() == [0, 1, 2]


def test_columns_share_the_draws_so_that_differences_are_paired():
    rng = np.random.default_rng(0)
    before = (rng.random(300) < 0.5).astype(float)
    values = np.stack([before, before + 0.1, before], axis=1)
    means = metrics.bootstrap_means(values, np.arange(300), resamples=100)
    np.testing.assert_array_equal(means[:, 0], means[:, 2])
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.1)
    low, high = metrics.bootstrap_interval(values[:, 1:2] - values[:, :1], np.arange(300), resamples=100)
    assert (low[0], high[0]) == (pytest.approx(0.1), pytest.approx(0.1))


def test_the_bootstrap_refuses_queries_that_have_no_value():
    with pytest.raises(ValueError, match="leave out the queries without anything to find"):
        metrics.bootstrap_means(np.array([[np.nan]]), np.zeros(1))


def test_first_misses_are_of_different_products():
    assert metrics.first_misses(NEIGHBORS, QUERIES, GALLERY, count=5) == [1, 2]


def test_gains_are_half_won_and_half_lost():
    labels = np.array([0, 0, 1, 1])
    before = np.array([[2, 1], [0, 2], [3, 0], [0, 2]])
    after = before[:, ::-1]
    assert metrics.gains(before, after, labels, count=2) == [0, 1]
    assert metrics.gains(before, before, labels, count=2) == []


def test_best_and_worst_are_ranked_by_hits():
    assert metrics.best_and_worst(NEIGHBORS, QUERIES, GALLERY, count=1) == ([0], [2])
