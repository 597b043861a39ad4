"""Photos of every mode come out upright and in RGB; transforms do what they say."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from waldo_utils.data import photo_cache, reading, transforms

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
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
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
