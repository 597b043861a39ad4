"""Photos: decoded once into a cache, then cropped and transformed."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from waldo_utils.artifacts import write_atomically
from waldo_utils.models import IMAGENET_MEAN, IMAGENET_STD


def read_photo(source: Path | BinaryIO, name: str | None = None) -> Image.Image:
    """Return a photo upright (EXIF rotation applied) and in RGB.

    Grey, palette, CMYK and 16-bit photos are converted, transparent parts become white, of an animation the first
    frame counts.

    Args:
        source: a file, or the opened bytes of one.
        name: what errors call it; None: its path.

    Raises:
        ValueError: the file is no photo, is cut off, or is too large to be decoded safely; names the file.
    """
    path = name or source
    try:
        with Image.open(source) as opened:
            photo = ImageOps.exif_transpose(opened)
            photo.load()
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large ({error}): scale it down or remove it") from None
    except (OSError, SyntaxError, ValueError) as error:
        if _is_heic(source):
            raise ValueError(
                f"{path} is a HEIC photo, which is not read here: export it as JPEG "
                "(iPhone: Settings, Camera, Formats, Most Compatible)"
            ) from None
        raise ValueError(f"{path} cannot be read as a photo ({error}): restore or remove it") from None
    if photo.mode.startswith("I"):  # 16 or 32 bit grey
        values = np.asarray(photo, dtype=np.float64)
        scale = 255 / 65535 if values.max(initial=0) > 255 else 1
        return Image.fromarray((values * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if photo.mode in ("RGBA", "LA", "PA") or "transparency" in photo.info:
        photo = photo.convert("RGBA")
        white = Image.new("RGBA", photo.size, "white")
        return Image.alpha_composite(white, photo).convert("RGB")
    return photo.convert("RGB")


def shrink(photo: Image.Image, side: int) -> Image.Image:
    """Return a photo with its shorter side scaled down to `side` pixels; smaller photos stay as they are."""
    scale = side / min(photo.size)
    if scale >= 1:
        return photo
    size = (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1))
    return photo.resize(size, Image.Resampling.BICUBIC)


def _is_heic(source: Path | BinaryIO) -> bool:
    """Return whether a file starts like one of the HEIF family, as iPhones write it."""
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                head = file.read(12)
        else:
            source.seek(0)
            head = source.read(12)
    except OSError:
        return False
    return head[4:8] == b"ftyp" and head[8:12] in (
        b"heic",
        b"heix",
        b"hevc",
        b"heim",
        b"heis",
        b"mif1",
        b"msf1",
    )


class PhotoCache:
    """Decoded photos in one memory-mapped file, each in its own aspect ratio.

    Item i is photo i as a (3, h, w) uint8 tensor. Made by `build_cache`, opened by `open_cache`.
    """

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray, rows: np.ndarray | None = None):
        self.pixels = pixels  # (bytes,)
        self.shapes = shapes  # (N, 2) height, width
        sizes = 3 * shapes.prod(axis=1)
        self.starts = np.cumsum(sizes) - sizes
        self.rows = np.arange(len(shapes)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        row = self.rows[i]
        height, width = self.shapes[row]
        start = self.starts[row]
        flat = self.pixels[start : start + 3 * height * width]
        return torch.from_numpy(np.array(flat).reshape(height, width, 3)).permute(2, 0, 1)

    def image(self, i: int) -> Image.Image:
        """Return photo i as a picture to look at."""
        return Image.fromarray(self[i].permute(1, 2, 0).numpy())

    def subset(self, rows: np.ndarray) -> "PhotoCache":
        """Return a view of some photos, in the order of `rows`."""
        return PhotoCache(self.pixels, self.shapes, self.rows[np.asarray(rows)])


class PhotoFiles:
    """Photos decoded from their files at each look, at full size: for a single pass, where a cache is not worth it.

    Item i is photo i as a (3, h, w) uint8 tensor.

    Args:
        manifest: rows with `path`.
        root: what the paths are relative to.
    """

    def __init__(self, manifest: pd.DataFrame, root: Path):
        self.files = [root / path for path in manifest.path]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(np.array(read_photo(self.files[i]))).permute(2, 0, 1)


def build_cache(manifest: pd.DataFrame, root: Path, folder: Path, size: int) -> PhotoCache:
    """Decode all photos of a manifest into a cache, or open it if it is there.

    Args:
        manifest: rows with `path`.
        root: what the paths are relative to.
        folder: of the cache.
        size: the photos' shorter side is scaled down to so many pixels; smaller photos stay as they are.

    Raises:
        ValueError: a photo cannot be read.
        OSError: the disk has too little room; gives the figure.
    """
    files = [root / path for path in manifest.path]
    listing = [[path, file.stat().st_size] for path, file in zip(manifest.path, files, strict=True)]
    fingerprint = hashlib.sha256(json.dumps([size, listing]).encode()).hexdigest()
    if (folder / "fingerprint.txt").exists() and (folder / "fingerprint.txt").read_text() == fingerprint:
        return open_cache(folder)
    folder.mkdir(parents=True, exist_ok=True)
    needed = len(files) * 3 * size * size * 3 // 2  # with aspect ratios up to 3 : 2
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the photo cache needs about {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB: make room"
        )

    def decode(file: Path) -> np.ndarray:
        return np.asarray(shrink(read_photo(file), size))

    shapes = np.empty((len(files), 2), dtype=np.int64)

    def write(partial: Path) -> None:
        with partial.open("wb") as out, ThreadPoolExecutor() as pool:
            for start in tqdm(range(0, len(files), 256), desc="decode photos", unit="batch"):
                for i, photo in enumerate(pool.map(decode, files[start : start + 256]), start):
                    shapes[i] = photo.shape[:2]
                    out.write(photo.tobytes())

    (folder / "fingerprint.txt").unlink(missing_ok=True)
    write_atomically(folder / "pixels.bin", write)
    write_atomically(folder / "shapes.npy", lambda partial: np.save(partial, shapes))
    write_atomically(folder / "fingerprint.txt", lambda partial: partial.write_text(fingerprint))
    return open_cache(folder)


def open_cache(folder: Path) -> PhotoCache:
    """Open a photo cache.

    Raises:
        FileNotFoundError: there is none, or it is not finished.
    """
    if not (folder / "fingerprint.txt").exists():
        raise FileNotFoundError(f"there is no photo cache in {folder}: run notebook 01_prepare_data")
    return PhotoCache(np.memmap(folder / "pixels.bin", np.uint8, mode="r"), np.load(folder / "shapes.npy"))


# ---------------------------------------------------------------- transforms of one photo


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

    def batch(self, photos: list[Tensor], generator: torch.Generator) -> Tensor:
        """Return (B, 3, size, size) uint8, channels last, of B photos, each (3, h, w) uint8."""
        crops = self.crops(np.array([photo.shape[1:] for photo in photos]), generator).tolist()
        mirrored = (torch.rand(len(photos), generator=generator) < self.flip).tolist()
        result = torch.empty(len(photos), self.size, self.size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        for i, (photo, (top, left, height, width)) in enumerate(zip(photos, crops, strict=True)):
            crop = photo[None, :, top : top + height, left : left + width]
            square = torch.nn.functional.interpolate(
                crop, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
            result[i] = square[0].flip(2) if mirrored[i] else square[0]
        return result

    def crops(self, shapes: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Draw one crop of each photo: the first of ten tries that fits, else the middle, as torchvision does.

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


def preview(photo: Tensor, transform: Callable, batch_transform: Callable | None) -> Tensor:
    """Return one photo as the models would see it, clipped to [0, 1] for the eye; the generator starts at 0."""
    generator = torch.Generator().manual_seed(0)
    batch = transform(photo, generator)[None]
    return (batch if batch_transform is None else batch_transform(batch, generator))[0].clamp(0, 1)


# ---------------------------------------------------------------- transforms of the ablations, on (B, 3, H, W) in [0, 1]


def perspective(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Move each photo's corners inwards by up to half of half its side (RandomPerspective, distortion 0.5)."""
    from torchvision.transforms.v2 import functional

    side, result = batch.shape[-1], torch.empty_like(batch)
    corners = [[0, 0], [side - 1, 0], [side - 1, side - 1], [0, side - 1]]
    for i, photo in enumerate(batch):
        move = (torch.rand(4, 2, generator=generator) * 0.5 * side / 2).round().int().tolist()
        ends = [
            [x + dx if x == 0 else x - dx, y + dy if y == 0 else y - dy]
            for (x, y), (dx, dy) in zip(corners, move, strict=True)
        ]
        result[i] = functional.perspective(photo, corners, ends)
    return result.clamp(0, 1)


def grayscale(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the colors by their luminance."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (batch * weights).sum(dim=1, keepdim=True).expand_as(batch).contiguous()


def contrast(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Stretch each photo about its mean luminance by a factor of 0.5 to 1.5."""
    factor = 0.5 + torch.rand(len(batch), 1, 1, 1, generator=generator)
    mean = grayscale(batch, generator).mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (batch - mean) * factor).clamp(0, 1)


def blur(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Blur each photo by a Gaussian of sigma 0.1 to 2 pixels at 224 (a kernel of 23), in proportion at other sizes."""
    from torchvision.transforms.v2 import functional

    scale = batch.shape[-1] / 224
    kernel = 2 * round(11 * scale) + 1
    result = torch.empty_like(batch)
    for i, photo in enumerate(batch):
        sigma = (0.1 + 1.9 * float(torch.rand((), generator=generator))) * scale
        result[i] = functional.gaussian_blur(photo, [kernel, kernel], [sigma, sigma])
    return result.clamp(0, 1)


def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the photos."""
    mirrored = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(3), batch)


def normalization(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Normalize by ImageNet's mean and standard deviation, which the model does once more: the result leaves [0, 1]."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (batch - mean) / std


def rotation(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Turn each photo by up to 15 degrees."""
    from torchvision.transforms.v2 import functional

    angles = (torch.rand(len(batch), generator=generator) * 30 - 15).tolist()
    return torch.stack(
        [
            functional.rotate(photo, angle, functional.InterpolationMode.BILINEAR)
            for photo, angle in zip(batch, angles, strict=True)
        ]
    ).clamp(0, 1)


def noise(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation 0.05."""
    return (batch + 0.05 * torch.randn(batch.shape, generator=generator)).clamp(0, 1)


ABLATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "perspective": perspective, "grayscale": grayscale, "contrast": contrast, "blur": blur, "flip": flip,
    "normalization": normalization, "rotation": rotation, "noise": noise,
}  # fmt: skip
