"""The plan: what a profile has to do, counted with a finger, and rates that are only divided by."""

from dataclasses import replace

import pandas as pd
import pytest

from waldo_utils import __main__ as command_line
from waldo_utils.run import plan
from waldo_utils.run.plan import Sizes
from waldo_utils.speed import rates
from waldo_utils.speed.rates import Machine
from waldo_utils.study import PROFILES, find_profile

SMALL = Sizes(train=100, validation=10, test=50, test_products=10, transfer_train=6, transfer_test=4)
KINDS = ("render", "decode", "trunk", "tail", "whole", "train CO", "train frozen", "train finetuned",
         "train fresh", "pairs", "matched pairs", "similarities")  # fmt: skip
ONE_A_SECOND = Machine(dict.fromkeys(KINDS, 1.0), 1e6, 2e6, 1e6, 5e8, 1e9, "a finger")


def study(**changed):
    sop = find_profile("sop")
    image = replace(sop.global_, epochs=2, views=4)
    return replace(sop, global_=image, reranker=replace(sop.reranker, epochs=3, finetune_epochs=2), **changed)


def test_the_sizes_are_those_of_the_settings_or_of_what_was_published():
    mini = plan.sizes(find_profile("mini"))  # 40 families of 3 in 12 categories, a quarter of them test
    assert (mini.train + mini.validation, mini.test, mini.test_products) == (30 * 3 * 12 * 5, 1800, 360)
    assert (mini.transfer_train, mini.transfer_test) == (8 * 8 * 3 * 3, 8 * 8 * 3 * 2)
    sop = plan.sizes(find_profile("sop"))
    assert (sop.train + sop.validation, sop.test, sop.test_products) == (59_551, 60_502, 11_316)
    assert sop.validation == 5955
    paper = plan.sizes(find_profile("paper"))
    assert paper.transfer_train + paper.transfer_test > 190_000


def test_the_work_by_hand():
    work = plan.work(study(), SMALL)
    assert work["01_prepare_data"] == {"render": 10, "decode": 2 * 170}
    second = work["02_train_global"]
    assert second["trunk"] == 100 * 4 + 60
    assert second["train CO"] == 2 * 100
    # Averaged maps, and local ones of test; features of all; validation after 0, 1 and 2 epochs and of four
    # mixtures; the mixture's test.
    assert second["tail"] == 150 + 50 + 160 + 3 * 10 + 4 * 10 + 50
    third = work["03_train_reranker"]
    assert (third["train frozen"], third["train finetuned"]) == (300, 200)
    assert third["pairs"] == 30 * (7 * 10 + 2 * 60)


def test_a_trunk_that_models_share_runs_once():
    shared, whole = (
        plan.work(replace(study(), global_=replace(study().global_, views=views)), SMALL) for views in (4, 0)
    )
    for notebook, models in {
        "05_evaluate_products10k": 3 * 10,  # three of four models, each of 10 photos
        "07_depth_fusion_baselines": 3 * 50,  # the finetuned one beside CO, of each input
        "08_product_or_place": 2 * 12 * (2 + 3) * 3 * 4,
    }.items():
        assert whole[notebook]["whole"] - shared[notebook]["whole"] == models
        assert shared[notebook]["tail"] - whole[notebook]["tail"] == models


def test_more_seeds_and_a_watched_test_are_more_work():
    three = plan.work(study(seeds=(0, 1, 2)), SMALL)["03_train_reranker"]
    assert three["pairs"] == 3 * plan.work(study(), SMALL)["03_train_reranker"]["pairs"]
    watching = study(evaluation=replace(study().evaluation, watch_test=True))
    more = (
        plan.work(watching, SMALL)["02_train_global"]["tail"]
        - plan.work(study(), SMALL)["02_train_global"]["tail"]
    )
    assert more == 3 * 50


def test_the_table_is_work_over_rates():
    table = plan.predicted(study(), SMALL, ONE_A_SECOND).set_index("notebook")
    assert table.minutes["01_prepare_data"] == pytest.approx(350 / 60)
    assert table["most of it"]["01_prepare_data"] == "decode"
    assert table["disk GB"]["01_prepare_data"] == pytest.approx(170 * 1e-3)
    assert table["disk GB"]["02_train_global"] == pytest.approx((460 * 2e6 + 160 * (1e6 + 512 + 1200)) / 1e9)
    assert table["memory GB"]["04_ablate_transforms"] == pytest.approx(1 + 0.5 + 4 * 50 * 1e-3)
    fast = replace(ONE_A_SECOND, rates=dict.fromkeys(KINDS, 2.0))
    half = plan.predicted(study(), SMALL, fast).set_index("notebook")
    assert (half.minutes * 2).tolist() == pytest.approx(table.minutes.tolist())


@pytest.mark.parametrize("name", ["mini", "sop", "paper"])
def test_every_kind_of_work_has_a_rate(name):
    kinds = {kind for done in plan.work(find_profile(name), SMALL).values() for kind in done}
    assert kinds <= set(KINDS)
    table = plan.predicted(find_profile(name), SMALL, ONE_A_SECOND)
    assert (table.minutes > 0).all() and (table["memory GB"] >= 1).all()


def test_a_rate_counts_what_a_call_does(monkeypatch):
    clock = iter([0.0, 1.0, 2.5, 3.0])
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(clock))
    calls = []
    assert rates.rate(lambda: calls.append(1), 10, seconds=2.0) == pytest.approx(10 * 2 / 3.0)
    assert len(calls) == 3  # one to warm up


def test_this_machine_is_measured_with_the_sizes_of_the_profile():
    smoke = find_profile("smoke")
    machine = rates.measure(smoke, seconds=0.0)
    assert set(machine.rates) == set(KINDS) and all(value > 0 for value in machine.rates.values())
    assert machine.photo_bytes == 3 * 64 * 85  # 640 x 480 with a shorter side of 64
    assert machine.map_bytes == 2 * 112 * 4 * 4 and machine.local_bytes == 2 * 128 * 2 * 2


@pytest.mark.parametrize(
    "name, said",
    [
        ("maxi", "unknown profile 'maxi': choose one of mini"),
        ("photos", "not counted yet: run its first notebook"),
    ],
)
def test_a_profile_that_cannot_be_planned_is_one_line_before_anything_is_measured(
    name, said, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(rates, "measure", lambda *given: pytest.fail("measured"))
    monkeypatch.setattr(plan.artifacts, "ROOT", tmp_path)  # whatever has run here
    assert command_line.main(["plan", "--profile", name]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_plan_is_printed_with_what_was_measured(monkeypatch, capsys):
    monkeypatch.setattr(rates, "measure", lambda *given: ONE_A_SECOND)
    assert command_line.main(["plan", "--profile", "sop"]) == 0
    said = capsys.readouterr().out
    assert "sop: 120,053 photos (53,596 train, 5,955 validation, 60,502 test), predicted for a finger" in said
    assert "03_train_reranker" in said and "hours" in said and "not counted: the raw photos, mapped" in said
    assert "sop" in PROFILES


def test_counted_photos_without_their_transfer_set_are_not_counted(monkeypatch):
    counts = pd.DataFrame({"split": ["train", "test"], "photos": [40, 20], "products": [9, 5]})
    monkeypatch.setattr(plan.artifacts, "load_table", lambda study, name: counts)
    monkeypatch.setattr(plan.artifacts, "load_frame", lambda study, name: range(7))
    assert plan.sizes(find_profile("photos")) == plan.Sizes(40, 0, 20, 5, 0, 7)

    def missing(study, name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(plan.artifacts, "load_frame", missing)
    with pytest.raises(ValueError, match="not counted yet"):
        plan.sizes(find_profile("photos"))
