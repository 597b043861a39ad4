"""One reader of photos: a file of any kind that is accepted, to an upright picture in RGB."""

import io
import os
import struct
import threading
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from waldo_utils.data import deep_photos

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
    "HEIF",
)  # Pillow's others run helpers, as EPS does; HEIF where pillow-heif is installed
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what makes the photo upright
MOST_PIXELS = 180_000_000  # are decoded; a JPEG of more at half its scale, a quarter or an eighth
MOST_OF_A_JPEG = 1_000_000_000
READERS = min(
    os.cpu_count() or 1, 8
)  # photos decoded at once: memory does not grow with the processor's cores
LARGE = 2**25  # pixels from which one is decoded at a time
_one_at_a_time = threading.Lock()
TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # what a PNG says beside its picture


def read_photo(source: Path | BinaryIO, name: str | None = None) -> Image.Image:
    """Return a photo upright (EXIF rotation applied) and in RGB.

    Grey, palette and CMYK photos are converted, those of more than 8 bits by the rule of `deep_photos`,
    colors of a profile as they are. Transparent parts become white, of an animation the first frame counts. A
    JPEG of more than 180 megapixels is read at half, a quarter or an eighth of its scale. What a file holds
    is told by its content, not its name.

    Args:
        source: a file, or the opened bytes of one.
        name: what errors call it; None: its path.

    Raises:
        ValueError: the file is no photo, is cut off, is too large (a JPEG of more than a gigapixel, another
            of more than 180 megapixels), or holds values without one meaning; names the file.
    """
    path = name or source
    try:
        if isinstance(source, Path) and not source.is_file():  # a pipe or a device would be read without end
            raise ValueError("it is a folder or a device" if source.exists() else "there is no such file")
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
            try:
                return _upright(file)
            except ValueError as error:
                if "MAX_TEXT" not in str(error):  # Pillow refuses a PNG for a long text beside its picture
                    raise
                return _upright(io.BytesIO(_without_texts(file)))
    except _Refused as error:
        raise ValueError(f"{path} {error}") from None
    except (
        Exception
    ) as error:  # decoders meet broken files with whatever comes: IndexError, struct.error, ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} cannot be read as a photo ({reason}): restore or remove it") from None


class _Refused(ValueError):
    """Why a photo is not read, and what to do; the file's name goes before it."""


def _upright(file: BinaryIO) -> Image.Image:
    """Return the photo in an opened file, upright and in RGB; raises whatever the decoders meet."""
    opened = _open(file)
    pixels = opened.width * opened.height
    most = MOST_OF_A_JPEG if isinstance(opened, JpegImageFile) else MOST_PIXELS
    if pixels > most:
        raise _Refused(f"is too large ({pixels} pixels, and {most} is the most): scale it down or remove it")
    with opened, _one_at_a_time if pixels > LARGE else nullcontext():
        if pixels > MOST_PIXELS:
            scale = next(d for d in (2, 4, 8) if pixels // d**2 <= MOST_PIXELS)
            opened.draft(None, (opened.width // scale, opened.height // scale))
        deep_photos.check_layout(opened)
        if deep_photos.is_deep(opened):
            stated = deep_photos.stated_bits(opened, file)
            photo = deep_photos.color_bytes(opened, lambda: _open(file), stated)
        else:
            stated = deep_photos.stated_bits(opened, file) if opened.mode[0] == "I" else None
            opened.load()
            photo = opened
        turn = TURNS.get(_orientation(opened))
        photo = in_rgb(photo, stated, deep_photos.is_inverted(opened))
        return photo if turn is None else photo.transpose(turn)


def _open(file: BinaryIO) -> ImageFile.ImageFile:
    """Return a photo with its header read; how large it may be is decided here, which `Image.open` would
    do."""
    file.seek(0)
    head, fault = file.read(16), ""
    for name in _formats():
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(head) is True:  # a text says what Pillow lacks
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                fault = fault or f"it begins as {name}, but: {error}"
    if _is_heic(head) and "HEIF" not in _formats():
        raise _Refused(
            "is a HEIC photo, which is read where pillow-heif is installed: install that (the extra `heic`),"
            " or export it as JPEG (iPhone: Settings, Camera, Formats, Most Compatible)"
        )
    raise ValueError(fault or f"it is none of {', '.join(_formats())}")


def looks_like_photo(path: Path) -> bool:
    """Return whether a file begins as a photo does, whatever its name; what cannot be opened does not."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return _is_heic(head) or any(
        accepts is None or accepts(head) is True for accepts in (Image.OPEN[name][1] for name in _formats())
    )


def _without_texts(file: BinaryIO) -> bytes:
    """Return a PNG without the texts and the profile that may be in it."""
    file.seek(0)
    content = file.read()
    chunks = deep_photos.png_chunks(content)
    return deep_photos.PNG + b"".join(content[start:end] for kind, start, end in chunks if kind not in TEXTS)


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are read, of those that Pillow was built with."""
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(photo: Image.Image) -> int:
    """Return how EXIF says a photo lies, 1 to 8; a damaged EXIF says nothing, and the photo is as good
    without it."""
    try:
        return photo.getexif().get(0x0112, 1)
    except Exception:  # whatever the parser meets
        return 1


def in_rgb(photo: Image.Image, stated: int | None = None, inverted: bool = False) -> Image.Image:
    """Return a loaded photo of any mode in RGB.

    Args:
        photo: loaded.
        stated: bits that a grey photo of 16 bits says it has; None: it says nothing.
        inverted: 0 is white in such a photo.

    Raises:
        ValueError: its values have no one meaning (see `deep_photos`).
    """
    key = photo.info.get("transparency")
    if photo.mode[0] in "IF":
        grey = deep_photos.grey_bytes(photo, stated, inverted)
        if isinstance(key, int):
            clear = Image.fromarray((np.asarray(photo) == key).astype(np.uint8) * 255)
            grey.paste(255, mask=clear)
        return grey.convert("RGB")
    if photo.mode in ("RGBA", "LA", "PA", "RGBa", "La") or key is not None:
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


def _is_heic(head: bytes) -> bool:
    """Return whether a file starts like one of the HEIF family, as iPhones write it."""
    return head[4:8] == b"ftyp" and head[8:12] in (
        b"heic",
        b"heix",
        b"hevc",
        b"heim",
        b"heis",
        b"mif1",
        b"msf1",
    )
