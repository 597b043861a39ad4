"""The package alone, installed without the checkout: what works, and what says that it needs more."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from waldo_utils.disk import homes
from waldo_utils.study import ROOT


def test_in_a_checkout_all_is_kept_there():
    assert homes.is_checkout() and homes.WORK == ROOT
    homes.require_checkout("run")


def test_elsewhere_it_is_the_folder_for_data_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert homes.work_folder(tmp_path) == tmp_path / "xdg" / "waldo"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert homes.work_folder(tmp_path) == tmp_path / ".local" / "share" / "waldo"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert homes.work_folder(tmp_path) == tmp_path / "Library" / "Application Support" / "waldo"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert homes.work_folder(tmp_path) == tmp_path / "Local" / "waldo"

    def homeless():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.chdir(tmp_path)
    assert homes.work_folder(tmp_path) == tmp_path / "waldo"


COMMANDS = """
from waldo_utils.__main__ import main
print([main(arguments.split()) for arguments in (
    "index photos", "search photos/1.png --top 1", "run --profile smoke", "status",
    "evaluate --checkpoint no.pt --data photos",
)])
"""


def test_the_installed_package_indexes_and_searches_from_elsewhere(tmp_path):
    shutil.copytree(
        ROOT / "waldo_utils", tmp_path / "site" / "waldo_utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    for i in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.effect_noise((40, 30), 20 * i + 20).save(tmp_path / "photos" / f"{i}.png")
    before = sorted(path.name for path in (tmp_path / "site").iterdir())
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip

    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert ended.stdout.splitlines()[-1] == "[0, 0, 2, 2, 2]", ended.stderr
    assert (tmp_path / "home" / "waldo" / "data" / "indexes").is_dir()
    assert " 1.png" in ended.stdout
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    for error, begin in zip(
        errors,
        (
            "`run` needs the study's notebooks",
            "`status` needs the study's",
            "no sop data in photos: download",
        ),
        strict=True,
    ):
        assert error.startswith(f"error: {begin}")
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == before
