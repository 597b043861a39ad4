"""Metrics on galleries that can be checked with a finger."""

import numpy as np
import pytest

from waldo_utils import metrics

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


def test_map_at_r_by_hand():
    neighbors = np.array([[0, 2, 1], [3, 2, 0]])
    # Query a, R = 2: ranks 1 and 2 hold hit, miss -> (1) / 2. Query b, R = 1: a miss at rank 1 -> 0.
    assert metrics.map_at_r(neighbors, np.array(["a", "b"]), GALLERY, np.array([2, 1])) == pytest.approx(0.25)


def test_map_at_r_counts_rank_r_and_none_beyond():
    # R = 2: rank 1 misses, rank 2 hits with precision 1 / 2, the hit at rank 3 is too late -> (1 / 2) / 2.
    late = metrics.map_at_r(np.array([[2, 0, 1]]), np.array(["a"]), GALLERY, np.array([2]))
    assert late == pytest.approx(0.25)


def test_bootstrap_interval_holds_the_mean_and_shrinks_with_products():
    rng = np.random.default_rng(0)
    few, many = (rng.random(5 * n) < 0.6 for n in (20, 2000))
    intervals = [metrics.bootstrap_interval(v, np.repeat(np.arange(len(v) // 5), 5)) for v in (few, many)]
    for values, (low, high) in zip((few, many), intervals, strict=True):
        assert low < values.mean() < high
    assert intervals[1][1] - intervals[1][0] < 0.3 * (intervals[0][1] - intervals[0][0])


def test_queries_of_one_product_count_as_one_draw():
    values = np.repeat(np.random.default_rng(0).random(50) < 0.5, 10).astype(float)
    together = metrics.bootstrap_interval(values, np.repeat(np.arange(50), 10))
    apart = metrics.bootstrap_interval(values, np.arange(500))
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_paired_interval_of_equal_methods_is_zero():
    values = np.array([0.0, 1.0, 1.0, 0.0])
    assert metrics.paired_interval(values, values, np.arange(4)) == (0.0, 0.0)


def test_first_misses_are_of_different_products():
    assert metrics.first_misses(NEIGHBORS, QUERIES, GALLERY, count=5) == [1, 2]


def test_interval_matches_the_normal_approximation():
    # 2,000 products of one query each, 30 % right: mean +- 1.96 * sqrt(0.3 * 0.7 / 2000) = 0.3 +- 0.0201.
    low, high = metrics.bootstrap_interval(np.arange(2000) < 600, np.arange(2000))
    assert (low, high) == (pytest.approx(0.2799, abs=0.002), pytest.approx(0.3201, abs=0.002))


def test_gains_are_half_won_and_half_lost():
    labels = np.array([0, 0, 1, 1])
    before = np.array([[2, 1], [0, 2], [3, 0], [0, 2]])
    after = before[:, ::-1]
    assert metrics.gains(before, after, labels, count=2) == [0, 1]
    assert metrics.gains(before, before, labels, count=2) == []


def test_best_and_worst_are_ranked_by_hits():
    assert metrics.best_and_worst(NEIGHBORS, QUERIES, GALLERY, count=1) == ([0], [2])
