"""Photos: decoded once into a cache, then cropped and transformed."""

import hashlib
import inspect
import json
import math
import os
import shutil
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

from waldo_utils.disk.artifacts import read_array
from waldo_utils.disk.faults import Fault, explain, refuse
from waldo_utils.disk.files import rename, sha256, write_atomically
from waldo_utils.disk.locks import hold

DECODED = 256  # photos between two notes of how far a cache has come
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
    """Decode all photos of a manifest into a cache, or open it if it is there; an interrupted one is finished.

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
    facts = [file.stat() for file in files]
    listing = [[p, f.st_size, f.st_mtime_ns] for p, f in zip(manifest.path, facts, strict=True)]
    code = [inspect.getsource(function) for function in (read_photo, _in_rgb, shrink)]
    fingerprint = hashlib.sha256(json.dumps([size, listing, code]).encode()).hexdigest()
    if (folder / "fingerprint.txt").exists() and (folder / "fingerprint.txt").read_text() == fingerprint:
        try:
            return open_cache(folder)
        except ValueError:
            pass  # damaged since: made again
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the photo cache has no place: {explain(error)}") from None
    needed = len(files) * 3 * size * size * 3 // 2  # with aspect ratios up to 3 : 2
    free, begun = shutil.disk_usage(folder).free, folder / "begun.bin"
    if needed > free + (
        begun.stat().st_size if begun.exists() else 0
    ):  # what is begun need not be written again
        raise OSError(
            f"the photo cache needs about {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB: make room"
        )

    (folder / "fingerprint.txt").unlink(missing_ok=True)
    try:
        with hold(folder / ".lock"):
            pixels, shapes = _decode(files, manifest.path.tolist(), folder, size, fingerprint)
            rename(pixels, folder / "pixels.bin")
            write_atomically(folder / "shapes.npy", lambda partial: np.save(partial, shapes))
            content = sha256(folder / "pixels.bin")
            write_atomically(folder / "content.txt", lambda partial: partial.write_text(content))
            write_atomically(folder / "fingerprint.txt", lambda partial: partial.write_text(fingerprint))
            (folder / "begun.json").unlink()
    except OSError as error:
        free = shutil.disk_usage(folder).free
        raise OSError(
            f"the photo cache, about {needed / 1e9:.1f} GB, could not be written to {folder}, which has "
            f"{free / 1e9:.1f} GB free: {explain(error)}"
        ) from None
    return open_cache(folder)


def _decode(
    files: list[Path], names: list[str], folder: Path, size: int, fingerprint: str
) -> tuple[Path, np.ndarray]:
    """Decode photos into one file, going on after those that an interrupted run has decoded.

    Returns:
        The file of their pixels and (N, 2) height and width.
    """

    def decode(file: Path) -> np.ndarray | str:
        try:
            return np.asarray(shrink(read_photo(file), size))
        except ValueError as error:
            return str(error)

    pixels, begun, shapes = folder / "begun.bin", folder / "begun.json", []
    try:
        record = json.loads(begun.read_text())
        written = 3 * sum(height * width for height, width in record["shapes"])
        if record["fingerprint"] == fingerprint and pixels.stat().st_size >= written:
            shapes = record["shapes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # nothing is begun, or its record is damaged
    unreadable: list[Fault] = []
    with pixels.open("ab") as out, ThreadPoolExecutor() as pool:
        out.truncate(3 * sum(height * width for height, width in shapes))
        for start in tqdm(range(len(shapes), len(files), DECODED), desc="decode photos", unit="batch"):
            for i, photo in enumerate(pool.map(decode, files[start : start + DECODED]), start):
                if isinstance(photo, str):
                    unreadable.append(Fault(str(names[i]), *UNREADABLE, photo))
                elif not unreadable:  # else the rest is read only to name all that fail
                    shapes.append(photo.shape[:2])
                    out.write(photo.tobytes())
            out.flush()
            os.fsync(out.fileno())
            record = json.dumps({"fingerprint": fingerprint, "shapes": shapes})
            write_atomically(begun, lambda partial, record=record: partial.write_text(record))
    refuse(unreadable, folder / "unreadable.csv")
    return pixels, np.array(shapes, dtype=np.int64)


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
        changed = (folder / "pixels.bin").stat().st_mtime_ns > (folder / "fingerprint.txt").stat().st_mtime_ns
        if changed and sha256(folder / "pixels.bin") != (folder / "content.txt").read_text():
            raise ValueError("its bytes are not those that were recorded")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the photo cache in {folder} is damaged ({error}): run notebook 01_prepare_data"
        ) from None
    return PhotoCache(pixels, shapes)


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
