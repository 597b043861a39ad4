"""A digest of raw photos changes with what the lists name and its bytes, and with nothing else."""

import os
import shutil
import time

import pytest
from PIL import Image

from waldo_utils.data import inputs, photo_cache, places
from waldo_utils.disk import contents
from waldo_utils.study import DataStage

GROCERY = DataStage(source="rendered", transfer="grocery")
CLASSES = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)\nMilk,0,Milk,0\n"


@pytest.fixture
def grocery(tmp_path, monkeypatch):
    root = tmp_path / "shop"
    (root / "train").mkdir(parents=True)
    texts = {"classes.csv": CLASSES, "train.txt": "train/milk.jpg, 0, 0\n", "train/milk.jpg": "milk"}
    for name, text in texts.items():
        (root / name).write_text(text)
        os.utime(root / name, ns=(10**18, 10**18))
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("WALDO_DATA", str(root))
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    return root


def digest(tmp_path):
    return inputs.digest(GROCERY, tmp_path / "data")


@pytest.mark.parametrize("remembered", [True, False])
def test_a_copy_elsewhere_of_another_time_is_the_same_input(grocery, tmp_path, monkeypatch, remembered):
    before = digest(tmp_path)
    assert digest(tmp_path) == before
    shutil.copytree(grocery, tmp_path / "copied", copy_function=shutil.copyfile)  # plain `cp -r`: new times
    monkeypatch.setenv("WALDO_DATA", str(tmp_path / "copied"))
    if not remembered:
        (tmp_path / "data" / inputs.MEMO).unlink()
    assert digest(tmp_path) == before


def test_files_that_no_list_names_change_nothing(grocery, tmp_path):
    before = digest(tmp_path)
    for name in (".DS_Store", "train/Thumbs.db", "train/unlisted.jpg", "notes.txt"):
        (grocery / name).write_text("x")
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "train" / "milk.jpg").write_text("soya"),  # of the same size
        lambda root: (root / "train.txt").write_text("train/milk.jpg, 0, 0\ntrain/milk2.jpg, 0, 0\n"),
        lambda root: (root / "train.txt").unlink(),
        lambda root: (root / "train.txt").write_text("broken"),
        lambda root: (root / "classes.csv").write_text(CLASSES.replace("Milk", "Soya")),
        lambda root: (root / "train" / "milk.jpg").rename(root / "train" / "soy.jpg"),
        lambda root: root.rename(root.with_name("gone")),
    ],
    ids=["photo", "one more", "list", "broken list", "classes", "name", "all gone"],
)
def test_a_change_of_what_is_listed_is_noticed(grocery, tmp_path, change):
    before = digest(tmp_path)
    change(grocery)
    assert digest(tmp_path) != before


def test_a_second_look_reads_no_bytes(grocery, tmp_path, monkeypatch):
    before, read, plain = digest(tmp_path), [], contents.sha256
    monkeypatch.setattr(contents, "sha256", lambda path: read.append(path.name) or plain(path))
    assert digest(tmp_path) == before
    assert read == []
    os.utime(grocery / "train" / "milk.jpg", ns=(1, 1))
    assert digest(tmp_path) == before
    assert read == ["milk.jpg"]
    assert digest(tmp_path) == before
    assert len(read) == 1


@pytest.mark.parametrize(
    "memo", ["", "[]", "{", '{"grocery: train.txt": 3, "grocery: classes.csv": [1]}', "\xff"]
)
def test_a_damaged_memo_is_made_again(grocery, tmp_path, memo):
    before = digest(tmp_path)
    (tmp_path / "data" / inputs.MEMO).write_text(memo, encoding="latin-1")
    assert digest(tmp_path) == before


def test_rendered_photos_count_too_and_half_written_ones_do_not(grocery, tmp_path):
    before, rendered = digest(tmp_path), tmp_path / "data" / "rendered_sop"
    (rendered / "train").mkdir(parents=True)
    (rendered / "train" / "a.12.partial.jpg").write_text("x")
    header = "image_id class_id super_class_id path\n"
    (rendered / "Ebay_train.txt").write_text(f"{header}1 1 1 train/a.jpg\n")
    (rendered / "Ebay_test.txt").write_text(header)
    listed = digest(tmp_path)
    assert listed != before
    (rendered / "train" / "b.jpg").write_text("x")
    assert digest(tmp_path) == listed
    (rendered / "train" / "a.jpg").write_text("x")
    assert digest(tmp_path) != listed


def test_an_archive_counts_by_its_bytes(grocery, tmp_path, monkeypatch):
    (tmp_path / "zipped").mkdir()
    archive = tmp_path / "zipped" / "dataset.zip"
    archive.write_bytes(b"one")
    monkeypatch.setenv("WALDO_DATA", str(archive))
    before = digest(tmp_path)
    os.utime(archive, ns=(1, 1))
    assert digest(tmp_path) == before
    archive.write_bytes(b"two")
    assert digest(tmp_path) != before


def test_it_finds_the_folder_that_the_notebook_takes(grocery):
    assert places.locate("grocery") == places.find_data("grocery") == grocery
    assert places.locate("products10k") is None


def test_a_cache_of_copied_photos_is_not_decoded_again(tmp_path, monkeypatch):
    import pandas as pd

    root = tmp_path / "root"
    root.mkdir()
    for i in range(3):
        Image.effect_noise((20, 20), 50).save(root / f"{i}.png")
    manifest = pd.DataFrame({"path": [f"{i}.png" for i in range(3)]})
    photo_cache.build_cache(manifest, root, tmp_path / "cache", 16)
    time.sleep(0.01)
    shutil.copytree(root, tmp_path / "copied", copy_function=shutil.copyfile)
    shutil.copytree(tmp_path / "cache", tmp_path / "copied cache", copy_function=shutil.copyfile)
    monkeypatch.setattr(photo_cache, "read_photo", lambda file: pytest.fail("decoded again"))
    photo_cache.build_cache(manifest, tmp_path / "copied", tmp_path / "copied cache", 16)
