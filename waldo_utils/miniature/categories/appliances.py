"""What kitchen appliances have in common: the body's material, and a panel of controls."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain, printed
from waldo_utils.miniature.meshes import cylinder, move, rounded_box
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import color, decal


def body_material(draws: Draws, names: str) -> tuple[Material, np.ndarray]:
    """Return the body's material (plastic, enamel, brushed metal, sometimes printed) and its (3,) color."""
    ground = color(draws, "color.body", names)
    if draws.chance("color.metallic", 0.3):
        return metal(draws, "color.body_metal"), ground
    if draws.chance("decor.print", 0.2):
        return printed(draws, ground, draws.uniform("decor.scale", 1.5, 3.5), 0.05, 70), ground
    return plain(ground, 0.05, draws.choice("color.gloss", (20, 60, 90))), ground


def add_panel(model: Model, draws: Draws, z: float, level: float, width: float, tall: float) -> None:
    """Add buttons, a dial, a display or a gauge, at most `tall`, to a front plate at depth z."""
    kind, knob = (
        draws.choice("part.panel", "buttons buttons dial display gauge"),
        plain(color(draws, "color.buttons", "silver black white red"), 0.05, 40),
    )
    size = min(width, tall / 0.3)  # the gauge is 0.3 of it tall, the others less
    if kind == "buttons":
        count = draws.integer("part.button_count", 2, 5)
        for i in range(count):
            place = (width * (0.6 * (i + 0.5) / count - 0.3), level, z)
            model.add(knob, move(cylinder(size * 0.055, 0, 0.12, segments=12), place, (90, 0, 0)))
    elif kind == "dial":
        model.add(
            knob, move(cylinder(size * 0.13, 0, 0.3, size * 0.11, segments=20), (0, level, z), (90, 0, 0))
        )
    elif kind == "display":
        screen = plain(np.array([0.35, 0.5, 0.42]), 0.06, 60, glow=0.25)
        screen.stick(decal(draws, "part.screen", np.array([0.4, 0.5, 0.45]), "text"), 0, 0, size * 0.3)
        model.add(screen, move(rounded_box((size * 0.45, size * 0.2, 0.08), 0.02, 1), (0, level, z)))
    else:
        face = plain(np.array([0.92, 0.92, 0.9]), 0.06, 60).stick(
            decal(draws, "part.gauge", np.ones(3), "logo"), 0, 0, size * 0.2
        )
        model.add(knob, move(cylinder(size * 0.15, 0, 0.15, segments=24), (0, level, z), (90, 0, 0)))
        model.add(face, move(rounded_box((size * 0.19, size * 0.19, 0.06), 0.02, 1), (0, level, z + 0.15)))
