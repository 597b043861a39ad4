"""What a notebook's tables say, in two sentences that hold for any run: every verdict comes from an
interval."""

import pandas as pd


def verdict(low: float, high: float) -> str:
    """Return "higher", "lower" or "no difference found", as an interval lies above zero, below it, or holds
    it."""
    if low <= 0 <= high:
        return "no difference found"
    return "higher" if low > 0 else "lower"


def _points(row: pd.Series) -> str:
    """Return a difference with its interval and verdict, as "+1.20 points (0.40 to 2.10), higher"."""
    low, high = 100 * row.low, 100 * row.high
    return f"{100 * row.difference:+.2f} points ({low:+.2f} to {high:+.2f}), {verdict(low, high)}"


def _listed(names: list[str]) -> str:
    """Return names as "a, b and c"; "none" for no name."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"


def co(table: pd.DataFrame, selection: pd.DataFrame) -> str:
    """Read what a reranker can win on CO, and what the published protocol adds to it.

    Args:
        table: metrics of CO, as of `tables.hit_table`.
        selection: as of `tables.selection_table`.
    """
    row = table[table.method == "CO"].iloc[0]
    last = [name for name in ("R@10", "R@100") if name in table][-1]
    first = (
        f"The first neighbor is right for {row['R@1']:.1%} of the queries and one of the first {last[2:]} for "
        f"{row[last]:.1%}: the {100 * (row[last] - row['R@1']):.1f} points between are what a reranker can win."
    )
    published = selection[selection.protocol == "as published"]
    if published.empty:
        return f"{first} What the published protocol adds was not run."
    return f"{first} Against the protocol clean, the published one gives {_points(published.iloc[0])}."


def reranking(table: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Read which steps of the published table hold here, and what the global score adds.

    Args:
        table: metrics of every way to rerank, as of `tables.hit_table`.
        differences: as of `tables.difference_table`.
    """
    steps = [("CO + RRT (frozen)", "CO"), ("CO + RRT (finetuned)", "CO + RRT (frozen)")]
    rows = differences[differences.metric == "R@1"].set_index(["method", "baseline"])
    read = [
        f"{method} against {baseline} {_points(rows.loc[(method, baseline)])}" for method, baseline in steps
    ]
    recall = table.set_index("method")["R@1"]
    alone, mixed = (recall[f"CO + RRT (finetuned){end}"] for end in ("", " + global score"))
    return (
        f"The two steps of the published table, in recall@1 here: {'; '.join(read)}. With the global score added, "
        f"recall@1 of CO + RRT (finetuned) goes from {alone:.1%} to {mixed:.1%}."
    )
