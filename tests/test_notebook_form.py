"""The notebooks as they are read: numbered as they run, cells of a size to be read, no sentence that another
run makes false."""

import nbformat
import pytest

from waldo_utils.run import pipeline
from waldo_utils.study import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES_OF_A_CELL, MOST_LINES_OF_A_NOTEBOOK = 25, 110


def test_the_number_of_a_notebook_is_its_place_in_the_run():
    assert [path.stem for path in NOTEBOOKS] == [stage.stem for stage in pipeline.STAGES]
    for number, stage in enumerate(pipeline.STAGES, start=1):
        title = nbformat.read(ROOT / "notebooks" / f"{stage.stem}.ipynb", as_version=4).cells[0].source
        assert stage.stem.startswith(f"{number:02}_") and title.startswith(f"# {number:02} · ")
        assert all(int(need[:2]) < number for need in stage.needs)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_call_and_do_not_define(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell.source.splitlines() for cell in cells if cell.cell_type == "code"]
    assert 12 <= len(cells) <= 30
    assert max(map(len, code)) <= MOST_LINES_OF_A_CELL
    assert sum(map(len, code)) <= MOST_LINES_OF_A_NOTEBOOK
    assert [cell.metadata.get("tags") for cell in cells].count(["parameters"]) == 1
    for line in (line for lines in code for line in lines):
        assert not line.lstrip().startswith(("def ", "class "))
        assert "sys.path" not in line and "PROFILES" not in line


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_begin_with_what_they_take_and_end_with_what_their_tables_say(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    question, *_ = cells[0].source.splitlines()[2:]
    assert "?" in question and "Reads" in cells[0].source and "minute" not in cells[0].source.lower()
    clock = [cell.source for cell in cells if cell.metadata.get("tags") == ["clock"]]
    assert clock == [f'Markdown(last_run.sentence(study, "{notebook.stem}"))']
    shown = [cell for cell in cells if "page" not in cell.metadata.get("tags", [])]
    assert shown[-1].source.startswith("Markdown(readings.")
