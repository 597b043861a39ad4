"""The reranking transformer against stock torch, hand values and the published code."""

import numpy as np
import pytest
import torch

from waldo_utils.experiments.published import published_name
from waldo_utils.models.reranker import MATCHING, RerankingTransformer, sine_position_code
from waldo_utils.retrieval.reranking import match_maps
from waldo_utils.study import ROOT

PARITY = ROOT.parent / "shared" / "parity" / "rrt_parity.npz"


def test_sine_position_code_by_hand():
    code = sine_position_code(2, 4, 8)  # channels: 4 of the row, 4 of the column
    assert code.shape == (8, 8)
    row, column = 1, 2  # place 1 * 4 + 2; angles 2 * 2 / 2 and 2 * 3 / 4
    frequency = 10000.0**-0.5
    expected = [
        np.sin(2.0),
        np.cos(2.0),
        np.sin(2.0 * frequency),
        np.cos(2.0 * frequency),
        np.sin(1.5),
        np.cos(1.5),
        np.sin(1.5 * frequency),
        np.cos(1.5 * frequency),
    ]
    np.testing.assert_allclose(code[row * 4 + column], expected, rtol=1e-5)


def test_reranker_equals_the_whole_stock_encoder_read_at_cls():
    torch.manual_seed(0)
    model = RerankingTransformer(dim=16, heads=2, layers=3, feedforward=32).eval()
    query, gallery = torch.randn(5, 16, 3, 3), torch.randn(5, 16, 3, 3)
    with torch.no_grad():
        stock = model.score(model.encoder(model.sequence(query, gallery))[:, 0]).squeeze(-1)
        torch.testing.assert_close(model(query, gallery), stock, atol=1e-5, rtol=1e-5)


def test_reranker_layers_start_different():
    first, second = RerankingTransformer(dim=16, heads=2, layers=2, feedforward=32).encoder.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


@pytest.mark.skipif(not PARITY.exists(), reason="the inputs and outputs of the published code are not here")
def test_reranker_and_position_code_are_the_published_ones():
    parity = {k: torch.from_numpy(v) for k, v in np.load(PARITY).items() if v.dtype.kind == "f"}
    renamed = {
        k.removeprefix("weights/matcher.").replace("seg_encoder", "segment").replace("classifier", "score"): v
        for k, v in parity.items()
        if k.startswith("weights/matcher.")
    }
    model = RerankingTransformer().eval()
    model.load_state_dict(renamed)
    with torch.no_grad():
        logits = model(parity["src_local"], parity["tgt_local"])
    torch.testing.assert_close(logits, parity["logits"], atol=1e-5, rtol=0)
    code = sine_position_code(7, 7, 128).T.reshape(128, 7, 7)
    torch.testing.assert_close(code, parity["position_embedding"], atol=1e-6, rtol=0)


@pytest.mark.skipif(not PARITY.exists(), reason="the inputs and outputs of the published code are not here")
def test_the_published_logits_survive_half_precision():
    with np.load(PARITY) as parity:
        given = {
            name: torch.from_numpy(parity[name]) for name in parity.files if parity[name].dtype.kind == "f"
        }
    model = RerankingTransformer().eval()
    model.load_state_dict(
        {name: given[f"weights/{published_name(name, matcher=True)}"] for name in model.state_dict()}
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(given["src_local"], given["tgt_local"])
    assert (logits.float() - given["logits"]).abs().max() < 0.05


def test_with_matching_the_score_starts_as_local_matching_and_the_rest_learns():
    torch.manual_seed(0)
    model = RerankingTransformer(dim=16, heads=2, layers=2, feedforward=32, matching=True)
    query, gallery = torch.randn(5, 16, 3, 3), torch.randn(5, 16, 3, 3)
    score = model(query, gallery)
    expected = MATCHING * match_maps(query, gallery)
    torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-4)
    score.sum().backward()
    assert model.matching.grad.item() == pytest.approx(match_maps(query, gallery).sum().item(), rel=1e-4)
    assert model.score.weight.grad.abs().sum() > 0
