"""Exact search for nearest neighbors, and the order that scores give them."""

import numpy as np
import torch


def nearest_neighbors(
    queries: np.ndarray, k: int, gallery: np.ndarray | None = None, chunk: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k most similar gallery features of each query by cosine.

    Without a gallery the queries search among themselves, each leaving itself out by its row number, so that exact
    duplicates still find each other. Ties go to the smaller row.

    Args:
        queries: (Q, D) unit length.
        k: neighbors per query.
        gallery: (N, D) unit length, or None.
        chunk: queries per step; each step holds chunk x N similarities.

    Returns:
        Neighbors (Q, k) int64, rows of the gallery, and their similarities (Q, k) float32.

    Raises:
        ValueError: features are not finite, not of unit length or of different width, or k is too large.
    """
    alone = gallery is None
    base = queries if alone else gallery
    for name, features in (("query", queries), ("gallery", base)):
        if not np.isfinite(features).all():
            raise ValueError(f"some {name} features are not finite: extract them again")
        if abs(np.linalg.norm(features, axis=1) - 1).max(initial=0) > 1e-2:
            raise ValueError(f"some {name} features are not of unit length: normalize them first")
    if queries.shape[1] != base.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} numbers, the gallery {base.shape[1]}: use one model for both"
        )
    available = len(base) - alone
    if not 1 <= k <= available:
        raise ValueError(f"asked for {k} neighbors among {available}: choose k from 1 to {available}")
    everything = torch.from_numpy(np.array(base, dtype=np.float32))
    neighbors, similarities = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), chunk):
        part = torch.from_numpy(np.array(queries[start : start + chunk], dtype=np.float32))
        similarity = part @ everything.T  # (chunk, N)
        if alone:
            rows = torch.arange(len(part))
            similarity[rows, rows + start] = -torch.inf
        bar = similarity.topk(k, dim=1).values[:, -1:]
        for i, row in enumerate(similarity):
            candidates = torch.nonzero(row >= bar[i]).squeeze(1)  # all ties at the bar, rows ascending
            order = torch.sort(row[candidates], descending=True, stable=True)
            neighbors[start + i] = candidates[order.indices[:k]]
            similarities[start + i] = order.values[:k]
    return neighbors, similarities


def reorder(neighbors: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (Q, K) neighbors with the first d of each in the order of their (Q, d) scores, highest first.

    Equal scores keep their order; neighbors beyond d keep their places.
    """
    depth = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    result = np.array(neighbors)
    result[:, :depth] = np.take_along_axis(result[:, :depth], order, axis=1)
    return result
