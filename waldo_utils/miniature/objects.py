"""A product: meshes and their materials, put on the floor and scaled to a common size."""

import numpy as np

from waldo_utils.miniature.materials import Material
from waldo_utils.miniature.meshes import Mesh, join, rotation
from waldo_utils.miniature.raster import barycentric, rasterize

VIEWS = ((15, 40, 0), (15, -40, 0), (45, 10, 0))  # degrees: both sides of the front, and from above
VIEW_SIZE = 72  # pixels
BACKGROUND = -0.5  # below every color


class Model:
    """A product in the making; `pack` finishes it.

    After `pack`: `vertices` (V, 3) with the middle over the origin, the lowest at y = 0 and a bounding box
    of diagonal 2; `normals` (V, 3); `uv` (V, 2) in the builder's lengths; `faces` (F, 3);
    `material_of_face` (F,); `materials`; `scale`, the factor from the builder's lengths to packed ones.
    """

    def __init__(self):
        self.materials: list[Material] = []
        self._meshes: list[Mesh] = []
        self._owners: list[np.ndarray] = []

    def add(self, material: Material, *meshes: Mesh) -> None:
        """Add meshes of a material."""
        if material not in self.materials:
            self.materials.append(material)
        index = self.materials.index(material)
        for mesh in meshes:
            self._meshes.append(mesh)
            self._owners.append(np.full(len(mesh.faces), index, np.int32))

    def pack(self) -> "Model":
        """Join the meshes, stand the product on the floor, scale it, and return it."""
        self.vertices, self.normals, self.uv, self.faces = join(*self._meshes)
        self.material_of_face = np.concatenate(self._owners)
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        foot = (low + high) / 2
        foot[1] = low[1]
        self.scale = float(2.0 / np.linalg.norm(high - low))
        self.vertices = (self.vertices - foot) * self.scale
        self._meshes, self._owners = [], []
        return self


def look(model: Model) -> np.ndarray:
    """Return (views * pixels, 3) the product's unlit colors in a few plain views: what photos can tell apart.

    Pixels beside the product hold `BACKGROUND`.
    """
    size = VIEW_SIZE
    pictures = []
    for view in VIEWS:
        turned = model.vertices @ rotation(*view).T
        places = np.stack(
            [(turned[:, 0] + 1.05) * size / 2.1, (1.5 - turned[:, 1]) * size / 2.1, turned[:, 2] + 4], axis=1
        ).astype(np.float32)
        _, face = rasterize(places, model.faces, size, size)
        pixel = np.flatnonzero(face >= 0)
        corners = model.faces[face[pixel]]
        second, third = barycentric(places, corners, pixel % size + 0.5, pixel // size + 0.5)
        uv = model.uv[corners]  # (N, 3, 2)
        uv = uv[:, 0] + (uv[:, 1] - uv[:, 0]) * second[:, None] + (uv[:, 2] - uv[:, 0]) * third[:, None]
        uv = uv.astype(np.float32)
        picture = np.full((size * size, 3), BACKGROUND, np.float32)
        owner = model.material_of_face[face[pixel]]
        for index, material in enumerate(model.materials):
            own = owner == index
            colors = material.albedo(uv[own, 0], uv[own, 1], 2.1 / size / model.scale)
            picture[pixel[own]] = colors ** np.float32(1 / 2.2)
        pictures.append(picture)
    return np.concatenate(pictures)


def apart(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean color difference of two looks where either shows its product, in the view where it is
    least."""
    shown = ((first[:, 0] >= 0) | (second[:, 0] >= 0)).reshape(len(VIEWS), -1)
    difference = abs(first - second).mean(axis=1).reshape(len(VIEWS), -1)
    return float(((difference * shown).sum(axis=1) / shown.sum(axis=1)).min())
