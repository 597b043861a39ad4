"""The runner: order, what is rerun, failures, refusals. The notebooks are tiny; the kernel is real."""

import json
import re
import sys
from dataclasses import replace

import nbformat
import psutil
import pytest
from jupyter_client.manager import KernelManager

from waldo_utils.__main__ import main
from waldo_utils.run import kernels, pipeline
from waldo_utils.run.pipeline import Folders, Stage
from waldo_utils.study import PROFILES

STUDY = PROFILES["smoke"]
SLEEP = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(500)"
STAGES = (Stage("01_first"), Stage("02_second", ("01_first",)))


def write_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell('profile = "mini"', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    path.parent.mkdir(exist_ok=True)
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=cells,
            metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
        ),
        path,
    )


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "STAGES", STAGES)
    folders = Folders(tmp_path / "notebooks", tmp_path / "results", tmp_path / "data")
    log = tmp_path / "log.txt"
    for stem in ("01_first", "02_second"):
        write_notebook(
            folders.notebooks / f"{stem}.ipynb",
            f"open({str(log)!r}, 'a').write('{stem} ' + profile + chr(10))",
        )
    return folders


def save_as_an_editor(path):
    """Change what JupyterLab changes when a notebook is run by hand and saved: all but the code."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.99", "file_extension": ".py"}
    for number, cell in enumerate(notebook.cells):
        cell.execution_count = number
        cell.outputs = [nbformat.v4.new_output("stream", text="x")]
        cell.metadata["scrolled"] = True
        cell.source += "\n"
    notebook.cells.append(nbformat.v4.new_markdown_cell("a remark"))
    nbformat.write(notebook, path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))


def ran(folders):
    log = folders.notebooks.parent / "log.txt"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.split()[0] for line in lines]


def test_force_trains_and_extracts_from_the_start(folders):
    state, begun = folders.data / "global" / "seed0_12.pt", folders.data / "global" / "seed0_12.partial"
    begun.mkdir(parents=True)
    (begun / "0.npy").touch()
    state.touch()
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert state.exists()
    assert begun.exists()
    assert pipeline.run(STUDY, force=True, folders=folders, stages=STAGES) == 0
    assert not state.exists()
    assert not begun.exists()


def test_the_kernel_imports_the_package_that_runs_it_and_not_an_installed_one(folders, monkeypatch, capfd):
    """A folder that was copied with its virtual environment has the other's package installed."""
    monkeypatch.setattr(kernels, "ROOT", folders.notebooks.parent)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    package = folders.notebooks.parent / "waldo_utils"
    package.mkdir()
    (package / "__init__.py").write_text("MINE = True\n")
    write_notebook(folders.notebooks / "01_first.ipynb", "import waldo_utils; assert waldo_utils.MINE")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES[:1]) == 0, capfd.readouterr().err


def test_only_what_changed_runs(folders, capfd):
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert ran(folders) == ["01_first", "02_second"]
    assert "[2/2] 02_second done" in capfd.readouterr().out
    report = (folders.results / "report.html").read_text()
    assert 'src="http' not in report
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert ran(folders) == []
    assert "nothing to do" in capfd.readouterr().out
    assert pipeline.run(replace(STUDY, summary="other words"), folders=folders, stages=STAGES) == 0
    assert ran(folders) == []

    notebook = folders.notebooks / "02_second.ipynb"
    save_as_an_editor(notebook)
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert ran(folders) == []
    notebook.write_text(notebook.read_text().replace("'a'", "'a' "))
    pipeline.run(STUDY, folders=folders, stages=STAGES)
    assert ran(folders) == ["02_second"]
    pipeline.run(replace(STUDY, seeds=(9,)), folders=folders, stages=STAGES)
    assert ran(folders) == ["01_first", "02_second"]
    assert pipeline.status(replace(STUDY, seeds=(9,)), folders, STAGES) == {
        "01_first": True,
        "02_second": True,
    }


def test_a_notebook_whose_output_is_gone_runs_again_and_those_that_need_it(folders):
    def written(*paths):
        return "from waldo_utils.disk import artifacts\nfrom waldo_utils.study import PROFILES\n" + "\n".join(
            f"artifacts.write_atomically({place}, lambda path: path.touch())" for place in map(seen, paths)
        )

    def seen(path):
        """Return a path as a notebook writes it."""
        if not path.is_relative_to(folders.results):
            return f"artifacts.Path({str(path)!r})"
        return f"artifacts.results_folder(PROFILES[profile]) / {str(path.relative_to(folders.results))!r}"

    table, array = folders.results / "tables" / "a.csv", folders.data / "global" / "seed0" / "a.npy"
    state = folders.data / "global" / "seed0_12.pt"
    second = folders.results / "figures" / "b.png"
    log = f"open({str(folders.notebooks.parent / 'log.txt')!r}, 'a').write("
    write_notebook(folders.notebooks / "01_first.ipynb", written(table, array, state), log + "'01_first\\n')")
    write_notebook(folders.notebooks / "02_second.ipynb", written(second), log + "'02_second\\n')")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    state.unlink()
    ran(folders)
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert ran(folders) == []
    for gone, rerun in (
        (second, ["02_second"]),
        (table, ["01_first", "02_second"]),
        (array, ["01_first", "02_second"]),
    ):
        gone.unlink()
        assert not all(pipeline.status(STUDY, folders, STAGES).values())
        assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
        assert ran(folders) == rerun
        assert gone.exists()


def test_a_damaged_stamp_is_none(folders):
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    ran(folders)
    (folders.data / "stamps" / "02_second.txt").write_text("damaged")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert ran(folders) == ["02_second"]


def test_a_failed_cell_is_named_and_the_next_run_starts_there(folders, capfd):
    write_notebook(folders.notebooks / "02_second.ipynb", "1 + 1", "count = 1 / 0")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 1
    error = capfd.readouterr().err
    assert "02_second.ipynb, cell 4 (count = 1 / 0): ZeroDivisionError: division by zero" in error
    assert ran(folders) == ["01_first"]
    write_notebook(folders.notebooks / "02_second.ipynb", "1 + 1")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert ran(folders) == []


def test_results_are_replaced_by_finished_ones_only(folders, capfd):
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert re.search(r"done in \d+\.\d min on .+, \d+ cores.*, load \d", capfd.readouterr().out)
    result = folders.results / "notebooks" / "02_second.ipynb"
    before = result.read_bytes()
    copy = folders.data / "unfinished" / "02_second.ipynb"
    assert not copy.exists()
    write_notebook(folders.notebooks / "02_second.ipynb", "1 / 0")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 1
    assert f"its executed copy is {copy}" in capfd.readouterr().err
    assert result.read_bytes() == before
    assert "ZeroDivisionError" in copy.read_text()
    write_notebook(folders.notebooks / "02_second.ipynb", "2 + 40")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    assert "2 + 40" in result.read_text()
    assert not copy.exists()


SAVE = """
from pathlib import Path
import pandas as pd
from PIL import Image
from waldo_utils.disk import artifacts
from waldo_utils.study import PROFILES
study, artifacts.ROOT = PROFILES[profile], Path({root!r})
artifacts.save_table(study, {name!r}, pd.DataFrame({{"R@1": [{value}]}}))
figure = artifacts.results_folder(study) / "figures" / "{name}.png"
artifacts.write_atomically(figure, lambda partial: Image.new("L", (9, 9), int({value} * 100)).save(partial))
"""


def save(folders, name, value):
    """Return a cell that saves a table and a figure."""
    return SAVE.format(root=str(folders.notebooks.parent), name=name, value=value)


def written(folders):
    """Return the bytes of all results but the report, which has the executed copies in it."""
    found = {path.name: path.read_bytes() for path in folders.results.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != "report.html"}


ENDS = {"an error": "1 / 0", "a kill": "import os; os.kill(os.getpid(), 9)"}


@pytest.mark.parametrize("end", ENDS)
def test_a_stage_that_ends_half_way_leaves_the_results_as_they_were(folders, end):
    first, second = folders.notebooks / "01_first.ipynb", folders.notebooks / "02_second.ipynb"
    write_notebook(first, save(folders, "early", 0.25))
    write_notebook(second, save(folders, "late", 0.5))
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    before = written(folders)
    assert {"early.csv", "early.json", "early.png", "late.csv", "late.json", "late.png"} < before.keys()

    write_notebook(second, save(folders, "late", 0.75), save(folders, "other", 1.0), ENDS[end])
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 1
    assert written(folders) == before
    assert not pipeline.status(STUDY, folders, STAGES)["02_second"]

    # It reads what was there before; "other", which it no longer saves, is gone.
    read = "assert artifacts.load_table(study, {!r})['R@1'][0] == {}"
    write_notebook(
        second,
        save(folders, "new", 0.0) + read.format("late", 0.5) + "\n" + read.format("early", 0.25),
        save(folders, "late", 0.75) + read.format("late", 0.75),
    )
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    after = written(folders)
    assert after.keys() - before.keys() == {"new.csv", "new.json", "new.png"}
    assert {name for name in before if after[name] != before[name]} == {
        "late.csv", "late.json", "late.png", "02_second.ipynb"
    }  # fmt: skip
    assert list((folders.data / "unfinished").iterdir()) == []


def test_a_run_that_is_killed_between_the_results_and_the_stamp_runs_the_stage_again(folders, monkeypatch):
    log = f"open({str(folders.notebooks.parent / 'log.txt')!r}, 'a').write('01_first' + chr(10))"
    write_notebook(folders.notebooks / "01_first.ipynb", save(folders, "late", 0.5), log)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(STUDY, folders=folders, stages=STAGES[:1])
    assert {"late.csv", "late.json", "late.png", "01_first.ipynb"} <= written(folders).keys()
    assert pipeline.run(STUDY, folders=folders, stages=STAGES[:1]) == 0
    assert ran(folders) == ["01_first", "01_first"]


def test_what_systems_and_other_programs_leave_meanwhile_is_no_output(folders):
    """A table that stands open in LibreOffice, a folder that a file manager shows."""
    array = folders.data / "global" / "a.npy"
    left = [
        place / name
        for place in (folders.results / "tables", folders.results / "figures", array.parent)
        for name in (".~lock.late.csv#", ".DS_Store", "Thumbs.db", "@eaDir/late@SynoEAStream")
    ]
    others = (
        f"for name in {[str(path) for path in left]}:\n"
        "    artifacts.write_atomically(Path(name), Path.touch)\n"
        "artifacts.write_atomically(figure.parent / 'desktop.ini', Path.touch)\n"
        f"artifacts.write_atomically(Path({str(array)!r}), Path.touch)"
    )
    write_notebook(folders.notebooks / "01_first.ipynb", save(folders, "late", 0.5) + others)
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 0
    stamp = (folders.data / "stamps" / "01_first.txt").read_text().split("\n")
    assert stamp[2:] == [
        "results/tables/late.csv", "results/tables/late.json", "results/figures/late.png",
        "data/global/a.npy",
    ]  # fmt: skip
    for path in left:
        path.unlink()
    assert all(pipeline.status(STUDY, folders, STAGES).values())
    assert not (folders.results / "figures" / "desktop.ini").exists()


def test_a_folder_may_have_any_name_that_a_kernel_can_be_told_of(tmp_path, monkeypatch):
    place = tmp_path / 'a {v2} "b" }c'
    place.mkdir()
    write_notebook(place / "notebooks" / "01_first.ipynb", "1 + 1")
    folders = Folders(place / "notebooks", place / "results", place / "data")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES[:1]) == 0
    assert (folders.results / "notebooks" / "01_first.ipynb").exists()
    monkeypatch.setattr(kernels, "ROOT", tmp_path / "a:b")
    with pytest.raises(ValueError, match=r"a:b holds ':', which separates paths .* rename the folder"):
        pipeline.run(STUDY, folders=folders, stages=STAGES[:1])


@pytest.mark.parametrize("name", ["plain", "a{prefix}b", "{connection_file}", "{resource_dir} {v2}"])
def test_a_kernel_runs_this_python_whatever_its_folder_is_called(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / name))
    monkeypatch.setattr(sys, "executable", str(tmp_path / name / "bin" / "python"))
    monkeypatch.setenv("JUPYTER_PATH", str(kernels.kernel_folder()))
    command = KernelManager(kernel_name="waldo", connection_file="c.json").format_kernel_cmd()
    assert command[:4] == [sys.executable, "-m", "ipykernel_launcher", "-f"]
    assert command[4].endswith("c.json")


def test_a_dead_kernel_is_reported(folders, capfd):
    write_notebook(folders.notebooks / "01_first.ipynb", "1 + 1", "import os\nos.kill(os.getpid(), 9)")
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 1
    assert "01_first.ipynb, cell 4 (import os): its kernel died" in capfd.readouterr().err


def test_a_kernel_that_does_not_start_is_reported_and_ended(folders, tmp_path, monkeypatch, capfd):
    spec = tmp_path / "jupyter" / "kernels" / "waldo" / "kernel.json"
    spec.parent.mkdir(parents=True)
    sleeper = [sys.executable, "-c", SLEEP, str(tmp_path)]
    spec.write_text(json.dumps({"argv": sleeper, "display_name": "Waldo", "language": "python"}))
    monkeypatch.setattr(kernels, "kernel_folder", lambda: tmp_path / "jupyter")
    monkeypatch.setattr(kernels, "START", 1)
    assert pipeline.run(STUDY, folders=folders, stages=STAGES) == 1
    error = capfd.readouterr().err
    assert "01_first.ipynb: its kernel did not start (Kernel didn't respond in 1 seconds): make sure" in error
    assert "Traceback" not in error
    assert not [child for child in psutil.Process().children() if str(tmp_path) in child.cmdline()]


def test_unknown_parameters_and_notebooks_are_refused_before_anything_runs(folders):
    with pytest.raises(ValueError, match="no parameter 'profil': its parameters are profile"):
        pipeline.run(STUDY, parameters={"profil": "x"}, folders=folders, stages=STAGES)
    with pytest.raises(ValueError, match="unknown notebook '09_x': choose one of 01_first, 02_second"):
        pipeline.run(STUDY, only="09_x", folders=folders, stages=STAGES)
    assert ran(folders) == []


@pytest.mark.parametrize("name", ["results", "data"])
def test_an_unwritable_folder_is_one_line(folders, name):
    folders.notebooks.with_name(name).write_text("a file, not a folder")
    with pytest.raises(OSError, match=f"cannot write to .*{name}"):
        pipeline.run(STUDY, folders=folders, stages=STAGES)


def test_unknown_profiles_are_refused_with_the_known_ones(capsys):
    assert main(["run", "--profile", "maxi"]) == 2
    assert "unknown profile 'maxi': choose one of mini, smoke, photos, sop, paper" in capsys.readouterr().err


def test_help_and_profiles(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert main(["profiles"]) == 0
    assert "mini " in capsys.readouterr().out


def test_the_raw_photos_count_for_the_notebook_that_opens_them_only(folders, monkeypatch):
    write_notebook(folders.notebooks / "01_first.ipynb", "from waldo_utils.data import sources")
    before = pipeline._fingerprint(STAGES[0], STUDY, {}, folders)
    other = pipeline._fingerprint(STAGES[1], STUDY, {}, folders)
    monkeypatch.setattr(pipeline.inputs, "digest", lambda settings, folder: "other photos")
    assert pipeline._fingerprint(STAGES[0], STUDY, {}, folders) != before
    assert pipeline._fingerprint(STAGES[1], STUDY, {}, folders) == other
    monkeypatch.setattr(pipeline, "version", lambda library: "99")
    assert pipeline._fingerprint(STAGES[1], STUDY, {}, folders) != other


def test_dependencies_follow_the_imports(tmp_path):
    write_notebook(tmp_path / "x.ipynb", "from waldo_utils.training import losses")
    assert [path.name for path in pipeline.sources(tmp_path / "x.ipynb")] == [
        "__init__.py",
        "__init__.py",
        "losses.py",
    ]
    names = {path.name for path in pipeline.sources(pipeline.ROOT / "notebooks" / "02_train_global.ipynb")}
    assert {"loop.py", "image_model.py"} <= names
    assert "datasets.py" not in names
