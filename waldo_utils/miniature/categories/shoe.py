"""Shoes: sneakers, boots and loafers lying along x, toe to the right; stripes and motifs on both sides."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, fabric, plain
from waldo_utils.miniature.meshes import FACE_U, Mesh, grid_faces, join, move, rounded_box, slab, sweep, unit
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, FABRIC, color, decal


def build(draws: Draws) -> Model:
    """Build a shoe; lengths in centimeters."""
    model = Model()
    kind = draws.choice("kind.kind", "sneaker sneaker boot loafer")
    length, width = draws.uniform("shape.length", 24, 29), draws.uniform("shape.width", 8.5, 10.5)
    ankle = {"sneaker": 8, "boot": 17, "loafer": 5.5}[kind] * draws.uniform("shape.ankle", 0.85, 1.15)
    sole = draws.uniform("shape.sole", 1.5, 3.5)
    upper = fabric(draws, "color.upper", 4, print_chance=0.3)
    _decorate(draws, upper, length, sole)
    x = np.linspace(-length / 2, length / 2, 26)
    t = (x + length / 2) / length  # 0 heel, 1 toe
    outline = (
        width
        * (0.72 + 0.28 * np.sin(np.pi * np.clip(t * 1.15 - 0.1, 0, 1)))
        * np.sqrt(np.clip(1 - (2 * abs(t - 0.5)) ** 7, 0.06, 1))
    )
    rubber = plain(color(draws, "color.sole", "white white black tan grey cream"), 0.04, 20)
    heel = draws.uniform("shape.heel", 0, 2.5) if kind != "sneaker" else 0
    model.add(
        rubber, slab(x, np.where(t > 0.3, heel * 0.5 * (t < 0.45), 0), sole + heel * (1 - t), outline * 1.06)
    )
    bottom = sole + heel * (1 - t) - 0.2
    height = _rise(draws, t, ankle)
    model.add(upper, _upper(x, t, outline, bottom, height))
    if kind != "loafer":
        _add_laces(model, draws, x, bottom + height, length, width)
    if draws.chance("part.heel_tab", 0.6):
        tab = plain(color(draws, "color.tab", FABRIC), 0.04, 20)
        model.add(
            tab,
            move(
                rounded_box((0.8, ankle * 0.6, width * 0.4), 0.3, 2),
                (-length * 0.48, sole + heel + ankle * 0.5, 0),
            ),
        )
    return model


def _rise(draws: Draws, t: np.ndarray, ankle: float) -> np.ndarray:
    """Return the upper's height over the sole: high at the ankle and low at the toe."""
    rise = draws.uniform("shape.toe", 3.6, 5.0) * np.clip((1 - t) * 9, 0, 1) ** 0.5
    opening = draws.uniform("shape.opening", 0.3, 0.42)
    return rise + (ankle - rise * 0.2) / (1 + np.exp((t - opening) * 16)) * np.clip(t * 12 + 0.5, 0, 1)


def _upper(x, t, outline, bottom, height) -> Mesh:
    """Return the upper: sections that are arches over the sole."""
    angle = np.linspace(0, np.pi, 17)
    half = outline[:, None] / 2 * np.sign(np.cos(angle)) * abs(np.cos(angle)) ** 0.6
    y = bottom[:, None] + height[:, None] * np.sin(angle) ** 0.7
    vertices = np.stack([np.broadcast_to(x[:, None], y.shape), y, half], axis=-1)  # (26, 17, 3)
    normals = unit(
        np.stack([0.15 * (t[:, None] - 0.4) + 0 * y, np.sin(angle) + 0 * y, np.cos(angle) + 0 * y], axis=-1)
    )
    front = half >= 0
    u = np.where(front, FACE_U["front"] + x[:, None], FACE_U["back"] - x[:, None])
    return Mesh(
        vertices.reshape(-1, 3),
        normals.reshape(-1, 3),
        np.stack([u, y], axis=-1).reshape(-1, 2),
        grid_faces(26, 17),
    )


def _decorate(draws: Draws, upper: Material, length: float, sole: float) -> None:
    """Put stripes or a motif on both sides."""
    kind = draws.choice("decor.side", "stripes stripes motif none")
    ink = np.append(color(draws, "decor.ink", CERAMIC), 1.0)
    for face, sign in (("front", 1), ("back", -1)):
        if kind == "stripes":
            for i in range(draws.integer("decor.stripes", 1, 4)):
                upper.stick(
                    np.broadcast_to(ink, (4, 4, 4)), FACE_U[face] + sign * (i * 1.8 - 1), sole + 3, 0.9, 4.5
                )
        elif kind == "motif":
            motif = decal(draws, "decor.motif", np.full(3, 0.5))
            upper.stick(
                motif, FACE_U[face] - sign * length * 0.12, sole + 3.2, draws.uniform("decor.size", 3, 5)
            )


def _add_laces(model, draws, x, top, length, width) -> None:
    """Add laces across the ridge of the upper, which is at heights `top` over `x`."""
    lace = plain(color(draws, "color.laces", "white black red yellow cream"), 0.03, 12)
    rows = []
    for i in range(draws.integer("part.laces", 3, 6)):
        place = length * (0.02 + 0.055 * i)
        level = np.interp(place, x, top)
        side = np.array([0, -0.25, width * 0.2])
        path = [
            (place, level, 0) + side * (1, 1, -1),
            (place + 0.25, level + 0.1, 0),
            (place + 0.5, level, 0) + side,
        ]
        rows.append(sweep(path, 0.25, 6))
    model.add(lace, join(*rows))
