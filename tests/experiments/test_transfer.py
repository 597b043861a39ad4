"""Transfer: every gallery of the same queries, checked with a finger."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from waldo_utils.experiments import methods, transfer
from waldo_utils.models import trained
from waldo_utils.retrieval import reranking
from waldo_utils.study import find_profile

STUDY = find_profile("smoke")
# Test photos of products 0, 0, 1; train photos of products 1, 0, 2. Equal features are equal directions.
EMBEDDING = {"test": np.eye(3, dtype=np.float32)[[0, 0, 1]], "train": np.eye(3, dtype=np.float32)[[1, 0, 2]]}
LABELS = {"test": np.array([0, 0, 1]), "train": np.array([1, 0, 2])}
# Untrained, every photo's nearest is the next one.
UNTRAINED = {"test": np.eye(3, dtype=np.float32), "train": np.eye(3, dtype=np.float32)[[1, 2, 0]]}


@pytest.fixture
def orders(monkeypatch, tmp_path):
    """The reranker, and local matching, turn every shortlist round."""
    monkeypatch.setattr(trained, "matcher", lambda study, seed, stage: stage)
    monkeypatch.setattr(transfer.artifacts, "partial_path", lambda study, name: tmp_path / name)
    turned = lambda neighbors: np.tile(np.arange(neighbors.shape[1]), (3, 1))  # noqa: E731
    monkeypatch.setattr(reranking, "pair_scores", lambda score, query, gallery, neighbors: turned(neighbors))
    monkeypatch.setattr(
        reranking, "rerank_scores", lambda matcher, query, gallery, neighbors, partial: turned(neighbors)
    )
    local = np.zeros((3, 1))
    seen = {kind: {name: (EMBEDDING[name], local) for name in EMBEDDING} for kind in ("CO", *transfer.STAGES)}
    seen["untrained"] = {name: (UNTRAINED[name], local) for name in UNTRAINED}
    return transfer.search(STUDY, 0, seen)


def test_the_query_is_left_out_of_its_own_gallery_and_of_no_other(orders):
    assert orders["test among test"]["CO"][:, 0].tolist() == [1, 0, 0]
    assert orders["test in train"]["CO"][:, 0].tolist() == [1, 1, 0]
    assert orders["test in train"][transfer.UNTRAINED][:, 0].tolist() == [2, 0, 1]
    for found in orders.values():
        turned = found[transfer.UNTRAINED][:, ::-1]
        np.testing.assert_array_equal(found["ImageNet + local matching"], turned)
        for method in ("CO + local matching", *(f"CO + RRT ({stage})" for stage in transfer.STAGES)):
            np.testing.assert_array_equal(found[method], found["CO"][:, ::-1])


def test_each_gallery_counts_its_own_photos_and_leaves_out_who_has_none(orders):
    table = transfer.table(orders, LABELS, resamples=10).set_index(["gallery", "method"])
    assert table["left out"].tolist() == [1] * 6 + [0] * 6  # product 1 has one test photo
    assert table["R@1"]["test among test", "CO"] == 1 == table["R@1"]["test in train", "CO"]
    assert table["R@1"]["test in train", transfer.UNTRAINED] == 0
    gains = transfer.differences(orders, LABELS, resamples=10)
    row = gains.set_index(["metric", "gallery", "method"]).loc["R@1", "test in train", "CO"]
    assert row.baseline == transfer.UNTRAINED and row.difference == 1


def test_a_set_without_train_photos_has_one_gallery(monkeypatch, orders):
    assert list(orders) == ["test among test", "test in train"]
    seen = {"test": (EMBEDDING["test"], np.zeros((3, 1)))}
    alone = {kind: seen for kind in ("untrained", "CO", *transfer.STAGES)}
    assert list(transfer.search(STUDY, 0, alone)) == ["test among test"]


def test_every_set_stands_beside_the_other_with_what_each_method_gains(monkeypatch, orders):
    own = {
        transfer.UNTRAINED: [np.array([[1, 2], [2, 0], [0, 1]])],
        "CO": [np.array([[1, 2], [0, 2], [0, 1]])],
    }
    monkeypatch.setattr(methods, "every_order", lambda study: own)
    test = SimpleNamespace(labels=LABELS["test"], sets=np.array(["SOP-85"] * 3))
    table = transfer.every_set(STUDY, test, orders, LABELS)
    assert table.set.unique().tolist() == ["SOP-85", "other kinds"]
    rows = table[table.set == "SOP-85"].set_index("method")
    assert rows["R@1"].to_dict() == {transfer.UNTRAINED: 0.5, "CO": 1.0}
    assert rows["R@1 gain"]["CO"] == 0.5 and pd.isna(rows["R@1 gain"][transfer.UNTRAINED])


def test_each_model_gives_its_own_features(monkeypatch, tmp_path):
    monkeypatch.setattr(trained, "start", lambda study: "start")
    monkeypatch.setattr(trained, "global_model", lambda study, seed: "CO")
    monkeypatch.setattr(trained, "local_model", lambda study, seed, stage: stage)
    monkeypatch.setattr(transfer.artifacts, "partial_path", lambda study, name: name)
    monkeypatch.setattr(
        transfer.features,
        "extract_all",
        lambda models, photos, transform, partial: [2 * ((model, photos, partial),) for model in models],
    )
    monkeypatch.setattr(
        transfer.features, "average_maps", lambda model, photos, transform: np.full((2, 4), 3.0)
    )
    split = {name: SimpleNamespace(photos=f"{name} photos") for name in ("train", "test")}
    seen = transfer.extract(STUDY, 0, split)
    assert seen["CO"]["test"][0] == ("CO", "test photos", "transfer/test")
    assert seen["finetuned"]["train"][1] == ("finetuned", "train photos", "transfer/train")
    np.testing.assert_array_equal(seen["untrained"]["test"][0], np.full((2, 4), 0.5))
