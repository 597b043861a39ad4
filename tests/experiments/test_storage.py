"""Local features on disk: what each kind keeps, shards read by gather, damage refused in one line."""

import numpy as np
import pytest
import torch

from waldo_utils.experiments import storage
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval.reranking import rerank_scores

CHANNELS = np.array([[1, 0, 0, 0], [2, 1, 0.5, 0.5]], np.float32)  # centers and spreads
FEATURES = np.array([[3.0, -1.0, 0.5, -0.5], [0.0, 0.0, 0.0, 0.0]], np.float32).reshape(2, 4, 1, 1)


@pytest.fixture
def local():
    return np.random.default_rng(0).standard_normal((11, 16, 3, 3)).astype(np.float16)


@pytest.mark.parametrize(
    "kind, decoded, size",
    [
        ("float32", [3.0, -1.0, 0.5, -0.5], 16),
        ("float16", [3.0, -1.0, 0.5, -0.5], 8),
        ("int8", [3.0, -42 * 3 / 127, 21 * 3 / 127, -21 * 3 / 127], 4 + 4),  # steps of 3 / 127
        # above, below, above and below the centers: 3, -1, 0.5, -0.5, of the photo's own length
        ("1 bit", [3.0, -1.0, 0.5, -0.5], 1 + 4),
    ],
)
def test_what_each_kind_keeps(kind, decoded, size):
    records = storage.encode(FEATURES, kind, CHANNELS)
    assert records.itemsize == size
    found = storage.decode(records, kind, (4, 1, 1), CHANNELS)
    np.testing.assert_allclose(found[0].ravel(), decoded, rtol=1e-6)
    np.testing.assert_array_equal(found[1], 0)


def test_one_bit_gives_every_place_the_length_of_its_photo(local):
    channels = storage.channel_statistics(local)
    records = storage.encode(local, "1 bit", channels)
    found = storage.decode(records, "1 bit", local.shape[1:], channels)
    length = np.linalg.norm(local.astype(np.float32), axis=1).mean(axis=(1, 2))
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=1), length[:, None, None] * np.ones((1, 3, 3)), rtol=1e-5
    )
    assert ((found * local).sum(axis=(1, 2, 3)) > 0).all()


def test_bytes_of_a_photo_of_the_study():
    sizes = [storage.record_type(kind, 128 * 49).itemsize for kind in storage.KINDS]
    assert sizes == [25_088, 12_544, 6_276, 788]


@pytest.mark.parametrize("kind", storage.KINDS)
def test_a_store_reads_like_the_array_it_was_written_from(tmp_path, local, kind):
    parts = [local[:4], local[4:5], local[5:]]
    store = storage.write_store(tmp_path, iter(parts), kind)
    assert (len(store), store.shape) == (11, local.shape)
    rows = np.array([10, 0, 4, 4, 3])
    channels = storage.channel_statistics(parts[0])
    records = storage.encode(local[rows], kind, channels)
    expected = storage.decode(records, kind, local.shape[1:], channels)
    np.testing.assert_array_equal(store[rows], expected)
    assert store[rows[:0]].shape == (0, 16, 3, 3)
    with pytest.raises(IndexError, match="rows 3 to 11 of a store of 11"):
        store[np.array([3, 11])]


def test_reranking_from_a_store_is_reranking_from_the_array(tmp_path, local):
    torch.manual_seed(0)
    reranker = RerankingTransformer(dim=16, heads=2, layers=2, feedforward=32)
    neighbors = np.random.default_rng(1).integers(0, 11, (11, 3))
    store = storage.write_store(tmp_path, [local[:6], local[6:]])
    np.testing.assert_array_equal(
        rerank_scores(reranker, store, store, neighbors), rerank_scores(reranker, local, local, neighbors)
    )


def test_broken_stores_and_features_are_refused(tmp_path, local):
    with pytest.raises(FileNotFoundError, match="no finished store"):
        storage.LocalStore(tmp_path)
    with pytest.raises(ValueError, match="no local features to write"):
        storage.write_store(tmp_path, [])
    with pytest.raises(ValueError, match="use one model"):
        storage.write_store(tmp_path, [local, local[:, :8]])
    with pytest.raises(FileNotFoundError, match="no finished store"):
        storage.LocalStore(tmp_path)
    with pytest.raises(ValueError, match="unknown kind of storage 'int4': choose one of float32"):
        storage.write_store(tmp_path, [local], "int4")
    with pytest.raises(ValueError, match="not finite"):
        storage.encode(local * np.nan, "int8", CHANNELS)
    with pytest.raises(ValueError, match=r"reach 1e\+06, float16 6.55e\+04: use float32"):
        storage.encode(np.full((1, 1, 1, 1), 1e6), "float16", CHANNELS)
    storage.write_store(tmp_path, [local[:6], local[6:]])
    shard = tmp_path / "shard-00001.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="shard-00001.npy cannot be read .*: write the store again"):
        storage.LocalStore(tmp_path)
    np.save(shard, storage.encode(local[:2], "float16", CHANNELS))
    with pytest.raises(ValueError, match="not the shard that was recorded"):
        storage.LocalStore(tmp_path)


def test_the_table_compares_each_kind_with_float32(tmp_path, local):
    torch.manual_seed(0)
    reranker = RerankingTransformer(dim=16, heads=2, layers=1, feedforward=32)
    labels = np.arange(12) // 3
    local = np.concatenate([local, local[:1]])
    neighbors = np.array([[j for j in range(12) if j != i] for i in range(12)])
    table, differences = storage.storage_table(tmp_path, [local], [reranker], [neighbors], labels, 5, 50)
    assert table.storage.tolist() == list(storage.KINDS)
    assert table["bytes per photo"].tolist() == [576, 288, 148, 22]
    assert table["changed@1"].tolist()[:2] == [0, 0]  # the features are float16 already
    assert differences.method.tolist() == [*storage.KINDS[1:]] * 2
    assert differences.difference[:3].tolist() == pytest.approx((table["R@1"] - table["R@1"][0]).tolist()[1:])
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
