"""Methods as data: two products of two photos, one seed, everything checked by hand."""

import numpy as np
import pandas as pd
import pytest

from waldo_utils.disk import artifacts
from waldo_utils.experiments import methods
from waldo_utils.study import find_profile

STUDY = find_profile("smoke")
LABELS = np.array([0, 0, 1, 1])
# Every query's own product is second; the reranker puts it first, but for the last query.
NEIGHBORS = np.array([[2, 1, 3], [2, 0, 3], [0, 3, 1], [0, 2, 1]])
SIMILARITIES = np.array([[0.9, 0.5, 0.1]] * 4)
SCORES = np.array([[0.0, 1.0, -1.0]] * 3 + [[1.0, 0.0, -1.0]])


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    arrays = {
        f"global/seed0/{split}_{kind}": array
        for split in ("validation", "test")
        for kind, array in (("neighbors", NEIGHBORS), ("similarities", SIMILARITIES))
    }
    arrays |= {f"reranker/seed0/frozen_{split}_scores": SCORES for split in ("validation", "test")}
    local = np.zeros((4, 2, 1, 1), np.float16)
    local[[0, 1], 0], local[[2, 3], 1] = 1, 1  # a place of each product looks alike
    arrays["global/seed0/test_local"] = local
    manifest = pd.DataFrame({"split": ["validation"] * 4 + ["test"] * 4, "label": [*LABELS, *LABELS]})
    monkeypatch.setattr(artifacts, "load_array", lambda study, name: arrays[name])
    monkeypatch.setattr(artifacts, "load_frame", lambda study, name: manifest)


def test_each_method_orders_the_same_shortlists_its_own_way():
    chosen = {name: methods.METHODS[name] for name in ("CO", "CO + local matching", "CO + RRT (frozen)")}
    orders = methods.every_order(STUDY, chosen)
    first = {name: runs[0][:, 0].tolist() for name, runs in orders.items()}
    assert first == {
        "CO": [2, 2, 0, 0],
        "CO + local matching": [1, 0, 3, 2],
        "CO + RRT (frozen)": [1, 0, 3, 0],
    }


def test_the_weight_of_the_global_score_is_chosen_on_validation():
    """The reranker is right where the similarity is wrong: the best weight leaves it alone."""
    alone = methods.reranked(STUDY, 0, "frozen")
    mixed = methods.reranked_with_global_score(STUDY, 0, "frozen")
    np.testing.assert_array_equal(mixed, alone)


def test_the_reported_rows_are_methods():
    from waldo_utils.evaluation import reported

    assert set(reported.REPORTED.method) < set(methods.METHODS)


def test_hits_leave_exact_duplicates_out_where_copies_are_given():
    orders = {"CO + RRT (frozen)": [methods.reranked(STUDY, 0, "frozen")]}
    assert methods.every_hit(orders, LABELS)["CO + RRT (frozen)"][0][:, 0].tolist() == [1, 1, 1, 0]
    copies = np.array([7, 7, 1, 2])  # the two photos of the first product are one file
    without = methods.every_hit(orders, LABELS, copies)["CO + RRT (frozen)"][0]
    assert without[:, 0].tolist() == [0, 0, 1, 0]


def test_recall_at_the_end_names_the_shortlists_that_a_method_orders():
    other = np.array([[2, 3], [2, 3], [0, 3], [0, 2]])  # of another model, and half as good
    orders = {"CO": [NEIGHBORS[:, :2]], "reordered": [NEIGHBORS[:, 1::-1]], "other": [other]}
    table = methods.shortlist_recall(orders, LABELS)
    assert table["shortlists of"].tolist() == ["CO", "CO", "other"]
    assert table["R@2"].tolist() == [1, 1, 0.5]


def test_queries_mixed_up_have_other_shortlists():
    orders = {"CO": [NEIGHBORS[:, :1]], "mixed": [NEIGHBORS[[2, 3, 0, 1], :1]]}
    assert methods.shortlist_recall(orders, LABELS)["shortlists of"].tolist() == ["CO", "mixed"]
