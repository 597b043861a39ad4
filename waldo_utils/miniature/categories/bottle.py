"""Bottles: drinks, sauces, shampoo; a turned body, a neck, a cap or a pump, a label on both sides."""

from waldo_utils.miniature.categories.packages import labeled, level_at
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import plain
from waldo_utils.miniature.meshes import cylinder, lathe, move, rod, rounded_box
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color


def build(draws: Draws) -> Model:
    """Build a bottle; lengths in centimeters."""
    model = Model()
    radius, height = draws.uniform("shape.radius", 2.6, 4.2), draws.uniform("shape.height", 13, 20)
    neck, shoulder = (
        radius * draws.uniform("shape.neck", 0.25, 0.5),
        draws.uniform("shape.shoulder", 0.6, 0.8),
    )
    ground = color(draws, "color.body", f"{CERAMIC} green brown cream")
    waist = draws.choice("part.waist", (1.0, 1.0, 0.9, 0.82))
    profile = [
        (0, 0), (radius * 0.95, 0), (radius, 0.4), (radius * waist, height * 0.4),
        (radius, height * shoulder),
        (neck * 1.3, height * 0.88), (neck, height * 0.92), (neck, height), (0, height),
    ]  # fmt: skip
    body = labeled(
        draws,
        ground,
        radius,
        level_at(profile, 2) + 0.8,
        level_at(profile, 4) - 0.4,
        draws.choice("color.gloss", (30, 80, 95)),
    )
    model.add(body, lathe(profile, 40, 60))
    cap, kind = (
        plain(color(draws, "color.cap", CERAMIC), 0.05, 50),
        draws.choice("part.cap", "screw screw tall pump spray"),
    )
    if kind == "screw":
        model.add(cap, cylinder(neck * 1.25, height * 0.95, height + 1.0, segments=24, bevel=0.1))
    elif kind == "tall":
        model.add(cap, cylinder(neck * 1.4, height * 0.93, height + 3.0, neck * 1.1, segments=24, bevel=0.1))
    else:
        model.add(
            cap,
            cylinder(neck * 1.2, height * 0.95, height + 0.8, segments=24),
            rod((0, height, 0), (0, height + 2.4, 0), 0.3),
        )
        head = rounded_box((3.2, 0.8, 1.2) if kind == "pump" else (3.6, 1.8, 1.4), 0.3, 2)
        model.add(cap, move(head, (-0.9, height + 2.6, 0)))
    return model
