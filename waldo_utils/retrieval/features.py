"""Photos to features: one pass of the image model over a list of photos."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils import ranks
from waldo_utils.disk.resumable import ResumableArrays, fingerprint
from waldo_utils.models.devices import device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import features_of, map_of, shared_trunk
from waldo_utils.retrieval.batches import PhotoBatches


def extract_features(
    model: ImageModel,
    photos: Sequence[Tensor],
    transform: Callable[[Tensor, torch.Generator], Tensor] | None,
    batch: int = 64,
    partial: Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the global and local features of photos; see `extract_all`, which does it of several models.

    Returns:
        Global features (N, D) float32, unit length, and local features (N, D, h, w) float16.
    """
    (found,) = extract_all([model], photos, transform, batch, partial)
    return found


@torch.no_grad()
def extract_all(
    models: Sequence[ImageModel],
    photos: Sequence[Tensor],
    transform: Callable[[Tensor, torch.Generator], Tensor] | None,
    batch: int = 64,
    partial: Path | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Compute the global and local features of photos by several image models, in one pass over the photos; a
    trunk that they share runs once. Several processes share the photos by batches.

    Args:
        models: the image models; they are put into eval mode.
        photos: N photos, each a (3, h, w) uint8 tensor, for example a `photo_cache.PhotoCache`; or the maps
            that the model's trunk gives of them.
        transform: see `PhotoBatches`; None for maps.
        batch: photos per forward pass.
        partial: a folder that keeps what is done until all is, so that a killed extraction goes on there;
            None: nothing is kept. It tells other weights, transforms and numbers of photos by itself, other
            photos by its name: see `artifacts.partial_path`. Processes that share the photos keep nothing.

    Returns:
        Of each model, global features (N, D) float32, unit length, and local features (N, D, h, w) float16.

    Raises:
        OSError: the disk has too little room for what is to be kept.
    """
    for model in models:
        model.eval().to(device=device(), memory_format=torch.channels_last)
    rows = np.arange(len(photos))
    parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    content = partial and fingerprint(
        *models,
        type(transform).__name__,
        vars(transform) if transform else None,
        batch,
        len(photos),
    )
    own = ranks.share(len(parts))
    kept = ResumableArrays(partial if ranks.WORLD == 1 else None, sum(map(len, parts[own])), content)
    start = own.start + kept.done // batch
    loader = PhotoBatches(photos, parts, transform).loader(start, stop=own.stop)
    trunk, forwards = shared_trunk(models), [features_of(model) for model in models]
    for images in tqdm(
        loader,
        initial=start,
        total=own.stop,
        desc="extract features",
        unit="batch",
        disable=not ranks.first(),
    ):
        maps, found = trunk(images), []
        for forward in forwards:
            embedding, local = forward(maps)
            found += [embedding.float().cpu().numpy(), local.to(torch.float16).cpu().numpy()]
        kept.append(*found)
    arrays = ranks.gather_arrays(kept.finish())
    return list(zip(arrays[::2], arrays[1::2], strict=True))


@torch.no_grad()
def average_maps(
    model: ImageModel,
    photos: Sequence[Tensor],
    transform: Callable[[Tensor, torch.Generator], Tensor] | None,
    batch: int = 64,
) -> np.ndarray:
    """Compute the backbone's last map of photos, averaged over its places: what the global projection starts
    from.

    Args:
        model, photos, transform, batch: as of `extract_features`.

    Returns:
        (N, channels) float32, not normalized.
    """
    model.eval().to(device=device(), memory_format=torch.channels_last)
    rows = np.arange(len(photos))
    parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    forward = map_of(model)
    own = ranks.share(len(parts))
    loader = PhotoBatches(photos, parts, transform).loader(own.start, stop=own.stop)
    averages = [
        forward(images).float().mean(dim=(2, 3)).cpu().numpy()
        for images in tqdm(
            loader,
            total=own.stop - own.start,
            desc="average the last map",
            unit="batch",
            disable=not ranks.first(),
        )
    ]
    (joined,) = ranks.gather_arrays([np.concatenate(averages)] if averages else [])
    return joined
