"""Bicycles: two wheels, a frame of one of several kinds, bars, saddle, guards, basket, rack."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain
from waldo_utils.miniature.meshes import Mesh, ball, curve, cylinder, move, rod, rounded_box, sweep
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, PLASTIC, color, decal, tile

BARS = {  # from the grip to the middle: forward, up, sideways
    "flat": [(0, 0, 2.4), (0, 0, 0)],
    "riser": [(-0.3, 0.5, 2.5), (0, 0.5, 1.2), (0, 0, 0.4), (0, 0, 0)],
    "cruiser": [(-2.2, 0.6, 2.0), (-0.8, 0.9, 2.1), (0.3, 0.7, 1.0), (0, 0, 0)],
    "drop": [(-0.6, -1.3, 1.7), (0.3, -1.3, 1.7), (0.9, -0.6, 1.7), (0.5, 0, 1.6), (0.1, 0, 1.2), (0, 0, 0)],
    "horns": [(1.2, 0.3, 1.7), (0.2, 0, 1.6), (0, 0, 0)],
}


def build(draws: Draws) -> Model:
    """Build a bicycle pointing to +x; lengths in decimeters."""
    model = Model()
    radius, base = draws.uniform("shape.wheel", 3.1, 3.6), draws.uniform("shape.wheelbase", 9.6, 10.8)
    tire = draws.uniform("shape.tire", 0.14, 0.3)
    paint = plain(color(draws, "color.frame", f"{PLASTIC} teal mint orange cream"), 0.06, 80)
    dark, chrome = plain(np.array([0.05, 0.05, 0.055]), 0.03, 15), metal(draws, "color.chrome", "chrome")
    axle = radius + tire
    rear, front = np.array([-base / 2, axle, 0]), np.array([base / 2, axle, 0])
    crank = np.array(
        [-base * draws.uniform("shape.crank", 0.06, 0.1), axle - draws.uniform("shape.drop", 0.3, 0.8), 0]
    )

    _add_wheels(model, draws, dark, chrome, (rear, front), radius, tire)
    seat, head = _add_frame(model, draws, paint, rear, front, crank)
    up = np.array([-draws.uniform("shape.seat_angle", 0.25, 0.38), 1, 0])
    model.add(chrome, rod(seat, seat + up * 0.9, 0.12), rod(head, head + [-0.25, 0.8, 0], 0.13))
    saddle = plain(color(draws, "color.saddle", "black black brown tan white"), 0.04, 20)
    model.add(saddle, move(ball(1, 16, 8), seat + up * 1.05, scale=(1.15, 0.22, 0.5)))
    model.add(saddle, move(ball(1, 12, 8), seat + up * 1.05 + [0.7, 0.02, 0], scale=(0.9, 0.16, 0.2)))
    _add_bars(model, draws, dark, chrome, head + [-0.25, 0.8, 0])
    _add_drive(model, dark, chrome, crank, rear)
    _add_extras(model, draws, paint, dark, chrome, rear, front, head, axle)
    return model


def _add_wheels(model, draws, dark, chrome, hubs, radius, tire) -> None:
    rim = (
        chrome
        if draws.chance("color.chrome_rims", 0.6)
        else plain(color(draws, "color.rims", PLASTIC), 0.05, 60)
    )
    wall = (
        plain(color(draws, "color.wall", "tan white cream"), 0.02, 10)
        if draws.chance("color.walls", 0.3)
        else dark
    )
    angle = np.linspace(0, 2 * np.pi, 41)

    def ring(size: float, thickness: float) -> Mesh:
        circle = np.stack([size * np.cos(angle), size * np.sin(angle), 0 * angle], axis=1)
        return sweep(circle, thickness, 6, caps=False, up=(0, 0, 1))

    solid = draws.chance("part.solid_spokes", 0.12)
    spokes = draws.integer("part.spokes", 8, 16) // (2 if solid else 1)
    reflector = plain(color(draws, "decor.reflector", "red orange yellow white blue"), 0.1, 80, glow=0.2)
    reflectors, share = draws.integer("decor.reflectors", 0, 3), draws.uniform("decor.reflector_at", 0.4, 0.8)
    for hub in hubs:
        model.add(dark, move(ring(radius, tire), hub))
        model.add(wall, move(ring(radius - tire * 0.9, tire * 0.55), hub))
        model.add(rim, move(ring(radius - tire * 1.7, 0.09), hub))
        model.add(chrome, move(cylinder(0.18, -0.5, 0.5, segments=10), hub, (90, 0, 0)))
        for turn in 2 * np.pi * np.arange(spokes) / spokes:
            end = (radius - 0.4) * np.array([np.cos(turn), np.sin(turn), 0])
            model.add(
                rim if solid else chrome, move(rod((0, 0, 0), end, 0.16 if solid else 0.035, sides=4), hub)
            )
        for turn in 2 * np.pi * (np.arange(reflectors) + 0.3) / max(reflectors, 1):
            place = hub + radius * share * np.array([np.cos(turn), np.sin(turn), 0])
            model.add(
                reflector, move(rounded_box((0.7, 0.3, 0.15), 0.06, 1), place, (0, 0, np.degrees(turn) + 90))
            )


def _add_frame(model, draws, paint, rear, front, crank) -> tuple[np.ndarray, np.ndarray]:
    """Add the frame; return the upper ends of the seat tube and the head tube."""
    tall, thick = draws.uniform("shape.head", 3.8, 5.2), draws.uniform("shape.tube", 0.17, 0.26)
    head, low_head = front + [-tall * 0.42, tall, 0], front + [-tall * 0.28, tall * 0.68, 0]
    seat = crank + np.array([-draws.uniform("shape.seat_angle", 0.25, 0.38), 1, 0]) * draws.uniform(
        "shape.seat_tube", 3.6, 5.0
    )
    kind = draws.choice("kind.frame", "diamond diamond diamond step mixte cruiser")
    down = _tube_material(draws, paint, np.linalg.norm(low_head - crank), thick)
    model.add(paint, rod(crank, seat, thick), rod(low_head - [0, 0.1, 0], head, thick))
    if kind == "cruiser":
        model.add(paint, sweep(curve([crank, (crank + low_head) / 2 + [0, -0.5, 0], low_head], 10), thick))
        start = seat * 0.6 + crank * 0.4
        model.add(paint, sweep(curve([start, (seat + head) / 2 + [0, -0.2, 0], head], 10), thick))
    else:
        model.add(down, rod(crank, low_head, thick * 1.3))
    if kind == "diamond":
        model.add(paint, rod(seat * 0.93 + crank * 0.07, head * 0.9 + low_head * 0.1, thick))
    elif kind == "step":
        start = crank + (seat - crank) * 0.25
        model.add(paint, sweep(curve([start, (crank + head) / 2 + [0, -0.3, 0], head], 10), thick))
    elif kind == "mixte":
        model.add(paint, rod(crank + (seat - crank) * 0.5, head, thick))
    for z in (-0.32, 0.32):
        side = np.array([0, 0, z])
        model.add(
            paint,
            rod(crank + side, rear + side, 0.1),
            rod(seat * 0.85 + crank * 0.15 + side / 2, rear + side, 0.09),
        )
        fork = curve([low_head + side, (low_head + front) / 2 + [-0.15, 0.3, z], front + side], 8)
        model.add(paint, sweep(fork, [0.16] * 4 + [0.12] * 4, 6))
    return seat, head


def _tube_material(draws: Draws, paint: Material, length: float, thick: float) -> Material:
    """Return the down tube's material: the frame's paint with the maker's name or a band of another color."""
    ground = paint.levels[0][0, 0] ** (1 / 2.2)
    material = plain(ground, 0.06, 80)
    around = 2 * np.pi * thick * 1.3
    if draws.chance("decor.name", 0.7):
        name = decal(draws, "decor.brand", ground, "text").transpose(1, 0, 2)
        for u in (around * 0.25, around * 0.75):
            material.stick(name, u, length * 0.55, around * 0.4, length * 0.45)
    if draws.chance("decor.band"):
        band = np.broadcast_to(np.append(color(draws, "decor.band_color", CERAMIC), 1.0), (4, 4, 4))
        material.stick(
            band, around / 2, length * draws.uniform("decor.band_at", 0.15, 0.9), around, length * 0.1
        )
    return material


def _add_bars(model, draws, dark, chrome, stem) -> None:
    places = curve(BARS[draws.choice("part.bars", list(BARS))], 18)
    grip = plain(color(draws, "color.grips", "black black brown tan white"), 0.03, 12)
    bar = chrome if draws.chance("color.chrome_bars", 0.6) else dark
    for side in (1, -1):
        path = stem + places * (1, 1, side)
        model.add(bar, sweep(path, 0.11, 7))
        model.add(grip, sweep(path[:5], 0.16, 7))


def _add_drive(model, dark, chrome, crank, rear) -> None:
    model.add(chrome, move(cylinder(0.95, -0.06, 0.06, segments=24), crank + [0, 0, 0.4], (90, 0, 0)))
    for side in (1, -1):
        pedal = crank + np.array([1.1, -0.9, 0.5]) * side
        model.add(chrome, rod(crank + [0, 0, 0.45 * side], pedal, 0.1, sides=6))
        model.add(dark, move(rounded_box((0.8, 0.18, 0.55), 0.05, 1), pedal + [0, 0, 0.35 * side]))
    for level in (0.9, -0.8):
        model.add(dark, rod(crank + [0, level, 0.4], rear + [0, level * 0.4, 0.4], 0.05, sides=4))


def _add_extras(model, draws, paint, dark, chrome, rear, front, head, axle) -> None:
    """Add mudguards, a basket and a rack, each in some bicycles."""
    if draws.chance("part.guards", 0.4):
        material = paint if draws.chance("color.guards") else chrome
        for hub, begin, end in ((rear, 0.2, 2.6), (front, 0.9, 2.9)):
            turn = np.linspace(begin, end, 14)
            arc = hub + (axle + 0.2) * np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
            model.add(material, sweep(arc, 0.09, 6, 3.5, up=(1, 0, 0)))
    if draws.chance("part.basket", 0.25):
        wicker = Material(
            tile(draws, "color.wicker", "check", color(draws, "color.basket", "tan brown white black")),
            0.5,
            0.03,
            15,
        )
        center = head + np.array([1.35, -0.2, 0])
        sides = [((2, 0.1, 2.4), (0, -0.8, 0)), ((0.1, 1.6, 2.4), (-1, 0, 0)), ((0.1, 1.6, 2.4), (1, 0, 0)),
                 ((2, 1.6, 0.1), (0, 0, 1.2)), ((2, 1.6, 0.1), (0, 0, -1.2))]  # fmt: skip
        for size, place in sides:
            model.add(wicker, move(rounded_box(size, 0.05, 1), center + place))
    if draws.chance("part.rack", 0.3):
        model.add(dark, move(rounded_box((2.6, 0.1, 1), 0.04, 1), rear + [-0.2, axle + 0.3, 0]))
        for z in (-0.4, 0.4):
            model.add(dark, rod(rear + [0, 0, z], rear + [-0.6, axle + 0.3, z], 0.06, sides=4))
