"""Photos of every mode come out upright and in RGB; transforms do what they say."""

import importlib.util
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from waldo_utils.data import photo_cache, reading, transforms
from waldo_utils.study import ROOT

RED = (200, 30, 40)


def test_modes_become_rgb(tmp_path):
    color = Image.new("RGB", (8, 6), RED)
    for mode, name in (("L", "grey.png"), ("P", "palette.png"), ("CMYK", "cmyk.jpg"), ("LA", "alpha.png")):
        color.convert(mode).save(tmp_path / name)
        photo = reading.read_photo(tmp_path / name)
        assert photo.mode == "RGB"
        assert photo.size == (8, 6)


def test_transparent_parts_become_white(tmp_path):
    Image.new("RGBA", (4, 4), (*RED, 0)).save(tmp_path / "clear.png")
    assert reading.read_photo(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert reading.read_photo(tmp_path / "deep.png").getpixel((0, 0))[0] == pytest.approx(127, abs=1)


def test_exif_rotation_is_applied(tmp_path):
    photo = Image.new("RGB", (10, 4), RED)
    exif = photo.getexif()
    exif[0x0112] = 6  # turn clockwise
    photo.save(tmp_path / "turned.jpg", exif=exif)
    assert reading.read_photo(tmp_path / "turned.jpg").size == (4, 10)


@pytest.mark.parametrize("content", [b"", b"no photo", "cut"])
def test_broken_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content == "cut":
        Image.effect_noise((64, 64), 50).save(path)
        content = path.read_bytes()[:300]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken.jpg cannot be read as a photo"):
        reading.read_photo(path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(reading, "MOST_PIXELS", 1000)
    with pytest.raises(ValueError, match="bomb.png is too large"):
        reading.read_photo(tmp_path / "bomb.png")


@pytest.fixture
def cache(tmp_path):
    for i, size in enumerate([(40, 20), (20, 40), (10, 10)]):
        Image.new("RGB", size, (50 * i, 10, 20)).save(tmp_path / f"{i}.png")
    manifest = pd.DataFrame({"path": ["0.png", "1.png", "2.png"]})
    return manifest, tmp_path, photo_cache.build_cache(manifest, tmp_path, tmp_path / "cache", 16)


def test_the_cache_keeps_aspect_ratios_and_never_enlarges(cache):
    _, _, photos = cache
    assert [tuple(photos[i].shape) for i in range(3)] == [(3, 16, 32), (3, 32, 16), (3, 10, 10)]
    assert photos[1][:, 5, 5].tolist() == [50, 10, 20]
    assert photos.subset([2, 0])[0].shape == (3, 10, 10)
    assert photos.image(0).size == (32, 16)


def test_the_cache_is_reused_and_renewed_when_a_file_changes(cache):
    manifest, root, _ = cache
    time = (root / "cache" / "pixels.bin").stat().st_mtime_ns
    photo_cache.build_cache(manifest, root, root / "cache", 16)
    assert (root / "cache" / "pixels.bin").stat().st_mtime_ns == time
    Image.effect_noise((30, 30), 90).save(root / "2.png")
    assert photo_cache.build_cache(manifest, root, root / "cache", 16)[2].shape == (3, 16, 16)


def test_an_interrupted_cache_goes_on_where_it_stopped(cache, monkeypatch):
    manifest, root, whole = cache
    decoded, read = [], reading.read_photo

    def read_two(file):
        decoded.append(file.name)
        if len(decoded) == 3:
            raise KeyboardInterrupt
        return read(file)

    monkeypatch.setattr(photo_cache, "DECODED", 1)
    monkeypatch.setattr(photo_cache.inspect, "getsource", lambda function: "")
    monkeypatch.setattr(photo_cache, "read_photo", read_two)
    with pytest.raises(KeyboardInterrupt):
        photo_cache.build_cache(manifest, root, root / "again", 16)
    with (root / "again" / "begun.bin").open("ab") as file:
        file.write(b"half a photo")
    photos = photo_cache.build_cache(manifest, root, root / "again", 16)
    assert decoded == ["0.png", "1.png", "2.png", "2.png"]
    assert (photos.pixels == whole.pixels).all()
    assert not list((root / "again").glob("begun*"))


def test_changed_bytes_of_a_cache_are_refused(cache):
    _, root, _ = cache
    content = bytearray((root / "cache" / "pixels.bin").read_bytes())
    content[7] ^= 1
    (root / "cache" / "pixels.bin").write_bytes(content)
    with pytest.raises(ValueError, match="not those that were recorded.*run notebook 01_prepare_data"):
        photo_cache.open_cache(root / "cache")


def test_a_missing_cache_names_its_notebook(tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebook 01_prepare_data"):
        photo_cache.open_cache(tmp_path)


def test_test_transform_squeezes_and_crops_the_middle():
    photo = torch.zeros(3, 8, 16, dtype=torch.uint8)
    photo[:, :, 8:] = 255  # right half white: column 4 of 8 after squeezing
    result = transforms.TestTransform(8, 4)(photo)
    assert result.shape == (3, 4, 4)
    assert result[0, 0, 0] == 0
    assert result[0, 0, 3] == 1
    with pytest.raises(ValueError, match="make the crop smaller"):
        transforms.TestTransform(4, 8)


def test_train_transform_repeats_for_a_generator_and_stays_in_range():
    photo = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    transform = transforms.TrainTransform(16)
    first, again = (transform(photo, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (3, 16, 16)
    assert 0 <= first.min() <= first.max() <= 1
    assert not torch.equal(first, transform(photo, torch.Generator().manual_seed(4)))
    assert transforms.TestTransform(30, 30)(photo[:, :, :30]).equal(photo[:, :, :30] / 255)


def test_a_fixed_crop_is_resized_as_torchvision_resizes_bytes(monkeypatch):
    from torchvision.transforms.v2 import functional

    photos = [torch.randint(0, 256, (3, 30 + i, 40), dtype=torch.uint8) for i in range(4)]
    boxes = np.array([[0, 0, 30, 40], [3, 5, 9, 12], [1, 2, 20, 30], [0, 10, 33, 3]])
    transform = transforms.TrainTransform(16, flip=0.0)
    monkeypatch.setattr(transform, "crops", lambda shapes, generator: boxes)
    batch = transform.batch(photos, torch.Generator())
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for photo, box, result in zip(photos, boxes.tolist(), batch, strict=True):
        expected = functional.resized_crop(photo, *box, [16, 16], antialias=True)
        assert result.equal(expected)
    transform.flip = 1.0
    assert transform.batch(photos, torch.Generator()).equal(batch.flip(3))


@pytest.mark.parametrize(
    "shape, scale", [((30, 40), (0.08, 1.0)), ((144, 96), (0.5, 1.0)), ((20, 90), (0.9, 1.0))]
)
def test_crops_are_drawn_as_torchvision_draws_them(shape, scale):
    from torchvision.transforms.v2 import RandomResizedCrop

    count = 1500
    torch.manual_seed(0)
    stock = RandomResizedCrop(16, scale=scale)
    theirs = [stock.make_params([torch.empty(1, *shape)]) for _ in range(count)]
    theirs = np.array([[crop[side] for side in ("top", "left", "height", "width")] for crop in theirs])
    ours = transforms.TrainTransform(16, scale=scale).crops(
        np.tile(shape, (count, 1)), torch.Generator().manual_seed(0)
    )
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= shape).all()
    for column in range(4):
        values = np.union1d(ours[:, column], theirs[:, column])
        shares = [
            np.searchsorted(np.sort(crops[:, column]), values, "right") / count for crops in (ours, theirs)
        ]
        assert (
            np.abs(shares[0] - shares[1]).max() < 1.95 * (2 / count) ** 0.5
        )  # Kolmogorov and Smirnov, p = 0.001


def test_half_of_the_photos_are_mirrored():
    photo = torch.zeros(3, 8, 8, dtype=torch.uint8)
    photo[:, :, 4:] = 255
    batch = transforms.TrainTransform(8, scale=(1.0, 1.0)).batch(
        [photo] * 400, torch.Generator().manual_seed(0)
    )
    assert 160 <= (batch[:, 0, 4, 0] > batch[:, 0, 4, 7]).sum() <= 240  # four standard deviations


# ---------------------------------------------------------------- what else is beside the picture


def png_with(*chunks):
    """Return a PNG of one color, with chunks before its picture and after it."""
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), RED).save(buffer, "PNG")
    content, before, after = buffer.getvalue(), b"", b""
    for kind, body in chunks:
        part = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        before, after = (before, after + part) if kind == b"iTXt" else (before + part, after)
    return content[:33] + before + content[33:-12] + after + content[-12:]


LONG = zlib.compress(b"a prompt " * 250_000, 1)  # 2 MB


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"parameters\0\0" + LONG),
        (b"iTXt", b"workflow\0\1\0\0\0" + LONG),
        (b"iCCP", b"scanner\0\0" + LONG),
    ],
    ids=["text", "text behind it", "profile"],
)
def test_a_long_text_is_no_reason_to_refuse_a_photo(tmp_path, chunk):
    (tmp_path / "a.png").write_bytes(png_with(chunk))
    photo = reading.read_photo(tmp_path / "a.png")
    assert (photo.size, photo.getpixel((3, 3))) == ((9, 7), RED)
    assert reading.read_photo(io.BytesIO(png_with(chunk)), "a.png").size == (9, 7)


def test_many_texts_are_none_either(tmp_path):
    chunks = [(b"zTXt", b"p%d\0\0" % i + zlib.compress(bytes([65 + i % 26]) * 1_000_000)) for i in range(70)]
    (tmp_path / "a.png").write_bytes(png_with(*chunks))
    assert reading.read_photo(tmp_path / "a.png").size == (9, 7)


# ---------------------------------------------------------------- large photos


def test_a_jpeg_beyond_the_bound_is_read_at_a_reduced_scale(tmp_path, monkeypatch):
    left_white = Image.new("L", (400, 320), 0)
    left_white.paste(255, (0, 0, 200, 320))
    exif = Image.Exif()
    exif[0x0112] = 6
    left_white.save(tmp_path / "a.jpg", exif=exif)
    left_white.save(tmp_path / "a.png")
    for most, size in ((128_000, (320, 400)), (127_999, (160, 200)), (30_000, (80, 100)), (3000, (40, 50))):
        monkeypatch.setattr(reading, "MOST_PIXELS", most)
        photo = reading.read_photo(tmp_path / "a.jpg")
        assert photo.size == size
        assert photo.getpixel((5, 5))[0] > 200  # turned: white is at the top
        assert photo.getpixel((5, size[1] - 5))[0] < 50
    with pytest.raises(
        ValueError, match=r"a.png is too large .128000 pixels, and 3000 is the most.: scale it"
    ):
        reading.read_photo(tmp_path / "a.png")
    monkeypatch.setattr(reading, "MOST_OF_A_JPEG", 100_000)
    with pytest.raises(ValueError, match=r"a.jpg is too large .128000 pixels, and 100000 is the most"):
        reading.read_photo(tmp_path / "a.jpg")


MEMORY = """
import resource, sys
from pathlib import Path
from waldo_utils.data.reading import read_photo
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(*read_photo(Path(sys.argv[1])).size, \
(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory in KB")
def test_a_phone_photo_of_200_megapixels_is_read_in_bounded_memory(tmp_path):
    Image.new("L", (16320, 12240), 90).save(tmp_path / "phone.jpg", quality=30)
    command = [sys.executable, "-c", MEMORY, tmp_path / "phone.jpg"]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    width, height, megabytes = map(int, ended.stdout.split())
    assert (width, height) == (8160, 6120)
    assert megabytes < 3 * 3 * 50  # three copies of 50 megapixels


def test_large_photos_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30), RED).save(tmp_path / "a.png")
    at_work, most = [], []

    def slowly(photo, *given):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.pop()
        return photo

    monkeypatch.setattr(reading, "in_rgb", slowly)
    for large, together in ((1000, 1), (2000, 2)):
        monkeypatch.setattr(reading, "LARGE", large)
        most.clear()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(reading.read_photo, [tmp_path / "a.png"] * 8))
        assert max(most) == 1 if together == 1 else max(most) >= together
    assert reading.READERS <= 8


# ---------------------------------------------------------------- photos of phones, told by their content

HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None


@pytest.mark.skipif(HAS_HEIC, reason="pillow-heif is installed, so that HEIC is read")
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_a_photo_of_an_iphone_is_told_how_to_get_it_read(tmp_path, brand):
    (tmp_path / "IMG_1.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(200))
    with pytest.raises(ValueError, match=r"IMG_1.jpg is a HEIC photo.*install that .*or export it as JPEG"):
        reading.read_photo(tmp_path / "IMG_1.jpg")


@pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif, the extra `heic`, is not installed")
@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, orientation):
    import pillow_heif

    photo = Image.new("RGB", (64, 48), RED)
    photo.paste((255, 255, 255), (0, 0, 32, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pillow_heif.from_pillow(photo).save(tmp_path / "a.jpg", quality=90, exif=exif.tobytes())
    found = reading.read_photo(tmp_path / "a.jpg")
    assert found.size == ((64, 48) if orientation == 1 else (48, 64))
    white = (10, 10) if orientation == 1 else (found.width - 10, 10)
    assert min(found.getpixel(white)) > 235
    assert found.getpixel((found.width // 2, found.height - 6)) == pytest.approx(RED, abs=12)


def test_a_photo_is_told_by_how_it_begins(tmp_path):
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"):
        Image.new("RGB", (8, 8), RED).save(tmp_path / "photo", form)
        assert reading.looks_like_photo(tmp_path / "photo"), form
    (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    assert reading.looks_like_photo(tmp_path / "photo")
    for content in (
        b"",
        b"text",
        b"\0\0\0\x18ftypmp42" + bytes(99),
        b"%PDF-1.7",
        b"PK\3\4",
        b"<svg>",
        b"Photo",
    ):
        (tmp_path / "photo").write_bytes(content)
        assert not reading.looks_like_photo(tmp_path / "photo"), content
    assert not reading.looks_like_photo(tmp_path / "absent")
