"""Ways to reorder a shortlist that learn nothing: query expansion, k-reciprocal neighbors, mutual local
matches."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from waldo_utils.evaluation.metrics import hits, per_query, relevant_counts
from waldo_utils.retrieval.exact import reorder

EXPANSIONS = {"neighbors": (1, 2, 3, 5, 10), "alpha": (0.0, 1.0, 3.0, 10.0)}
RECIPROCAL = {"k1": (4, 8, 20), "k2": (1, 3, 6), "share": (0.0, 0.3, 0.6)}  # 20, 6, 0.3: the authors' choice
QUERIES_AT_ONCE = 64  # queries' dense encodings held at once


def query_expansion(
    features: np.ndarray, shortlists: np.ndarray, depth: int, neighbors: int, alpha: float
) -> np.ndarray:
    """Score each shortlist by an expanded query (alpha query expansion; Radenovic et al., TPAMI 2019).

    The query becomes the sum of itself and its first neighbors, each times its similarity to the power of
    alpha, scaled to length 1. In the paper it searches the whole gallery once more; here it only reorders the
    shortlist.

    Args:
        features: (N, D) unit length; query q is row q.
        shortlists: (N, K) nearest neighbors, rows of `features`, nearest first.
        depth: first neighbors to score.
        neighbors: first neighbors that go into the query; the paper calls them n.
        alpha: 0: all count alike; larger: the nearest count most. Similarities below 0 count as 0.

    Returns:
        (N, depth) cosine of the expanded query and each neighbor.
    """
    features = np.asarray(features, np.float32)
    first = features[shortlists[:, :neighbors]]  # (N, n, D)
    weights = np.einsum("qd,qnd->qn", features, first).clip(min=0) ** alpha  # (N, n)
    expanded = features + np.einsum("qn,qnd->qd", weights, first)  # (N, D)
    expanded /= np.linalg.norm(expanded, axis=1, keepdims=True)
    return np.einsum("qd,qkd->qk", expanded, features[shortlists[:, :depth]])


def reciprocal_sets(shortlists: np.ndarray, k1: int) -> np.ndarray:
    """Return the expanded k-reciprocal neighbors R* of each photo (Zhong et al., CVPR 2017, equations 1 to
    3).

    N(p, k): photo p and its k nearest neighbors. R(p, k): those of N(p, k) that have p in their own N(., k).
    R*(p): R(p, k1) and, for each q of it, all of R(q, k1 / 2) if two thirds of it or more are in R(p, k1).

    Args:
        shortlists: (N, K) nearest neighbors of each photo among the others, nearest first.
        k1: neighbors that count, as far as the shortlists reach.

    Returns:
        (N, M) rows in ascending order, each padded with -1 behind; M is the size of the largest set.
    """
    whole = _reciprocal(shortlists, k1)  # (N, k1 + 1)
    half = _reciprocal(shortlists, max(k1 // 2, 1))  # (N, k1 / 2 + 1)
    sets = []
    for own in whole:
        members = own[own >= 0]
        candidates = half[members]  # (m, h)
        there = candidates >= 0
        shared = (np.isin(candidates, members) & there).sum(axis=1)
        joined = there & (3 * shared >= 2 * there.sum(axis=1))[:, None]
        sets.append(np.union1d(members, candidates[joined]))
    return _padded(sets)


def _reciprocal(shortlists: np.ndarray, k: int) -> np.ndarray:
    """Return R(p, k) as (N, k + 1) rows, photo p itself first; -1 where a neighbor does not have p among its
    own."""
    near = np.concatenate([np.arange(len(shortlists))[:, None], shortlists[:, :k]], axis=1)  # (N, k + 1)
    mutual = (near[near] == np.arange(len(near))[:, None, None]).any(axis=2)  # (N, k + 1)
    return np.where(mutual, near, -1)


def _padded(sets: list[np.ndarray]) -> np.ndarray:
    rows = np.full((len(sets), max(map(len, sets))), -1)
    for row, members in zip(rows, sets, strict=True):
        row[: len(members)] = members
    return rows


def reciprocal_similarity(
    features: np.ndarray, shortlists: np.ndarray, depth: int, k1: int, k2: int
) -> np.ndarray:
    """Return how much the surroundings of each query and of its neighbors have in common (Zhong et al., CVPR
    2017).

    A photo's surroundings are a vector over all photos: exp(-d) at those of `reciprocal_sets`, 0 elsewhere,
    scaled to sum 1 and averaged over the photo and its k2 - 1 nearest neighbors; d is the cosine distance.
    The result is the sum of
    the smaller entries of the two vectors over the sum of the larger: 1 minus the paper's Jaccard distance.

    All N photos need their own neighbors: other than the rest of this module, it looks beyond the query's
    shortlist.

    Args:
        features: (N, D) unit length; query q is row q.
        shortlists: (N, K) nearest neighbors, rows of `features`, nearest first.
        depth: first neighbors to score.
        k1: neighbors that count for the sets.
        k2: photos to average over; 1: no averaging.

    Returns:
        (N, depth) in [0, 1].
    """
    features = np.asarray(features, np.float32)
    count = len(features)
    sets = reciprocal_sets(shortlists, k1)  # (N, M)
    cosine = np.einsum("pd,pmd->pm", features, features[sets.clip(min=0)])
    weights = np.where(sets >= 0, np.exp(cosine - 1), 0)  # (N, M)
    weights /= weights.sum(axis=1, keepdims=True)
    if k2 > 1:
        sets, weights = _averaged(sets, weights, shortlists[:, : k2 - 1])
    columns = np.where(sets >= 0, sets, count)  # (N, M), the padding in a column of its own
    result = np.empty(shortlists[:, :depth].shape)
    for start in range(0, count, QUERIES_AT_ONCE):
        block = np.arange(start, min(start + QUERIES_AT_ONCE, count))
        dense = np.zeros((len(block), count + 1))
        dense[np.arange(len(block))[:, None], columns[block]] = weights[block]
        others = shortlists[block, :depth]  # (b, d)
        there = dense[np.arange(len(block))[:, None, None], columns[others]]  # (b, d, M)
        smaller = np.minimum(there, weights[others]).sum(axis=2)
        result[block] = smaller / (2 - smaller)  # both vectors have sum 1
    return result


def _averaged(sets: np.ndarray, weights: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sparse vectors (N, M) of each photo averaged with those of its neighbors `near` (N, k2 -
    1)."""
    group = np.concatenate([np.arange(len(sets))[:, None], near], axis=1)  # (N, k2)
    rows, values = [], []
    for members in group:
        there = sets[members] >= 0
        row, place = np.unique(sets[members][there], return_inverse=True)
        rows.append(row)
        values.append(np.bincount(place, weights=weights[members][there]) / len(members))
    padded = _padded(rows)
    result = np.zeros(padded.shape)
    result[padded >= 0] = np.concatenate(values)
    return padded, result


def k_reciprocal(
    features: np.ndarray, shortlists: np.ndarray, depth: int, k1: int, k2: int, share: float
) -> np.ndarray:
    """Score each shortlist by k-reciprocal encoding (Zhong et al., CVPR 2017), nearest highest.

    The score is minus the paper's distance: (1 - share) times the Jaccard distance plus share times the
    original one, here the cosine distance. The paper orders the whole gallery by it; here it only reorders
    the shortlist.

    Args:
        features, shortlists, depth, k1, k2: as for `reciprocal_similarity`.
        share: of the original distance; the paper calls it lambda.

    Returns:
        (N, depth) scores.
    """
    features = np.asarray(features, np.float32)
    cosine = np.einsum("qd,qkd->qk", features, features[shortlists[:, :depth]])
    common = reciprocal_similarity(features, shortlists, depth, k1, k2)
    return -(1 - share) * (1 - common) - share * (1 - cosine)


def choose_settings(
    score: Callable[..., np.ndarray],
    grid: dict[str, tuple[float, ...]],
    features: np.ndarray,
    shortlists: np.ndarray,
    labels: np.ndarray,
    depth: int,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the settings that give the best recall@1 on validation photos; at a tie the best MAP@R, then the
    first.

    An expansion by the first neighbor alone hardly moves recall@1: ties are common.

    Args:
        score: `query_expansion` or `k_reciprocal`.
        grid: name of a setting -> values to try; all combinations are.
        features, shortlists, depth: as `score` takes them, of the validation photos.
        labels: (N,) product of each validation photo.

    Returns:
        The chosen settings, and one row per combination: its settings, `R@1`, and `MAP@R` where the
            shortlists suffice for it.
    """
    rows, relevant = [], relevant_counts(labels)
    some = relevant > 0
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        order = reorder(shortlists, score(features, shortlists, depth, **settings))
        reached = per_query(hits(order, labels, labels)[some], relevant[some], ks=(1,))
        rows.append(settings | {name: reached[name].mean() for name in ("R@1", "MAP@R") if name in reached})
    best = max(rows, key=lambda row: (row["R@1"], row.get("MAP@R", 0.0)))
    return {name: best[name] for name in grid}, pd.DataFrame(rows)


def mutual_count(query: Tensor, gallery: Tensor) -> Tensor:
    """Return (B,) the number of places of two local feature maps (B, D, h, w) that are each other's best
    match."""
    return _mutual(query, gallery)[0].float().sum(dim=1)


def mutual_cosine(query: Tensor, gallery: Tensor) -> Tensor:
    """Return (B,) the mean cosine of the places of two maps (B, D, h, w) that are each other's best match.

    There always are some: the best pair of all.
    """
    mutual, best = _mutual(query, gallery)
    return (best * mutual).sum(dim=1) / mutual.sum(dim=1)


def _mutual(query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether each query place's best match has it as its best in turn, and their cosine: both (B,
    h*w)."""
    query = torch.nn.functional.normalize(query.flatten(2), dim=1)  # (B, D, h*w)
    gallery = torch.nn.functional.normalize(gallery.flatten(2), dim=1)
    with torch.autocast(query.device.type, enabled=False):  # three digits would make ties
        cosine = query.transpose(1, 2) @ gallery  # (B, h*w, h*w)
    best, there = cosine.max(dim=2)  # (B, h*w)
    back = cosine.argmax(dim=1).gather(1, there)  # (B, h*w)
    return back == torch.arange(cosine.shape[1], device=cosine.device), best
