"""The maps that a frozen trunk gives of photos, computed once: what follows then costs a fraction of the
network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils import ranks
from waldo_utils.data.transforms import TestTransform, TrainTransform
from waldo_utils.disk.resumable import ResumableArrays, fingerprint
from waldo_utils.models.devices import device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import trunk_of
from waldo_utils.retrieval.batches import CropBatches, PhotoBatches


class TrunkMaps(Sequence):
    """The trunk's maps of N photos, each in one or several views: item i is that of photo i in its plain
    view.

    Args:
        maps: (N, V, c, h, w) float16; view 0 is the photo as the test sees it, the others are random crops.
        rows: of the photos, in their order; None: all.
    """

    def __init__(self, maps: np.ndarray, rows: np.ndarray | None = None):
        self.maps = maps
        self.rows = np.arange(len(maps)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(np.array(self.maps[self.rows[i], 0]))

    def subset(self, rows: np.ndarray) -> "TrunkMaps":
        """Return a view of some photos, in the order of `rows`."""
        return TrunkMaps(self.maps, self.rows[np.asarray(rows)])

    def draw(
        self, rows: Sequence[int], generator: torch.Generator, places: np.ndarray | None = None
    ) -> Tensor:
        """Return a (B, c, h, w) float16 batch: of each photo in `rows` one of its views; of those at `places`
        alone, where given, drawn as with all the others."""
        views = torch.randint(self.maps.shape[1], (len(rows),), generator=generator).numpy()
        places = slice(None) if places is None else places
        return torch.from_numpy(self.maps[self.rows[np.asarray(rows)][places], views[places]])


class ViewBatches(CropBatches):
    """Batches for training from the trunk's maps, a view of each photo drawn at random: (B, c, h, w)
    float16."""

    def __init__(
        self, photos: TrunkMaps, batches: list[np.ndarray], seed: int, own: list[np.ndarray] | None = None
    ):
        super().__init__(photos, batches, None, seed, own)

    def __getitem__(self, i: int) -> Tensor:
        return self.photos.draw(self.batches[i], self._generator(i), self._own(i))


def training_batches(
    photos: Sequence[Tensor],
    batches: list[np.ndarray],
    crop: TrainTransform,
    seed: int,
    own: list[np.ndarray] | None = None,
) -> CropBatches:
    """Return the batches of an epoch, or one process's part of them: crops of photos, or views of the trunk's
    maps (see `CropBatches`)."""
    if isinstance(photos, TrunkMaps):
        return ViewBatches(photos, batches, seed, own)
    return CropBatches(photos, batches, crop, seed, own)


@torch.no_grad()
def compute_trunk_maps(
    model: ImageModel,
    photos: Sequence[Tensor],
    plain: TestTransform,
    crop: TrainTransform | None = None,
    views: int = 1,
    seed: int = 0,
    batch: int = 32,
    partial: Path | None = None,
) -> np.ndarray:
    """Compute the maps that a model's trunk gives of photos, one plain view and `views` - 1 random crops
    each.

    Args:
        model: its trunk is used; it is put into eval mode.
        photos: N photos, each a (3, h, w) uint8 tensor.
        plain: of view 0.
        crop: of the other views; needed only where there are any.
        views: V, per photo.
        seed: of the crops.
        batch: photos per forward pass.
        partial: a folder that keeps what is done until all is, as of `features.extract_features`.

    Returns:
        (N, V, c, h, w) float16, see `TrunkMaps`.

    Raises:
        ValueError: the backbone has no trunk that could stay as it starts.
        OSError: the disk has too little room for what is to be kept.
    """
    if model.backbone.trunk_channels == 3:
        raise ValueError(
            f"{type(model.backbone).__name__} has no trunk to compute once: set `views` to 0 to train all"
            " of it"
        )
    model.eval().to(device=device(), memory_format=torch.channels_last)
    trunk = trunk_of(model)
    rows = np.arange(len(photos))
    parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    content = partial and fingerprint(
        model, vars(plain), vars(crop) if crop else None, views, seed, batch, len(photos)
    )
    own = ranks.share(len(parts))
    count = sum(map(len, parts[own]))
    kept = ResumableArrays(partial if ranks.WORLD == 1 else None, count, content)
    start = own.start + kept.done // batch
    loaders = [PhotoBatches(photos, parts, plain).loader(start, stop=own.stop)]
    loaders += [
        CropBatches(photos, parts, crop, seed * 1000 + view).loader(start, stop=own.stop)
        for view in range(1, views)
    ]
    with tqdm(
        total=count * views,
        initial=kept.done * views,
        desc="compute the trunk",
        unit="photo",
        disable=not ranks.first(),
    ) as bar:
        for images in zip(*loaders, strict=True):
            maps = [trunk(view).to(torch.float16).cpu().numpy() for view in images]  # V of (B, c, h, w)
            kept.append(np.stack(maps, axis=1))
            bar.update(views * len(maps[0]))
    (maps,) = ranks.gather_arrays(kept.finish())
    return maps
