"""The twenty builders: sound geometry, and something of every group to draw from."""

from functools import cache

import numpy as np
import pytest

from waldo_utils.miniature.categories import (
    CATEGORIES,
    SOP_CATEGORIES,
    TRANSFER_CATEGORIES,
    cabinet,
    coffee_maker,
)
from waldo_utils.miniature.categories.cabinet import _handle
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.materials import plain
from waldo_utils.miniature.meshes import ball
from waldo_utils.miniature.objects import Model

SEEDS = range(6)
CELLS = 48  # of the grid that tells parts apart, per product's diagonal
MOST_FACES = 12_000  # above it a photo takes too long


@cache
def products(category: str) -> list[tuple[Model, set[str]]]:
    """Return the packed model and the groups it was drawn from, one pair per seed."""
    built = []
    for seed in SEEDS:
        draws = Draws(f"{category}/{seed}")
        built.append((CATEGORIES[category](draws).pack(), draws.groups))
    return built


def test_the_categories_are_those_of_stanford_online_products_and_eight_more():
    assert list(SOP_CATEGORIES) == (
        "bicycle cabinet chair coffee_maker fan kettle lamp mug sofa stapler table toaster".split()
    )
    assert list(TRANSFER_CATEGORIES) == "bottle box can jar tube bag shoe shirt".split()


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_mesh_is_sound(category):
    for model, _ in products(category):
        count = len(model.vertices)
        assert np.isfinite(model.vertices).all()
        assert np.isfinite(model.uv).all()
        assert model.normals.shape == (count, 3)
        corners = model.vertices[model.faces]  # (F, 3, 3)
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        seen = model.faces[np.linalg.norm(across, axis=1) > 1e-9]  # a face at a pole may have no area
        np.testing.assert_allclose(np.linalg.norm(model.normals[seen], axis=-1), 1, atol=1e-3)
        assert 0 <= model.faces.min()
        assert model.faces.max() < count
        assert len(model.faces) < MOST_FACES


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_face_has_a_material_and_every_material_a_face(category):
    for model, _ in products(category):
        assert len(model.material_of_face) == len(model.faces)
        assert set(model.material_of_face) == set(range(len(model.materials)))


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_product_stands_on_the_floor_with_diagonal_two(category):
    for model, _ in products(category):
        low, high = model.vertices.min(axis=0), model.vertices.max(axis=0)
        assert low[1] == pytest.approx(0, abs=1e-6)
        assert (low + high)[[0, 2]] == pytest.approx([0, 0], abs=1e-5)
        assert np.linalg.norm(high - low) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("category", CATEGORIES)
def test_shape_part_color_and_decor_are_drawn_and_nothing_else(category):
    drawn = [groups for _, groups in products(category)]
    assert set().union(*drawn) - {"kind"} == {"shape", "part", "color", "decor"}
    assert all("decor" in groups for groups in drawn)


@pytest.mark.parametrize("category", CATEGORIES)
def test_seeds_differ_and_repeat(category):
    shapes = [model.vertices for model, _ in products(category)]
    again = CATEGORIES[category](Draws(f"{category}/0")).pack()
    np.testing.assert_array_equal(again.vertices, shapes[0])
    pairs = [(first, second) for i, first in enumerate(shapes) for second in shapes[:i]]
    assert not any(np.array_equal(first, second) for first, second in pairs)


def _islands(model: Model) -> int:
    """Return how many groups of parts touch no other: surfaces are put on a grid, and neighbors joined."""
    corners = model.vertices[model.faces]  # (F, 3, 3)
    edge = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    steps = np.maximum(np.ceil(edge * CELLS / 2 * 1.6).astype(int), 1)
    cells = set()
    for count in np.unique(steps):
        first, second = (share.ravel() / count for share in np.mgrid[: count + 1, : count + 1])
        inside = first + second <= 1 + 1e-9
        weights = np.stack([first, second, 1 - first - second], axis=1)[inside]  # (P, 3)
        places = (weights @ corners[steps == count]).reshape(-1, 3)
        cells |= set(map(tuple, np.unique(np.floor(places * CELLS / 2).astype(int), axis=0)))
    islands = 0
    while cells:
        islands += 1
        reached = [cells.pop()]
        while reached:
            x, y, z = reached.pop()
            near = {(x + i, y + j, z + k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)} & cells
            cells -= near
            reached += near
    return islands


def test_a_part_in_the_air_is_counted():
    model = Model()
    model.add(plain(np.full(3, 0.5)), ball(1.0), ball(1.0, y=1.5), ball(1.0, y=5.0))
    assert _islands(model.pack()) == 2


@pytest.mark.parametrize("category", CATEGORIES)
def test_all_parts_hang_together(category):
    assert [_islands(model) for model, _ in products(category)] == [1] * len(SEEDS)


def test_nothing_of_a_coffee_maker_hangs_below_its_foot(monkeypatch):
    lowest = []

    def pack(model: Model) -> Model:
        lowest.append(min(mesh.vertices[:, 1].min() for mesh in model._meshes))
        return model

    monkeypatch.setattr(Model, "pack", pack)
    for seed in range(60):
        CATEGORIES["coffee_maker"](Draws(f"coffee_maker/{seed}")).pack()
    assert min(lowest) > -0.1  # the cord's thickness


def test_no_handle_reaches_beyond_its_cabinet(monkeypatch):
    reaches = []

    def record(*arguments) -> list:
        meshes = _handle(*arguments)
        reaches.extend(abs(mesh.vertices[:, 0]).max() for mesh in meshes)
        return meshes

    monkeypatch.setattr(cabinet, "_handle", record)
    for seed in range(40):
        draws, before = Draws(f"cabinet/{seed}"), len(reaches)
        CATEGORIES["cabinet"](draws)
        assert max(reaches[before:]) <= draws.uniform("shape.width", 4, 9) / 2 + 1e-6


def test_a_motif_of_a_coffee_maker_is_on_one_part_of_its_front():
    """Head and column share texture places; only the head's material may hold motifs."""
    for seed in range(20):
        model = Model()
        body = plain(np.full(3, 0.5))
        coffee_maker._tower(model, Draws(str(seed)), body, plain(np.zeros(3)), np.ones((4, 4, 4)))
        owners = [len(mesh.faces) for mesh, owner in zip(model._meshes, model._owners, strict=True)
                  if model.materials[owner[0]] is body]  # fmt: skip
        assert len(owners) == 1
