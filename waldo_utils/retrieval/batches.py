"""Batches of photos, prepared while the network works; batch i depends on the seed and on i alone."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from waldo_utils.data.transforms import TrainTransform
from waldo_utils.models.devices import device, loader_threads


class PhotoBatches:
    """Batches of transformed photos, each (B, 3, size, size) in [0, 1]; or of a trunk's maps as they are.

    Item i depends on (`seed`, i) alone, so that any number of threads gives the same photos, and so does a
    loader that starts at a later batch.

    Args:
        photos: photo i as a (3, h, w) uint8 tensor, for example a `photo_cache.PhotoCache`; or its map.
        batches: rows of `photos`, one array per batch.
        transform: photo and random generator to (3, size, size) in [0, 1]; None: items stay as they are.
        seed: of the random generators.
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        batches: list[np.ndarray],
        transform: Callable[[Tensor, torch.Generator], Tensor] | None,
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
        photos = self._photos(i)
        if self.transform is not None:
            photos = [self.transform(photo, generator) for photo in photos]
        return torch.stack(photos)

    def _photos(self, i: int) -> list[Tensor]:
        return [self.photos[int(row)] for row in self.batches[i]]

    def _generator(self, i: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + i)

    def loader(self, start: int = 0, threads: int | None = None, stop: int | None = None) -> Iterator[Tensor]:
        """Yield the batches in order, on the device that models run on.

        Args:
            start: the first of them.
            threads: that prepare batches while the network works; 0: each when it is asked for;
                None: as suits the machine.
            stop: the first that is not wanted any more; None: all are.
        """
        stop = len(self) if stop is None else stop
        threads = loader_threads() if threads is None else threads
        pinned = device().type == "cuda"  # page-locked memory is copied while the GPU computes

        def prepare(i: int) -> Tensor:
            return self[i].pin_memory() if pinned else self[i]

        def prepared() -> Iterator[Tensor]:
            if not threads:
                yield from map(prepare, range(start, stop))
                return
            waiting: deque = deque()
            with ThreadPoolExecutor(threads) as pool:
                try:
                    for i in range(start, stop):
                        waiting.append(pool.submit(prepare, i))
                        if len(waiting) > threads:
                            yield waiting.popleft().result()
                    while waiting:
                        yield waiting.popleft().result()
                finally:
                    for batch in waiting:
                        batch.cancel()

        for batch in prepared():
            yield batch.to(device=device(), non_blocking=pinned)


class CropBatches(PhotoBatches):
    """Batches of random crops for training, each (B, 3, size, size) uint8; see `PhotoBatches`.

    Args:
        own: of each batch the places of the photos that are wanted, which are cropped as in the whole batch;
            None: all are.
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        batches: list[np.ndarray],
        crop: TrainTransform | None,
        seed: int,
        own: list[np.ndarray] | None = None,
    ):
        super().__init__(photos, batches, crop, seed)
        self.own = own

    def __getitem__(self, i: int) -> Tensor:
        return self.transform.batch(self._photos(i), self._generator(i), self._own(i))

    def _own(self, i: int) -> np.ndarray | None:
        return None if self.own is None else self.own[i]
