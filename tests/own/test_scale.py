"""The measurement of large indexes: what it writes is an index like any other."""

from dataclasses import replace

import numpy as np
from small import small_models

from waldo_utils.app import index, searching
from waldo_utils.own import scale


def test_drawn_features_make_an_index_that_is_searched_and_lengthened(tmp_path, monkeypatch, capsys):
    models = replace(small_models(), reranker=None)
    monkeypatch.setattr(searching, "open_models", lambda name: models)
    monkeypatch.setattr(index, "LARGE", 1)
    scale.write_index(tmp_path / "index", 300, 16)
    features = next((tmp_path / "index").glob("features-*")) / "global"
    before = features.read_bytes()
    scale.write_index(tmp_path / "index", 306, 16)
    assert features.read_bytes()[: len(before)] == before
    scale.look(tmp_path / "index")
    seconds, middle, slow, share, memory = map(float, capsys.readouterr().out.split())
    assert 0 < middle <= slow
    assert share > 0.9
    assert min(seconds, memory) > 0
    gallery = index.open_index(tmp_path / "index", models).gallery
    assert (len(gallery), gallery.products[7]) == (306, "category0000/product0000001")
    rows, similarities = gallery.nearest(gallery.embedding[[0, 305]].astype(np.float32), 3)
    assert rows[:, 0].tolist() == [0, 305]
    assert (similarities[:, 0] > 0.99).all()
