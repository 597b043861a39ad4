"""What reranking moved: the right photos that rose and fell most, and pairs of photos to explain."""

import numpy as np
import pandas as pd

from waldo_utils import metrics


def rank_changes(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, count: int = 10
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tabulate the right photos that reranking brought up most, and those that it pushed down most.

    One row per product, its largest change, so that a single product does not fill the table.

    Args:
        before, after: (N, K) the same neighbors of each photo in two orders, rows of `labels`.
        labels: (N,) product of each photo.
        count: rows of each table at most; a photo that did not move is in neither.

    Returns:
        Two tables, up and down, largest change first: `query` and `neighbor` (rows of `labels`), `rank before` and
        `rank after` (from 1).

    Raises:
        ValueError: the two orders do not hold the same neighbors.
    """
    before, after = np.asarray(before), np.asarray(after)
    by_row, by_row_after = before.argsort(axis=1, kind="stable"), after.argsort(axis=1, kind="stable")
    rows = np.take_along_axis(before, by_row, axis=1)
    if not np.array_equal(rows, np.take_along_axis(after, by_row_after, axis=1)):
        raise ValueError("the two orders hold different neighbors: compare orders of one shortlist")
    queries, places = np.nonzero(metrics.hits(rows, labels, labels))
    table = pd.DataFrame(
        {
            "query": queries,
            "neighbor": rows[queries, places],
            "rank before": by_row[queries, places] + 1,
            "rank after": by_row_after[queries, places] + 1,
        }
    )
    rise = table["rank before"] - table["rank after"]
    sides = []
    for change in (rise, -rise):
        order = change[change > 0].sort_values(ascending=False, kind="stable").index
        side = table.loc[order]
        first = ~pd.Series(labels[side["query"]]).duplicated().to_numpy()
        sides.append(side[first].head(count).reset_index(drop=True))
    return sides[0], sides[1]


def pairs_to_explain(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, str]]:
    """Return pairs (query, neighbor, what it is) that tell why reranking chose as it did, as far as there are.

    The first answer of a query that reranking put right; that of a query that it put wrong; and, for the same query,
    the right photo that had been first.

    Args:
        before, after: (N, K) neighbors of each photo in two orders, rows of `labels`.
        labels: (N,) product of each photo.
    """
    pairs = []
    for query in metrics.gains(before, after, labels, count=2):
        first, old = int(after[query, 0]), int(before[query, 0])
        if labels[first] == labels[query]:
            rank = int(np.flatnonzero(before[query] == first)[0]) + 1
            pairs.append((query, first, f"right: brought up from rank {rank} to 1"))
        else:
            rank = int(np.flatnonzero(after[query] == old)[0]) + 1
            pairs.append((query, first, "wrong: another product, put first"))
            pairs.append((query, old, f"right, for the same query: pushed down from rank 1 to {rank}"))
    return pairs
