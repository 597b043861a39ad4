"""The fast scores are those of the transformer's own forward pass, pair by pair."""

import numpy as np
import pytest
import torch

from waldo_utils.models import scorer
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import reranking


@pytest.fixture(autouse=True)
def prepared(monkeypatch):
    """The scorers that a test leaves: none are kept for the next."""
    kept = {}
    monkeypatch.setattr(reranking, "_scorers", kept)
    return kept


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    query, gallery = (12 * rng.standard_normal((n, 16, 3, 3)).astype(np.float16) for n in (5, 9))
    return query, gallery, rng.integers(0, 9, (5, 4))


def new_reranker(layers=3, matching=False, dim=16):
    torch.manual_seed(0)
    model = RerankingTransformer(dim, 2, layers, 32, matching, local=16).eval()
    with torch.no_grad():  # biases and norms start at 0 and 1, where a mistake would not show
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def plain_scores(model, query, gallery, neighbors):
    scores = np.empty(neighbors.shape, np.float32)
    with torch.no_grad():
        for q, k in np.ndindex(*neighbors.shape):
            pair = (torch.from_numpy(a[None]).float() for a in (query[q], gallery[neighbors[q, k]]))
            scores[q, k] = model(*pair).item()
    return scores


@pytest.mark.parametrize("matching", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    "limits", [(32, 10**9), (3, 1)]
)  # pairs at once and bytes of codes: all, or bit by bit
def test_rerank_scores_are_those_of_forward(features, layers, limits, matching, monkeypatch):
    monkeypatch.setattr(scorer, "COMPILED", limits[0])
    monkeypatch.setattr(reranking, "CODES", limits[1])
    monkeypatch.setattr(scorer, "ENCODED_AT_ONCE", 2)
    model = new_reranker(layers, matching)
    expected = plain_scores(model, *features)
    np.testing.assert_allclose(reranking.rerank_scores(model, *features), expected, atol=1e-5)


@pytest.mark.parametrize("matching", [False, True])
def test_local_features_may_be_wider_than_the_transformer(features, matching):
    model = new_reranker(matching=matching, dim=8)
    expected = plain_scores(model, *features)
    np.testing.assert_allclose(reranking.rerank_scores(model, *features), expected, atol=1e-5)
    assert model.segment.embedding_dim == 8


@pytest.mark.parametrize("safe", [80.0, 0.0])  # with bare exponentials, and with softmax
def test_bfloat16_scores_are_close(features, safe, monkeypatch):
    monkeypatch.setattr(scorer, "SAFE_LOGIT", safe)
    model = new_reranker()
    expected = plain_scores(model, *features)
    scores = reranking.rerank_scores(model, *features, precision=torch.bfloat16)
    np.testing.assert_allclose(scores, expected, atol=0.05)
    assert not np.array_equal(scores, expected)


def test_the_best_of_bfloat16_are_scored_again_in_float32(features):
    model = new_reranker()
    expected = plain_scores(model, *features)
    rough = reranking.rerank_scores(model, *features, precision=torch.bfloat16)
    order = np.argsort(-rough, axis=1)
    scores = reranking.rerank_scores(model, *features, precision=torch.bfloat16, again=2)
    for q, (best, others) in enumerate(zip(order[:, :2], order[:, 2:], strict=True)):
        np.testing.assert_allclose(scores[q, best], expected[q, best], atol=1e-5)
        assert scores[q, others].max() < scores[q, best].min()
        gap = rough[q, others] - scores[q, others]  # all are lowered alike, or not at all
        np.testing.assert_allclose(gap, gap[0], atol=1e-5)
        assert gap[0] >= 0
    everything = reranking.rerank_scores(model, *features, precision=torch.bfloat16, again=4)
    np.testing.assert_allclose(everything, expected, atol=1e-5)
    with pytest.raises(ValueError, match="5 of 4 neighbors cannot be scored again: choose from 0 to 4"):
        reranking.rerank_scores(model, *features, again=5)


def test_a_scorer_is_prepared_once_for_the_same_weights(features, prepared):
    model = new_reranker(layers=1)
    first = reranking.rerank_scores(model, *features)
    scorers = [*prepared.values()]
    np.testing.assert_array_equal(reranking.rerank_scores(model, *features), first)
    assert [*prepared.values()] == scorers
    for change in range(reranking.KEPT):
        with torch.no_grad():
            model.score.bias.add_(1)
        moved = reranking.rerank_scores(model, *features)
        np.testing.assert_allclose(moved, first + change + 1, atol=1e-5)
    assert len(prepared) == reranking.KEPT and scorers[0] not in prepared.values()


def test_reranking_leaves_the_reranker_as_it_was(features):
    model = new_reranker().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    reranking.rerank_scores(model, *features, precision=torch.bfloat16)
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
        assert value.dtype == torch.float32


def test_huge_attention_logits_do_not_overflow_in_bfloat16():
    logits = torch.tensor([[[200.0, 0.0], [-200.0, -200.0]]], dtype=torch.bfloat16)
    v = torch.tensor([[[1.0], [3.0]]], dtype=torch.bfloat16)
    assert scorer._softmax_product(logits, v).flatten().tolist() == [1.0, 2.0]


def test_no_queries_give_no_scores(features):
    query, gallery, neighbors = features
    assert reranking.rerank_scores(new_reranker(), query[:0], gallery, neighbors[:0]).shape == (0, 4)


def test_pairs_that_do_not_fit_are_refused(features):
    query, gallery, neighbors = features
    model = new_reranker()
    with pytest.raises(ValueError, match="4 queries but 5 neighbor lists"):
        reranking.rerank_scores(model, query[:4], gallery, neighbors)
    with pytest.raises(ValueError, match=r"\(16, 3, 3\) per query but \(16, 2, 3\) per gallery photo"):
        reranking.rerank_scores(model, query, gallery[:, :, :2], neighbors)
    with pytest.raises(ValueError, match="rows 0 to 9 of a gallery of 9"):
        reranking.rerank_scores(model, query, gallery, np.arange(5, 10)[:, None] * [0, 1])
    with pytest.raises(ValueError, match="reads 16 channels, the local features have 8"):
        reranking.rerank_scores(model, query[:, :8], gallery[:, :8], neighbors)
    for side, local in (("query", query), ("gallery", gallery)):
        local[neighbors[0, 0] if side == "gallery" else 0, 3, 1, 1] = np.inf
        with pytest.raises(ValueError, match=f"some {side} local features are not finite"):
            reranking.rerank_scores(model, query, gallery, neighbors)
        local[:] = 1
