"""One HTML file of all executed notebooks, which opens without a network: the main result first."""

import base64
import html
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image

from waldo_utils.disk.files import write_atomically
from waldo_utils.evaluation import reported, tables
from waldo_utils.run import executed
from waldo_utils.study import Study

WIDTH = 680  # pixels of the report's pictures at most; they are in full beside it
QUALITY = 30  # of its WebP pictures
LONGEST_ALT = 250  # characters
WORDS = 40  # characters from which on a cell of a table is prose, whose lines may break
COLUMN = 0.9  # width of a column's margins on paper, in heights of a letter
LETTER, WIDE = 0.64, 1.0  # of a letter or digit, and of the widest, in a font as wide as systems show
PICTURE = "before_after"  # what the cell with the report's first picture writes


@dataclass
class Chapter:
    """One notebook of the report."""

    id: str
    title: str
    minutes: str = ""
    headings: list[tuple[str, str]] = field(default_factory=list)  # id, text
    body: str = ""


def write_report(study: Study, notebooks: list[Path], path: Path) -> None:
    """Write one HTML file with all executed notebooks, which opens without a network.

    The main table, ours before the reported figures, and the picture before and after reranking stand first,
    where the notebooks have made them.
    """
    import jinja2
    import nbformat
    from pygments.formatters import HtmlFormatter

    chapters, picture = [], ""
    for notebook in notebooks:
        content = nbformat.read(notebook, as_version=4)
        chapters.append(_chapter(notebook.stem, content))
        picture = picture or _first_picture(content)
    headline, table = _headline(path.parent / "tables" / "main.csv")
    template = jinja2.Template((Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        title=html.escape(f"Where's Waldo? Profile {study.name}"),
        summary=html.escape(study.summary),
        headline=headline,
        table=table,
        picture=picture,
        chapters=chapters,
        highlighting=HtmlFormatter(style="friendly").get_style_defs(".highlight"),
    )
    write_atomically(path, lambda partial: partial.write_text(page, encoding="utf-8"))


def _headline(main: Path) -> tuple[str, str]:
    """Return the main result as a sentence and as a table, ours before the reported figures; "" where there
    is none."""
    if not main.exists():
        return "", ""
    rows = pd.read_csv(main)
    first, last = rows.iloc[0], rows.iloc[-1]
    sentence = (
        f"The nearest neighbor shows the same product for {first['R@1']:.1%} of the queries with "
        f"{first.method}, and for {last['R@1']:.1%} with {last.method}."
    )
    shown = rows[["method", "R@1", "R@1 low", "R@1 high", "R@10", "R@100", "MAP@R", "queries", "products"]]
    joined = tables.percent(reported.beside_reported(shown, reported.REPORTED))
    note = (
        '<p class="facts">In per cent, R@1 with its 95 % interval over products. Reported: Tan et al., '
        "ICCV 2021, on Stanford Online Products.</p>"
    )
    return html.escape(sentence), _table(joined.to_html(table_uuid="main")) + note


def _chapter(stem: str, notebook) -> Chapter:
    """Return an executed notebook as HTML; of its parameters, what it ran with."""
    from nbconvert.filters import markdown2html

    chapter = Chapter(stem, stem)
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    if seconds:
        chapter.minutes = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    tags = [set(cell.metadata.get("tags", [])) for cell in notebook.cells]
    injected = any("injected-parameters" in tag for tag in tags)
    parts: list[str] = []
    caption = stem
    for number, (cell, tag) in enumerate(zip(notebook.cells, tags, strict=True)):
        if injected and "parameters" in tag:
            continue
        if cell.cell_type == "markdown":
            caption = _caption(cell.source) or caption
            parts.append(_with_headings(markdown2html(cell.source), f"{stem}-{number}", chapter))
        elif cell.cell_type == "code":
            parts.append(_code(cell.source))
            parts += [_output(output, caption) for output in cell.outputs]
    chapter.body = "\n".join(parts)
    return chapter


def _first_picture(notebook) -> str:
    """Return the picture that the report begins with, if it is of this notebook."""
    caption = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            caption = _caption(cell.source) or caption
        elif PICTURE in cell.source:
            for output in cell.get("outputs", []):
                if picture := executed.picture_of(output):
                    return _picture(picture, caption, shown=True)
    return ""


def _caption(markdown: str) -> str:
    """Return what a text says first, for the pictures and the table below it: its heading and its first
    sentence."""
    plain = re.sub(r"[*`$]|\[([^]]*)\]\([^)]*\)|<[^>]*>", r"\1", markdown).strip()
    heading, _, rest = plain.partition("\n")
    sentence = re.split(r"(?<=[.?!])\s", rest.strip(), maxsplit=1)[0]
    text = ". ".join(part for part in (heading.lstrip("# "), " ".join(sentence.split())) if part)
    return text if len(text) <= LONGEST_ALT else f"{text[: LONGEST_ALT - 3].rsplit(' ', 1)[0]} ..."


def _with_headings(body: str, prefix: str, chapter: Chapter) -> str:
    """Return a text with an id of its own for each heading, and note them for the contents."""

    def renamed(found: re.Match) -> str:
        level, text = found[1], re.sub(r"<a class=\"anchor-link\".*?</a>", "", found[2])
        plain = html.unescape(re.sub("<[^>]*>", "", text)).strip()
        if level == "1" and chapter.title == chapter.id:
            chapter.title = html.escape(plain)
            return f"<h1>{text}</h1>"
        id = f"{prefix}-{len(chapter.headings)}"
        chapter.headings.append((id, html.escape(plain)))
        return f'<h{level} id="{id}">{text}</h{level}>'

    return re.sub(r"<h([1-6])[^>]*>(.*?)</h\1>", renamed, body, flags=re.S)


def _code(source: str) -> str:
    """Return a cell's code, folded."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    if not source.strip():
        return ""
    lines = len(source.strip().splitlines())
    text = highlight(source, PythonLexer(), HtmlFormatter(cssclass="highlight"))
    return f'<details class="code"><summary>code, {lines} line{"s"[: lines != 1]}</summary>{text}</details>'


def _output(output, caption: str) -> str:
    """Return one output as HTML: what it shows best. Progress bars and widgets show nothing without a
    kernel."""
    from nbconvert.filters import strip_ansi

    if output.output_type == "stream":
        return "" if output.name == "stderr" else f"<pre>{html.escape(output.text)}</pre>"
    if output.output_type == "error":
        return f"<pre>{html.escape(strip_ansi(chr(10).join(output.traceback)))}</pre>"
    data = output.get("data", {})
    if picture := executed.picture_of(output):
        return _picture(picture, caption)
    if "application/vnd.jupyter.widget-view+json" in data:
        return ""
    if "text/html" in data:
        return _table(data["text/html"]) if "<table" in data["text/html"] else data["text/html"]
    return f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"


def _table(text: str) -> str:
    """Return a table in a frame that scrolls on a screen, and knows its width for paper."""

    def marked(cell: re.Match) -> str:
        return cell[0].replace("<td", '<td class="words"', 1) if len(_plain(cell[0])) > WORDS else cell[0]

    text = re.sub(r"<style.*?</style>", "", text, flags=re.S) if "<style scoped" in text else text
    text = re.sub(r' class="(?:data|col_heading|blank|index_name|dataframe)[^"]*"| border="1"', "", text)
    text = re.sub(r"<td[^>]*>.*?</td>", marked, text, flags=re.S)
    rows = [
        [_ems(_plain(cell)[:WORDS]) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row, flags=re.S)]
        for row in re.findall(r"<tr.*?</tr>", text, flags=re.S)
    ]
    columns = max(map(len, rows), default=0)
    widest = [max(row[i] for row in rows if i < len(row)) for i in range(columns)]
    ems = sum(widest) + COLUMN * columns
    return f'<div class="table" style="--ems: {max(ems, 1):.1f}" tabindex="0">{text}</div>'


def _ems(text: str) -> float:
    """Return how wide a text is in heights of its letters."""
    return sum(WIDE if letter in "@%mwMW" else LETTER for letter in text)


def _plain(cell: str) -> str:
    return html.unescape(re.sub("<[^>]*>", "", cell)).strip()


def _picture(encoded: str, caption: str, shown: bool = False) -> str:
    """Return a picture as a smaller WebP, since the report is one file and the figures are beside it."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((WIDTH, 10 * WIDTH))
    picture.save(buffer, "WEBP", quality=QUALITY, method=6)
    text = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(caption, quote=True)
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if shown else ""
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<figure><img alt="{alt}" {size} src="data:image/webp;base64,{text}">{below}</figure>'
