"""The chain of trainings: what each seed leaves, and the look at the test photos that chooses nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.disk import artifacts
from waldo_utils.study import find_profile
from waldo_utils.training import chain

STUDY = replace(find_profile("smoke"), seeds=(0, 3))
LOG = pd.DataFrame(
    [(0, 0, 0.5), (0, 1, 0.7), (3, 0, 0.9), (3, 1, 0.7)], columns=["seed", "epoch", "validation R@1"]
)


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
    monkeypatch.setattr(chain.starting_weights, "image_model", lambda settings: torch.nn.Linear(1, 1))
    monkeypatch.setattr(chain.starting_weights, "reranker", lambda settings: torch.nn.Linear(1, 1))
    begun = []

    def train(*given, checkpoint, validate, watch=None, finetune=None):
        begun.append((given[-1], checkpoint.name.split("_")[0], finetune))
        return LOG[LOG.seed == given[-1]].drop(columns="seed")

    def extract(model, photos, transform, partial):
        return np.eye(4, dtype=np.float32)[photos], np.zeros((len(photos), 1, 1, 1), np.float16)

    def rerank(reranker, query, gallery, neighbors, partial):
        return np.zeros(neighbors.shape, np.float32)

    monkeypatch.setattr(chain.global_training, "train_global", train)
    monkeypatch.setattr(chain.reranker_training, "train_reranker", train)
    monkeypatch.setattr(chain.features, "extract_features", extract)
    monkeypatch.setattr(chain.reranking, "rerank_scores", rerank)
    return begun


def test_each_seed_leaves_what_later_notebooks_read(stubs):
    labels = np.array([0, 0, 1, 1])
    split = {name: SimpleNamespace(photos=labels, labels=labels) for name in ("train", "validation", "test")}
    log = chain.train_every_seed(STUDY, split)
    assert log.seed.tolist() == [0, 0, 3, 3]
    pd.testing.assert_frame_equal(artifacts.load_frame(STUDY, "global/log"), log)
    assert artifacts.load_array(STUDY, "global/seed3/train_neighbors")[:, 0].tolist() == [1, 0, 3, 2]
    assert artifacts.load_array(STUDY, "global/seed0/test_epoch1").shape == (2, 4)  # its best epoch
    assert artifacts.load_array(STUDY, "global/seed3/test_epoch0").all()
    log = chain.rerank_every_seed(STUDY, split)
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


def test_what_starts_at_random_repeats_and_differs_from_seed_to_seed(stubs):
    labels = np.array([0, 0, 1, 1])
    split = {name: SimpleNamespace(photos=labels, labels=labels) for name in ("train", "validation", "test")}
    kept = ("global/seed{}/weights", "reranker/seed{}/frozen_reranker")

    def weights(seed):
        return [float(artifacts.load_weights(STUDY, name.format(seed))["weight"]) for name in kept]

    runs = []
    for _ in range(2):
        chain.train_every_seed(STUDY, split)
        chain.rerank_every_seed(STUDY, split)
        runs.append((weights(0), weights(3)))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1]
