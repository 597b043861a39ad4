"""Rendered data sets have the real ones' form, and do not depend on how they were made."""

import json
import re
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
from PIL import Image

from waldo_utils.data import checks, manifests
from waldo_utils.disk.files import is_alive
from waldo_utils.miniature.datasets import RENDERER, render_places, render_products10k, render_sop

SMALL = {"seed": 1, "families": 2, "family_size": 2, "photos": 3, "size": 48, "difficulty": 0.5}
CATEGORIES = ("mug", "table")


@pytest.fixture(scope="module")
def sop(tmp_path_factory):
    return render_sop(tmp_path_factory.mktemp("sop"), **SMALL, categories=CATEGORIES, processes=1)


def test_the_lists_are_those_of_stanford_online_products(sop):
    lines = (sop / "Ebay_train.txt").read_text().splitlines()
    assert lines[0] == "image_id class_id super_class_id path"
    assert lines[1] == "1 1 1 mug_final/110000000001_0.JPG"
    train, test, info = (pd.read_csv(sop / f"Ebay_{name}.txt", sep=" ") for name in ("train", "test", "info"))
    assert len(train) == len(test) == 2 * 2 * 3
    assert info.image_id.tolist() == list(range(1, 25))
    assert not set(train.class_id) & set(test.class_id)


def test_the_sop_loader_reads_it_with_families(sop):
    manifest = checks.check_manifest(manifests.sop_manifest(sop), sop, read=True)
    assert manifest.category.unique().tolist() == ["mug", "table"]
    assert manifest.groupby("family").label.nunique().tolist() == [2] * 4
    assert manifest.groupby("family").split.nunique().max() == 1


def test_photos_are_jpegs_of_several_shapes(sop):
    sizes = set()
    for path in sop.glob("*_final/*.JPG"):
        with Image.open(path) as photo:
            assert photo.format == "JPEG"
            sizes.add(photo.size)
    assert all(max(size) == 48 for size in sizes)
    assert len(sizes) > 2


def test_two_processes_write_the_same_bytes(sop, tmp_path):
    other = render_sop(tmp_path / "other", **SMALL, categories=CATEGORIES, processes=2)
    for path in sop.rglob("*.*"):
        assert (other / path.relative_to(sop)).read_bytes() == path.read_bytes(), path


def test_an_interrupted_set_is_finished_and_a_whole_one_left_alone(sop):
    victim = next(sop.glob("table_final/*.JPG"))
    before = victim.read_bytes()
    victim.unlink()
    (sop / "Ebay_info.txt").unlink()
    others = {path: path.stat().st_mtime_ns for path in sop.glob("*_final/*.JPG")}
    render_sop(sop, **SMALL, categories=CATEGORIES, processes=1)
    assert victim.read_bytes() == before
    assert others == {path: path.stat().st_mtime_ns for path in others}
    times = {path: path.stat().st_mtime_ns for path in sop.rglob("*.*")}
    render_sop(sop, **SMALL, categories=CATEGORIES, processes=1)
    assert times == {path: path.stat().st_mtime_ns for path in sop.rglob("*.*")}


def test_a_folder_of_other_settings_is_refused(sop):
    with pytest.raises(FileExistsError, match="other settings: delete the folder"):
        render_sop(sop, **(SMALL | {"seed": 2}), categories=CATEGORIES)


@pytest.mark.parametrize("version", [{}, {"renderer": RENDERER - 1}, {"renderer": RENDERER + 1}])
def test_a_set_of_another_renderer_is_rendered_anew_and_nothing_else_touched(tmp_path, capsys, version):
    drawn = SMALL | {"photos": 2, "size": 32}
    root = render_sop(tmp_path, **drawn, categories=("mug",), processes=1)
    record = root / "settings.json"
    written = json.loads(record.read_text())
    assert written.pop("renderer") == RENDERER
    record.write_text(json.dumps(written | version))
    photo = next(root.glob("*_final/*.JPG"))
    right = photo.read_bytes()
    photo.write_bytes(b"pixels of another version")
    (photo.parent / "mine.JPG").write_text("mine")
    (root / "notes.txt").write_text("mine")
    render_sop(root, **drawn, categories=("mug",), processes=1)
    line = capsys.readouterr().out
    assert (
        line == f"{root} was rendered by version {version.get('renderer', 1)} of the renderer: "
        f"rendering it anew by {RENDERER}\n"
    )
    assert photo.read_bytes() == right
    assert json.loads(record.read_text()) == written | {"renderer": RENDERER}
    assert (photo.parent / "mine.JPG").read_text() == (root / "notes.txt").read_text() == "mine"


def test_a_set_of_another_renderer_and_other_settings_is_refused(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"seed": 5, "renderer": RENDERER - 1}))
    with pytest.raises(FileExistsError, match="other settings: delete the folder"):
        render_sop(tmp_path, **SMALL, categories=CATEGORIES, processes=1)


def test_a_script_without_a_main_guard_ends_with_the_remedy(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from waldo_utils.miniature.datasets import render_sop\n"
        f"render_sop(Path({str(tmp_path / 'set')!r}), **{SMALL}, categories=('mug',), processes=2)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    (error,) = [  # not always the last line: Python may add a warning about what the processes left
        line
        for line in ended.stderr.splitlines()
        if line.startswith("RuntimeError: a rendering process ended")
    ]
    assert "if __name__ == '__main__':" in error


def test_a_data_set_that_was_not_rendered_is_left_as_it_is(tmp_path):
    (tmp_path / "Ebay_test.txt").write_text("real")
    with pytest.raises(FileExistsError, match="not rendered here: choose another folder"):
        render_sop(tmp_path, **SMALL, categories=CATEGORIES, processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["Ebay_test.txt"]
    assert (tmp_path / "Ebay_test.txt").read_text() == "real"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("families", 1),
        ("photos", 1),
        ("size", 8),
        ("difficulty", 2),
        ("test_fraction", 1.0),
        ("categories", ["mug", "can"]),
        ("categories", ["mug", "mug"]),
        ("categories", []),
        ("processes", 0),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value}: ")):
        render_sop(tmp_path, **(SMALL | {name: value}))
    assert not list(tmp_path.iterdir())


def test_the_transfer_set_has_the_form_of_products10k(tmp_path):
    root = render_products10k(tmp_path, **(SMALL | {"photos": 5}), categories=("can", "box"), processes=1)
    train, test = pd.read_csv(root / "train.csv"), pd.read_csv(root / "test_kaggletest.csv")
    assert train.columns.tolist() == ["name", "class", "group"]
    assert test.columns.tolist() == ["name", "class", "Usage"]
    assert set(train["class"]) == set(test["class"]) == set(range(8))
    manifest = checks.check_manifest(manifests.products10k_manifest(root), root, disjoint=False, read=True)
    assert set(manifest.category) == {"can", "box"}
    assert manifest.split.value_counts().to_dict() == {"train": 24, "test": 16}


def test_rendering_processes_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "render.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom waldo_utils.miniature.datasets import render_sop\n"
        "if __name__ == '__main__':\n    render_sop(Path(sys.argv[1]), 1, 40, 3, 5, 400, 0.5, processes=2)\n"
    )
    parent = psutil.Popen([sys.executable, script, tmp_path / "sop"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("sop/*_final/*.JPG")):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.1)
    family = parent.children(recursive=True)
    assert len(family) >= 2
    parent.kill()
    parent.wait()
    while any(is_alive(process.pid) for process in family):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_photo_that_is_gone_is_rendered_again(tmp_path):
    root = render_sop(tmp_path, **SMALL, categories=["mug"], processes=1)
    photo = sorted(root.glob("*/*.JPG"))[3]
    content = photo.read_bytes()
    photo.unlink()
    render_sop(tmp_path, **SMALL, categories=["mug"], processes=1)
    assert photo.read_bytes() == content


SHARED = {"seed": 1, "families": 1, "family_size": 2, "photos": 1, "size": 48, "difficulty": 0.3, "places": 2}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("shared")
    return render_places(root, **SHARED, sharing=2, categories=("mug", "table", "sofa"), processes=1)


def test_each_product_stands_in_several_places_and_each_place_holds_several_products(shared):
    manifest = checks.check_manifest(manifests.places_manifest(shared), shared, read=True)
    assert len(manifest) == 3 * 2 * 2
    assert manifest.groupby("label").place.nunique().tolist() == [2] * 6
    assert manifest.groupby("place").label.nunique().tolist() == [4, 4, 2, 2]  # sofas are alone
    assert manifest.groupby("place").category.nunique().tolist() == [2, 2, 1, 1]
    assert manifest.groupby("family").label.nunique().tolist() == [2] * 3


def test_a_mask_tells_where_the_product_is(shared):
    row = manifests.places_manifest(shared).iloc[0]
    with Image.open(shared / row.path) as photo, Image.open(shared / row["mask"]) as mask:
        assert mask.size == photo.size and mask.mode == "L"
        assert mask.getextrema() == (0, 255)


def test_shared_places_are_finished_and_repeat(shared, tmp_path):
    before = {path: path.read_bytes() for path in shared.rglob("*.*")}
    for victim in (*shared.glob("masks/000001*"), next(shared.glob("photos/000000*"))):
        victim.unlink()
    render_places(shared, **SHARED, sharing=2, categories=("mug", "table", "sofa"), processes=2)
    assert {path: path.read_bytes() for path in shared.rglob("*.*")} == before


@pytest.mark.parametrize("wrong", [{"places": 1}, {"sharing": 0}, {"photos": 0}, {"categories": ("mugs",)}])
def test_places_that_make_no_sense_are_refused_before_anything_is_written(tmp_path, wrong):
    drawn = SHARED | {"sharing": 2, "categories": ("mug",)} | wrong
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
        render_places(tmp_path / "set", **drawn)
    assert not (tmp_path / "set").exists()
