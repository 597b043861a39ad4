"""Write the tables of results/ into the README, between markers, so that no figure in it is typed."""

import sys
from pathlib import Path

import pandas as pd

from waldo_utils.disk.artifacts import load_table, write_atomically
from waldo_utils.evaluation import reported
from waldo_utils.experiments import benchmark
from waldo_utils.study import PROFILES

SHOWN = ("mini", "grocery", "paper")


def main_table() -> str:
    """Return the reported figures beside each profile's, in per cent; profiles without results are "not
    run"."""
    rows = [
        "| Method | reported on SOP, R@1 / R@10 / R@100 | " + " | ".join(f"`{name}`" for name in SHOWN) + " |"
    ]
    rows.append("|---" * (2 + len(SHOWN)) + "|")
    mains = {name: _table(name, "main") for name in SHOWN}
    for _, row in reported.REPORTED.iterrows():
        cells = [row.method, _recalls(row)]
        for table in mains.values():
            found = table[table.method == row.method] if table is not None else []
            cells.append(_with_interval(found.iloc[0]) if len(found) else "not run")
        rows.append("| " + " | ".join(cells) + " |")
    notes = [
        f"`{name}`: {PROFILES[name].summary}; {int(table.queries.iloc[0]):,} queries of "
        f"{int(table.products.iloc[0])} products, {int(table.seeds.iloc[0])} seeds."
        for name, table in mains.items()
        if table is not None
    ]
    return (
        "\n".join(rows)
        + "\n\n"
        + " ".join(notes)
        + ' R@1 with its 95 % interval over products; protocol "clean": validation products choose the '
        "epoch, the query is left out by its row number."
    )


def other_tables(name: str) -> str:
    """Return the rerankings, the paired differences, the two protocols and the unknown products of one
    profile."""
    rerankings, differences, selection, openset = (
        _table(name, table) for table in ("rerankings", "differences", "selection", "openset")
    )
    if any(table is None for table in (rerankings, differences, selection, openset)):
        return "not run"
    rows = ["| Order of the same shortlist | R@1 / R@10 / R@100 | MAP@R | mAP@100 |", "|---|---|---|---|"]
    for _, row in rerankings.iterrows():
        precision = " | ".join(_bounded(row, key) for key in ("MAP@R", "mAP@100"))
        rows.append(f"| {row.method} | {_with_interval(row)} | {precision} |")
    compared = list(dict.fromkeys(differences.metric))
    rows += ["", "| Paired difference, points (95 % interval) | " + " | ".join(compared) + " |"]
    rows.append("|---" * (1 + len(compared)) + "|")
    for (method, baseline), pair in differences.groupby(["method", "baseline"], sort=False):
        cells = [_difference(row) for row in pair.itertuples()]
        rows.append(f"| {method} minus {baseline} | " + " | ".join(cells) + " |")
    rows += ["", '| CO by protocol | epoch chosen on | query left out by | R@1 | minus "clean", points |']
    rows.append("|---|---|---|---|---|")
    for _, row in selection.iterrows():
        cells = (row.protocol, row["epoch chosen on"], row["query left out by"], _bounded(row, "R@1"))
        difference = "" if row.protocol == "clean" else _difference(row)
        rows.append("| " + " | ".join((*cells, difference)) + " |")
    rows += [
        "",
        "| Is the product in the gallery? | AUROC | true accept | false accept |",
        "|---|---|---|---|",
    ]
    for _, row in openset.iterrows():
        cells = (_bounded(row, key) for key in ("AUROC", "true accept", "false accept"))
        rows.append(f"| {row.method} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def speed_table(folder: Path = benchmark.FOLDER) -> str:
    """Return what `benchmark --full` measured of reranking, and what the precisions change in each
    profile."""
    speeds, facts = benchmark.kept("speed_reranking", folder)
    searches, _ = benchmark.kept("speed_search", folder)
    if not facts:
        return "not run"
    changes = {name: _table(name, "precision") for name in SHOWN}
    changes = {name: table.set_index("method") for name, table in changes.items() if table is not None}
    heads = [f"other first neighbor, R@1, R@10: `{name}`" for name in changes]
    size = speeds["size"].iloc[0]
    rows = [
        f"| Reranking, {size} | pairs at once | times as fast | share of the matrix rate | memory | "
        + " | ".join(heads)
        + " |"
    ]
    rows.append("|---" * (5 + len(changes)) + "|")
    for _, row in speeds[(speeds["size"] == size) & speeds.ratio.notna()].iterrows():
        cells = [row.method, f"{row['pairs at once']:,.0f}", f"{row.ratio:.1f}"]
        cells += [f"{100 * row['share of matrix rate']:.0f} %", f"{row['peak MB']:,.0f} MB"]
        for table in changes.values():
            found = table.loc[row.method.removeprefix("scorer ")] if row.method.startswith("scorer") else None
            cells.append(
                "" if found is None else f"{100 * found['changed@1']:.1f} %, {_recalls(found, (1, 10))}"
            )
        rows.append("| " + " | ".join(cells) + " |")
    last = searches.iloc[-1]
    return "\n".join(rows) + (
        f"\n\nMedians of turns in one run: {facts['processor']}, {facts['threads']} threads, torch "
        f"{facts['torch']}, "
        f"{str(facts['date'])[:10]}. Exact search of {last.photos:,.0f} photos among themselves, 101 "
        f"neighbors: {last.seconds:.1f} s and {last['peak MB']:,.0f} MB."
    )


def memory_table(folder: Path = benchmark.FOLDER) -> str:
    """Return the peak memory of each stage that `make memory` measured, by the number of photos."""
    table, facts = benchmark.kept("memory", folder)
    if not facts:
        return "not run"
    grown = table[table.groupby("stage").scale.transform("count") > 1]
    peaks = grown.pivot(index="stage", columns="photos", values="peak MB").loc[grown.stage.unique()]
    rows = ["| Peak memory, MB | " + " | ".join(f"{photos:,} photos" for photos in peaks.columns) + " |"]
    rows.append("|---" * (1 + len(peaks.columns)) + "|")
    for stage, row in peaks.iterrows():
        rows.append(f"| {stage} | " + " | ".join(f"{value:,.0f}" for value in row) + " |")
    lines = [f"Of each figure, {table['imports MB'].median():,.0f} MB are Python with its libraries."]
    for _, row in table[~table.stage.isin(peaks.index)].iterrows():
        lines.append(
            f"{row.stage[0].upper()}{row.stage[1:]}: {row.photos:,} photos, {row['features MB']:,.0f} MB "
            f"of features, {row['peak MB']:,.0f} MB at the peak, mapped files counted."
        )
    return "\n".join(rows) + "\n\n" + " ".join(lines)


def update(path: Path, check: bool = False) -> int:
    """Replace each marked block of the README by its table; with `check` only compare. Returns 0, or 1 if
    they differ.

    Raises:
        ValueError: a marker is missing.
    """
    text = path.read_text()
    blocks = {"main": main_table(), "speed": speed_table(), "memory": memory_table()}
    blocks |= {name: other_tables(name) for name in ("mini", "grocery")}
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
    write_atomically(path, lambda partial: partial.write_text(updated))
    return 0


def _table(profile: str, name: str) -> pd.DataFrame | None:
    try:
        return load_table(PROFILES[profile], name)
    except FileNotFoundError:
        return None


def _recalls(row: pd.Series, ks: tuple[int, ...] = (1, 10, 100)) -> str:
    return " / ".join(f"{100 * row[f'R@{k}']:.1f}" for k in ks if f"R@{k}" in row)


def _with_interval(row: pd.Series) -> str:
    others = " / ".join(f"{100 * row[f'R@{k}']:.1f}" for k in (10, 100) if f"R@{k}" in row)
    return f"{_bounded(row, 'R@1', bold=True)} / {others}"


def _bounded(row: pd.Series, key: str, bold: bool = False) -> str:
    """Return "54.1 (50.9–57.3)", or "not run" where the table lacks the figure."""
    if key not in row or pd.isna(row[key]):
        return "not run"
    value = f"{100 * row[key]:.1f}"
    return (
        f"{f'**{value}**' if bold else value} ({100 * row[f'{key} low']:.1f}–{100 * row[f'{key} high']:.1f})"
    )


def _difference(row) -> str:
    return f"{100 * row.difference:+.2f} ({100 * row.low:+.2f} to {100 * row.high:+.2f})"
