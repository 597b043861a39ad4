"""Fused scores and baselines as methods: which share is chosen, and which order comes out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from waldo_utils.disk import artifacts
from waldo_utils.experiments import methods, reorderings
from waldo_utils.retrieval import baselines
from waldo_utils.study import find_profile

STUDY = find_profile("smoke")
LABELS = np.array([0, 0, 1, 1])
# Every query's own product is second: the similarities are always wrong, the scores always right.
NEIGHBORS = np.array([[2, 1, 3], [2, 0, 3], [0, 3, 1], [0, 2, 1]])
SIMILARITIES, SCORES = np.array([[0.9, 0.5, 0.1]] * 4), np.array([[0.0, 1.0, -1.0]] * 4)
RIGHT = [1, 0, 3, 2]


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    arrays = {}
    for split in ("validation", "test"):
        arrays[f"global/seed0/{split}_neighbors"] = NEIGHBORS
        arrays[f"global/seed0/{split}_similarities"] = SIMILARITIES
        # Photos of one product have one feature: a query that keeps to them is right.
        arrays[f"global/seed0/{split}_features"] = np.eye(2, dtype=np.float32)[LABELS]
        # The trunk sees the same color in photos of one product, the last map of photos that stand side by
        # side.
        arrays["global/test_maps"] = (
            np.eye(2, dtype=np.float16)[LABELS].reshape(4, 1, 2, 1, 1).repeat(2, 3).repeat(2, 4)
        )
        arrays["global/seed0/test_local"] = np.eye(2, dtype=np.float16)[[0, 1, 0, 1]].reshape(4, 2, 1, 1)
        for stage in ("frozen", "finetuned"):
            arrays[f"reranker/seed0/{stage}_{split}_scores"] = SCORES
    manifest = pd.DataFrame({"split": ["validation"] * 4 + ["test"] * 4, "label": [*LABELS, *LABELS]})
    monkeypatch.setattr(artifacts, "load_array", lambda study, name: arrays[name])
    monkeypatch.setattr(artifacts, "load_frame", lambda study, name: manifest)


def test_validation_chooses_the_share_of_each_stage_and_seed():
    curves = reorderings.share_curves(STUDY)
    keys = curves[["stage", "split", "seed"]].drop_duplicates().to_numpy().tolist()
    assert keys == [
        ["frozen", "validation", 0],
        ["frozen", "test", 0],
        ["finetuned", "validation", 0],
        ["finetuned", "test", 0],
    ]
    chosen = reorderings.chosen_shares(curves)
    assert list(chosen) == ["frozen", "finetuned"]
    assert 0.5 < chosen["frozen"][0] < 1  # the middle of the shares that are right
    blind = curves.assign(**{"R@1": np.where(curves.split == "test", curves["R@1"], curves.share == 0)})
    assert reorderings.chosen_shares(blind) == {"frozen": [0.0], "finetuned": [0.0]}


def test_fused_scores_put_the_right_photo_first():
    assert reorderings.fused(STUDY, 0, "frozen")[:, 0].tolist() == RIGHT


def test_the_fusions_stand_beside_the_reranker_alone():
    names = list(reorderings.fusion_methods())
    assert names[:4] == [
        "CO",
        "CO + RRT (frozen)",
        "CO + RRT (frozen) + global score (raw weight)",
        "CO + RRT (frozen) + global score (standardized)",
    ]
    hits = methods.every_hit(methods.every_order(STUDY, reorderings.fusion_methods()), LABELS)
    table = reorderings.fusion_differences(hits, LABELS, resamples=10)
    assert table[table.metric == "R@1"].baseline.tolist() == [names[2], names[5], names[1], names[4]]
    assert (table.difference == 0).all()  # all of them are right


def test_a_baseline_reorders_by_its_own_score_and_settings():
    order = reorderings.rescored(STUDY, 0, baselines.query_expansion, {"neighbors": 1, "alpha": 1.0})
    assert order[:, 0].tolist() == RIGHT
    settings = reorderings.chosen_settings(STUDY, 0)
    assert settings["alpha query expansion"] == {"neighbors": 1, "alpha": 1.0}  # of none that is unlike it
    assert set(settings["k-reciprocal"]) == {"k1", "k2", "share"}
    found = reorderings.baseline_methods(STUDY, settings)
    assert found["CO + k-reciprocal"].keywords["settings"] == settings["k-reciprocal"]


def test_the_trunks_map_is_matched_alone_or_with_the_last(monkeypatch):
    assert reorderings.matched_finer(STUDY, 0)[:, 0].tolist() == RIGHT
    both = reorderings.matched_finer(STUDY, 0, both=True)
    assert both[:, 0].tolist() == [2, 0, 0, 2]  # ties of the sum keep the global order
    whole = replace(STUDY, global_=replace(STUDY.global_, views=0))  # no trunk to match with
    settings = {"alpha query expansion": {}, "k-reciprocal": {}}
    names = [
        name for name in reorderings.baseline_methods(STUDY, settings) if "stride" in name or "both" in name
    ]
    assert names == ["CO + local matching, stride 16", "CO + local matching, both maps"]
    assert not set(names) & set(reorderings.baseline_methods(whole, settings))


def test_baselines_are_compared_with_co_and_with_the_learned_reranker():
    hits = {
        name: [np.array([[True], [False]])] for name in ("CO", "CO + RRT (finetuned)", "CO + k-reciprocal")
    }
    table = reorderings.baseline_differences(hits, np.array([0, 0]), resamples=10)
    pairs = table[table.metric == "R@1"][["method", "baseline"]].to_numpy().tolist()
    assert pairs == [
        ["CO + RRT (finetuned)", "CO"],
        ["CO + k-reciprocal", "CO"],
        ["CO + RRT (finetuned)", "CO + k-reciprocal"],
    ]
