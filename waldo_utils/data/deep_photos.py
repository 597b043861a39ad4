"""Photos of more than 8 bits a sample, brought to 8 without becoming another picture.

The rule for whole numbers: the brightest value is 2 ** bits - 1, where the file states its bits (a TIFF in
BitsPerSample if that is less than the 16 of the container, or in MaxSampleValue or SMaxSampleValue; a PNG in
sBIT; a PGM by its maximum) and its values keep to that. A file that states nothing, or less than it holds, is
scaled by the smallest of 8, 10, 12, 14 and 16 bits that holds its highest value, for cameras and scanners
write 10 and 12 bits into files of 16 and say no more. So a photo that is really nearly black and states
nothing becomes brighter. The rule for floating point: values lie in [0, 1]; others are refused.
"""

import struct
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

DEPTHS = (8, 10, 12, 14, 16)
PNG = b"\x89PNG\r\n\x1a\n"
BITS, PHOTOMETRIC, MOST, PLANES, SAMPLE_FORMAT, SIGNED_MOST = 258, 262, 281, 284, 339, 341  # tags of TIFF
WHITE_IS_ZERO, SEPARATE, SIGNED = 0, 2, 2
# Pillow reads the high bytes of several bands of 16 bits. Taken for the other order, they are the low ones.
SWAPPED = {";16L": ";16B", ";16B": ";16L", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


def eight_bits(values: np.ndarray, stated: int | None = None) -> np.ndarray:
    """Return whole numbers of any shape, 0 to 65,535, as bytes by the rule of the module.

    Args:
        values: of one photo, all that share a scale.
        stated: the bits that the file says it has; None: it says nothing.
    """
    highest = int(values.max(initial=0))
    bits = stated if stated and highest < 2**stated else next(b for b in DEPTHS if highest < 2**b)
    table = (np.arange(65536) * 255 / (2**bits - 1)).round().clip(0, 255).astype(np.uint8)
    return table[values]


def grey_bytes(photo: Image.Image, stated: int | None, inverted: bool = False) -> Image.Image:
    """Return a grey photo of 16 or 32 bits or of floating point (modes I and F of Pillow) in 8 bits.

    Args:
        photo: loaded.
        stated: as for `eight_bits`.
        inverted: 0 is white.

    Raises:
        ValueError: some values are negative, need more than 16 bits, or, in floating point, are not in
            [0, 1].
    """
    values = np.asarray(photo)
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if photo.mode == "F":
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("some of its values are not finite")
        if low < 0 or high > 1:
            raise ValueError(
                f"its values are floating point from {low:g} to {high:g}, and only such in [0, 1] have one"
                " meaning"
            )
        grey = (values * np.float32(255)).round().astype(np.uint8)
    else:
        if low < 0 or high > 65535:
            raise ValueError(
                f"its values are whole numbers from {low} to {high}, and only 0 to 65535 are read"
            )
        grey = eight_bits(values.astype(np.uint16), stated)
    return Image.fromarray(255 - grey if inverted else grey)


def stated_bits(photo: ImageFile.ImageFile, file: BinaryIO) -> int | None:
    """Return the bits a sample that an opened photo of 16 bits says it has; None where it says nothing."""
    if photo.format == "PPM":
        return 16  # Pillow has scaled it by the maximum that it states
    if photo.format == "PNG":
        file.seek(0)
        content = file.read()
        for kind, start, end in png_chunks(content):
            if kind == b"sBIT":
                # By the standard such values are scaled up to 16 bits; those that keep to fewer are not.
                return max(content[start + 8 : end - 4], default=None)
            if kind == b"IDAT":
                break
    if photo.format == "TIFF":
        bits = max(_numbers(photo, BITS), default=16)
        if bits in DEPTHS[:-1]:
            return bits
        most = max((*_numbers(photo, MOST), *_numbers(photo, SIGNED_MOST)), default=0)
        if 0 < most < 65536:
            return next(b for b in DEPTHS if most < 2**b)
    return None


def is_inverted(photo: ImageFile.ImageFile) -> bool:
    """Return whether 0 is white in an opened photo, which Pillow heeds in 8 bits and not in more."""
    return photo.format == "TIFF" and photo.tag_v2.get(PHOTOMETRIC, 0) == WHITE_IS_ZERO


def check_layout(photo: ImageFile.ImageFile) -> None:
    """Refuse an opened photo whose values Pillow takes for others.

    Raises:
        ValueError: says what is in the file.
    """
    if photo.format != "TIFF":
        return
    bits, bands = max(_numbers(photo, BITS), default=1), len(photo.getbands())
    if bits > 8 and bands > 1 and photo.tag_v2.get(PLANES, 1) == SEPARATE:
        raise ValueError(f"its bands of {bits} bits lie one after the other: save it with the bands together")
    if bits == 8 and SIGNED in _numbers(photo, SAMPLE_FORMAT):
        raise ValueError("its values are whole numbers of 8 bits with a sign")


def is_deep(photo: ImageFile.ImageFile) -> bool:
    """Return whether an opened photo has several bands of 16 bits, of which Pillow reads the high bytes."""
    return len(photo.getbands()) > 1 and any(";16" in raw for raw in _raw_modes(photo))


def color_bytes(
    photo: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile], stated: int | None
) -> Image.Image:
    """Return a photo of several bands of 16 bits in 8 bits a band, in its mode or with alpha.

    Args:
        photo: opened, not loaded.
        again: opens it once more, for the low bytes.
        stated: as for `eight_bits`; bands of color share a scale, alpha has its own.

    Raises:
        ValueError: few of the bits are used, and the rest cannot be told because colors are multiplied by
            their alpha.
    """
    raw, key, mode = _raw_modes(photo)[0], photo.info.get("transparency"), photo.mode
    if raw == "LA;16B":  # as four bands of 8 bits: high and low byte of grey, then of alpha
        _take_for(photo, "RGBA")
        four = np.asarray(photo).astype(np.uint16)
        samples = four[..., ::2] << 8 | four[..., 1::2]
        mode = "LA"
    else:
        photo.load()
        high = np.asarray(photo)
        premultiplied = raw.startswith("RGBa")
        telling = high[..., 3] if premultiplied else high[..., :3] if mode == "RGBA" else high
        if telling.max(initial=0) >= 64 and key is None:  # 16 bits by any rule
            return photo
        if premultiplied:
            raise ValueError("its colors are multiplied by alpha and use few of their 16 bits")
        rest = again()
        _take_for(rest, raw[:-4] + SWAPPED[raw[-4:]])
        samples = high.astype(np.uint16) << 8 | np.asarray(rest)
    alpha = samples.shape[2] in (2, 4) and mode != "CMYK"
    colors = samples[..., :-1] if alpha else samples
    parts = [eight_bits(colors, stated)]
    if alpha:
        parts.append(eight_bits(samples[..., -1:], stated))
    elif key is not None:
        parts.append(np.where((samples == key).all(axis=2, keepdims=True), 0, 255).astype(np.uint8))
        mode = "RGBA"
    return Image.frombytes(mode, photo.size, np.concatenate(parts, axis=2).tobytes())


def _take_for(photo: ImageFile.ImageFile, raw: str) -> None:
    """Load an opened photo as if its parts lay in the file in another way."""
    tiles = [(tile, tile.args if isinstance(tile.args, tuple) else None) for tile in photo.tile]
    photo.tile = [tile._replace(args=(raw, *args[1:]) if args else raw) for tile, args in tiles]
    photo.load()


def _raw_modes(photo: ImageFile.ImageFile) -> list[str]:
    """Return how the parts of a photo lie in its file, in Pillow's words."""
    return [
        tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in photo.tile if tile.args
    ]


def _numbers(photo: ImageFile.ImageFile, tag: int) -> tuple[int, ...]:
    """Return what a TIFF says in a tag, as whole numbers; nothing where it has no such tag."""
    value = photo.tag_v2.get(tag, ())
    values = value if isinstance(value, tuple) else (value,)
    return tuple(int(v) for v in values if isinstance(v, int | float) and np.isfinite(v))


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a PNG: kind, where it begins (its length) and where it ends (after its sum)."""
    place = len(PNG)
    while content.startswith(PNG) and place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        yield content[place + 4 : place + 8], place, min(place + 12 + length, len(content))
        place += 12 + length
