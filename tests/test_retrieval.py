"""Search against a plain loop and against the neighbors that the published code found."""

import json

import numpy as np
import pytest

from waldo_utils import metrics, retrieval
from waldo_utils.study import ROOT

PARITY = ROOT.parent / "shared" / "parity" / "rrt_parity.npz"


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


def test_search_for_everything_leaves_out_the_query_alone():
    features = np.random.default_rng(2).standard_normal((12, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    neighbors, _ = retrieval.nearest_neighbors(features, 11)
    for i in range(12):
        assert sorted(neighbors[i]) == [j for j in range(12) if j != i]


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


@pytest.mark.skipif(not PARITY.exists(), reason="the published code's neighbors are not beside the project")
def test_search_finds_what_the_published_code_found():
    with np.load(PARITY) as published:
        features, labels = published["knn_features"], published["knn_labels"]
        expected, recall = published["knn_indices"], json.loads(str(published["knn_recall"]))  # per cent
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    neighbors, _ = retrieval.nearest_neighbors(features, expected.shape[1])
    np.testing.assert_array_equal(neighbors, expected)
    for k, value in recall.items():
        assert 100 * metrics.recall_at_k(neighbors, labels, labels, int(k)) == pytest.approx(value)
