"""Nothing is lost: killed, stopped and doubled runs of a tiny study, in processes of their own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import torture

from waldo_utils.disk import locks
from waldo_utils.disk.files import is_alive
from waldo_utils.run import kernels

# A tiny study on the real parts: photos are rendered by two processes and cached, "trained" on with a
# checkpoint after each, and counted into a table.
NOTEBOOKS = {
    "01_photos": """
from waldo_utils.data import manifests, photo_cache
from waldo_utils.disk import artifacts
from waldo_utils.miniature.datasets import render_sop
from waldo_utils.study import PROFILES
study = PROFILES["smoke"]
folder = artifacts.data_folder(study)
root = render_sop(folder / "rendered", 1, 2, 2, 4, 48, 0.3, categories=["mug", "chair", "lamp"], processes=2)
manifest = manifests.sop_manifest(root)
photo_cache.build_cache(manifest, root, folder / "photos", 32)
artifacts.save_frame(study, "data/manifest", manifest)
""",
    "02_train": """
import json, time
from waldo_utils.data import photo_cache
from waldo_utils.disk import artifacts
from waldo_utils.figures import grids, style
from waldo_utils.study import PROFILES
study = PROFILES["smoke"]
photos = photo_cache.open_cache(artifacts.data_folder(study) / "photos")
state = artifacts.data_folder(study) / "global" / "state.json"
sums = json.loads(state.read_text()) if state.exists() else []
for i in range(len(sums), len(photos)):
    sums.append(int(photos[i].sum()))
    artifacts.write_atomically(state, lambda partial: partial.write_text(json.dumps(sums)))
    time.sleep(0.05)
import numpy as np
import pandas as pd
sheet = grids.photo_sheet([photos.image(0)], columns=1)
style.save(sheet, artifacts.results_folder(study) / "figures" / "photo.png")
artifacts.save_array(study, "global/sums", np.array(sums))
artifacts.save_table(study, "sums", pd.DataFrame({"sum": artifacts.load_array(study, "global/sums")}))
""",
}
COMMAND = [
    "-c",
    "import sys; from waldo_utils.run import pipeline; from waldo_utils.run.pipeline import Stage; "
    "stages = (Stage('01_photos'), Stage('02_train', ('01_photos',))); "
    "from waldo_utils import __main__; pipeline.STAGES = stages; "
    "pipeline.run.__defaults__ = (*pipeline.run.__defaults__[:-1], stages); "
    "sys.exit(__main__.main(['run', '--profile', sys.argv[1]]))",
]


def write_notebook(path: Path, *sources: str) -> None:
    cells = [nbformat.v4.new_code_cell('profile = "mini"', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    kernel = {"name": "python3", "display_name": "x", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def project(tmp_path):
    folder = torture.copy_project(tmp_path / "project")
    for path in (folder / "notebooks").iterdir():
        path.unlink()
    for stem, source in NOTEBOOKS.items():
        write_notebook(folder / "notebooks" / f"{stem}.ipynb", source)
    return folder


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_study_killed_twice_ends_with_the_tables_of_an_undisturbed_one(project, tmp_path):
    assert torture.torture(project, [*COMMAND, "smoke"], kills=0, rng=random.Random(0)) == []
    expected = torture.tables(project)
    assert list(expected) == ["sums"]
    (project / "data").rename(tmp_path / "data")
    (project / "results").rename(tmp_path / "results")

    log = torture.torture(project, [*COMMAND, "smoke"], kills=2, rng=random.Random(1), longest=12)
    assert len(log) == 2
    assert torture.differences(expected, torture.tables(project)) == []
    assert torture.half_written(project, copies=True) == []


def test_a_repeated_study_gets_the_times_that_are_kept_and_must_equal_every_other_file(tmp_path):
    source, project = tmp_path / "source", tmp_path / "project"
    written = {
        "results/mini/tables/speed_x.csv": "times", "results/mini/tables/speed_x.json": "times",
        "results/mini/runs.json": "[]", "results/mini/tables/main.csv": "a",
        "results/mini/figures/speed_x.png": "b", "results/mini/README.md": "c",
        "results/benchmarks/memory.csv": "d",
    }  # fmt: skip
    for name, text in written.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    torture.copy_kept(source, project, "mini")
    copied = sorted(path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file())
    assert copied == [
        "results/benchmarks/memory.csv", "results/mini/runs.json", "results/mini/tables/speed_x.csv",
        "results/mini/tables/speed_x.json",
    ]  # fmt: skip
    whole, found = torture.everything(source, "mini"), torture.everything(project, "mini")
    assert torture.differences(whole, found) == ["figures/speed_x.png", "tables/main.csv"]


OFFLINE = ["unshare", "--map-root-user", "--net"]  # Linux: a network of its own in which nothing is up


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*OFFLINE, "true"], capture_output=True).returncode != 0,
    reason="this system lends no network of its own",
)
def test_a_study_needs_neither_a_network_nor_a_home(project):
    ended = subprocess.run(
        [*OFFLINE, sys.executable, *COMMAND, "smoke"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project), "HOME": "/proc/nowhere"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(torture.tables(project)) == ["sums"]
    assert not (project / "data" / "smoke" / "jupyter" / "sockets").exists()


def test_a_study_on_a_full_disk_says_so_and_goes_on_when_there_is_room(project, small_disk):
    (project / "data").symlink_to(small_disk)
    for size in ("64k", "256k"):  # full while photos are rendered, and later
        subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)
        process = torture.start(project, [*COMMAND, "smoke"])
        output, _ = process.communicate(timeout=300)
        assert process.returncode in (1, 2), output  # met by a notebook, or by the run itself
        assert "make room" in output, output
        assert "Traceback" not in output
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    process = torture.start(project, [*COMMAND, "smoke"])
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert list(torture.tables(project)) == ["sums"]
    assert torture.half_written(project, copies=True) == []


def test_sockets_whose_path_would_be_too_long_lie_elsewhere(tmp_path):
    for folder in (tmp_path, tmp_path / ("long" * 25)):
        sockets = kernels._new_sockets(folder)
        assert sockets.is_dir()
        assert sockets.stat().st_mode & 0o077 == 0
        assert len(os.fsencode(sockets)) <= kernels.LONGEST_SOCKET
        shutil.rmtree(sockets)


def sleeping(project: Path, profile: str = "smoke") -> subprocess.Popen:
    """Start the study with a first notebook that sleeps, and wait until it does."""
    awake = project / f"awake_{profile}"
    awake.unlink(missing_ok=True)
    write_notebook(
        project / "notebooks" / "01_photos.ipynb",
        f"import pathlib, time; pathlib.Path({str(project)!r}, 'awake_' + profile).write_text('x'); "
        "time.sleep(600)",
    )
    process = torture.start(project, [*COMMAND, profile])
    wait_for(awake.exists)
    return process


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_kernel_and_says_how_to_go_on(project, number, code):
    process = sleeping(project)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code
    assert f"stopped by {number.name}; the same command goes on with 01_photos" in output
    assert "Traceback" not in output
    assert not [other for other in family if is_alive(other.pid)]
    assert (project / "data" / "smoke" / ".lock").read_text() == ""


def test_the_second_run_of_a_profile_is_refused_and_another_profile_runs(project):
    process = sleeping(project)
    second = subprocess.run(
        [sys.executable, *COMMAND, "smoke"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1
    assert second.stderr.startswith(f"error: process {process.pid} on ")
    assert len(second.stderr.splitlines()) == 1
    other = sleeping(project, "mini")
    assert process.poll() is None
    for running in (process, other):
        os.killpg(running.pid, signal.SIGTERM)
        running.communicate(timeout=300)


def test_the_kernel_of_a_killed_run_ends_and_the_next_run_waits_for_it(project):
    process = sleeping(project)
    (kernel,) = psutil.Process(process.pid).children()
    lock = project / "data" / "smoke" / ".lock"
    process.kill()
    process.communicate()
    assert json.loads(lock.read_text())["pid"] == process.pid
    with locks.hold(
        lock
    ):  # waits for the kernel, which holds the lock until its end: the system closes its files then
        wait_for(lambda: not is_alive(kernel.pid), seconds=5)
        assert json.loads(lock.read_text())["pid"] == os.getpid()
