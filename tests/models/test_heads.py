"""Projections that start as principal axes, and local features that start as the global one."""

import numpy as np
import pytest
import torch

from waldo_utils.models import heads
from waldo_utils.models.image_model import ImageModel


def test_the_axes_are_those_along_which_photos_differ_most():
    rng = np.random.default_rng(0)
    averages = np.ones((200, 6)) * 10
    averages[:, 1] += rng.normal(0, 3, 200)
    averages[:, 4] += rng.normal(0, 1, 200)
    axes = heads.principal_axes(averages.astype(np.float32), 2)
    assert np.abs(axes).argmax(axis=1).tolist() == [1, 4]
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-5)
    with pytest.raises(ValueError, match="7 principal axes need as many photos and channels"):
        heads.principal_axes(averages, 7)


def test_local_features_are_the_global_projection_patch_by_patch_with_their_lengths():
    model = ImageModel("efficientnet_lite0", dim=4).eval()
    heads.start_at(model, np.eye(4, 1280, dtype=np.float32))
    maps = torch.rand(3, 1280, 2, 2)
    heads.local_from_global(model, maps)
    with torch.no_grad():
        local = model.local_features(maps)  # (3, 4, 2, 2)
        embedding = model.global_features(maps)
    assert local.norm(dim=1).mean().item() == pytest.approx(heads.LOCAL_LENGTH, rel=1e-5)
    torch.testing.assert_close(torch.nn.functional.normalize(local.mean(dim=(2, 3)), dim=1), embedding)
    ratio = local.norm(dim=1) / maps[:, :4].norm(dim=1)
    torch.testing.assert_close(ratio, torch.full_like(ratio, ratio[0, 0, 0].item()))
