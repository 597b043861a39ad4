"""Lamps: table, tripod, floor and desk lamps; a base, a shade of many outlines, trims."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain, printed, wooden
from waldo_utils.miniature.meshes import (
    Mesh,
    around,
    ball,
    curve,
    cylinder,
    facet,
    lathe,
    move,
    rod,
    rounded_box,
)
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, PLASTIC, color, tile

SHADE_COLORS = "white cream cream white tan red navy teal grey black yellow mint"


def turned(draws: Draws, height: float, radius: float, name: str = "shape.turned") -> list[tuple]:
    """Return a smooth random profile, `height` tall and `radius` at its widest."""
    count = draws.integer(f"{name}.count", 4, 7)
    shares = np.array([draws.uniform(f"{name}.{i}", 0.3, 1.0) for i in range(count)])
    shares = shares / shares.max()
    shares[0], shares[-1] = draws.uniform(f"{name}.foot", 0.55, 0.95), draws.uniform(f"{name}.top", 0.2, 0.4)
    line = curve(np.stack([shares * radius, np.linspace(0, height, count)], axis=1), 26)
    line[:, 0] = np.maximum(line[:, 0], 0.12 * radius)
    return [(0, line[0, 1]), *map(tuple, line), (0, height)]


def build(draws: Draws) -> Model:
    """Build a lamp; lengths in units of about 5 cm."""
    model = Model()
    kind = draws.choice("kind.kind", "table table table table tripod floor desk")
    accent = metal(draws, "color.accent")
    if kind == "desk":
        _add_desk_lamp(model, draws, accent)
        return model
    level = _add_base(model, draws, kind, accent)
    for material, mesh in _shade(draws, accent):
        model.add(material, move(mesh, (0, level, 0)))
    return model


def _add_base(model: Model, draws: Draws, kind: str, accent: Material) -> float:
    """Add the base and return the level of the shade."""
    material = _base_material(draws)
    if kind == "floor":
        level = draws.uniform("shape.floor_height", 9, 13)
        model.add(
            material,
            cylinder(draws.uniform("shape.foot", 1.5, 2.1), -0.3, 0, bevel=0.05),
            cylinder(0.2, 0, level),
        )
        for i in range(draws.integer("part.knobs", 0, 3)):
            model.add(accent, ball(0.45, 14, 8, level * draws.uniform(f"shape.knob{i}", 0.1, 0.8)))
        return level
    if kind == "tripod":
        level = draws.uniform("shape.tripod_height", 5, 9)
        leg = rod((0, level, 0), (level * draws.uniform("shape.tripod_reach", 0.28, 0.42), 0, 0), 0.28, 0.16)
        model.add(material, around(leg, 3, 30), cylinder(0.5, level - 0.5, level + 0.1, segments=16))
        return level
    height, radius = draws.uniform("shape.base_height", 4, 7), draws.uniform("shape.base_radius", 1.1, 2.2)
    form = draws.choice("part.form", "vase vase vase column stack block")
    if form == "vase":
        model.add(material, lathe(turned(draws, height, radius), 36))
    elif form == "column":
        cap = lathe([(radius * 0.3, height - 0.6), (radius * 0.5, height - 0.3), (0, height)], 28)
        shaft = cylinder(radius * 0.35, 0.5, height - 0.4, radius * 0.28)
        model.add(material, cylinder(radius, 0, 0.5, radius * 0.9), shaft, cap)
    elif form == "stack":
        count = draws.integer("part.balls", 2, 5)
        for i in range(count):
            model.add(
                material, ball(height / count * 0.575, 24, 12, height * (i + 0.5) / count + 0.1, 1 / 1.1)
            )
    else:
        model.add(
            material, move(rounded_box((radius * 1.4, height, radius * 1.1), 0.15, 2), (0, height / 2, 0))
        )
    foot = cylinder(radius * draws.uniform("shape.foot", 0.7, 1), -0.35, 0, bevel=0.05)
    model.add(accent, foot, cylinder(0.25, height - 0.1, height + 1))
    return height + 0.9


def _base_material(draws: Draws) -> Material:
    kind, ground = (
        draws.choice("color.base_kind", "ceramic ceramic wood metal glass"),
        color(draws, "color.base", CERAMIC),
    )
    if kind == "wood":
        return wooden(draws, "color.wood")
    if kind == "metal":
        return metal(draws, "color.metal")
    if kind == "glass":
        return plain(ground * 0.6 + 0.1, 0.12, 90)
    pattern = draws.choice("decor.base_kind", "solid solid solid stripe floral marble speckle")
    return Material(
        tile(draws, "decor.base", pattern, ground, color(draws, "decor.base_figure", CERAMIC)), 3, 0.05, 70
    )


def _shade(draws: Draws, accent: Material) -> list[tuple[Material, Mesh]]:
    """Return the shade, its trims, the bulb and what holds it, its lower edge at level 0."""
    kind = draws.choice("part.shade", "empire empire drum drum cone bell dome square")
    radius, height = (
        draws.uniform("shape.shade_radius", 2.2, 3.2),
        draws.uniform("shape.shade_height", 2.4, 4.0),
    )
    drum = draws.uniform("shape.drum", 0.88, 1)
    top = (
        radius * {"empire": 0.6, "drum": drum, "cone": 0.25, "bell": 0.45, "dome": 0.2, "square": 0.65}[kind]
    )
    t = np.linspace(0, 1, 10)
    if kind == "bell":
        outline = top + (radius - top) * (1 - t) ** 1.9
    elif kind == "dome":
        outline = top + (radius - top) * np.sqrt(1 - t**2)
    else:
        outline = radius + (top - radius) * t
    sides = 4 if kind == "square" else draws.choice("part.sides", (40, 40, 40, 6, 8))
    profile = np.stack([outline, t * height], axis=1)
    if sides == 40 and draws.chance("part.pleats", 0.2):
        mesh = lathe(profile, 80, 60)
        angle = np.arctan2(mesh.vertices[:, 2], mesh.vertices[:, 0])
        mesh.vertices[:, [0, 2]] *= (1 + 0.025 * np.sign(np.sin(angle * 40 + 0.04)))[:, None]
        mesh = facet(mesh)
    else:
        mesh = lathe(profile, sides, 60, facets=sides < 10)
    parts = [(_shade_material(draws, radius), mesh)]
    if draws.chance("decor.trimmed", 0.35):
        trim = plain(color(draws, "decor.trim", CERAMIC), 0.03, 20)
        parts.append(
            (trim, lathe([(radius * 1.01, -0.02), (outline[1] * 1.012 + 0.01, height * 0.08)], sides))
        )
        parts.append(
            (trim, lathe([(outline[-2] * 1.012 + 0.01, height * 0.93), (top * 1.02, height)], sides))
        )
    bulb = plain(np.array([1, 0.95, 0.8]), 0.05, 40, glow=0.8)
    spokes = around(rod((0, height * 0.92, 0), (top, height * 0.97, 0), 0.05, sides=4), 3)
    return [
        *parts,
        (bulb, ball(0.5, 14, 8, height * 0.35)),
        (accent, rod((0, -0.8, 0), (0, height * 0.35, 0), 0.16)),
        (accent, rod((0, height * 0.35, 0), (0, height * 0.93, 0), 0.05, sides=4)),
        (accent, spokes),
    ]


def _shade_material(draws: Draws, radius: float) -> Material:
    ground = color(draws, "color.shade", SHADE_COLORS)
    glow = draws.choice("color.lit", (0.05, 0.05, 0.6))
    if draws.chance("decor.print"):
        material = printed(draws, ground, 2 * np.pi * radius / draws.integer("decor.repeats", 3, 8), 0.02, 10)
    else:
        cloth = draws.choice("decor.cloth", "fabric leather solid")
        material = Material(tile(draws, "decor.plain", cloth, ground), 1.2, 0.02, 10)
    material.glow = glow
    return material


def _add_desk_lamp(model: Model, draws: Draws, accent: Material) -> None:
    """Add a foot, two arms with joints, and a tilted reflector."""
    body = plain(color(draws, "color.base", PLASTIC), 0.06, 60)
    stripe = plain(color(draws, "decor.ring", CERAMIC), 0.05, 60)
    foot = draws.uniform("shape.foot", 1.5, 2.2)
    lean, bend = (
        np.radians(draws.uniform("shape.lean", 10, 40)),
        np.radians(draws.uniform("shape.bend", 40, 80)),
    )
    start = np.array([0, 0.3, 0])
    elbow = start + draws.uniform("shape.lower", 4, 5.5) * np.array([-np.sin(lean), np.cos(lean), 0])
    head = elbow + draws.uniform("shape.upper", 3.5, 5) * np.array([np.sin(bend), np.cos(bend), 0])
    arm = accent if draws.chance("color.accent_arm") else body
    model.add(body, cylinder(foot, 0, 0.35, foot * 0.9, bevel=0.08))
    model.add(stripe, cylinder(foot * 0.6, 0.35, 0.35 + draws.uniform("decor.ring_height", 0.05, 0.3)))
    model.add(
        arm,
        rod(start, elbow, 0.14),
        rod(elbow, head, 0.14),
        rod(head, head + [0.2, -1.4, 0], 0.14),
        move(ball(0.28, 12, 8), elbow),
        move(ball(0.25, 12, 8), head),
    )
    if draws.chance("part.double"):
        model.add(
            accent,
            rod(start + [0.35, 0, 0], elbow + [0.35, 0, 0], 0.08),
            rod(elbow + [0, 0.3, 0], head + [0, 0.3, 0], 0.08),
        )
    tilt = (0, 0, draws.uniform("shape.tilt", 0, 25))
    if draws.chance("part.dome"):
        reflector = lathe([(2.2, 0.35), (1.6, 0.5), (0.8, 1.2), (0, 1.5)], 28)
    else:
        reflector = lathe([(2.3, 0.5), (1.8, 0.5), (0.5, 1.5), (0, 1.5)], 28)
    model.add(body, move(reflector, head + [0.2, -1.6, 0], tilt))
    if draws.chance("decor.rimmed"):
        model.add(stripe, move(lathe([(2.32, 0.3), (2.3, 0.6)], 28), head + [0.2, -1.6, 0], tilt))
    model.add(
        plain(np.array([1, 0.95, 0.8]), 0.05, 40, glow=0.8), move(ball(0.4, 12, 8), head + [0.2, -1.4, 0])
    )
