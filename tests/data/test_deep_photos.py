"""Photos of more than 8 bits, written byte by byte here, against the same numbers scaled by hand."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from waldo_utils.data import reading

SIZES = {3: ("H", 2), 4: ("I", 4), 8: ("h", 2), 11: ("f", 4)}  # kind of a TIFF's tag -> form, bytes
KINDS = {1: "u", 2: "i", 3: "f"}  # SampleFormat


def tiff(pixels, bits=16, photometric=1, order="<", planes=1, sample=1, extra=None, more=()):
    """Return an uncompressed TIFF of (h, w, c) values, written as the standard says."""
    height, width, bands = pixels.shape
    if bits == 12:
        rows = ["".join(f"{value:012b}" for value in row.ravel()) for row in pixels]
        rows = [row + "0" * (-len(row) % 8) for row in rows]
        strips = [b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)]
    else:
        values = pixels.astype(f"{order}{KINDS[sample]}{bits // 8}")
        strips = [values.tobytes()] if planes == 1 else [values[..., i].tobytes() for i in range(bands)]
    tags = {
        256: (3, [width]), 257: (3, [height]), 258: (3, [bits] * bands), 259: (3, [1]),
        262: (3, [photometric]), 273: (4, [0] * len(strips)), 277: (3, [bands]), 278: (3, [height]),
        279: (4, [len(s) for s in strips]), 284: (3, [planes]), 339: (3, [sample] * bands),
    }  # fmt: skip
    tags |= {338: (3, [extra])} if extra is not None else {}
    tags |= dict(more)
    begin = 8 + 2 + 12 * len(tags) + 4
    for _ in range(2):  # once to know how long it is, once with the strips' places
        entries, far = b"", b""
        for tag, (kind, numbers) in sorted(tags.items()):
            raw = struct.pack(f"{order}{len(numbers)}{SIZES[kind][0]}", *numbers)
            if len(raw) > 4:
                far, raw = far + raw + b"\0" * (len(raw) % 2), struct.pack(f"{order}I", begin + len(far))
            entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + raw.ljust(4, b"\0")
        places = np.cumsum([begin + len(far), *(len(s) for s in strips)])[:-1]
        tags[273] = (4, places.tolist())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + far + b"".join(strips)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels, chunks=()):
    """Return a PNG of 16 bits of (h, w, c) values, with chunks before its picture."""
    height, width, bands = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))
    parts = [("IHDR", header), *chunks, ("IDAT", rows), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind.encode(), content) for kind, content in parts)


def ramp(highest, bands=1, kind=np.int64):
    """Return (4, 64, bands) values from 0 to the highest, every band another way."""
    line = np.linspace(0, highest, 256).round().astype(kind).reshape(4, 64)
    return np.stack([line, line[::-1], line[:, ::-1], line[::-1, ::-1]][:bands], axis=2)


def read(tmp_path, content):
    (tmp_path / "photo").write_bytes(content)
    return np.asarray(reading.read_photo(tmp_path / "photo")).astype(int)


def assert_same(found, values, highest):
    """Check a picture against values of which `highest` is white, one band or three."""
    expected = np.broadcast_to(255 * values / highest, found.shape)
    assert np.abs(found - expected).max() <= 1, (found.max(), expected.max())


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [1, 3])
def test_values_of_fewer_bits_in_16_keep_their_brightness(tmp_path, bits, order, bands):
    values, photometric = ramp(2**bits - 1, bands), 2 if bands == 3 else 1
    assert_same(read(tmp_path, tiff(values, photometric=photometric, order=order)), values, 2**bits - 1)
    assert_same(read(tmp_path, png(values)), values, 2**bits - 1)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_alpha_and_ink_of_16_bits_are_scaled_too(tmp_path, bits):
    most = 2**bits - 1
    values = ramp(most, 4)
    alpha = values[..., 3:] / most
    on_white = values[..., :3] * alpha + most * (1 - alpha)
    assert_same(read(tmp_path, png(values)), on_white, most)
    assert_same(read(tmp_path, tiff(values, photometric=2, extra=2)), on_white, most)
    values[..., 3] = 0  # no black
    assert_same(read(tmp_path, tiff(values, photometric=5)), most - values[..., :3], most)
    grey = ramp(most, 2)
    alpha = grey[..., 1:] / most
    assert_same(read(tmp_path, png(grey)), grey[..., :1] * alpha + most * (1 - alpha), most)


def test_bits_that_the_file_states_are_the_scale(tmp_path):
    dark = ramp(900)
    assert_same(read(tmp_path, tiff(dark, bits=12)), dark, 4095)
    for tag, kind, stated, most in (
        (281, 3, 4095, 4095), (281, 3, 65535, 65535), (341, 3, 16383, 16383), (341, 11, 4000.0, 4095),
        (281, 3, 100, 1023),  # less than it holds says nothing
    ):  # fmt: skip
        assert_same(read(tmp_path, tiff(dark, more={tag: (kind, [stated])})), dark, most)
    for bits, most in ((12, 4095), (16, 65535), (10, 1023), (8, 1023)):
        assert_same(read(tmp_path, png(dark, [("sBIT", bytes([bits]))])), dark, most)
    colors = ramp(900, 3)
    assert_same(read(tmp_path, png(colors, [("sBIT", b"\x0c\x0c\x0c")])), colors, 4095)
    scaled_up = ramp(65535)  # as the standard of PNG wants it: 10 bits, scaled to 16
    assert_same(read(tmp_path, png(scaled_up, [("sBIT", b"\x0a")])), scaled_up, 65535)


@pytest.mark.parametrize("most", [255, 1023, 4095, 65535])
def test_a_pgm_states_its_maximum(tmp_path, most):
    values = ramp(most)[..., 0] // 3
    raw = values.astype("u1" if most < 256 else ">u2").tobytes()
    assert_same(read(tmp_path, f"P5 64 4 {most}\n".encode() + raw), values[..., None], most)


def test_where_0_is_white_the_photo_is_no_negative(tmp_path):
    for bits, most in ((8, 255), (16, 65535), (16, 1023)):
        values = ramp(most)
        assert_same(read(tmp_path, tiff(values, bits=bits, photometric=0)), most - values, most)
    values = ramp(1, kind=float)
    assert_same(read(tmp_path, tiff(values, bits=32, photometric=0, sample=3)), 1 - values, 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point_in_0_to_1_is_read(tmp_path, order):
    values = np.linspace(0, 1, 256).reshape(4, 64, 1)
    assert_same(read(tmp_path, tiff(values, bits=32, order=order, sample=3)), values, 1)
    assert_same(read(tmp_path, tiff(0.3 * values, bits=32, order=order, sample=3)), 0.3 * values, 1)


@pytest.mark.parametrize("highest", [1.5, 10, 255, 300, 65535, -0.1])
def test_floating_point_beyond_is_refused_by_its_values(tmp_path, highest):
    values = np.linspace(0, highest, 256).reshape(4, 64, 1)
    with pytest.raises(
        ValueError, match=r"photo cannot be read.*floating point from .* only such in \[0, 1\]"
    ):
        read(tmp_path, tiff(values, bits=32, sample=3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(ramp(70_000), bits=32), "whole numbers from 0 to 70000, and only 0 to 65535 are read"),
        (tiff(ramp(300) - 100, sample=2), "whole numbers from -100 to 200"),
        (tiff(ramp(100), bits=8, sample=2), "whole numbers of 8 bits with a sign"),
        (tiff(ramp(65535, 3), photometric=2, planes=2), "bands of 16 bits lie one after the other"),
        (tiff(ramp(1023, 4), photometric=2, extra=1), "multiplied by alpha and use few of their 16 bits"),
    ],
    ids=["32 bits", "negative", "sign", "bands apart", "premultiplied"],
)
def test_what_has_no_one_meaning_is_refused_by_name(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"photo cannot be read as a photo .*{message}"):
        read(tmp_path, content)


def test_a_key_of_16_bits_is_transparent(tmp_path):
    for bands, key in ((1, [700]), (3, [700, 801, 902])):
        values = ramp(1023, bands)
        values[0, 0] = key
        values[0, 1] = np.array(key) + 1  # the same high bytes
        found = read(tmp_path, png(values, [("tRNS", struct.pack(f">{bands}H", *key))]))
        assert found[0, 0].tolist() == [255] * 3
        found[0, 0] = 0
        values[0, 0] = 0
        assert_same(found, values, 1023)


# ---------------------------------------------------------------- every layout of 8 bits and less


@pytest.mark.parametrize(
    ("photometric", "bands", "extra"),
    [(1, 1, None), (0, 1, None), (1, 2, 2), (2, 3, None), (2, 4, 2), (2, 4, 0), (5, 4, None)],
)
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_layout_of_8_bits_is_these_pixels(tmp_path, photometric, bands, extra, planes, order):
    if planes == 2 and bands < 3:
        pytest.skip("one band lies one way, and grey with alpha is not written apart")
    values = ramp(255, bands)
    if extra == 0 and planes == 2:
        with pytest.raises(ValueError, match="it begins as TIFF, but: "):
            read(tmp_path, tiff(values, 8, photometric, order, planes, extra=extra))
        return
    if photometric == 5:
        expected = (255 - values[..., :3]) * (255 - values[..., 3:]) / 255
    elif extra == 2:
        expected = values[..., :-1] * values[..., -1:] / 255 + 255 - values[..., -1:]
    else:
        expected = 255 - values if photometric == 0 else values[..., :3]
    found = read(tmp_path, tiff(values, 8, photometric, order, planes, extra=extra))
    assert_same(found, expected, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_photos_are_turned_too(tmp_path, orientation):
    lying = ramp(4095, 3)
    turned = {
        1: lying, 2: lying[:, ::-1], 3: lying[::-1, ::-1], 4: lying[::-1], 5: lying.transpose(1, 0, 2),
        6: np.rot90(lying, -1), 7: lying[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(lying, 1),
    }[orientation]  # fmt: skip
    found = read(tmp_path, tiff(lying, photometric=2, more={274: (3, [orientation])}))
    assert_same(found, turned, 4095)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = png(lying[..., :1], [("eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))])
    assert_same(read(tmp_path, content), turned[..., :1], 4095)
