"""Where the projections of an image model start, other than at random."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from waldo_utils.models.image_model import ImageModel

LOCAL_LENGTH = 12.0  # mean length of a local feature that the reranker starts from


def principal_axes(averages: np.ndarray, dim: int) -> np.ndarray:
    """Return the (dim, channels) principal axes of averaged maps, scaled to unit length, strongest first.

    Args:
        averages: (N, channels) averaged last maps of train photos.
        dim: axes wanted.

    Raises:
        ValueError: there are fewer photos or channels than axes.
    """
    if dim > min(averages.shape):
        raise ValueError(
            f"{dim} principal axes need as many photos and channels, got {averages.shape}: "
            "use more train photos, or start the heads at random"
        )
    unit = F.normalize(torch.from_numpy(averages).double(), dim=1)
    _, axes = torch.linalg.eigh(torch.cov(unit.T))  # ascending
    axes = axes.flip(1)[:, :dim].T  # (dim, channels)
    sign = axes.gather(
        1, axes.abs().argmax(dim=1, keepdim=True)
    ).sign()  # or the library's version would decide
    return (axes * sign).float().numpy()


@torch.no_grad()
def start_at(model: ImageModel, axes: np.ndarray) -> None:
    """Set the global projection to some axes (axes, channels), in place; what it has beyond them to zero."""
    model.global_head.weight.zero_()
    model.global_head.weight[: len(axes)] = torch.from_numpy(axes)
    model.global_head.bias.zero_()


@torch.no_grad()
def local_from_global(model: ImageModel, maps: Tensor) -> None:
    """Let local features be patches projected as the global feature is, in place.

    Args:
        model: its local head is replaced.
        maps: (B, channels, h, w) last maps of some train photos; their local features get a mean length of
            `LOCAL_LENGTH`, and keep their differences: the length of a feature tells where a product is.
    """
    weight = model.global_head.weight[:, :, None, None]  # (D, channels, 1, 1)
    length = F.conv2d(maps.float(), weight).norm(dim=1).mean()
    model.local_head.weight.copy_(weight * (LOCAL_LENGTH / length))
    model.local_head.bias.zero_()
