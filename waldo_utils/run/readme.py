"""Write what is measured into the README, between markers, so that no figure in it is typed."""

import ast
from pathlib import Path

import nbformat
import pandas as pd

from waldo_utils.disk.artifacts import load_table
from waldo_utils.evaluation import reported
from waldo_utils.run import markdown, pipeline, resources
from waldo_utils.study import ROOT, find_profile

SHOWN = ("photos", "mini", "paper")  # the profiles that the README shows
MORE_SEEDS = {"mini": "mini@3"}
# Whose results are kept with the project.
KEPT = tuple(kept for name in SHOWN for kept in (name, MORE_SEEDS.get(name)) if kept)
UNTRAINED = "ImageNet, nothing trained"
FIRST_SCREEN = (  # the methods that the first screen shows; the pages of the results have all
    UNTRAINED,
    "ImageNet + local matching",
    "CO",
    "CO + local matching",
    "CO + RRT (frozen)",
    "CO + RRT (finetuned)",
)
ROOMS = (
    "engines", "own", "app", "run", "speed", "experiments", "training", "figures", "retrieval", "data",
    "miniature", "evaluation", "models", "disk",
)  # fmt: skip
"""The rooms of the package, from the top: each may import from those below it."""


def blocks() -> dict[str, str]:
    """Return the text of each marked block of the README by its name."""
    return {
        "main": main_table(),
        "profiles": profile_table(),
        "notebooks": notebook_list(),
        "rooms": room_list(),
    }


def filled(text: str, path: Path) -> str:
    """Return the README's text with each marked block renewed.

    Raises:
        ValueError: a marker is missing.
    """
    for name, block in blocks().items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"{path} lacks the markers {start} and {end}: put them around the table")
        before, rest = text.split(start)
        text = f"{before}{start}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def main_table() -> str:
    """Return the reported figures beside those of each profile that ran, in per cent, and what the gains
    are."""
    mains = {name: find_table(name, "main") for name in SHOWN}
    ran = {name: table for name, table in mains.items() if table is not None}
    heads = ["Recall@1, %", "reported"] + [f"[`{name}`](results/{name})" for name in ran]
    cells = []
    known = reported.REPORTED.set_index("method")
    for method in [name for name in _methods(list(ran.values())) if name in FIRST_SCREEN]:
        row = [method, f"{known['R@1'][method]:.1%}"[:-1] if method in known.index else ""]
        for table in ran.values():
            found = table[table.method == method]
            row.append(_with_interval(found.iloc[0]) if len(found) else "")
        cells.append(row)
    notes = [
        f"`{name}`: {int(table.queries.iloc[0]):,} queries of "
        f"{int(table.products.iloc[0])} products, {_seeds(table)}{_more_seeds(name) or _gains(name)}."
        f"{_other_sets(name) if name == SHOWN[0] else ''}"
        for name, table in ran.items()
    ]
    missing = [f"`{name}`" for name in SHOWN if name not in ran]
    notes += [f"Not run: {', '.join(missing)}."] if missing else []
    return "\n\n".join([markdown.rows(heads, cells), " ".join(notes)])


def _other_sets(profile: str) -> str:
    """Say what recall@1 is on the sets beside a profile's own test photos, and what is gained there on the
    untrained network."""
    table = find_table(profile, "sets")
    if table is None:
        return ""
    parts = []
    for name, rows in list(table.groupby("set", sort=False))[1:]:
        shown = [
            f"{row.method} {100 * row['R@1']:.1f}" + _gain(row)
            for _, row in rows.iterrows()
            if row.method in (UNTRAINED, "CO", reported.REPORTED.method.iloc[-1])
        ]
        parts.append(
            f" On {name}, {int(rows.queries.iloc[0]):,} queries of {int(rows.products.iloc[0])} products: "
            f"{', '.join(shown)}."
        )
    return "".join(parts)


def _more_seeds(profile: str) -> str:
    """Say what each step adds with more seeds, where that was run."""
    more = MORE_SEEDS.get(profile, "")
    table = find_table(more, "main") if more else None
    return "" if table is None else f"; with {_seeds(table)} ([`{more}`](results/{more}))" + _gains(more)[1:]


def _gain(row: pd.Series) -> str:
    """Write what a method gains on the untrained network with its interval, where it has such."""
    if pd.isna(row["R@1 gain"]):
        return ""
    return " ({:+.1f}, {:+.1f} to {:+.1f})".format(
        *(100 * row[f"R@1 gain{end}"] for end in ("", " low", " high"))
    )


def _seeds(table: pd.DataFrame) -> str:
    count = int(table.seeds.iloc[0])
    return f"{count} seed" + "s" * (count > 1)


def _methods(mains: list[pd.DataFrame]) -> list[str]:
    """Return the methods in the order of the longest table, the reported ones that nothing has at the end."""
    ordered = [method for table in sorted(mains, key=len, reverse=True) for method in [*table.method]]
    return list(dict.fromkeys([*ordered, *reported.REPORTED.method]))


def _gains(profile: str) -> str:
    """Say what each reported method adds to the one before it, as paired differences of recall@1."""
    differences = find_table(profile, "differences")
    if differences is None:
        return ""
    rows = differences[differences.metric == "R@1"].set_index(["method", "baseline"])
    methods = [UNTRAINED, *reported.REPORTED.method]
    steps = zip(methods[1:], methods[:-1], strict=True)
    parts = [
        f"{method} {_points(rows.loc[(method, baseline)])}"
        for method, baseline in steps
        if (method, baseline) in rows.index
    ]
    return f"; by steps: {', '.join(parts)}" if parts else ""


def _points(row: pd.Series) -> str:
    """Write a paired difference with its interval, as "+1.2 (-0.4 to +2.8)"."""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * row[name] for name in ("difference", "low", "high")))


def profile_table() -> str:
    """Return the profiles whose results are kept: what each is, and what its run took where that was
    measured."""
    cells = []
    for name in KEPT:
        took = [
            f"{row.minutes:.0f} min, {row['peak GB']:.1f} GB, {row.threads} threads"
            for _, row in resources.table(ROOT / "results" / name).iterrows()
        ]
        cells.append([f"`{name}`", find_profile(name).summary, "; ".join(took) or "not measured"])
    return markdown.rows(["Profile", "What it is", "Took"], cells)


def notebook_list(folder: Path = ROOT / "notebooks") -> str:
    """Return the notebooks in the order they run, each linked to its executed copy of the
    first profile that ran."""
    lines = []
    for stage in pipeline.STAGES:
        title, _ = head(folder / f"{stage.stem}.ipynb")
        ran = [
            f"results/{name}/notebooks/{stage.stem}.ipynb"
            for name in SHOWN
            if (ROOT / "results" / name / "notebooks" / f"{stage.stem}.ipynb").exists()
        ]
        lines.append(f"- [{title}]({ran[0]})" if ran else f"- {title}: not run")
    return "\n".join(lines)


def head(notebook: Path) -> tuple[str, str]:
    """Return the title of a notebook and its question, which are the first two lines of its first cell."""
    lines = [
        line for line in nbformat.read(notebook, as_version=4).cells[0].source.split("\n") if line.strip()
    ]
    return lines[0].lstrip("# "), lines[1]


def room_list() -> str:
    """Return the map of the package: each room and, from its docstring, what it is for."""
    lines = []
    for room in ROOMS:
        source = (ROOT / "waldo_utils" / room / "__init__.py").read_text(encoding="utf-8")
        docstring = " ".join(ast.get_docstring(ast.parse(source)).split())
        lines.append(f"- `{room}`: {docstring[0].lower()}{docstring[1:]}")
    return "\n".join(lines)


def find_table(profile: str, name: str) -> pd.DataFrame | None:
    """Return a result table of a profile, or None where nothing has written it."""
    try:
        return load_table(find_profile(profile), name)
    except FileNotFoundError:
        return None


def recalls(row: pd.Series, ks: tuple[int, ...]) -> str:
    """Return "80.7 / 91.9"."""
    return " / ".join(f"{100 * row[f'R@{k}']:.1f}" for k in ks if f"R@{k}" in row)


def _with_interval(row: pd.Series) -> str:
    """Return "**54.5** (51.2–57.9)"."""
    value, bounds = markdown.interval(row, "R@1").split(" ", 1)
    return f"**{value}** {bounds}"
