"""What reranking moved: the right photos that rose and fell most, and pairs of photos to explain."""

import numpy as np
import pandas as pd

from waldo_utils.evaluation import metrics


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
        Two tables, up and down, largest change first: `query` and `neighbor` (rows of `labels`), `rank
        before` and `rank after` (from 1).

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
    """Return pairs (query, neighbor, what it is) that tell why reranking chose as it did, as far as there
    are.

    The right photo that reranking brought to rank 1 from furthest below; the wrong one that it put in the
    place of a right one that it pushed down furthest; and, for the same query, that right one.

    Args:
        before, after: (N, K) neighbors of each photo in two orders, rows of `labels`.
        labels: (N,) product of each photo.
    """
    before, after = np.asarray(before), np.asarray(after)
    was, now = (metrics.hits(order[:, :1], labels, labels)[:, 0] for order in (before, after))
    old = (before == after[:, :1]).argmax(axis=1) + 1  # rank before of what is first now
    new = (after == before[:, :1]).argmax(axis=1) + 1  # rank after of what was first
    pairs = []
    if (~was & now).any():
        query = int(np.where(~was & now, old, 0).argmax())
        pairs.append((query, int(after[query, 0]), f"right: brought up from rank {old[query]} to 1"))
    if (was & ~now).any():
        query = int(np.where(was & ~now, new, 0).argmax())
        pairs.append((query, int(after[query, 0]), "wrong: another product, put first"))
        title = f"right, for the same query: pushed down from rank 1 to {new[query]}"
        pairs.append((query, int(before[query, 0]), title))
    return pairs
