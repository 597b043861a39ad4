"""What surfaces look like: a repeating color tile, stickers on it, and how it reflects light."""

from copy import copy

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.textures import FABRIC, METAL, PALETTE, PRINT, WOODS, color, linear, tile


def mip_levels(image: np.ndarray) -> list[np.ndarray]:
    """Return float32 (h, w, C) images, each half the one before, down to 4 pixels (Williams, "Pyramidal
    Parametrics", 1983).
    """
    levels = [np.ascontiguousarray(image, np.float32)]
    while min(levels[-1].shape[:2]) > 4:
        last = levels[-1]
        levels.append((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]) / 4)
    return levels


def sample(image: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return (N, C) bilinear samples of a repeating tile at (N,) places in tiles; sides are powers of two."""
    height, width = image.shape[:2]
    if height == 1:
        return np.broadcast_to(image[0, 0], (len(u), image.shape[2]))
    x, y = u * np.float32(width) - np.float32(0.5), v * np.float32(height) - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = (x - left)[:, None], (y - top)[:, None]
    left, top = left.astype(np.int32) & (width - 1), top.astype(np.int32) & (height - 1)
    right, bottom = (left + 1) & (width - 1), (top + 1) & (height - 1)
    pixels = image.reshape(height * width, -1)
    top, bottom = top * width, bottom * width
    left_share = 1 - right_share
    above = pixels.take(top + left, axis=0) * left_share + pixels.take(top + right, axis=0) * right_share
    below = (
        pixels.take(bottom + left, axis=0) * left_share + pixels.take(bottom + right, axis=0) * right_share
    )
    return above + (below - above) * bottom_share


def sample_scaled(levels: list[np.ndarray], u: np.ndarray, v: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Return (N, C) samples, each from the mip level whose pixels are about `pixel` (N,) tiles wide."""
    level = np.log2(np.maximum(pixel * levels[0].shape[0], 1e-6)) + 0.3
    level = np.clip(level, 0, len(levels) - 1).astype(np.int8)
    values = np.empty((len(u), levels[0].shape[2]), np.float32)
    for index in np.unique(level):
        chosen = level == index
        values[chosen] = sample(levels[index], u[chosen], v[chosen])
    return values


class Material:
    """A surface.

    Args:
        tile: (n, n, 3) sRGB pattern.
        period: length of its side, in the product's units.
        specular: share of light reflected head on.
        gloss: exponent of the highlight; about 10 is cloth, 90 polished.
        metallic: 0 to 1; metals tint what they reflect.
        glow: light of its own, as a share of its color.
    """

    def __init__(
        self,
        tile: np.ndarray,
        period: float = 1.0,
        specular: float = 0.04,
        gloss: float = 40.0,
        metallic: float = 0.0,
        glow: float = 0.0,
    ):
        self.levels = mip_levels(linear(tile))
        self.period = period
        self.specular, self.gloss, self.metallic, self.glow = specular, gloss, metallic, glow
        self.decals: list[tuple] = []

    def stick(
        self, decal: np.ndarray, u: float, v: float, width: float, height: float | None = None
    ) -> "Material":
        """Put an (n, n, 4) sRGB motif at texture place (u, v), its center, and return the material."""
        premultiplied = np.array(decal, np.float32)
        premultiplied[..., :3] = linear(premultiplied[..., :3]) * premultiplied[..., 3:]
        size = 1 << (len(decal) - 1).bit_length()
        padding = size - len(decal)
        padded = np.pad(premultiplied, ((0, padding), (0, padding), (0, 0)))
        self.decals.append((mip_levels(padded), len(decal) / size, u, v, width, height or width))
        return self

    def bare(self) -> "Material":
        """Return the same surface without its motifs, for the parts that share texture places with a
        decorated one."""
        other = copy(self)
        other.decals = []
        return other

    def albedo(self, u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        """Return (N, 3) linear colors at (N,) texture places.

        Args:
            u, v: float32 lengths.
            pixel: length that a pixel of the photo covers.
        """
        level = np.log2(max(pixel / self.period * self.levels[0].shape[0], 1e-6)) + 0.5
        tile = self.levels[int(np.clip(level, 0, len(self.levels) - 1))]
        period = np.float32(self.period)
        colors = sample(tile, u / period, v / period)
        for levels, share, center_u, center_v, width, height in self.decals:
            a = (u - np.float32(center_u)) / np.float32(width) + np.float32(0.5)
            b = np.float32(0.5) - (v - np.float32(center_v)) / np.float32(height)
            inside = np.flatnonzero((a > 0) & (a < 1) & (b > 0) & (b < 1))
            if len(inside):
                level = np.log2(max(pixel / width * levels[0].shape[0] * share, 1e-6)) + 0.3
                motif = levels[int(np.clip(level, 0, len(levels) - 1))]
                over = sample(motif, a[inside] * np.float32(share), b[inside] * np.float32(share))
                colors = np.array(colors)
                colors[inside] = colors[inside] * (1 - over[:, 3:]) + over[:, :3]
        return colors


def plain(rgb: np.ndarray, specular: float = 0.04, gloss: float = 40.0, glow: float = 0.0) -> Material:
    """Return a material of one color."""
    return Material(np.asarray(rgb, float).reshape(1, 1, 3), 1.0, specular, gloss, glow=glow)


def metal(draws: Draws, name: str, color_name: str | None = None) -> Material:
    """Return a brushed metal, of a drawn color unless one is named."""
    rgb = color(draws, name, METAL) if color_name is None else np.array(PALETTE[color_name]) / 255
    return Material(tile(draws, name, "brushed", rgb), 3.0, 0.6, 70.0, metallic=0.85)


def wooden(draws: Draws, name: str, names: str = WOODS, period: float = 2.5) -> Material:
    """Return a wood."""
    return Material(tile(draws, f"{name}.grain", "wood", color(draws, name, names)), period, 0.04, 30.0)


def printed(
    draws: Draws, ground: np.ndarray, period: float, specular: float = 0.05, gloss: float = 50.0
) -> Material:
    """Return a ground color with a pattern; which pattern, and its color, are decor."""
    figure = color(draws, "decor.figure", "white cream black navy red teal yellow tan blue green orange pink")
    pattern = tile(draws, "decor.pattern", draws.choice("decor.kind", PRINT), ground, figure)
    return Material(pattern, period * draws.uniform("decor.period", 0.8, 2.0), specular, gloss)


def fabric(
    draws: Draws, name: str, period: float = 0.9, names: str = FABRIC, print_chance: float = 0.45
) -> Material:
    """Return a cloth of a drawn color; whether it is printed, and with what, is decor."""
    ground = color(draws, name, names)
    if draws.chance("decor.print", print_chance):
        return printed(draws, ground, period, 0.02, 8.0)
    weave = tile(draws, "decor.weave", draws.choice("decor.cloth", "fabric fabric leather"), ground)
    return Material(weave, period, draws.choice("decor.sheen", (0.02, 0.02, 0.06)), 12.0)
