"""What OpenVINO compiles gives torch's numbers for batches of any length, and tells nobody that it does."""

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from waldo_utils.models import inference
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import Compiled


def test_what_comes_out_hangs_neither_on_the_batch_nor_on_the_cores(monkeypatch):
    model = ImageModel("efficientnet_lite0", dim=8).eval()
    photos = torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8)
    whole = inference.features_of(model)(photos)
    assert [tuple(part.shape) for part in whole] == [(7, 8), (7, 8, 2, 2)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    forward = inference.features_of(model)
    batches = (photos[:2], photos[2:].contiguous(memory_format=torch.channels_last))
    parts = [torch.cat(part) for part in zip(*map(forward, batches), strict=True)]
    assert all(torch.equal(part, both) for part, both in zip(parts, whole, strict=True))


def test_bytes_and_the_same_photos_in_0_to_1_give_the_same():
    model = ImageModel("efficientnet_lite0", dim=8).eval()
    photos, forward = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8), inference.map_of(model)
    torch.testing.assert_close(forward(photos), forward(photos / 255), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="photos must lie in"):
        forward(photos / 100)


def test_several_callers_at_once_each_get_their_own():
    model = ImageModel("efficientnet_lite0", dim=8).eval()
    photos = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8)
    forward = inference.map_of(model)
    alone = [forward(photos[i : i + 3]) for i in range(0, 12, 3)]
    with ThreadPoolExecutor(4) as pool:
        together = [*pool.map(forward, photos.split(3))]
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


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
    trunk = inference.shared_trunk([first, second])
    maps = trunk(photos)
    assert maps.shape == (3, first.backbone.trunk_channels, 4, 4)
    assert trunk(maps) is maps
    for model in (first, second):
        features = inference.features_of(model)
        for shared, alone in zip(features(maps), features(photos), strict=True):
            torch.testing.assert_close(shared, alone)
    assert inference.shared_trunk([first])(photos) is photos
    with torch.no_grad():
        second.backbone.conv_stem.weight.mul_(2)
    assert inference.shared_trunk([first, second])(photos) is photos
    other = ImageModel("resnet50", dim=8).eval()
    assert inference.shared_trunk([first, other])(photos) is photos


class Pair(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return first * 2 + second, first.sum(dim=1)


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_batches_of_any_length_are_computed_in_parts(count):
    compiled = Compiled(Pair(), [torch.zeros(3, 4), torch.zeros(3, 4)])
    first, second = torch.arange(4.0 * count).view(count, 4), torch.ones(4, count).T
    added, summed = compiled(first, second)
    assert torch.equal(added, first * 2 + second)
    assert torch.equal(summed, first.sum(dim=1))


def test_nothing_is_told_to_anybody(tmp_path):
    script = (
        "import torch; from waldo_utils.models.inference import Compiled; "
        "print(Compiled(torch.nn.ReLU(), [torch.zeros(1, 2)])(torch.ones(1, 2)))"
    )
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | home, capture_output=True, text=True, check=True
    )
    assert "1., 1." in found.stdout
    assert not list(tmp_path.iterdir())  # where OpenVINO would keep what it counts
