"""Metrics on galleries that can be checked with a finger, and search against a plain loop."""

import numpy as np
import pytest

from waldo_utils import metrics, retrieval

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


def test_search_is_the_plain_loop_with_ties_to_the_smaller_row():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 8)).astype(np.float32)
    features[7] = features[30] = features[3]  # exact duplicates
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    neighbors, similarities = retrieval.nearest_neighbors(features, 10, chunk=7)
    for i in range(40):
        similarity = features @ features[i]
        order = sorted((j for j in range(40) if j != i), key=lambda j: (-round(float(similarity[j]), 5), j))
        assert neighbors[i].tolist() == order[:10]
        np.testing.assert_allclose(similarities[i], similarity[neighbors[i]], atol=1e-6)
    assert neighbors[3, :2].tolist() == [7, 30]


def test_search_in_a_gallery_keeps_equal_photos():
    features = np.eye(3, dtype=np.float32)
    neighbors, _ = retrieval.nearest_neighbors(features, 1, gallery=features)
    assert neighbors[:, 0].tolist() == [0, 1, 2]


def test_search_refuses_bad_features():
    good = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="not finite"):
        retrieval.nearest_neighbors(good * np.nan, 1)
    with pytest.raises(ValueError, match="not of unit length"):
        retrieval.nearest_neighbors(good * 2, 1)
    with pytest.raises(ValueError, match="choose k from 1 to 2"):
        retrieval.nearest_neighbors(good, 3)
    with pytest.raises(ValueError, match="queries have 3 numbers, the gallery 2"):
        retrieval.nearest_neighbors(good, 1, gallery=np.eye(2, dtype=np.float32))


def test_reorder_sorts_the_first_and_keeps_the_rest():
    neighbors = np.array([[4, 5, 6, 7]])
    assert retrieval.reorder(neighbors, np.array([[0.1, 0.9, 0.9]])).tolist() == [[5, 6, 4, 7]]


def test_first_misses_are_of_different_products():
    assert metrics.first_misses(NEIGHBORS, QUERIES, GALLERY, count=5) == [1, 2]
