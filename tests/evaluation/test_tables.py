"""Tables from hits that can be checked with a finger, and the words that are read from them."""

import numpy as np
import pandas as pd
import pytest

from waldo_utils.evaluation import metrics, reported, tables

# Six queries of three products, two neighbors each; the last query's product has no other photo.
PRODUCTS = np.array([0, 0, 1, 1, 1, 2])
RELEVANT = metrics.relevant_counts(PRODUCTS)
CO = np.array([[1, 0], [0, 1], [0, 0], [0, 1], [1, 1], [0, 0]], bool)
RRT = np.array([[1, 0], [1, 0], [0, 0], [1, 0], [1, 1], [0, 0]], bool)


def test_hit_table_is_the_mean_over_answerable_queries():
    table = tables.hit_table({"CO": [CO], "RRT": [RRT, CO]}, PRODUCTS, RELEVANT, 500).set_index("method")
    assert table.loc["CO", "R@1"] == pytest.approx(2 / 5)
    assert table.loc["RRT", "R@1"] == pytest.approx((4 / 5 + 2 / 5) / 2)  # mean over two seeds
    assert table.loc["RRT", "R@1 seed spread"] == pytest.approx(1 / 5)
    # MAP@R of CO: R = 1 for the first two (hit, miss), R = 2 for the others (nothing; (1/2) / 2; 1).
    assert table.loc["CO", "MAP@R"] == pytest.approx((1 + 0 + 0 + 1 / 4 + 1) / 5)
    assert table[["queries", "left out", "products", "seeds"]].to_numpy().tolist() == [
        [5, 1, 2, 1],
        [5, 1, 2, 2],
    ]
    assert (table.protocol == "clean").all()
    assert "R@10" not in table
    assert "mAP@100" not in table
    for name in ("R@1", "MAP@R"):
        assert (table[f"{name} low"] <= table[name]).all()
        assert (table[name] <= table[f"{name} high"]).all()
    # Two products: every resample is one of (first twice, both, second twice), whose means bound the
    # interval.
    assert (table.loc["CO", "R@1 low"], table.loc["CO", "R@1 high"]) == pytest.approx((1 / 3, 1 / 2))


def test_differences_of_both_metrics_with_verdicts():
    hits = {"CO": [CO], "RRT": [RRT]}
    table = tables.difference_table(hits, [("RRT", "CO"), ("CO", "CO")], PRODUCTS, RELEVANT, 500)
    assert table.metric.tolist() == ["R@1", "R@1", "MAP@R", "MAP@R"]
    assert table.difference.tolist() == pytest.approx([2 / 5, 0, (1 + 1 / 4) / 5, 0])
    # Product 0 gains 1 of 2 queries, product 1 gains 1 of 3.
    assert (table.low[0], table.high[0]) == pytest.approx((1 / 3, 1 / 2))
    assert tables.verdicts(table).verdict.tolist() == ["better", "no difference found"] * 2
    worse = table.assign(difference=-table.difference, low=-table.high, high=-table.low)
    assert tables.verdicts(worse).verdict[0] == "worse"


def test_gains_stand_beside_the_figures_that_they_are_gained_on():
    hits = {"CO": [CO], "RRT": [RRT]}
    rows = tables.hit_table(hits, PRODUCTS, RELEVANT, 500)
    gains = tables.difference_table(hits, [("RRT", "CO")], PRODUCTS, RELEVANT, 500)
    table = tables.with_gains(rows, gains).set_index("method")
    assert table["R@1 gain"]["RRT"] == pytest.approx(2 / 5) and np.isnan(table["R@1 gain"]["CO"])
    assert table["MAP@R gain"]["RRT"] == pytest.approx(table["MAP@R"]["RRT"] - table["MAP@R"]["CO"])
    assert table["verdict"]["RRT"] == "better"
    shown = tables.percent(table.reset_index()).data.set_index("method")["R@1 gain"]
    assert shown["RRT"].startswith("+40.0")


def test_the_later_of_two_equally_good_epochs_is_the_best():
    assert tables.best_epoch(pd.Series([0.1, 0.5, 0.5, 0.4])) == 2


def test_selection_table_changes_one_thing_at_a_time():
    # Two epochs. Validation likes epoch 0, test likes epoch 1; by position one more query is right.
    log = pd.DataFrame({"seed": [0, 0], "epoch": [0, 1], "validation R@1": [0.9, 0.1]})
    by_row = {0: [1, 0, 0, 0], 1: [1, 1, 0, 0]}
    by_position = {0: [1, 0, 0, 1], 1: [1, 1, 0, 1]}
    watched = {epoch: np.array([by_row[epoch], by_position[epoch]], bool) for epoch in (0, 1)}
    table = tables.selection_table(log, [watched], np.arange(4), 200)
    assert table.protocol.tolist() == ["clean", "between", "between", "between", "as published"]
    assert table["R@1"].tolist() == [0.25, 0.5, 0.5, 0.5, 0.75]
    assert table.difference.tolist() == [0, 0.25, 0.25, 0.25, 0.5]
    assert table.epochs.tolist() == ["0", "1", "0", "1", "1"]
    assert (table.low[0], table.high[0]) == (0, 0)
    only = tables.selection_table(log, [{0: watched[0]}], np.arange(4), 200)
    assert only["query left out by"].tolist() == ["row number", "position"]


def test_duplicate_table_counts_what_copies_make_easy():
    # Photos 0 and 1 are copies of product 0, which has nothing else; photos 2, 3, 4 are product 1.
    labels, copies = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3])
    neighbors = np.array([[1, 2, 3], [0, 3, 2], [3, 0, 1], [0, 2, 1], [0, 1, 3]])
    hits = {"CO": [metrics.hits(neighbors, labels, labels)]}
    without = {"CO": [metrics.hits_without_copies(neighbors, labels, labels, copies)]}
    table = tables.duplicate_table(hits, without, labels, copies, 100)
    assert table[["R@1", "R@1 without copies"]].iloc[0].tolist() == pytest.approx([3 / 5, 1 / 3])
    assert table[["copies", "queries", "queries without copies"]].iloc[0].tolist() == [2, 5, 3]
    assert table["R@1 without copies low"][0] == table["R@1 without copies high"][0]  # one product is left


def test_reported_figures_stand_after_ours_and_what_was_not_run_comes_last():
    figures = pd.DataFrame({"method": ["b", "a"], "R@1": [0.2, 0.1]})
    ours = pd.DataFrame({"method": ["z", "a", "a"], "MAP@R": 0.5, "R@1": [0.9, 0.3, 0.4], "R@1 low": 0.1})
    joined = reported.beside_reported(ours, figures)
    assert joined.columns.tolist() == ["method", "R@1", "R@1 low", "R@1 reported", "MAP@R"]
    assert joined.method.tolist() == ["z", "a", "a", "b"]
    assert joined["R@1 reported"].tolist()[1:] == [0.1, 0.1, 0.2]
    assert joined["R@1"].tolist()[:3] == [0.9, 0.3, 0.4]
    assert np.isnan(joined["R@1"][3])


def test_the_reported_category_accuracy_stands_beside_our_recall_of_one_method():
    table = pd.DataFrame(
        {
            "method": ["CO", "CO + RRT (finetuned)", "CO + RRT (finetuned)"],
            "category": ["mug", "mug", "umbrella"],
            "R@1": [0.1, 0.2, 0.3],
            "R@10": [0.2, 0.3, 0.4],
            "queries": [5, 5, 5],
        }
    )
    joined = reported.beside_reported_categories(table)
    assert "method" not in joined and "queries" not in joined
    assert joined["R@1"].tolist() == [0.2, 0.3]
    assert joined["category accuracy@1 reported"][1] == reported.REPORTED_CATEGORIES["mug"]
    assert np.isnan(joined["category accuracy@1 reported"][2])  # a category that the report lacks


def test_category_table_has_intervals_and_a_macro_mean():
    # Cups: products 0 and 1, lamps: product 2. The photo's first neighbor decides.
    labels = np.array([0, 0, 1, 1, 2, 2])
    categories = np.array(["cup"] * 4 + ["lamp"] * 2)
    neighbors = np.array([[1], [0], [0], [4], [5], [4]])
    table = tables.category_table({"CO": neighbors}, labels, categories, 300).set_index("category")
    assert table["R@1"].to_dict() == {"cup": 0.5, "lamp": 1.0, "macro mean": 0.75}
    assert table["category accuracy"].to_dict() == {"cup": 0.75, "lamp": 1.0, "macro mean": 0.875}
    assert table["MAP@R"].to_dict() == {"cup": 0.5, "lamp": 1.0, "macro mean": 0.75}
    assert table.queries.tolist() == [4, 2, 6]
    assert table.products.tolist() == [2, 1, 3]
    # A resample of the two cups is one of (0, 0), (0, 1), (1, 1) with recall 1, 1/2, 0; lamps are always
    # right.
    bounds = table[["R@1 low", "R@1 high"]].to_numpy().tolist()
    assert bounds == [[0.0, 1.0], [1.0, 1.0], [0.5, 1.0]]


def test_percent_puts_intervals_into_brackets():
    table = pd.DataFrame(
        {"method": ["CO"], "R@1": [0.5], "R@1 low": [0.4], "R@1 high": [0.625], "R@10": [np.nan]}
    )
    shown = tables.percent(table).data
    assert shown.to_dict("records") == [{"method": "CO", "R@1": "50.00 (40.0–62.5)", "R@10": "not run"}]
    table = pd.DataFrame({"metric": ["R@1"], "difference": [0.01], "low": [-0.02], "high": [0.04]})
    assert tables.percent(table).data.difference.tolist() == ["+1.00 (-2.00 to +4.00)"]


def test_what_a_profile_runs_of_the_reported_data_hangs_on_its_settings_alone():
    from waldo_utils.study import PROFILES

    ran = {name: tables.runs(study).here.tolist() for name, study in PROFILES.items()}
    assert ran["paper"] == ["run"] * 3
    assert ran["sop"] == ["run", "not run", "not run"]
    assert all(ran[name] == ["not run"] * 3 for name in ("mini", "photos", "smoke", "rehearsal"))


def test_rows_of_equal_names_are_shown():
    part = pd.DataFrame({"share": [0.25, 1.0], "R@1": [0.5, 0.75]})
    html = tables.percent(pd.concat([part, part])).to_html()
    assert html.count("75.00") == 2
