"""Two scores of one shortlist made one: the global similarity and the reranker's, or the reranker's both ways
round."""

import copy

import numpy as np
import pandas as pd
import torch

from waldo_utils.evaluation import metrics
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.models.scorer import GALLERY, QUERY
from waldo_utils.retrieval.exact import reorder
from waldo_utils.retrieval.reranking import rerank_scores

SHARES = tuple(i / 20 for i in range(21))  # of the reranker in the fused score


def standardize(scores: np.ndarray) -> np.ndarray:
    """Return (Q, d) scores with mean 0 and standard deviation 1 over each query's shortlist; 0 where all are
    equal."""
    scores = np.asarray(scores, float)
    spread = scores.std(axis=1, keepdims=True)
    return (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)


def fuse(similarities: np.ndarray, scores: np.ndarray, share: float) -> np.ndarray:
    """Return (Q, d) fused scores: `share` of the reranker's and the rest of the global one, both standardized
    per query.

    Args:
        similarities: (Q, K) global similarity of each neighbor; the first d count.
        scores: (Q, d) the reranker's scores of the first d neighbors.
        share: 0: the global order stays; 1: the reranker alone.
    """
    return (1 - share) * standardize(similarities[:, : scores.shape[1]]) + share * standardize(scores)


def fusion_curve(
    neighbors: np.ndarray,
    similarities: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    shares: tuple[float, ...] = SHARES,
) -> pd.DataFrame:
    """Tabulate what each share of the reranker gives, leave-one-out.

    Args:
        neighbors: (N, K) shortlists, rows of `labels`.
        similarities: (N, K) global similarity of each neighbor.
        scores: (N, d) reranker scores of the first d neighbors.
        labels: (N,) product of each photo.
        shares: to try.

    Returns:
        One row per share: `share`, `R@1`, and `MAP@R` where K neighbors suffice for it.
    """
    relevant = metrics.relevant_counts(labels)
    some, rows = relevant > 0, []
    for share in shares:
        hits = metrics.hits(reorder(neighbors, fuse(similarities, scores, share)), labels, labels)
        values = metrics.per_query(hits[some], relevant[some], ks=(1,))
        rows.append(
            {"share": share} | {name: values[name].mean() for name in ("R@1", "MAP@R") if name in values}
        )
    return pd.DataFrame(rows)


def choose_share(curve: pd.DataFrame) -> float:
    """Return the share with the best recall@1; among equals the middle one, away from both ends."""
    best = curve.share[curve["R@1"] == curve["R@1"].max()].to_numpy()
    return float(best[len(best) // 2])


def swapped(reranker: RerankingTransformer) -> RerankingTransformer:
    """Return a copy that takes the query for the gallery photo and the other way round.

    Only the segment embeddings tell the two sides apart: the positions of both photos are coded alike, and
    attention does not know the order of its tokens. So score(q, g) of the copy is score(g, q) of the
    reranker, and the shortlists need not be turned round.
    """
    other = copy.deepcopy(reranker)
    with torch.no_grad():
        other.segment.weight[[QUERY, GALLERY]] = reranker.segment.weight[[GALLERY, QUERY]]
    return other


def both_ways(
    reranker: RerankingTransformer, local: np.ndarray, neighbors: np.ndarray, forward: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the scores of each pair one way round, the other way round, and their mean, each (N, d).

    Args:
        reranker: the transformer.
        local: (N, D, h, w) local features; each photo is a query among the others.
        neighbors: (N, d) rows of `local`.
        forward: (N, d) the scores as usual, which are known already.
    """
    backward = rerank_scores(swapped(reranker), local, local, neighbors)
    return {"s(q, g)": np.asarray(forward), "s(g, q)": backward, "mean of both": (forward + backward) / 2}
