"""Sofas: a base, seat cushions, a back, arms, feet, loose pillows."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, fabric, metal, plain, wooden
from waldo_utils.miniature.meshes import ball, cylinder, move, rod, rounded_box, slab
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, FABRIC, PRINT, color, decal, tile


def build(draws: Draws) -> Model:
    """Build a sofa of one to three seats; lengths in decimeters, two to a unit."""
    model = Model()
    seats = draws.integer("kind.seats", 1, 3)
    cushion, depth = draws.uniform("shape.cushion", 3.4, 4.4), draws.uniform("shape.depth", 4.2, 5.2)
    seat, back = draws.uniform("shape.seat", 2.0, 2.8), draws.uniform("shape.back", 2.4, 4.0)
    feet, puff = draws.uniform("shape.feet", 0.25, 1.0), draws.uniform("shape.puff", 0.1, 0.35)
    width = seats * cushion
    cloth = fabric(draws, "color.cloth", 1.2)

    model.add(
        cloth, move(rounded_box((width, seat - feet - 0.5, depth), 0.12, 2), (0, (seat - 0.5 + feet) / 2, 0))
    )
    bench = draws.chance("part.bench", 0.25)
    middles = [0.0] if bench else [(i - (seats - 1) / 2) * cushion for i in range(seats)]
    for x in middles:
        one = rounded_box((width if bench else cushion - 0.06, 0.9, depth * 0.82), 0.3, 2, puff, 4)
        model.add(cloth, move(one, (x, seat - 0.2, depth * 0.07)))
    _add_back(model, draws, cloth, seats, cushion, depth, seat, back, feet, puff)
    outside = _add_arms(model, draws, cloth, width, depth, seat, feet)
    if draws.chance("part.chaise", 0.2) and seats > 1:
        chaise = rounded_box((cushion, seat - feet + 0.1, depth * 0.7), 0.25, 3, 0.12, 4)
        model.add(cloth, move(chaise, ((1 - seats) / 2 * cushion, (seat + feet) / 2, depth * 0.8)))
    legs = (
        wooden(draws, "color.legs")
        if draws.chance("color.wooden_legs", 0.7)
        else metal(draws, "color.metal_legs")
    )
    for x in (-outside, outside):
        for z in (0.4 - depth / 2, depth / 2 - 0.4):
            model.add(legs, rod((x, feet, z), (x * draws.uniform("shape.splay", 1, 1.04), 0, z), 0.22, 0.12))
    _add_pillows(model, draws, width, depth, seat)
    return model


def _add_back(model, draws, cloth, seats, cushion, depth, seat, back, feet, puff) -> None:
    width = seats * cushion
    rest = rounded_box((width, back + seat * 0.5, 0.8), 0.3, 3)
    model.add(cloth, move(rest, (0, feet + (seat * 0.5 + back) / 2 + 0.4, 0.35 - depth / 2), (-8, 0, 0)))
    kind = draws.choice("part.back", "cushions cushions cushions tight tufted camel")
    if kind == "camel":
        x = np.linspace(-width / 2, width / 2, 20)
        hump = slab(x, 0 * x, back * (0.35 + 0.35 * np.cos(x / width * np.pi) ** 2), 0.7)
        model.add(cloth, move(hump, (0, seat + back * 0.6, 0.2 - depth / 2), (-8, 0, 0)))
    elif kind == "cushions":
        for i in range(seats):
            one = rounded_box((cushion - 0.06, back * 0.95, 1.0), 0.38, 2, puff, 4)
            model.add(
                cloth,
                move(
                    one, ((i - (seats - 1) / 2) * cushion, seat + back * 0.48, 1.05 - depth / 2), (-12, 0, 0)
                ),
            )
    elif kind == "tufted":
        button = plain(color(draws, "color.button", FABRIC) * 0.6, 0.04, 20)
        for i in range(seats * 3):
            for row in range(2):
                x = (i - (seats * 3 - 1) / 2) * cushion / 3 + 0.3 * row
                place = (x, seat + back * (0.35 + 0.3 * row), 0.75 - depth / 2 - 0.12 * row)
                model.add(button, move(ball(0.12, 8, 6), place))


def _add_arms(model, draws, cloth, width, depth, seat, feet) -> float:
    """Add the arms and return how far out the feet may stand."""
    kind = draws.choice("part.arms", "box box roll round none slope")
    if kind == "none":
        return width / 2 - 0.3
    wide, high = draws.uniform("shape.arm_width", 0.5, 1.2), draws.uniform("shape.arm_height", 1.0, 2.0)
    for side in (-1, 1):
        x = side * (width / 2 + wide / 2)
        if kind == "roll":
            panel = rounded_box((wide * 0.8, seat + high - feet - 0.4, depth), 0.15, 2)
            model.add(cloth, move(panel, (x, (seat + high - 0.4 + feet) / 2, 0)))
            roll = cylinder(wide * 0.62, -depth / 2, depth / 2, segments=20)
            model.add(cloth, move(roll, (x + side * wide * 0.1, seat + high - 0.4, 0), (90, 0, 0)))
        elif kind == "slope":
            along = np.linspace(-depth / 2, depth / 2, 12)
            top = seat + high * (0.4 + 0.9 * (0.5 - along / depth))
            model.add(cloth, move(slab(along, 0 * along + feet, top, wide), (x, 0, 0), (0, -90, 0)))
        else:
            block = rounded_box(
                (wide, seat + high - feet, depth), wide * 0.48 if kind == "round" else 0.15, 3
            )
            model.add(cloth, move(block, (x, (seat + high + feet) / 2, 0)))
    return width / 2 + wide - 0.3


def _add_pillows(model, draws, width, depth, seat) -> None:
    for i in range(draws.integer("decor.pillows", 0, 3)):
        name = f"decor.pillow{i}"
        kind = draws.choice(f"{name}.kind", f"{PRINT} fabric fabric")
        pattern = tile(
            draws,
            f"{name}.tile",
            kind,
            color(draws, f"{name}.ground", FABRIC),
            color(draws, f"{name}.figure", CERAMIC),
        )
        cover = Material(pattern, draws.uniform(f"{name}.period", 0.5, 1.5), 0.02, 8.0)
        if draws.chance(f"{name}.motif", 0.3):
            cover.stick(decal(draws, f"{name}.decal", np.full(3, 0.4)), 0, 0, 1.1)
        place = (draws.uniform(f"{name}.x", -0.45, 0.45) * width, seat + 1.0, 1.9 - depth / 2)
        turn = (-25, draws.uniform(f"{name}.turn", -20, 20), draws.uniform(f"{name}.roll", -15, 15))
        model.add(cover, move(rounded_box((1.7, 1.7, 0.35), 0.17, 1, 0.3, 5), place, turn))
