"""Photos to features: one pass of the image model over a list of photos."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils.data.transforms import TrainTransform
from waldo_utils.disk.resumable import ResumableArrays, fingerprint
from waldo_utils.models.devices import autocast, device, loader_threads
from waldo_utils.models.image_model import ImageModel


class PhotoBatches:
    """Batches of transformed photos, each (B, 3, size, size) in [0, 1].

    Item i depends on (`seed`, i) alone, so that any number of threads gives the same photos, and so does a
    loader that starts at a later batch.

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
        generator = self._generator(i)
        return torch.stack([self.transform(photo, generator) for photo in self._photos(i)])

    def _photos(self, i: int) -> list[Tensor]:
        return [self.photos[int(row)] for row in self.batches[i]]

    def _generator(self, i: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + i)

    def loader(self, start: int = 0, threads: int | None = None) -> Iterator[Tensor]:
        """Yield the batches in order, on the device that models run on, channels last.

        Args:
            start: the first of them.
            threads: that prepare batches while the network works; 0: each when it is asked for;
                None: as suits the machine.
        """
        threads = loader_threads() if threads is None else threads
        pinned = device().type == "cuda"  # page-locked memory is copied while the GPU computes

        def prepare(i: int) -> Tensor:
            return self[i].pin_memory() if pinned else self[i]

        def prepared() -> Iterator[Tensor]:
            if not threads:
                yield from map(prepare, range(start, len(self)))
                return
            waiting: deque = deque()
            with ThreadPoolExecutor(threads) as pool:
                try:
                    for i in range(start, len(self)):
                        waiting.append(pool.submit(prepare, i))
                        if len(waiting) > threads:
                            yield waiting.popleft().result()
                    while waiting:
                        yield waiting.popleft().result()
                finally:
                    for batch in waiting:
                        batch.cancel()

        for batch in prepared():
            yield batch.to(device=device(), memory_format=torch.channels_last, non_blocking=pinned)


class CropBatches(PhotoBatches):
    """Batches of random crops for training, each (B, 3, size, size) uint8; see `PhotoBatches`."""

    def __init__(self, photos: Sequence[Tensor], batches: list[np.ndarray], crop: TrainTransform, seed: int):
        super().__init__(photos, batches, crop, seed)

    def __getitem__(self, i: int) -> Tensor:
        return self.transform.batch(self._photos(i), self._generator(i))


@torch.no_grad()
def extract_features(
    model: ImageModel,
    photos: Sequence[Tensor],
    transform: Callable[[Tensor, torch.Generator], Tensor],
    batch: int = 64,
    partial: Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the global and local features of photos.

    Args:
        model: the image model; it is put into eval mode.
        photos: N photos, each a (3, h, w) uint8 tensor, for example an `images.PhotoCache`.
        transform: see `PhotoBatches`.
        batch: photos per forward pass.
        partial: a folder that keeps what is done until all is, so that a killed extraction goes on there;
            None: nothing is kept. It tells other weights, transforms and numbers of photos by itself, other
                photos
            by its name: see `artifacts.partial_path`.

    Returns:
        Global features (N, D) float32, unit length, and local features (N, D, h, w) float16.

    Raises:
        OSError: the disk has too little room for what is to be kept.
    """
    model.eval().to(device=device(), memory_format=torch.channels_last)
    rows = np.arange(len(photos))
    parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    content = partial and fingerprint(
        model,
        type(transform).__name__,
        vars(transform),
        batch,
        len(photos),
    )
    kept = ResumableArrays(partial, len(photos), content)
    start = kept.done // batch
    loader = PhotoBatches(photos, parts, transform).loader(start)
    for images in tqdm(loader, initial=start, total=len(parts), desc="extract features", unit="batch"):
        with autocast():
            embedding, local = model(images)
        kept.append(embedding.float().cpu().numpy(), local.to(torch.float16).cpu().numpy())
    embedding, local = kept.finish()
    return embedding, local
