"""Transfer: two galleries of the same queries, checked with a finger."""

from types import SimpleNamespace

import numpy as np
import pytest

from waldo_utils.experiments import transfer
from waldo_utils.models import trained
from waldo_utils.retrieval import reranking
from waldo_utils.study import find_profile

STUDY = find_profile("smoke")
# Test photos of products 0, 0, 1; train photos of products 1, 0, 2. Equal features are equal directions.
EMBEDDING = {"test": np.eye(3, dtype=np.float32)[[0, 0, 1]], "train": np.eye(3, dtype=np.float32)[[1, 0, 2]]}
LABELS = {"test": np.array([0, 0, 1]), "train": np.array([1, 0, 2])}


@pytest.fixture
def orders(monkeypatch, tmp_path):
    """The reranker turns every shortlist round."""
    monkeypatch.setattr(trained, "matcher", lambda study, seed, stage: stage)
    monkeypatch.setattr(transfer.artifacts, "partial_path", lambda study, name: tmp_path / name)
    monkeypatch.setattr(
        reranking,
        "rerank_scores",
        lambda matcher, query, gallery, neighbors, partial: np.tile(np.arange(neighbors.shape[1]), (3, 1)),
    )
    local = {stage: {name: np.zeros((3, 1)) for name in ("test", "train")} for stage in transfer.STAGES}
    return transfer.search(STUDY, 0, EMBEDDING, local)


def test_the_query_is_left_out_of_its_own_gallery_and_of_no_other(orders):
    assert orders["test among test"]["CO"][:, 0].tolist() == [1, 0, 0]
    assert orders["test in train"]["CO"][:, 0].tolist() == [1, 1, 0]
    for found in orders.values():
        for stage in transfer.STAGES:
            np.testing.assert_array_equal(found[f"CO + RRT ({stage})"], found["CO"][:, ::-1])


def test_each_gallery_counts_its_own_photos_and_leaves_out_who_has_none(orders):
    table = transfer.table(orders, LABELS, resamples=10)
    assert table.gallery.tolist() == ["test among test"] * 3 + ["test in train"] * 3
    assert table["left out"].tolist() == [1] * 3 + [0] * 3  # product 1 has one test photo
    assert table["R@1"][0] == 1 and table["R@1"][3] == 1


def test_each_model_gives_its_own_features(monkeypatch, tmp_path):
    monkeypatch.setattr(trained, "global_model", lambda study, seed: "CO")
    monkeypatch.setattr(trained, "local_model", lambda study, seed, stage: stage)
    monkeypatch.setattr(transfer.artifacts, "partial_path", lambda study, name: name)
    look = lambda model, photos, transform, partial: ((model, photos, partial), (model, photos, partial))  # noqa: E731
    monkeypatch.setattr(transfer.features, "extract_features", look)
    split = {name: SimpleNamespace(photos=f"{name} photos") for name in ("train", "test")}
    embedding, local = transfer.extract(STUDY, 0, split)
    assert embedding["test"] == ("CO", "test photos", "transfer/CO_test")
    assert local["finetuned"]["train"] == ("finetuned", "train photos", "transfer/finetuned_train")
