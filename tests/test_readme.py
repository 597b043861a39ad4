"""The README's tables come from the result tables and say what was not run."""

import pandas as pd
import pytest

from waldo_utils import readme


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


def test_update_writes_between_the_markers_and_check_compares(tables, tmp_path, capsys):
    path = tmp_path / "README.md"
    names = ("main", "mini", "grocery")
    path.write_text("head\n" + "\n".join(f"<!-- {name} -->old<!-- end of {name} -->" for name in names))
    assert readme.update(path, check=True) == 1
    assert readme.update(path) == 0
    assert readme.update(path, check=True) == 0
    assert path.read_text().startswith("head\n<!-- main -->\n| Method |")
    path.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers <!-- main -->"):
        readme.update(path)
