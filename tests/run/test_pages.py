"""The pages of results/: tables for reading, pictures with their notebooks, times with their machines."""

import base64

import nbformat
import pandas as pd
import pytest
from PIL import Image

from waldo_utils.run import markdown, pages, readme
from waldo_utils.speed import benchmark


def test_fractions_stand_in_per_cent_with_their_intervals_and_what_is_constant_below():
    frame = pd.DataFrame({
        "method": ["CO", "a|b"], "R@1": [0.5, None], "R@1 low": [0.41, None], "R@1 high": [0.62, None],
        "false_accept": [0.25, 0.5], "loss": [1.6412, 1200.0], "flip": [True, False], "photos": [1800, 3],
        "queries": [1800, 1800], "seeds": [3, 3], "left out": [0, 0], "protocol": ["clean", "clean"],
    })  # fmt: skip
    assert markdown.table(frame).split("\n") == [
        "| method | R@1 | false accept | loss | flip | photos |",
        "|---|---|---|---|---|---|",
        "| CO | 50.0 (41.0–&NoBreak;62.0) | 25.0 | 1.64 | yes | 1,800 |",
        "| a\\|b | not run | 50.0 | 1,200 | no | 3 |",
        "",
        '1,800 queries, 3 seeds, protocol "clean".',
    ]
    assert "1 seed." in markdown.table(frame[["method"]].assign(seeds=1))


def test_paired_differences_have_one_row_a_pair():
    frame = pd.DataFrame({
        "metric": ["R@1", "R@1", "MAP@R"], "method": ["B", "C", "B"], "baseline": ["A", "A", "A"],
        "difference": [0.05, -0.01, 0.02], "low": [0.01, -0.02, 0.0], "high": [0.1, 0.0, 0.04],
    })  # fmt: skip
    lines = pages._readable("differences", frame).split("\n")
    assert lines[0] == "| Paired difference, points (95 % interval) | R@1 | MAP@R |"
    assert lines[2] == "| B minus A | +5.00 (+1.00 to +10.00) | +2.00 (+0.00 to +4.00) |"
    assert lines[3] == "| C minus A | -1.00 (-2.00 to +0.00) |  |"


def test_a_figure_is_found_in_the_notebook_that_shows_it(tmp_path):
    (tmp_path / "figures").mkdir()
    outputs = []
    for shade, name in ((10, "first"), (90, "elsewhere"), (200, "last")):
        Image.new("L", (4, 4), shade).save(tmp_path / "figures" / f"{name}.png")
        picture = base64.b64encode((tmp_path / "figures" / f"{name}.png").read_bytes()).decode()
        if name != "elsewhere":
            outputs.append(nbformat.v4.new_output("display_data", data={"image/png": picture + "\n"}))
    (tmp_path / "notebooks").mkdir()
    cell = nbformat.v4.new_code_cell("show", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "01_a.ipynb")
    assert pages.shown_figures(tmp_path, "01_a") == ["first.png", "last.png"]
    assert pages.shown_figures(tmp_path, "02_b") == []


def test_the_first_query_of_a_picture_ends_at_the_white_line_below_its_first_quarter():
    picture = Image.new("RGB", (8, 40), "black")
    for y in (3, 13, 30):
        picture.paste("white", (0, y, 8, y + 1))
    assert pages._gap(picture) == 13


def test_the_speed_table_sets_what_a_precision_brings_beside_what_it_changes(tmp_path, monkeypatch):
    precision = pd.DataFrame([{"method": "bfloat16", "changed@1": 0.0556, "R@1": 0.59389, "R@10": 0.908}])
    monkeypatch.setattr(readme, "find_table", lambda profile, name: precision if profile == "mini" else None)
    assert pages.speed_table(tmp_path) == "not run"
    reranking = pd.DataFrame({
        "size": ["published"] * 3 + ["small"],
        "method": ["textbook", "scorer bfloat16", "textbook", "textbook"],
        "pairs at once": [3000, 48, None, 3000], "ratio": [1, 8.94, None, 1],
        "share of matrix rate": [0.16, 0.6, None, 0.1], "peak MB": [2770.0, 97.3, None, 9],
    })  # fmt: skip
    search = pd.DataFrame({"photos": [10, 60_000], "seconds": [0.1, 5.71], "peak MB": [1.0, 194.0]})
    facts = {"processor": "EPYC", "threads": 2, "torch": "2.15.0", "date": "2026-01-02T03:04"}
    benchmark.save("speed_reranking", reranking, tmp_path, facts)
    benchmark.save("speed_search", search, tmp_path, facts)
    lines = pages.speed_table(tmp_path).split("\n")
    assert lines[0].startswith("| Reranking, published | pairs at once |")
    assert lines[0].endswith("| other first neighbor, R@1, R@10: `mini` |")
    assert lines[2:4] == [
        "| textbook | 3,000 | 1.0 | 16 % | 2,770 MB |  |",
        "| scorer bfloat16 | 48 | 8.9 | 60 % | 97 MB | 5.6 %, 59.4 / 90.8 |",
    ]
    assert lines[-1].startswith("Medians of turns in one run: EPYC, 2 threads, torch 2.15.0, 2026-01-02.")
    assert lines[-1].endswith("60,000 photos among themselves, 101 neighbors: 5.7 s and 194 MB.")


def test_the_memory_table_sets_the_sizes_side_by_side(tmp_path):
    assert pages.memory_table(tmp_path) == "not run"
    rows = [("train", 1, 240, 9.0, 300.0, 800.4), ("train", 2, 480, 18.0, 300.0, 810.0)]
    rows += [("extract", 1, 240, 9.0, 290.0, 500.0), ("extract", 2, 480, 18.0, 290.0, 520.0)]
    rows += [("at SOP's size", 1, 60_502, 787.0, 310.0, 2_500.0)]
    columns = ["stage", "scale", "photos", "features MB", "imports MB", "peak MB"]
    benchmark.save("memory", pd.DataFrame(rows, columns=columns), tmp_path, {"python": "3.11"})
    assert pages.memory_table(tmp_path).split("\n") == [
        "| Peak memory, MB | 240 photos | 480 photos |",
        "|---|---|---|",
        "| train | 800 | 810 |",
        "| extract | 500 | 520 |",
        "",
        "Of each figure, 300 MB are Python with its libraries. "
        "At SOP's size: 60,502 photos, 787 MB of features, 2,500 MB at the peak, mapped files counted.",
    ]


def test_update_writes_what_differs_and_check_only_says_so(tmp_path, monkeypatch, capsys):
    names = readme.blocks()
    for folder in ("results/benchmarks", "results/mini", "results/photos", "results/paper"):
        (tmp_path / folder).mkdir(parents=True)
    path = tmp_path / "README.md"
    path.write_text("head\n" + "\n".join(f"<!-- {name} -->old<!-- end of {name} -->" for name in names))
    monkeypatch.setattr(pages, "PICTURE", tmp_path / "results" / "first.png")
    assert pages.update(tmp_path, check=True) == 1
    assert "README.md, results/README.md, results/benchmarks/README.md" in capsys.readouterr().err
    assert pages.update(tmp_path) == 0
    assert pages.update(tmp_path, check=True) == 0
    assert path.read_text(encoding="utf-8").startswith("head\n<!-- main -->\n| Recall@1")


@pytest.mark.parametrize(
    "title, anchor",
    [
        ("The demo's answer: not in it", "the-demos-answer-not-in-it"),
        ("A, b?", "a-b"),
        ("speed_x y", "speed_x-y"),
    ],
)
def test_anchors_are_those_of_the_page_s_host(title, anchor):
    assert pages._anchor(title) == anchor
