"""Query and gallery, queries without an answer, and the measures of telling them apart, on numbers to check
by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from waldo_utils.evaluation import metrics
from waldo_utils.experiments import openset
from waldo_utils.study import find_profile


def test_the_first_photo_of_each_product_asks_the_others():
    queries, gallery = openset.first_photos(np.array([5, 5, 2, 5, 2, 2]))
    assert queries.tolist() == [0, 2]
    assert gallery.tolist() == [1, 3, 4, 5]


def test_top_scores_with_the_product_there_and_taken_out():
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.5, 0.3, 0.9]])
    hits = np.array([[1, 1, 0, 0], [0, 1, 0, 0]], bool)
    present, absent = openset.top_scores(scores, hits, depth=2)
    # Taken out, the first query keeps neighbors 3 and 4, the second 1 and 3: its best, the fourth, is beyond
    # the depth.
    assert present.tolist() == [0.9, 0.5]
    assert absent.tolist() == [0.7, 0.3]
    with pytest.raises(ValueError, match="1 queries have no other product"):
        openset.top_scores(scores[:, :2], hits[:, :2], depth=2)


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    present, absent = np.array([0.9, 0.5, 0.2]), np.array([0.1, 0.5, 0.6])
    # 0.9 beats all three, 0.5 beats one and ties one, 0.2 beats one: (3 + 1.5 + 1) / 9.
    assert openset.auroc(present, absent)[0] == pytest.approx(5.5 / 9)
    assert openset.auroc(absent + 1, absent)[0] == 1.0
    # A query drawn twice counts twice, on both sides.
    drawn = np.array([[2.0, 0.0, 1.0]])
    again = [0, 0, 2]
    assert openset.auroc(present, absent, drawn) == pytest.approx(
        openset.auroc(present[again], absent[again])
    )


def test_the_threshold_accepts_the_rate():
    scores = np.arange(20) / 20
    assert openset.accepting_threshold(scores, 0.95) == 1 / 20  # 19 of 20
    assert openset.accepting_threshold(scores, 0.96) == 0  # 19 of 20 would be too few


def answers(present, absent, right):
    count = len(present)
    return openset.Answers(
        np.array(right, bool)[:, None], np.array(present), np.array(absent), np.arange(count), np.ones(count)
    )


def test_openset_table_takes_its_threshold_from_validation():
    validation = answers([0.5, 0.6, 0.7, 0.8], [0.1] * 4, [True] * 4)  # threshold 0.5
    test = answers([0.4, 0.5, 0.9, 0.9], [0.3, 0.5, 0.1, 0.8], [True, False, True, True])
    row = openset.openset_table({"CO": [validation]}, {"CO": [test]}, 300).iloc[0]
    assert row["true accept"] == 3 / 4
    assert row["accepted and right"] == 2 / 4
    assert row["false accept"] == 2 / 4
    assert row.AUROC == pytest.approx((2 + 2.5 + 4 + 4) / 16)
    for name in ("AUROC", "true accept", "accepted and right", "false accept"):
        assert row[f"{name} low"] <= row[name] <= row[f"{name} high"]
    assert (row.queries, row.products, row.seeds) == (4, 4, 1)


def test_asking_is_a_plain_loop_over_galleries_with_and_without_the_product():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 3)
    embedding = rng.standard_normal((24, 6)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    table = rng.random((24, 24))  # a made-up reranker
    depth = 4

    def score(queries, gallery, neighbors):
        return table[queries[:, None], gallery[neighbors]]

    for reranked in (False, True):
        asked = openset.ask(embedding, labels, 10, depth, score if reranked else None)
        queries = np.arange(0, 24, 3)
        gallery = np.setdiff1d(np.arange(24), queries)
        assert asked.hits.shape == (8, 10)
        assert asked.relevant.tolist() == [2] * 8
        for i, query in enumerate(queries):
            near = gallery[np.argsort(-embedding[gallery] @ embedding[query], kind="stable")]
            values = table[query] if reranked else embedding @ embedding[query]
            first = near[:depth]
            order = [*first[np.argsort(-values[first], kind="stable")], *near[depth:]]
            np.testing.assert_array_equal(asked.hits[i], labels[order][:10] == labels[query])
            assert asked.present[i] == pytest.approx(values[first].max())
            others = near[labels[near] != labels[query]][:depth]
            assert asked.absent[i] == pytest.approx(values[others].max())
    assert metrics.relevant_counts(labels[queries], labels[gallery]).tolist() == [2] * 8


def test_query_and_gallery_are_named_and_counted():
    table = openset.query_gallery_table({"CO": [answers([1.0] * 2, [0.0] * 2, [True, False])]}, 10)
    assert table.columns[:2].tolist() == ["method", "gallery"]
    assert (table["R@1"][0], table.queries[0]) == (0.5, 2)


def test_a_panel_shows_the_first_seed_and_the_threshold_of_validation():
    first, second = answers([1.0, 2.0], [0.0, 0.5], [True] * 2), answers([9.0], [9.0], [True])
    held_out = answers([0.25, 3.0], [0.0] * 2, [True] * 2)
    present, absent, threshold = openset.score_panels({"CO": [held_out]}, {"CO": [first, second]})["CO"]
    assert (present.tolist(), absent.tolist(), threshold) == ([1.0, 2.0], [0.0, 0.5], 0.25)


def test_every_seed_and_split_is_asked_with_its_own_features(monkeypatch):
    """Two products of two photos; the matcher of a seed scores by the sign that is its only weight."""
    study = replace(find_profile("smoke"), seeds=(0, 1))
    labels, local = np.array([0, 0, 1, 1]), np.array([0.0, 5.0, 1.0, 6.0])
    monkeypatch.setattr(openset.trained, "matcher", lambda study, seed, stage: 1 if seed == 0 else -1)
    monkeypatch.setattr(
        openset.artifacts,
        "load_array",
        lambda study, name: local if name.endswith("_local") else np.eye(2, dtype=np.float32)[labels],
    )
    monkeypatch.setattr(
        openset.reranking,
        "rerank_scores",
        lambda sign, query, gallery, neighbors: sign * gallery[neighbors],
    )
    split = {name: SimpleNamespace(labels=labels) for name in ("validation", "test")}
    found = openset.ask_every_seed(study, split)
    assert [run.hits[:, 0].tolist() for run in found["test"]["CO"]] == [[True, True]] * 2
    reranked = [run.hits[:, 0].tolist() for run in found["validation"]["CO + RRT (finetuned)"]]
    assert reranked == [[False, True], [True, False]]  # gallery photos 5 and 6: the larger, then the smaller
