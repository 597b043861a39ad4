"""The chain of trainings: what each seed leaves, and the look at the test photos that chooses nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd

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
