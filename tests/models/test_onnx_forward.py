"""The forward by ONNX Runtime: the same numbers however many photos come at once."""

import copy

import pytest
import torch

from waldo_utils.models import onnx_forward
from waldo_utils.models.image_model import ImageModel


def test_a_batch_that_is_run_in_parts_gives_the_same_bits(monkeypatch):
    model = ImageModel("efficientnet_lite0", dim=8).eval()
    photos = torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8)
    whole = onnx_forward.features_of(model)(photos)
    monkeypatch.setattr(onnx_forward, "PART", 3)
    parts = onnx_forward.features_of(model)(photos)
    assert [tuple(part.shape) for part in parts] == [(7, 8), (7, 8, 2, 2)]
    assert all(torch.equal(part, both) for part, both in zip(parts, whole, strict=True))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
def test_the_trunks_tensors_are_those_that_its_map_hangs_on(name):
    model = ImageModel(name, dim=8).eval()
    photos = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.trunk_map(photos)
        trunk = model.backbone.trunk_state()
        for key, value in model.backbone.state_dict().items():
            if key not in trunk:
                value.zero_()
        assert torch.equal(model.trunk_map(photos), before)
        for value in trunk.values():
            value.zero_()
        assert not model.trunk_map(photos).any()


def test_models_share_a_trunk_where_all_have_the_same():
    photos = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    first = ImageModel("efficientnet_lite0", dim=8).eval()
    second = copy.deepcopy(first)
    with torch.no_grad():
        second.backbone.conv_head.weight.mul_(2)
    trunk = onnx_forward.shared_trunk([first, second])
    maps = trunk(photos)
    assert maps.shape == (3, first.backbone.trunk_channels, 4, 4)
    assert trunk(maps) is maps
    for model in (first, second):
        features = onnx_forward.features_of(model)
        for shared, alone in zip(features(maps), features(photos), strict=True):
            torch.testing.assert_close(shared, alone)
    assert onnx_forward.shared_trunk([first])(photos) is photos
    with torch.no_grad():
        second.backbone.conv_stem.weight.mul_(2)
    assert onnx_forward.shared_trunk([first, second])(photos) is photos
    other = ImageModel("resnet50", dim=8).eval()
    assert onnx_forward.shared_trunk([first, other])(photos) is photos
