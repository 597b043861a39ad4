"""An evaluation of one's own photos as one page and as JSON."""

import base64
import html
import json
from pathlib import Path

import pandas as pd

from waldo_utils.disk.faults import printable
from waldo_utils.disk.files import write_atomically
from waldo_utils.figures import grids, style
from waldo_utils.own.evaluating import Evaluation

LOOK = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto}\
td,th{padding:.2rem .7rem;border-bottom:1px solid #8885;
text-align:left}img{max-width:100%}:root{color-scheme:light dark}"""


def shown(figures: pd.DataFrame) -> pd.DataFrame:
    """Return a table of figures for people: per cent, each with its interval where it has one."""
    table = figures.copy()
    for name in [column for column in table if "@" in column and not column.endswith((" low", " high"))]:
        bounds = (f"{name} low", f"{name} high")
        table[name] = [
            f"{100 * row[name]:.1f}"
            + (f" ({100 * row[bounds[0]]:.1f} to {100 * row[bounds[1]]:.1f})" if bounds[0] in table else "")
            for _, row in table.iterrows()
        ]
    return table[[column for column in table if not column.endswith((" low", " high"))]]


def write(evaluation: Evaluation, source: Path, folder: Path) -> tuple[Path, Path]:
    """Write `evaluation.html`, which needs no other file, `evaluation.json` and `worst.png`; return the
    paths of the first two."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "source": str(source),
        **evaluation.facts,
        "figures": evaluation.figures.to_dict("records"),
        "categories": evaluation.categories.to_dict("records"),
        "suspicions": evaluation.suspicions,
    }
    parts = [f"<h1>{_text(source.name)}</h1>", _table(shown(evaluation.figures))]
    parts.append(
        "<p>Per cent; in brackets 95 % intervals over products. Each photo was searched among the others.</p>"
    )
    facts = [
        (name, len(value) if isinstance(value, list) else value) for name, value in evaluation.facts.items()
    ]
    parts.append(_table(pd.DataFrame(facts, columns=["what", "count"])))
    if len(evaluation.categories) > 1:
        parts += ["<h2>By category</h2>", _table(shown(evaluation.categories))]
    if evaluation.worst:
        gallery = evaluation.gallery
        figure = grids.neighbor_grid(gallery.photo, evaluation.neighbors, evaluation.worst, gallery.products)
        style.save(figure, folder / "worst.png")
        data = base64.b64encode((folder / "worst.png").read_bytes()).decode()
        words = "Queries whose first neighbors are wrong, one per product, and what was found for them"
        parts += [
            f"<h2>Worst queries</h2><p>{words}.</p>",
            f'<img alt="{words}" src="data:image/png;base64,{data}">',
        ]
        parts.append("<p>" + ", ".join(_text(gallery.names[row]) for row in evaluation.worst) + "</p>")
    parts.append("<h2>Look at these labels</h2>")
    for kind, found in evaluation.suspicions.items():
        parts.append(f"<h3>{_text(kind)}: {len(found) or 'none'}</h3>")
        if found:
            parts.append(_table(pd.DataFrame(found)))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_text(source.name)}</title><style>{LOOK}</style>{''.join(parts)}</html>"
    )
    text = json.dumps(content, indent=1)
    paths = folder / "evaluation.html", folder / "evaluation.json"
    write_atomically(paths[0], lambda partial: partial.write_text(page, encoding="utf-8"))
    write_atomically(paths[1], lambda partial: partial.write_text(text, encoding="utf-8"))
    return paths


def _text(value: object) -> str:
    """Return a value for the page; bytes of names that are no text are written as escapes."""
    if isinstance(value, list):
        return "; ".join(_text(part) for part in value)
    return html.escape(printable(f"{value:.3f}" if isinstance(value, float) else str(value)))


def _table(table: pd.DataFrame) -> str:
    heads = "".join(f"<th>{_text(name)}</th>" for name in table)
    lines = "".join(
        f"<tr>{''.join(f'<td>{_text(value)}</td>' for value in row)}</tr>"
        for row in table.itertuples(index=False)
    )
    return f"<table><tr>{heads}</tr>{lines}</table>"
