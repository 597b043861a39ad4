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
