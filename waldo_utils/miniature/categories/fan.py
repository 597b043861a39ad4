"""Fans: a cage with blades and a badge, on a desk foot, a pedestal or in a box."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain
from waldo_utils.miniature.meshes import (
    Mesh,
    ball,
    cylinder,
    grid_faces,
    lathe,
    move,
    rod,
    rounded_box,
    sweep,
    unit,
)
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import PLASTIC, color, decal


def build(draws: Draws) -> Model:
    """Build a fan that faces +z; lengths in units of about 5 cm."""
    model = Model()
    kind = draws.choice("kind.kind", "desk desk desk pedestal pedestal box")
    body = plain(
        color(draws, "color.body", f"{PLASTIC} cream mint teal"),
        0.05,
        draws.choice("color.gloss", (20, 60, 90)),
    )
    radius, bulge = draws.uniform("shape.radius", 2.6, 3.6), draws.uniform("shape.bulge", 0.9, 1.5)
    heights = {"desk": radius + draws.uniform("shape.neck", 0.8, 2), "box": radius * 1.125 + 0.3}
    height = heights.get(kind, draws.uniform("shape.pedestal", 8, 11))
    tilt = 0 if kind == "box" else draws.uniform("shape.tilt", -12, 6)
    for material, mesh in [*_cage(draws, body, kind, radius, bulge), *_blades(draws, radius)]:
        model.add(material, move(mesh, (0, height, 0), (tilt, 0, 0)))
    if kind != "box":
        _add_stand(model, draws, body, radius, bulge, height)
    return model


def _cage(
    draws: Draws, body: Material, kind: str, radius: float, bulge: float
) -> list[tuple[Material, Mesh]]:
    wire = metal(draws, "color.cage_metal") if draws.chance("color.metal_cage") else body
    angle = np.linspace(0, 2 * np.pi, 41)
    depth_at = ([0, radius * 0.5, radius * 0.85, radius], [bulge * 0.62, bulge * 0.6, bulge * 0.45, 0.0])

    def hoop(size: float, z: float, thickness: float) -> Mesh:
        circle = np.stack([size * np.cos(angle), size * np.sin(angle), 0 * angle + z], axis=1)
        return sweep(circle, thickness, 5, caps=False, up=(0, 0, 1))

    twist = draws.uniform("shape.twist", 0, 0.6) if draws.chance("part.twisted", 0.4) else 0
    wires, out = draws.choice("part.wires", (12, 18, 24, 36)), np.linspace(radius * 0.22, radius, 5)
    parts = []
    for side in (1, -1):
        for i in range(wires):
            turn = 2 * np.pi * i / wires + twist * (out / radius - 0.2)
            path = np.stack(
                [out * np.cos(turn), out * np.sin(turn), side * np.interp(out, *depth_at)], axis=1
            )
            parts.append((wire, sweep(path, 0.035, 4, caps=False)))
        for share in np.linspace(0.35, 0.85, draws.integer("part.rings", 1, 4)):
            parts.append((wire, hoop(radius * share, side * np.interp(radius * share, *depth_at), 0.04)))
    rim = (
        plain(color(draws, "decor.rim", PLASTIC), 0.05, 60)
        if draws.chance("decor.colored_rim", 0.4)
        else wire
    )
    parts += [(rim, hoop(radius, 0, 0.13)), (rim, hoop(radius, 0.12, 0.08))]

    ground = color(draws, "color.hub", PLASTIC)
    hub = plain(ground, 0.05, 60).stick(
        decal(draws, "decor.hub", ground, draws.choice("decor.hub_kind", "logo badge text")),
        0,
        0,
        radius * 0.36,
    )
    front = bulge * 0.62
    parts.append((hub, move(cylinder(radius * 0.26, 0, 0.12, segments=24), (0, 0, front), (90, 0, 0))))
    parts.append(
        (hub, move(rounded_box((radius * 0.36, radius * 0.36, 0.05), 0.02, 1), (0, 0, front + 0.13)))
    )
    parts.append(
        (body, move(ball(1, 18, 10), (0, 0, -bulge), scale=(radius * 0.3, radius * 0.3, bulge * 0.9)))
    )
    if kind == "box":
        wide = radius * 2.25
        for axis, sign in ((1, 1), (1, -1), (0, 1), (0, -1)):
            size, place = [wide, 0.3, bulge * 1.4], np.zeros(3)
            size[0], size[1] = (0.3, wide) if axis == 0 else (wide, 0.3)
            place[axis] = sign * wide / 2
            parts.append((body, move(rounded_box(size, 0.1, 2), place)))
            parts.append((body, rod(place * (radius * 0.98 / (wide / 2)), place, 0.16)))
    return parts


def _blades(draws: Draws, radius: float) -> list[tuple[Material, Mesh]]:
    if draws.chance("color.metal_blades", 0.3):
        material = metal(draws, "color.blade_metal")
    else:
        material = plain(color(draws, "color.blades", f"{PLASTIC} cream sky"), 0.05, 50)
    count, wide = draws.integer("part.blades", 3, 6), draws.uniform("shape.blade", 0.5, 0.9)
    along = np.linspace(0.1, 0.9, 8)
    half = wide * radius * 0.5 * np.sin(np.pi * (0.25 + 0.6 * along))
    rows = [
        np.stack([along * radius, s * half + along * radius * 0.12, s * half * 0.35 + 0.1 * along], axis=1)
        for s in (-1, 0, 1)
    ]
    vertices = np.stack(rows, axis=1).reshape(-1, 3)  # (8 * 3, 3)
    normals = np.tile(unit(np.array([[0, -0.35, 1.0]])), (len(vertices), 1))
    blade = Mesh(vertices, normals, vertices[:, :2], grid_faces(8, 3))
    phase = draws.uniform("shape.phase", 0, 90)
    return [(material, move(blade, rotate=(0, 0, phase + 360 * i / count))) for i in range(count)]


def _add_stand(model, draws, body, radius, bulge, height) -> None:
    reach, kind = (
        radius * draws.uniform("shape.foot", 0.5, 0.8),
        draws.choice("part.base", "round round square wide"),
    )
    if kind == "square":
        foot = move(rounded_box((reach * 2, 0.5, reach * 1.7), 0.2, 2), (0, 0.25, 0))
    else:
        foot = lathe(
            [(0, 0), (reach, 0), (reach, 0.2), (reach * 0.5, 0.5), (0.3, 0.9 if kind == "round" else 0.6)], 32
        )
    model.add(body, move(foot, (0, 0, -bulge * 0.8), scale=(1, 1, 0.7) if kind == "wide" else 1))
    model.add(
        body,
        rod((0, 0.4, -bulge * 0.8), (0, height, -bulge * 1.1), draws.uniform("shape.stem", 0.2, 0.4), 0.2),
    )
    if draws.chance("part.panel", 0.6):
        button = plain(color(draws, "color.buttons", "black white red silver"), 0.05, 40)
        count = draws.integer("part.buttons", 2, 5)
        squeeze = 0.7 if kind == "wide" else 1.0
        for i in range(count):
            x, z = (i - (count - 1) / 2) * 0.4, reach * 0.72
            level = 0.5 if kind == "square" else np.interp(np.hypot(x, z), [reach * 0.5, reach], [0.5, 0.2])
            slope = 0 if kind == "square" else np.degrees(np.arctan2(0.3, reach * 0.5 * squeeze))
            place = (x, level + 0.04, z * squeeze - bulge * 0.8)
            model.add(button, move(rounded_box((0.28, 0.2, 0.3), 0.04, 1), place, (slope, 0, 0)))
