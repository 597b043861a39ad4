"""What a notebook's last cell says follows its tables: other tables, another verdict."""

import pandas as pd
import pytest

from waldo_utils.evaluation import readings


@pytest.mark.parametrize(
    "low, high, expected",
    [(0.1, 0.2, "higher"), (-0.2, -0.1, "lower"), (-0.1, 0.1, "no difference found")],
)
def test_the_verdict_is_where_the_interval_lies(low, high, expected):
    assert readings.verdict(low, high) == expected


def change(difference, low, high, **names):
    return pd.DataFrame([{**names, "difference": difference, "low": low, "high": high}])


def test_co_says_what_a_reranker_can_win_and_what_the_published_protocol_adds():
    table = pd.DataFrame({"method": ["CO"], "R@1": [0.5], "R@10": [0.75], "R@100": [0.875]})
    selection = change(0.02, 0.01, 0.03, protocol="as published")
    text = readings.co(table, selection)
    assert "right for 50.0% of the queries and one of the first 100 for 87.5%" in text
    assert "the 37.5 points between" in text
    assert text.endswith("the published one gives +2.00 points (+1.00 to +3.00), higher.")
    assert readings.co(table, change(-0.02, -0.03, -0.01, protocol="as published")).endswith("lower.")
    assert "one of the first 10 for 75.0%" in readings.co(table.drop(columns="R@100"), selection)
    assert readings.co(table, selection.iloc[:0]).endswith("was not run.")


def test_reranking_says_which_steps_hold():
    table = pd.DataFrame(
        {
            "method": ["CO + RRT (finetuned)", "CO + RRT (finetuned) + global score"],
            "R@1": [0.8, 0.75],
        }
    )
    differences = pd.concat(
        [
            change(0.1, 0.05, 0.15, metric="R@1", method="CO + RRT (frozen)", baseline="CO"),
            change(
                -0.1, -0.3, 0.1, metric="R@1", method="CO + RRT (finetuned)", baseline="CO + RRT (frozen)"
            ),
            change(-0.9, -0.9, -0.9, metric="MAP@R", method="CO + RRT (frozen)", baseline="CO"),
        ]
    )
    text = readings.reranking(table, differences)
    assert "CO + RRT (frozen) against CO +10.00 points (+5.00 to +15.00), higher; " in text
    assert (
        "CO + RRT (finetuned) against CO + RRT (frozen) -10.00 points (-30.00 to +10.00), no difference"
        in text
    )
    assert text.endswith("goes from 80.0% to 75.0%.")


def test_data_says_how_many_queries_and_how_many_are_easy():
    counts = pd.DataFrame(
        {"split": ["train", "test"], "photos": [6000, 1800], "products": [1200, 360], "categories": [20, 20]}
    )
    assert "share of 1,800 test photos" in readings.data(counts, copies=0)
    assert readings.data(counts, copies=0).endswith("No photo is byte for byte another one's copy.")
    assert "3 photos of all 7,800 are byte for byte an earlier one" in readings.data(counts, copies=3)


def test_transforms_count_the_falls_and_name_the_worst():
    rows = [
        ("blur", "mild", -0.1, -0.2, -0.05),
        ("blur", "strong", -0.3, -0.4, -0.2),
        ("flip", "one", 0.0, -0.1, 0.1),
    ]
    grid = pd.DataFrame(rows, columns=["transform", "severity", "difference", "low", "high"])
    grid = grid.assign(method="CO + RRT (finetuned)", stage="both")
    trainings = pd.concat(
        [change(0.0, 0.0, 0.0, training="flip and crop"), change(-0.02, -0.03, -0.01, training="no flip")]
    )
    text = readings.transforms(grid, trainings)
    assert "falls in 2 of 3 cases and rises in 0, most with blur (strong), by 30.0 points" in text
    assert text.endswith("with flip and crop, no flip: -2.00 points (-3.00 to -1.00), lower.")
    text = readings.transforms(grid.assign(low=-1.0, high=1.0), trainings)
    assert "falls in 0 of 3 cases and rises in 0; in the others" in text


def recall(method, value, width, **names):
    return {"method": method, "R@1": value, "R@1 low": value - width, "R@1 high": value + width, **names}


@pytest.mark.parametrize("width, word", [(0.01, "lie apart"), (0.2, "overlap")])
def test_transfer_says_whether_the_intervals_part(width, word):
    main = pd.DataFrame([recall("CO + RRT (finetuned)", 0.8, width)])
    table = pd.DataFrame(
        recall(method, value, width, gallery=gallery)
        for gallery in ("test among test", "test in train")
        for method, value in (("CO", 0.5), ("CO + RRT (finetuned)", 0.6))
    )
    text = readings.transfer(table, main)
    assert "is 60.0% on kinds of products that it has not seen and 80.0% on its own" in text
    assert f"the two intervals {word}." in text
    assert "test among test, from 50.0% to 60.0%; test in train, from 50.0% to 60.0%" in text


def test_categories_name_the_easiest_and_the_hardest():
    rows = [("mug", 0.9), ("sofa", 0.4), ("macro mean", 0.1)]
    table = pd.DataFrame(rows, columns=["category", "R@1"]).assign(method="CO + RRT (finetuned)")
    openset = pd.DataFrame({"method": ["CO + RRT (finetuned)"], "true accept": [0.93], "false accept": [0.5]})
    text = readings.categories(table, openset)
    assert "lies between 40.0% (sofa) and 90.0% (mug)" in text
    assert "keeps 93.0% of the test queries" in text and "lets 50.0% pass" in text


def test_depth_lists_what_is_clear_and_what_the_reranker_beats():
    cells = pd.concat([change(0.1, 0.05, 0.2, method="padded"), change(0.1, -0.1, 0.2, method="flip")])
    reranker = {"metric": "R@1", "method": "CO + RRT (finetuned)"}
    baselines = pd.concat(
        [
            change(0.1, 0.1, 0.1, **reranker, baseline="CO"),
            change(0.1, 0.1, 0.1, **reranker, baseline="CO + local matching"),
            change(0.1, 0.1, 0.1, **reranker, baseline="CO + k-reciprocal"),
            change(0.1, -0.1, 0.1, **reranker, baseline="CO + alpha query expansion"),
        ]
    )
    text = readings.depth(cells, baselines)
    assert "1 of 2 changes of depth, crop or flip move recall@1 by more than chance: padded." in text
    assert "higher in recall@1 than CO + local matching and CO + k-reciprocal and lower than none" in text
    worse = baselines.assign(low=-0.2, high=-0.1)
    assert "than none and lower than CO + local matching, CO + k-reciprocal and CO + alpha" in readings.depth(
        cells, worse
    )


def test_results_count_what_is_found():
    size = {"metric": "R@1", "baseline": "CO", "queries": 1800, "products": 360}
    differences = pd.concat(
        [change(0.1, 0.1, 0.1, method="a", **size), change(0.1, -0.1, 0.2, method="b", **size)]
    )
    transfer = pd.DataFrame({"queries": [384]})
    text = readings.results(differences, transfer)
    assert "Of 2 differences in recall@1, 1 are found higher (a minus CO) and 0 lower (none)" in text
    assert "on 1,800 queries of 360 products" in text and text.endswith("asked for 384 times.")
    assert "0 are found higher (none) and 2 lower" in readings.results(
        differences.assign(low=-0.2, high=-0.1), transfer
    )


def test_speed_names_the_storage_that_costs_recall_and_the_index_that_saves_time():
    storage = pd.concat(
        [
            change(-0.1, -0.2, -0.05, metric="R@1", method="1 bit"),
            change(0, 0, 0, metric="R@1", method="int8"),
            change(-0.1, -0.2, -0.05, metric="MAP@R", method="float16"),
        ]
    )
    rows = [(10, "Flat", 9.0, 1.0), (100, "Flat", 2.0, 1.0), (100, "IVF", 0.5, 0.96), (100, "HNSW", 0.1, 0.5)]
    indexes = pd.DataFrame(rows, columns=["gallery", "index", "p50 ms", "recall@100"])
    text = readings.speed(storage, indexes)
    assert "falls by more than chance when local features are kept as 1 bit." in text
    assert text.endswith("takes 2.00 ms a query, and IVF finds 96% of the first 100 in 0.50 ms.")
    text = readings.speed(storage.assign(high=0.1), indexes[indexes["recall@100"] != 0.96])
    assert "falls by no more than chance" in text and "none of the approximate indexes" in text


@pytest.mark.parametrize("milliseconds, word", [(20.0, "within"), (900.0, "beyond")])
def test_the_demo_says_how_often_it_errs_and_whether_it_is_in_time(milliseconds, word):
    rejected = pd.DataFrame({"false_accept": [0.33], "false_reject": [0.4]})
    searches = pd.DataFrame(
        [(100, "rerank", 1.0), (100, "total", milliseconds)], columns=["depth", "step", "p95 ms"]
    )
    text = readings.demo(rejected, searches)
    assert text.startswith("33% of the products that are absent are taken for present, and 40%")
    assert f"at most {milliseconds:.0f} ms, {word} the 500 ms" in text


def test_product_or_place_is_read_from_both_kinds_of_photos():
    alike, other = "CO + local matching, all patches alike", "CO + local matching, learned weight"
    table = pd.DataFrame({"method": ["CO", alike, other], "place@1": [0.2, 0.5, 0.1]})

    def differences(lows):
        pairs = [(alike, "CO"), (other, "CO"), (f"{other}, swapped backdrops", other)]
        rows = [("R@1", *pair, low + 0.1, low, low + 0.2) for pair, low in zip(pairs, lows, strict=True)]
        return pd.DataFrame(rows, columns=["metric", "method", "baseline", "difference", "low", "high"])

    said = readings.places(table, differences([-0.5, 0.1, 0.1]), differences([0.1, 0.1, -0.5]))
    assert "20.0% of the queries by CO, 50.0% by local matching with all patches alike and 10.0% by" in said
    assert f"Below CO in recall@1, on either kind of photos: {alike}; above it on both: {other}." in said
    assert f"swapped backdrops against {other} +20.00 points (+10.00 to +30.00), higher." in said
