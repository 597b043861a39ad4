"""The README: its tables come from the result tables, its commands and links work, and a stranger can read
it."""

import re
import shlex

import pandas as pd
import pytest

from waldo_utils import __main__ as command_line
from waldo_utils.evaluation import reported
from waldo_utils.run import pages, readme, resources
from waldo_utils.study import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "results").glob("*.md")),
    *(ROOT / "results" / name / "README.md" for name in (*readme.KEPT, "benchmarks")),
]
PAGES = [path for path in PAGES if path.exists()]
METRICS = {"R@1": 0.5, "R@10": 0.8, "R@100": 0.9}


def bounds(values=METRICS):
    row = {}
    for name, value in values.items():
        row |= {name: value, f"{name} low": value - 0.01, f"{name} high": value + 0.02}
    return row


UNTRAINED = "ImageNet, nothing trained"
TABLES = {
    "main": [
        {"method": method, **bounds(), "queries": 1800, "products": 360, "seeds": 3}
        for method in ("ImageNet, nothing trained", "CO", "CO + RRT (frozen)")
    ],
    "differences": [
        {"metric": metric, "method": "CO + RRT (frozen)", "baseline": "CO", "difference": 0.05, "low": -0.01,
         "high": 0.1}
        for metric in ("R@1", "MAP@R")
    ],
}  # fmt: skip


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.setattr(
        readme,
        "find_table",
        lambda profile, name: pd.DataFrame(TABLES[name]) if profile == "mini" and name in TABLES else None,
    )


def test_the_main_table_has_the_rows_that_were_measured_and_those_that_were_reported(tables):
    lines = readme.main_table().split("\n")
    assert lines[0] == "| Recall@1, % | reported | [`mini`](results/mini) |"
    assert lines[2] == "| ImageNet, nothing trained |  | **50.0** (49.0–52.0) |"
    assert lines[3] == "| CO | 80.7 | **50.0** (49.0–52.0) |"
    assert lines[5] == "| CO + RRT (finetuned) | 84.5 |  |"
    assert lines[-1] == (
        "`mini`: 1,800 queries of 360 products, 3 seeds; by steps: "
        "CO + RRT (frozen) +5.0 (-1.0 to +10.0). Not run: `photos`, `paper`."
    )


def test_steps_are_those_of_more_seeds_where_these_were_run(monkeypatch):
    one = [row | {"seeds": 1} for row in TABLES["main"]]
    found = {"mini": TABLES | {"main": one}, "mini@3": TABLES}
    monkeypatch.setattr(
        readme,
        "find_table",
        lambda profile, name: pd.DataFrame(found[profile][name]) if name in found.get(profile, ()) else None,
    )
    assert readme.main_table().split("\n")[-1] == (
        "`mini`: 1,800 queries of 360 products, 1 seed; with 3 seeds ([`mini@3`](results/mini@3)) by steps: "
        "CO + RRT (frozen) +5.0 (-1.0 to +10.0). Not run: `photos`, `paper`."
    )


def test_the_other_sets_are_told_with_what_each_method_gains_there(monkeypatch):
    gain = {"R@1 gain": 0.05, "R@1 gain low": -0.01, "R@1 gain high": 0.09}
    rows = [
        {"set": name, "method": method, "R@1": 0.7, "queries": 1387, "products": 85,
         **(gain if method != UNTRAINED else {})}
        for name in ("SOP-85", "Grocery")
        for method in (UNTRAINED, "CO", "CO, mixed with the start")
    ]  # fmt: skip
    monkeypatch.setattr(readme, "find_table", lambda profile, name: pd.DataFrame(rows))
    assert readme._other_sets("photos") == (
        f" On Grocery, 1,387 queries of 85 products: {UNTRAINED} 70.0, CO 70.0 (+5.0, -1.0 to +9.0)."
    )


def test_rooms_and_notebooks_come_from_the_package_and_its_notebooks():
    rooms = readme.room_list().split("\n")
    assert len(rooms) == len(readme.ROOMS)
    assert "- `figures`: pictures, from arrays and tables only." in rooms
    notebooks = readme.notebook_list().split("\n")
    assert len(notebooks) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert all(re.search(r"results/\w+/notebooks/\w+\.ipynb|not run", line) for line in notebooks)


def test_a_profile_s_row_says_what_its_run_took(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    assert "| `mini` | rendered products | not measured |" in readme.profile_table()
    assert "| `mini@3` | rendered products, 3 seeds | not measured |" in readme.profile_table()
    resources.keep(tmp_path / "results" / "mini", {"01": 1.6, "02": 18.61}, 2.44)
    assert re.search(
        r"\| `mini` \| rendered products \| 20 min, 2.4 GB, \d+ threads \|", readme.profile_table()
    )


def test_missing_markers_are_named(tmp_path):
    with pytest.raises(ValueError, match="lacks the markers <!-- main -->"):
        readme.filled("no markers", tmp_path / "README.md")


def test_the_readme_and_all_pages_agree_with_the_tables(capsys):
    assert pages.update(check=True) == 0, capsys.readouterr().err


def test_the_readme_is_short_and_spells_its_names_out_at_the_start():
    assert len(README.encode()) <= 8_000
    start = README.split("<!-- main -->")[0]
    for words in ("global descriptor", "reranking", "transformer", "**CO**", "**RRT**"):
        assert words in start
    assert all(method in README for method in reported.REPORTED.method)


def commands() -> list[str]:
    """Return each line of the `sh` blocks of the README and the pages, without its comment."""
    blocks = [
        b for path in PAGES for b in re.findall(r"```sh\n(.+?)```", path.read_text(encoding="utf-8"), re.S)
    ]
    inline = re.findall(r"`(make [\w= -]+|python -m waldo_utils [^`]+)`", README)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in [*lines, *inline] if line})


@pytest.mark.parametrize("line", commands())
def test_each_command_is_one_that_there_is(line):
    words = shlex.split(line)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1]}:", makefile, re.M), f"no target {words[1]}"
        assert all(f"$({word.split('=')[0]}" in makefile for word in words[2:])
        return
    assert words[:3] == ["python", "-m", "waldo_utils"]
    assert command_line._parser().parse_args(words[3:]).function  # exits where it cannot be read


def test_a_command_that_does_not_parse_is_seen():
    with pytest.raises(SystemExit):
        command_line.main(["run", "--no-such-option"])
    assert len(commands()) >= 6


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_to_a_file_or_a_heading(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)|(?:src|href)=\"([^\"]+)\"", text)
    anchors = {pages._anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    assert links
    for link in (first or second for first, second in links):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (path.parent / link).exists(), f"{path}: {link}"
