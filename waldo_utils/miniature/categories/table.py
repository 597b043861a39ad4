"""Tables: a top of many shapes and surfaces on legs, a pedestal, a trestle; aprons, drawers, shelves."""

import numpy as np

from waldo_utils.miniature.categories.lamp import turned
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain, printed, wooden
from waldo_utils.miniature.meshes import (
    FACE_U,
    Mesh,
    around,
    ball,
    curve,
    cylinder,
    join,
    lathe,
    move,
    rod,
    rounded_box,
    sweep,
)
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color, decal, tile


def build(draws: Draws) -> Model:
    """Build a table; lengths in decimeters."""
    model = Model()
    width, depth = draws.uniform("shape.width", 6, 12), draws.uniform("shape.depth", 4, 6.5)
    height = draws.choice("shape.kind", (3.5, 5, 7)) * draws.uniform("shape.height", 0.85, 1.15)
    thickness = draws.uniform("shape.thickness", 0.15, 0.5)
    surface, frame = _top_material(draws, depth), _frame_material(draws)
    shape = draws.choice("kind.shape", "rect rect rect round oval rounded")
    top, width = _top(draws, shape, width, depth, thickness)
    model.add(surface, move(top, (0, height - thickness / 2, 0)))
    square = shape in ("rect", "rounded")
    inset = draws.uniform("shape.inset", 0.3, 0.9)
    x, z = (width / 2 - inset, depth / 2 - inset) if square else (width * 0.32, depth * 0.32)
    _add_support(model, draws, surface, frame, x, z, height - thickness, depth, square)
    return model


def _top_material(draws: Draws, depth: float) -> Material:
    kind, ground = (
        draws.choice("color.top", "wood wood wood marble paint glass print"),
        color(draws, "color.top_color", CERAMIC),
    )
    if kind == "wood":
        material = wooden(draws, "color.top_wood", period=3.5)
    elif kind == "marble":
        veins = color(draws, "decor.veins", "grey charcoal tan white")
        material = Material(
            tile(
                draws, "decor.marble", "marble", color(draws, "color.marble", "white cream grey black"), veins
            ),
            3,
            0.07,
            80,
        )
    elif kind == "glass":
        material = plain(np.array([0.5, 0.6, 0.6]), 0.2, 95)
    elif kind == "print":
        material = printed(draws, ground, draws.uniform("decor.scale", 1, 3))
    else:
        material = plain(ground, 0.05, 60)
    if draws.chance("decor.art", 0.35):
        material.stick(decal(draws, "decor.motif", ground), FACE_U["top"], 0, depth * 0.6)
    return material


def _frame_material(draws: Draws) -> Material:
    kind = draws.choice("color.frame_kind", "wood wood wood metal paint")
    if kind == "wood":
        return wooden(draws, "color.frame_wood")
    if kind == "metal":
        return metal(draws, "color.frame_metal")
    return plain(color(draws, "color.frame_paint", "white black cream grey red teal"), 0.05, 40)


def _top(draws: Draws, shape: str, width: float, depth: float, thickness: float) -> tuple[Mesh, float]:
    """Return the top, centred at the origin, and its width."""
    edge = draws.uniform("shape.edge", 0.03, 0.12)
    if shape == "rect":
        return rounded_box((width, thickness, depth), min(edge, thickness * 0.45), 2), width
    if shape == "rounded":
        corner = cylinder(0.5, -thickness / 2, thickness / 2, segments=20)
        corners = [
            move(corner, (sx * (width / 2 - 0.5), 0, sz * (depth / 2 - 0.5)))
            for sx in (-1, 1)
            for sz in (-1, 1)
        ]
        middle = rounded_box((width - 1, thickness, depth), 0.05, 1)
        return join(middle, rounded_box((width, thickness, depth - 1), 0.05, 1), *corners), width
    disc = cylinder(depth / 2, -thickness / 2, thickness / 2, segments=48, bevel=min(edge, thickness * 0.4))
    flat = np.stack([disc.vertices[:, 0] + FACE_U["top"], -disc.vertices[:, 2]], axis=1)
    disc = disc._replace(uv=flat)
    if shape == "round":
        return disc, depth
    return move(disc, scale=(width / depth, 1, 1)), width


def _add_support(model, draws, surface, frame, x, z, height, depth, square) -> None:
    """Add what carries the top: `x` and `z` are where corner legs stand."""
    kind = draws.choice("part.legs", "taper taper square turned hairpin pedestal trestle cross tripod")
    thick = draws.uniform("shape.leg", 0.16, 0.36)
    if kind == "pedestal":
        bulge = draws.uniform("shape.bulge", 0.3, 0.8)
        shaft = [
            tuple(p)
            for p in curve([(0.4, 0.7), (bulge, height * 0.5), (0.4, height * 0.85), (1.1, height)], 12)
        ]
        model.add(frame, lathe([(0, 0), (depth * 0.3, 0), (depth * 0.28, 0.25), (0.4, 0.7), *shaft], 28))
    elif kind == "tripod":
        foot = sweep(
            curve([(0, height * 0.4, 0), (depth * 0.2, height * 0.3, 0), (depth * 0.36, 0, 0)], 8),
            thick * 0.8,
            7,
        )
        model.add(
            frame,
            rod((0, height * 0.3, 0), (0, height, 0), thick * 1.3),
            around(foot, draws.integer("part.feet", 3, 4)),
        )
    elif kind == "trestle":
        beam = rounded_box((thick * 2, 0.3, 2 * z + thick), 0.05, 1)
        for side in (-x, x):
            model.add(
                frame,
                rod((side, height, 0), (side, 0.3, 0), thick * 1.5),
                move(beam, (side, 0.15, 0)),
                move(beam, (side, height - 0.15, 0)),
            )
        model.add(frame, rod((-x, height * 0.4, 0), (x, height * 0.4, 0), thick))
    elif kind == "cross":
        for side in (-x, x):
            model.add(
                frame,
                rod((side, 0, -z), (side, height, z), thick),
                rod((side, 0, z), (side, height, -z), thick),
            )
        model.add(frame, rod((-x, height / 2, 0), (x, height / 2, 0), thick * 0.8))
    else:
        _add_legs(model, draws, frame, kind, x, z, height, thick)
        if square and draws.chance("part.apron", 0.65):
            _add_apron(model, draws, surface, frame, x, z, height)
        if draws.chance("part.shelf", 0.35):
            shelf = rounded_box((2 * x, 0.15, 2 * z), 0.03, 1)
            model.add(surface, move(shelf, (0, height * draws.uniform("shape.shelf", 0.2, 0.45), 0)))


def _add_legs(model, draws, frame, kind, x, z, height, thick) -> None:
    splay = draws.uniform("shape.splay", 1.0, 1.2)
    for cx in (-x, x):
        for cz in (-z, z):
            if kind == "hairpin":
                for shift in (-0.4, 0.4):
                    model.add(
                        frame, rod((cx + shift, height, cz), (cx * 1.03, 0.02, cz * 1.03), 0.07, sides=6)
                    )
            elif kind == "turned":
                profile = [(radius * thick, level) for radius, level in turned(draws, height * 0.8, 1.3)]
                model.add(frame, move(lathe(profile, 16), (cx, 0, cz)))
                model.add(
                    frame,
                    move(rounded_box((thick * 2, height * 0.2, thick * 2), 0.03, 1), (cx, height * 0.9, cz)),
                )
            elif kind == "taper":
                model.add(frame, rod((cx, height, cz), (cx * splay, 0, cz * splay), thick * 1.1, thick * 0.6))
            else:
                model.add(
                    frame, move(rounded_box((thick * 2, height, thick * 2), 0.04, 1), (cx, height / 2, cz))
                )


def _add_apron(model, draws, surface, frame, x, z, height) -> None:
    tall = draws.uniform("shape.apron", 0.4, 1.1)
    level = height - tall / 2
    for side in (-1, 1):
        model.add(frame, move(rounded_box((2 * x, tall, 0.15), 0.03, 1), (0, level, side * z)))
        model.add(frame, move(rounded_box((0.15, tall, 2 * z), 0.03, 1), (side * x, level, 0)))
    count = draws.integer("part.drawers", 0, 3)
    front = surface if draws.chance("color.drawers", 0.3) else frame
    knob = metal(draws, "color.knobs")
    for i in range(count):
        place = (i - (count - 1) / 2) * 2 * x / count
        model.add(
            front, move(rounded_box((1.8 * x / count, tall * 0.8, 0.12), 0.03, 1), (place, level, z + 0.08))
        )
        model.add(knob, move(ball(0.14, 10, 6), (place, level, z + 0.24)))
