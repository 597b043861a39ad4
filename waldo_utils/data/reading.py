"""One reader of photos: a file of any kind that is accepted, to an upright picture in RGB."""

from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

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

    Grey, palette, CMYK, 16-bit and floating-point photos are converted, transparent parts become white, of an
    animation the first frame counts. What a file holds is told by its content, not its name.

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
            return in_rgb(opened if turn is None else opened.transpose(turn))
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
    """Return how EXIF says a photo lies, 1 to 8; a damaged EXIF says nothing, and the photo is as good
    without it."""
    try:
        return photo.getexif().get(0x0112, 1)
    except Exception:  # whatever the parser meets
        return 1


def in_rgb(photo: Image.Image) -> Image.Image:
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
