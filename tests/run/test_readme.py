"""The README's tables come from the result tables and say what was not run."""

import pandas as pd
import pytest

from waldo_utils.experiments import benchmark
from waldo_utils.run import readme


def bounds(**values):
    row = {}
    for name, value in values.items():
        name = name.replace("_at_", "@").replace("_", " ")
        row |= {name: value, f"{name} low": value - 0.01, f"{name} high": value + 0.02}
    return row


TABLES = {
    "main": [{"method": "CO", **bounds(R_at_1=0.5, R_at_10=0.8, R_at_100=0.9), "queries": 1800, "products": 360, "seeds": 3}],
    "rerankings": [{"method": "CO", **bounds(R_at_1=0.5, R_at_10=0.8, R_at_100=0.9, MAP_at_R=0.4)}],
    "differences": [
        {"metric": metric, "method": "RRT", "baseline": "CO", "difference": 0.05, "low": -0.01, "high": 0.1}
        for metric in ("R@1", "MAP@R")
    ],
    "selection": [
        {"protocol": protocol, "epoch chosen on": "x", "query left out by": "y", **bounds(R_at_1=0.5),
         "difference": 0.02, "low": 0.01, "high": 0.03}
        for protocol in ("clean", "as published")
    ],
    "precision": [{"method": "bfloat16", "changed@1": 0.0556, "R@1": 0.59389, "R@10": 0.908}],
    "openset": [{"method": "CO", **bounds(AUROC=0.8, true_accept=0.94, false_accept=0.6)}],
}  # fmt: skip


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.setattr(
        readme, "_table", lambda profile, name: pd.DataFrame(TABLES[name]) if profile == "mini" else None
    )


def test_the_main_table_stands_beside_the_reported_figures(tables):
    lines = readme.main_table().split("\n")
    assert lines[2] == "| CO | 80.7 / 91.9 / 96.9 | **50.0** (49.0–52.0) / 80.0 / 90.0 | not run | not run |"
    assert lines[3].endswith("| not run | not run | not run |")
    assert "1,800 queries of 360 products, 3 seeds" in lines[-1]
    assert '"clean"' in lines[-1]


def test_the_other_tables_give_intervals_of_every_figure(tables):
    text = readme.other_tables("mini")
    assert "| CO | **50.0** (49.0–52.0) / 80.0 / 90.0 | 40.0 (39.0–42.0) | not run |" in text
    assert "| RRT minus CO | +5.00 (-1.00 to +10.00) | +5.00 (-1.00 to +10.00) |" in text
    assert "| clean | x | y | 50.0 (49.0–52.0) |  |" in text
    assert "| as published | x | y | 50.0 (49.0–52.0) | +2.00 (+1.00 to +3.00) |" in text
    assert "| CO | 80.0 (79.0–82.0) | 94.0 (93.0–96.0) | 60.0 (59.0–62.0) |" in text
    assert readme.other_tables("grocery") == "not run"


def test_the_speed_table_sets_what_a_precision_brings_beside_what_it_changes(tables, tmp_path):
    assert readme.speed_table(tmp_path) == "not run"
    reranking = pd.DataFrame({
        "size": ["published"] * 3 + ["small"], "method": ["textbook", "scorer bfloat16", "textbook", "textbook"],
        "pairs at once": [3000, 48, None, 3000], "ratio": [1, 8.94, None, 1],
        "share of matrix rate": [0.16, 0.6, None, 0.1], "peak MB": [2770.0, 97.3, None, 9],
    })  # fmt: skip
    search = pd.DataFrame({"photos": [10, 60_000], "seconds": [0.1, 5.71], "peak MB": [1.0, 194.0]})
    facts = {"processor": "EPYC", "threads": 2, "torch": "2.15.0", "date": "2026-01-02T03:04"}
    benchmark.save("speed_reranking", reranking, tmp_path, facts)
    benchmark.save("speed_search", search, tmp_path, facts)
    lines = readme.speed_table(tmp_path).split("\n")
    assert lines[0].startswith("| Reranking, published | pairs at once |")
    assert lines[0].endswith("| other first neighbor, R@1, R@10: `mini` |")
    assert lines[2:4] == [
        "| textbook | 3,000 | 1.0 | 16 % | 2,770 MB |  |",
        "| scorer bfloat16 | 48 | 8.9 | 60 % | 97 MB | 5.6 %, 59.4 / 90.8 |",
    ]
    assert lines[-1].startswith("Medians of turns in one run: EPYC, 2 threads, torch 2.15.0, 2026-01-02.")
    assert lines[-1].endswith("60,000 photos among themselves, 101 neighbors: 5.7 s and 194 MB.")


def test_the_memory_table_sets_the_sizes_side_by_side(tmp_path):
    assert readme.memory_table(tmp_path) == "not run"
    rows = [("train", 1, 240, 9.0, 300.0, 800.4), ("train", 2, 480, 18.0, 300.0, 810.0)]
    rows += [("extract", 1, 240, 9.0, 290.0, 500.0), ("extract", 2, 480, 18.0, 290.0, 520.0)]
    rows += [("at SOP's size", 1, 60_502, 787.0, 310.0, 2_500.0)]
    columns = ["stage", "scale", "photos", "features MB", "imports MB", "peak MB"]
    benchmark.save("memory", pd.DataFrame(rows, columns=columns), tmp_path, {"python": "3.11"})
    assert readme.memory_table(tmp_path).split("\n") == [
        "| Peak memory, MB | 240 photos | 480 photos |",
        "|---|---|---|",
        "| train | 800 | 810 |",
        "| extract | 500 | 520 |",
        "",
        "Of each figure, 300 MB are Python with its libraries. "
        "At SOP's size: 60,502 photos, 787 MB of features, 2,500 MB at the peak, mapped files counted.",
    ]


def test_update_writes_between_the_markers_and_check_compares(tables, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(readme, "speed_table", lambda: "fast")
    monkeypatch.setattr(readme, "memory_table", lambda: "little")
    path = tmp_path / "README.md"
    names = ("main", "mini", "grocery", "speed", "memory")
    path.write_text("head\n" + "\n".join(f"<!-- {name} -->old<!-- end of {name} -->" for name in names))
    assert readme.update(path, check=True) == 1
    assert readme.update(path) == 0
    assert readme.update(path, check=True) == 0
    assert path.read_text().startswith("head\n<!-- main -->\n| Method |")
    path.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers <!-- main -->"):
        readme.update(path)
