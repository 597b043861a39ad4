"""Floors and walls: what is behind and under the product."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import mip_levels, sample_scaled
from waldo_utils.miniature.scene import Camera
from waldo_utils.miniature.textures import CERAMIC, WOODS, color, linear, noise

SIZE = 256  # pixels of a surface tile
FLOORS = "studio studio studio table table table plank plank carpet carpet tile concrete cloth plain"
FLOOR_COLORS = {
    "studio": "white white white grey sky cream",
    "table": f"{WOODS} white",
    "plank": WOODS,
    "carpet": "tan grey cream brown wine green blue",
    "tile": "white cream tan grey",
    "concrete": "grey silver tan",
}


@lru_cache(None)
def surface(kind: str, variant: int) -> list[np.ndarray]:
    """Return the mip levels of a floor or wall tile, (256, 256, 1) brightness of mean about one."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    rough, fine = noise(300 + variant, SIZE, 1.6), noise(320 + variant, SIZE, 0.5)
    if kind == "plank":
        count = 3 + variant % 4
        board = (y * count).astype(int)
        grain = np.tile(noise(340 + variant, SIZE, 1.4, 0.12, 1.0), (1, 2))
        grain = np.take_along_axis(grain, (np.arange(SIZE)[None] + 61 * board) % SIZE, axis=1)
        gap = (y * count % 1 < 0.03) | ((x + 0.37 * board) % 1 < 0.008)
        value = (0.75 + 0.5 * grain + 0.12 * np.sin(board * 2.4 + variant)) * np.where(gap, 0.45, 1)
    elif kind == "table":
        rings = 0.5 + 0.5 * np.sin(noise(360 + variant, SIZE, 1.5, 0.1, 1.0) * 26)
        value = 0.7 + 0.35 * rings + 0.25 * noise(370 + variant, SIZE, 0.5, 0.08, 1)
    elif kind == "carpet":
        value = 0.55 + 0.6 * fine + 0.3 * rough
    elif kind == "tile":
        count = 2 + variant % 3
        grout = (x * count % 1 < 0.03) | (y * count % 1 < 0.03)
        value = 0.9 + 0.2 * noise(380 + variant, SIZE, 1.2) - 0.4 * grout
    elif kind == "brick":
        course = (y * 8).astype(int)
        along = x * 4 + 0.5 * (course % 2)
        shade = 0.75 + 0.09 * np.sin((along.astype(int) * 7 + course * 13 + variant) * 1.7) + 0.3 * fine
        value = np.where((y * 8 % 1 < 0.1) | (along % 1 < 0.05), 1.25, shade)
    elif kind == "cloth":
        count = 4 + 2 * (variant % 3)
        value = 1.1 - 0.3 * (x * count % 1 < 0.4) - 0.3 * (y * count % 1 < 0.4) + 0.15 * (fine - 0.5)
    elif kind == "damask":
        wave = np.sin(2 * np.pi * (4 * x + np.sin(2 * np.pi * 4 * y) * 0.3))
        value = 1 + 0.25 * np.sign(wave) * np.cos(2 * np.pi * 4 * y)
    elif kind == "concrete":
        value = 0.65 + 0.7 * noise(390 + variant, SIZE, 1.2)
    else:
        value = 0.94 + 0.12 * rough
    return mip_levels(value[..., None])


def cluttered_wall(draws: Draws) -> np.ndarray:
    """Return a (256, 256, 3) sRGB wall with frames, books, boxes and lamps."""

    def rgb(name: str, names: str = f"{CERAMIC} oak walnut brown grey charcoal") -> tuple:
        return tuple(int(255 * channel) for channel in color(draws, f"wall.{name}", names))

    image = Image.new("RGB", (SIZE, SIZE), rgb("ground", "white cream grey sky tan mint pink"))
    canvas = ImageDraw.Draw(image)
    for i in range(draws.integer("wall.things", 3, 14)):
        x, y = draws.uniform(f"wall.x{i}", -0.1, 1) * SIZE, draws.uniform(f"wall.y{i}", -0.1, 1) * SIZE
        width = draws.uniform(f"wall.width{i}", 0.05, 0.35) * SIZE
        height = draws.uniform(f"wall.height{i}", 0.05, 0.4) * SIZE
        kind = draws.choice(f"wall.kind{i}", "frame frame books box lamp")
        if kind == "lamp":
            canvas.ellipse([x, y, x + width, y + width], fill=rgb(f"lamp{i}"))
        elif kind == "books":
            left = x
            for j in range(12):
                thick = draws.uniform(f"wall.thick{i}.{j}", 0.012, 0.04) * SIZE
                top = y + draws.uniform(f"wall.top{i}.{j}", 0, 0.4) * height
                canvas.rectangle([left, top, left + thick, y + height], fill=rgb(f"book{i}.{j}"))
                left += thick + 1
            canvas.rectangle([x - 4, y + height, left + 4, y + height + 5], fill=rgb(f"shelf{i}"))
        else:
            canvas.rectangle([x, y, x + width, y + height], fill=rgb(f"edge{i}"))
            if kind == "frame":
                inside = [x + width * 0.1, y + height * 0.1, x + width * 0.9, y + height * 0.9]
                canvas.rectangle(inside, fill=rgb(f"picture{i}"))
    return np.asarray(image, np.float32) / 255


class Backdrop:
    """The floor and the wall that a camera sees, before light falls on them.

    Attributes (N = height * width pixels, float32): `points` (N, 3), `reach` (N,) distance along the ray,
    `floor` (N,) bool, `colors` (N, 3) linear, `floor_color` (3,), `wall_z`, `studio` (a seamless backdrop).
    """

    def __init__(self, camera: Camera, draws: Draws):
        kind = draws.choice("floor", FLOORS)
        self.studio = kind == "studio"
        self.floor_color = linear(color(draws, "floor_color", FLOOR_COLORS.get(kind, CERAMIC)))
        self.wall_z = -(1.1 + draws.uniform("wall_distance", 0.3, 3))
        variant = draws.integer("surface", 0, 5)
        x, y = np.meshgrid(
            np.arange(camera.width, dtype=np.float32) + 0.5, np.arange(camera.height, dtype=np.float32) + 0.5
        )
        right = (x.ravel() - np.float32(camera.middle[0])) / np.float32(camera.focal)
        up = (np.float32(camera.middle[1]) - y.ravel()) / np.float32(camera.focal)
        rays = np.stack([right, up, -np.ones_like(right)], axis=1) @ camera.axes.astype(np.float32)  # (N, 3)
        eye = camera.eye.astype(np.float32)
        with np.errstate(divide="ignore"):
            to_floor, to_wall = -eye[1] / rays[:, 1], (np.float32(self.wall_z) - eye[2]) / rays[:, 2]
        to_floor = np.where(to_floor > 0, to_floor, np.float32(1e9))
        to_wall = np.where(to_wall > 0, to_wall, np.float32(1e9))
        self.floor = to_floor < to_wall
        self.reach = np.minimum(np.minimum(to_floor, to_wall), np.float32(200))
        self.points = eye + rays * self.reach[:, None]
        self.colors = np.empty_like(self.points)
        pixel = self.reach / np.float32(camera.focal)  # length that a pixel covers
        if self.studio:
            self.colors[self.floor] = self.floor_color
            self.colors[~self.floor] = self.floor_color * np.float32(draws.uniform("studio_wall", 0.75, 1.1))
        else:
            self._lay_floor(draws, kind, variant, rays, pixel)
            self._paint_wall(draws, variant, pixel)

    def _lay_floor(self, draws: Draws, kind: str, variant: int, rays: np.ndarray, pixel: np.ndarray) -> None:
        period, angle = draws.uniform("floor_period", 1.0, 3.5), draws.uniform("floor_angle", 0, 2 * np.pi)
        place, grazing = self.points[self.floor], np.sqrt(np.maximum(-rays[self.floor, 1], 0.02))
        u = (place[:, 0] * np.cos(angle) + place[:, 2] * np.sin(angle)) / period
        v = (place[:, 2] * np.cos(angle) - place[:, 0] * np.sin(angle)) / period
        blur = pixel[self.floor] / period / np.maximum(grazing, 0.1)
        value = sample_scaled(surface(kind, variant), u.astype(np.float32), v.astype(np.float32), blur)
        self.colors[self.floor] = self.floor_color * value

    def _paint_wall(self, draws: Draws, variant: int, pixel: np.ndarray) -> None:
        kind = draws.choice("wall", "plain plain brick damask clutter clutter clutter")
        wall = ~self.floor
        place = self.points[wall]
        if kind == "clutter":
            u, v = place[:, 0] / 5 + np.float32(0.5), 1 - place[:, 1] / 5
            colors = sample_scaled(mip_levels(linear(cluttered_wall(draws))), u, v, pixel[wall] / 5)
        else:
            period = np.float32(draws.uniform("wall_period", 1, 3))
            ground = linear(color(draws, "wall_color", "white white cream grey sky tan mint pink yellow"))
            u, v = place[:, 0] / period, place[:, 1] / period
            colors = ground * sample_scaled(surface(kind, variant), u, v, pixel[wall] / period)
        if draws.chance("skirting"):
            colors = np.where(
                place[:, 1:2] < 0.25, linear(color(draws, "skirting_color", "white oak walnut")), colors
            )
        self.colors[wall] = colors
