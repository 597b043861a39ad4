"""The forward by ONNX Runtime: the same numbers however many photos come at once."""

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
