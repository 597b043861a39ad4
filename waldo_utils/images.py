"""Photos: decoded once into a cache, then cropped and transformed."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from waldo_utils.artifacts import read_array, write_atomically
from waldo_utils.faults import Fault, explain, refuse
from waldo_utils.models import IMAGENET_MEAN, IMAGENET_STD

UNREADABLE = ("cannot be read as photos", "restore or remove them")
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "PPM",
)  # Pillow's others run helpers, as EPS does
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what makes the photo upright


def read_photo(source: Path | BinaryIO, name: str | None = None) -> Image.Image:
    """Return a photo upright (EXIF rotation applied) and in RGB.

    Grey, palette, CMYK, 16-bit and floating-point photos are converted, transparent parts become white, of an animation
    the first frame counts. What a file holds is told by its content, not its name.

    Args:
        source: a file, or the opened bytes of one.
        name: what errors call it; None: its path.

    Raises:
        ValueError: the file is no photo, is cut off, or is too large to be decoded safely; names the file.
    """
    path = name or source
    try:
        if isinstance(source, Path) and not source.is_file():  # a pipe or a device would be read without end
            raise ValueError("it is a folder or a device" if source.exists() else "there is no such file")
        with Image.open(source, formats=_formats()) as opened:
            opened.load()
            turn = TURNS.get(_orientation(opened))
            return _in_rgb(opened if turn is None else opened.transpose(turn))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} is too large ({error}): scale it down or remove it") from None
    except (
        Exception
    ) as error:  # decoders meet broken files with whatever comes: IndexError, struct.error, ...
        if _is_heic(source):
            raise ValueError(
                f"{path} is a HEIC photo, which is not read here: export it as JPEG "
                "(iPhone: Settings, Camera, Formats, Most Compatible)"
            ) from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"it is none of {', '.join(_formats())}"
        raise ValueError(f"{path} cannot be read as a photo ({reason}): restore or remove it") from None


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are read, of those that Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(photo: Image.Image) -> int:
    """Return how EXIF says a photo lies, 1 to 8; a damaged EXIF says nothing, and the photo is as good without it."""
    try:
        return photo.getexif().get(0x0112, 1)
    except Exception:  # whatever the parser meets
        return 1


def _in_rgb(photo: Image.Image) -> Image.Image:
    """Return an opened photo of any mode in RGB."""
    if photo.mode.startswith(("I", "F")):  # 16 or 32 bit grey, or floating point
        values = np.asarray(photo, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("some of its values are not finite")
        highest = values.max(initial=0)
        scale = 255 / 65535 if highest > 255 else 255 if photo.mode == "F" and highest <= 1 else 1
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
            if not source.is_file():
                return False
            with source.open("rb") as file:
                head = file.read(12)
        else:
            source.seek(0)
            head = source.read(12)
    except (OSError, ValueError):
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
        ValueError: photos cannot be read; all are listed in `unreadable.csv` of the folder.
        OSError: the disk has too little room; gives the figure.
    """
    files = [root / path for path in manifest.path]
    listing = [[path, file.stat().st_size] for path, file in zip(manifest.path, files, strict=True)]
    fingerprint = hashlib.sha256(json.dumps([size, listing]).encode()).hexdigest()
    if (folder / "fingerprint.txt").exists() and (folder / "fingerprint.txt").read_text() == fingerprint:
        try:
            return open_cache(folder)
        except ValueError:
            pass  # damaged since: made again
    folder.mkdir(parents=True, exist_ok=True)
    needed = len(files) * 3 * size * size * 3 // 2  # with aspect ratios up to 3 : 2
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the photo cache needs about {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB: make room"
        )

    def decode(file: Path) -> np.ndarray | str:
        try:
            return np.asarray(shrink(read_photo(file), size))
        except ValueError as error:
            return str(error)

    shapes = np.empty((len(files), 2), dtype=np.int64)

    def write(partial: Path) -> None:
        unreadable: list[Fault] = []
        with partial.open("wb") as out, ThreadPoolExecutor() as pool:
            for start in tqdm(range(0, len(files), 256), desc="decode photos", unit="batch"):
                for i, photo in enumerate(pool.map(decode, files[start : start + 256]), start):
                    if isinstance(photo, str):
                        unreadable.append(Fault(str(manifest.path.iloc[i]), *UNREADABLE, photo))
                    elif not unreadable:  # else the rest is read only to name all that fail
                        shapes[i] = photo.shape[:2]
                        out.write(photo.tobytes())
        refuse(unreadable, folder / "unreadable.csv")

    (folder / "fingerprint.txt").unlink(missing_ok=True)
    try:
        write_atomically(folder / "pixels.bin", write)
        write_atomically(folder / "shapes.npy", lambda partial: np.save(partial, shapes))
        write_atomically(folder / "fingerprint.txt", lambda partial: partial.write_text(fingerprint))
    except OSError as error:
        free = shutil.disk_usage(folder).free
        raise OSError(
            f"the photo cache, about {needed / 1e9:.1f} GB, could not be written to {folder}, which has "
            f"{free / 1e9:.1f} GB free: {explain(error)}"
        ) from None
    return open_cache(folder)


def open_cache(folder: Path) -> PhotoCache:
    """Open a photo cache.

    Raises:
        FileNotFoundError: there is none, or it is not finished.
        ValueError: it is damaged.
    """
    if not (folder / "fingerprint.txt").exists():
        raise FileNotFoundError(f"there is no photo cache in {folder}: run notebook 01_prepare_data")
    try:
        shapes = np.array(read_array(folder / "shapes.npy"))
        pixels = np.memmap(folder / "pixels.bin", np.uint8, mode="r")
        if shapes.ndim != 2 or len(pixels) != 3 * shapes.prod(axis=1).sum():
            raise ValueError(f"it holds {len(pixels)} bytes for shapes {shapes.shape}")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the photo cache in {folder} is damaged ({error}): run notebook 01_prepare_data"
        ) from None
    return PhotoCache(pixels, shapes)


# ---------------------------------------------------------------- transforms of one photo


class TrainTransform:
    """A random crop, resized to a square, perhaps mirrored (torchvision's RandomResizedCrop and flip).

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
        top, left, height, width = self._crop(*photo.shape[1:], generator)
        crop = photo[:, top : top + height, left : left + width]
        result = _resize(crop, self.size, self.size)
        return result.flip(2) if torch.rand((), generator=generator) < self.flip else result

    def _crop(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        """Return top, left, height, width of a crop: ten tries, then the middle, as torchvision does."""
        low, high = math.log(3 / 4), math.log(4 / 3)
        for _ in range(10):
            draw = torch.rand(4, generator=generator)
            area = height * width * float(self.scale[0] + (self.scale[1] - self.scale[0]) * draw[0])
            ratio = math.exp(low + (high - low) * float(draw[1]))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int((height - h + 1) * draw[2]), int((width - w + 1) * draw[3]), h, w
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        return (height - h) // 2, (width - w) // 2, h, w


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
