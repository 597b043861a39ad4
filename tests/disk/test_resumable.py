"""Arrays, features and scores that a killed process left half done are finished to the same values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from waldo_utils.data import transforms
from waldo_utils.disk import resumable
from waldo_utils.disk.resumable import ResumableArrays, fingerprint
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import features, reranking


@pytest.fixture(autouse=True)
def record_every_part(monkeypatch):
    monkeypatch.setattr(resumable, "SAVE_EVERY", -1.0)


def test_arrays_go_on_where_they_were_left(tmp_path):
    folder = tmp_path / "arrays"
    first = ResumableArrays(folder, 5, "same")
    first.append(np.array([[0, 1], [2, 3]]), np.array([0.0, 1.0], np.float16))
    del first  # killed
    second = ResumableArrays(folder, 5, "same")
    assert second.done == 2
    second.append(np.array([[4, 5], [6, 7], [8, 9]]), np.array([2.0, 3.0, 4.0], np.float16))
    pairs, halves = second.finish()
    assert pairs.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert halves.tolist() == [0, 1, 2, 3, 4]
    assert halves.dtype == np.float16
    assert not folder.exists()


def test_rows_that_were_not_recorded_are_done_again(tmp_path, monkeypatch):
    arrays = ResumableArrays(tmp_path / "arrays", 3, "same")
    arrays.append(np.array([1]))
    monkeypatch.setattr(resumable, "SAVE_EVERY", 60.0)
    arrays.append(np.array([2]))
    assert ResumableArrays(tmp_path / "arrays", 3, "same").done == 1


def test_other_content_starts_anew(tmp_path):
    ResumableArrays(tmp_path / "arrays", 3, "old").append(np.array([1, 1]))
    other = ResumableArrays(tmp_path / "arrays", 3, "new")
    assert other.done == 0
    other.append(np.array([2.0, 3.0, 4.0]))
    assert other.finish()[0].tolist() == [2, 3, 4]


def test_a_full_disk_and_a_broken_record_are_refused(tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "progress.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken/progress.json is broken: delete"):
        ResumableArrays(tmp_path / "broken", 3, "same")
    monkeypatch.setattr(resumable.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=r"needs 2.4 GB, the disk has 0.0 GB: make room"):
        ResumableArrays(tmp_path / "arrays", 10**8, "same").append(np.zeros((1, 3)))


def test_fingerprints_tell_weights_values_and_settings_apart():
    torch.manual_seed(0)
    layer, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    values = np.arange(4)
    assert fingerprint(layer, values, 3) == fingerprint(layer, values.copy(), 3)
    changed = [
        (other, values, 3),
        (layer, values[::-1], 3),
        (layer, values.reshape(2, 2), 3),
        (layer, values, 4),
    ]
    assert len({fingerprint(layer, values, 3), *(fingerprint(*parts) for parts in changed)}) == 5


class Failing(list):
    """A list that interrupts the program at the n-th look."""

    looks = 10**9

    def __getitem__(self, i):
        self.looks -= 1
        if self.looks < 0:
            raise KeyboardInterrupt
        return super().__getitem__(i)


def test_a_killed_extraction_ends_like_an_undisturbed_one(tmp_path):
    torch.manual_seed(0)
    model, transform = ImageModel("efficientnet_lite0"), transforms.TestTransform(32, 32)
    photos = Failing(torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8))
    whole = features.extract_features(model, photos, transform, batch=2)
    photos.looks = 5
    with pytest.raises(KeyboardInterrupt):
        features.extract_features(model, photos, transform, batch=2, partial=tmp_path / "partial")
    photos.looks = 3  # all that is left
    resumed = features.extract_features(model, photos, transform, batch=2, partial=tmp_path / "partial")
    for expected, result in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == expected.dtype


def test_a_killed_scoring_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    torch.manual_seed(0)
    reranker = RerankingTransformer(layers=2, feedforward=32)
    local = torch.randn(6, 128, 2, 2).numpy().astype(np.float16)
    neighbors = (np.arange(6)[:, None] + [1, 2]) % 6
    monkeypatch.setattr(reranking, "CODES", 1)  # one query at a time
    whole = reranking.rerank_scores(reranker, local, local, neighbors)
    calls = []

    class Killed(reranking.Scorer):
        def score(self, *given):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return super().score(*given)

    monkeypatch.setattr(reranking, "Scorer", Killed)
    monkeypatch.setattr(reranking, "_scorers", {})
    with pytest.raises(KeyboardInterrupt):
        reranking.rerank_scores(reranker, local, local, neighbors, partial=tmp_path / "partial")
    resumed = reranking.rerank_scores(reranker, local, local, neighbors, partial=tmp_path / "partial")
    assert len(calls) == 4 + 3
    np.testing.assert_array_equal(resumed, whole)
