"""Baselines against the papers' definitions, written out slowly, and against numbers that fit on a hand."""

import numpy as np
import pytest
import torch

from waldo_utils.retrieval import baselines, reranking
from waldo_utils.retrieval.exact import nearest_neighbors, reorder


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    centers = np.repeat(rng.standard_normal((8, 6)), 5, axis=0)
    features = (centers + 0.7 * rng.standard_normal((40, 6))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features, nearest_neighbors(features, 20)[0], np.repeat(np.arange(8), 5)


# ---------------------------------------------------------------- alpha query expansion


def test_query_expansion_by_hand():
    # Query 0 at (1, 0); its nearest, photo 1, at cosine 0.8; photo 2 at cosine 0. Alpha 1, one neighbor:
    # (1, 0) + 0.8 * (0.8, 0.6) = (1.64, 0.48), of length 1.7088; photo 2 at (0, 1) then has 0.48 / 1.7088.
    features = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    shortlists = np.array([[1, 2], [0, 2], [1, 0]])
    scores = baselines.query_expansion(features, shortlists, depth=2, neighbors=1, alpha=1.0)
    length = np.hypot(1.64, 0.48)
    assert scores[0] == pytest.approx([(1.64 * 0.8 + 0.48 * 0.6) / length, 0.48 / length])


@pytest.mark.parametrize(("neighbors", "alpha"), [(1, 0.0), (3, 3.0), (10, 1.0)])
def test_query_expansion_is_the_papers_sum(photos, neighbors, alpha):
    features, shortlists, _ = photos
    scores = baselines.query_expansion(features, shortlists, 7, neighbors, alpha)
    for q in range(len(features)):
        total = features[q].astype(float)
        for row in shortlists[q, :neighbors]:
            total = total + max(features[q] @ features[row], 0) ** alpha * features[row]
        expected = [features[row] @ total / np.linalg.norm(total) for row in shortlists[q, :7]]
        assert scores[q] == pytest.approx(expected, abs=1e-5)


def test_an_opposite_neighbor_has_no_weight():
    features = np.array([[1, 0], [-1, 0], [-0.6, 0.8]], np.float32)
    shortlists = np.array([[2, 1], [2, 0], [1, 0]])
    scores = baselines.query_expansion(features, shortlists, 2, neighbors=2, alpha=3.0)
    assert scores[0] == pytest.approx([-0.6, -1.0])


# ---------------------------------------------------------------- k-reciprocal encoding


def slow_sets(shortlists, k1):
    """R* by the paper's equations 1 to 3, as sets."""

    def near(p, k):
        return {p, *map(int, shortlists[p, :k])}

    def mutual(p, k):
        return {g for g in near(p, k) if p in near(g, k)}

    result = []
    for p in range(len(shortlists)):
        own = mutual(p, k1)
        expanded = set(own)
        for q in own:
            half = mutual(q, max(k1 // 2, 1))
            if len(own & half) >= 2 / 3 * len(half):
                expanded |= half
        result.append(expanded)
    return result


def slow_similarity(features, shortlists, depth, k1, k2):
    count = len(features)
    vectors = np.zeros((count, count))
    for p, members in enumerate(slow_sets(shortlists, k1)):
        for g in members:
            vectors[p, g] = np.exp(-(1 - features[p] @ features[g]))
        vectors[p] /= vectors[p].sum()
    vectors = np.stack([vectors[[p, *shortlists[p, : k2 - 1]]].mean(axis=0) for p in range(count)])
    result = np.zeros((count, depth))
    for p in range(count):
        for i, g in enumerate(shortlists[p, :depth]):
            pair = vectors[[p, g]]
            result[p, i] = pair.min(axis=0).sum() / pair.max(axis=0).sum()
    return result


def test_reciprocal_sets_by_hand():
    # On a line at 0, 1, 2, 10: with k1 = 1 photos 0 and 1 are each other's nearest; photo 2 has 1 as its
    # nearest and photo 3 has 2, but not the other way round.
    shortlists = np.array([[1, 2, 3], [0, 2, 3], [1, 0, 3], [2, 1, 0]])
    assert baselines.reciprocal_sets(shortlists, 1).tolist() == [[0, 1], [0, 1], [2, -1], [3, -1]]


def test_a_set_grows_by_a_candidate_that_shares_two_thirds():
    # N(., 4) of photo 0 is {0, 1, 2, 3, 4}; only 1 and 2 have 0 among their four. R(1, 2) = {1, 2, 5} shares
    # {1, 2} with R(0, 4) = {0, 1, 2}: two thirds exactly, so photo 5 joins.
    shortlists = np.array(
        [[1, 2, 3, 4], [2, 5, 0, 6], [1, 5, 0, 6], [4, 6, 5, 7], [3, 6, 5, 7], [1, 2, 6, 3], [7, 3, 4, 5],
         [6, 3, 4, 5]]
    )  # fmt: skip
    assert slow_sets(shortlists, 4)[0] == {0, 1, 2, 5}
    assert baselines.reciprocal_sets(shortlists, 4)[0].tolist()[:4] == [0, 1, 2, 5]


@pytest.mark.parametrize("k1", [1, 2, 5, 9, 20])
def test_reciprocal_sets_are_the_papers(photos, k1):
    _, shortlists, _ = photos
    found = baselines.reciprocal_sets(shortlists, k1)
    assert [set(row[row >= 0].tolist()) for row in found] == slow_sets(shortlists, k1)


@pytest.mark.parametrize(("k1", "k2"), [(2, 1), (5, 3), (9, 6)])
def test_k_reciprocal_is_the_papers_distance(photos, k1, k2, monkeypatch):
    monkeypatch.setattr(baselines, "QUERIES_AT_ONCE", 7)
    features, shortlists, _ = photos
    common = slow_similarity(features, shortlists, 12, k1, k2)
    np.testing.assert_allclose(
        baselines.reciprocal_similarity(features, shortlists, 12, k1, k2), common, atol=1e-6
    )
    cosine = np.stack([features[shortlists[q, :12]] @ features[q] for q in range(40)])
    scores = baselines.k_reciprocal(features, shortlists, 12, k1, k2, share=0.3)
    np.testing.assert_allclose(scores, -0.7 * (1 - common) - 0.3 * (1 - cosine), atol=1e-6)


def test_the_original_distance_alone_keeps_the_order_and_the_shortlist_stays(photos):
    features, shortlists, _ = photos
    same = reorder(shortlists, baselines.k_reciprocal(features, shortlists, 12, 5, 3, share=1.0))
    np.testing.assert_array_equal(same, shortlists)
    other = reorder(shortlists, baselines.k_reciprocal(features, shortlists, 12, 5, 3, share=0.0))
    assert not np.array_equal(other, shortlists)
    np.testing.assert_array_equal(other[:, 12:], shortlists[:, 12:])
    np.testing.assert_array_equal(np.sort(other[:, :12]), np.sort(shortlists[:, :12]))


def test_settings_are_the_best_of_the_grid():
    # Three photos each of products 0 and 1; the first neighbor is right if turned round. At 2, all other
    # right ones follow.
    labels = np.array([0, 0, 0, 1, 1, 1])
    shortlists = np.array(
        [[3, 1, 4, 2], [3, 0, 4, 2], [3, 0, 4, 1], [0, 4, 1, 5], [0, 3, 1, 5], [0, 3, 1, 4]]
    )
    orders = {-1.0: [3, 2, 1, 0], 1.0: [2, 3, 1, 0], 2.0: [1, 3, 0, 2]}  # scores of the four neighbors

    def score(features, shortlists, depth, turn, other):
        return np.tile(orders[turn], (6, 1)).astype(float)

    grid = {"turn": (-1.0, 1.0, 2.0), "other": (5, 6)}
    chosen, table = baselines.choose_settings(score, grid, None, shortlists, labels, depth=4)
    assert chosen == {"turn": 2.0, "other": 5}
    assert table["R@1"].tolist() == [0, 0, 1, 1, 1, 1]
    assert table["MAP@R"].tolist() == [0.25, 0.25, 0.5, 0.5, 1, 1]
    assert table.columns.tolist() == ["turn", "other", "R@1", "MAP@R"]


# ---------------------------------------------------------------- mutual local matches

# Three places with two channels each. Cosines: place 0 matches place 1, place 1 place 0, both mutually at 1;
# place 2, at 45 degrees, has cosine 0.7071 with both, and the other's place 2 is opposite to it.
LEFT = torch.tensor([[[[1.0, 0.0, 2.0]], [[0.0, 3.0, 2.0]]]])  # (1, 2, 1, 3): (1, 0), (0, 3), (2, 2)
RIGHT = torch.tensor([[[[0.0, 5.0, -1.0]], [[1.0, 0.0, -1.0]]]])  # (0, 1), (5, 0), (-1, -1)


def test_mutual_matches_by_hand():
    assert baselines.mutual_count(LEFT, RIGHT).tolist() == [2]
    assert baselines.mutual_cosine(LEFT, RIGHT).tolist() == pytest.approx([1.0])
    assert baselines.mutual_count(LEFT, LEFT).tolist() == [3]
    assert baselines.mutual_cosine(LEFT, -LEFT).tolist() == pytest.approx([0.0], abs=1e-6)


def test_mutual_matches_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((n, 8, 3, 3)).astype(np.float16) for n in (3, 5))
    neighbors = np.array([[0, 1, 2, 3, 4]] * 3)
    counts = reranking.pair_scores(baselines.mutual_count, query, gallery, neighbors)
    cosines = reranking.pair_scores(baselines.mutual_cosine, query, gallery, neighbors)
    for q, g in np.ndindex(3, 5):
        left, right = (x.reshape(8, 9).astype(float) for x in (query[q], gallery[g]))
        cosine = (left / np.linalg.norm(left, axis=0)).T @ (right / np.linalg.norm(right, axis=0))
        pairs = [(i, j) for i, j in enumerate(cosine.argmax(axis=1)) if cosine[:, j].argmax() == i]
        assert counts[q, g] == len(pairs)
        assert cosines[q, g] == pytest.approx(np.mean([cosine[pair] for pair in pairs]), abs=1e-3)
