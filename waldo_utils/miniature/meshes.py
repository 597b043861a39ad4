"""Triangle meshes: a few primitives, and ways to move and join them (numpy only).

Lengths are in whatever unit a category's builder thinks in; y is up and the front is +z. Texture coordinates
are lengths too, so that a pattern has the same scale on every part of a product.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FACE_U = {"front": 0.0, "back": 50.0, "right": 100.0, "left": 150.0, "top": 200.0, "bottom": 250.0}


class Mesh(NamedTuple):
    """A triangle mesh."""

    vertices: np.ndarray  # (V, 3)
    normals: np.ndarray  # (V, 3) unit, outward
    uv: np.ndarray  # (V, 2) texture coordinates, lengths
    faces: np.ndarray  # (F, 3) rows of vertices


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return (..., 3) vectors scaled to length one; zero vectors stay near zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Return the (2 * (rows - 1) * (columns - 1), 3) triangles of a grid of vertices stored row by row."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    return np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])


def join(*meshes: Mesh) -> Mesh:
    """Return one mesh of several."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
    )


def rotation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Return the 3 x 3 rotation by z, then x, then y degrees about the axes."""
    cos_x, cos_y, cos_z = np.cos(np.radians([x, y, z]))
    sin_x, sin_y, sin_z = np.sin(np.radians([x, y, z]))
    about_x = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    about_y = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    about_z = np.array([[cos_z, -sin_z, 0], [sin_z, cos_z, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def move(
    mesh: Mesh,
    offset: Sequence[float] = (0, 0, 0),
    rotate: Sequence[float] = (0, 0, 0),
    scale: float | Sequence[float] = 1.0,
) -> Mesh:
    """Return the mesh scaled (per axis), then rotated by degrees (x, y, z), then shifted."""
    factors = np.broadcast_to(np.asarray(scale, float), (3,))
    turn = rotation(*rotate)
    return Mesh(
        (mesh.vertices * factors) @ turn.T + np.asarray(offset, float),
        unit((mesh.normals / factors) @ turn.T),
        mesh.uv,
        mesh.faces,
    )


def around(mesh: Mesh, count: int, phase: float = 0.0) -> Mesh:
    """Return `count` copies of the mesh spread about the y axis, the first turned by `phase` degrees."""
    return join(*[move(mesh, rotate=(0, phase + 360.0 * i / count, 0)) for i in range(count)])


def curve(points: Sequence, count: int = 24) -> np.ndarray:
    """Return (count, D) places on the curve of Catmull and Rom (1974) through (K, D) points."""
    p = np.asarray(points, float)
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, len(p) - 1 - 1e-9, count)
    i, u = t.astype(int), (t % 1)[:, None]
    a, b, c, d = padded[i], padded[i + 1], padded[i + 2], padded[i + 3]
    return 0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)


def lathe(profile: Sequence, segments: int = 36, crease: float = 40.0, facets: bool = False) -> Mesh:
    """Turn a profile about the y axis.

    Args:
        profile: (K, 2) radius and height; going up is the outside.
        segments: around the axis.
        crease: corners of the profile sharper than so many degrees stay sharp.
        facets: shade every face flat.
    """
    points = np.asarray(profile, float)
    steps = np.diff(points, axis=0)
    long_enough = np.hypot(*steps.T) > 1e-7
    points, steps = np.concatenate([points[:1], points[1:][long_enough]]), steps[long_enough]
    across = unit(np.stack([steps[:, 1], -steps[:, 0]], axis=1))  # (K-1, 2) normal of each piece
    smooth = (across[:-1] * across[1:]).sum(axis=1) > np.cos(np.radians(crease))
    mean = unit(across[:-1] + across[1:])
    lower, upper = across.copy(), across.copy()
    lower[1:][smooth], upper[:-1][smooth] = mean[smooth], mean[smooth]

    pieces = len(steps)  # each piece has its own two rows
    place = np.stack([points[:-1], points[1:]], axis=1).reshape(2 * pieces, 2)
    normal = np.stack([lower, upper], axis=1).reshape(2 * pieces, 2)
    length = np.concatenate([[0], np.cumsum(np.hypot(*steps.T))])
    along = np.stack([length[:-1], length[1:]], axis=1).reshape(2 * pieces)

    angle = np.linspace(0, 2 * np.pi, segments + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    height, rise = (np.repeat(column[:, 1:], segments + 1, axis=1) for column in (place, normal))
    vertices = np.stack([place[:, :1] * cos, height, place[:, :1] * sin], axis=-1)  # (2(K-1), segments+1, 3)
    normals = np.stack([normal[:, :1] * cos, rise, normal[:, :1] * sin], axis=-1)
    uv = np.stack(np.broadcast_arrays(-angle[None] * points[:, 0].max(), along[:, None]), axis=-1)
    index = np.arange(2 * pieces * (segments + 1)).reshape(pieces, 2, segments + 1)
    a, b = index[:, 0, :-1].ravel(), index[:, 0, 1:].ravel()
    c, d = index[:, 1, :-1].ravel(), index[:, 1, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])
    mesh = Mesh(vertices.reshape(-1, 3), unit(normals.reshape(-1, 3)), uv.reshape(-1, 2), faces)
    return facet(mesh) if facets else mesh


def facet(mesh: Mesh) -> Mesh:
    """Return the mesh with flat faces: own vertices and one normal for each."""
    corners = mesh.vertices[mesh.faces]  # (F, 3, 3)
    normal = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    outward = np.sign((normal * mesh.normals[mesh.faces].sum(axis=1)).sum(axis=1, keepdims=True))
    return Mesh(
        corners.reshape(-1, 3),
        np.repeat(normal * outward, 3, axis=0),
        mesh.uv[mesh.faces].reshape(-1, 2),
        np.arange(3 * len(mesh.faces)).reshape(-1, 3),
    )


def cylinder(
    radius: float,
    bottom: float,
    top: float,
    top_radius: float | None = None,
    segments: int = 28,
    bevel: float = 0.0,
) -> Mesh:
    """Return a closed upright cylinder or cone."""
    end = radius if top_radius is None else top_radius
    profile = [
        (0, bottom),
        (radius - bevel, bottom),
        (radius, bottom + bevel),
        (end, top - bevel),
        (end - bevel, top),
        (0, top),
    ]
    return lathe(profile, segments)


def ball(radius: float, segments: int = 24, rings: int = 10, y: float = 0.0, squash: float = 1.0) -> Mesh:
    """Return a ball centered at height y, its height scaled by `squash`."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings)
    profile = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return move(lathe(profile, segments, crease=90), (0, y, 0), scale=(1, squash, 1))


def sweep(
    path: Sequence,
    radius: float | Sequence[float],
    sides: int = 8,
    aspect: float = 1.0,
    caps: bool = True,
    up: Sequence[float] = (0.1, 1, 0.2),
) -> Mesh:
    """Return a tube along a path.

    Args:
        path: (K, 3) places.
        radius: of the tube, one or K of them.
        sides: of the section.
        aspect: widens the section at right angles to `up`.
        caps: close the ends.
        up: direction that the section's first axis starts from.
    """
    points = np.asarray(path, float)
    count = len(points)
    radii = np.broadcast_to(np.asarray(radius, float), (count,))
    tangent = unit(np.gradient(points, axis=0))
    first = np.empty_like(points)
    axis = np.asarray(up, float)
    for i in range(count):
        axis = axis - tangent[i] * (axis @ tangent[i])
        if axis @ axis < 1e-6:
            axis = np.cross(tangent[i], (1, 0, 0.3))
        axis = axis / np.sqrt(axis @ axis)
        first[i] = axis
    second = np.cross(tangent, first)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    cos, sin = np.cos(angle)[None, :, None], np.sin(angle)[None, :, None]
    vertices = (
        points[:, None] + (first[:, None] * cos + second[:, None] * sin * aspect) * radii[:, None, None]
    )
    normals = unit(first[:, None] * cos + second[:, None] * sin / aspect)  # (K, sides+1, 3)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(angle[None] * radii.max(), length[:, None]), axis=-1)
    parts = [
        Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), grid_faces(count, sides + 1))
    ]
    if caps:
        for end, sign in ((0, -1), (count - 1, 1)):
            rim = np.concatenate([points[end : end + 1], vertices[end]])
            fan = np.stack([np.zeros(sides, int), np.arange(1, sides + 1), np.arange(2, sides + 2)], axis=1)
            parts.append(
                Mesh(rim, np.repeat(sign * tangent[end : end + 1], sides + 2, axis=0), rim[:, :2], fan)
            )
    return join(*parts)


def rod(
    start: Sequence[float],
    end: Sequence[float],
    radius: float,
    end_radius: float | None = None,
    sides: int = 8,
    aspect: float = 1.0,
) -> Mesh:
    """Return a straight tube between two places."""
    return sweep([start, end], [radius, radius if end_radius is None else end_radius], sides, aspect)


def rounded_box(
    size: Sequence[float], radius: float = 0.02, segments: int = 2, puff: float = 0.0, splits: int = 1
) -> Mesh:
    """Return a box with rounded edges, centered at the origin.

    Each face has texture coordinates of its own, centered at (FACE_U[face], 0), that read left to right from
    outside.

    Args:
        size: width (x), height (y), depth (z).
        radius: of the edges.
        segments: of the rounding.
        puff: bulges the faces, as cushions are.
        splits: of the flat part, so that it can bulge.
    """
    half = np.asarray(size, float) / 2
    radius = min(radius, half.min() * 0.999)
    sides = [  # axis of the normal, axes of the grid, sign, name
        (0, 1, 2, 1, "right"),
        (0, 1, 2, -1, "left"),
        (1, 2, 0, 1, "top"),
        (1, 2, 0, -1, "bottom"),
        (2, 0, 1, 1, "front"),
        (2, 0, 1, -1, "back"),
    ]

    def grid_line(extent: float) -> np.ndarray:
        angle = np.linspace(0, np.pi / 4, segments + 1)[:0:-1]
        edge = (extent - radius) + radius * np.tan(angle)
        return np.concatenate([-edge, np.linspace(radius - extent, extent - radius, splits + 1), edge[::-1]])

    parts = []
    for w, u, v, sign, name in sides:
        grid_u, grid_v = np.meshgrid(grid_line(half[u]), grid_line(half[v]), indexing="ij")
        cube = np.empty((*grid_u.shape, 3))
        cube[..., u], cube[..., v], cube[..., w] = grid_u, grid_v, sign * half[w]
        core = np.clip(cube, radius - half, half - radius)
        normals = unit(cube - core)
        vertices = core + normals * radius
        if puff:
            fall_u, fall_v = 1 - (grid_u / half[u]) ** 2, 1 - (grid_v / half[v]) ** 2
            vertices[..., w] += sign * puff * fall_u * fall_v
            normals[..., u] += 2 * puff * grid_u / half[u] ** 2 * fall_v
            normals[..., v] += 2 * puff * grid_v / half[v] ** 2 * fall_u
            normals = unit(normals)
        across, along = {
            0: (-sign * cube[..., 2], cube[..., 1]),
            1: (cube[..., 0], -sign * cube[..., 2]),
            2: (sign * cube[..., 0], cube[..., 1]),
        }[w]
        uv = np.stack([across + FACE_U[name], along], axis=-1)
        parts.append(
            Mesh(
                vertices.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), grid_faces(*grid_u.shape)
            )
        )
    return join(*parts)


def slab(
    x: Sequence[float], low: Sequence[float], high: Sequence[float], width: float | Sequence[float]
) -> Mesh:
    """Return the solid between two curves low(x) <= y <= high(x), of a width in z.

    Texture coordinates are centered per side as those of `rounded_box`.
    """
    x, low, high = (np.asarray(values, float) for values in (x, low, high))
    half = np.broadcast_to(np.asarray(width, float), x.shape) / 2
    count = len(x)

    def line(y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.stack([x, y, z], axis=1)

    def strip(first: np.ndarray, second: np.ndarray, normal: np.ndarray, face: str) -> Mesh:
        vertices = np.stack([first, second], axis=1).reshape(-1, 3)
        across = -vertices[:, 0] if face == "back" else vertices[:, 0]
        along = {"top": -vertices[:, 2], "bottom": vertices[:, 2]}.get(face, vertices[:, 1])
        uv = np.stack([FACE_U[face] + across, along], axis=1)
        return Mesh(vertices, np.repeat(normal, 2, axis=0), uv, grid_faces(count, 2))

    up = unit(np.stack([-np.gradient(high, x), np.ones(count), np.zeros(count)], axis=1))
    down = unit(np.stack([np.gradient(low, x), -np.ones(count), np.zeros(count)], axis=1))
    side = unit(np.stack([-np.gradient(half, x), np.zeros(count), np.ones(count)], axis=1))
    parts = [
        strip(line(high, -half), line(high, half), up, "top"),
        strip(line(low, -half), line(low, half), down, "bottom"),
        strip(line(low, half), line(high, half), side, "front"),
        strip(line(low, -half), line(high, -half), side * (1, 1, -1), "back"),
    ]
    for end, sign in ((0, -1.0), (count - 1, 1.0)):
        corners = np.array([[x[end], y, z] for y in (low[end], high[end]) for z in (-half[end], half[end])])
        normals = np.tile([[sign, 0.0, 0.0]], (4, 1))
        parts.append(Mesh(corners, normals, corners[:, [2, 1]], np.array([[0, 1, 3], [0, 3, 2]])))
    return join(*parts)
