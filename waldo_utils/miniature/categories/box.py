"""Boxes: cartons of food and medicine with a label on every side."""

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.labels import label
from waldo_utils.miniature.materials import plain, printed
from waldo_utils.miniature.meshes import FACE_U, cylinder, move, rounded_box
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color


def build(draws: Draws) -> Model:
    """Build a carton; lengths in centimeters."""
    model = Model()
    width, height, depth = (
        draws.uniform("shape.width", 6, 15),
        draws.uniform("shape.height", 6, 20),
        draws.uniform("shape.depth", 3, 8),
    )
    ground = color(draws, "color.body", CERAMIC)
    body = (
        printed(draws, ground, draws.uniform("decor.scale", 3, 8), 0.04, 25)
        if draws.chance("decor.print", 0.25)
        else plain(ground, 0.05, 30)
    )
    share = draws.uniform("decor.label_size", 0.75, 0.98)
    front = label(draws, "decor.label")
    for face in ("front", "back"):
        body.stick(front, FACE_U[face], 0, width * share, height * share)
    for face in ("left", "right"):
        body.stick(label(draws, "decor.side"), FACE_U[face], 0, depth * 0.9, height * share)
    if draws.chance("decor.top"):
        body.stick(front, FACE_U["top"], 0, width * 0.9, depth * 0.9)
    model.add(body, move(rounded_box((width, height, depth), 0.12, 1), (0, height / 2, 0)))
    kind = draws.choice("part.opening", "none none flap spout")
    trim = plain(color(draws, "color.trim", CERAMIC), 0.05, 40)
    if kind == "flap":
        model.add(trim, move(rounded_box((width * 0.9, 0.3, depth * 0.4), 0.05, 1), (0, height + 0.1, 0)))
    elif kind == "spout":
        model.add(trim, move(cylinder(1.1, 0, 1.2, segments=18), (width * 0.2, height, 0)))
    return model
