"""Local matching of two photos: what can be told of a pair without learning anything."""

import torch.nn.functional as F
from torch import Tensor


def local_matching(query: Tensor, gallery: Tensor) -> Tensor:
    """Score pairs of photos by their patches, (B, h*w, D) local features each.

    Each patch of the query takes its best cosine in the gallery photo and counts by the length of its
    feature, which
    tells the product from the place it stands in. One way only: a gallery photo of plain patches is near to
    everything.

    Returns:
        (B,) weighted means over the query's patches, from -1 to 1.
    """
    length = query.norm(dim=2)  # (B, h*w)
    cosine = F.normalize(query, dim=2) @ F.normalize(gallery, dim=2).transpose(1, 2)  # (B, h*w, h*w)
    return (cosine.amax(dim=2) * length).sum(dim=1) / length.sum(dim=1).clamp_min(1e-12)
