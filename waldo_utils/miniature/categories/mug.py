"""Mugs: a turned body, an inside, a handle; prints on both sides."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, plain
from waldo_utils.miniature.meshes import curve, lathe, sweep
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, PRINT, color, decal, tile

WALL = 0.3

# Handle outlines: out from the wall and up, in shares of the handle's width and height.
HANDLES = {
    "round": [(0, 1), (0.75, 1), (1, 0.5), (0.75, 0), (0, 0)],
    "ear": [(0, 1), (0.9, 1.08), (1.05, 0.7), (0.6, 0.2), (0, 0)],
    "square": [(0, 1), (0.85, 1), (1, 0.9), (1, 0.1), (0.85, 0), (0, 0)],
    "slanted": [(0, 1), (1, 0.98), (1.05, 0.6), (0.9, 0.1), (0, 0)],
    "low": [(0, 0.8), (0.8, 0.75), (1, 0.3), (0.6, -0.05), (0, -0.05)],
    "small": [(0, 0.95), (0.6, 1.05), (1, 0.75), (0.8, 0.4), (0, 0.35)],
}


def build(draws: Draws) -> Model:
    """Build a mug; lengths in centimeters."""
    model = Model()
    height = draws.uniform("shape.height", 8, 12)
    radii, levels = _outline(draws, height)
    ground = color(draws, "color.body", CERAMIC)
    gloss = draws.choice("color.gloss", (15, 60, 90))
    two_tone = draws.chance("color.two", 0.35)
    second = color(draws, "color.second", CERAMIC) if two_tone else ground
    outside = _outside(draws, ground, gloss, height, radii)
    inside = plain(second, 0.05, gloss)
    handle = plain(second if draws.chance("color.handle") else ground, 0.05, gloss)

    model.add(outside, lathe([(0, 0.0), *zip(radii, levels, strict=True)], 48, crease=50))
    rim, lip = radii[-1], draws.uniform("shape.lip", 0.1, 0.25)
    down = [(max(r - WALL, 0.3), y) for r, y in zip(radii[-2::-1], levels[-2::-1], strict=True) if y > 0.5]
    model.add(
        inside,
        lathe([(rim, height), (rim - WALL / 2, height + lip), (rim - WALL, height), *down, (0, 0.5)], 48, 80),
    )
    model.add(handle, _handle(draws, height, radii, levels))
    return model


def _outline(draws: Draws, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Return radii and levels of the body from the foot to the rim."""
    t = np.linspace(0, 1, 12)
    bend = draws.uniform("shape.bend", 0.06, 0.2)
    shapes = {
        "straight": np.ones(12),
        "taper": 1 - bend + bend * t,
        "barrel": 1 - bend + 1.4 * bend * np.sin(np.pi * t),
        "tulip": 1 - 0.8 * bend * np.sin(2 * np.pi * t),
        "belly": 1 + 1.4 * bend * np.sin(np.pi * np.minimum(t * 1.5, 1)) - bend * t,
        "flare": 1 - bend + 2 * bend * t**3,
        "latte": 0.62 + 0.38 * t**0.6,
    }
    shape = draws.choice("kind.body", "straight straight taper barrel tulip belly flare latte")
    radii = draws.uniform("shape.radius", 3.5, 4.9) * shapes[shape]
    radii[0] -= 0.35
    return radii, t * height


def _outside(draws: Draws, ground: np.ndarray, gloss: float, height: float, radii: np.ndarray) -> Material:
    """Return the body's material: a pattern all round, or motifs on both sides, perhaps a colored rim."""
    around = 2 * np.pi * radii.max()
    wrapped = draws.chance("decor.wrapped", 0.3)
    if wrapped:
        figure = color(draws, "decor.figure", CERAMIC)
        pattern = tile(draws, "decor.pattern", draws.choice("decor.kind", PRINT), ground, figure)
        material = Material(pattern, around / draws.integer("decor.repeats", 2, 5), 0.05, gloss)
    else:
        material = plain(ground, 0.05, gloss)
    foot = radii[0]  # v starts at the middle of the bottom
    if not wrapped or draws.chance("decor.both", 0.3):
        size = draws.uniform("decor.size", 0.5, 0.85) * height
        level = foot + height * draws.uniform("decor.level", 0.42, 0.58)
        layout = draws.choice("decor.layout", "sides sides sides band mixed")
        if layout == "band":
            size = min(size, around / 8)
        places = np.arange(7) / 7 + 0.03 if layout == "band" else (0.25, 0.75)
        for i, place in enumerate(places):
            motif = decal(draws, f"decor.motif{i if layout == 'mixed' else 0}", ground)
            material.stick(motif, -around * place, level, size)
    if draws.chance("decor.rim", 0.2):
        rim = np.append(color(draws, "decor.rim_color", CERAMIC), 1.0)
        material.stick(
            np.broadcast_to(rim, (4, 4, 4)), -around / 2, foot + height * 0.95, around, height * 0.09
        )
    return material


def _handle(draws: Draws, height: float, radii: np.ndarray, levels: np.ndarray):
    """Return the handle's tube, on the right (+x)."""
    top, bottom = (
        height * draws.uniform("shape.handle_top", 0.78, 0.9),
        height * draws.uniform("shape.handle_bottom", 0.15, 0.3),
    )
    reach = draws.uniform("shape.handle_reach", 2.0, 3.2)
    places = []
    for out, up in HANDLES[draws.choice("part.handle", "round round ear square slanted low small")]:
        level = bottom + (top - bottom) * up
        places.append((np.interp(level, levels, radii) - 0.15 + reach * out, level, 0))
    thickness, aspect = (
        draws.uniform("shape.handle_thickness", 0.38, 0.62),
        draws.uniform("shape.handle_aspect", 0.9, 1.7),
    )
    return sweep(curve(places, 22), thickness, 10, aspect, up=(0, 0, 1))
