"""Product or place: two products in two places, everything checked by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from waldo_utils.experiments import product_or_place as pop
from waldo_utils.experiments.product_or_place import Gallery
from waldo_utils.models.matching import length_weight
from waldo_utils.study import PlaceStage, find_profile

STUDY = find_profile("smoke")
# Photos 0..3: product a in place 0, a in 1, b in 0, b in 1; one more of a in place 0.
LABELS, PLACE = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 0, 1, 0])
GROUP = np.array([0, 1, 2, 3, 0])  # photos 0 and 4 show the same product in the same place
EMBEDDING = np.eye(5, dtype=np.float32)
BY_PLACE = np.array([[4, 2, 1, 3], [3, 0, 4, 2], [0, 4, 3, 1], [1, 2, 0, 4], [0, 2, 1, 3]])
BY_PRODUCT = np.array([[4, 1, 2, 3], [0, 4, 3, 2], [3, 0, 1, 4], [2, 1, 0, 4], [0, 1, 2, 3]])


def gallery(**more):
    given = {"local": {}, "place": PLACE} | more
    return Gallery(LABELS, GROUP, EMBEDDING, BY_PLACE, -np.arange(20.0).reshape(5, 4), **given)


def test_the_own_place_does_not_count_and_another_product_in_it_is_told():
    assert pop.first_neighbors(BY_PLACE, GROUP).tolist() == [2, 3, 0, 1, 2]
    assert pop.place_wins(BY_PLACE, gallery()).tolist() == [True] * 5
    assert pop.place_wins(BY_PRODUCT, gallery()).tolist() == [False] * 5


def test_the_table_counts_the_product_in_other_places_alone():
    table = pop.table({"place": BY_PLACE, "product": BY_PRODUCT}, gallery(), 20).set_index("method")
    assert table["R@1"].tolist() == [0.0, 1.0]
    assert table["place@1"].tolist() == [1.0, 0.0]
    assert table.loc["product", ["place@1 low", "place@1 high"]].tolist() == [0.0, 0.0]
    assert "place@1" not in pop.table({"product": BY_PRODUCT}, gallery(place=None), 20)


def test_a_photo_whose_product_stands_nowhere_else_is_left_out():
    alone = replace(gallery(), labels=np.array([0, 0, 1, 2, 0]))
    table = pop.table({"product": BY_PRODUCT}, alone, 20)
    assert table["left out"].tolist() == [2] and table.queries.tolist() == [3]


def test_a_part_of_a_gallery_searches_itself():
    embedding = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8], [1, 0]], np.float32)
    part = replace(gallery(local={"CO": np.arange(5)}), embedding=embedding).take(np.array([0, 1, 3]))
    assert part.neighbors.tolist() == [[1, 2], [2, 0], [1, 0]]
    assert part.labels.tolist() == [0, 0, 1] and part.place.tolist() == [0, 1, 1]
    assert part.local["CO"].tolist() == [0, 1, 3]


def test_whole_places_and_products_are_held_out():
    labels = np.repeat(np.arange(6), 2)
    place = np.array([0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5])  # pairs of places that share two products
    train = Gallery(labels, np.arange(12), np.eye(12), BY_PLACE, BY_PLACE, {}, place=place)
    rows = pop.judged(replace(STUDY, places=replace(STUDY.places, hold_out=0.34)), train)
    assert rows.tolist() == [8, 9, 10, 11]
    rest = np.setdiff1d(np.arange(12), rows)
    assert not set(place[rows]) & set(place[rest]) and not set(labels[rows]) & set(labels[rest])


def test_the_weight_of_the_global_score_serves_all_galleries_together():
    """In one gallery the score is right and in the other the similarity: only their sum is right in both."""
    neighbors = np.array([[2, 1, 3], [2, 0, 3], [0, 3, 1], [0, 2, 1]])
    labels = np.array([0, 0, 1, 1])
    right, wrong = np.tile([0.0, 1.0, 0.0], (4, 1)), np.tile([0.1, 0.0, 0.0], (4, 1))
    first = Gallery(labels, np.arange(4), np.eye(4), neighbors, wrong, {})
    second = Gallery(labels, np.arange(4), np.eye(4), neighbors, right, {})
    assert pop.chosen_weight((first,), [right], 3) == 0.0
    weight = pop.chosen_weight((first, second), [right, wrong], 3)
    assert 0.1 < weight < 10


def test_every_score_gives_a_row_alone_and_with_the_global_score():
    score = lambda local, neighbors: np.tile(-np.arange(neighbors.shape[1], dtype=float), (5, 1))[:, ::-1]  # noqa: E731
    known = {"known": np.zeros((5, 4))}
    one = gallery(local={"CO": None}, known=known, untrained=BY_PRODUCT)
    scored = {"turned": ("CO", score), "known": ("CO", None)}
    chosen = pop.chosen_weights(scored, (one,), depth=4)
    assert [*chosen] == [*scored]
    found = pop.orders(one, scored, chosen, depth=4)
    assert list(found) == [*pop.GLOBAL, "turned", "turned + global score", "known", "known + global score"]
    np.testing.assert_array_equal(found["turned"], BY_PLACE[:, ::-1])
    np.testing.assert_array_equal(found["known"], BY_PLACE)


def test_the_share_of_the_weights_on_the_product_by_hand():
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, 0] = [[3, 1], [1, 1]]  # one long patch, top left, where the product is
    mask = Image.fromarray(np.array([[255, 0], [0, 0]], np.uint8)).resize((8, 8), Image.Resampling.NEAREST)
    weigh = {f"{power}": ("CO", partial(length_weight, power=power)) for power in (0.0, 1.0, 2.0)}
    table, weights = pop.weights_on_product(weigh, gallery(local={"CO": maps}), [mask])
    assert table["on the product@1"].tolist() == pytest.approx([1 / 4, 3 / 6, 9 / 12])
    assert weights["2.0"][0].tolist() == [[pytest.approx(9 / 12), pytest.approx(1 / 12)]] + [
        [pytest.approx(1 / 12)] * 2
    ]


def test_errors_of_the_place_are_of_different_products_and_the_mended_ones_first():
    found = {pop.ALIKE: BY_PLACE, "mended": np.where(np.arange(5)[:, None] == 3, BY_PRODUCT, BY_PLACE)}
    assert pop.errors_of_place(found, gallery(), "mended") == [3, 0]
    assert pop.errors_of_place({pop.ALIKE: BY_PRODUCT, "mended": BY_PRODUCT}, gallery(), "mended") == []


def test_lengths_are_removed_from_what_the_transformer_reads(monkeypatch):
    read = []
    monkeypatch.setattr(
        pop.reranking, "rerank_scores", lambda model, query, gallery, neighbors: read.append(query)
    )
    local = np.random.default_rng(0).normal(size=(3, 4, 2, 2)).astype(np.float16)
    pop._without_lengths("transformer")(local, BY_PLACE[:3])
    lengths = np.linalg.norm(read[0].astype(float), axis=1)
    assert lengths == pytest.approx(
        np.full((3, 2, 2), np.linalg.norm(local.astype(float), axis=1).mean()), rel=1e-2
    )


def test_the_sets_are_disjoint_and_of_other_draws_than_the_study_s_own():
    stage, rendered = PlaceStage(), find_profile("mini").data
    seeds = [stage.test.seed, stage.train.seed, rendered.rendered.seed, rendered.rendered_transfer.seed]
    assert len(set(seeds)) == 4
    assert torch.equal(length_weight(torch.ones(1, 3, 4), 0.0), torch.ones(1, 3))
