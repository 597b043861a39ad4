"""What packaged goods have in common: a turned body that carries a label all round or on both sides."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.labels import label
from waldo_utils.miniature.materials import Material, plain
from waldo_utils.miniature.textures import color


def labeled(
    draws: Draws, ground: np.ndarray, radius: float, low: float, high: float, gloss: float
) -> Material:
    """Return a material for a turned body with its label on the front and the back.

    Args:
        draws: decide the label; its look is decor.
        ground: (3,) color of the body.
        radius: widest radius of the body, which its texture runs round.
        low, high: texture levels of the label's edges.
        gloss: of the surface.
    """
    around = 2 * np.pi * radius
    material = plain(ground, 0.06, gloss)
    width = around * draws.uniform("decor.label_width", 0.34, 0.49)
    print_ = label(draws, "decor.label")
    for place in (0.25, 0.75):
        material.stick(print_, -around * place, (low + high) / 2, width, high - low)
    if draws.chance("decor.stripe", 0.4):
        stripe = np.append(
            color(draws, "decor.stripe_color", "red blue green yellow black white orange"), 1.0
        )
        level = high + (high - low) * 0.06
        material.stick(np.broadcast_to(stripe, (4, 4, 4)), -around / 2, level, around, (high - low) * 0.08)
    return material


def level_at(profile: list[tuple], index: int) -> float:
    """Return the texture level (length along the profile) at a corner of a turned profile."""
    points = np.asarray(profile, float)[: index + 1]
    return float(np.hypot(*np.diff(points, axis=0).T).sum())
