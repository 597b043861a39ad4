"""Write the tables of results/ into the README, between markers, so that no figure in it is typed."""

import sys
from pathlib import Path

import pandas as pd

from waldo_utils import results
from waldo_utils.artifacts import load_table
from waldo_utils.study import PROFILES

SHOWN = ("mini", "grocery", "paper")


def main_table() -> str:
    """Return the reported figures beside each profile's, in per cent; profiles without results are "not run"."""
    rows = [
        "| Method | reported on SOP, R@1 / R@10 / R@100 | " + " | ".join(f"`{name}`" for name in SHOWN) + " |"
    ]
    rows.append("|---" * (2 + len(SHOWN)) + "|")
    tables = {name: _table(name, "main") for name in SHOWN}
    for _, reported in results.REPORTED.iterrows():
        cells = [reported.method, _recalls(reported)]
        for table in tables.values():
            found = table[table.method == reported.method] if table is not None else []
            cells.append(_with_interval(found.iloc[0]) if len(found) else "not run")
        rows.append("| " + " | ".join(cells) + " |")
    notes = [
        f"`{name}`: {PROFILES[name].summary.split(',')[0]}; {int(table.queries.iloc[0]):,} queries of "
        f"{int(table.products.iloc[0])} products, {int(table.seeds.iloc[0])} seeds."
        for name, table in tables.items()
        if table is not None
    ]
    return "\n".join(rows) + "\n\n" + " ".join(notes) + " R@1 with its 95 % interval over products."


def other_tables(name: str) -> str:
    """Return the rerankings and the paired differences of one profile."""
    rerankings, differences = _table(name, "rerankings"), _table(name, "differences")
    if rerankings is None or differences is None:
        return "not run"
    rows = ["| Order of the same shortlist | R@1 / R@10 / R@100 |", "|---|---|"]
    rows += [f"| {row.method} | {_with_interval(row)} |" for _, row in rerankings.iterrows()]
    rows += ["", "| Paired difference of R@1 | points, 95 % interval |", "|---|---|"]
    for row in differences.itertuples():
        interval = f"{100 * row.difference:+.2f} ({100 * row.low:+.2f} to {100 * row.high:+.2f})"
        rows.append(f"| {row.method} minus {row.baseline} | {interval} |")
    return "\n".join(rows)


def update(path: Path, check: bool = False) -> int:
    """Replace each marked block of the README by its table; with `check` only compare. Returns 0, or 1 if they differ.

    Raises:
        ValueError: a marker is missing.
    """
    text = path.read_text()
    blocks = {"main": main_table(), "mini": other_tables("mini"), "grocery": other_tables("grocery")}
    updated = text
    for name, table in blocks.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start not in updated or end not in updated:
            raise ValueError(f"{path} lacks the markers {start} and {end}: put them around the table")
        before, rest = updated.split(start)
        updated = f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}"
    if check:
        print(
            "the README agrees with results/" if updated == text else "the README differs from results/",
            file=sys.stderr,
        )
        return int(updated != text)
    path.write_text(updated)
    return 0


def _table(profile: str, name: str) -> pd.DataFrame | None:
    try:
        return load_table(PROFILES[profile], name)
    except FileNotFoundError:
        return None


def _recalls(row: pd.Series) -> str:
    return " / ".join(f"{100 * row[f'R@{k}']:.1f}" for k in (1, 10, 100) if f"R@{k}" in row)


def _with_interval(row: pd.Series) -> str:
    others = " / ".join(f"{100 * row[f'R@{k}']:.1f}" for k in (10, 100) if f"R@{k}" in row)
    return f"**{100 * row['R@1']:.1f}** ({100 * row['R@1 low']:.1f}–{100 * row['R@1 high']:.1f}) / {others}"
