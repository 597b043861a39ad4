"""The pictures of the demo without a browser: their size on disk, the strip."""

import numpy as np
from PIL import Image

from waldo_utils.app import demo_pictures


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_picture_loses_colors_until_it_is_small_enough(tmp_path):
    demo_pictures.save(noise(100, 100), tmp_path / "whole.png", 50_000)
    demo_pictures.save(noise(100, 100), tmp_path / "small.png", 7_500)
    assert (tmp_path / "small.png").stat().st_size <= 7_500 < (tmp_path / "whole.png").stat().st_size
    with Image.open(tmp_path / "whole.png") as whole:
        assert len(whole.getcolors()) > 64


def test_the_strip_shows_the_top_of_each_page():
    height = round(demo_pictures.WIDTH * demo_pictures.TALL)
    shots = {name: Image.new("RGB", (demo_pictures.WIDTH, height), "red") for name in demo_pictures.PANELS}
    pair = Image.new("RGB", (demo_pictures.WIDTH, 2 * height), "red")
    pair.paste("blue", (0, 0, demo_pictures.WIDTH, height))
    strip = demo_pictures.strip(shots | {"4_pair": pair})
    width, side = strip.size
    assert width == 2 * demo_pictures.STRIP + 16
    assert strip.getpixel((100, 200)) == (255, 0, 0)
    assert strip.getpixel((width - 100, side - 100)) == (0, 0, 255)
