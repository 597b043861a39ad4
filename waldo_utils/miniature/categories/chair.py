"""Chairs: a seat, legs, a back of many kinds, sometimes arms."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, fabric, metal, plain, printed, wooden
from waldo_utils.miniature.meshes import (
    FACE_U,
    Mesh,
    around,
    ball,
    curve,
    cylinder,
    join,
    move,
    rod,
    rounded_box,
    sweep,
)
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, FABRIC, PLASTIC, color, decal


def build(draws: Draws) -> Model:
    """Build a chair; lengths in decimeters."""
    model = Model()
    width, depth = draws.uniform("shape.width", 4, 5.2), draws.uniform("shape.depth", 3.8, 4.8)
    height, thickness = draws.uniform("shape.height", 4.1, 4.9), draws.uniform("shape.thickness", 0.16, 0.3)
    frame = _frame_material(draws)
    soft = draws.chance("kind.soft", 0.55)
    cover = fabric(draws, "color.seat") if soft else _hard_cover(draws, frame, width)
    seat = draws.uniform("shape.seat", 0.5, 1.0) if soft else draws.uniform("shape.seat", 0.2, 0.4)
    cushion = rounded_box(
        (width, seat, depth), seat * 0.45 if soft else 0.08, 3, 0.25 if soft else 0.0, 5 if soft else 1
    )
    model.add(cover, move(cushion, (0, height - seat / 2, 0)))
    if not soft:
        _add_cushion(model, draws, width, depth, height)
    _add_legs(model, draws, frame, width, depth, height - seat * 0.6, thickness)
    panel = frame if soft else cover
    _add_back(model, draws, frame, cover, panel, width, depth, height, thickness)
    if draws.chance("part.arms", 0.3):
        _add_arms(
            model,
            draws,
            frame,
            cover if soft and draws.chance("part.soft_arms", 0.4) else frame,
            width,
            depth,
            height,
            thickness,
        )
    return model


def _frame_material(draws: Draws) -> Material:
    kind = draws.choice("color.frame_kind", "wood wood wood metal paint paint")
    if kind == "wood":
        return wooden(draws, "color.frame")
    if kind == "metal":
        return metal(draws, "color.metal")
    return plain(color(draws, "color.paint", PLASTIC), 0.05, 50)


def _hard_cover(draws: Draws, frame: Material, width: float) -> Material:
    """Return the material of a hard seat and back: the frame's, painted over with a pattern or a motif."""
    kind = draws.choice("decor.seat", "motif motif printed printed same")
    ground = frame.levels[-1].mean(axis=(0, 1)) ** (1 / 2.2)
    if kind == "printed":
        return printed(draws, ground, draws.uniform("decor.scale", 0.8, 2.0), 0.05, 30)
    cover = frame.bare()
    if kind == "motif":
        motif, size = decal(draws, "decor.motif", ground), draws.uniform("decor.size", 0.55, 0.85) * width
        for face in ("top", "front", "back"):
            cover.stick(motif, FACE_U[face], 0, size)
    return cover


def _add_cushion(model, draws, width, depth, height) -> None:
    """Lay a loose cushion on a hard seat."""
    if not draws.chance("decor.cushion", 0.6):
        return
    ground = color(draws, "decor.cushion_color", f"{FABRIC} {CERAMIC}")
    cloth = printed(draws, ground, draws.uniform("decor.cushion_scale", 0.6, 1.6), 0.02, 8)
    size = draws.uniform("decor.cushion_size", 0.78, 0.92)
    if draws.chance("decor.round_cushion", 0.3):
        cushion = ball(size * min(width, depth) / 2, 24, 10, 0, 0.16)
        flat = np.stack([cushion.vertices[:, 0], cushion.vertices[:, 2]], axis=1)
        cushion = cushion._replace(uv=flat)
    else:
        cushion = rounded_box((width * size, 0.4, depth * size), 0.18, 2, 0.1, 4)
    model.add(cloth, move(cushion, (0, height + 0.16, 0.1)))


def _add_legs(model, draws, frame, width, depth, top, thickness) -> None:
    """Add legs from the floor to `top`."""
    x, z = width / 2 - thickness, depth / 2 - thickness
    corners = [(sx * x, sz * z) for sx in (-1, 1) for sz in (-1, 1)]
    kind = draws.choice("part.legs", "taper taper splay square star sled cross")
    if kind in ("taper", "splay", "square"):
        spread = 1.28 if kind == "splay" else 1.0
        for cx, cz in corners:
            if kind == "square":
                model.add(
                    frame,
                    move(rounded_box((thickness * 1.7, top, thickness * 1.7), 0.04, 1), (cx, top / 2, cz)),
                )
            else:
                model.add(
                    frame, rod((cx, top, cz), (cx * spread, 0, cz * spread), thickness, thickness * 0.55)
                )
        if draws.chance("part.stretchers"):
            level = top * draws.uniform("shape.stretcher", 0.25, 0.6)
            out = 1 + (spread - 1) * (1 - level / top)
            pairs = [(0, 1), (2, 3), (0, 2)] if draws.chance("part.third_stretcher") else [(0, 1), (2, 3)]
            for first, second in pairs:
                (ax, az), (bx, bz) = corners[first], corners[second]
                model.add(
                    frame,
                    rod((ax * out, level, az * out), (bx * out, level, bz * out), thickness * 0.5, sides=6),
                )
    elif kind == "star":
        base = plain(color(draws, "color.base", "black charcoal silver"), 0.05, 40)
        arm = join(rod((0, 0.75, 0), (2.3, 0.45, 0), 0.22, 0.14, 6), move(ball(0.28, 10, 6), (2.3, 0.28, 0)))
        model.add(base, cylinder(thickness * 1.2, 0.6, top, segments=14), around(arm, 5))
    elif kind == "sled":
        for side in (-x, x):
            path = [
                (side, top, z),
                (side, 0.15, z * 1.05),
                (side, 0.13, z),
                (side, 0.13, -z),
                (side, 0.15, -z * 1.05),
                (side, top, -z),
            ]
            model.add(frame, sweep(path, thickness * 0.6, 7))
    else:
        for side in (-x, x):
            model.add(frame, rod((side, top, z), (side, 0, -z), thickness * 0.75, sides=7))
            model.add(frame, rod((side, top, -z), (side, 0, z), thickness * 0.75, sides=7))


def _add_back(model, draws, frame, cover, panel_cover, width, depth, seat_height, thickness) -> None:
    """Add the back, leaning backwards from the seat's rear edge."""
    height, x = draws.uniform("shape.back_height", 3.6, 5.6), width / 2 - thickness
    kind = draws.choice("part.back", "slats slats ladder ladder cross panel pad pad spindles oval wire fan")
    count = draws.integer("part.back_count", 3, 8)
    parts: list[tuple[Material, Mesh]] = []
    posts = [rod((side, -0.5, 0), (side, height, 0), thickness, thickness * 0.7) for side in (-x, x)]
    low, high = height * 0.22, height - 0.4

    # Bars and rods follow one bend, as a back is bent to fit a person's.
    def bar(level: float, tall: float) -> Mesh:
        return sweep(
            curve([(-x, level, 0), (0, level, -0.25), (x, level, 0)], 9),
            tall / 2,
            8,
            0.22 / tall,
            up=(0, 1, 0),
        )

    def bend(place: float) -> float:
        return -0.25 * (1 - (place / x) ** 2)  # depth of a bar there

    # A frame of two posts and two bars, filled with rods of one kind.
    if kind in ("slats", "cross", "spindles", "wire", "fan"):
        parts += [(frame, mesh) for mesh in (*posts, bar(height - 0.3, 0.7), bar(low, 0.45))]
        across = -x + 2 * x * (np.arange(count) + 0.5) / count
        if kind == "slats":
            slat = 2 * x / count * draws.uniform("shape.slat", 0.35, 0.7)
            rods = [
                move(rounded_box((slat, high - low, 0.18), 0.05, 1), (cx, (low + high) / 2, bend(cx)))
                for cx in across
            ]
        elif kind == "cross":
            rods = [rod((s * -x, low, 0), (s * x, high, -0.1), thickness * 0.7, sides=7) for s in (-1, 1)]
        elif kind == "wire":
            rods = [rod((cx, low, bend(cx)), (cx, high, bend(cx)), 0.07, sides=5) for cx in across]
            levels = np.linspace(low, high, count + 1)[1:-1]
            ends = np.linspace(-x, x, 9)
            rods += [
                sweep(np.stack([ends, np.full(9, level), bend(ends)], axis=1), 0.07, 5) for level in levels
            ]
        elif kind == "fan":
            rods = [rod((0, low, -0.25), (cx, high, bend(cx)), 0.11, sides=5) for cx in across]
        else:
            rods = [rod((cx * 0.9, -0.3, 0.1), (cx, high + 0.2, bend(cx)), 0.12, 0.09, 6) for cx in across]
        parts += [(frame, mesh) for mesh in rods]
    # Posts with rungs alone.
    elif kind == "ladder":
        rungs = draws.integer("part.rungs", 2, 5)
        tall = height * 0.75 / rungs * draws.uniform("shape.rung", 0.35, 0.75)
        parts += [(frame, mesh) for mesh in posts]
        parts += [(frame, bar(height * (0.25 + 0.75 * (i + 0.5) / rungs), tall)) for i in range(rungs)]
    # One board or cushion, held by the posts or, behind it, by a stem.
    elif kind in ("panel", "pad"):
        tall, wide = (
            height * draws.uniform("shape.panel", 0.5, 1.0),
            width * draws.uniform("shape.panel_width", 0.8, 1),
        )
        pad = kind == "pad"
        if draws.chance("part.posts"):
            wide = max(wide, 2 * x)
            parts += [(frame, mesh) for mesh in posts]
        else:
            stem = rounded_box((0.7, height - 0.1, 0.3), 0.05, 1)
            parts.append((frame, move(stem, (0, height / 2 - 0.45, -0.12))))
        panel = rounded_box(
            (wide, tall, 0.7 if pad else 0.25), 0.32 if pad else 0.1, 3, 0.22 if pad else 0.0, 5
        )
        parts.append((cover if pad else panel_cover, move(panel, (0, height - tall / 2, 0))))
    # An oval ring around an upholstered shield.
    else:
        angle = np.linspace(0, 2 * np.pi, 30)
        ring = np.stack(
            [x * np.cos(angle), height * (0.62 + 0.38 * np.sin(angle)), np.full(30, -0.1)], axis=1
        )
        parts += [(frame, mesh) for mesh in (*posts, sweep(ring, thickness * 0.8, 7, caps=False))]
        parts.append(
            (cover, move(ball(1, 24, 12), (0, height * 0.62, -0.1), scale=(x * 0.97, height * 0.36, 0.25)))
        )
    # Built upright at the origin, it leans as a whole.
    lean = draws.uniform("shape.lean", 4, 16)
    for material, mesh in parts:
        model.add(material, move(mesh, (0, seat_height, thickness - depth / 2), (-lean, 0, 0)))


def _add_arms(model, draws, frame, cover, width, depth, seat_height, thickness) -> None:
    level = seat_height + draws.uniform("shape.arms", 1.5, 2.3)
    for side in (-1, 1):
        x = side * (width / 2 + 0.1)
        model.add(cover, move(rounded_box((0.5, 0.28, depth * 0.85), 0.12, 2), (x, level, 0)))
        for z in (depth * 0.33, -depth * 0.36):
            model.add(
                frame,
                rod((side * width / 2, seat_height - 0.3, z), (x, level, z * 1.08), thickness * 0.8, sides=7),
            )
