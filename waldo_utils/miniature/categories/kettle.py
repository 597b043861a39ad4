"""Kettles: electric ones on a base, stove-top ones with an arched handle, goosenecks."""

import numpy as np

from waldo_utils.miniature.categories.appliances import body_material
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import metal, plain
from waldo_utils.miniature.meshes import ball, curve, cylinder, lathe, move, rounded_box, sweep
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color, decal


def build(draws: Draws) -> Model:
    """Build a kettle, its spout to the left; lengths in units of about 3 cm."""
    model = Model()
    kind = draws.choice("kind.kind", "electric electric electric stove stove gooseneck")
    body, ground = body_material(draws, CERAMIC)
    trim = plain(color(draws, "color.trim", "black black charcoal brown red white tan"), 0.05, 40)
    radius, height = draws.uniform("shape.radius", 2.6, 3.4), draws.uniform("shape.height", 3.2, 4.6)
    outline = _outline(draws, kind, radius, height)
    _decorate(draws, body, ground, outline)
    model.add(body, lathe(outline, 44, 50))
    top_radius, top = outline[-1]
    _add_lid(model, draws, body, trim, kind, top_radius, top)
    if kind == "electric":
        _add_electric(model, draws, trim, outline)
    elif kind == "gooseneck":
        _add_gooseneck(model, draws, body, trim, outline)
    else:
        _add_stove_top(model, draws, body, trim, outline)
    return model


def _outline(draws: Draws, kind: str, radius: float, height: float) -> np.ndarray:
    """Return (K, 2) radius and level of the body, from the middle of its bottom to its upper edge."""
    if kind == "electric":  # tall, standing on its base
        radius, height = radius * 0.72, height * 1.45
        middle, top = draws.uniform("shape.middle", 0.92, 1.12), draws.uniform("shape.top", 0.68, 0.88)
        side = curve([(radius, 0.5), (radius * middle, 0.5 + height * 0.4), (radius * top, height + 0.5)], 12)
        return np.concatenate([[(0, 0.5)], side])
    if kind == "gooseneck":
        side = [
            (radius, 0),
            (radius * 1.02, 0.25),
            (radius * 0.6, height * 0.8),
            (radius * 0.62, height * 0.9),
        ]
        return np.array([(0, 0), *side])
    t = np.linspace(0, 1, 14)
    shapes = {
        "dome": np.sqrt(np.clip(1.02 - 0.85 * t**2, 0, 1)),
        "cone": 1 - 0.55 * t,
        "squat": np.sin(np.pi * (0.3 + 0.58 * t)) ** 0.7,
        "straight": np.where(t < 0.75, 1, 1 - 1.6 * (t - 0.75)),
    }
    shape = shapes[draws.choice("part.body", "dome dome cone squat straight")]
    return np.concatenate([[(0, 0)], np.stack([radius * shape, t * height], axis=1)])


def _decorate(draws: Draws, body, ground, outline) -> None:
    """Put motifs on the front and the back, or all round."""
    kind = draws.choice("decor.layout", "none motif motif motif band")
    if kind == "none":
        return
    around, height = 2 * np.pi * outline[:, 0].max(), outline[-1, 1]
    motif, places = (
        decal(draws, "decor.motif", ground),
        (0.25, 0.75) if kind == "motif" else np.arange(6) / 6 + 0.05,
    )
    level = outline[1, 0] + height * draws.uniform("decor.level", 0.3, 0.5)  # v runs along the bottom first
    for place in places:
        body.stick(motif, -around * place, level, height * (0.5 if kind == "motif" else 0.3))


def _add_lid(model, draws, body, trim, kind, radius, top) -> None:
    flat = {"electric": 0.6, "gooseneck": 0.3}.get(kind, 1)
    rise = radius * draws.uniform("shape.lid", 0.15, 0.4) * flat
    lid = lathe([(radius * 1.03, top), (radius * 0.8, top + rise), (0, top + rise * 1.2)], 32)
    model.add(body.bare() if draws.chance("color.lid", 0.6) else trim, lid)
    peak, shape = top + rise * 1.1, draws.choice("part.knob", "ball disc cone tall")
    knobs = {
        "ball": lambda: ball(0.35, 14, 8, peak + 0.3),
        "disc": lambda: cylinder(0.45, peak, peak + 0.3, segments=18),
        "cone": lambda: lathe([(0.2, peak), (0.45, peak + 0.5), (0, peak + 0.6)], 16),
        "tall": lambda: ball(0.28, 12, 8, peak + 0.2, 1.6),
    }
    model.add(trim, knobs[shape]())


def _edge(outline: np.ndarray, level: float) -> float:
    """Return the body's radius at a level."""
    return float(np.interp(level, outline[1:, 1], outline[1:, 0]))


def _add_electric(model, draws, trim, outline) -> None:
    """Add the base with its cord, a beak, a water window and a handle down the right side."""
    radius, top = outline[1, 0], outline[-1, 1]
    model.add(trim, cylinder(radius * 1.15, 0, 0.4, radius * 1.08, bevel=0.08))
    cord = curve([(radius, 0.15, -0.5), (radius + 1.2, 0.1, -1.2), (radius + 1.8, 0.1, -2.4)], 8)
    model.add(plain(np.full(3, 0.06), 0.03, 15), sweep(cord, 0.1, 6))
    beak = [(-_edge(outline, top * 0.85) * 0.8, top * 0.86, 0), (-_edge(outline, top) - 0.7, top * 1.0, 0)]
    model.add(trim if draws.chance("color.beak") else model.materials[0], sweep(beak, [0.75, 0.45], 10))
    if draws.chance("part.window", 0.6):
        glass, level = plain(np.array([0.35, 0.5, 0.6]), 0.12, 90), top * 0.5
        pane = rounded_box((0.5, top * 0.4, 0.3), 0.05, 1)
        turn = draws.choice("part.window_side", (-1, 1)) * draws.uniform(
            "shape.window", 54, 68
        )  # beside the motif
        out = _edge(outline, level)
        model.add(
            glass,
            move(pane, (out * np.sin(np.radians(turn)), level, out * np.cos(np.radians(turn))), (0, turn, 0)),
        )
    reach = draws.uniform("shape.handle", 1.0, 1.6)
    start, end = _edge(outline, top * 0.92), _edge(outline, top * 0.3)
    places = [
        (start - 0.2, top * 0.95, 0),
        (start + 1.2, top * 0.98, 0),
        (outline[:, 0].max() + reach, top * 0.6, 0),
        (end + 0.9, top * 0.25, 0),
    ]
    if draws.chance("part.closed_handle"):
        places.append((end - 0.1, top * 0.22, 0))
    model.add(
        trim, sweep(curve(places, 18), draws.uniform("shape.handle_width", 0.24, 0.36), 8, 1.7, up=(0, 0, 1))
    )


def _add_gooseneck(model, draws, body, trim, outline) -> None:
    """Add a thin curved spout and a handle down the right side."""
    radius, top = outline[:, 0].max(), outline[-1, 1]
    spout = [
        (-_edge(outline, top * 0.15) * 0.9, top * 0.15, 0), (-radius - 0.9, top * 0.25, 0),
        (-radius - 0.8, top * 0.7, 0), (-radius - 0.7, top * 1.15, 0), (-radius - 1.3, top * 1.4, 0),
        (-radius - 2.1, top * 1.3, 0),
    ]  # fmt: skip
    model.add(body, sweep(curve(spout, 24), np.linspace(0.3, 0.13, 24), 9))
    start = _edge(outline, top * 0.9)
    places = [
        (start - 0.2, top * 0.92, 0),
        (start + 1.2, top * 1.12, 0),
        (radius + draws.uniform("shape.handle", 0.9, 1.5), top * 1.0, 0),
        (radius + 0.9, top * 0.25, 0),
    ]
    model.add(
        trim, sweep(curve(places, 18), draws.uniform("shape.handle_width", 0.2, 0.34), 8, 1.7, up=(0, 0, 1))
    )


def _add_stove_top(model, draws, body, trim, outline) -> None:
    """Add a short spout, perhaps with a whistle, and a handle that arches over the lid."""
    top_radius, top = outline[-1]
    level, long = (
        top * draws.uniform("shape.spout", 0.45, 0.62),
        draws.uniform("shape.spout_length", 0.8, 1.7),
    )
    wall = _edge(outline, level)
    spout = [
        (-wall * 0.85, level, 0),
        (-wall - long * 0.6, level + long * 0.6, 0),
        (-wall - long, level + long * 1.1, 0),
    ]
    model.add(body, sweep(spout, [0.75, 0.5, 0.34], 12))
    if draws.chance("part.whistle", 0.4):
        model.add(trim, move(ball(0.4, 12, 8), (-wall - long, level + long * 1.15, 0)))
    peak, wide = top + draws.uniform("shape.arch", 1.8, 2.8), top_radius * 0.95 + 0.5
    if draws.chance("part.square_handle", 0.4):
        places = [
            (-wide, top - 0.4, 0),
            (-wide, peak - 0.2, 0),
            (-wide * 0.8, peak, 0),
            (wide * 0.8, peak, 0),
            (wide, peak - 0.2, 0),
            (wide, top - 0.4, 0),
        ]
    else:
        places = [
            (-wide, top - 0.4, 0),
            (-wide * 0.95, peak - 0.5, 0),
            (0, peak, 0),
            (wide * 0.95, peak - 0.5, 0),
            (wide, top - 0.4, 0),
        ]
    path, thick = curve(places, 24), draws.uniform("shape.handle_width", 0.2, 0.34)
    bracket = metal(draws, "color.bracket", "chrome") if draws.chance("color.chrome_bracket", 0.4) else trim
    model.add(bracket, sweep(path, thick * 0.5, 7))
    model.add(trim, sweep(path[7:17], thick, 8, 1.3))
