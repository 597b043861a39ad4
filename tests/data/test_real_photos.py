"""Real photos: each is that of its list or refused, nothing is half gathered, and sets stay apart."""

import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from waldo_utils.data import checks, places, real_photos, sources
from waldo_utils.study import ROOT, DataStage, RenderedSet

SHARED = ROOT.parent / "shared" / "photos"


@pytest.fixture
def chairs(tmp_path, monkeypatch):
    """A set of two products of two photos in the form of SOP-85, and its list."""
    root = tmp_path / "real" / "sop85"
    rows = []
    for product in ("111", "112"):
        for i in range(2):
            path = root / "sofa_final" / f"{product}_{i}.JPG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (int(product), 40 * i, 7)).save(path)
            content = path.read_bytes()
            rows.append(
                (
                    f"sofa_final/{path.name}",
                    product,
                    "sofa",
                    len(content),
                    hashlib.sha256(content).hexdigest(),
                )
            )
    listed = pd.DataFrame(rows, columns=["path", "product", "category", "bytes", "sha256"])
    monkeypatch.setattr(real_photos, "listed", lambda name: listed)
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WALDO_DATA", str(tmp_path / "real"))
    return root


def test_a_set_is_gathered_once_with_its_products_and_names(chairs, tmp_path):
    manifest = real_photos.gather("sop85", tmp_path / "study")
    assert manifest.label.tolist() == [0, 0, 1, 1]
    assert manifest["product"].tolist() == ["111", "111", "112", "112"]
    gathered = [tmp_path / "study" / path for path in manifest.path]
    times = [path.stat().st_mtime_ns for path in gathered]
    real_photos.gather("sop85", tmp_path / "study")
    assert [path.stat().st_mtime_ns for path in gathered] == times
    gathered[0].write_bytes(b"cut")
    real_photos.gather("sop85", tmp_path / "study")
    assert gathered[0].read_bytes() == (chairs / "sofa_final" / "111_0.JPG").read_bytes()


def test_another_commits_photo_is_refused_by_name_and_listed(chairs, tmp_path):
    Image.new("RGB", (20, 20)).save(chairs / "sofa_final" / "112_1.JPG")
    with pytest.raises(
        ValueError, match="1 photos are not those of the list .*: sofa_final/112_1.JPG; get"
    ) as error:
        real_photos.gather("sop85", tmp_path / "study", tmp_path / "unreadable.csv")
    assert "\n" not in str(error.value)
    assert "112_1" in (tmp_path / "unreadable.csv").read_text()


def test_missing_photos_are_named_and_left_out_only_where_told(chairs, tmp_path, monkeypatch, capsys):
    (chairs / "sofa_final" / "112_1.JPG").unlink()
    with pytest.raises(ValueError, match="1 photos are missing: sofa_final/112_1.JPG; .*WALDO_PARTIAL=1"):
        real_photos.gather("sop85", tmp_path / "study")
    monkeypatch.setenv("WALDO_PARTIAL", "1")
    manifest = real_photos.gather("sop85", tmp_path / "study")
    assert manifest["product"].tolist() == ["111", "111"]  # a photo alone has nothing to be found
    assert "sop85: 1 of 4 listed photos are missing and left out" in capsys.readouterr().out


def test_a_set_that_is_nowhere_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WALDO_DATA", str(tmp_path))
    monkeypatch.setitem(places.ARCHIVES, "sop85", "http://127.0.0.1:1/x.zip")
    with pytest.raises(
        ConnectionError, match="cannot download .*clone the repository .* at commit b32047ac"
    ) as error:
        real_photos.gather("sop85", tmp_path / "study")
    assert "\n" not in str(error.value)


def test_the_lists_are_whole():
    chairs, objects = real_photos.listed("sop85"), real_photos.listed("ukbench250")
    assert (len(chairs), chairs["product"].nunique()) == (387, 85)
    assert (len(objects), objects["product"].nunique()) == (1000, 250)
    assert not chairs.sha256.duplicated().any()
    assert set(chairs.category) == {"bicycle", "cabinet", "chair", "sofa"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photos do not lie beside the project")
def test_the_study_keeps_its_sets_apart(tmp_path):
    drawn = RenderedSet(seed=5, families=2, family_size=1, photos=2, size=32, test_fraction=0.5)
    settings = DataStage(source="photos", transfer="grocery", rendered=drawn)
    manifest, root = sources.open_source(settings, tmp_path)
    transfer, _ = sources.open_transfer(settings, tmp_path)
    assert manifest.groupby(["split", "set"], sort=False).size().to_dict() == {
        ("train", "rendered"): 48,
        ("train", "UKBench-250"): 752,
        ("validation", "UKBench-250"): 248,
        ("train", "Grocery"): (manifest.set.eq("Grocery") & manifest.split.eq("train")).sum(),
        ("validation", "Grocery"): (manifest.set.eq("Grocery") & manifest.split.eq("validation")).sum(),
        ("test", "SOP-85"): 387,
    }
    assert manifest.groupby("label").set.nunique().eq(1).all()
    assert manifest.groupby("family").set.nunique().eq(1).all()
    assert len(transfer) == 1443 and transfer.split.eq("test").all()
    assert not set(transfer.path) & set(manifest.path)
    assert len(checks.duplicates(manifest[manifest.split == "test"], root)) == 0
    shutil.rmtree(Path(root))
