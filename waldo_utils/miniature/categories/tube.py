"""Tubes: toothpaste, cream, glue; flat at one end, a cap at the other, standing on the cap."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.labels import label
from waldo_utils.miniature.materials import plain
from waldo_utils.miniature.meshes import FACE_U, Mesh, cylinder, grid_faces, join, move, rounded_box, unit
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color


def build(draws: Draws) -> Model:
    """Build a tube; lengths in centimeters."""
    model = Model()
    radius, height = draws.uniform("shape.radius", 1.8, 3), draws.uniform("shape.height", 10, 16)
    cap_height, end = draws.uniform("shape.cap", 1.2, 3), draws.uniform("shape.end", 1.15, 1.45)
    ground = color(draws, "color.body", CERAMIC)
    body = plain(ground, 0.06, draws.choice("color.gloss", (30, 70)))
    print_ = label(draws, "decor.label")
    for face in ("front", "back"):
        body.stick(
            print_,
            FACE_U[face],
            cap_height + height * 0.5,
            radius * 1.9,
            height * draws.uniform("decor.label_size", 0.55, 0.85),
        )
    model.add(body, _skin(radius, end * radius, cap_height, height))
    crimp = rounded_box((2 * end * radius, height * 0.06, 0.25), 0.05, 1)
    model.add(
        plain(color(draws, "color.crimp", "white silver grey"), 0.1, 60),
        move(crimp, (0, cap_height + height, 0)),
    )
    model.add(body.bare(), cylinder(radius, cap_height - 0.05, cap_height + 0.05, segments=28))
    cap, kind = (
        plain(color(draws, "color.cap", CERAMIC), 0.05, 50),
        draws.choice("part.cap", "wide wide cone narrow"),
    )
    sizes = {"wide": (1.0, 1.0), "cone": (0.6, 0.95), "narrow": (0.5, 0.5)}[kind]
    model.add(cap, cylinder(radius * sizes[0], 0, cap_height, radius * sizes[1], segments=28, bevel=0.08))
    if draws.chance("decor.ring"):
        ring = plain(color(draws, "decor.ring_color", CERAMIC), 0.05, 50)
        model.add(
            ring,
            cylinder(
                radius * 1.02,
                cap_height,
                cap_height + draws.uniform("decor.ring_height", 0.2, 0.8),
                segments=28,
            ),
        )
    return model


def _skin(radius: float, end: float, bottom: float, height: float) -> Mesh:
    """Return the side of the tube: a circle below that becomes a flat line above; texture by front and
    back."""
    t, halves = np.linspace(0, 1, 14)[:, None], []
    for face, sign in (("front", 1), ("back", -1)):
        angle = np.linspace(-np.pi / 2, np.pi / 2, 17)[None]
        x = (radius + (end - radius) * t) * np.sin(angle) * sign
        z = radius * (1 - t**1.5) * np.cos(angle) * sign
        y = bottom + height * t + 0 * angle
        normals = unit(
            np.stack(
                [np.sin(angle) * sign * (1 - t) + 0 * t, 0.25 * t + 0 * angle, np.cos(angle) * sign + 0 * t],
                axis=-1,
            )
        )
        uv = np.stack([FACE_U[face] + x * sign, y], axis=-1)
        vertices = np.stack([x, y, z], axis=-1)
        halves.append(
            Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), grid_faces(14, 17))
        )
    return join(*halves)
