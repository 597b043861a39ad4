"""Coffee makers: drip machines with a carafe, espresso and pod machines, moka pots, presses."""

import numpy as np

from waldo_utils.miniature.categories.appliances import add_panel, body_material
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain
from waldo_utils.miniature.meshes import FACE_U, ball, curve, cylinder, lathe, move, rod, rounded_box, sweep
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, PLASTIC, color, decal

DARK = np.array([0.06, 0.06, 0.065])
GLASS = np.array([0.2, 0.13, 0.09])


def build(draws: Draws) -> Model:
    """Build a coffee maker; lengths in units of about 5 cm."""
    model = Model()
    kind = draws.choice("kind.kind", "drip drip drip espresso espresso pod moka press")
    body, ground = body_material(draws, PLASTIC)
    trim = plain(color(draws, "color.trim", "black black silver charcoal white red"), 0.05, 50)
    motif = decal(
        draws,
        "decor.motif",
        GLASS if kind == "press" else ground,
        draws.choice("decor.motif_kind", "text logo logo badge art face"),
    )
    {"drip": _drip, "pod": _pod, "espresso": _espresso, "moka": _moka, "press": _press}[kind](
        model, draws, body, trim, motif
    )
    return model


def _tower(
    model: Model, draws: Draws, body: Material, trim: Material, motif: np.ndarray
) -> tuple[float, ...]:
    """Add what drip and pod machines share: a foot, a column with vents and a cord on its back, a head with
    the motif.

    Returns width, height, depth, the head's height and the foot's height.
    """
    width, height, depth = (
        draws.uniform("shape.width", 3.4, 5),
        draws.uniform("shape.height", 5.5, 7.5),
        draws.uniform("shape.depth", 3.6, 5),
    )
    rounding, head, foot = (
        draws.uniform("shape.rounding", 0.15, 0.7),
        height * draws.uniform("shape.head", 0.24, 0.36),
        height * 0.12,
    )
    model.add(body, move(rounded_box((width, head, depth), rounding, 3), (0, height - head / 2, 0)))
    model.add(
        body.bare(),
        move(
            rounded_box((width, height * 0.95, depth * 0.38), rounding * 0.6, 3),
            (0, height * 0.48, -depth * 0.31),
        ),
    )
    model.add(trim, move(rounded_box((width, foot, depth), min(rounding, 0.2), 2), (0, foot / 2, 0)))
    dark = plain(DARK, 0.04, 40)
    for i in range(draws.integer("part.vents", 2, 6)):
        vent = rounded_box((width * 0.5, 0.12, 0.06), 0.02, 1)
        model.add(dark, move(vent, (0, height * 0.75 - 0.3 * i, -depth * 0.5)))
    cord = curve(
        [
            (width * 0.3, 0.4, -depth * 0.5),
            (width * 0.4, 0.1, -depth * 0.7),
            (width * 0.8, 0.08, -depth * 0.8),
        ],
        8,
    )
    model.add(dark, sweep(cord, 0.09, 6))
    high = draws.chance("part.high_panel", 0.4)  # the motif is above it, or alone on the head
    size = head * draws.uniform("decor.size", 0.5, 0.65) * (0.75 if high else 1)
    x = draws.uniform("decor.x", -0.3, 0.3) * (width - size)
    body.stick(motif, FACE_U["front"] + x, head * (0.12 if high else 0.0), size)
    sides = draws.choice("decor.sides", "motif none")
    if sides == "motif":
        for face in ("left", "right"):
            body.stick(motif, FACE_U[face], 0, head * 0.7)
    if high:
        add_panel(model, draws, depth / 2 + 0.02, height - head * 0.8, width, head * 0.25)
    else:
        add_panel(model, draws, depth / 2 + 0.02, foot * 0.5, width, foot * 0.8)
    if draws.chance("part.lid_line"):
        line = rounded_box((width * 1.005, 0.07, depth * 1.005), 0.02, 1)
        model.add(dark, move(line, (0, height - head * 0.08 - 0.05, 0)))
    return width, height, depth, head, foot


def _drip(model, draws, body, trim, motif) -> None:
    width, height, depth, head, foot = _tower(model, draws, body, trim, motif)
    radius = min(width, depth * 0.6) * 0.42
    bottom, tall, z = foot + 0.05, (height - head - foot) * 0.86, depth * 0.1
    kind = draws.choice("part.carafe", "round round cone steel")
    outlines = {
        "round": [(0, 0), (0.8, 0), (1, 0.3), (0.98, 0.55), (0.6, 0.85), (0.66, 1), (0, 1)],
        "cone": [(0, 0), (1, 0), (0.6, 0.85), (0.65, 1), (0, 1)],
        "steel": [(0, 0), (0.85, 0), (0.85, 0.8), (0.6, 1), (0, 1)],
    }
    carafe = metal(draws, "color.chrome", "chrome") if kind == "steel" else plain(GLASS, 0.12, 90)
    model.add(carafe, move(lathe([(r * radius, y * tall) for r, y in outlines[kind]], 28), (0, bottom, z)))
    grip = curve(
        [
            (radius * 0.6, tall * 0.9, 0),
            (radius * 1.4, tall * 0.85, 0),
            (radius * 1.45, tall * 0.45, 0),
            (radius * 0.95, tall * 0.3, 0),
        ],
        12,
    )
    turn = (0, draws.uniform("shape.grip", -90, -20), 0)
    model.add(trim, move(cylinder(radius * 0.68, tall * 0.88, tall * 1.02, segments=24), (0, bottom, z)))
    model.add(trim, move(sweep(grip, 0.16, 7, 1.8, up=(0, 0, 1)), (0, bottom, z), turn))
    basket = cylinder(radius * 0.9, height - head - 0.5, height - head + 0.1, radius, segments=24)
    model.add(plain(DARK, 0.04, 40), move(basket, (0, 0, z)))


def _pod(model, draws, body, trim, motif) -> None:
    width, height, depth, head, foot = _tower(model, draws, body, trim, motif)
    spout = cylinder(0.35, height - head - 0.6, height - head, segments=14)
    model.add(metal(draws, "color.chrome", "chrome"), move(spout, (0, 0, depth * 0.15)))
    cup = lathe([(0, 0), (0.6, 0), (0.85, 1.3), (0.75, 1.3), (0.5, 0.2), (0, 0.2)], 24)
    model.add(plain(color(draws, "decor.cup", CERAMIC), 0.05, 60), move(cup, (0, foot, depth * 0.15)))
    model.add(
        trim, move(rounded_box((width * 0.5, 0.3, depth * 0.5), 0.1, 2), (0, height + 0.1, depth * 0.1))
    )


def _espresso(model, draws, body, trim, motif) -> None:
    width, height, depth = (
        draws.uniform("shape.width", 3.4, 5),
        draws.uniform("shape.height", 5.5, 7.5),
        draws.uniform("shape.depth", 3.6, 5),
    )
    rounding, head, chrome, dark = (
        min(draws.uniform("shape.rounding", 0.15, 0.7), 0.4),
        height * 0.38,
        metal(draws, "color.chrome", "chrome"),
        plain(DARK, 0.04, 40),
    )
    model.add(body, move(rounded_box((width * 1.15, head, depth), rounding, 3), (0, height - head / 2, 0)))
    column = rounded_box((width * 1.1, height, depth * 0.45), 0.15, 2)
    model.add(body.bare(), move(column, (0, height / 2, -depth * 0.27)))
    model.add(trim, move(rounded_box((width * 1.15, height * 0.14, depth), 0.12, 2), (0, height * 0.07, 0)))
    model.add(
        chrome, move(rounded_box((width, 0.08, depth * 0.5), 0.02, 1), (0, height * 0.145, depth * 0.2))
    )
    under = height - head
    for x in (-width / 4, width / 4) if draws.chance("part.two_groups", 0.3) else (0,):
        for size, low, high in ((0.7, under - 0.4, under + 0.05), (0.6, under - 0.75, under - 0.4)):
            model.add(chrome, move(cylinder(size, low, high, segments=20), (x, 0, depth * 0.18)))
        model.add(dark, rod((x, under - 0.55, depth * 0.3), (x, under - 0.75, depth * 0.3 + 1.9), 0.2, 0.26))
    wand = curve(
        [
            (width * 0.5, under + 0.2, depth * 0.35),
            (width * 0.55, under - 0.6, depth * 0.45),
            (width * 0.5, height * 0.3, depth * 0.5),
        ],
        8,
    )
    model.add(chrome, sweep(wand, 0.1, 6))
    add_panel(model, draws, depth / 2 + 0.02, height - head * 0.5, width * 0.8, head * 0.5)
    body.stick(
        motif,
        FACE_U["front"] + draws.choice("decor.side", (-0.39, 0.39)) * width,
        0.0,
        min(width * 0.27, head * 0.6),
    )
    for face in ("left", "right"):
        body.stick(motif, FACE_U[face], 0, head * 0.6)
    for i in range(draws.integer("part.vents", 2, 5)):
        model.add(
            dark,
            move(rounded_box((width * 0.6, 0.12, 0.06), 0.02, 1), (0, height * 0.8 - 0.3 * i, -depth * 0.5)),
        )
    if draws.chance("part.rail"):
        ends = [(sx * width * 0.5, sz * depth * 0.45) for sx in (-1, 1) for sz in (-1, 1)]
        for x, z in ends:
            model.add(chrome, rod((x, height, z), (x, height + 0.5, z), 0.06, sides=5))
        for first, second in ((0, 1), (2, 3), (1, 3)):
            (ax, az), (bx, bz) = ends[first], ends[second]
            model.add(chrome, rod((ax, height + 0.5, az), (bx, height + 0.5, bz), 0.06, sides=5))


def _moka(model, draws, body, trim, motif) -> None:
    sides, radius = draws.choice("part.facets", (8, 8, 10, 36)), draws.uniform("shape.moka", 1.5, 2)
    upper, dark = radius * draws.uniform("shape.moka_top", 0.85, 1.1), plain(DARK, 0.04, 40)
    bare = body.bare()
    for material, profile in (
        (body, [(0, 0), (radius, 0), (radius * 0.85, 2.4), (radius * 0.8, 2.6)]),
        (bare, [(radius * 0.72, 2.8), (upper, 5.3), (upper * 0.98, 5.4)]),
        (bare, [(upper * 1.02, 5.4), (upper * 0.5, 5.9), (0, 6.0)]),
    ):
        model.add(material, lathe(profile, sides, facets=sides < 20))
    model.add(metal(draws, "color.chrome", "chrome"), cylinder(radius * 0.84, 2.5, 2.85, segments=24))
    grip = curve(
        [(upper * 0.9, 5.2, 0), (upper + 1.5, 5.4, 0), (upper + 1.6, 4.6, 0), (upper + 1.2, 3.0, 0)], 14
    )
    model.add(dark, ball(0.3, 12, 8, 6.25))
    model.add(trim, sweep(grip, 0.22, 7, 1.6, up=(0, 0, 1)))
    model.add(bare, move(lathe([(0.15, 0), (0.55, 0.9)], 10), (-upper * 0.85, 4.6, 0), (0, 0, 45)))
    for place in (0.25, 0.75):
        body.stick(motif, -2 * np.pi * radius * place, radius + 1.25, min(radius, 1.9))


def _press(model, draws, body, trim, motif) -> None:
    radius, height, chrome = (
        draws.uniform("shape.press", 1.3, 1.8),
        draws.uniform("shape.press_height", 4.5, 6),
        metal(draws, "color.chrome", "chrome"),
    )
    label = plain(GLASS, 0.12, 90)
    for place in (0.25, 0.75):
        label.stick(motif, -2 * np.pi * radius * place, radius + height * 0.45, radius)
    model.add(label, cylinder(radius, 0.3, height, segments=32))
    lid = lathe(
        [
            (radius * 1.02, height * 0.92),
            (radius * 1.08, height),
            (radius * 0.8, height + 0.5),
            (0, height + 0.6),
        ],
        32,
    )
    model.add(body, lid, cylinder(radius * 1.08, 0.1, 0.55, segments=32))
    model.add(chrome, rod((0, height, 0), (0, height + 1.6, 0), 0.08))
    grip = curve(
        [
            (radius, height * 0.9, 0),
            (radius + 1.4, height * 0.85, 0),
            (radius + 1.4, height * 0.3, 0),
            (radius, height * 0.2, 0),
        ],
        14,
    )
    model.add(trim, ball(0.35, 14, 8, height + 1.7), sweep(grip, 0.2, 7, 1.6, up=(0, 0, 1)))
    half = np.linspace(48, 132, draws.integer("part.ribs", 1, 3))  # beside the motifs, which are at 0 and 180
    for turn in [*half, *(half + 180)]:
        x, z = np.sin(np.radians(turn)) * radius * 1.04, np.cos(np.radians(turn)) * radius * 1.04
        model.add(
            body, move(rounded_box((0.3, height * 0.9, 0.1), 0.03, 1), (x, height * 0.5, z), (0, turn, 0))
        )
