"""From light to a JPEG: exposure, color cast, noise, blur, and what sellers add to their photos."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.textures import word, write

DARKEST = 0.3  # mean of a photo, sRGB; darker ones are lifted to it


def develop(light: np.ndarray, draws: Draws, difficulty: float) -> Image.Image:
    """Turn (h, w, 3) linear light into a photo: tone, camera faults, and sometimes a watermark or a border.

    Faults of exposure and color, and blur, grow with `difficulty` in [0, 1].
    """
    height, width, _ = light.shape
    size = max(height, width)
    bright = float(np.percentile(light[::3, ::3].mean(axis=2), 85))
    x = light * (0.72 / max(bright, 0.05)) ** 0.7 * 2 ** (draws.uniform("exposure", -0.45, 0.45) * difficulty)
    red, blue = draws.uniform("cast_red", -0.12, 0.12), draws.uniform("cast_blue", -0.15, 0.15)
    x = x * np.array([1 + red * difficulty, 1, 1 + blue * difficulty], np.float32)
    if draws.chance("vignette", 0.4):
        across = np.linspace(-1, 1, width, dtype=np.float32)
        down = np.linspace(-1, 1, height, dtype=np.float32)
        edge = (across[None] ** 2 + down[:, None] ** 2) / 2
        x = x * (1 - draws.uniform("vignette_depth", 0.1, 0.35) * edge)[..., None]
    x = x / (1 + np.maximum(x - 0.8, 0) * 0.8)  # highlights roll off
    x = np.clip(x, 0, 1) ** (1 / 2.2)
    contrast = 1 + difficulty * draws.uniform("contrast", -0.2, 0.15)
    x = (x - 0.5) * contrast + 0.5 + draws.uniform("brightness", -0.04, 0.05)
    grey = x.mean(axis=2, keepdims=True)
    x = grey + (x - grey) * (1 + difficulty * draws.uniform("saturation", -0.3, 0.25))
    x = np.clip(x, 0, 1)
    mean = float(x.mean())
    if mean < DARKEST:
        x = x ** np.float32(np.log(DARKEST) / np.log(max(mean, 1e-3)))
    if draws.chance("noise", 0.6):
        grain = np.random.default_rng(draws.bits("grain")).standard_normal(x.shape, np.float32)
        x = x + grain * np.float32(draws.uniform("noise_level", 0.004, 0.03))
    image = Image.fromarray((np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8))
    if draws.chance("blurred", 0.3 * difficulty):
        image = image.filter(ImageFilter.GaussianBlur(draws.uniform("blur", 0.4, 1.3) * size / 256))
    if draws.chance("low_resolution", 0.2 * difficulty):
        share = draws.uniform("resolution", 0.45, 0.8)
        small = image.resize((int(width * share), int(height * share)), Image.Resampling.BILINEAR)
        image = small.resize((width, height), Image.Resampling.BICUBIC)
    if draws.chance("watermark", 0.06):
        x, y = width * draws.uniform("watermark_x", 0.3, 0.7), height * draws.uniform("watermark_y", 0.1, 0.9)
        text, text_size = word(draws, "watermark_word"), size * draws.uniform("watermark_size", 0.05, 0.1)
        write(ImageDraw.Draw(image, "RGBA"), (x, y), text, text_size, (255, 255, 255, 150))
    if draws.chance("border", 0.06):
        thick = int(size * draws.uniform("border_width", 0.01, 0.05))
        shade = draws.choice("border_color", (0, 255))
        if thick:
            frame = [0, 0, width - 1, height - 1]
            ImageDraw.Draw(image).rectangle(frame, outline=(shade, shade, shade), width=thick)
    return image


def encode(image: Image.Image, draws: Draws) -> bytes:
    """Return the photo as a JPEG of a drawn quality (45 to 94)."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=draws.integer("jpeg_quality", 45, 94))
    return buffer.getvalue()


def encode_mask(mask: np.ndarray) -> bytes:
    """Return a (h, w) mask, shares in [0, 1], as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(mask) * 255 + 0.5).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
