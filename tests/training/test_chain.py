"""The chain of trainings: what each seed leaves, and the look at the test photos that chooses nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.disk import artifacts
from waldo_utils.models import heads
from waldo_utils.models.image_model import ImageModel
from waldo_utils.study import find_profile
from waldo_utils.training import chain

STUDY = replace(find_profile("smoke"), seeds=(0, 3))
LOG = pd.DataFrame(
    [(0, 0, 0.5), (0, 1, 0.7), (3, 0, 0.9), (3, 1, 0.7)], columns=["seed", "epoch", "validation R@1"]
)
LABELS = np.array([0, 0, 1, 1])
PART = SimpleNamespace(inputs=LABELS, labels=LABELS, rows=pd.DataFrame({"label": LABELS}), sets=None)
SPLIT = dict.fromkeys(("train", "validation", "test"), PART)


def test_every_epoch_is_looked_at_only_where_the_study_watches_the_test_photos(monkeypatch):
    monkeypatch.setattr(artifacts, "load_array", lambda study, name: np.array([[name]]))
    watched = chain.watched_epochs(STUDY, LOG)
    assert [list(hits) for hits in watched] == [[0, 1], [0, 1]]
    assert watched[1][0] == "global/seed3/test_epoch0"
    blind = replace(STUDY, evaluation=replace(STUDY.evaluation, watch_test=False))
    assert [list(hits) for hits in chain.watched_epochs(blind, LOG)] == [[1], [0]]


@pytest.fixture
def stubs(monkeypatch, tmp_path):
    """Trainings that only say which they are, and models that see the number of a photo's product."""
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    monkeypatch.setattr(chain.trained, "start", lambda study: torch.nn.Linear(1, 1))
    monkeypatch.setattr(chain, "start_reranker", lambda *given: torch.nn.Linear(1, 1))
    monkeypatch.setattr(chain.trained, "global_model", lambda study, seed: torch.nn.Linear(1, 1))
    monkeypatch.setattr(chain.heads, "local_from_global", lambda model, maps: None)
    monkeypatch.setattr(chain.beginning, "some_maps", lambda study, model, part: None)
    monkeypatch.setattr(chain.mixing, "choose_share", lambda *given: pd.DataFrame({"share": [0.5]}))
    begun = []

    def train(*given, checkpoint, validate, watch=None, finetune=None, families=None):
        begun.append((given[-1], checkpoint.name.split("_")[0], finetune))
        return LOG[LOG.seed == given[-1]].drop(columns="seed")

    def extract(model, photos, transform, partial=None):
        return np.eye(4, dtype=np.float32)[photos], np.zeros((len(photos), 1, 1, 1), np.float16)

    def rerank(reranker, query, gallery, neighbors, partial):
        return np.zeros(neighbors.shape, np.float32)

    monkeypatch.setattr(chain.global_training, "train_global", train)
    monkeypatch.setattr(chain.reranker_training, "train_reranker", train)
    monkeypatch.setattr(chain.features, "extract_features", extract)
    monkeypatch.setattr(chain.reranking, "rerank_scores", rerank)
    return begun


def test_each_seed_leaves_what_later_notebooks_read(stubs):
    log = chain.train_every_seed(STUDY, SPLIT)
    assert log.seed.tolist() == [0, 0, 3, 3]
    pd.testing.assert_frame_equal(artifacts.load_frame(STUDY, "global/log"), log)
    assert artifacts.load_array(STUDY, "global/seed3/train_neighbors")[:, 0].tolist() == [1, 0, 3, 2]
    assert artifacts.load_array(STUDY, "global/seed0/test_epoch1").shape == (2, 4)  # its best epoch
    assert artifacts.load_array(STUDY, "global/seed3/test_epoch0").all()
    assert artifacts.load_array(STUDY, "global/seed3/mixed_test_neighbors").shape == (4, 3)
    assert artifacts.load_frame(STUDY, "global/seed3/shares").seed.tolist() == [3]
    log = chain.rerank_every_seed(STUDY, SPLIT)
    assert log.drop_duplicates(["seed", "stage"])[["seed", "stage"]].to_numpy().tolist() == [
        [0, "frozen"],
        [0, "finetuned"],
        [3, "frozen"],
        [3, "finetuned"],
    ]
    assert artifacts.load_array(STUDY, "reranker/seed3/finetuned_test_scores").shape == (4, 3)
    assert set(artifacts.load_weights(STUDY, "reranker/seed0/frozen_reranker")) == {"weight", "bias"}
    assert stubs == [
        (0, "seed0", None),
        (3, "seed3", None),
        (0, "frozen", False),
        (0, "finetuned", True),
        (3, "frozen", False),
        (3, "finetuned", True),
    ]


def test_a_reranker_that_matches_starts_with_a_mean_logit_of_zero_and_alike_for_a_seed(monkeypatch):
    study = find_profile("smoke")
    model = ImageModel("efficientnet_lite0").eval()
    maps = torch.rand(12, 1280, 2, 2, generator=torch.Generator().manual_seed(0))
    heads.local_from_global(model, maps)
    monkeypatch.setattr(chain.beginning, "some_maps", lambda *given: maps)
    first, again, other = (chain.start_reranker(study, model, None, seed) for seed in (0, 0, 1))
    with torch.no_grad():
        local = model.local_features(maps)
        logits = first.cpu()(local, local.roll(-1, dims=0))
    assert logits.mean().item() == pytest.approx(0, abs=1e-3)
    assert logits.std() > 0
    assert torch.equal(first.segment.weight.cpu(), again.segment.weight.cpu())
    assert not torch.equal(first.segment.weight.cpu(), other.segment.weight.cpu())
