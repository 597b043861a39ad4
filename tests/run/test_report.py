"""The report: the main result first, pictures that say what they show, and no table that is cut."""

import base64
import importlib.util
import io
import os
import re
import shutil

import nbformat
import pandas as pd
import pytest
from PIL import Image

from waldo_utils.evaluation import tables
from waldo_utils.run import report
from waldo_utils.study import PROFILES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE = pd.DataFrame({f"column {i}@1": [0.5, 0.25] for i in range(18)})
WIDEST = pd.DataFrame({f"{i}": [0.5, 0.25] for i in range(60)})  # its margins are as wide as its letters
PROSE = pd.DataFrame({"step": ["resize"], "why": ["words " * 60]})


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 400), "teal").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def cell(source, *outputs, tags=()):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, outputs=list(outputs))


def shown(**data):
    data = {kind.replace("_", "/"): value for kind, value in data.items()}
    return nbformat.v4.new_output("display_data", data=data)


@pytest.fixture
def page(tmp_path):
    words = nbformat.v4.new_markdown_cell
    first = nbformat.v4.new_notebook(
        cells=[
            words("# 01 · Look & see\n\nWhat is there?"),
            cell('profile = "mini"', tags=["parameters"]),
            cell('profile = "smoke"', tags=["injected-parameters"]),
            cell("for i in range(3):\n    pass", nbformat.v4.new_output("stream", name="stderr", text="bar")),
            words("## Wide\nA table of *many* columns. And more."),
            cell("table", shown(text_html=tables.percent(WIDE).to_html())),
            words("## Prose\nA table of many words."),
            cell("table", shown(text_html=PROSE._repr_html_())),
            words("## Widest\nA table of very many columns."),
            cell("table", shown(text_html=tables.percent(WIDEST).to_html())),
            words("## Before and after\nFor each query the first five `neighbors`. Below them\nthe others."),
            cell('style.save(grid, "before_after.png")', shown(image_png=png(), text_plain="<Image>")),
            cell("note", nbformat.v4.new_output("stream", name="stdout", text="a < b")),
        ],
        metadata={"papermill": {"duration": 200.0}},
    )
    second = nbformat.v4.new_notebook(cells=[words("# 02 · The end")])
    for notebook, stem in ((first, "01_look"), (second, "02_end")):
        nbformat.write(notebook, tmp_path / f"{stem}.ipynb")
    main = pd.DataFrame(
        {"method": ["CO", "CO + RRT (finetuned)"], "R@1": [0.5, 0.625], "R@1 low": 0.4, "R@1 high": 0.7,
         "R@10": 0.8, "R@100": 0.9, "MAP@R": 0.3, "queries": 10, "products": 5, "protocol": "clean"}
    )  # fmt: skip
    (tmp_path / "tables").mkdir()
    main.to_csv(tmp_path / "tables" / "main.csv", index=False)
    path = tmp_path / "report.html"
    report.write_report(PROFILES["smoke"], [tmp_path / "01_look.ipynb", tmp_path / "02_end.ipynb"], path)
    return path


def test_the_main_result_stands_first_and_ours_before_the_reported(page):
    text = page.read_text().split("<main")[1]
    top = text.split("<section")[0]
    assert "50.0% of the queries with CO, and for 62.5% with CO + RRT (finetuned)" in top
    head = re.findall(r"<th[^>]*>([^<]*)</th>", top)
    assert head.index("R@1") < head.index("R@100") < head.index("R@1 reported")
    assert "62.50 (40.0–70.0)" in top
    assert "84.50" in top
    assert "<figcaption>Before and after. For each query the first five neighbors.</figcaption>" in top


def test_a_report_of_the_same_notebooks_is_the_same(page):
    before = page.read_bytes()
    notebooks = [page.parent / "01_look.ipynb", page.parent / "02_end.ipynb"]
    report.write_report(PROFILES["smoke"], notebooks, page)
    assert page.read_bytes() == before


def test_contents_stand_beside_and_lead_to_what_is_there(page):
    text = page.read_text()
    nav = text.split("<nav")[1].split("</nav>")[0]
    targets = re.findall(r'href="#([^"]+)">([^<]+)<', nav)
    assert [name for _, name in targets] == [
        "01 · Look &amp; see",
        "Wide",
        "Prose",
        "Widest",
        "Before and after",
        "02 · The end",
    ]
    for target, _ in targets:
        assert text.count(f'id="{target}"') == 1
    assert "This notebook ran for 3 minutes" in text


def test_pictures_say_what_they_show_and_code_is_folded(page):
    text = page.read_text()
    alts = re.findall(r'<img alt="([^"]*)" width="680" height="272" src="data:image/webp', text)
    assert alts == ["Before and after. For each query the first five neighbors."] * 2
    assert text.count("<img") == 2
    code = re.findall(r'<details class="code"><summary>([^<]*)</summary>(.*?)</details>', text, flags=re.S)
    assert [summary for summary, _ in code[:2]] == ["code, 1 line", "code, 2 lines"]
    assert "smoke" in code[0][1]
    assert "mini" not in text  # the parameters once, as they were
    assert "bar" not in re.sub("<style.*?</style>", "", text, flags=re.S)  # no progress
    assert "<pre>a &lt; b</pre>" in text
    assert 'name="viewport"' in text
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", text)


def test_a_report_without_a_main_table_begins_with_its_notebooks(page):
    shutil.rmtree(page.parent / "tables")
    report.write_report(PROFILES["smoke"], [page.parent / "02_end.ipynb"], page)
    assert "02 · The end" in page.read_text()


def test_a_table_knows_its_width_and_its_prose_may_break():
    wide = report._table(tables.percent(WIDE).to_html())
    ems = float(re.search(r"--ems: ([0-9.]+)", wide)[1])
    assert ems == pytest.approx(18 * (report.COLUMN + report._ems("column 17@1")), rel=0.05)
    prose = report._table(PROSE._repr_html_())
    assert prose.count('class="words"') == 1
    assert float(re.search(r"--ems: ([0-9.]+)", prose)[1]) < 40


def test_captions_are_the_heading_and_the_first_sentence():
    assert report._caption("## A *b*\nSee [it](there). More.") == "A b. See it."
    assert report._caption("## Alone") == "Alone"
    assert len(report._caption("word " * 200)) <= report.LONGEST_ALT


@pytest.mark.skipif(CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium")
@pytest.mark.skipif("WALDO_BROWSER" not in os.environ, reason="asked for by `make test-browser`")
def test_no_table_and_no_picture_is_cut_on_a_phone_a_screen_or_paper(page):
    from playwright.sync_api import sync_playwright

    reports = [page, *map(report.Path, filter(None, [os.environ.get("WALDO_REPORT")]))]  # another to look at
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for path in reports:
            opened = browser.new_page(device_scale_factor=4)  # fine as paper: letters' widths are not rounded
            opened.goto(path.as_uri())
            for width in (400, 800, 1280):
                opened.set_viewport_size({"width": width, "height": 900})
                assert opened.evaluate("document.documentElement.scrollWidth") <= width
                cut = opened.evaluate(
                    "[...document.querySelectorAll('.table, img')].filter(part => {"
                    " const box = part.getBoundingClientRect();"
                    " return box.right > innerWidth || box.left < 0 || (part.scrollWidth > part.clientWidth"
                    "   && part.tagName == 'DIV' && getComputedStyle(part).overflowX != 'auto'); }).length"
                )
                assert cut == 0
            opened.emulate_media(media="print")
            paper = round((297 - 24) / 25.4 * 96)  # A4 on its side without margins, in the page's pixels
            opened.set_viewport_size({"width": paper, "height": 700})
            sizes = opened.evaluate(
                "[...document.querySelectorAll('table')].map(table =>"
                " [table.getBoundingClientRect().right, parseFloat(getComputedStyle(table).fontSize)])"
            )
            assert len(sizes) >= 3
            assert max(right for right, _ in sizes) <= paper
            readable = sizes[:-1] if path == page else sizes  # `WIDEST` is nobody's
            assert min(size for _, size in readable) >= 6.5  # 5 points
        browser.close()
