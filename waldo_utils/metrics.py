"""Retrieval metrics and their intervals (numpy only). Metrics are fractions in [0, 1].

Throughout, `neighbors` (Q, K) are rows of the gallery, nearest first, the query itself left out where it is in the gallery.
"""

import numpy as np


def hits(neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """Return (Q, K) bool: whether neighbor k of query q shows the query's product."""
    return gallery_labels[np.asarray(neighbors)] == query_labels[:, None]


def recall_at_k(neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, k: int) -> float:
    """Return the share of queries with a photo of their product among the first k neighbors (Oh Song et al., 2016).

    Raises:
        ValueError: there are fewer than k neighbors per query.
    """
    if neighbors.shape[1] < k:
        raise ValueError(
            f"recall@{k} needs {k} neighbors per query, got {neighbors.shape[1]}: search for more"
        )
    return float(hits(neighbors[:, :k], query_labels, gallery_labels).any(axis=1).mean())


def map_at_r(
    neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, relevant: np.ndarray
) -> float:
    """Return MAP@R (Musgrave et al., ECCV 2020), over queries that have anything to find.

    For a query with R photos to find: the mean over ranks i to R of precision@i where rank i is a hit, else 0.

    Args:
        relevant: (Q,) R of each query, the query itself not counted.

    Raises:
        ValueError: a query has more to find than it has neighbors.
    """
    if relevant.max() > neighbors.shape[1]:
        raise ValueError(
            f"MAP@R needs {relevant.max()} neighbors per query, got {neighbors.shape[1]}: search for more"
        )
    hit = hits(neighbors, query_labels, gallery_labels)
    ranks = np.arange(1, hit.shape[1] + 1)
    precision = hit.cumsum(axis=1) / ranks
    counted = hit & (ranks <= relevant[:, None])
    some = relevant > 0
    return float(((precision * counted).sum(axis=1)[some] / relevant[some]).mean())


def bootstrap_interval(
    per_query: np.ndarray, products: np.ndarray, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over queries, resampling products.

    The queries of one product are not independent, so whole products are drawn with replacement.

    Args:
        per_query: (Q,) value of each query, for example 1.0 where its first neighbor is right.
        products: (Q,) product of each query.
        resamples: number of resamples.
        seed: of the draws.
        level: of the interval.
    """
    _, index = np.unique(products, return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(per_query, float))
    counts = np.bincount(index).astype(float)
    rng, means, at_once = np.random.default_rng(seed), [], max(1, 4_000_000 // len(counts))
    for start in range(0, resamples, at_once):
        drawn = rng.multinomial(
            len(counts), np.full(len(counts), 1 / len(counts)), size=min(at_once, resamples - start)
        )
        means.append((drawn @ sums) / (drawn @ counts))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_interval(
    before: np.ndarray,
    after: np.ndarray,
    products: np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of `after - before` over the same queries; see `bootstrap_interval`."""
    return bootstrap_interval(
        np.asarray(after, float) - np.asarray(before, float), products, resamples, seed, level
    )


def first_misses(
    neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, count: int
) -> list[int]:
    """Return rows of up to `count` queries whose first neighbor is wrong, of different products, spread over the list."""
    wrong = np.flatnonzero(~hits(neighbors[:, :1], query_labels, gallery_labels)[:, 0])
    _, first = np.unique(query_labels[wrong], return_index=True)
    rows = wrong[np.sort(first)]
    return (
        rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)].tolist() if len(rows) else []
    )


def gains(before: np.ndarray, after: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """Return rows of queries that an order changed: half of them won (wrong to right), half lost, as far as there are."""
    was, now = (hits(order[:, :1], labels, labels)[:, 0] for order in (before, after))
    won, lost = np.flatnonzero(~was & now), np.flatnonzero(was & ~now)
    half = min(count // 2, len(lost))
    chosen_won = (
        won[np.linspace(0, len(won) - 1, min(count - half, len(won))).astype(int)] if len(won) else []
    )
    chosen_lost = lost[np.linspace(0, len(lost) - 1, half).astype(int)] if half else []
    return [*map(int, chosen_won), *map(int, chosen_lost)]


def best_and_worst(
    neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, count: int
) -> tuple[list[int], list[int]]:
    """Return rows of the `count` queries with the most and the fewest hits among their first five neighbors.

    Among equals, one query per product, in the order of the queries.
    """
    score = hits(neighbors[:, :5], query_labels, gallery_labels).sum(axis=1)

    def first_of_products(order: np.ndarray) -> list[int]:
        _, first = np.unique(query_labels[order], return_index=True)
        return order[np.sort(first)][:count].tolist()

    return first_of_products(np.argsort(-score, kind="stable")), first_of_products(
        np.argsort(score, kind="stable")
    )
