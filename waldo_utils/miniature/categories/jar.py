"""Jars: jam, cream, spices; glass or plastic with a wide lid and a label on both sides."""

from waldo_utils.miniature.categories.packages import labeled, level_at
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import plain, printed
from waldo_utils.miniature.meshes import cylinder, lathe
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color


def build(draws: Draws) -> Model:
    """Build a jar; lengths in centimeters."""
    model = Model()
    radius, height = draws.uniform("shape.radius", 3, 5), draws.uniform("shape.height", 4, 10)
    neck = radius * draws.uniform("shape.neck", 0.75, 0.95)
    bulge = draws.choice("part.bulge", (1.0, 1.0, 1.12, 0.9))
    profile = [
        (0, 0),
        (radius * 0.92, 0),
        (radius, 0.5),
        (radius * bulge, height * 0.5),
        (radius, height * 0.85),
        (neck, height * 0.95),
        (neck, height),
    ]
    content = color(draws, "color.content", "wine orange yellow brown cream green red white olive")
    body = labeled(
        draws,
        content,
        max(radius, radius * bulge),
        level_at(profile, 2) + 0.3,
        level_at(profile, 4) - 0.3,
        90,
    )
    model.add(body, lathe(profile, 40, 60))
    ground = color(draws, "color.lid", CERAMIC)
    lid = (
        printed(draws, ground, 3, 0.06, 50)
        if draws.chance("decor.lid_print", 0.3)
        else plain(ground, 0.08, 60)
    )
    tall = draws.uniform("shape.lid", 0.8, 2.2)
    model.add(lid, cylinder(neck * 1.08, height * 0.96, height * 0.96 + tall, segments=36, bevel=0.12))
    return model
