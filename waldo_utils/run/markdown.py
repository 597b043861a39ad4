"""Result tables as Markdown: per cent with intervals, what is constant said once below."""

import re

import pandas as pd

RULE = "|---"
# Columns of counts and of protocol: where all rows agree they are said once, in words, below the table.
COUNTS = {
    "queries": "{:,} queries",
    "products": "{:,} products",
    "seeds": "{:,} seed{}",
    "left out": "{:,} queries left out",
    "protocol": 'protocol "{}"',
}
FRACTIONS = (
    r"@|^(AUROC|true accept|.*false accept|.*false reject|mean error|share|.* accuracy|accepted and right)$"
)


def rows(heads: list[str], cells: list[list[str]]) -> str:
    """Return a Markdown table; a bar within a cell would end it and is escaped."""
    lines = [heads, *cells]
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([lines[0], RULE * len(heads) + "|", *lines[1:]])


def table(frame: pd.DataFrame) -> str:
    """Return a result table as Markdown.

    Fractions are in per cent; a figure with neighbors `... low` and `... high` takes them in as its 95 %
    interval, and a `difference` stands in points with its sign. Missing figures are "not run".
    """
    frame = frame.rename(columns=lambda name: re.sub(r"_(?=low$|high$|accept|reject)", " ", name))
    if frame.empty:
        return "Empty."
    said = {name: frame[name].iloc[0] for name in COUNTS if name in frame and frame[name].nunique() == 1}
    bounds = {name: (f"{name} low", f"{name} high") for name in frame} | {"difference": ("low", "high")}
    bounds = {name: pair for name, pair in bounds.items() if {name, *pair} <= set(frame)}
    taken = {name for pair in bounds.values() for name in pair}
    columns = [name for name in frame if name not in taken and name not in said]
    heads = [f"{name}, points" if name == "difference" else name for name in columns]
    cells = [
        [
            (difference if name == "difference" else interval)(row, name, bounds[name])
            if name in bounds
            else plain(row[name], name)
            for name in columns
        ]
        for _, row in frame.iterrows()
    ]
    # A narrow column breaks before an interval, not within it.
    cells = [[cell.replace("–", "–&NoBreak;") for cell in line] for line in cells]
    notes = [
        COUNTS[name].format(value, "" if value == 1 else "s") for name, value in said.items() if value != 0
    ]
    return rows(heads, cells) + (f"\n\n{', '.join(notes)}." if notes else "")


def interval(row: pd.Series, name: str, bounds: tuple[str, str] | None = None) -> str:
    """Return "54.1 (50.9–57.3)" in per cent, or "not run" where the figure is missing."""
    if name not in row or pd.isna(row[name]):
        return "not run"
    low, high = (row[bound] for bound in bounds or (f"{name} low", f"{name} high"))
    return f"{100 * row[name]:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def difference(row: pd.Series, name: str = "difference", bounds: tuple[str, str] = ("low", "high")) -> str:
    """Return "+1.70 (+0.59 to +2.83)", in points of per cent."""
    if pd.isna(row[name]):
        return "not run"
    low, high = (row[bound] for bound in bounds)
    return f"{100 * row[name]:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def plain(value: object, name: str = "") -> str:
    """Return a single value: a fraction in per cent where the column's name says so, else three digits."""
    value = getattr(value, "item", lambda: value)()  # numpy's numbers to Python's
    if value is None or value != value:
        return "not run"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and re.search(FRACTIONS, name):
        return f"{100 * value:.1f}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
