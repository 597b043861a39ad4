"""Shirts: a garment laid on an invisible body, with a print on the chest and the back, sleeves and a
collar."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import fabric, plain
from waldo_utils.miniature.meshes import FACE_U, Mesh, ball, curve, move, rounded_box, slab, sweep
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import FABRIC, color, decal


def build(draws: Draws) -> Model:
    """Build a shirt that hangs and faces +z; lengths in decimeters."""
    model = Model()
    width, height, depth = (
        draws.uniform("shape.width", 4.4, 5.6),
        draws.uniform("shape.height", 5.5, 7),
        draws.uniform("shape.depth", 0.8, 1.3),
    )
    cloth = fabric(draws, "color.cloth", 1.0, print_chance=0.4)
    trim = plain(color(draws, "color.trim", FABRIC), 0.02, 10) if draws.chance("color.two", 0.5) else cloth
    _print(draws, cloth, width, height)
    sleeve, spread = (
        draws.choice("kind.sleeve", (0.0, 1.6, 1.6, 1.6, 4.2)),
        draws.uniform("shape.spread", 0.5, 0.85),
    )
    model.add(cloth, _torso(width, height, depth, sleeve == 0))
    if sleeve:
        for side in (-1, 1):
            shoulder = np.array([side * (width / 2 - 0.9), height - 1.3, 0])
            reach = np.array([side * spread, -np.sqrt(1 - spread**2), 0]) * (sleeve + 0.9)
            path = curve([shoulder, shoulder + reach * 0.5 + [side * 0.1, 0.1, 0], shoulder + reach], 10)
            model.add(
                trim if draws.chance("color.sleeves", 0.4) else cloth,
                sweep(
                    path, np.linspace(0.95, 0.62 if sleeve > 2 else 0.8, 10), 14, depth * 0.45, up=(0, 1, 0)
                ),
            )
            if draws.chance("part.cuffs"):
                ends = sweep(path[-2:], 0.68 if sleeve > 2 else 0.86, 14, depth * 0.5, up=(0, 1, 0))
                model.add(trim, ends)
    _add_collar(model, draws, trim, height, depth)
    return model


def _torso(width: float, height: float, depth: float, sleeveless: bool) -> Mesh:
    """Return the body: flat, with sloping shoulders and a neck opening; its sides are rounded."""
    x = width / 2 * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 31))
    out = abs(x) / (width / 2)
    slope = height - 1.1 * np.clip((abs(x) - 1.0) / (width / 2 - 1.0), 0, 1) - 0.25 * (abs(x) < 0.95)
    if sleeveless:
        armhole = np.clip((abs(x) - 1.6) / (width / 2 - 1.6), 0, 1) ** 0.6
        slope = height - 2.2 * armhole - 0.9 * (abs(x) < 0.95)
    thick = depth * np.sqrt(np.clip(1 - out**3, 0.02, 1))
    return slab(x, 0.12 * out**2, slope, thick)


def _print(draws: Draws, cloth, width: float, height: float) -> None:
    """Put a motif, or stripes across the chest, on both sides."""
    kind = draws.choice("decor.chest", "motif motif motif stripes none")
    for face in ("front", "back"):
        if kind == "motif":
            size, level = (
                draws.uniform("decor.size", 0.4, 0.75) * width,
                draws.uniform("decor.level", 0.5, 0.62) * height,
            )
            cloth.stick(decal(draws, "decor.motif", np.full(3, 0.5)), FACE_U[face], level, size)
        elif kind == "stripes":
            ink = np.append(color(draws, "decor.ink", FABRIC), 1.0)
            for i in range(draws.integer("decor.stripes", 1, 4)):
                level = height * (draws.uniform("decor.first", 0.5, 0.75) - 0.1 * i)
                cloth.stick(np.broadcast_to(ink, (4, 4, 4)), FACE_U[face], level, width * 1.1, height * 0.055)


def _add_collar(model, draws, trim, height, depth) -> None:
    kind, angle = draws.choice("part.collar", "round round vee buttons"), np.linspace(0, 2 * np.pi, 24)
    drop = 0.55 if kind == "vee" else 0.25
    ring = np.stack(
        [
            0.95 * np.cos(angle),
            height + 0.02 - drop * np.clip(np.sin(angle), 0, 1),
            depth * 0.42 * np.sin(angle),
        ],
        axis=1,
    )
    model.add(trim, sweep(ring, 0.13, 7, 1.4, caps=False))
    inside = move(ball(1, 16, 8), (0, height - 0.2, 0), scale=(0.85, 0.18, depth * 0.38))
    model.add(plain(np.full(3, 0.08), 0.02, 10), inside)
    if kind == "buttons":
        button = plain(color(draws, "color.buttons", "white black brown"), 0.06, 50)
        model.add(
            trim,
            move(rounded_box((0.45, height * 0.9, 0.08), 0.03, 1), (0, height * 0.48, depth / 2 + 0.02)),
        )
        for i in range(5):
            model.add(button, move(ball(0.1, 8, 6), (0, height * (0.85 - 0.16 * i), depth / 2 + 0.08)))
