"""Fused scores by hand; the reranker with its sides swapped is the reranker on swapped photos."""

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import fusion


def test_standardized_scores_by_hand():
    # 1, 2, 3: mean 2, standard deviation sqrt(2 / 3). Equal scores tell nothing.
    scores = fusion.standardize(np.array([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]], np.float32))
    assert scores[0] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])
    assert scores[1].tolist() == [0, 0, 0]


def test_fused_scores_do_not_depend_on_scale_and_start():
    rng = np.random.default_rng(0)
    similarities, scores = rng.random((4, 6)), rng.standard_normal((4, 5))
    fused = fusion.fuse(similarities, scores, 0.4)
    assert fused.shape == (4, 5)
    np.testing.assert_allclose(fused, fusion.fuse(3 * similarities - 8, 0.1 * scores + 2, 0.4))
    np.testing.assert_allclose(
        fused, 0.6 * fusion.standardize(similarities[:, :5]) + 0.4 * fusion.standardize(scores)
    )


def test_the_curve_runs_from_the_global_order_to_the_rerankers():
    # Photos 0, 1 and 2, 3 are products. The global order is right for 0 and 1 only, the reranker's for 0, 2
    # and 3; each has two neighbors, so standardized scores are +1 and -1 and a share above one half goes with
    # the reranker.
    labels = np.array([0, 0, 1, 1])
    neighbors = np.array([[1, 2], [0, 3], [0, 3], [1, 2]])
    similarities = np.tile([0.9, 0.8], (4, 1))
    scores = np.array([[5.0, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 9.0]])
    curve = fusion.fusion_curve(neighbors, similarities, scores, labels, (0.0, 0.25, 0.75, 1.0))
    assert curve["R@1"].tolist() == [0.5, 0.5, 0.75, 0.75]
    assert curve["MAP@R"].tolist() == [0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize(
    ("recall", "share"),
    [([0.1, 0.5, 0.2], 0.5), ([0.5, 0.5, 0.5], 0.5), ([0, 0.5, 0.5], 1.0), ([0.5, 0, 0], 0)],
)
def test_the_middle_of_the_best_shares_is_chosen(recall, share):
    assert fusion.choose_share(pd.DataFrame({"share": [0.0, 0.5, 1.0], "R@1": recall})) == share


def test_swapped_sides_give_the_scores_of_swapped_photos():
    torch.manual_seed(0)
    model = RerankingTransformer(dim=16, heads=2, layers=3, feedforward=32).eval()
    rng = np.random.default_rng(0)
    local = (3 * rng.standard_normal((6, 16, 3, 3))).astype(np.float16)
    neighbors = np.array([[1, 2], [0, 5], [3, 4], [2, 0], [5, 1], [4, 3]])
    with torch.no_grad():

        def score(q, g):
            return model(*(torch.from_numpy(local[[row]]).float() for row in (q, g))).item()

        forward = np.array([[score(q, g) for g in row] for q, row in enumerate(neighbors)])
        backward = np.array([[score(g, q) for g in row] for q, row in enumerate(neighbors)])
    before = model.segment.weight.clone()
    ways = fusion.both_ways(model, local, neighbors, forward)
    assert torch.equal(model.segment.weight, before)
    assert abs(forward - backward).max() > 1e-2  # the reranker is not symmetric
    np.testing.assert_allclose(ways["s(g, q)"], backward, atol=1e-4)
    np.testing.assert_allclose(ways["mean of both"], (forward + backward) / 2, atol=1e-4)
    np.testing.assert_array_equal(ways["s(q, g)"], forward)
