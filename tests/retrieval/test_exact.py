"""Search against a plain loop and against the neighbors that the published code found."""

import json

import numpy as np
import pytest

from waldo_utils.evaluation import metrics
from waldo_utils.retrieval import exact
from waldo_utils.study import ROOT

PARITY = ROOT.parent / "shared" / "parity" / "rrt_parity.npz"


def test_search_is_the_plain_loop_with_ties_to_the_smaller_row():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 8)).astype(np.float32)
    features[7] = features[30] = features[3]  # exact duplicates
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    neighbors, similarities = exact.nearest_neighbors(features, 10, chunk=7)
    for i in range(40):
        similarity = features @ features[i]
        order = sorted((j for j in range(40) if j != i), key=lambda j: (-round(float(similarity[j]), 5), j))
        assert neighbors[i].tolist() == order[:10]
        np.testing.assert_allclose(similarities[i], similarity[neighbors[i]], atol=1e-6)
    assert neighbors[3, :2].tolist() == [7, 30]


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture
def many():
    """400 features, many of them equal: one copied 40 times all over the rows, twenty copied twice."""
    rng = np.random.default_rng(4)
    features = unit(rng.standard_normal((400, 24)).astype(np.float32))
    features[rng.choice(400, 40, replace=False)] = features[0]
    features[301:399:5] = features[201:299:5]
    return features


@pytest.mark.parametrize("k", [1, 3, 39, 45])  # blocks of maxima for the first two, one sort for the others
@pytest.mark.parametrize("block", [2, 7, 64])
def test_search_of_many_ties_is_the_plain_loop(many, k, block, monkeypatch):
    monkeypatch.setattr(exact, "BLOCK", block)
    neighbors, similarities = exact.nearest_neighbors(many, k)
    same = (many[:, None] == many[None]).all(axis=2)
    cosine = many.astype(np.float64) @ many.T.astype(np.float64)
    for i in range(len(many)):
        order = np.lexsort((np.arange(len(many)), -cosine[i].round(6)))
        assert neighbors[i].tolist() == order[order != i][:k].tolist()
        for j in np.flatnonzero(same[i, neighbors[i]]):  # equal features have one and the same similarity
            assert similarities[i, j] == similarities[i, 0]


def test_search_depends_on_the_pair_alone_and_not_on_its_place(many):
    expected = exact.nearest_neighbors(many, 20)
    for chunk in (1, 5, 64, 399):
        for found, first in zip(exact.nearest_neighbors(many, 20, chunk=chunk), expected, strict=True):
            np.testing.assert_array_equal(found, first)
    moved = np.random.default_rng(5).permutation(len(many))
    _, similarities = exact.nearest_neighbors(many[moved], 20)
    np.testing.assert_array_equal(similarities, expected[1][moved])


def test_search_among_equal_photos_gives_the_smallest_rows():
    features = np.repeat(unit(np.ones((1, 5), np.float32)), 300, axis=0)
    neighbors, _ = exact.nearest_neighbors(features, 2)
    assert neighbors.tolist() == [[1, 2], [0, 2]] + [[0, 1]] * 298


def test_search_finds_the_sets_that_faiss_finds():
    faiss = pytest.importorskip("faiss")
    features = unit(np.random.default_rng(6).standard_normal((3000, 16)).astype(np.float32))
    index = faiss.IndexFlatIP(16)
    index.add(features)
    _, expected = index.search(features, 11)
    neighbors, _ = exact.nearest_neighbors(features, 10)
    np.testing.assert_array_equal(neighbors, metrics.self_by_row(expected))


def test_search_reads_features_that_are_mapped_from_a_file_or_of_another_precision(many):
    frozen = many.copy()
    frozen.flags.writeable = False
    expected = exact.nearest_neighbors(many, 5)[0]
    np.testing.assert_array_equal(exact.nearest_neighbors(frozen, 5)[0], expected)
    np.testing.assert_array_equal(exact.nearest_neighbors(many.astype(np.float64), 5)[0], expected)


def test_search_for_everything_leaves_out_the_query_alone():
    features = np.random.default_rng(2).standard_normal((12, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    neighbors, _ = exact.nearest_neighbors(features, 11)
    for i in range(12):
        assert sorted(neighbors[i]) == [j for j in range(12) if j != i]


def test_search_in_a_gallery_keeps_equal_photos():
    features = np.eye(3, dtype=np.float32)
    neighbors, _ = exact.nearest_neighbors(features, 1, gallery=features)
    assert neighbors[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_search_refuses_bad_features(at_once, monkeypatch):
    monkeypatch.setattr(exact, "CHECKED_AT_ONCE", at_once)
    good = np.eye(3, dtype=np.float32)
    for fault, message in ((np.nan, "not finite"), (2, "not of unit length")):
        bad = good.copy()
        bad[2] *= fault
        with pytest.raises(ValueError, match=message):
            exact.nearest_neighbors(bad, 1)
    with pytest.raises(ValueError, match="choose k from 1 to 2"):
        exact.nearest_neighbors(good, 3)
    with pytest.raises(ValueError, match="queries have 3 numbers, the gallery 2"):
        exact.nearest_neighbors(good, 1, gallery=np.eye(2, dtype=np.float32))


def test_reorder_sorts_the_first_and_keeps_the_rest():
    neighbors = np.array([[4, 5, 6, 7]])
    assert exact.reorder(neighbors, np.array([[0.1, 0.9, 0.9]])).tolist() == [[5, 6, 4, 7]]


@pytest.mark.skipif(not PARITY.exists(), reason="the published code's neighbors are not beside the project")
def test_search_finds_what_the_published_code_found():
    with np.load(PARITY) as published:
        features, labels = published["knn_features"], published["knn_labels"]
        expected, recall = published["knn_indices"], json.loads(str(published["knn_recall"]))  # per cent
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    neighbors, _ = exact.nearest_neighbors(features, expected.shape[1])
    np.testing.assert_array_equal(neighbors, expected)
    for k, value in recall.items():
        assert 100 * metrics.recall_at_k(neighbors, labels, labels, int(k)) == pytest.approx(value)
