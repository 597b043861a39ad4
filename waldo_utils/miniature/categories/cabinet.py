"""Cabinets: a body on a base, with doors, drawers, shelves, handles; seams and a cord hole on the back."""

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, metal, plain, printed, wooden
from waldo_utils.miniature.meshes import FACE_U, Mesh, ball, cylinder, move, rod, rounded_box
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color, decal

PAINTS = "white white cream grey mint teal black navy red sky"
GAP = 0.1  # around each door and drawer


def build(draws: Draws) -> Model:
    """Build a cabinet; lengths in decimeters."""
    model = Model()
    width, height, depth = (
        draws.uniform("shape.width", 4, 9),
        draws.uniform("shape.height", 4, 11),
        draws.uniform("shape.depth", 3, 4.5),
    )
    kind = draws.choice("color.kind", "wood wood wood paint metal")
    if kind == "wood":
        body = wooden(draws, "color.wood", period=4)
    else:
        body = plain(color(draws, "color.paint", PAINTS), 0.04, 30 if kind == "paint" else 60)
    hardware = metal(draws, "color.hardware")
    foot = _add_base(model, draws, body, hardware, width, depth)
    model.add(body, move(rounded_box((width, height, depth), 0.06, 1), (0, foot + height / 2, 0)))
    if draws.chance("part.top", 0.6):
        thick = draws.uniform("shape.top", 0.15, 0.3)
        model.add(
            body,
            move(
                rounded_box((width + 0.3, thick, depth + 0.25), 0.06, 1), (0, foot + height + thick / 2, 0.05)
            ),
        )
    _add_back(model, draws, width, height, depth, foot)
    front = _front_material(draws, body)
    columns, rows = (
        draws.integer("part.columns", 1, 3 if width > 5.5 else 2),
        draws.integer("part.rows", 2, 6),
    )
    layout = draws.choice("kind.layout", "doors doors drawers drawers mixed mixed grid shelves glass")
    for cell in _cells(draws, layout, columns, rows):
        _add_cell(model, draws, cell, layout, body, front, hardware, width, height, depth, foot)
    return model


def _add_base(model, draws, body, hardware, width, depth) -> float:
    """Add what the body stands on; return its height."""
    kind = draws.choice("part.base", "plinth legs legs feet none")
    high = {"plinth": 0.5, "legs": draws.uniform("shape.legs", 0.8, 2.2), "feet": 0.4, "none": 0.0}[kind]
    if kind == "plinth":
        model.add(body, move(rounded_box((width * 0.95, high, depth * 0.9), 0.02, 1), (0, high / 2, -0.05)))
    elif kind != "none":
        for x in (0.3 - width / 2, width / 2 - 0.3):
            for z in (0.3 - depth / 2, depth / 2 - 0.3):
                spread = 1.05 if kind == "legs" else 1
                model.add(
                    hardware if kind == "feet" else body, rod((x, high, z), (x * spread, 0, z), 0.2, 0.12)
                )
    return high


def _add_back(model, draws, width, height, depth, foot) -> None:
    """Add the rear panel with its seams and a hole for a cord."""
    board = plain(color(draws, "color.board", "tan brown cream grey"), 0.03, 12)
    panels = draws.integer("part.back_panels", 1, 3)
    for i in range(panels):
        wide = (width - 0.4) / panels
        place = (-width / 2 + 0.2 + wide * (i + 0.5), foot + height / 2, -depth / 2)
        model.add(board, move(rounded_box((wide - 0.1, height - 0.4, 0.1), 0.03, 1), place))
    hole = cylinder(0.25, 0, 0.08, segments=14)
    model.add(
        plain(np.full(3, 0.05), 0.03, 10),
        move(
            hole,
            (width * draws.uniform("part.hole", -0.3, 0.3), foot + height * 0.2, -depth / 2 - 0.05),
            (-90, 0, 0),
        ),
    )


def _front_material(draws: Draws, body: Material) -> Material:
    if draws.chance("decor.print", 0.25):
        return printed(
            draws, color(draws, "color.front", PAINTS), draws.uniform("decor.scale", 1, 3), 0.04, 30
        )
    kind = draws.choice("color.front_kind", "same same same wood paint")
    if kind == "wood":
        return wooden(draws, "color.front_wood", period=4)
    if kind == "paint":
        return plain(color(draws, "color.front", PAINTS), 0.04, 30)
    return body


def _cells(draws: Draws, layout: str, columns: int, rows: int) -> list[tuple]:
    """Return (kind, left, right, bottom, top) of the front's parts, in shares of the front."""
    doors = [("door", i / columns, (i + 1) / columns, 0, 1) for i in range(columns)]
    if layout in ("doors", "glass"):
        return doors
    if layout == "drawers":
        return [("drawer", 0, 1, i / rows, (i + 1) / rows) for i in range(rows)]
    if layout == "grid":
        return [
            ("drawer", i / columns, (i + 1) / columns, j / rows, (j + 1) / rows)
            for i in range(columns)
            for j in range(rows)
        ]
    if layout == "mixed":
        count = draws.integer("part.drawers", 1, 2)
        split = 1 - 0.22 * count
        drawers = [("drawer", 0, 1, split + 0.22 * i, split + 0.22 * (i + 1)) for i in range(count)]
        return drawers + [(kind, left, right, 0, split) for kind, left, right, _, _ in doors]
    return [("open", 0, 1, 0.4, 1)] + [(kind, left, right, 0, 0.4) for kind, left, right, _, _ in doors]


def _add_cell(model, draws, cell, layout, body, front, hardware, width, height, depth, foot) -> None:
    kind, left, right, bottom, top = cell
    x0, x1 = (GAP - width / 2 + (width - 2 * GAP) * share for share in (left, right))
    y0, y1 = (foot + GAP + (height - 2 * GAP) * share for share in (bottom, top))
    x, y, wide, tall, z = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0 - 0.08, y1 - y0 - 0.08, depth / 2
    dark = plain(np.array([0.09, 0.08, 0.07]), 0.04, 30)
    if kind == "open":
        model.add(dark, move(rounded_box((wide, tall, 0.04), 0.01, 1), (x, y, z + 0.01)))
        _add_shelves(model, draws, body, x, x0, y0, wide, tall, z)
        return
    model.add(front, move(rounded_box((wide, tall, 0.16), 0.04, 1), (x, y, z + 0.05)))
    inset = draws.choice("part.inset", "none none frame frame louver groove")
    if layout == "glass" and kind == "door":
        pane = plain(np.array([0.3, 0.36, 0.38]), 0.12, 90)
        model.add(pane, move(rounded_box((wide - 0.7, tall - 0.7, 0.05), 0.01, 1), (x, y, z + 0.13)))
    elif inset == "frame" and tall > 0.8:
        panel = rounded_box((max(wide - 0.7, 0.3), max(tall - 0.6, 0.2), 0.1), 0.04, 1)
        model.add(body if draws.chance("color.inset", 0.3) else front, move(panel, (x, y, z + 0.14)))
    elif inset == "louver" and kind == "door":
        step = max(0.32, (tall - 0.8) / 16)
        for j in range(int((tall - 0.8) / step)):
            model.add(
                front,
                move(
                    rounded_box((wide - 0.6, step * 0.56, 0.1), 0.03, 1),
                    (x, y0 + 0.5 + step * j, z + 0.15),
                    (25, 0, 0),
                ),
            )
    elif inset == "groove":
        for share in (0.25, 0.5, 0.75):
            model.add(
                dark,
                move(rounded_box((0.05, tall - 0.2, 0.04), 0.01, 1), (x0 + (x1 - x0) * share, y, z + 0.13)),
            )
    if draws.chance("decor.sticker", 0.3) and kind == "door":
        motif = plain(np.full(3, 0.9), 0.04, 30).stick(
            decal(draws, "decor.motif", np.full(3, 0.9)), FACE_U["front"], 0, 0.9
        )
        place = (
            x + draws.uniform("decor.x", -0.2, 0.2) * wide,
            y + draws.uniform("decor.y", 0.1, 0.3) * tall,
            z + 0.16,
        )
        model.add(motif, move(rounded_box((0.9, 0.9, 0.04), 0.01, 1), place))
    handle_x = x if kind == "drawer" else (x1 - 0.35 if left < 0.4 else x0 + 0.35)
    handle = draws.choice("part.handle", "knob knob bar bar cup ring long")
    shifts = (-0.28, 0.28) if kind == "drawer" and wide > 4 and handle != "long" else (0,)
    for shift in shifts:
        place = (handle_x + shift * wide, y, z + 0.16)
        model.add(hardware, *_handle(handle, kind == "drawer", place, wide, tall))


def _handle(kind: str, drawer: bool, place: tuple, wide: float, tall: float) -> list[Mesh]:
    """Return the parts of a handle that stands on a front of size `wide` x `tall`."""
    if kind == "knob":
        return [move(ball(min(0.2, tall * 0.3), 12, 8), place)]
    if kind == "bar":
        half = np.array([min(0.5, wide * 0.35), 0, 0]) if drawer else np.array([0, min(0.6, tall * 0.35), 0])
        ends = [np.array(place) + sign * half for sign in (-1, 1)]
        out = np.array([0, 0, 0.16])
        return [
            rod(ends[0] + out, ends[1] + out, 0.08),
            *(
                rod(end * 0.9 + np.array(place) * 0.1, end * 0.9 + np.array(place) * 0.1 + out, 0.06, sides=5)
                for end in ends
            ),
        ]
    if kind == "cup":
        return [move(rounded_box((min(0.9, wide * 0.6), min(0.35, tall * 0.6), 0.3), 0.14, 2), place)]
    if kind == "ring":
        sizes = ((min(0.3, tall * 0.4), 0.1), (min(0.12, tall * 0.15), 0.2))
        return [move(cylinder(radius, -0.05, deep, segments=16), place, (90, 0, 0)) for radius, deep in sizes]
    return [
        move(rounded_box((wide * 0.8, 0.14, 0.16) if drawer else (0.14, tall * 0.8, 0.16), 0.04, 1), place)
    ]


def _add_shelves(model, draws, body, x, x0, y0, wide, tall, z) -> None:
    """Add shelves with books."""
    count = draws.integer("part.shelves", 1, 3)
    spines = [plain(color(draws, f"decor.book{i}", CERAMIC)) for i in range(4)]
    for j in range(count):
        level = y0 + tall * (j + 1) / (count + 1)
        model.add(body, move(rounded_box((wide, 0.15, 0.15), 0.03, 1), (x, level, z + 0.05)))
        for i in range(min(draws.integer(f"decor.books{j}", 0, 9), int((wide - 0.6) / 0.3))):
            high = draws.uniform(f"decor.book_height{j}.{i}", 0.5, 0.9) * tall / (count + 1)
            book = rounded_box((0.22, high, 0.1), 0.02, 1)
            model.add(spines[i % 4], move(book, (x0 + 0.4 + 0.3 * i, level + 0.08 + high / 2, z + 0.05)))
