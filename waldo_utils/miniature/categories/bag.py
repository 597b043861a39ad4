"""Bags: totes, handbags, backpacks, paper bags; prints on both sides."""

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, fabric, metal, plain
from waldo_utils.miniature.meshes import FACE_U, ball, curve, move, rounded_box, sweep
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import FABRIC, color, decal


def build(draws: Draws) -> Model:
    """Build a bag; lengths in decimeters."""
    model = Model()
    kind = draws.choice("kind.kind", "tote handbag handbag backpack paper")
    width, height, depth = (
        draws.uniform("shape.width", 2.4, 4.2),
        draws.uniform("shape.height", 2.2, 4.2),
        draws.uniform("shape.depth", 0.7, 1.6),
    )
    body = fabric(draws, "color.body", 0.8, print_chance=0.4)
    trim = plain(color(draws, "color.trim", FABRIC), 0.05, 30)
    if draws.chance("decor.motif", 0.7):
        motif, size = (
            decal(draws, "decor.picture", color(draws, "color.body", FABRIC)),
            draws.uniform("decor.size", 0.35, 0.7) * min(width, height),
        )
        level = draws.uniform("decor.level", -0.15, 0.15) * height
        for face in ("front", "back"):
            body.stick(motif, FACE_U[face], level, size)
    soft = kind in ("handbag", "backpack")
    sack = rounded_box(
        (width, height, depth), min(depth * 0.45, 0.5) if soft else 0.08, 4, 0.12 if soft else 0.03, 5
    )
    model.add(body, move(sack, (0, height / 2, 0)))
    _add_straps(model, draws, kind, trim, width, height, depth)
    if kind in ("handbag", "backpack"):
        _add_details(model, draws, kind, body, trim, width, height, depth)
    return model


def _add_straps(
    model: Model, draws: Draws, kind: str, trim: Material, width: float, height: float, depth: float
) -> None:
    reach, thick = draws.uniform("shape.strap", 0.8, 2.2), draws.uniform("shape.strap_width", 0.06, 0.14)
    x = width * draws.uniform("shape.strap_at", 0.2, 0.4)
    sides = (depth * 0.4, -depth * 0.4) if kind != "backpack" else (-depth * 0.5,)
    for z in sides:
        path = curve(
            [
                (-x, height * 0.9, z),
                (-x * 0.8, height + reach * 0.7, z),
                (0, height + reach, z),
                (x * 0.8, height + reach * 0.7, z),
                (x, height * 0.9, z),
            ],
            20,
        )
        model.add(trim, sweep(path, thick, 7, 1.8, up=(0, 0, 1)))


def _add_details(model, draws, kind, body, trim, width, height, depth) -> None:
    """Add a flap or a pocket, and a buckle."""
    hardware = metal(draws, "color.hardware")
    if kind == "handbag" and draws.chance("part.flap", 0.6):
        share = draws.uniform("shape.flap", 0.35, 0.65)
        flap = rounded_box((width * 1.01, height * share, 0.12), 0.05, 2)
        model.add(trim, move(flap, (0, height * (1 - share / 2), depth / 2 + 0.08)))
        model.add(hardware, move(ball(0.14, 12, 8), (0, height * (1 - share) + 0.2, depth / 2 + 0.16)))
    elif draws.chance("part.pocket", 0.8):
        pocket = rounded_box(
            (width * draws.uniform("shape.pocket", 0.5, 0.85), height * 0.4, 0.3), 0.12, 3, 0.06, 3
        )
        model.add(
            body if draws.chance("color.pocket") else trim, move(pocket, (0, height * 0.3, depth / 2 + 0.12))
        )
        model.add(
            hardware,
            move(rounded_box((width * 0.5, 0.05, 0.08), 0.02, 1), (0, height * 0.5, depth / 2 + 0.24)),
        )
