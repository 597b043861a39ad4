"""Staplers: a base, an arm that tapers to the front, a magazine, prints on both sides and on top."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain
from waldo_utils.miniature.meshes import FACE_U, Mesh, cylinder, move, rounded_box, slab
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, PLASTIC, PRINT, color, decal, tile


def build(draws: Draws) -> Model:
    """Build a stapler lying along x; lengths in centimeters."""
    model = Model()
    kind = draws.choice("kind.kind", "desk desk desk mini heavy")
    length = draws.uniform("shape.length", 9, 13) * (0.6 if kind == "mini" else 1)
    width, arm_height = draws.uniform("shape.width", 1.6, 2.6), draws.uniform("shape.arm_height", 0.9, 1.6)
    ground, gloss = color(draws, "color.body", PLASTIC), draws.choice("color.gloss", (15, 60, 90))
    two_tone = draws.chance("color.two")
    base = plain(
        color(draws, "color.second", "black charcoal grey silver white") if two_tone else ground, 0.05, gloss
    )
    has_lever = kind == "heavy" or draws.chance("part.lever", 0.15)
    body = _body_material(draws, ground, gloss, length, arm_height)
    lever_material = body.bare()
    if draws.chance("decor.top", 0.6):
        place = FACE_U["top"] + draws.uniform("decor.top_place", -0.2, 0.2) * length
        (lever_material if has_lever else body).stick(
            decal(draws, "decor.top_motif", ground), place, 0, width * 0.75
        )
    steel, rubber = metal(draws, "color.steel", "chrome"), plain(np.full(3, 0.07), 0.03, 10)

    x = np.linspace(-length / 2, length / 2, 28)
    t = (x + length / 2) / length
    foot = draws.uniform("shape.base", 0.5, 0.8)
    ends = np.sqrt(np.clip(1 - (2 * abs(t - 0.5)) ** draws.integer("part.round", 6, 16), 0.05, 1))
    flare = 1 + draws.uniform("shape.flare", 0, 0.25) * np.cos(t * np.pi * 2) ** 2
    model.add(base, slab(x, 0 * x, foot * (1 - 0.25 * t), width * flare * ends))
    if draws.chance("part.pad", 0.6):
        model.add(rubber, move(rounded_box((length * 0.9, 0.12, width * 0.9), 0.04, 1), (0, 0, 0)))
    model.add(steel, move(rounded_box((1.3, 0.08, width * 0.5), 0.03, 1), (length * 0.4, foot * 0.8, 0)))

    tilt, lift = (
        draws.uniform("shape.tilt", 3, 8),
        foot + draws.uniform("shape.gap", 0.5, 1.0) + (kind == "heavy"),
    )
    top, wide = _arm_outline(draws, t, arm_height, width)

    def lifted(mesh: Mesh) -> Mesh:
        return move(mesh, (0, lift, 0), (0, 0, tilt))

    model.add(body, lifted(slab(x, 0 * x + 0.25, top + 0.25, wide)))
    magazine = rounded_box((length * 0.96, 0.45, width * 0.55), 0.05, 1)
    model.add(steel if draws.chance("part.magazine", 0.7) else base, lifted(move(magazine, (0.1, 0.08, 0))))
    _add_hinge(model, draws, base, steel, length, width, foot, lift, arm_height)
    if has_lever:
        lever = slab(x * 0.9, 0 * x, 0 * x + 0.35, wide * 0.9)
        model.add(lever_material, lifted(move(lever, (0.4, arm_height * 1.35 + 0.25, 0), (0, 0, 5))))
    if draws.chance("part.grip", 0.3):
        for i in range(draws.integer("part.ridges", 3, 7)):
            place = length * 0.25 + 0.38 * i - 0.8
            ridge = rounded_box((0.18, 0.14, width * 0.7), 0.05, 1)
            model.add(rubber, lifted(move(ridge, (place, np.interp(place, x, top) + 0.27, 0))))
    return model


def _body_material(draws, ground, gloss, length, arm_height) -> Material:
    """Return the arm's material: plain, striped or printed, perhaps with motifs on both sides."""
    if draws.chance("decor.print", 0.25):
        pattern = tile(
            draws,
            "decor.pattern",
            draws.choice("decor.kind", PRINT),
            ground,
            color(draws, "decor.figure", CERAMIC),
        )
        material = Material(pattern, draws.uniform("decor.period", 1.5, 4), 0.05, gloss)
    else:
        material = plain(ground, 0.05, gloss)
    side = draws.choice("decor.side", "motif motif motif bands bands none")
    if side == "motif":
        motif = decal(draws, "decor.motif", ground, draws.choice("decor.motif_kind", "text logo badge art"))
        place, size = draws.uniform("decor.place", -0.25, 0.2) * length, arm_height * 0.85
        for copy in range(draws.integer("decor.copies", 1, 3)):
            for face, sign in (("front", 1), ("back", -1)):
                material.stick(motif, FACE_U[face] + sign * (place + copy * size), arm_height * 0.6, size)
    elif side == "bands":
        ink = np.append(color(draws, "decor.ink", CERAMIC), 1.0)
        wide = draws.uniform("decor.band_width", 0.02, 0.06) * length
        first = draws.uniform("decor.band_at", -0.3, 0.2) * length
        for i in range(draws.integer("decor.bands", 1, 4)):
            for face, sign in (("front", 1), ("back", -1), ("top", 1)):
                place = FACE_U[face] + sign * (first + 1.8 * wide * i)
                material.stick(np.broadcast_to(ink, (4, 4, 4)), place, 0, wide, 8)
    return material


def _arm_outline(draws, t, height, width) -> tuple[np.ndarray, np.ndarray]:
    """Return height and width of the arm along its length t in [0, 1]."""
    outlines = {
        "flat": np.ones_like(t),
        "arch": 0.55 + 0.9 * np.sin(np.pi * (0.15 + 0.75 * t)),
        "wedge": 1.5 - 0.9 * t,
        "wave": 1 + 0.35 * np.sin(2 * np.pi * t + 0.6),
        "step": np.where(t < 0.35, 1.45, 1 - 0.2 * t),
    }
    ends = np.clip(np.minimum(t, 1 - t) * 16 + 0.25, 0, 1) ** 0.5
    top = height * outlines[draws.choice("part.arm", list(outlines))] * ends
    rounding = np.sqrt(np.clip(1 - (2 * abs(t - 0.5)) ** 10, 0.05, 1))
    nose = 1 - draws.uniform("shape.nose", 0, 0.25) * t
    return top, width * draws.uniform("shape.arm_width", 0.75, 1) * rounding * nose


def _add_hinge(model, draws, base, steel, length, width, foot, lift, arm_height) -> None:
    middle = length * 0.09 - length / 2
    x = np.linspace(middle - length * 0.08, middle + length * 0.1, 10)
    top = lift + 0.2 + arm_height * 0.5 * np.sin(np.linspace(0.5, 2.6, 10))
    model.add(base, slab(x, np.full(10, foot * 0.5), top, width * draws.uniform("shape.hinge", 0.9, 1.1)))
    pin = cylinder(0.28, -width * 0.56, width * 0.56, segments=14)
    model.add(steel, move(pin, (middle, lift + 0.1, 0), (90, 0, 0)))
