"""Approximate indexes: flat is exact, files are whole or refused, the drawn gallery has the spread it was
asked for."""

import numpy as np
import pytest

from waldo_utils.retrieval import approximate
from waldo_utils.retrieval.exact import nearest_neighbors

faiss = pytest.importorskip("faiss")


def unit(features):
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def gallery():
    return unit(np.random.default_rng(0).standard_normal((900, 32)))


def test_a_flat_index_finds_what_exact_search_finds(gallery):
    exact, similarities = nearest_neighbors(gallery[:20], 5, gallery)
    found, scores = approximate.search(approximate.build(gallery, "Flat"), gallery[:20], 5)
    np.testing.assert_array_equal(found, exact)
    np.testing.assert_allclose(scores, similarities, atol=1e-6)


def test_more_effort_finds_more_and_all_lists_find_all(gallery):
    index = approximate.build(gallery, "IVF{lists},Flat")
    exact, _ = nearest_neighbors(gallery[:50], 10, gallery)
    recall = [
        approximate.shared(approximate.search(index, gallery[:50], 10, effort)[0], exact, 10)
        for effort in (1, 5, index.nlist)
    ]
    assert recall[0] < recall[1] < recall[2] == 1
    assert index.nlist == 900 // 39


def test_shared_counts_neighbors_in_any_order():
    found, exact = np.array([[3, 1, -1], [4, 5, 6]]), np.array([[1, 2, 3], [4, 6, 5]])
    assert approximate.shared(found, exact, 1) == 0.5
    assert approximate.shared(found, exact, 3) == pytest.approx((2 + 3) / 6)


def test_an_index_is_kept_grows_and_is_refused_when_damaged(tmp_path, gallery):
    path = tmp_path / "gallery.faiss"
    with pytest.raises(FileNotFoundError, match="build the index and save it first"):
        approximate.load(path)
    approximate.save(approximate.build(gallery[:800], "HNSW32"), path)
    assert approximate.add(path, gallery[800:]) == 900
    found, _ = approximate.search(approximate.load(path), gallery[850:860], 1, effort=64)
    assert found[:, 0].tolist() == list(range(850, 860))
    for broken, message in (
        (gallery[:, :8], "not of unit length"),
        (unit(gallery[:, :8]), "features have 8 numbers, the index 32: use the model it was built with"),
        (gallery * np.nan, "some new features are not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            approximate.add(path, broken)
    assert approximate.load(path).ntotal == 900
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:10], b"", whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="gallery.faiss is cut off or damaged: build the index again"):
            approximate.load(path)
    with pytest.raises(ValueError, match="faiss has no index 'Best': choose one like Flat"):
        approximate.build(gallery, "Best")


def test_the_drawn_gallery_has_the_spread_within_products():
    rng = np.random.default_rng(1)
    centers = unit(rng.standard_normal((30, 8)))
    labels = np.repeat(np.arange(30), 40)
    embedding = unit(centers[labels] + 0.1 * rng.standard_normal((1200, 8)))
    drawn = approximate.drawn_gallery(embedding, labels, 5000)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-6)
    away = np.linalg.norm(drawn - centers[np.argmax(drawn @ centers.T, axis=1)], axis=1)
    assert np.sqrt((away**2).mean()) == pytest.approx(0.1 * np.sqrt(2 * 7), rel=0.1)  # twice: photo and draw
    np.testing.assert_array_equal(drawn, approximate.drawn_gallery(embedding, labels, 5000))
    with pytest.raises(ValueError, match="no product has two photos"):
        approximate.drawn_gallery(embedding, np.arange(1200), 10)


def test_the_table_has_a_row_per_effort_and_flat_is_exact(gallery):
    table = approximate.index_table({900: gallery}, gallery[:20], k=5)
    assert len(table) == sum(map(len, approximate.INDEXES.values()))
    assert table.loc[table["index"] == "Flat", ["recall@1", "recall@5"]].to_numpy().tolist() == [[1, 1]]
    assert table["recall@5"].between(0, 1).all()
    sizes = table.groupby("index").MB.first()
    assert sizes["IVF,PQ32"] < sizes["Flat"] < sizes["HNSW32"]


def test_the_exact_search_of_a_large_gallery_goes_query_by_query(gallery, monkeypatch):
    monkeypatch.setattr(approximate, "SIMILARITIES", 1000)
    table = approximate.index_table({900: gallery}, gallery[:3], k=5)
    assert table.loc[0, "recall@5"] == 1


def test_the_size_of_an_index_is_that_of_its_file(gallery, tmp_path):
    index = approximate.build(gallery, "Flat")
    path = approximate.save(index, tmp_path / "gallery.faiss")
    assert approximate.file_size(index) == path.stat().st_size - approximate.DIGEST
