"""The names that the package hands on: as the README shows them, and without loading what is not used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from small import drawn_photo, small_models

import waldo_utils
from waldo_utils.app import index_files, searching
from waldo_utils.run import pipeline
from waldo_utils.study import ROOT


def test_the_readme_s_lines_find_a_photo(tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    assert len(code) == 1
    for i in range(3):
        (tmp_path / "FOLDER" / f"product {i}").mkdir(parents=True)
        drawn_photo(i).save(tmp_path / "FOLDER" / f"product {i}" / "photo.png")
        drawn_photo(i, (50, 42)).save(tmp_path / "FOLDER" / f"product {i}" / "smaller.png")
    drawn_photo(1).save(tmp_path / "PHOTO", format="PNG")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "open_models", lambda study: small_models())
    monkeypatch.setattr(index_files, "HOME", tmp_path / "data")
    names = {}
    exec(code[0], names)
    printed = capsys.readouterr().out
    assert "product 1" in printed
    assert "R@1" in printed
    assert len(names["gallery"]) == 6
    assert waldo_utils.evaluate(Path("FOLDER"), names["models"], "efficientnet_lite0").figures["R@1"][0] == 1


@pytest.mark.parametrize("name", waldo_utils.__all__)
def test_each_name_is_there_and_documented(name):
    value = getattr(waldo_utils, name)
    assert re.search(rf"^- `{name}\b", waldo_utils.__doc__, flags=re.M)
    assert not callable(value) or value.__doc__
    assert name in dir(waldo_utils)


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'opne_models'"):
        _ = waldo_utils.opne_models


def test_the_package_alone_loads_nothing():
    code = (
        "import sys, waldo_utils; "
        "print([name for name in sys.modules if name.startswith(('waldo', 'torch'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert shown.stdout.strip() == "['waldo_utils']"


def test_a_notebook_does_not_depend_on_what_the_package_hands_on():
    first = pipeline.sources(ROOT / "notebooks" / "01_prepare_data.ipynb")
    assert ROOT / "waldo_utils" / "__init__.py" in first
    assert not any(path.parent.name == "app" for path in first)
