"""Retrieval metrics and their intervals (numpy only). Metrics are fractions in [0, 1].

Throughout, `neighbors` (Q, K) are rows of the gallery, nearest first, the query itself left out where it is
in the gallery; `hits` (Q, K) says which of them show the query's product, and `relevant` (Q,) how many photos
of it there are to find (R), the query itself not counted. Every metric is a mean over queries that have
anything to find.
"""

from collections.abc import Iterator

import numpy as np


def hits(neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """Return (Q, K) bool: whether neighbor k of query q shows the query's product."""
    return gallery_labels[np.asarray(neighbors)] == query_labels[:, None]


def hits_without_copies(
    neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, copies: np.ndarray
) -> np.ndarray:
    """Return (Q, K) bool as `hits` does, as if a query's exact duplicates were not in the gallery.

    Args:
        neighbors: (Q, K) rows of the gallery; query q is row q of it.
        query_labels, gallery_labels: (Q,) product of each.
        copies: (Q,) equal numbers for photos of equal bytes (see `manifests.copy_groups`).
    """
    neighbors = np.asarray(neighbors)
    copy = copies[neighbors] == copies[:, None]  # (Q, K)
    order = np.argsort(copy, axis=1, kind="stable")  # the others move up, the copies go to the end
    found = hits(neighbors, query_labels, gallery_labels) & ~copy
    return np.take_along_axis(found, order, axis=1)


def relevant_counts(query_labels: np.ndarray, gallery_labels: np.ndarray | None = None) -> np.ndarray:
    """Return (Q,) R: photos of each query's product in the gallery; without one, among the other queries."""
    gallery = query_labels if gallery_labels is None else gallery_labels
    products, counts = np.unique(gallery, return_counts=True)
    place = np.searchsorted(products, query_labels).clip(max=len(products) - 1)
    found = np.where(products[place] == query_labels, counts[place], 0)
    return found - (gallery_labels is None)


def relevant_without_copies(labels: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Return (Q,) R among the other queries, exact duplicates of the query not counted."""
    same = np.unique(np.stack([labels, copies], axis=1), axis=0, return_inverse=True)[1].ravel()
    return relevant_counts(labels) - relevant_counts(same)


def self_by_row(neighbors: np.ndarray) -> np.ndarray:
    """Return (Q, K) neighbors of a search (Q, K + 1) that finds the query itself, left out by its row number.

    Query q is row q of the gallery. Where it is not in its list, because duplicates of it fill the list, the
    last goes.
    """
    neighbors = np.asarray(neighbors)
    itself = neighbors == np.arange(len(neighbors))[:, None]
    order = np.argsort(itself, axis=1, kind="stable")  # itself last
    return np.take_along_axis(neighbors, order, axis=1)[:, :-1]


def self_by_position(neighbors: np.ndarray) -> np.ndarray:
    """Return (Q, K) neighbors of a search (Q, K + 1) that finds the query itself, left out by position, as
    published.

    The first column goes, whatever it holds. Where it holds a duplicate of the query, the query stays in its
    own list.
    """
    return np.asarray(neighbors)[:, 1:]


def recall_at_k(neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, k: int) -> float:
    """Return the share of queries with a photo of their product among the first k neighbors (Oh Song et al.,
    2016).

    Raises:
        ValueError: there are fewer than k neighbors per query.
    """
    if neighbors.shape[1] < k:
        raise ValueError(
            f"recall@{k} needs {k} neighbors per query, got {neighbors.shape[1]}: search for more"
        )
    return float(hits(neighbors[:, :k], query_labels, gallery_labels).any(axis=1).mean())


def average_precision_at_r(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return (Q,) average precision at R, whose mean is MAP@R (Musgrave et al., ECCV 2020).

    For a query with R photos to find: 1/R times the sum over ranks i to R of precision@i where rank i is a
    hit, else 0. Hits beyond rank R do not count. A query without anything to find has none (NaN).

    Args:
        hits: (Q, K) bool.
        relevant: (Q,) R.

    Raises:
        ValueError: a query has more to find than it has neighbors.
    """
    if relevant.max() > hits.shape[1]:
        raise ValueError(
            f"MAP@R needs {relevant.max()} neighbors per query, got {hits.shape[1]}: search for more"
        )
    within = np.arange(1, hits.shape[1] + 1) <= relevant[:, None]
    return _summed_precision(hits & within) / np.where(relevant > 0, relevant, np.nan)


def average_precision_at_k(hits: np.ndarray, relevant: np.ndarray, k: int = 100) -> np.ndarray:
    """Return (Q,) average precision of the first k neighbors, whose mean is mAP@k (Weyand et al., CVPR 2020).

    1 / min(R, k) times the sum over ranks i to k of precision@i where rank i is a hit, else 0: dividing by
    the most that can be found, a perfect order has 1. A query without anything to find has none (NaN).

    Args:
        hits: (Q, K) bool.
        relevant: (Q,) R.
        k: neighbors that count.

    Raises:
        ValueError: there are fewer than k neighbors per query.
    """
    if hits.shape[1] < k:
        raise ValueError(f"mAP@{k} needs {k} neighbors per query, got {hits.shape[1]}: search for more")
    best = np.minimum(relevant, k)
    return _summed_precision(hits[:, :k]) / np.where(best > 0, best, np.nan)


def _summed_precision(counted: np.ndarray) -> np.ndarray:
    """Return (Q,) sum of precision@i over the ranks i that are hits."""
    precision = counted.cumsum(axis=1) / np.arange(1, counted.shape[1] + 1)
    return (precision * counted).sum(axis=1)


def per_query(
    hits: np.ndarray, relevant: np.ndarray, ks: tuple[int, ...] = (1, 10, 100)
) -> dict[str, np.ndarray]:
    """Return the metrics of each query, by name: `R@k`, `MAP@R` and `mAP@100`, those that K neighbors suffice
    for.

    Args:
        hits: (Q, K) bool.
        relevant: (Q,) R.
        ks: the cut-offs of recall.

    Returns:
        Name -> (Q,) values, NaN for queries without anything to find.
    """
    nothing, shown = np.where(relevant > 0, 0.0, np.nan), hits.shape[1]
    values = {f"R@{k}": hits[:, :k].any(axis=1) + nothing for k in ks if k <= shown}
    if relevant.max() <= shown:
        values["MAP@R"] = average_precision_at_r(hits, relevant)
    if shown >= 100:
        values["mAP@100"] = average_precision_at_k(hits, relevant)
    return values


# ---------------------------------------------------------------- intervals


def product_draws(products: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw products with replacement, as many as there are, and count them.

    The same arguments give the same draws, which pairs all metrics and methods of the same queries.

    Args:
        products: number of products P.
        resamples: number of resamples.
        seed: of the draws.

    Yields:
        (b, P) float64: how often each product was drawn in each of the next b resamples.
    """
    rng, at_once = np.random.default_rng(seed), max(1, 2_000_000 // products)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = rng.integers(products, size=(count, products), dtype=np.int32)
        drawn += np.arange(count, dtype=np.int32)[:, None] * products  # place in the (b, P) table
        yield np.bincount(drawn.ravel(), minlength=count * products).reshape(count, products).astype(float)


def bootstrap_means(
    values: np.ndarray, products: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return the means over queries of resampled products (Efron and Tibshirani, 1993; cluster bootstrap).

    The queries of one product are not independent, so whole products are drawn with replacement.

    Args:
        values: (Q, M) M values of each query, for example several metrics and methods; all share the draws.
        products: (Q,) product of each query.
        resamples: number of resamples.
        seed: of the draws.

    Returns:
        (resamples, M) float64.

    Raises:
        ValueError: a value is not finite.
    """
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        raise ValueError("some values are not finite: leave out the queries without anything to find")
    _, index = np.unique(products, return_inverse=True)
    counts = np.bincount(index).astype(float)
    sums = np.stack([*(np.bincount(index, weights=column) for column in values.T), counts], axis=1)
    drawn = np.concatenate([draw @ sums for draw in product_draws(len(counts), resamples, seed)])
    return drawn[:, :-1] / drawn[:, -1:]


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper bounds (M,) that hold the middle `level` of the draws (B, M)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def bootstrap_interval(
    values: np.ndarray, products: np.ndarray, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap intervals of means over queries: lower and upper bounds (M,).

    A paired difference is a column like any other: pass `after - before` of the same queries. The arguments
    are those of `bootstrap_means` and `percentile_interval`.
    """
    return percentile_interval(bootstrap_means(values, products, resamples, seed), level)


# ---------------------------------------------------------------- queries to look at


def first_misses(
    neighbors: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, count: int
) -> list[int]:
    """Return rows of up to `count` queries whose first neighbor is wrong, of different products, spread over
    the list."""
    wrong = np.flatnonzero(~hits(neighbors[:, :1], query_labels, gallery_labels)[:, 0])
    _, first = np.unique(query_labels[wrong], return_index=True)
    rows = wrong[np.sort(first)]
    return (
        rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)].tolist() if len(rows) else []
    )


def gains(before: np.ndarray, after: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """Return rows of queries that an order changed: half of them won (wrong to right), half lost, as far as
    there are."""
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
