"""Photos to features: one pass of the image model over a list of photos."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from waldo_utils.devices import autocast, device, loader_workers
from waldo_utils.models import ImageModel


class PhotoBatches(Dataset):
    """Batches of transformed photos, each (B, 3, size, size) in [0, 1].

    Item i depends on (`seed`, i) alone, so that any number of loader processes gives the same photos.

    Args:
        photos: photo i as a (3, h, w) uint8 tensor, for example an `images.PhotoCache`.
        batches: rows of `photos`, one array per batch.
        transform: photo and random generator to (3, size, size) in [0, 1].
        seed: of the random generators.
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        batches: list[np.ndarray],
        transform: Callable[[Tensor, torch.Generator], Tensor],
        seed: int = 0,
    ):
        self.photos = photos
        self.batches = batches
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + i)
        return torch.stack([self.transform(self.photos[int(row)], generator) for row in self.batches[i]])

    def loader(self) -> DataLoader:
        """Return a loader of the batches in order."""
        return DataLoader(self, batch_size=None, num_workers=loader_workers())


@torch.no_grad()
def extract_features(
    model: ImageModel,
    photos: Sequence[Tensor],
    transform: Callable[[Tensor, torch.Generator], Tensor],
    batch: int = 64,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the global and local features of photos.

    Args:
        model: the image model; it is put into eval mode.
        photos: N photos, each a (3, h, w) uint8 tensor, for example an `images.PhotoCache`.
        transform: see `PhotoBatches`.
        batch: photos per forward pass.

    Returns:
        Global features (N, D) float32, unit length, and local features (N, D, h, w) float16.
    """
    model.eval().to(device=device(), memory_format=torch.channels_last)
    rows = np.arange(len(photos))
    parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    loader = PhotoBatches(photos, parts, transform).loader()
    global_parts, local_parts = [], []
    for images in tqdm(loader, total=len(parts), desc="extract features", unit="batch"):
        images = images.to(device=device(), memory_format=torch.channels_last)
        with autocast():
            embedding, local = model(images)
        global_parts.append(embedding.float().cpu().numpy())
        local_parts.append(local.to(torch.float16).cpu().numpy())
    return np.concatenate(global_parts), np.concatenate(local_parts)
