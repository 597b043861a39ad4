"""The measurement of large indexes: what it makes are folders and indexes like any other."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small import small_models

from waldo_utils.app import index, searching
from waldo_utils.own import scale


@pytest.fixture
def models(monkeypatch):
    models = replace(small_models(), reranker=None)
    monkeypatch.setattr(searching, "open_models", lambda name: models)
    monkeypatch.setattr(index, "LARGE", 1)
    return models


@pytest.fixture
def source(tmp_path):
    """A folder of four photos of two products."""
    rng = np.random.default_rng(0)
    for i in range(4):
        path = tmp_path / "source" / f"product{i // 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return tmp_path / "source"


def test_copies_are_photos_of_their_own_that_an_index_takes(source, tmp_path, models):
    scale.write_copies(source, tmp_path / "copies", 6)
    scale.write_copies(source, tmp_path / "copies", 9)
    scale.index_photos(tmp_path / "copies", tmp_path / "index")
    gallery = index.open_index(tmp_path / "index", models).gallery
    assert len(gallery) == 9
    assert gallery.names[:2] == ["0/product0/0.jpg", "0/product0/1.jpg"]
    assert gallery.names[-1] == "2/product0/0.jpg"
    assert len(np.unique(gallery.embedding.order)) == 9  # each computed for itself
    rows, similarities = gallery.nearest(gallery.embedding[[0]].astype(np.float32), 3)
    assert set(rows[0]) == {0, 4, 8}
    assert similarities[0].tolist() == pytest.approx([1, 1, 1], abs=1e-3)


def test_drawn_features_make_an_index_that_is_searched_and_lengthened(source, tmp_path, models):
    scale.index_photos(source, tmp_path / "known")
    scale.write_drawn(tmp_path / "known", tmp_path / "index", 300)
    features = next((tmp_path / "index").glob("features-*")) / "global"
    before = features.read_bytes()
    scale.write_drawn(tmp_path / "known", tmp_path / "index", 306)
    assert features.read_bytes()[: len(before)] == before
    seconds, middle, slow, share = scale.look(tmp_path / "index")
    assert 0 < middle <= slow
    assert share > 0.9
    assert seconds > 0
    gallery = index.open_index(tmp_path / "index", models).gallery
    assert (len(gallery), gallery.products[7]) == (306, "category0000/product0000001")
    rows, similarities = gallery.nearest(gallery.embedding[[0, 305]].astype(np.float32), 3)
    assert rows[:, 0].tolist() == [0, 305]
    assert (similarities[:, 0] > 0.99).all()


def test_both_kinds_are_measured(source, tmp_path, models, monkeypatch):
    def here(step, *arguments):
        return [1.5, 200.0, *(scale.STEPS[step](*arguments) or ())]

    monkeypatch.setattr(scale, "in_process", here)
    monkeypatch.setattr(scale, "ADDED", 2)
    table = scale.measure(source, [5], [40], tmp_path / "work", tmp_path)
    assert table.features.tolist() == ["copies", "drawn"]
    assert table.photos.tolist() == [5, 40]
    assert table["make s"].tolist() == [1.5, 1.5]
    assert index.open_index(tmp_path / "work" / "drawn40", models).gallery.embedding.order.size == 42
    assert (tmp_path / "index_scale.csv").exists()
