"""The twenty builders: sound geometry, and something of every group to draw from."""

from functools import cache

import numpy as np
import pytest

from waldo_utils.miniature.categories import CATEGORIES, SOP_CATEGORIES, TRANSFER_CATEGORIES
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.objects import Model

SEEDS = range(6)
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
