"""Toasters: slots, a lever, a dial, prints on both sides; and toaster ovens."""

import numpy as np

from waldo_utils.miniature.categories.appliances import body_material
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain
from waldo_utils.miniature.meshes import FACE_U, cylinder, move, rod, rounded_box
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import PLASTIC, color, decal, tile


def build(draws: Draws) -> Model:
    """Build a toaster; lengths in units of about 5 cm."""
    model = Model()
    kind = draws.choice("kind.kind", "two two two long four oven")
    body, ground = body_material(draws, f"{PLASTIC} cream mint sky")
    trim = plain(color(draws, "color.trim", "black black silver charcoal cream"), 0.05, 40)
    width, height = draws.uniform("shape.width", 5.5, 7.5), draws.uniform("shape.height", 3.8, 5)
    depth = draws.uniform("shape.depth", 3, 4) * {"four": 1.5, "long": 0.75}.get(kind, 1)
    rounding = draws.uniform("shape.rounding", 0.25, 1.4)
    motif = decal(
        draws, "decor.motif", ground, draws.choice("decor.motif_kind", "text logo badge art face scene")
    )
    if kind == "oven":
        _add_oven(model, draws, body, trim, motif, width, height, depth, rounding)
        return model
    width *= 1.3 if kind == "long" else 1
    model.add(body, move(rounded_box((width, height, depth), rounding, 5), (0, height / 2 + 0.35, 0)))
    model.add(trim, move(rounded_box((width * 0.96, 0.5, depth * 0.94), 0.15, 2), (0, 0.35, 0)))
    _add_ends(model, draws, trim, width, height, depth, rounding)
    _add_slots(model, draws, {"two": 2, "long": 1, "four": 4}[kind], width, height, depth)
    _add_controls(model, draws, trim, width, height, depth)
    side = draws.choice("decor.side", "small small big row none")
    if side != "none":
        size = height * {"small": 0.35, "big": 0.56, "row": 0.3}[side]
        x, y = draws.uniform("decor.x", -0.2, 0.2) * width, height * 0.14
        places = (-1.1 * size, 0, 1.1 * size) if side == "row" else (x,)
        for place in places:
            body.stick(motif, FACE_U["front"] + place, y, size)
            body.stick(motif, FACE_U["back"] + place, y, size)
        for face in ("left", "right"):
            body.stick(motif, FACE_U[face], y, height * 0.3)
    return model


def _add_ends(model, draws, trim, width, height, depth, rounding) -> None:
    kind = draws.choice("part.ends", "none none caps band")
    if kind == "caps":
        cap = rounded_box((0.5, height * 1.01, depth * 1.01), min(rounding, 0.25), 3)
        for side in (-1, 1):
            model.add(trim, move(cap, (side * width * 0.48, height / 2 + 0.35, 0)))
    elif kind == "band":
        band = rounded_box((width * 1.01, 0.25, depth * 1.01), 0.1, 2)
        model.add(
            metal(draws, "color.band"),
            move(band, (0, height * draws.uniform("shape.band", 0.2, 0.7) + 0.35, 0)),
        )
    if draws.chance("part.ribs", 0.25):
        rib = rounded_box((width * 0.7, 0.08, depth * 1.01), 0.03, 1)
        for i in range(draws.integer("part.rib_count", 2, 4)):  # below the motif
            model.add(trim, move(rib, (0, height * (0.14 + 0.06 * i) + 0.35, 0)))


def _add_slots(model, draws, count, width, height, depth) -> None:
    chrome, dark = metal(draws, "color.chrome", "chrome"), plain(np.full(3, 0.04), 0.03, 20)
    bread = Material(
        tile(draws, "decor.bread", "speckle", np.array([0.72, 0.48, 0.25]), np.array([0.5, 0.3, 0.14])),
        1.5,
        0.02,
        8,
    )
    toast = draws.chance("decor.toast", 0.15)
    long = width * (0.7 if count < 4 else 0.38)
    for i in range(count):
        if count < 4:
            x, z = 0.0, (i - (count - 1) / 2) * depth * 0.36
        else:
            x, z = (i % 2 - 0.5) * width * 0.44, (i // 2 - 0.5) * depth * 0.4
        model.add(
            chrome, move(rounded_box((long + 0.2, 0.1, depth * 0.2 + 0.2), 0.03, 1), (x, height + 0.33, z))
        )
        model.add(dark, move(rounded_box((long, 0.1, depth * 0.14), 0.03, 1), (x, height + 0.37, z)))
        if toast:
            model.add(bread, move(rounded_box((long * 0.8, 1.6, depth * 0.1), 0.05, 1), (x, height + 0.6, z)))


def _add_controls(model, draws, trim, width, height, depth) -> None:
    """Add lever, dial and buttons; the lever is on the right."""
    dark = plain(np.full(3, 0.04), 0.03, 20)
    model.add(
        dark, move(rounded_box((0.06, height * 0.55, 0.25), 0.02, 1), (width / 2, height * 0.55 + 0.3, 0))
    )
    lever = height * draws.uniform("shape.lever", 0.55, 0.8) + 0.3
    model.add(trim, move(rounded_box((0.7, 0.35, 0.9), 0.12, 2), (width / 2 + 0.35, lever, 0)))
    dial = (width / 2, height * 0.2 + 0.4, draws.uniform("shape.dial", -0.25, 0.25) * depth)
    model.add(trim, move(cylinder(0.45, 0, 0.3, 0.4, segments=18), dial, (0, 0, -90)))
    if draws.chance("part.buttons"):
        for i in range(draws.integer("part.button_count", 1, 4)):
            button = cylinder(0.16, 0, 0.15, segments=10)
            model.add(trim, move(button, (width * 0.36, height * 0.75 - 0.45 * i, depth / 2), (90, 0, 0)))


def _add_oven(model, draws, body, trim, motif, width, height, depth, rounding) -> None:
    chrome = metal(draws, "color.chrome", "chrome")
    model.add(
        body,
        move(
            rounded_box((width * 1.2, height, depth * 1.4), min(rounding, 0.5), 3), (0, height / 2 + 0.3, 0)
        ),
    )
    front = depth * 0.7
    door = rounded_box((width * 0.75, height * 0.62, 0.1), 0.05, 1)
    model.add(plain(np.array([0.1, 0.1, 0.11]), 0.12, 90), move(door, (-width * 0.16, height * 0.55, front)))
    model.add(
        chrome,
        rod((-width * 0.5, height * 0.93, front + 0.3), (width * 0.2, height * 0.93, front + 0.3), 0.12),
    )
    for i in range(draws.integer("part.rack", 1, 5)):
        level = height * (0.4 + 0.07 * i)
        model.add(
            chrome,
            rod((-width * 0.5, level, front + 0.06), (width * 0.2, level, front + 0.06), 0.03, sides=4),
        )
    for i in range(draws.integer("part.knobs", 2, 4)):
        knob = cylinder(0.38, 0, 0.35, 0.32, segments=16)
        model.add(trim, move(knob, (width * 0.42, height * (0.9 - 0.24 * i), front), (90, 0, 0)))
    body.stick(motif, FACE_U["top"] + draws.uniform("decor.x", -0.2, 0.2) * width, 0, depth * 0.8)
    for face in ("left", "right", "back"):
        body.stick(motif, FACE_U[face], 0, height * draws.uniform("decor.size", 0.45, 0.75))
