"""The benchmark's arithmetic and forms; no assertion hangs on the clock."""

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.__main__ import main
from waldo_utils.disk import artifacts
from waldo_utils.figures import speed
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.models.scorer import GALLERY, QUERY, Scorer
from waldo_utils.speed import benchmark, timing

INDEXES = pd.DataFrame({
    "gallery": [100, 1000, 1000], "index": ["Flat", "Flat", "IVF,PQ32"], "effort": [0, 0, 16],
    "recall@1": [1, 1, 0.9], "recall@100": [1, 1, 0.8], "p50 ms": [0.1, 1.0, 0.5],
    "MB": [0.0512, 0.512, 0.04],
})  # fmt: skip


@pytest.fixture
def reranking():
    rows = [
        (size, method, ms, ratio, 0.5, 1.0, "cpu")
        for size in benchmark.SIZES
        for method, ms, ratio in (
            ("textbook, many at once", 8.0, 1.0),
            ("scorer float32", 2.0, 4.0),
            ("scorer bfloat16, best 16 again", 1.0, 8.0),
        )
    ]
    columns = ["size", "method", "ms per pair", "ratio", "share of matrix rate", "peak MB", "device"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_textbook_module_and_the_scorer_give_the_scores_of_forward(layers):
    torch.manual_seed(0)
    reranker = RerankingTransformer(16, 2, layers, 32).eval()
    local = np.random.default_rng(0).standard_normal((6, 16, 3, 3)).astype(np.float32)
    query, gallery = torch.from_numpy(local[:3]), torch.from_numpy(local[3:])
    with torch.no_grad():
        expected = reranker(query, gallery)
        torch.testing.assert_close(
            benchmark.Textbook(reranker).eval()(query, gallery), expected, atol=1e-5, rtol=0
        )
    scorer = Scorer(reranker)
    codes = (scorer.encode(local, np.arange(3) + start, side) for start, side in ((0, QUERY), (3, GALLERY)))
    torch.testing.assert_close(
        scorer.score(*codes, np.tile(np.arange(3), (2, 1))), expected, atol=1e-5, rtol=0
    )


def test_products_of_a_pair_are_those_counted_by_hand():
    textbook, scorer = benchmark.pair_products(6, 1024)
    # 100 tokens, 6 layers: projections 4 * 128^2, feed-forward 2 * 128 * 1024, attention 2 * 100 * 128
    assert textbook == 6 * 100 * (65_536 + 262_144 + 25_600) == 211_968_000
    last = 100 * 2 * 128**2 + (2 * 128**2 + 262_144 + 25_600)  # keys and values of all, one row of the rest
    assert scorer == 5 * 100 * 353_280 + last - 100 * 3 * 128**2


def test_every_method_scores_as_many_pairs_as_it_is_counted_for(monkeypatch):
    monkeypatch.setattr(benchmark, "SIZES", {"tiny": (1, 16)})
    counted = []
    forward, rerank = benchmark.Textbook.forward, benchmark.rerank_scores

    def textbook(module, query, gallery):
        counted.append(len(query))
        return forward(module, query, gallery)

    def scorer(*arguments):
        scores = rerank(*arguments)
        counted.append(scores.size)
        return scores

    monkeypatch.setattr(benchmark.Textbook, "forward", textbook)
    monkeypatch.setattr(benchmark, "rerank_scores", scorer)
    monkeypatch.setattr(
        benchmark, "in_turns", lambda calls, repeats: {n: [1.0 + (c() is None)] for n, c in calls.items()}
    )
    monkeypatch.setattr(benchmark, "peak_memory", lambda call: 0.0)
    monkeypatch.setattr(benchmark, "matrix_rate", lambda precision: 1.0)
    benchmark.reranking_speed(benchmark.PLANS["smoke"])
    assert counted == [60, 48, 12, 100, 100, 100]  # 60 pairs at once, then at most 48; one shortlist of 100


def test_tf32_ends_with_the_call():
    assert timing.tf32(torch.get_float32_matmul_precision)() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_calls_take_turns_after_a_warm_up():
    order = []
    seconds = timing.in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert order == list("ababab")
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_peak_memory_is_what_a_call_holds_at_most():
    def hold(megabytes):
        return lambda: torch.ones(megabytes * 250_000).sum()

    hold(80)()  # what an earlier call gave back is not held
    found = timing.peak_memory(hold(40)) / 1e6
    assert np.isnan(found) or 35 < found < 60


def test_costs_follow_from_the_measured_constants(reranking):
    search = pd.DataFrame({"photos": [1000, 60_502], "seconds": [0.1, 36.0]})
    table = benchmark.evaluation_cost(reranking, search, 0.1).set_index("part")
    assert table["hours here"].tolist() == pytest.approx(
        [6050.2 / 3600, 0.01, 6_050_200 * 0.008 / 3600, 6_050_200 * 0.002 / 3600, 6_050_200 * 0.001 / 3600]
    )
    assert table.Pflop["rerank 100, textbook, many at once"] == pytest.approx(
        2.565, abs=1e-3
    )  # 2.56 in protocol
    assert table["GPU minutes"]["rerank 100, textbook, many at once"] == pytest.approx(
        2.565e15 / 989e12 / 60, rel=1e-3
    )


def test_large_galleries_follow_from_the_largest_measured_one(reranking):
    table = benchmark.gallery_needs(INDEXES, reranking, 12_544).set_index("photos")
    assert table.loc[10**9, "local TB"] == pytest.approx(12.544)
    assert table.loc[10**9, "flat GB"] == pytest.approx(512)
    assert table.machines.tolist() == [1, 1, 2]
    assert table.loc[10**6, "flat s per query"] == pytest.approx(1.0)
    assert table.loc[10**8, "IVF-PQ GB"] == pytest.approx(4.0)
    assert table["rerank 100 s"].tolist() == pytest.approx([0.2] * 3)


def test_bfloat16_is_compared_with_float32_on_the_same_shortlists(monkeypatch):
    precisions = {"float32": (torch.float32, 0), "bfloat16": (torch.bfloat16, 0)}
    precisions["bfloat16, best 2 again"] = (torch.bfloat16, 2)
    monkeypatch.setattr(benchmark, "PRECISIONS", precisions)
    torch.manual_seed(0)
    local = np.random.default_rng(0).standard_normal((12, 16, 3, 3)).astype(np.float16)
    neighbors = np.array([[j for j in range(12) if j != i] for i in range(12)])
    reranker = RerankingTransformer(16, 2, 1, 32).eval()
    table, differences = benchmark.precision_tables(
        [local], [reranker], [neighbors], np.arange(12) // 3, 11, 20
    )
    assert table.method.tolist() == ["float32", "bfloat16", "bfloat16, best 2 again"]
    assert table["changed@1"][0] == 0
    assert differences.difference[0] == pytest.approx(table["R@1"][1] - table["R@1"][0])


def test_tables_are_kept_with_what_they_hang_on(tmp_path):
    table, facts = benchmark.kept("speed_indexes", tmp_path)
    assert table["not run"].tolist() == ["run `python -m waldo_utils benchmark --full`"]
    assert facts == {}
    benchmark.save("speed_indexes", INDEXES, tmp_path, {"load": 0.5})
    table, facts = benchmark.kept("speed_indexes", tmp_path)
    pd.testing.assert_frame_equal(table, INDEXES)
    assert facts == {"load": 0.5}
    assert "not run" in benchmark.shown(pd.DataFrame({"ms": [1.0, np.nan], "photos": [10_000, 1]})).to_html()


def test_the_command_prints_the_tables_and_writes_them_where_it_is_told(monkeypatch, tmp_path, capsys):
    manifest = pd.DataFrame({"split": ["test", "train"], "label": [0, 1]})
    monkeypatch.setattr(artifacts, "load_frame", lambda study, name: manifest)
    monkeypatch.setattr(artifacts, "load_array", lambda study, name: np.eye(1, 4))
    monkeypatch.setattr(
        benchmark,
        "measure",
        lambda plan, embedding, labels: iter([("speed_indexes", INDEXES.iloc[: len(labels)])]),
    )
    assert main(["benchmark", "--output", str(tmp_path)]) == 0
    assert "speed_indexes\n" in capsys.readouterr().out
    table, facts = benchmark.kept("speed_indexes", tmp_path)
    assert len(table) == 1
    assert {"processor", "threads", "torch", "date", "load", "plan"} <= facts.keys()
    assert main(["benchmark", "--profile", "maxi"]) == 2


def test_figures_draw_what_the_tables_hold(reranking):
    search = pd.DataFrame({"photos": [100, 1000], "seconds": [1.0, 2.0], "theory seconds": [0.5, 1.0]})
    depth = pd.DataFrame({"depth": [5, 10], "ms per query": [1.0, 2.0], "theory ms per query": [1.0, 2.0]})
    assert len(speed.growth_curves(search, depth).axes) == 2
    assert [ax.get_title() for ax in speed.index_scatter(INDEXES).axes] == [
        "100 photos",
        "1,000 photos",
    ]
    bars = speed.ratio_bars(reranking).axes[0].patches
    assert [bar.get_width() for bar in bars] == [1, 1, 4, 4, 8, 8]
    storage = pd.DataFrame({
        "storage": ["float32", "1 bit"], "bytes per photo": [25_088, 788],
        "R@1": [0.5, 0.4], "R@1 low": [0.4, 0.3], "R@1 high": [0.6, 0.5],
    })  # fmt: skip
    figure = speed.storage_curve(storage)
    assert [text.get_text() for text in figure.axes[0].texts] == ["float32", "1 bit"]
