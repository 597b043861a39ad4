"""What a photo is taken of and from where: the turned product, clutter, the camera and the light."""

from dataclasses import dataclass

import numpy as np

from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import Material, plain
from waldo_utils.miniature.meshes import (
    ball,
    curve,
    cylinder,
    join,
    lathe,
    move,
    rotation,
    rounded_box,
    sweep,
    unit,
)
from waldo_utils.miniature.objects import Model
from waldo_utils.miniature.textures import CERAMIC, color, tile

ASPECTS = (1, 1, 1, 4 / 3, 4 / 3, 3 / 2, 3 / 4, 3 / 4, 2 / 3)  # width / height


@dataclass
class World:
    """The product and its clutter as one mesh; the product's vertices and faces come first."""

    vertices: np.ndarray  # (V, 3)
    normals: np.ndarray  # (V, 3)
    uv: np.ndarray  # (V, 2)
    faces: np.ndarray  # (F, 3)
    material_of_face: np.ndarray  # (F,)
    materials: list[Material]
    scales: list[float]  # of each material's lengths
    product_vertices: int
    product_faces: int


@dataclass
class Camera:
    """A pinhole camera that looks along the negative third row of `axes`."""

    axes: np.ndarray  # (3, 3) rows: right, up, backwards
    eye: np.ndarray  # (3,)
    focal: float  # pixels
    middle: np.ndarray  # (2,) pixels, where the optical axis meets the picture
    width: int
    height: int
    distance: float  # from the product's middle

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return (V, 3) float32 x, y in pixels (y down) and closeness 1 / depth, -1 behind the camera."""
        seen = (points - self.eye) @ self.axes.T
        closeness = 1 / np.maximum(-seen[:, 2], 1e-3)
        x = self.middle[0] + seen[:, 0] * closeness * self.focal
        y = self.middle[1] - seen[:, 1] * closeness * self.focal
        return np.stack([x, y, np.where(seen[:, 2] < -0.05, closeness, -1)], axis=1).astype(np.float32)


@dataclass
class Light:
    """A key light, far away, and light from everywhere."""

    direction: np.ndarray  # (3,) float32 unit, towards the light
    key: np.ndarray  # (3,) float32
    ambient: np.ndarray  # (3,) float32
    softness: float  # width of shadow edges, pixels of the shadow map


def arrange(model: Model, draws: Draws, difficulty: float, place: Draws | None = None) -> World:
    """Turn the product and put clutter around it, and sometimes a thing in front of it.

    The clutter of a place is drawn by that place, and as often as with the highest difficulty: it is what
    a place is known by.
    """
    if draws.chance("any_side", 0.25 * difficulty):
        azimuth = draws.uniform("azimuth", -105, 105)  # backs look too much alike
    else:
        azimuth = draws.uniform("azimuth", -70, 70) * (0.4 + 0.6 * difficulty)
    turn = rotation(0, azimuth, 0)
    vertices, normals = [model.vertices @ turn.T], [model.normals @ turn.T]
    uv, faces, owners = [model.uv], [model.faces], [model.material_of_face]
    materials, scales = list(model.materials), [model.scale] * len(model.materials)

    reach = abs(vertices[0][:, [0, 2]]).max()
    spots = []  # angle in degrees (90 is towards the camera), distance, size
    around, crowd = (draws, difficulty) if place is None else (place, 1.0)
    if around.chance("cluttered", 0.4 * crowd):
        for i in range(around.integer("clutter", 1, 4)):
            angle = around.uniform(f"clutter_angle{i}", 130, 410)
            distance = around.uniform(f"clutter_at{i}", 1.15, 2.2)
            spots.append((angle, distance, around.uniform(f"clutter_size{i}", 0.3, 0.9)))
    if draws.chance("occluded", 0.1 * difficulty):
        angle = 90 + draws.uniform("occluder_angle", -50, 50)
        spots.append((angle, 1.25, draws.uniform("occluder_size", 0.2, 0.4)))
    count = len(model.vertices)
    for i, (angle, distance, size) in enumerate(spots):
        along = np.radians(angle)
        foot = (np.cos(along) * reach * distance, 0, np.sin(along) * reach * distance)
        for material, mesh in _prop(around, f"prop{i}"):
            placed = move(mesh, foot, (0, around.uniform(f"clutter_turn{i}", 0, 360), 0), size)
            vertices.append(placed.vertices)
            normals.append(placed.normals)
            uv.append(placed.uv)
            faces.append(placed.faces + count)
            owners.append(np.full(len(placed.faces), len(materials), np.int32))
            materials.append(material)
            scales.append(size)
            count += len(placed.vertices)
    return World(
        *(np.concatenate(parts) for parts in (vertices, normals, uv, faces, owners)),
        materials,
        scales,
        len(model.vertices),
        len(model.faces),
    )


def _prop(draws: Draws, name: str) -> list[tuple]:
    """Return the (material, mesh) parts of a piece of clutter at the origin, at most about one unit tall."""
    ground = color(draws, f"{name}.color", f"{CERAMIC} oak walnut tan")
    figure = color(draws, f"{name}.figure", CERAMIC)
    pattern = draws.choice(f"{name}.pattern", "solid solid solid stripe check dots floral wood marble")
    period = draws.uniform(f"{name}.period", 0.2, 0.6)
    specular = draws.choice(f"{name}.shine", (0.02, 0.05, 0.08))
    material = Material(tile(draws, f"{name}.tile", pattern, ground, figure), period, specular)
    height, width = draws.uniform(f"{name}.height", 0.3, 1), draws.uniform(f"{name}.width", 0.15, 0.4)
    kind = draws.choice(f"{name}.kind", "book box can ball bottle bowl block plant")
    if kind == "book":
        thick = 0.06 + 0.15 * height
        return [(material, move(rounded_box((width * 2, thick, width * 1.5), 0.01, 1), (0, thick / 2, 0)))]
    if kind in ("box", "block"):
        return [
            (material, move(rounded_box((width * 1.5, height, width * 1.2), 0.015, 1), (0, height / 2, 0)))
        ]
    if kind == "can":
        return [(material, cylinder(width * 0.5, 0, height * 0.6, segments=20))]
    if kind == "ball":
        return [(material, ball(width * 0.7, 20, 10, width * 0.7))]
    if kind == "bowl":
        outside = [(width * 0.3, 0), (width * 0.7, height * 0.2), (width, height * 0.45)]
        inside = [(width * 0.95, height * 0.45), (width * 0.6, height * 0.2), (0, height * 0.1)]
        return [(material, lathe(outside + inside, 24))]
    if kind == "plant":
        green = plain(color(draws, f"{name}.green", "green olive"), 0.03, 20)
        leaves = []
        for i in range(7):
            angle = draws.uniform(f"{name}.leaf{i}", 0, 6.3)
            spread = draws.uniform(f"{name}.spread{i}", 0.2, 0.6)
            out = spread * width * 2
            tip = np.array([np.cos(angle) * out, height * 0.5 + spread * 0.5, np.sin(angle) * out])
            stem = curve([(0, height * 0.3, 0), tip * (0.5, 0, 0.5) + (0, height * 0.5 + 0.2, 0), tip], 6)
            leaves.append(sweep(stem, [0.02, 0.06, 0.08, 0.07, 0.05, 0.01], 5, 0.3))
        return [(green, join(*leaves)), (material, cylinder(width * 0.35, 0, height * 0.4, width * 0.5, 20))]
    outline = [(0, 0), (width * 0.4, 0), (width * 0.4, height * 0.55), (width * 0.15, height * 0.75)]
    return [(material, lathe([*outline, (width * 0.15, height), (0, height)], 20))]


def aim(world: World, draws: Draws, size: int, difficulty: float) -> Camera:
    """Choose a camera whose picture holds the product, its longer side `size` pixels."""
    aspect = draws.choice("aspect", ASPECTS)
    width, height = (size, round(size / aspect)) if aspect >= 1 else (round(size * aspect), size)
    if draws.chance("from_above", 0.15 * difficulty):
        elevation = np.radians(draws.uniform("elevation", 42, 70))
    else:
        elevation = np.radians(draws.uniform("elevation", 4, 42))
    field = np.radians(draws.uniform("field_of_view", 22, 55))
    side = np.radians(draws.uniform("side", -22, 22) * difficulty)
    roll = np.radians(draws.uniform("roll", -1, 1) ** 3 * 14)
    product = world.vertices[: world.product_vertices]
    middle = np.array([0, product[:, 1].max() / 2, 0])
    back = np.array([np.sin(side) * np.cos(elevation), np.sin(elevation), np.cos(side) * np.cos(elevation)])
    tilt = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    axes = tilt @ frame(back)
    focal = float(0.5 * max(width, height) / np.tan(field / 2))

    distance, fill = 1.0 / np.sin(field / 2), draws.uniform("fill", 1.0 - 0.45 * max(difficulty, 0.4), 1.0)
    for _ in range(3):  # step back or forth until the product fills its share of the picture
        seen = (product - middle - back * distance) @ axes.T
        flat = seen[:, :2] / np.maximum(-seen[:, 2:], 0.05) * focal
        low, high = flat.min(axis=0), flat.max(axis=0)
        extent = high - low
        distance = max(distance * max(extent[0] / (fill * width), extent[1] / (fill * height)) ** 0.9, 1.15)
    slack = np.maximum(np.array([width, height]) - extent, 0) / 2
    shift = slack * [draws.uniform("shift_x", -0.8, 0.8), draws.uniform("shift_y", -0.8, 0.8)]
    center = np.array([width / 2, height / 2]) - (low + high) / 2 * (1, -1) + shift
    return Camera(axes, middle + back * distance, focal, center, width, height, float(distance))


def light_up(draws: Draws, difficulty: float) -> Light:
    """Choose the light: where it comes from, how warm, how strong, how soft."""
    side = np.radians(draws.uniform("light_side", -80, 80))
    direction = unit(
        np.array(
            [np.sin(side), draws.uniform("light_height", 0.5, 1.8), draws.uniform("light_front", 0.1, 1)]
        )
    )
    warmth = draws.uniform("warmth", -1, 1) * difficulty
    key = np.array([1 + 0.12 * warmth, 1, 1 - 0.16 * warmth]) * draws.uniform("key", 0.55, 1.15)
    ambient = np.array([1 - 0.05 * warmth, 1, 1 + 0.07 * warmth]) * draws.uniform("ambient", 0.3, 0.62)
    softness = draws.uniform("softness", 0.6, 5)
    return Light(direction.astype(np.float32), key.astype(np.float32), ambient.astype(np.float32), softness)


def frame(back: np.ndarray, up: tuple = (0, 1, 0)) -> np.ndarray:
    """Return (3, 3) rows right, up, backwards of a view whose backwards axis is `back`."""
    z = unit(np.asarray(back, float))
    x = unit(np.cross(up, z))
    return np.stack([x, np.cross(z, x), z])
