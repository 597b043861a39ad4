"""Artifacts carry what made them, and stale or damaged ones are refused by name."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.disk import artifacts, locks
from waldo_utils.disk.homes import UNFINISHED
from waldo_utils.run import pipeline
from waldo_utils.study import PROFILES, ROOT

STUDY = PROFILES["smoke"]


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)


def test_an_array_comes_back_as_it_was_saved():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    artifacts.save_array(STUDY, "global/seed0/features", array)
    np.testing.assert_array_equal(artifacts.load_array(STUDY, "global/seed0/features"), array)


def test_an_artifact_of_other_settings_is_refused_with_the_setting_and_the_notebook():
    artifacts.save_array(STUDY, "global/features", np.zeros(2))
    other = replace(STUDY, global_=replace(STUDY.global_, epochs=7))
    with pytest.raises(ValueError, match=r"global_.epochs: 1, now 7\): rerun notebook 02_train_global"):
        artifacts.load_array(other, "global/features")


def test_settings_of_later_stages_do_not_matter():
    artifacts.save_array(STUDY, "global/features", np.ones(2))
    other = replace(STUDY, reranker=replace(STUDY.reranker, epochs=7))
    assert artifacts.load_array(other, "global/features").sum() == 2


def test_a_changed_file_is_refused():
    artifacts.save_array(STUDY, "data/rows", np.zeros(100))
    path = artifacts.data_folder(STUDY) / "data" / "rows.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="SHA-256 differs.*rerun notebook 01_prepare_data"):
        artifacts.load_array(STUDY, "data/rows")


def test_an_artifact_of_other_photos_or_weights_is_refused_and_its_training_starts_anew():
    artifacts.save_frame(STUDY, "data/manifest", pd.DataFrame({"path": ["a.jpg"]}))
    artifacts.save_array(STUDY, "global/seed0/features", np.zeros(2))
    checkpoint = artifacts.checkpoint_path(STUDY, "global/seed0")
    artifacts.save_frame(STUDY, "data/manifest", pd.DataFrame({"path": ["a.jpg"]}))
    assert artifacts.load_array(STUDY, "global/seed0/features").sum() == 0
    assert artifacts.checkpoint_path(STUDY, "global/seed0") == checkpoint
    artifacts.save_frame(STUDY, "data/manifest", pd.DataFrame({"path": ["b.jpg"]}))
    with pytest.raises(
        ValueError, match="made from another data/manifest.json: rerun notebook 02_train_global"
    ):
        artifacts.load_array(STUDY, "global/seed0/features")
    assert artifacts.checkpoint_path(STUDY, "global/seed0") != checkpoint


def test_an_artifact_of_other_code_is_refused_and_what_the_code_trained_or_began_starts_anew(
    tmp_path, monkeypatch
):
    package = shutil.copytree(artifacts.PACKAGE, tmp_path / "package")
    monkeypatch.setattr(artifacts, "PACKAGE", package)

    def edit(name):
        artifacts._first_hash.cache_clear()
        with (package / name).open("a") as file:
            file.write("\n")

    def unfinished():
        return (
            artifacts.checkpoint_path(STUDY, "reranker/seed0/frozen"),
            artifacts.partial_path(STUDY, "reranker/seed0/frozen_scores"),
        )

    artifacts.save_array(STUDY, "global/features", np.ones(2))
    artifacts.save_array(STUDY, "data/rows", np.ones(2))
    training, scoring = unfinished()
    edit("figures/grids.py")
    assert artifacts.load_array(STUDY, "global/features").sum() == 2
    assert unfinished() == (training, scoring)
    artifacts.save_weights(STUDY, "global/seed0/weights", {"w": torch.ones(2)})
    training, scoring = unfinished()
    edit("models/scorer.py")
    artifacts.save_weights(STUDY, "global/seed0/weights", {"w": torch.ones(2)})
    with pytest.raises(ValueError, match=r"made by another models/scorer.py: rerun notebook 02_train_global"):
        artifacts.load_array(STUDY, "global/features")
    assert artifacts.load_array(STUDY, "data/rows").sum() == 2
    assert unfinished()[0] == training
    assert unfinished()[1] != scoring
    edit("models/image_model.py")
    assert unfinished()[0] != training


@pytest.mark.parametrize("writer", artifacts.CODE)
def test_the_code_that_decides_an_artifact_is_code_that_its_notebook_imports(writer):
    """Else a change of it would refuse the artifact without running the notebook again."""
    notebook = ROOT / "notebooks" / f"{artifacts.WRITERS[writer][0]}.ipynb"
    assert {artifacts.PACKAGE / name for name in artifacts.CODE[writer]} <= set(pipeline.sources(notebook))


def elsewhere(code, token=""):
    """Run code in another process that writes where this one does."""
    setup = (
        "import sys; from pathlib import Path; import numpy as np, pandas as pd; "
        "from waldo_utils.disk import artifacts; from waldo_utils.study import PROFILES; "
        f"artifacts.ROOT = Path({str(artifacts.ROOT)!r}); STUDY = PROFILES['smoke']\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), locks.VARIABLE: token}
    command = [sys.executable, "-c", setup + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


WRITES = (
    "artifacts.save_array(STUDY, 'data/rows', np.zeros(3))",
    "artifacts.save_table(STUDY, 'main', pd.DataFrame({'R@1': [0.5]}))",
    "artifacts.checkpoint_path(STUDY, 'global/seed0')",  # so that no training begins in vain
)


def test_who_writes_takes_the_lock_and_a_run_lets_its_own_kernels_write():
    with locks.hold(artifacts.lock_path(STUDY)):
        artifacts.save_array(STUDY, "data/rows", np.ones(2))
        for code in WRITES:
            stranger = elsewhere(code)
            assert f"Held: process {os.getpid()} on " in stranger.stderr
            assert "wait for it, or stop it" in stranger.stderr
        own = elsewhere("; ".join(WRITES), token=os.environ[locks.VARIABLE])
        assert own.returncode == 0, own.stderr
    free = elsewhere("; ".join(WRITES))
    assert free.returncode == 0, free.stderr
    assert artifacts.lock_path(STUDY).read_text() == ""


DRAWN = {
    "a figure": (
        "from matplotlib.figure import Figure; from waldo_utils.figures import style; "
        "style.save(Figure(), artifacts.results_folder(STUDY) / 'figures' / 'main.png')"
    ),
    "photos": (
        "from waldo_utils.miniature.datasets import render_sop; render_sop("
        "artifacts.data_folder(STUDY) / 'rendered_sop', 1, 2, 1, 2, 32, 0.3, categories=['mug'], processes=1)"
    ),
}
REMOVED = {
    "copies": (
        "from waldo_utils.own import first_try; first_try.write_folders("
        "STUDY.data, artifacts.data_folder(STUDY), artifacts.data_folder(STUDY) / 'own_photos')"
    ),
    "photos of other settings": (
        "from waldo_utils.data import sources; "
        "sources.open_places(STUDY.places.test, artifacts.data_folder(STUDY) / 'own_photos')"
    ),
}


def test_who_draws_renders_or_removes_for_a_profile_takes_its_lock():
    kept = artifacts.data_folder(STUDY) / "own_photos" / "settings.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"seed": -1}')

    def there():
        tops = (artifacts.data_folder(STUDY), artifacts.results_folder(STUDY))
        return {path.name for top in tops for path in top.rglob("*") if path.is_file()} - {".lock"}

    with locks.hold(artifacts.lock_path(STUDY)):
        for code in (*DRAWN.values(), *REMOVED.values()):
            stranger = elsewhere(code)
            assert f"Held: process {os.getpid()} on " in stranger.stderr
            assert there() == {"settings.json"}
        own = elsewhere("\n".join(DRAWN.values()), token=os.environ[locks.VARIABLE])
        assert own.returncode == 0, own.stderr
        assert {"main.png", "Ebay_test.txt"} <= there()
        reads = elsewhere(DRAWN["photos"])  # what is complete, and writes nothing
        assert reads.returncode == 0, reads.stderr


def test_a_cell_that_writes_holds_the_lock_until_it_ends():
    code = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.push(dict(artifacts=artifacts, STUDY=STUDY, np=np))
lock = artifacts.lock_path(STUDY)
for _ in range(2):
    cell = shell.run_cell("{WRITES[0]}; {WRITES[2]}; held = artifacts.lock_path(STUDY).read_text()")
    assert cell.success and "token" in shell.user_ns["held"]
    assert lock.read_text() == ""
"""
    ended = elsewhere(code)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_run_tells_its_kernels_where_the_results_of_its_own_profile_wait(tmp_path, monkeypatch):
    monkeypatch.setenv(UNFINISHED, str(tmp_path / "unfinished" / "smoke"))
    assert artifacts.results_folder(STUDY) == tmp_path / "unfinished" / "smoke"
    assert artifacts.results_folder(PROFILES["mini"]) == tmp_path / "results" / "mini"
    monkeypatch.delenv(UNFINISHED)
    assert artifacts.results_folder(STUDY) == tmp_path / "results" / "smoke"


def test_a_missing_artifact_names_its_notebook():
    with pytest.raises(FileNotFoundError, match="run notebook 03_train_reranker with profile 'smoke'"):
        artifacts.load_array(STUDY, "reranker/nothing")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def fail(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        artifacts.write_atomically(tmp_path / "folder" / "file.txt", fail)
    assert list((tmp_path / "folder").iterdir()) == []


def test_tables_hold_fractions_and_their_provenance():
    table = pd.DataFrame({"method": ["CO", "CO + RRT"], "R@1": [0.5, np.nan]})
    artifacts.save_table(STUDY, "main", table)
    pd.testing.assert_frame_equal(artifacts.load_table(STUDY, "main"), table)
    with pytest.raises(ValueError, match=r"fractions in \[0, 1\]"):
        artifacts.save_table(STUDY, "main", table.assign(**{"R@1": [50.0, 1.0]}))
    with pytest.raises(ValueError, match=r"fractions in \[0, 1\]"):
        artifacts.save_table(STUDY, "main", table.assign(**{"R@1": [-0.5, 1.0]}))
    artifacts.save_table(STUDY, "main", table.assign(**{"R@1 gain": [-0.5, np.nan]}))
    artifacts.save_table(STUDY, "main", table)
    with pytest.raises(ValueError, match=r"seeds: \[0\], now \[5\]"):
        artifacts.load_table(replace(STUDY, seeds=(5,)), "main")
    artifacts.load_table(replace(STUDY, summary="other words"), "main")
    path = artifacts.results_folder(STUDY) / "tables" / "main.csv"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    with pytest.raises(
        ValueError, match="main.csv is not the table that was recorded .* rerun the notebooks"
    ):
        artifacts.load_table(STUDY, "main")
