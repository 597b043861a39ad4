"""The pictures of the demo without a browser: the strip."""

from PIL import Image

from waldo_utils.app import demo_pictures


def test_the_strip_shows_the_top_of_each_page_on_white():
    height = round(demo_pictures.WIDTH * demo_pictures.TALL)
    low, high = (Image.new("RGB", (demo_pictures.WIDTH, tall), "red") for tall in (height // 2, 2 * height))
    high.paste("blue", (0, 0, demo_pictures.WIDTH, height))
    strip = demo_pictures.strip([low, low, low, high])
    width, side = strip.size
    assert width == 2 * demo_pictures.STRIP + 16
    assert strip.getpixel((100, 200)) == (255, 0, 0)
    assert strip.getpixel((100, side // 2 - 20)) == (255, 255, 255)
    assert strip.getpixel((width - 100, side - 100)) == (0, 0, 255)
