"""Training on one kind of photos after the other: which photos, how long, and what the table says."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from waldo_utils.experiments import sim_to_real

SETS = np.array(["rendered", "UKBench-250", "rendered", "Grocery"])


@pytest.mark.parametrize(
    "sets, kinds",
    [
        (SETS, {"rendered": [0, 2], "real": [1, 3], "both": [0, 1, 2, 3]}),
        (None, {"all train photos": [0, 1, 2, 3]}),
        (np.array(["Grocery"] * 4), {"all train photos": [0, 1, 2, 3]}),
        (np.array(["rendered"] * 4), {"rendered": [0, 1, 2, 3]}),
    ],
)
def test_rendered_and_real_photos_are_told_apart(sets, kinds):
    parts = sim_to_real.parts_of(SimpleNamespace(labels=np.arange(4), sets=sets))
    assert {name: rows.tolist() for name, rows in parts.items()} == kinds


def test_the_table_has_every_set_and_what_training_gained_there():
    products = np.array([0, 0, 1, 1])
    miss, hit = np.zeros((4, 2), bool), np.array([[1, 0]] * 4, bool)
    hits = {"nothing": {"A": [miss], "B": [hit]}, "real": {"A": [hit], "B": [hit]}}
    table = sim_to_real.table(hits, {"A": products, "B": products}, resamples=20)
    assert table.columns[0] == "trained on"
    rows = table.set_index(["set", "trained on"])
    assert rows["R@1 gain"]["A", "real"] == 1 and rows["verdict"]["A", "real"] == "better"
    assert rows["R@1 gain"]["B", "real"] == 0 and rows["verdict"]["B", "real"] == "no difference found"
    assert pd.isna(rows["R@1 gain"]["A", "nothing"])
