"""The crops of training and of the test."""

import math

import numpy as np
import torch
from torch import Tensor


class TrainTransform:
    """A random crop, resized to a square, perhaps mirrored (torchvision's RandomResizedCrop and flip).

    Photos stay bytes, as torchvision keeps them: a quarter of the time and of the memory of float32.

    Args:
        size: of the result in pixels.
        scale: share of the photo's area that a crop holds, from and to.
        flip: chance of mirroring.
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.08, 1.0), flip: float = 0.5):
        self.size = size
        self.scale = scale
        self.flip = flip

    def __call__(self, photo: Tensor, generator: torch.Generator) -> Tensor:
        """Return (3, size, size) in [0, 1] of a (3, h, w) uint8 photo."""
        return self.batch([photo], generator)[0] / 255

    def batch(
        self, photos: list[Tensor], generator: torch.Generator, places: np.ndarray | None = None
    ) -> Tensor:
        """Return (B, 3, size, size) uint8, channels last, of B photos, each (3, h, w) uint8; of those at
        `places` alone, where given, cropped as with all the others."""
        crops = self.crops(np.array([photo.shape[1:] for photo in photos]), generator).tolist()
        mirrored = (torch.rand(len(photos), generator=generator) < self.flip).tolist()
        places = range(len(photos)) if places is None else places
        result = torch.empty(len(places), self.size, self.size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        for i, place in enumerate(places):
            top, left, height, width = crops[place]
            crop = photos[place][None, :, top : top + height, left : left + width]
            square = torch.nn.functional.interpolate(
                crop, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
            result[i] = square[0].flip(2) if mirrored[place] else square[0]
        return result

    def crops(self, shapes: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Draw one crop of each photo: the first of ten tries that fits, else the middle, as torchvision
        does.

        Args:
            shapes: (B, 2) height and width of the photos.
            generator: decides the draws.

        Returns:
            (B, 4) top, left, height and width of the crops.
        """
        height, width = shapes[:, :1], shapes[:, 1:]  # (B, 1)
        draw = torch.rand(4, len(shapes), 10, generator=generator, dtype=torch.float64).numpy()
        area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * draw[0])  # (B, 10)
        ratio = np.exp(math.log(4 / 3) * (2 * draw[1] - 1))  # 3 / 4 to 4 / 3, evenly in its logarithm
        w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        tries = np.stack([(height - h + 1) * draw[2], (width - w + 1) * draw[3], h, w], axis=2)  # (B, 10, 4)
        first = tries[np.arange(len(shapes)), fits.argmax(axis=1)]  # (B, 4)
        h, w = np.minimum(height, np.rint(width * 4 / 3)), np.minimum(width, np.rint(height * 4 / 3))
        middle = np.hstack([(height - h) // 2, (width - w) // 2, h, w])  # (B, 4)
        return np.where(fits.any(axis=1, keepdims=True), first, middle).astype(np.int64)


class TestTransform:
    """Resized to a square without keeping the aspect ratio, then cropped to its middle, as published.

    Args:
        resize: side of the square in pixels.
        crop: side of the middle that is kept; equal to `resize`: no crop.
    """

    __test__ = False  # not a test of pytest's

    def __init__(self, resize: int, crop: int):
        if crop > resize:
            raise ValueError(f"cannot crop {crop} pixels from a photo of {resize}: make the crop smaller")
        self.resize = resize
        self.crop = crop

    def __call__(self, photo: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (3, crop, crop) in [0, 1] of a (3, h, w) uint8 photo."""
        start = (self.resize - self.crop) // 2
        square = _resize(photo, self.resize, self.resize)
        return square[:, start : start + self.crop, start : start + self.crop]


def _resize(photo: Tensor, height: int, width: int) -> Tensor:
    """Return a uint8 photo resized (bilinear, antialiased) as float32 in [0, 1]."""
    resized = torch.nn.functional.interpolate(
        photo[None].float(), (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].div(255).clamp(0, 1)
