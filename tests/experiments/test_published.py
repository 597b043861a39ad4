"""Published checkpoints: their names, what is refused, and the paper's test on them in one command."""

import contextlib
import hashlib
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from small import published_state

from waldo_utils.__main__ import main
from waldo_utils.data import manifests, reading, transforms
from waldo_utils.experiments import published
from waldo_utils.miniature.datasets import render_sop
from waldo_utils.study import ROOT

PARITY = ROOT.parent / "shared" / "parity"
LACKS_PARITY = pytest.mark.skipif(
    not PARITY.exists(), reason="the published code's figures are not beside the project"
)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A reranking checkpoint as dict with `state`, and a global one, bare, without a matcher."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.save({"state": published_state(0), "epoch": 3}, folder / "rerank.pt")
    torch.save(published_state(1, matcher=False), folder / "global.pt")
    yield folder
    for path in folder.iterdir():
        path.unlink()  # 100 MB each


@pytest.fixture(scope="module")
def sop(tmp_path_factory):
    return render_sop(
        tmp_path_factory.mktemp("sop"), 7, 2, 2, 3, 64, 0.3, categories=["mug", "fan"], processes=1
    )


def test_the_names_are_the_authors():
    names = published_state(0)
    assert {
        "remap.weight",
        "remap_local.bias",
        "conv1.weight",
        "layer4.2.bn3.running_var",
        "mean",
    } < names.keys()
    assert {"matcher.seg_encoder.weight", "matcher.classifier.bias"} < names.keys()
    assert "matcher.encoder.layers.5.self_attn.in_proj_weight" in names


@LACKS_PARITY
def test_names_and_shapes_are_those_of_the_published_checkpoint():
    expected = json.loads((PARITY / "published_checkpoint_keys.json").read_text())
    assert {name: list(value.shape) for name, value in published_state(0).items()} == expected


def test_a_checkpoint_loads_bare_wrapped_and_with_a_prefix(checkpoints, tmp_path):
    state = published_state(0)
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "prefixed.pt")
    for path in (checkpoints / "rerank.pt", tmp_path / "prefixed.pt"):
        model, reranker = published.load_checkpoint(path)
        assert torch.equal(model.global_head.weight, state["remap.weight"])
        assert torch.equal(model.local_head.weight, state["remap_local.weight"])
        assert torch.equal(model.backbone.layer3[5].conv2.weight, state["layer3.5.conv2.weight"])
        assert torch.equal(reranker.segment.weight, state["matcher.seg_encoder.weight"])
        assert torch.equal(reranker.score.weight, state["matcher.classifier.weight"])
    model, reranker = published.load_checkpoint(checkpoints / "global.pt")
    assert reranker is None
    (tmp_path / "prefixed.pt").unlink()


@LACKS_PARITY
def test_the_published_matcher_gives_the_published_logits(tmp_path):
    with np.load(PARITY / "rrt_parity.npz") as parity:
        given = {
            name: torch.from_numpy(parity[name]) for name in parity.files if parity[name].dtype.kind == "f"
        }
    matcher = {
        name.removeprefix("weights/"): value for name, value in given.items() if name.startswith("weights/")
    }
    torch.save(published_state(0, matcher=False) | matcher, tmp_path / "checkpoint.pt")
    _, reranker = published.load_checkpoint(tmp_path / "checkpoint.pt")
    with torch.no_grad():
        logits = reranker.eval()(given["src_local"], given["tgt_local"])
    torch.testing.assert_close(logits, given["logits"], atol=1e-5, rtol=0)
    (tmp_path / "checkpoint.pt").unlink()


def without(*names):
    return {name: value for name, value in published_state(0).items() if name not in names}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: without("remap.bias"), r"1 missing \(remap.bias\)"),
        (lambda: without("matcher.seg_encoder.weight"), r"1 missing \(matcher.seg_encoder.weight\)"),
        (lambda: without() | {"fc.bias": torch.zeros(1)}, r"1 unexpected \(fc.bias\)"),
        (lambda: without() | {"remap.bias": torch.zeros(2)}, r"1 of another shape \(remap.bias\)"),
        (lambda: {"weight": torch.zeros(1)}, r"\d+ missing \(bn1.bias, .*1 unexpected \(weight\)"),
        (lambda: without() | {"mean": torch.full((1, 3, 1, 1), 0.5)}, r"another mean \(\[0.5, 0.5, 0.5\]\)"),
        (lambda: [torch.zeros(1)], "holds no state dict"),
        (lambda: {"state": {"epoch": 3}}, "holds no state dict"),
    ],
)  # fmt: skip
def test_a_wrong_checkpoint_is_refused_by_name(tmp_path, make, message):
    path = tmp_path / "wrong.pt"
    torch.save(make(), path)
    with pytest.raises(ValueError, match=message):
        published.load_checkpoint(path)
    path.unlink()


class Trap:
    """A pickle that would write a file when it is executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    torch.save({"state": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    for name in ("trap.pt", "old.pt"):
        with pytest.raises(ValueError, match=f"{name} is not a (whole )?file of t") as error:
            published.load_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(FileNotFoundError, match="there is no file"):
        published.load_checkpoint(tmp_path / "no.pt")


def test_the_table_is_the_slow_loops(checkpoints, sop, monkeypatch):
    monkeypatch.setattr("waldo_utils.models.inference.autocast", contextlib.nullcontext)
    monkeypatch.setattr("waldo_utils.retrieval.reranking.autocast", contextlib.nullcontext)
    table, provenance = published.evaluate(
        checkpoints / "rerank.pt", checkpoints / "global.pt", sop, depth=5, resamples=50
    )
    test = manifests.sop_manifest(sop).query("split == 'test'")
    labels, transform = test.label.to_numpy(), transforms.TestTransform(256, 224)
    model, reranker = (part.eval() for part in published.load_checkpoint(checkpoints / "rerank.pt"))
    global_model = published.load_checkpoint(checkpoints / "global.pt")[0].eval()
    embeddings, maps = [], []
    with torch.no_grad():
        for path in test.path:
            photo = torch.from_numpy(np.array(reading.read_photo(sop / path))).permute(2, 0, 1)
            embeddings.append(global_model(transform(photo)[None])[0][0])
            maps.append(model(transform(photo)[None])[1].half().float())
        found = {"CO": [], "CO + RRT": []}
        for i in range(len(test)):
            others = [j for j in range(len(test)) if j != i]
            order = sorted(others, key=lambda j: -float(embeddings[i] @ embeddings[j]))
            scores = {j: float(reranker(maps[i], maps[j])) for j in order[:5]}
            reranked = sorted(order[:5], key=lambda j: -scores[j]) + order[5:]
            for method, ranked in (("CO", order), ("CO + RRT", reranked)):
                found[method].append([labels[j] == labels[i] for j in ranked])
    assert table.method.tolist() == list(found)
    for row in table.to_dict("records"):
        for k in (1, 10):
            expected = np.mean([any(hit[:k]) for hit in found[row["method"]]])
            assert row[f"R@{k}"] == pytest.approx(expected)
            assert row[f"R@{k} low"] <= row[f"R@{k}"] <= row[f"R@{k} high"]
        assert (row["queries"], row["products"]) == (12, 4)
    assert provenance["depth"] == 5
    assert provenance["shortlist by"] == "global checkpoint"


def test_one_command_prints_the_table_beside_the_reported_one(checkpoints, sop, tmp_path, capfd):
    checkpoint, output = checkpoints / "rerank.pt", tmp_path / "tables" / "table.csv"
    command = ["evaluate", "--checkpoint", str(checkpoint), "--data", str(sop.parent / sop.name)]
    assert main([*command, "--output", str(output)]) == 0
    printed, bars = capfd.readouterr()
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    lines = printed.splitlines()
    assert [line.split("  ")[0] for line in lines[1:6]] == [
        "CO", "CO + RRT", "CO, reported", "CO + RRT (frozen), reported", "CO + RRT (finetuned), reported"
    ]  # fmt: skip
    assert lines[5].split()[-2:] == ["84.5", "93.2"]
    assert "12 queries of 4 products; 11 neighbors reranked" in printed
    assert "not the published test set (60,502 photos of 11,316 products)" in printed
    assert f"checkpoint rerank.pt: SHA-256 {digest}" in printed
    assert "extract features" in bars
    table = pd.read_csv(output)
    assert table.method.tolist() == ["CO", "CO + RRT"]
    provenance = json.loads(output.with_suffix(".json").read_text())
    assert provenance["checkpoints"]["checkpoint"] == {"file": "rerank.pt", "sha256": digest}
    assert provenance["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()


def test_the_command_refuses_in_one_line(checkpoints, sop, tmp_path, capfd):
    rerank, only_global = checkpoints / "rerank.pt", checkpoints / "global.pt"
    for arguments, message in [
        ([rerank, "--data", sop, "--depth", "101"], "depth is 101: the shortlist holds 100"),
        ([only_global, "--data", sop], "holds no matcher to rerank with: give it as --global-checkpoint"),
        ([rerank, "--data", tmp_path], "no sop data in"),
        ([rerank, "--data", sop, "--output", "table.txt"], "choose a name that ends in .csv"),
        ([tmp_path / "no.pt", "--data", sop], "there is no file"),
    ]:
        assert main(["evaluate", "--checkpoint", *map(str, arguments)]) == 2
        error = capfd.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
