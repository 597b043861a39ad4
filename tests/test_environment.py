"""Lock, constraints, conda file and project agree, and hold no addresses."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml

from waldo_utils.study import ROOT

LOCK = (ROOT / "requirements.lock").read_text()


def pins(text):
    return set(re.findall(r"^([A-Za-z0-9_.-]+==[^ ;\\\n]+)", text, flags=re.M))


def test_constraints_are_the_versions_of_the_lock():
    assert pins((ROOT / "constraints.txt").read_text()) == pins(LOCK)
    assert len(pins(LOCK)) > 50


def test_conda_installs_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e .[test]"]
    assert [entry for entry in environment["dependencies"] if isinstance(entry, str)] == [
        "python=3.12",
        "pip",
    ]


def test_every_direct_dependency_is_locked_with_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["test"],
    ]
    locked = {pin.split("==")[0].lower().replace("_", "-") for pin in pins(LOCK)}
    assert {re.match(r"[A-Za-z0-9_.-]+", entry)[0].lower() for entry in wanted} <= locked
    assert LOCK.count("--hash=sha256:") > len(locked)


@pytest.mark.parametrize("name", ["requirements.lock", "constraints.txt", "environment.yml", "Makefile"])
def test_no_download_address_is_written_down(name):
    assert not re.search(r"https?://|index-url", (ROOT / name).read_text().replace("--no-emit-index-url", ""))


def made(folder, *arguments):
    """Run make in a folder that counts as set up, with this Python."""
    (folder / ".stamps").mkdir(exist_ok=True)
    (folder / ".stamps" / "setup").write_text(f"{folder.resolve()}\n")
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    return subprocess.run(
        ["make", *arguments, f"PYTHON={sys.executable}"], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "waldo_utils").symlink_to(ROOT / "waldo_utils")  # by which lint knows whose imports are whose
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_a_notebook_that_an_editor_saved_is_as_before_after_make_strip(project):
    original = next((ROOT / "notebooks").glob("*.ipynb"))
    copy = project / "notebooks" / "x.ipynb"
    notebook = nbformat.read(original, as_version=4)
    notebook.metadata.language_info = {
        "codemirror_mode": {"name": "ipython", "version": 3}, "file_extension": ".py",
        "mimetype": "text/x-python", "name": "python", "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3", "version": "3.11.7",
    }  # fmt: skip
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.metadata["execution"] = 3, {"iopub.execute_input": "now"}
            cell.outputs = [nbformat.v4.new_output("stream", text="x")]
    nbformat.write(notebook, copy)
    checked = made(project, "lint")
    assert checked.returncode != 0
    assert "take them out by `make strip`" in checked.stderr
    stripped = made(project, "strip")
    assert stripped.returncode == 0, stripped.stderr
    assert copy.read_bytes() == original.read_bytes()
    checked = made(project, "lint")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_tests_run_whatever_lint_says_and_lab_takes_arguments_in_a_folder_of_any_name(project):
    project = project.rename(project.with_name('a {v2} "b" )c'))
    (project / "tests").mkdir()
    (project / "tests" / "test_x.py").write_text("def test_x():\n    pass\n")
    (project / "x.py").write_text("import os\n")
    (project / "notebooks" / "x.ipynb").write_text("{}")
    tested = made(project, "test")
    assert "1 passed" in tested.stdout
    assert tested.returncode != 0  # for lint
    lab = made(project, "--dry-run", "lab", "ARGS=--port=9999")
    assert "--port=9999" in lab.stdout and "--allow-root" in lab.stdout


def test_a_folder_in_which_nothing_would_work_is_refused_before_anything_is_done(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).touch()
    refused = subprocess.run(["make", "setup"], cwd=folder, capture_output=True, text=True)
    assert refused.returncode != 0
    assert refused.stderr.startswith("the path of this folder holds ':'")
    assert not (folder / ".venv").exists()
