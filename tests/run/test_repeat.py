"""A rerun with the same results changes no file: executed copies, report, times that are kept."""

import json

import nbformat
import pandas as pd
import pytest
from test_pipeline import STAGES, folders, write_notebook  # noqa: F401

from waldo_utils.disk import artifacts
from waldo_utils.run import executed, pipeline, resources
from waldo_utils.speed import benchmark
from waldo_utils.study import PROFILES

STUDY = PROFILES["smoke"]
SHOWN = """
import sys, time, pandas as pd, matplotlib.pyplot as plt
from tqdm.auto import tqdm
for _ in tqdm(range(3)): time.sleep(0.01)
print("a warning", time.time(), file=sys.stderr)
display(pd.DataFrame({"a": [1.5]}).style.hide(axis="index").set_properties(**{"color": "red"}))
display(object())
plt.plot([1, 2])
"""


def contents(folder):
    """Return the bytes of each file below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_leave_the_same_bytes(folders):  # noqa: F811
    slowly = "import time\nprint('the', flush=True)\ntime.sleep(0.5)\nprint('end')"
    write_notebook(folders.notebooks / "01_first.ipynb", SHOWN, slowly)
    assert pipeline.run(STUDY, folders=folders, stages=STAGES[:1]) == 0
    first = contents(folders.results)
    assert pipeline.run(STUDY, force=True, folders=folders, stages=STAGES[:1]) == 0
    second = contents(folders.results)
    assert {path.name for path in first} >= {"01_first.ipynb", "report.html", "runs.json"}
    assert [path for path in first | second if first.get(path) != second.get(path)] == []
    copy = nbformat.read(folders.results / "notebooks" / "01_first.ipynb", as_version=4)
    assert copy.metadata.papermill == {"parameters": {"profile": "smoke"}}
    outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
    assert [output.get("name") for output in outputs] == [None, None, None, None, "stdout"]
    assert outputs[-1].text == "the\nend\n"
    assert "color: red" in outputs[0].data["text/html"]
    assert outputs[1].data["text/plain"] == "<object>"


def test_what_a_run_took_is_kept_until_it_is_measured_anew(folders):  # noqa: F811
    timed = folders.results / "tables" / "speed_x.csv"
    write_notebook(
        folders.notebooks / "01_first.ipynb",
        "import time\nfrom waldo_utils.disk import artifacts\nfrom waldo_utils.study import PROFILES\n"
        "path = artifacts.results_folder(PROFILES[profile]) / 'tables' / 'speed_x.csv'\n"
        "path.parent.mkdir(exist_ok=True, parents=True)",
        "path.exists() or path.write_text(str(time.time()))",
    )
    assert pipeline.run(STUDY, folders=folders, stages=STAGES[:1]) == 0
    (row,) = json.loads((folders.results / "runs.json").read_text())
    assert set(row["minutes"]) == {"01_first"}
    other = row | {"processor": "another", "minutes": {"01_first": 1.0, "02_second": 2.5}}
    (folders.results / "runs.json").write_text(json.dumps([other, row | {"peak GB": 99.0}]))
    before = timed.read_text()
    assert pipeline.run(STUDY, force=True, folders=folders, stages=STAGES[:1]) == 0
    assert resources.table(folders.results)["peak GB"].tolist()[1] == 99
    assert timed.read_text() == before
    assert pipeline.run(STUDY, measure=True, folders=folders, stages=STAGES[:1]) == 0
    table = resources.table(folders.results)
    assert table.processor.tolist() == ["another", row["processor"]]
    assert table.minutes[0] == 3.5
    assert table["peak GB"][1] < 99
    assert timed.read_text() != before


def test_a_run_of_some_notebooks_only_says_nothing_of_the_whole(folders):  # noqa: F811
    assert pipeline.run(STUDY, only="01_first", folders=folders, stages=STAGES) == 0
    assert not (folders.results / "runs.json").exists()


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    return tmp_path / "results" / "smoke" / "tables"


def test_clock_times_are_kept_until_something_else_is_asked(results, capsys):
    first = pd.DataFrame({"method": ["a", "b"], "pairs": [3, 48], "ms": [1.5, None]})
    assert benchmark.keep(STUDY, "speed_x", lambda: first, (3, 48)).equals(first)
    record = json.loads((results / "speed_x.json").read_text())
    assert {"processor", "threads", "torch", "date"} <= set(record["machine"])
    before = contents(results)
    assert benchmark.keep(STUDY, "speed_x", lambda: pytest.fail("measured again"), (3, 48)).equals(first)
    assert contents(results) == before
    assert f"measured {record['machine']['date']}" in capsys.readouterr().out
    other = first.assign(pairs=[3, 64])
    assert benchmark.keep(STUDY, "speed_x", lambda: other, (3, 64)).equals(other)
    assert contents(results) != before
    record.pop("machine")  # of a table that does not say on what it was measured
    (results / "speed_x.json").write_text(json.dumps(record))
    later = other.assign(ms=[2.0, 3.0])
    assert benchmark.keep(STUDY, "speed_x", lambda: later, (3, 64)).equals(later)


def test_a_notebook_that_was_cut_short_stays_as_it_is(tmp_path):
    (tmp_path / "a.ipynb").write_text('{"cells": [')
    executed.settle(tmp_path / "a.ipynb")
    assert (tmp_path / "a.ipynb").read_text() == '{"cells": ['
