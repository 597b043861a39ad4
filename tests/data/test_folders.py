"""Folders as systems, phones and people leave them: which photos are found, and what is told of the rest."""

import os
import unicodedata

import pandas as pd
import pytest
from PIL import Image

from waldo_utils.data import checks, folders

JPEG = Image.new("RGB", (8, 6), (200, 30, 40))


def put(root, *paths, form="JPEG"):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        JPEG.save(root / path, form)


def test_folders_of_the_system_and_hidden_ones_are_passed_over_and_told(tmp_path):
    put(tmp_path, "a/1.jpg", "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/a/1.jpg", "$RECYCLE.BIN/2.jpg")
    put(
        tmp_path,
        ".thumbnails/1.jpg",
        "a/._1.jpg",
        "System Volume Information/x.jpg",
        "a/Thumbs.db",
        "a/x/y.png",
    )
    listing = folders.walk(tmp_path)
    assert listing.photos == ["a/1.jpg", "a/x/y.png"]
    assert listing.passed == {
        folders.HIDDEN: [".thumbnails", "a/._1.jpg"],
        folders.OF_SYSTEM: [
            "$RECYCLE.BIN",
            "System Volume Information",
            "__MACOSX",
            "a/@eaDir",
            "a/Thumbs.db",
        ],
    }
    assert listing.sentence() == (
        "passed over: 2 hidden (.thumbnails, a/._1.jpg); 5 of the system ($RECYCLE.BIN, System Volume "
        "Information, __MACOSX, ...)"
    )
    assert folders.Listing(["a.jpg"]).sentence() == ""


def test_photos_are_told_by_their_ending_or_by_how_they_begin(tmp_path):
    put(tmp_path, "a.JPG", "b.jfif", "c", "d.dat", "IMG_2.hif")
    put(tmp_path, "e.ppm", "f.PGM", form="PPM")
    (tmp_path / "broken.jpg").write_bytes(b"x")  # named like one: its fault is told later
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99))
    (tmp_path / "empty").touch()
    listing = folders.walk(tmp_path)
    assert listing.photos == sorted(
        ["IMG_2.hif", "a.JPG", "b.jfif", "broken.jpg", "c", "d.dat", "e.ppm", "f.PGM"]
    )
    assert listing.passed == {folders.NO_PHOTO: ["empty", "film.mp4", "notes.txt"]}


def test_links_to_folders_are_followed_each_folder_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    put(elsewhere, "mug/1.jpg", "mug/deep/2.jpg")
    put(root, "lamp/3.jpg", "z_index/4.jpg")
    (root / "a_mug").symlink_to(elsewhere / "mug")
    (root / "b_mug").symlink_to(elsewhere / "mug")  # the same once more
    (root / "a_lamp").symlink_to(root / "lamp")  # comes before the folder itself
    (root / "lamp" / "around").symlink_to(root)
    (root / "up").symlink_to("..")
    (elsewhere / "mug" / "deep" / "loop").symlink_to(elsewhere / "mug")
    (root / "itself").symlink_to(root / "itself")
    (root / "nowhere").symlink_to("nothing")
    listing = folders.walk(root, leave_out=root / "z_index")
    assert listing.photos == ["a_mug/1.jpg", "a_mug/deep/2.jpg", "lamp/3.jpg"]
    assert listing.passed == {
        folders.AGAIN: ["a_lamp", "a_mug/deep/loop", "b_mug", "lamp/around", "up"],
        folders.NO_PHOTO: ["itself", "nowhere"],
    }
    (tmp_path / "to root").symlink_to(root)
    assert folders.walk(tmp_path / "to root", leave_out=root / "z_index") == listing


def test_a_folder_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    scan = os.scandir

    def refuse(place):
        if place.name == "b":
            raise PermissionError(13, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert folders.walk(tmp_path) == folders.Listing(["a/1.jpg"], {folders.CLOSED: ["b"]})


def manifest_of(*paths):
    return pd.DataFrame({"path": paths, "label": 0, "category": "toy", "split": "train"})


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_names_are_compared_in_one_normal_form(tmp_path, listed):
    disk = "NFD" if listed == "NFC" else "NFC"
    names = ["Möbel/Stühle é/ä1.jpg", "Möbel/Stühle é/ä2.jpg"]
    put(tmp_path, *(unicodedata.normalize(disk, name) for name in names))
    manifest = manifest_of(*(unicodedata.normalize(listed, name) for name in names))
    checked = checks.check_manifest(manifest, tmp_path, read=True)
    assert checked.path.tolist() == [unicodedata.normalize(disk, name) for name in names]
    assert all((tmp_path / path).exists() for path in checked.path)
    twice = manifest_of(names[0], *manifest.path)
    with pytest.raises(ValueError, match="are listed twice"):
        checks.check_manifest(twice, tmp_path)


def test_backslashes_and_capitals_of_a_list_are_those_of_the_disk_where_one_name_fits(tmp_path):
    put(tmp_path, "Train/a.JPG", "Train/b.jpg", "Train/B.jpg", "Train/c\\d.jpg")
    found = folders.on_disk(
        tmp_path,
        ["train\\a.jpg", "Train/A.JPG", "Train/b.jpg", "Train/c\\d.jpg", "Train/B.JPG", "x/y.jpg", ""],
    )
    assert found[:4] == ["Train/a.JPG", "Train/a.JPG", "Train/b.jpg", "Train/c\\d.jpg"]
    assert found[4:] == ["Train/B.JPG", "x/y.jpg", ""]  # two fit, none fits
    for path in ("../secret.jpg", "/etc/passwd", "a\0b", "x" * 5000):
        assert folders.on_disk(tmp_path, [path]) == [path]
