"""Qdrant's own HNSW beside faiss: it finds the exact neighbors,
and where it is not installed nothing is made up."""

import sys

import numpy as np
import pytest

from waldo_utils.engines import speed


@pytest.fixture
def drawn():
    features = np.random.default_rng(0).standard_normal((3_020, 32)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features[20:], features[:20]


def test_qdrants_own_index_finds_the_exact_neighbors(drawn):
    pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")
    table = speed.engine_table(*drawn, repeats=1).set_index(["engine", "effort"])
    recall = table["recall@100"]
    assert recall["exact", 0] == recall["faiss Flat", 0] == 1.0
    assert recall["Qdrant HNSW", 400] >= 0.95
    assert (table["ms per query"] > 0).all()


def test_an_engine_that_is_not_there_has_no_figures(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    table = speed.engine_table(*drawn, repeats=1).set_index("engine")
    assert table["ms per query"]["Qdrant HNSW"].isna().all()
    assert table["recall@100"]["Qdrant HNSW"].isna().all()
    assert table["ms per query"].notna().sum() == 4
