"""Exact search for nearest neighbors, and the order that scores give them."""

import numpy as np
import torch
from torch import Tensor

from waldo_utils.models.devices import linear

SPARE = 8  # candidates beyond the k-th: they show whether rounding could bring in yet another one
CHECKED_AT_ONCE = 100_000  # features; large galleries would need twice their memory
BLOCK = 64  # similarities whose maximum stands for them


def nearest_neighbors(
    queries: np.ndarray, k: int, gallery: np.ndarray | None = None, chunk: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k most similar gallery features of each query by cosine.

    Without a gallery the queries search among themselves, each leaving itself out by its row number, so that
    exact duplicates still find each other. Ties go to the smaller row.

    A matrix product rounds the similarity of a pair by the pair's place in it, and would break ties by
    chance. So it
    only finds the candidates, and a sum in one fixed order, which depends on the pair alone, ranks them: the
    result depends neither on the chunk nor on the number of threads.

    Args:
        queries: (Q, D) unit length.
        k: neighbors per query.
        gallery: (N, D) unit length, or None.
        chunk: queries per step; each step holds chunk x N similarities, which should fit the processor's
            cache.

    Returns:
        Neighbors (Q, k) int64, rows of the gallery, and their similarities (Q, k) float32.

    Raises:
        ValueError: features are not finite, not of unit length or of different width, or k is too large.
    """
    alone = gallery is None
    base = queries if alone else gallery
    check_features("query", queries)
    check_features("gallery", base)
    if queries.shape[1] != base.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} numbers, the gallery {base.shape[1]}: use one model for both"
        )
    available = len(base) - alone
    if not 1 <= k <= available:
        raise ValueError(f"asked for {k} neighbors among {available}: choose k from 1 to {available}")
    everything = torch.from_numpy(np.require(base, np.float32, ["C", "W"]))
    asking = everything if alone else torch.from_numpy(np.require(queries, np.float32, ["C", "W"]))
    neighbors, similarities = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    # Two ways to round D products and their sum differ by less than 2 * D * 2**-24 for features of unit
    # length.
    margin = 4 * (base.shape[1] + 2) * 2**-24
    for start in range(0, len(queries), chunk):
        part = asking[start : start + chunk]
        similarity = linear(part, everything)  # (b, N)
        if alone:
            rows = torch.arange(len(part))
            similarity[rows, rows + start] = -torch.inf
        bound, candidates = _largest(similarity, min(k + SPARE, available))  # (b, m)
        found, values = _rank(part, everything, candidates, k)
        if candidates.shape[1] < available:
            bar = bound[:, k - 1] - margin
            for i in torch.nonzero(bound[:, -1] >= bar).flatten().tolist():  # other rows may tie at the bar
                candidates = torch.nonzero(similarity[i] >= bar[i]).T  # (1, c), rows ascending
                found[i : i + 1], values[i : i + 1] = _rank(part[i : i + 1], everything, candidates, k)
        neighbors[start : start + chunk], similarities[start : start + chunk] = found, values
    return neighbors, similarities


def nearest_within(
    features: np.ndarray, k: int, sets: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k most similar features of each among those of its own set; see `nearest_neighbors`.

    Args:
        features: (N, D) unit length.
        k: neighbors of each; fewer where the smallest set has no more.
        sets: (N,) the set that each belongs to; None: all belong to one.

    Returns:
        Neighbors (N, K) int64, rows of `features`, and their similarities (N, K) float32.
    """
    sets = np.zeros(len(features), dtype=int) if sets is None else sets
    names, sizes = np.unique(sets, return_counts=True)
    k = min(k, int(sizes.min()) - 1)
    neighbors, similarities = np.empty((len(sets), k), np.int64), np.empty((len(sets), k), np.float32)
    for name in names:
        rows = np.flatnonzero(sets == name)
        found, similarities[rows] = nearest_neighbors(features[rows], k)
        neighbors[rows] = rows[found]
    return neighbors, similarities


def unit(features: np.ndarray) -> np.ndarray:
    """Return (N, D) features in float32 and of unit length."""
    features = np.asarray(features, np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def check_features(name: str, features: np.ndarray) -> None:
    """Refuse features that a search by cosine cannot rank; `name` says whose they are.

    Raises:
        ValueError: features (N, D) are not finite, or not of unit length.
    """
    for start in range(0, len(features), CHECKED_AT_ONCE):
        part = features[start : start + CHECKED_AT_ONCE]
        if not np.isfinite(part).all():
            raise ValueError(f"some {name} features are not finite: extract them again")
        if abs(np.linalg.norm(part, axis=1) - 1).max(initial=0) > 1e-2:
            raise ValueError(f"some {name} features are not of unit length: normalize them first")


def _largest(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return `topk(count)` of (b, N) similarities: values and columns, each (b, count), the largest first.

    The largest ones lie in the `count` blocks of largest maxima, so only these blocks and the columns beyond
    the last whole block are sorted.
    """
    blocks = similarity.shape[1] // BLOCK
    if blocks <= count:
        return similarity.topk(count, dim=1)
    whole = similarity[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK))  # (b, blocks, BLOCK)
    best = whole.amax(dim=2).topk(count, dim=1, sorted=False).indices  # (b, count)
    inside = whole.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)  # (b, count * BLOCK)
    values, places = torch.cat([inside, similarity[:, blocks * BLOCK :]], dim=1).topk(count, dim=1)
    block = best.gather(1, (places // BLOCK).clamp(max=count - 1))
    tail = places - count * BLOCK + blocks * BLOCK
    return values, torch.where(places < count * BLOCK, block * BLOCK + places % BLOCK, tail)


def _rank(queries: Tensor, gallery: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k most similar of each query's candidates (b, c), and their similarities, each (b, k).

    Every pair's products are summed in the same order; equal similarities go to the smaller row.
    """
    rows = candidates.sort(dim=1).values
    features = gallery.index_select(0, rows.flatten()).view(*rows.shape, -1)  # (b, c, D)
    exact = features.mul_(queries[:, None]).sum(dim=2)  # (b, c)
    values, order = exact.sort(dim=1, descending=True, stable=True)
    return rows.gather(1, order[:, :k]), values[:, :k]


def reorder(neighbors: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (Q, K) neighbors with the first d of each in the order of their (Q, d) scores, highest first.

    Equal scores keep their order; neighbors beyond d keep their places.
    """
    depth = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    result = np.array(neighbors)
    result[:, :depth] = np.take_along_axis(result[:, :depth], order, axis=1)
    return result
