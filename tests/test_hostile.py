"""Hostile and broken input: each case is handled, or refused in one line that names the file; nothing else is
touched."""

import contextlib
import errno
import http.server
import io
import json
import os
import pickle
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import EpsImagePlugin, Image
from small import drawn_photo, published_state, small_models

from waldo_utils.__main__ import main
from waldo_utils.app import index, index_files, searching
from waldo_utils.data import checks, manifests, photo_cache, places, reading, sources, transforms
from waldo_utils.disk import artifacts, faults
from waldo_utils.experiments import published
from waldo_utils.models import starting_weights as weights
from waldo_utils.models import weight_files
from waldo_utils.study import PROFILES, ROOT

ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")
SIZE = (37, 23)


def noise(size=SIZE, mode="RGB", seed=0):
    """Return a photo that does not compress, so that every cut hits pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(form, photo=None, **options):
    buffer = io.BytesIO()
    (photo or noise()).save(buffer, form, **options)
    return buffer.getvalue()


def one_line(error, *parts):
    """Check an error's text: one line, the parts in it, and of no library's making alone."""
    text = str(error.value if hasattr(error, "value") else error)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text
    return text


def refused(path, *parts):
    with pytest.raises(ValueError) as error:
        reading.read_photo(path)
    return one_line(error, path, *parts)


@contextlib.contextmanager
def untouched(folder, *allowed):
    """Check that a folder holds the same files before and after, but for those below the allowed places."""

    def listing():
        found = {}
        for path in sorted(folder.rglob("*")):
            if not any(path.is_relative_to(place) for place in allowed):
                status = path.lstat()
                found[path] = (status.st_size if stat.S_ISREG(status.st_mode) else None, status.st_mode)
        return found

    before = listing()
    yield
    assert listing() == before


# ---------------------------------------------------------------- photos: broken


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8])
def test_a_cut_photo_is_refused(tmp_path, form, share):
    content, path = encoded(form), tmp_path / "cut.jpg"
    cut = np.random.default_rng(int(100 * share)).integers(1, int(share * len(content)) + 1)
    path.write_bytes(content[:cut])
    refused(path, "cannot be read as a photo", "restore or remove it")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_give_a_photo_or_one_line(tmp_path, form, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "flipped.jpg"
    for _ in range(8):
        content = bytearray(encoded(form))
        for place in rng.integers(0, min(len(content), 400 if seed % 2 else len(content)), 6):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            photo = reading.read_photo(path)
        except ValueError as error:
            one_line(error, path)
        else:
            assert photo.mode == "RGB"


@pytest.mark.parametrize("length", [0, 1, 2, 11, 12, 16, 100, 4096])
@pytest.mark.parametrize(
    "head", [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"RIFF....WEBP"]
)
def test_random_bytes_are_refused(tmp_path, length, head):
    path = tmp_path / "random.jpg"
    path.write_bytes(head + np.random.default_rng(length).bytes(length))
    refused(path, "cannot be read as a photo")


# ---------------------------------------------------------------- photos: huge and tiny


def png_that_claims(width, height):
    """Return a PNG of a few hundred bytes whose header claims any size."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "bomb.jpg").write_bytes(png_that_claims(50_000, 50_000))
    refused(tmp_path / "bomb.jpg", "too large", "2500000000 pixels", "scale it down or remove it")


@pytest.mark.parametrize("claim", [(2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (0, 0), (0, 5), (9_000, 9_000)])
def test_a_header_that_lies_is_refused(tmp_path, claim):
    (tmp_path / "lie.png").write_bytes(png_that_claims(*claim))
    refused(tmp_path / "lie.png")


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (3000, 7)])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_tiny_and_thin_photos_are_read_shrunk_and_transformed(tmp_path, size, form):
    path = tmp_path / "thin.png"
    path.write_bytes(encoded(form, noise(size)))
    photo = reading.read_photo(path)
    assert photo.size == size
    small = reading.shrink(photo, 4)
    assert min(small.size) == min(*size, 4)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    for result in (
        transforms.TestTransform(16, 14)(pixels),
        transforms.TrainTransform(14)(pixels, torch.Generator()),
    ):
        assert result.shape == (3, 14, 14)
        assert 0 <= result.min() <= result.max() <= 1


# ---------------------------------------------------------------- photos: animated, of other modes, turned,
# misnamed


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_counts(tmp_path, form):
    red, blue = (Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 0, 250)))
    path = tmp_path / "moving.jpg"
    path.write_bytes(encoded(form, red, save_all=True, append_images=[blue]))
    assert reading.read_photo(path).getpixel((4, 4)) == pytest.approx((250, 0, 0), abs=12)


MODES = [
    ("1", "PNG"), ("1", "TIFF"), ("L", "JPEG"), ("L", "WEBP"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"),
    ("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("CMYK", "JPEG"), ("CMYK", "TIFF"),
    ("YCbCr", "JPEG"), ("I", "TIFF"), ("F", "TIFF"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "form"), MODES)
def test_every_mode_becomes_rgb(tmp_path, mode, form):
    white = Image.new("L", (8, 6), 1 if mode == "F" else 255)
    white = white if mode in "IF" else white.convert("RGB").convert(mode)
    path = tmp_path / "mode.jpg"
    path.write_bytes(encoded(form, white.convert(mode)))
    photo = reading.read_photo(path)
    assert (photo.mode, photo.size) == ("RGB", (8, 6))
    assert min(photo.getpixel((3, 3))) >= 240


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((4, 4), 0.5, np.float32), 128),
        (np.full((4, 4), 65535, np.uint16), 255),
        (np.full((4, 4), 200, np.uint16), 200),  # 8 bits kept in 16
    ],
)
def test_deep_photos_keep_their_brightness(tmp_path, values, expected):
    Image.fromarray(values).save(tmp_path / "deep.tif")
    assert reading.read_photo(tmp_path / "deep.tif").getpixel((1, 1)) == (expected,) * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    Image.fromarray(np.array([[1, value]], np.float32)).save(tmp_path / "deep.tif")
    refused(tmp_path / "deep.tif", "not finite")


@pytest.mark.parametrize("transparency", [0, b"\0\x80"])
def test_a_transparent_palette_becomes_white(tmp_path, transparency):
    photo = Image.new("P", (4, 4), 0)
    photo.putpalette([200, 0, 0, 0, 0, 200])
    photo.save(tmp_path / "palette.png", transparency=transparency)
    assert reading.read_photo(tmp_path / "palette.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_makes_the_photo_upright(tmp_path, orientation, form):
    upright = Image.new("RGB", (16, 8), (0, 0, 0))
    upright.paste((250, 250, 250), (0, 0, 8, 4))  # white at the left of the top
    undo = {6: 8, 8: 6}.get(orientation, orientation)  # the turn that is undone by this one
    lying = upright.transpose(reading.TURNS[undo]) if undo > 1 else upright
    exif = lying.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(form, lying, exif=exif))
    photo = reading.read_photo(path)
    assert photo.size == (16, 8)
    bright = [photo.getpixel(place)[0] > 128 for place in ((2, 1), (13, 1), (2, 6), (13, 6))]
    assert bright == [True, False, False, False]


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_changes_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif=exif))
    assert reading.read_photo(tmp_path / "a.jpg").size == SIZE


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage!", b"Exif\0\0II*\0\xff\xff\xff\xff", b"no exif"]
)
def test_a_damaged_exif_does_not_spoil_a_photo(tmp_path, exif):
    content = encoded("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "exif.jpg").write_bytes(content[:2] + segment + content[2:])
    assert reading.read_photo(tmp_path / "exif.jpg").size == SIZE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.txt", "a", "ä ü 漢字 🍎.jpg", "-rf.jpg", "a\nb.jpg", "x" * 240 + ".jpg"]
)
def test_the_content_counts_and_not_the_name(tmp_path, form, name):
    (tmp_path / name).write_bytes(encoded(form))
    assert reading.read_photo(tmp_path / name).size == SIZE


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return buffer.getvalue()


NO_PHOTOS = {
    "text": b"not a photo\n" * 20,
    "zip": zipped(a="x"),
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "pdf": b"%PDF-1.7\n1 0 obj\n",
    "html": b"<!DOCTYPE html><title>404 Not Found</title>",
    "elf": b"\x7fELF\x02\x01\x01" + bytes(200),
    "pickle": pickle.dumps({"a": 1}),
    "npy": b"\x93NUMPY\x01\0" + bytes(100),
    "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "ico": encoded("ICO"),
    "psd": b"8BPS\0\x01" + bytes(30),
    "xbm": b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = {\n0x00};\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) (w) file\nshowpage\n",
}


@pytest.mark.parametrize("kind", NO_PHOTOS)
def test_what_is_no_photo_is_refused_whatever_its_name(tmp_path, kind, monkeypatch):
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **named: ran.append(given))
    (tmp_path / "photo.jpg").write_bytes(NO_PHOTOS[kind])
    refused(tmp_path / "photo.jpg", "cannot be read as a photo (it is none of JPEG, PNG, ")
    with pytest.raises(ValueError, match="upload.jpg cannot be read as a photo"):
        reading.read_photo(io.BytesIO(NO_PHOTOS[kind]), "upload.jpg")
    assert not ran  # Pillow would have started Ghostscript on it


def test_a_raster_that_tiff_calls_endless_is_refused(tmp_path):
    content = bytearray(encoded("TIFF", noise((8, 8))))
    content[4:8] = struct.pack("<I", 8)  # the directory points into the pixels
    (tmp_path / "loop.tif").write_bytes(content)
    try:
        reading.read_photo(tmp_path / "loop.tif")
    except ValueError as error:
        one_line(error, "loop.tif")


# ---------------------------------------------------------------- photos: places that are no files


def strange_place(folder, kind):
    path = folder / "x.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))
    elif kind == "broken link":
        path.symlink_to(folder / "nowhere.jpg")
    elif kind == "loop":
        path.symlink_to(path)
    return path


STRANGE = ("folder", "pipe", "device", "socket", "broken link", "loop", "absent")


@pytest.mark.parametrize("kind", STRANGE)
def test_a_place_that_is_no_file_is_refused_without_waiting(tmp_path, kind):
    refused(strange_place(tmp_path, kind), "restore or remove it")


@pytest.mark.parametrize("kind", STRANGE)
def test_a_manifest_names_places_that_are_no_files(tmp_path, kind):
    root = tmp_path / "root"
    manifest = small_set(root)
    (root / "a.jpg").unlink()
    strange_place(root, kind)
    manifest.loc[0, "path"] = "x.jpg"
    with pytest.raises(ValueError) as error:
        checks.check_manifest(manifest, root, read=True)
    one_line(error, "1 photos ", "x.jpg")


@pytest.mark.parametrize("kind", [*STRANGE, "cut", "closed"])
def test_an_index_leaves_out_what_is_no_photo(tmp_path, kind, models):
    root = tmp_path / "photos"
    root.mkdir()
    drawn_photo(1).save(root / "good.png")
    if kind == "cut":
        (root / "x.jpg").write_bytes(encoded("JPEG")[:200])
    elif kind == "closed":
        if ROOT_USER:
            pytest.skip("root may read everything")
        (root / "x.jpg").write_bytes(encoded("JPEG"))
        (root / "x.jpg").chmod(0)
    else:
        strange_place(root, kind)
    with untouched(tmp_path, tmp_path / "index"):
        summary = index.update(root, tmp_path / "index", models, "mini")
    left_out = [entry.path for entry in summary.unreadable]
    assert left_out == ([] if kind in ("folder", "absent") else ["x.jpg"])  # folders are searched, not read
    assert index.open_index(tmp_path / "index", models).gallery.names == ["good.png"]


@pytest.mark.skipif(ROOT_USER, reason="root may read everything")
def test_a_photo_without_permission_is_refused(tmp_path):
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "x.jpg").chmod(0)
    refused(tmp_path / "x.jpg", "Permission denied")


# ---------------------------------------------------------------- all broken photos at once


def small_set(root, count=4):
    """Write `count` photos, two of each product, and return their manifest."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{chr(97 + i // 26) * (i // 26)}{chr(97 + i % 26)}.jpg" for i in range(count)]
    for i, name in enumerate(names):
        (root / name).write_bytes(encoded("JPEG", noise(seed=i)))
    labels = [i // 2 for i in range(count)]
    split = ["train" if label % 2 == 0 else "test" for label in labels]
    return pd.DataFrame({"path": names, "label": labels, "category": "toy", "split": split})


def spoil(root, manifest):
    """Break seven photos in five ways and return their paths."""
    names = manifest.path.tolist()
    (root / names[0]).write_bytes(b"")
    (root / names[1]).unlink()
    (root / names[2]).unlink()
    (root / names[2]).mkdir()
    for name in names[3:10]:
        (root / name).write_bytes((root / name).read_bytes()[:150])
    return names[:10]


def test_preparation_names_all_broken_photos_and_lists_them(tmp_path):
    root, listing = tmp_path / "root", tmp_path / "data" / "unreadable.csv"
    manifest = small_set(root, 40)
    bad = spoil(root, manifest)
    with untouched(root), pytest.raises(ValueError) as error:
        checks.check_manifest(manifest, root, read=True, listing=listing)
    one_line(
        error, "1 photos are empty files: a.jpg", "1 photos are missing: b.jpg",
        "1 photos are folders or devices: c.jpg",
        "7 photos cannot be read as photos: d.jpg, e.jpg, f.jpg, g.jpg, h.jpg and 2 more",
        f"All 10 are listed in {listing}",
    )  # fmt: skip
    table = pd.read_csv(listing, keep_default_na=False)
    assert sorted(table.path) == sorted(bad)
    assert (
        table.reason[table.fault == "cannot be read as photos"].str.contains("truncated|cannot be read").all()
    )
    small_set(root / "whole", 4)
    checks.check_manifest(small_set(root / "whole", 4), root / "whole", read=True, listing=listing)
    assert not listing.exists()


def whole_parts(folder):
    """Return what would be taken for a whole cache."""
    return [
        path.name for path in folder.iterdir() if path.name in ("pixels.bin", "shapes.npy", "fingerprint.txt")
    ]


def test_the_cache_too_names_all_broken_photos(tmp_path):
    root, folder = tmp_path / "root", tmp_path / "cache"
    manifest = small_set(root, 40)
    for name in manifest.path[[3, 30]]:
        (root / name).write_bytes(b"no photo")
    with untouched(root), pytest.raises(ValueError) as error:
        photo_cache.build_cache(manifest, root, folder, 16)
    one_line(error, "2 photos cannot be read as photos: d.jpg, be.jpg", folder / "unreadable.csv")
    assert not whole_parts(folder)
    with pytest.raises(FileNotFoundError, match="run notebook 01"):
        photo_cache.open_cache(folder)
    small_set(root, 40)
    assert len(photo_cache.build_cache(manifest, root, folder, 16)) == 40
    assert not (folder / "unreadable.csv").exists()


def test_a_list_that_cannot_be_written_does_not_hide_the_faults(tmp_path):
    (tmp_path / "file").write_text("in the way")
    fault = faults.Fault("a.jpg", "are missing", "restore them")
    with pytest.raises(ValueError) as error:
        faults.refuse([fault], tmp_path / "file" / "list.csv")
    one_line(error, "1 photos are missing: a.jpg; restore them", "The list could not be written")


# ---------------------------------------------------------------- manifests


CHANGES = {
    "absolute": ({"path": "/etc/passwd"}, "lie outside the data set's folder: /etc/passwd"),
    "above": ({"path": "../secret.jpg"}, "lie outside the data set's folder: ../secret.jpg"),
    "above, hidden": ({"path": "x/../../secret.jpg"}, "lie outside the data set's folder"),
    "twice": ({"path": "b.jpg"}, "are listed twice: b.jpg"),
    "missing": ({"path": "no.jpg"}, "are missing: no.jpg"),
    "not ASCII": ({"path": "ünï/漢字 🍎.jpg"}, "are missing: ünï/漢字 🍎.jpg"),
    "too long": ({"path": "x" * 5000}, "cannot be opened (File name too long)"),
    "NUL": ({"path": "a\0.jpg"}, "cannot be opened (a NUL byte in the name): a\\x00.jpg"),
    "escape": ({"path": "a\x1b[2J.jpg"}, "are missing: a\\x1b[2J.jpg"),
    "empty path": ({"path": ""}, "are folders or devices"),
    "no path": ({"path": None}, "1 photos are missing"),
    "below a file": ({"path": "b.jpg/a.jpg"}, "are missing: b.jpg/a.jpg"),
    "negative": ({"label": -1}, "have no whole number from 0 as their product: a.jpg"),
    "no number": ({"label": "zero"}, "have no whole number from 0 as their product: a.jpg"),
    "half": ({"label": 0.5}, "have no whole number from 0 as their product: a.jpg"),
    "no label": ({"label": None}, "have no whole number from 0 as their product: a.jpg"),
    "no category": ({"category": None}, "have no category: a.jpg"),
    "split": ({"split": "Train"}, "are in no split of train, validation, test: a.jpg"),
    "no split": ({"split": None}, "are in no split of train, validation, test: a.jpg"),
    "both splits": ({"split": "test"}, "show a product of another split: b.jpg"),
    "one photo": ({"label": 7}, "are the only photo of their product: a.jpg, b.jpg"),
    "two categories": ({"category": "tool"}, "show a product of another category: b.jpg"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_manifest_with_a_wrong_row_is_refused(tmp_path, case):
    change, message = CHANGES[case]
    root = tmp_path / "root"
    (tmp_path / "secret.jpg").write_bytes(encoded("JPEG"))
    manifest = small_set(root).astype(object)
    for column, value in change.items():
        manifest.at[0, column] = value
    with untouched(tmp_path), pytest.raises(ValueError) as error:
        checks.check_manifest(manifest, root)
    one_line(error, message)


@pytest.mark.parametrize("column", ["path", "label", "category", "split"])
def test_a_manifest_without_a_column_is_refused(tmp_path, column):
    with pytest.raises(ValueError, match=f"has no column {column}"):
        checks.check_manifest(small_set(tmp_path / "root").drop(columns=column), tmp_path)


@pytest.mark.parametrize("target", ["../secret.jpg", "/etc/passwd", "../root2"])
def test_links_out_of_the_folder_are_refused(tmp_path, target):
    root = tmp_path / "root"
    manifest = small_set(root)
    small_set(tmp_path / "root2")  # a neighbor whose name begins alike
    (tmp_path / "secret.jpg").write_bytes(encoded("JPEG"))
    (root / "link").symlink_to(target)
    manifest.loc[0, "path"] = "link/a.jpg" if target.endswith("root2") else "link"
    with pytest.raises(ValueError, match="are links that lead out of the data set's folder: link"):
        checks.check_manifest(manifest, root)


def test_links_within_the_folder_are_photos(tmp_path):
    manifest = small_set(tmp_path / "root")
    (tmp_path / "root" / "a.jpg").rename(tmp_path / "root" / "real.jpg")
    (tmp_path / "root" / "a.jpg").symlink_to("real.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    checks.check_manifest(manifest, tmp_path / "link", read=True)


# ---------------------------------------------------------------- list files


def sop_lists(root):
    root.mkdir(parents=True)
    head = "image_id class_id super_class_id path"
    train = "1 1 1 mug_final/1.JPG\n2 1 1 mug_final/2.JPG\n5 3 1 mug_final/5.JPG\n6 3 1 mug_final/6.JPG"
    (root / "Ebay_train.txt").write_text(f"{head}\n{train}\n")
    (root / "Ebay_test.txt").write_text(f"{head}\n3 2 1 mug_final/3.JPG\n4 2 1 mug_final/4.JPG\n")
    return root / "Ebay_test.txt", manifests.sop_manifest


def products10k_lists(root):
    root.mkdir(parents=True)
    (root / "train.csv").write_text("name,class,group\n1.jpg,0,7\n2.jpg,0,7\n")
    (root / "test_kaggletest.csv").write_text("name,class,Usage\n3.jpg,0,Public\n4.jpg,0,Private\n")
    return root / "test_kaggletest.csv", manifests.products10k_manifest


def grocery_lists(root):
    root.mkdir(parents=True)
    (root / "classes.csv").write_text(
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
        "Iconic Image Path (str)\n"
        "Golden,0,Apple,0,/i\nRoyal,1,Red-Grapefruit,1,/i\n"
    )
    (root / "train.txt").write_text("train/1.jpg, 0, 0\ntrain/2.jpg, 0, 0\n")
    (root / "test.txt").write_text("test/3.jpg, 1, 1\ntest/4.jpg, 1, 1\n")
    return root / "test.txt", manifests.grocery_manifest


SETS = {"sop": sop_lists, "products10k": products10k_lists, "grocery": grocery_lists}
HARMLESS = {
    "as it is": lambda text: text.encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
    "empty last lines": lambda text: text.encode() + b"\n\n\n",
}


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("name", SETS)
def test_lists_of_every_system_say_the_same(tmp_path, name, case):
    path, read = SETS[name](tmp_path / "root")
    expected = read(tmp_path / "root")
    path.write_bytes(HARMLESS[case](path.read_text()))
    pd.testing.assert_frame_equal(read(tmp_path / "root"), expected)


def replaced_number(text, by):
    """Return a list with the first product number of its last line replaced."""
    head, last = text.rstrip("\n").rsplit("\n", 1)
    return f"{head}\n" + re.sub(r"([ ,] ?)(\d+)(?=[ ,])", rf"\g<1>{by}", last, count=1) + "\n"


BROKEN_LISTS = {
    "not UTF-8": (lambda text: text.encode() + b"\xff\xfe\xfa", "is no UTF-8 text (byte "),
    "UTF-16": (lambda text: text.encode("utf-16"), "is no UTF-8 text (byte 0 is 0xff)"),
    "latin 1": (lambda text: text.replace(".", "é.").encode("latin-1"), "is no UTF-8 text"),
    "other separators": (lambda text: text.replace(",", "|").replace(" ", "|").encode(), "expected"),
    "an open quote": (lambda text: text.encode() + b'"x.jpg\n', "'\"x.jpg'"),
    "negative": (lambda text: replaced_number(text, "-5").encode(), "-5"),
    "no number": (lambda text: replaced_number(text, "five").encode(), "five"),
    "fraction": (lambda text: replaced_number(text, "1.5").encode(), "1.5"),
    "not a number": (lambda text: replaced_number(text, "nan").encode(), "nan"),
    "superscript": (lambda text: replaced_number(text, "²").encode(), "²"),
    "Arabic digits": (lambda text: replaced_number(text, "٣").encode(), "٣"),
    "too large": (lambda text: replaced_number(text, "9" * 40).encode(), "9" * 40),
    "hex": (lambda text: replaced_number(text, "0x1").encode(), "0x1"),
    "NULs": (lambda text: text.encode() + bytes(50), "\\x00"),
    "cut": (lambda text: text[: text.rstrip("\n").rindex("\n") + 5].encode(), "line"),
    "HTML": (lambda text: b"<!DOCTYPE html>\n<title>Not Found</title>", "<!DOCTYPE html>"),
    "long line": (lambda text: text.encode() + b"x" * 100_000, "..."),
    "empty line within": (lambda text: b"\n" + text.encode(), "''"),
}


@pytest.mark.parametrize("case", BROKEN_LISTS)
@pytest.mark.parametrize("name", SETS)
def test_a_broken_list_is_refused_with_its_line(tmp_path, name, case):
    path, read = SETS[name](tmp_path / "root")
    change, message = BROKEN_LISTS[case]
    path.write_bytes(change(path.read_text()))
    with untouched(tmp_path), pytest.raises(ValueError) as error:
        read(tmp_path / "root")
    assert len(one_line(error, path, message)) < 700


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", ["folder", "absent", "broken link"])
def test_a_list_that_is_no_file_is_missing(tmp_path, name, kind):
    path, read = SETS[name](tmp_path / "root")
    if name == "grocery":
        path = path.with_name("classes.csv")
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "broken link":
        path.symlink_to("nowhere")
    with pytest.raises(FileNotFoundError) as error:
        read(tmp_path / "root")
    one_line(error, path, "is missing", "correct WALDO_DATA")


@pytest.mark.parametrize("name", ["sop", "products10k"])
def test_columns_may_be_added_but_not_lack(tmp_path, name):
    path, read = SETS[name](tmp_path / "root")
    expected, separator = read(tmp_path / "root"), " " if name == "sop" else ","
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0] + separator + "more", *(line + separator + "x" for line in lines[1:])])
    )
    pd.testing.assert_frame_equal(read(tmp_path / "root"), expected)
    path.write_text("\n".join(line.rsplit(separator, 1)[0] for line in lines))
    with pytest.raises(ValueError, match="expected the columns"):
        read(tmp_path / "root")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_empty_lists_are_refused(tmp_path, name, content):
    path, read = SETS[name](tmp_path / "root")
    for other in (tmp_path / "root").glob("*t*.*"):
        if other.name != "classes.csv":
            other.write_bytes(content)
    with pytest.raises(ValueError) as error:
        checks.check_manifest(read(tmp_path / "root"), tmp_path / "root")
    one_line(error, tmp_path / "root")


def test_a_list_of_a_header_alone_lists_no_photo(tmp_path, monkeypatch):
    path, _ = sop_lists(tmp_path / "root")
    for name in ("train", "test"):
        path.with_name(f"Ebay_{name}.txt").write_text("image_id class_id super_class_id path\n")
    monkeypatch.setenv("WALDO_DATA", str(tmp_path / "root"))
    with pytest.raises(ValueError, match="lists no photo"):
        sources.open_source(PROFILES["rehearsal"].data, tmp_path / "data")


@pytest.mark.parametrize("number", ["0", "00"])
def test_products_of_sop_begin_at_one(tmp_path, number):
    path, read = sop_lists(tmp_path / "root")
    path.write_text(path.read_text().replace("4 2 1", f"4 {number} 1"))
    with pytest.raises(ValueError, match="Ebay_test.txt line 3: class_id is 0, expected 1 or more"):
        read(tmp_path / "root")


@pytest.mark.parametrize(
    "settings", [b"", b"{", b"[]", b"{}", b'{"family_size": 0}', b'{"family_size": "3"}', b"\xff", b"null"]
)
def test_settings_that_give_no_family_size_are_refused(tmp_path, settings):
    _, read = sop_lists(tmp_path / "root")
    (tmp_path / "root" / "settings.json").write_bytes(settings)
    with pytest.raises(ValueError, match="settings.json gives no family_size of 1 or more"):
        read(tmp_path / "root")


@pytest.mark.parametrize("content", [b"", b"group\n7\n", b"group,name\nseven,fruit\n", b"\xff"])
def test_category_names_that_are_broken_are_refused(tmp_path, content):
    _, read = products10k_lists(tmp_path / "root")
    (tmp_path / "root" / "categories.csv").write_bytes(content)
    with pytest.raises(ValueError) as error:
        read(tmp_path / "root")
    one_line(error, "categories.csv")


def test_the_published_counts_are_demanded_of_sop(tmp_path, monkeypatch):
    sop_lists(tmp_path / "root")
    monkeypatch.setenv("WALDO_DATA", str(tmp_path / "root"))
    with pytest.raises(ValueError, match="4 photos of 2 products, published are 59551 of 11318"):
        sources.open_source(PROFILES["paper"].data, tmp_path / "data")
    with pytest.raises(
        ValueError, match=r"6 photos are missing: mug_final/1.JPG.*All 6 are listed in .*unreadable.csv"
    ):
        sources.open_source(PROFILES["rehearsal"].data, tmp_path / "data")


def test_a_set_of_which_nothing_can_be_held_out_is_refused():
    manifest = pd.DataFrame({"path": ["a", "b"], "label": [0, 0], "category": "toy", "split": "train"})
    with pytest.raises(ValueError, match="no category has two train products"):
        checks.hold_out(manifest, 0.2, seed=0)


# ---------------------------------------------------------------- archives


def link_entry(name, target):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry, target


BAD_ENTRIES = {
    "above": [("../evil.txt", "x")],
    "above, within": [("a/../../evil.txt", "x")],
    "absolute": [("/tmp/evil-waldo.txt", "x")],
    "backslashes": [("..\\evil.txt", "x")],
    "link": [link_entry("a/link", "/etc")],
    "link, then through it": [link_entry("out", "/tmp"), ("out/evil-waldo.txt", "x")],
    "twice": [("a.txt", "x"), ("a.txt", "y")],
    "a file and a folder": [("a", "x"), ("a/b.txt", "y")],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_an_archive_with_a_bad_entry_is_refused_and_leaves_nothing(tmp_path, case):
    archive = tmp_path / "in" / "bad.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("first.txt", "x")
        for name, content in BAD_ENTRIES[case]:
            out.writestr(name, content)
    with untouched(tmp_path), pytest.raises((ValueError, OSError)) as error:
        places.unpack(archive)
    one_line(error, archive)
    assert not Path("/tmp/evil-waldo.txt").exists()


def test_names_that_differ_in_case_are_two_files(tmp_path):
    (tmp_path / "case.zip").write_bytes(zipped(**{"A.jpg": "x", "a.jpg": "y", "ünï/漢字.jpg": "z"}))
    folder = places.unpack(tmp_path / "case.zip")
    assert sorted(path.read_text() for path in folder.rglob("*.jpg")) == ["x", "y", "z"]


def patched(content, signature, offset, form, value):
    """Return a zip archive with one field of its first header of a kind replaced."""
    content = bytearray(content)
    struct.pack_into(form, content, content.index(signature) + offset, value)
    return bytes(content)


HONEST = zipped(**{"a.txt": "hello" * 100, "b.txt": "there" * 100})
ARCHIVES = {
    "empty file": (b"", "is damaged"),
    "text": (b"no archive", "is damaged"),
    "HTML": (b"<html>quota exceeded</html>" * 100, "is damaged"),
    "cut": (HONEST[:-30], "is damaged"),
    "first half": (HONEST[: len(HONEST) // 2], "is damaged"),
    "second half": (HONEST[len(HONEST) // 2 :], "is damaged"),
    "another content": (HONEST.replace(b"hello", b"HELLO"), "Bad CRC-32"),
    "encrypted": (patched(HONEST, b"PK\x01\x02", 8, "<H", 1), "is encrypted"),
    "unknown method": (patched(HONEST, b"PK\x01\x02", 10, "<H", 77), "is damaged"),
    "claims 4 GB": (
        patched(HONEST, b"PK\x01\x02", 24, "<I", 4_000_000_000),
        "would grow from 0.000 to 4.0 GB",
    ),
    "claims less": (patched(HONEST, b"PK\x01\x02", 24, "<I", 10), "is damaged"),
    "entry elsewhere": (patched(HONEST, b"PK\x01\x02", 42, "<I", 77), "is damaged"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path, case):
    content, message = ARCHIVES[case]
    (tmp_path / "photos.zip").write_bytes(content)
    with untouched(tmp_path), pytest.raises(ValueError) as error:
        places.unpack(tmp_path / "photos.zip")
    one_line(error, tmp_path / "photos.zip", message)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_of_an_archive_are_refused_or_do_not_matter(tmp_path, method, seed):
    buffer, rng = io.BytesIO(), np.random.default_rng(seed)
    with zipfile.ZipFile(buffer, "w", method) as out:
        out.writestr("a.txt", "hello" * 200)
        out.writestr("b.txt", rng.bytes(300))
    for number in range(15):
        content, archive = bytearray(buffer.getvalue()), tmp_path / f"in{number}" / "photos.zip"
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        archive.parent.mkdir()
        archive.write_bytes(content)
        with untouched(tmp_path, archive.with_suffix("")):
            try:
                places.unpack(archive)
            except (ValueError, OSError) as error:
                one_line(error, archive)
                assert not archive.with_suffix("").exists()


def test_an_archive_that_the_disk_cannot_hold_is_refused_with_the_figure(tmp_path, monkeypatch):
    (tmp_path / "photos.zip").write_bytes(zipped(**{"a.txt": b"x" * 30_000_000}))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 10**7))
    with untouched(tmp_path), pytest.raises(OSError, match="unpacks to 0.0 GB, .* has 0.0 GB: make room"):
        places.unpack(tmp_path / "photos.zip")


def test_a_disk_that_fills_while_unpacking_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "photos.zip").write_bytes(HONEST)
    monkeypatch.setattr(zipfile.ZipFile, "extract", full_disk)
    with untouched(tmp_path), pytest.raises(OSError) as error:
        places.unpack(tmp_path / "photos.zip")
    one_line(error, "photos.zip could not be unpacked", "No space left on device: make room on the disk")


def full_disk(*given, **named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_unpacking_that_was_interrupted_starts_anew(tmp_path):
    (tmp_path / "photos.zip").write_bytes(HONEST)
    (tmp_path / "photos.partial").mkdir()
    (tmp_path / "photos.partial" / "a.txt").write_text("half")
    (tmp_path / "photos.partial" / "old.txt").write_text("of another archive")
    folder = places.unpack(tmp_path / "photos.zip")
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"]
    assert (folder / "a.txt").read_text() == "hello" * 100
    assert not (tmp_path / "photos.partial").exists()


def test_a_file_in_the_way_of_unpacking_is_kept(tmp_path):
    (tmp_path / "photos.zip").write_bytes(HONEST)
    (tmp_path / "photos").write_text("mine")
    with untouched(tmp_path), pytest.raises(FileExistsError, match="is in the way of unpacking"):
        places.unpack(tmp_path / "photos.zip")


@pytest.mark.parametrize("kind", ["folder", "empty archive", "other archive", "tar", "absent"])
def test_a_place_that_holds_no_data_set_says_how_to_get_it(tmp_path, monkeypatch, kind):
    place = tmp_path / "Stanford_Online_Products.zip"
    if kind == "folder":
        place.mkdir()
    elif kind == "empty archive":
        place.write_bytes(zipped())
    elif kind == "other archive":
        place.write_bytes(HONEST)
    elif kind == "tar":
        place = place.with_suffix(".tar")
        place.write_bytes(bytes(10240))
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WALDO_DATA", str(place))
    for find in (lambda: places.find_data("sop"), lambda: places.find_in("sop", place)):
        with pytest.raises(FileNotFoundError) as error:
            find()
        one_line(error, place.with_suffix(""))
        assert "download Stanford_Online_Products.zip" in str(
            error.value
        ) or "remove it and the archive" in str(error.value)


# ---------------------------------------------------------------- downloads


@contextlib.contextmanager
def server(answer):
    """Serve answers on this machine: `answer(start)` gives status, headers and bytes for a range from `start`
    on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, content = answer(int((self.headers.get("Range") or "bytes=0-")[6:-1]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/x.zip"
        serving.shutdown()
        thread.join()


def length(content):
    return {"Content-Length": str(len(content))}


DOWNLOADS = {
    "an error page": (lambda start: (200, {}, b"<html>sorry</html>"), "did not give a zip archive", []),
    "nothing": (lambda start: (200, {}, b""), "did not give a zip archive", []),
    "not found": (lambda start: (404, {}, b""), "HTTP Error 404", []),
    "server error": (lambda start: (500, {}, b""), "HTTP Error 500", []),
    "cut": (lambda start: (200, length(HONEST), HONEST[:400]), "stopped at 400 of", ["archive.zip.part"]),
    "cut chunk": (lambda start: (200, {"Transfer-Encoding": "chunked"}, b"ff\r\nabc"), "cannot download",
        ["archive.zip.part"]),
    "a length that is none": (lambda start: (200, {"Content-Length": "many"}, HONEST[:50]), "", []),
    "wrong bytes": (lambda start: (200, length(HONEST), ARCHIVES["another content"][0]),
        "removed here, run again", []),
    "loops": (lambda start: (302, {"Location": "/x.zip"}, b""), "cannot download", []),
}  # fmt: skip


@pytest.mark.parametrize("case", DOWNLOADS)
def test_a_download_that_fails_is_one_line_and_taken_for_nothing(tmp_path, case):
    answer, message, left = DOWNLOADS[case]
    with server(answer) as address, pytest.raises((ConnectionError, ValueError)) as error:
        places.fetch(address, tmp_path / "in", "clone the repository")
    one_line(error, message)
    assert [path.name for path in (tmp_path / "in").iterdir()] == left
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_download_goes_on_or_starts_anew(tmp_path):
    part = tmp_path / "in" / "archive.zip.part"
    part.parent.mkdir()
    part.write_bytes(HONEST[:100])
    with server(lambda start: (206, length(HONEST[start:]), HONEST[start:])) as address:
        assert (places.fetch(address, part.parent, "clone the repository") / "a.txt").exists()
    shutil.rmtree(part.parent)
    part.parent.mkdir()
    part.write_bytes(b"of another file")
    with server(lambda start: (200, length(HONEST), HONEST)) as address:  # a server without ranges
        assert (places.fetch(address, part.parent, "clone the repository") / "a.txt").exists()


def test_a_part_that_the_server_no_longer_has_is_given_up(tmp_path):
    part = tmp_path / "archive.zip.part"
    part.write_bytes(HONEST + b"more")
    with server(lambda start: (416, {}, b"") if start else (200, length(HONEST), HONEST)) as address:
        with pytest.raises(ConnectionError, match="has changed since the last try: run again to start anew"):
            places.fetch(address, tmp_path, "clone the repository")
        assert (places.fetch(address, tmp_path, "clone the repository") / "a.txt").exists()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*given, **named):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_grocery_without_a_network_is_one_line(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.delenv("WALDO_DATA", raising=False)
    with pytest.raises(ConnectionError) as error:
        places.find_data("grocery")
    one_line(
        error,
        "Network is unreachable",
        "clone the repository marcusklasson/GroceryStoreDataset and set WALDO_DATA",
    )


def test_imagenet_without_a_network_says_where_to_put_the_file(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(ConnectionError) as error:
        weights.torchvision_file("resnet50")
    one_line(error, "Network is unreachable", "download it elsewhere and put it at", tmp_path / "hub")
    assert not list((tmp_path / "hub").rglob("*.*"))


def test_imagenet_of_a_wrong_checksum_is_refused_and_removed(tmp_path, monkeypatch):
    class Answer(io.BytesIO):
        headers = {"Content-Length": "5"}

        def info(self):
            return self

        get_all = staticmethod(lambda name: ["5"])

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "urlopen", lambda *given, **named: Answer(b"wrong"))
    with pytest.raises(ConnectionError, match="invalid hash value.*download it elsewhere and put it at"):
        weights.torchvision_file("resnet50")
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.is_file()]


def test_a_disk_that_fills_while_downloading_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "open", full_disk)
    with server(lambda start: (200, length(HONEST), HONEST)) as address, pytest.raises(OSError) as error:
        places.fetch(address, tmp_path, "clone the repository")
    one_line(error, "archive.zip.part stopped", "make room on the disk; run again to go on")


# ---------------------------------------------------------------- weights


class Trap:
    """A pickle that would write a file when it is executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture(scope="module")
def tiny():
    """A model of a few numbers, with its state dict."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def torch_file(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


STATE = {"weight": torch.arange(600.0), "bias": torch.ones(3)}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("old", [False, True])
def test_a_cut_checkpoint_is_refused(tmp_path, share, old):
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=not old)
    (tmp_path / "cut.pt").write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    with untouched(tmp_path), pytest.raises(ValueError) as error:
        weight_files.load_tensors(tmp_path / "cut.pt")
    one_line(error, tmp_path / "cut.pt", "is not a whole file of torch weights", "fetch it again")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_flipped_bytes_of_a_checkpoint_are_refused_or_give_tensors(tmp_path, old, seed):
    rng, buffer = np.random.default_rng(seed), io.BytesIO()
    torch.save(
        {"weight": torch.arange(20.0), "bias": torch.ones(3)}, buffer, _use_new_zipfile_serialization=not old
    )
    for _ in range(12):
        content = bytearray(buffer.getvalue())
        for place in rng.integers(0, len(content), 4):
            content[place] = rng.integers(0, 256)
        (tmp_path / "flipped.pt").write_bytes(content)
        try:
            weight_files.load_tensors(tmp_path / "flipped.pt")
        except ValueError as error:
            one_line(error, "flipped.pt")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "wrap", [lambda trap: trap, lambda trap: {"state": trap}, lambda trap: [STATE, trap]]
)
def test_code_in_a_checkpoint_does_not_run(tmp_path, protocol, wrap):
    sprung = tmp_path / "sprung"
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(wrap(Trap(sprung)), protocol=protocol))
    torch.save(wrap(Trap(sprung)), tmp_path / "trap2.pt", pickle_protocol=max(protocol, 2))
    for name in ("trap.pt", "trap2.pt"):
        for load in (weight_files.load_tensors, published.load_checkpoint):
            with pytest.raises(ValueError, match=f"{name} is not a (whole file of torch|file of tensors)"):
                load(tmp_path / name)
    assert not sprung.exists()


NO_CHECKPOINTS = {
    "empty": b"", "text": b"oid sha256:0\nsize 1\n", "HTML": b"<html></html>", "photo": encoded("PNG"),
    "zip": HONEST, "number": torch_file(3), "list": torch_file([torch.ones(2)]),
    "names that are numbers": torch_file({1: torch.ones(2)}), "state that is none": torch_file({"state": 3}),
    "model that is none": torch_file({"model": {"w": 3}}),
    "values that are none": torch_file({"remap.weight": "x"}), "no entries": torch_file({}),
    "other names": torch_file(STATE), "nested": torch_file({"state": {"state": STATE}}),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_CHECKPOINTS)
def test_what_is_no_published_checkpoint_is_refused(tmp_path, case):
    (tmp_path / "c.pt").write_bytes(NO_CHECKPOINTS[case])
    with pytest.raises(ValueError) as error:
        published.load_checkpoint(tmp_path / "c.pt")
    one_line(error, tmp_path / "c.pt")


@pytest.mark.parametrize("kind", STRANGE)
def test_a_checkpoint_that_is_no_file_is_absent(tmp_path, kind):
    path = strange_place(tmp_path, kind)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        published.load_checkpoint(path)


def load_into(model, path):
    """Read a file of tensors into a model, as the study reads the weights that others made."""
    tensors = weights.load_tensors(path)
    weights.check_architecture(model, tensors, path)
    model.load_state_dict(tensors)


def safetensors_file(tensors):
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in tensors.items()})


def with_header(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


NO_SAFETENSORS = {
    "empty": b"", "short": b"\x08\0\0", "text": b"not tensors", "zip": HONEST, "torch": torch_file(STATE),
    "endless header": struct.pack("<Q", 2**63) + b"{}", "header of 2 GB": struct.pack("<Q", 2**31) + b"{}",
    "header that is no JSON": with_header(b"{{{{{{{{"),
    "header of another encoding": with_header(b"\xff\xfe\xfd\xfc"),
    "beyond the end": with_header({"0.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}},
        bytes(5)),
    "overlapping": with_header({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"},
        bytes(4)),
    "negative": with_header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    "unknown kind": with_header({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "overflow": with_header({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        bytes(4)),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_SAFETENSORS)
def test_broken_safetensors_are_refused(tmp_path, case, tiny):
    (tmp_path / "w.safetensors").write_bytes(NO_SAFETENSORS[case])
    with pytest.raises(ValueError) as error:
        load_into(tiny, tmp_path / "w.safetensors")
    one_line(error, tmp_path / "w.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_cut_safetensors_are_refused(tmp_path, share, tiny):
    content = safetensors_file(tiny.state_dict())
    (tmp_path / "w.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="w.safetensors is (not a|empty|no )"):
        load_into(tiny, tmp_path / "w.safetensors")


WRONG_TENSORS = {
    "missing": (lambda s: s.pop("0.bias"), r"1 missing \(0.bias\)"),
    "unexpected": (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
    "another name": (lambda s: s.update(bias=s.pop("0.bias")), r"1 missing .*1 unexpected"),
    "transposed": (lambda s: s.update({"0.weight": s["0.weight"].T}), r"1 of another shape \(0.weight\)"),
    "broadcast": (lambda s: s.update({"0.bias": torch.ones(1)}), r"1 of another shape \(0.bias\)"),
    "empty": (lambda s: s.update({"0.bias": torch.ones(0)}), r"1 of another shape \(0.bias\)"),
    "whole numbers": (lambda s: s.update({"0.bias": torch.ones(2, dtype=torch.int64)}),
        r"1 of another kind \(0.bias\)"),
    "truth values": (lambda s: s.update({"0.bias": torch.ones(2, dtype=torch.bool)}),
        r"1 of another kind \(0.bias\)"),
    "NaN": (lambda s: s["0.weight"].view(-1)[3:4].fill_(np.nan),
        r"no use as Sequential: 1 not finite \(0.weight\)"),
    "inf": (lambda s: s["1.running_var"].fill_(np.inf), r"1 not finite \(1.running_var\)"),
    "-inf": (lambda s: s["0.bias"].fill_(-np.inf), r"1 not finite \(0.bias\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_weights_that_do_not_fit_or_are_not_finite_are_refused(tmp_path, case, tiny):
    change, message = WRONG_TENSORS[case]
    state = {name: value.clone() for name, value in tiny.state_dict().items()}
    before = {name: value.clone() for name, value in state.items()}
    change(state)
    (tmp_path / "w.safetensors").write_bytes(safetensors_file(state))
    with pytest.raises(ValueError, match=message) as error:
        load_into(tiny, tmp_path / "w.safetensors")
    one_line(error, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read(tmp_path, kind):
    model = torch.nn.Linear(3, 2)
    state = {name: value.to(kind) for name, value in model.state_dict().items()}
    (tmp_path / "w.safetensors").write_bytes(safetensors_file(state))
    load_into(model, tmp_path / "w.safetensors")
    assert torch.equal(model.weight, state["weight"].float())


@pytest.fixture(scope="module")
def checkpoint():
    return published_state(0)


@pytest.mark.parametrize("name", ["layer3.0.bn1.running_mean", "matcher.classifier.weight", "sparse"])
def test_a_published_checkpoint_that_is_not_finite_is_refused(tmp_path, monkeypatch, name, checkpoint):
    state = dict(checkpoint)
    if name == "sparse":
        state["remap.weight"] = state["remap.weight"].to_sparse()
    else:
        state[name] = torch.full_like(state[name], np.nan)
    monkeypatch.setattr(
        weight_files, "load_tensors", lambda path: {"state": state}
    )  # 100 MB that need not be written
    with pytest.raises(
        ValueError, match="1 of another kind" if name == "sparse" else f"1 not finite .{name}"
    ):
        published.load_checkpoint(tmp_path / "c.pt")


def test_a_checkpoint_in_double_precision_is_read(tmp_path, monkeypatch, checkpoint):
    state = {
        name: value.double() if value.is_floating_point() else value for name, value in checkpoint.items()
    }
    monkeypatch.setattr(weight_files, "load_tensors", lambda path: state)
    model, reranker = published.load_checkpoint(tmp_path / "c.pt")
    assert model.mean.dtype == reranker.score.weight.dtype == torch.float32


# ---------------------------------------------------------------- artifacts


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    return PROFILES["smoke"]


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npy_header(text):
    text = text.ljust(118).encode() + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


ARRAYS = {
    "empty": b"", "text": b"no array", "cut": npy(np.ones(50))[:200], "head alone": npy(np.ones(50))[:128],
    "objects": npy(np.array([{"a": 1}, None], dtype=object), allow_pickle=True), "pickle": pickle.dumps([1]),
    "zip": HONEST,
    "claims more": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000)}"),
    "negative": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
    "code": npy_header("__import__('os').system('touch sprung')"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARRAYS)
def test_broken_arrays_are_refused_even_with_their_record(study, case):
    artifacts.save(study, "global/a.npy", lambda partial: partial.write_bytes(ARRAYS[case]))
    with pytest.raises(ValueError) as error:
        artifacts.load_array(study, "global/a")
    one_line(error, "a.npy is no whole array of numbers", "make it again")


def test_a_trap_in_an_array_does_not_spring(study, tmp_path):
    trap = np.empty(1, dtype=object)
    trap[0] = Trap(tmp_path / "sprung")
    artifacts.save(study, "global/a.npy", lambda partial: partial.write_bytes(npy(trap, allow_pickle=True)))
    with pytest.raises(ValueError, match="no whole array of numbers"):
        artifacts.load_array(study, "global/a")
    assert not (tmp_path / "sprung").exists()


RECORDS = {
    "empty": b"", "cut": b'{"settings": {', "list": b"[]", "text": b'"x"', "no settings": b'{"sha256": ""}',
    "no hash": b'{"settings": {}}', "not UTF-8": b"\xff\xfe", "null": b"null", "NUL": bytes(10),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDS)
def test_broken_records_are_refused(study, case):
    artifacts.save_array(study, "global/a", np.ones(3))
    artifacts.save_table(study, "t", pd.DataFrame({"R@1": [0.5]}))
    records = [
        artifacts.data_folder(study) / "global" / "a.json",
        artifacts.results_folder(study) / "tables" / "t.json",
    ]
    for path in records:
        path.write_bytes(RECORDS[case])
    for load, path in zip(
        (lambda: artifacts.load_array(study, "global/a"), lambda: artifacts.load_table(study, "t")),
        records,
        strict=True,
    ):
        with pytest.raises(ValueError, match="is damaged .*: rerun") as error:
            load()
        one_line(error, path)


@pytest.mark.parametrize("case", ["missing record", "other bytes", "a folder", "record is a folder"])
def test_an_artifact_without_its_record_or_of_other_bytes_is_refused(study, case):
    artifacts.save_array(study, "global/a", np.ones(3))
    path = artifacts.data_folder(study) / "global" / "a.npy"
    if case == "other bytes":
        path.write_bytes(npy(np.zeros(3)))
    else:
        victim = path if case == "a folder" else path.with_suffix(".json")
        victim.unlink()
        if case != "missing record":
            victim.mkdir()
    with pytest.raises((FileNotFoundError, ValueError)) as error:
        artifacts.load_array(study, "global/a")
    one_line(error, path, "02_train_global")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xfa", b'a,b\n1\n"', b"a\n1,2,3\n4,5\n"])
def test_broken_frames_are_refused(study, content):
    artifacts.save(study, "data/manifest.csv", lambda partial: partial.write_bytes(content))
    try:
        artifacts.load_frame(study, "data/manifest")
    except ValueError as error:
        one_line(error, "manifest.csv is no table", "make it again")
    else:
        assert content.startswith(b"a")  # ragged lines that pandas reads


def test_weights_that_are_none_are_refused_even_with_their_record(study):
    artifacts.save(study, "global/w.safetensors", lambda partial: partial.write_bytes(b"none"))
    with pytest.raises(ValueError, match="w.safetensors is not a whole safetensors file .*: make it again"):
        artifacts.load_weights(study, "global/w")


@pytest.mark.parametrize("part", ["global/seed{}/weights", "reranker/seed{}/finetuned_reranker"])
@pytest.mark.parametrize("fault", ["missing", "not finite"])
def test_trained_weights_that_do_not_fit_are_refused_by_name(study, part, fault):
    seed = study.seeds[0]
    image, reranker = weights.image_model(study.global_), weights.reranker(study.reranker)
    parts = {"global/seed{}/weights": image, "reranker/seed{}/finetuned_image_model": image}
    for name, model in (parts | {"reranker/seed{}/finetuned_reranker": reranker}).items():
        state = dict(model.state_dict())
        if name == part:
            first = next(iter(state))
            state = (
                {k: v for k, v in state.items() if k != first}
                if fault == "missing"
                else state | {first: state[first] * np.nan}
            )
        artifacts.save_weights(study, name.format(seed), state)
    log = pd.DataFrame({"seed": study.seeds, "stage": "finetuned", "validation R@1": 0.5})
    artifacts.save_frame(study, "reranker/log", log)
    with pytest.raises(ValueError, match=f"{part.format(seed)}.safetensors .*1 {fault}"):
        searching.open_models(study)


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_features_that_are_no_directions_are_refused(value):
    from waldo_utils.retrieval.exact import nearest_neighbors

    features = np.eye(4, dtype=np.float32)
    features[2, 1] = value
    for queries, gallery in ((features, None), (features, np.eye(4)), (np.eye(4), features)):
        with pytest.raises(ValueError, match="not finite|not of unit length"):
            nearest_neighbors(queries, 1, gallery)


# ---------------------------------------------------------------- the photo cache


@pytest.fixture
def cached(tmp_path):
    manifest = small_set(tmp_path / "root")
    return (
        manifest,
        tmp_path / "root",
        tmp_path / "cache",
        photo_cache.build_cache(manifest, tmp_path / "root", tmp_path / "cache", 16),
    )


CACHES = {
    "pixels cut": lambda folder: os.truncate(folder / "pixels.bin", 50),
    "pixels empty": lambda folder: os.truncate(folder / "pixels.bin", 0),
    "pixels longer": lambda folder: os.truncate(folder / "pixels.bin", 10**6),
    "no pixels": lambda folder: (folder / "pixels.bin").unlink(),
    "shapes cut": lambda folder: os.truncate(folder / "shapes.npy", 140),
    "shapes empty": lambda folder: os.truncate(folder / "shapes.npy", 0),
    "no shapes": lambda folder: (folder / "shapes.npy").unlink(),
    "shapes of objects": lambda folder: (folder / "shapes.npy").write_bytes(ARRAYS["objects"]),
    "shapes of one row": lambda folder: np.save(folder / "shapes.npy", np.array([3, 4])),
}


@pytest.mark.parametrize("case", CACHES)
def test_a_damaged_cache_is_refused_and_made_again(cached, case):
    manifest, root, folder, _ = cached
    CACHES[case](folder)
    with pytest.raises(ValueError) as error:
        photo_cache.open_cache(folder)
    one_line(error, folder, "is damaged", "run notebook 01_prepare_data")
    assert photo_cache.build_cache(manifest, root, folder, 16)[3].shape == (3, 16, 26)


def test_a_disk_too_small_for_the_cache_is_refused_before_writing(tmp_path, monkeypatch):
    manifest = small_set(tmp_path / "root")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(OSError, match="needs about 0.1 GB, .*cache has 0.0 GB: make room"):
        photo_cache.build_cache(manifest, tmp_path / "root", tmp_path / "cache", 2600)
    assert not list((tmp_path / "cache").iterdir())


def test_a_disk_that_fills_while_caching_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    manifest, folder = small_set(tmp_path / "root"), tmp_path / "cache"
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError) as error:
        photo_cache.build_cache(manifest, tmp_path / "root", folder, 16)
    one_line(error, folder, "GB free", "No space left on device: make room on the disk")
    assert not whole_parts(folder)
    with pytest.raises(FileNotFoundError, match="run notebook 01"):
        photo_cache.open_cache(folder)


def test_a_real_disk_that_fills_while_caching(tmp_path, small_disk, monkeypatch):
    manifest = small_set(tmp_path / "root")
    for name in manifest.path:
        (tmp_path / "root" / name).write_bytes(encoded("JPEG", noise((300, 500))))
    with pytest.raises(OSError, match="needs about 0.0 GB, .* has 0.0 GB: make room"):
        photo_cache.build_cache(manifest, tmp_path / "root", small_disk / "cache", 300)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 0, 10**9))
    with pytest.raises(OSError, match="No space left on device: make room on the disk"):
        photo_cache.build_cache(manifest, tmp_path / "root", small_disk / "cache", 300)
    assert not whole_parts(small_disk / "cache")
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    monkeypatch.undo()
    assert len(photo_cache.build_cache(manifest, tmp_path / "root", small_disk / "cache", 300)) == 4


def test_a_read_only_place_is_refused_before_computing(tmp_path, small_disk, models, monkeypatch):
    drawn_photo(1).save(tmp_path / "a.png")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    monkeypatch.setattr(searching, "features", lambda *given: pytest.fail("computed for nothing"))
    with pytest.raises(OSError) as error:
        index.update(tmp_path, small_disk / "index", models, "mini")
    one_line(error, "cannot write to", "(Read-only file system): choose a place that can be written")
    with pytest.raises(OSError, match="Read-only file system"):
        photo_cache.build_cache(small_set(tmp_path / "root"), tmp_path / "root", small_disk / "cache", 16)


BEGUN = {
    "empty": b"", "list": b"[]", "no keys": b"{}", "not UTF-8": b"\xff", "cut": b'{"fingerprint": "x',
    "null": b"null",
}  # fmt: skip


@pytest.mark.parametrize("case", [*BEGUN, "fewer bytes than recorded"])
def test_a_begun_cache_that_is_damaged_begins_anew(tmp_path, monkeypatch, case):
    manifest, folder = small_set(tmp_path / "root"), tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(photo_cache, "rename", full_disk)
        with pytest.raises(OSError, match="make room on the disk"):
            photo_cache.build_cache(manifest, tmp_path / "root", folder, 16)
    assert (folder / "begun.json").exists()
    if case in BEGUN:
        (folder / "begun.json").write_bytes(BEGUN[case])
    else:
        os.truncate(folder / "begun.bin", 100)
    photos = photo_cache.build_cache(manifest, tmp_path / "root", folder, 16)
    other = photo_cache.build_cache(manifest, tmp_path / "root", tmp_path / "other", 16)
    assert all(torch.equal(photos[i], other[i]) for i in range(4))


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_cache_without_a_place_is_refused(tmp_path, kind):
    (tmp_path / "cache").write_text("mine")
    folder = tmp_path / "cache" if kind == "file" else tmp_path / "cache" / "photos"
    with pytest.raises(OSError) as error:
        photo_cache.build_cache(small_set(tmp_path / "root"), tmp_path / "root", folder, 16)
    one_line(error, "the photo cache has no place", folder)
    assert (tmp_path / "cache").read_text() == "mine"


# ---------------------------------------------------------------- the index


@pytest.fixture(scope="module")
def indexed(models, tmp_path_factory):
    """Three photos and their index."""
    folder = tmp_path_factory.mktemp("indexed")
    (folder / "photos").mkdir()
    for i in range(3):
        drawn_photo(i).save(folder / "photos" / f"{i}.png")
    index.update(folder / "photos", folder / "index", models, "mini")
    return folder


@pytest.fixture
def damaged(indexed, tmp_path):
    shutil.copytree(indexed, tmp_path / "all")
    return tmp_path / "all"


def change_record(output, **fields):
    record = json.loads((output / "index.json").read_text())
    for name, value in fields.items():
        if value is None:
            del record[name]
        else:
            record[name] = value
    (output / "index.json").write_text(json.dumps(record))


RECORD_FAULTS = {
    "empty": lambda output: os.truncate(output / "index.json", 0),
    "cut": lambda output: os.truncate(output / "index.json", 200),
    "list": lambda output: (output / "index.json").write_text("[]"),
    "not UTF-8": lambda output: (output / "index.json").write_bytes(b"\xff\xfe"),
    "another version": lambda output: change_record(output, format=99),
    "no version": lambda output: change_record(output, format=None),
    "no files": lambda output: change_record(output, files=None),
    "files that are a list": lambda output: change_record(output, files=[1, 2, 3]),
    "no digest": lambda output: change_record(output, digest=None),
    "no profile": lambda output: change_record(output, profile=None),
    "profile that is a list": lambda output: change_record(output, profile=["mini"]),
    "no features": lambda output: change_record(output, features=None),
    "features elsewhere": lambda output: change_record(output, features="../../x"),
    "an approximate index of another form": lambda output: change_record(output, approximate="x.faiss"),
    "a threshold of another form": lambda output: change_record(output, threshold={"bar": 3}),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORD_FAULTS)
def test_a_broken_record_of_an_index_is_refused(damaged, case, models):
    RECORD_FAULTS[case](damaged / "index")
    for open_it in (
        lambda: index.open_index(damaged / "index", models),
        lambda: index.profile_of(damaged / "index"),
        lambda: index.update(damaged / "photos", damaged / "index", models, "mini"),
    ):
        with untouched(damaged), pytest.raises(ValueError) as error:
            open_it()
        one_line(error, "index.json is", "and index again")


TABLE_FAULTS = {
    "empty": lambda table: os.truncate(table, 0),
    "cut": lambda table: os.truncate(table, 300),
    "absent": lambda table: table.unlink(),
    "a folder": lambda table: (table.unlink(), table.mkdir()),
    "no columns": lambda table: np.savez(table, sizes=np.zeros(3)),
    "objects": lambda table: np.savez(table, **{**np.load(table), "paths": np.array([{}], dtype=object)}),
    "fewer": lambda table: np.savez(table, **{**np.load(table), "sizes": np.zeros(2, np.int64)}),
    "rows that are not there": lambda table: np.savez(table, **{**np.load(table), "rows": np.arange(3) + 7}),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE_FAULTS)
def test_a_broken_table_of_an_index_is_refused(damaged, case, models):
    TABLE_FAULTS[case](next((damaged / "index").glob("photos-*.npz")))
    for open_it in (
        lambda: index.open_index(damaged / "index", models),
        lambda: index.update(damaged / "photos", damaged / "index", models, "mini"),
    ):
        with pytest.raises(ValueError) as error:
            open_it()
        one_line(error, ".npz is damaged", "and index again")


def file_of(output, name):
    return next(output.glob("features-*")) / name


ARRAY_FAULTS = {
    "cut": lambda output: os.truncate(file_of(output, "local"), 50),
    "empty": lambda output: os.truncate(file_of(output, "global"), 0),
    "absent": lambda output: file_of(output, "global").unlink(),
    "a folder": lambda output: (file_of(output, "local").unlink(), file_of(output, "local").mkdir()),
    "no shapes": lambda output: file_of(output, "shapes.json").unlink(),
    "shapes of another form": lambda output: file_of(output, "shapes.json").write_text("[16]"),
    "NaN": lambda output: np.full(3 * 16, np.nan, np.float16).tofile(file_of(output, "global")),
}  # fmt: skip


@pytest.mark.parametrize("case", ARRAY_FAULTS)
def test_broken_arrays_of_an_index_are_refused(damaged, case, models):
    ARRAY_FAULTS[case](damaged / "index")
    with pytest.raises(ValueError) as error:
        index.open_index(damaged / "index", models)
    one_line(error, damaged / "index", "make it again with `python -m waldo_utils index")


NOBODY = 2**22 + 1  # a process number that no system gives


@pytest.mark.parametrize(
    "left",
    [
        "features-0123456789abcdef",
        "photos-0123456789abcdef.npz",
        f"approximate-0123456789abcdef.{NOBODY}.partial.faiss",
        f"index.{NOBODY}.partial.json",
    ],
)
def test_a_half_written_index_is_none_and_is_finished(indexed, tmp_path, models, left):
    output = tmp_path / "index"
    output.mkdir()
    (output / left).mkdir() if left.startswith("features") else (output / left).write_bytes(b"half")
    with pytest.raises(FileNotFoundError, match="holds no index"):
        index.open_index(output, models)
    assert index.update(indexed / "photos", output, models, "mini").added == 3
    assert len(index.open_index(output, models).gallery) == 3
    assert not list(output.rglob("*.partial*"))


SHAPES = {"no keys": b"{}", "list": b"[]", "no number": b"3", "empty": b"", "not UTF-8": b"\xff"}


@pytest.mark.parametrize("case", SHAPES)
def test_features_of_unknown_shapes_are_computed_again(damaged, models, case):
    file_of(damaged / "index", "shapes.json").write_bytes(SHAPES[case])
    (damaged / "index" / "index.json").unlink()
    assert index.update(damaged / "photos", damaged / "index", models, "mini").added == 3
    assert len(index.open_index(damaged / "index", models).gallery) == 3


@pytest.mark.parametrize("kind", ["file", "below a file", "photos of mine"])
def test_an_output_that_is_something_else_is_kept(indexed, tmp_path, models, kind, monkeypatch):
    output = tmp_path / "out"
    if kind == "photos of mine":
        output.mkdir()
        (output / "global.npy").write_text("mine")
    else:
        output.write_text("mine")
        output = output / "index" if kind == "below a file" else output
    monkeypatch.setattr(searching, "features", lambda *given: pytest.fail("computed for nothing"))
    with untouched(tmp_path), pytest.raises(OSError) as error:
        index.update(indexed / "photos", output, models, "mini")
    one_line(error, output)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.parametrize(
    "name", [b"\xff\xfe.png", "漢字 🍎.png".encode(), b"$\\frac{$.png", b"\x1b[2Ja\nb.png"]
)
def test_names_of_any_bytes_are_indexed_found_and_printed(tmp_path, models, monkeypatch, capfd, name):
    folder = os.fsencode(tmp_path / "photos") + b"/" + name.removesuffix(b".png")
    os.makedirs(folder)
    for i in range(2):
        with open(folder + b"/" + str(i).encode() + name, "wb") as out:
            out.write(encoded("PNG", drawn_photo(i)))
    with open(folder + b"/cut" + name, "wb") as out:
        out.write(b"cut")
    drawn_photo(1).save(tmp_path / "query.png")
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    assert main(["index", str(tmp_path / "photos"), "--output", str(tmp_path / "index")]) == 0
    printed = capfd.readouterr().out
    assert "2 left out" not in printed
    assert "1 left out" in printed
    assert "\x1b" not in printed
    search = ["search", str(tmp_path / "query.png"), "--index", str(tmp_path / "index"), "--top", "2"]
    picture = ["--output", str(tmp_path / "grid.png")] if name[:1] in b"$\xff" else []
    assert main([*search, "--json", *picture]) == 0
    assert len(json.loads(capfd.readouterr().out)["matches"]) == 2
    assert main(search) == 0
    assert "\x1b" not in capfd.readouterr().out


# ---------------------------------------------------------------- what the demo and the search are given


BOXES = [
    "a,b", "", "1,2,3", "1,2,3,4,5", "nan,0,10,10", "inf,0,1,1", "1.5,0,10,10", "0 0 10 10", "0;0;10;10",
    "0x1,0,1,1", ",,,",
]  # fmt: skip


@pytest.mark.parametrize("text", BOXES)
def test_a_crop_that_is_none_is_refused(text):
    with pytest.raises(ValueError) as error:
        searching.parse_box(text)
    one_line(error, "a crop is left,top,width,height in pixels", repr(text))


@pytest.mark.parametrize(
    "box",
    [
        (48, 0, 5, 5),
        (0, 40, 5, 5),
        (-9, 0, 9, 9),
        (0, 0, 0, 5),
        (5, 5, -3, 4),
        (10**30, 0, 1, 1),
        (0, 0, 10, -(10**30)),
    ],
)
def test_a_crop_without_a_pixel_is_refused(box):
    with pytest.raises(
        ValueError, match=r"holds nothing of the photo \(48 x 40 pixels\): choose a box inside it"
    ):
        searching.clip_box(box, (48, 40))


@pytest.mark.parametrize(
    "box", [(-(10**30), -5, 10**31, 10), (0, 0, 48, 40), (47, 39, 1, 1), (0, 0, 10**30, 10**30)]
)
def test_a_crop_that_reaches_out_is_cut_to_the_photo(box):
    left, top, width, height = searching.clip_box(box, (48, 40))
    assert 0 <= left < left + width <= 48
    assert 0 <= top < top + height <= 40


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_a_tiny_query_is_searched(models, indexed, size):
    gallery = index.open_index(indexed / "index", models).gallery
    answer = searching.search(models, gallery, noise(size))
    assert sorted(answer.rows) == [0, 1, 2]


# ---------------------------------------------------------------- the command line


def error_line(capfd, *parts):
    """Check that a command said one line of error, and return it."""
    text = capfd.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    for part in parts:
        assert str(part) in text
    return text


@pytest.fixture
def command(indexed, models, monkeypatch, capfd, tmp_path):
    """Run a command that must be refused in one line."""
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    monkeypatch.setattr(index_files, "HOME", tmp_path / "home")

    def run(arguments, *parts):
        filled = [
            str(a).format(photo=indexed / "photos" / "0.png", index=indexed / "index", tmp=tmp_path)
            for a in arguments
        ]
        with untouched(indexed):
            assert main(filled) == 2
        return error_line(capfd, *parts)

    return run


COMMANDS = {
    "no such photo": (["search", "{tmp}/no.jpg", "--index", "{index}"], "no.jpg: correct the path"),
    "a folder for a photo": (["search", "{tmp}", "--index", "{index}"], "it is a folder or a device"),
    "a device for a photo": (["search", "/dev/zero", "--index", "{index}"], "it is a folder or a device"),
    "an empty crop": (["search", "{photo}", "--crop", "", "--index", "{index}"],
        "a crop is left,top,width,height"),
    "a crop of letters": (["search", "{photo}", "--crop", "a,b", "--index", "{index}"], "got 'a,b'"),
    "a crop outside": (["search", "{photo}", "--crop", "900,0,5,5", "--index", "{index}"],
        "choose a box inside it"),
    "a crop without width": (["search", "{photo}", "--crop", "1,1,0,5", "--index", "{index}"],
        "choose a box inside it"),
    "top 0": (["search", "{photo}", "--top", "0", "--index", "{index}"], "--top 0 shows nothing"),
    "top -3": (["search", "{photo}", "--top=-3", "--index", "{index}"], "--top -3 shows nothing"),
    "no index": (["search", "{photo}", "--index", "{tmp}"], "holds no index: make one with"),
    "no index yet": (["search", "{photo}"], "there is no index yet"),
    "a file for an index": (["search", "{photo}", "--index", "{photo}"], "holds no index"),
    "a picture of no kind": (["search", "{photo}", "--index", "{index}", "--output", "{tmp}/a.xyz"],
        "a.xyz: choose a name that ends in .png"),
    "a picture in place of the photo": (["search", "{photo}", "--index", "{index}", "--output", "{photo}"],
        "0.png is the photo itself: choose another name"),
    "a picture in place of a folder": (["search", "{photo}", "--index", "{index}", "--output", "{tmp}/a.png"],
        "a.png is a folder: choose another name"),
    "a picture nowhere": (["search", "{photo}", "--index", "{index}", "--output", "/dev/null/a.png"],
        "cannot write to /dev/null (File exists)"),
    "no such folder": (["index", "{tmp}/nowhere"], "is no folder"),
    "a file for a folder": (["index", "{photo}"], "is no folder: give the folder that holds the photos"),
    "a folder without photos": (["index", "{index}", "--output", "{tmp}/out"], "holds no photo"),
    "a name with a line end": (["index", "a\nb\x1b[2J"], "a\\nb\\x1b[2J is no folder"),
    "an endless name": (["search", "x" * 5000, "--index", "{index}"], "File name too long"),
    "a checkpoint that is none": (["evaluate", "--checkpoint", "{photo}", "--data", "{tmp}"],
        "no sop data in"),
    "data that are none": (["evaluate", "--checkpoint", "{photo}", "--data", "{photo}"], "no sop data in"),
    "an output of another kind": (["evaluate", "--checkpoint", "{photo}", "--output", "t.txt"],
        "choose a name that ends in .csv"),
    "a table nowhere": (["evaluate", "--checkpoint", "{photo}", "--output", "/dev/null/t.csv"],
        "cannot write to /dev/null (File exists)"),
    "tables nowhere": (["benchmark", "--profile", "smoke", "--output", "/dev/null"],
        "cannot write to /dev/null (File exists)"),
    "an unknown run": (["run", "--profile", ""], "unknown profile ''"),
    "an unknown notebook": (["run", "--profile", "smoke", "--only", "99"], "unknown notebook '99'"),
    "a parameter without a value": (["run", "--param", "x"], "--param takes NAME=VALUE"),
}  # fmt: skip


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_is_refused_in_one_line(command, case, tmp_path):
    (tmp_path / "a.png").mkdir()
    arguments, message = COMMANDS[case]
    command(arguments, message)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            "/data/x: No space left on device: make room on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"),
            "/x: Permission denied: allow it, or choose another place"),
        (OSError(errno.EROFS, "Read-only file system", "a", None, "b"),
            "a -> b: Read-only file system: choose a place that can be written"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: make room on the disk"),
        (ConnectionError("no\nnetwork"), "no\\nnetwork"),
        (ValueError("bad\x1b[31m"), "bad\\x1b[31m"),
        (ModuleNotFoundError("No module named 'nosuch'"), "No module named 'nosuch'"),
    ],
)  # fmt: skip
def test_errors_of_the_system_come_with_a_remedy(monkeypatch, capfd, error, line):
    def fail(options):
        raise error

    monkeypatch.setattr(sys.modules["waldo_utils.__main__"], "_profiles", fail)
    assert main(["profiles"]) == 2
    assert capfd.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize(
    "arguments",
    [["search", "a", "--top", "many"], ["train"], ["demo", "--port", "x"], ["dance"], []],
)
def test_arguments_that_are_none_are_refused_by_name(arguments, capfd):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "error: " in capfd.readouterr().err.splitlines()[-1]


PROCESSES = {
    "no HOME": (["profiles"], {"HOME": None, "XDG_CACHE_HOME": None}, 0, "mini"),
    "a terminal of ASCII": (["status", "--profile", "smoke"], {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}, 0,
        "01_prepare_data"),
    "no such profile": (["run", "--profile", "maxi"], {}, 2, "error: unknown profile 'maxi'"),
    "data that are absent": (["evaluate", "--checkpoint", "no.pt", "--data", "{tmp}"], {}, 2,
        "error: no sop data in"),
    "a broken photo": (["search", "{tmp}/cut.jpg", "--index", "{tmp}"], {"HOME": None}, 2,
        "cut.jpg cannot be read as a photo"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROCESSES)
def test_a_real_process_says_one_line_and_writes_nothing(tmp_path, case):
    arguments, changed, code, message = PROCESSES[case]
    (tmp_path / "cut.jpg").write_bytes(encoded("JPEG")[:200])
    environment = {k: v for k, v in os.environ.items() if k not in changed} | {
        k: v for k, v in changed.items() if v
    }
    environment["PYTHONPATH"] = str(ROOT)
    with untouched(tmp_path):
        ended = subprocess.run(
            [sys.executable, "-m", "waldo_utils", *(a.format(tmp=tmp_path) for a in arguments)],
            capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
        )  # fmt: skip
    assert ended.returncode == code
    assert message in (ended.stderr if code else ended.stdout)
    assert "Traceback" not in ended.stderr
    assert code == 0 or ended.stderr.splitlines()[-1].startswith("error: ")
