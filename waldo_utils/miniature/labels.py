"""Printed labels of packaged goods: a ground with bands, a brand, a motif and small print."""

import numpy as np
from PIL import Image, ImageDraw

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.textures import CERAMIC, PLASTIC, color, decal, luminance, word, write

SIZE = 192  # pixels


def label(draws: Draws, name: str) -> np.ndarray:
    """Return an opaque (192, 192, 4) label, RGBA in [0, 1]; its layout, words and colors are draws of
    `name`."""
    ground = color(draws, f"{name}.ground", f"{CERAMIC} {PLASTIC} cream tan")
    image = Image.new("RGB", (SIZE, SIZE), _bytes(ground))
    canvas = ImageDraw.Draw(image)
    band = color(draws, f"{name}.band", CERAMIC)
    layout = draws.choice(f"{name}.layout", "top top middle bottom diagonal none")
    low, high = {"top": (0, 0.34), "middle": (0.36, 0.64), "bottom": (0.66, 1.0)}.get(layout, (0, 0))
    if layout == "diagonal":
        canvas.polygon([(0, SIZE * 0.2), (SIZE, 0), (SIZE, SIZE * 0.35), (0, SIZE * 0.6)], fill=_bytes(band))
    elif high:
        canvas.rectangle([0, low * SIZE, SIZE, high * SIZE], fill=_bytes(band))
    motif_place = draws.choice(f"{name}.motif_at", ("low", "low", "middle", "none"))
    if motif_place != "none":
        motif = decal(
            draws,
            f"{name}.motif",
            ground,
            draws.choice(f"{name}.motif_kind", "logo badge art scene face cloud"),
        )
        side = int(SIZE * draws.uniform(f"{name}.motif_size", 0.35, 0.55))
        picture = Image.fromarray((motif * 255).astype(np.uint8)).resize((side, side))
        top = int(SIZE * (0.42 if motif_place == "low" else 0.28))
        image.paste(
            picture,
            ((SIZE - side) // 2 + int(SIZE * draws.uniform(f"{name}.motif_x", -0.2, 0.2)), top),
            picture,
        )
    brand_ground = band if layout in ("top", "diagonal") else ground
    dark = luminance(brand_ground) > 0.5
    ink = (20, 20, 30) if dark else (245, 245, 240)
    brand = word(draws, f"{name}.brand").upper()
    write(canvas, (SIZE / 2, SIZE * 0.19), brand, min(SIZE * 0.26, 1.35 * SIZE / max(len(brand), 3)), ink)
    lines = draws.integer(f"{name}.lines", 0, 3)
    small = (30, 30, 30) if luminance(ground) > 0.5 else (230, 230, 230)
    for i in range(lines):
        write(
            canvas, (SIZE / 2, SIZE * (0.93 - 0.07 * i)), word(draws, f"{name}.line{i}"), SIZE * 0.065, small
        )
    rgba = np.ones((SIZE, SIZE, 4), np.float32)
    rgba[..., :3] = np.asarray(image, np.float32) / 255
    return rgba


def _bytes(rgb: np.ndarray) -> tuple[int, int, int]:
    return tuple(int(255 * channel) for channel in np.clip(rgb, 0, 1))
