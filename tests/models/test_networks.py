"""The models against stock torch, hand values and the published code."""

import numpy as np
import pytest
import torch

from waldo_utils.experiments.published import published_name
from waldo_utils.models import starting_weights
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer, sine_position_code
from waldo_utils.study import ROOT, GlobalStage, RerankerStage

PARITY = ROOT.parent / "shared" / "parity" / "rrt_parity.npz"


@pytest.mark.parametrize(("backbone", "size"), [("resnet18", 112), ("resnet50", 224)])
def test_image_model_gives_unit_global_and_7_by_7_local_features(backbone, size):
    model = ImageModel(backbone).eval()
    with torch.inference_mode():
        embedding, local = model(torch.rand(2, 3, size, size))
    assert embedding.shape == (2, 128)
    assert local.shape == (2, 128, 7, 7)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_resnet50_is_torchvisions():
    from torchvision.models import resnet50

    model, stock = ImageModel("resnet50").eval(), resnet50(weights=None).eval()
    model.backbone.load_state_dict({k: v for k, v in stock.state_dict().items() if not k.startswith("fc.")})
    photos = torch.rand(1, 3, 64, 64)
    pooled = {}
    stock.avgpool.register_forward_hook(lambda module, inputs, output: pooled.update(map=inputs[0]))
    with torch.inference_mode():
        stock((photos - model.mean) / model.std)
        torch.testing.assert_close(model.feature_map(photos), pooled["map"])


def test_image_model_refuses_normalized_photos_and_unknown_backbones():
    model = ImageModel("resnet18").eval()
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got \[-1.000"):
        model(torch.full((1, 3, 32, 32), -1.0))
    with pytest.raises(ValueError, match="unknown backbone 'vgg'"):
        ImageModel("vgg")


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


def test_starting_weights_fit_the_small_models():
    model = starting_weights.image_model(GlobalStage(backbone="resnet18", start="rendered"))
    assert torch.isfinite(model.global_head.weight).all()


def test_weights_of_another_architecture_are_refused_by_name():
    with pytest.raises(ValueError, match=r"does not fit ImageModel: .*of another shape"):
        starting_weights.image_model(GlobalStage(backbone="resnet50", start="rendered"))


def test_a_truncated_weights_file_is_refused(tmp_path):
    broken = tmp_path / "weights.safetensors"
    broken.write_bytes(starting_weights.RERANKER.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        starting_weights.load_weights(starting_weights.reranker(RerankerStage(start="random")), broken)


def test_unknown_starts_are_refused():
    with pytest.raises(ValueError, match="unknown start 'zero'"):
        starting_weights.reranker(RerankerStage(start="zero"))
    with pytest.raises(ValueError, match="unknown start 'zero'"):
        starting_weights.image_model(GlobalStage(backbone="resnet18", start="zero"))
