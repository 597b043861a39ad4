"""Cans: tins of food, drinks, paint; a label all round between two rims."""

from waldo_utils.miniature.categories.packages import labeled
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import metal, plain
from waldo_utils.miniature.meshes import cylinder, lathe, move, rounded_box
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color


def build(draws: Draws) -> Model:
    """Build a can; lengths in centimeters."""
    model = Model()
    radius, height = draws.uniform("shape.radius", 3, 5.5), draws.uniform("shape.height", 5, 14)
    steel = metal(draws, "color.steel", "chrome")
    taper = draws.choice("part.taper", (1.0, 1.0, 0.82))
    body = labeled(
        draws,
        color(draws, "color.body", CERAMIC),
        radius,
        0.2,
        height - 0.5,
        draws.choice("color.gloss", (30, 80)),
    )
    model.add(
        body,
        lathe(
            [(radius * taper, 0.2), (radius, 0.7), (radius, height - 0.9), (radius * taper, height - 0.3)],
            40,
            60,
        ),
    )
    model.add(
        steel,
        cylinder(radius * taper, 0, 0.25, segments=40),
        cylinder(radius * taper, height - 0.35, height - 0.05, segments=40),
    )
    lid = draws.choice("part.lid", "ring ring plain plastic")
    if lid == "ring":
        model.add(steel, move(rounded_box((1.0, 0.12, 1.8), 0.05, 1), (0, height, 0.4)))
    elif lid == "plastic":
        model.add(
            plain(color(draws, "color.lid", CERAMIC), 0.05, 40),
            cylinder(radius * 1.02, height - 0.6, height + 0.1, segments=40, bevel=0.1),
        )
    return model
