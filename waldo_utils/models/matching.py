"""Local matching of two photos: each patch of the query with its best in the gallery photo, and which patches
count."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def length_weight(local: Tensor, power: float = 1.0) -> Tensor:
    """Return (B, P) what each of a photo's patches (B, P, D) counts: the length of its feature to a power.

    The length tells the product from the place it stands in; with the power 0 all patches count alike.
    """
    return local.norm(dim=2) ** power


def local_matching(
    query: Tensor, gallery: Tensor, weight: Callable[[Tensor], Tensor] = length_weight
) -> Tensor:
    """Score pairs of photos by their patches, (B, h*w, D) local features each.

    Each patch of the query takes its best cosine in the gallery photo. One way only: a gallery photo of plain
    patches is near to everything.

    Args:
        query, gallery: the local features.
        weight: of the query's patches, (B, h*w, D) to (B, h*w), not negative.

    Returns:
        (B,) weighted means over the query's patches, from -1 to 1.
    """
    counts = weight(query)  # (B, h*w)
    cosine = F.normalize(query, dim=2) @ F.normalize(gallery, dim=2).transpose(1, 2)  # (B, h*w, h*w)
    return (cosine.amax(dim=2) * counts).sum(dim=1) / counts.sum(dim=1).clamp_min(1e-12)


class PatchWeight(nn.Module):
    """A weight of a patch that is learned: one linear layer from its feature, scaled to length one, and the
    logarithm of its length to the logarithm of the weight. It starts as `length_weight`.

    Args:
        dim: of the features.
    """

    def __init__(self, dim: int = 128):
        super().__init__()
        self.layer = nn.Linear(dim + 1, 1, bias=False)  # a constant would fall out of a weighted mean
        nn.init.zeros_(self.layer.weight)
        with torch.no_grad():
            self.layer.weight[0, dim] = 1.0

    def forward(self, local: Tensor) -> Tensor:
        """Return (B, P) weights of patches (B, P, D); of each photo the largest is 1."""
        length = local.norm(dim=2, keepdim=True).clamp_min(1e-6)  # (B, P, 1)
        logits = self.layer(torch.cat([local / length, length.log()], dim=2)).squeeze(2)  # (B, P)
        return (logits - logits.amax(dim=1, keepdim=True)).exp()
