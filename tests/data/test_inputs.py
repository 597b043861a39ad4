"""A digest of raw photos changes with their names, bytes and times, and with nothing else."""

import os

import pytest

from waldo_utils.data import inputs
from waldo_utils.study import DataStage

GROCERY = DataStage(source="grocery", transfer="rendered")


@pytest.fixture
def grocery(tmp_path, monkeypatch):
    root = tmp_path / "shop"
    (root / "train").mkdir(parents=True)
    for name in ("classes.csv", "train.txt", "train/milk.jpg"):
        (root / name).write_text(name)
        os.utime(root / name, ns=(10**18, 10**18))
    monkeypatch.setenv("WALDO_DATA", str(root))
    monkeypatch.setattr(inputs, "ROOT", tmp_path / "project")
    return root


def test_the_digest_is_of_the_files_and_not_of_their_place(grocery, tmp_path, monkeypatch):
    before = inputs.digest(GROCERY, tmp_path / "data")
    assert inputs.digest(GROCERY, tmp_path / "data") == before
    moved = grocery.rename(tmp_path / "moved")
    monkeypatch.setenv("WALDO_DATA", str(moved))
    assert inputs.digest(GROCERY, tmp_path / "data") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "train" / "milk.jpg").write_text("xxxxx/xxxx.jpg"),  # of the same size
        lambda root: (root / "train" / "new.jpg").write_text(""),
        lambda root: (root / "train.txt").unlink(),
        lambda root: (root / "train" / "milk.jpg").rename(root / "train" / "soy.jpg"),
        lambda root: root.rename(root.with_name("gone")),
    ],
    ids=["photo", "one more", "list", "name", "all gone"],
)
def test_a_change_of_any_file_is_noticed(grocery, tmp_path, change):
    before = inputs.digest(GROCERY, tmp_path / "data")
    change(grocery)
    assert inputs.digest(GROCERY, tmp_path / "data") != before


def test_rendered_photos_count_too_and_half_written_ones_do_not(grocery, tmp_path):
    before = inputs.digest(GROCERY, tmp_path)
    (tmp_path / "rendered_products10k").mkdir()
    (tmp_path / "rendered_products10k" / "a.12.partial.jpg").write_text("x")
    assert inputs.digest(GROCERY, tmp_path) == before
    (tmp_path / "rendered_products10k" / "a.jpg").write_text("x")
    assert inputs.digest(GROCERY, tmp_path) != before


def test_it_finds_the_folder_that_the_notebook_takes(grocery):
    from waldo_utils.data import places

    assert inputs.MARKS == places.MARKS
    assert inputs.find("grocery") == places.find_data("grocery") == grocery
    assert inputs.find("products10k") is None
