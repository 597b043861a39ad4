"""The renderer: geometry, depth, light, families, determinism."""

import numpy as np
import pytest

from waldo_utils.miniature import families
from waldo_utils.miniature.backdrop import Backdrop
from waldo_utils.miniature.develop import develop
from waldo_utils.miniature.draws import Draws
from waldo_utils.miniature.families import APART, family
from waldo_utils.miniature.materials import plain
from waldo_utils.miniature.meshes import ball, cylinder, join, lathe, move, rotation, rounded_box, slab, sweep
from waldo_utils.miniature.objects import Model, apart, look
from waldo_utils.miniature.photo import photograph
from waldo_utils.miniature.raster import rasterize
from waldo_utils.miniature.scene import Light, aim, arrange
from waldo_utils.miniature.shading import Lighting, shade_world
from waldo_utils.miniature.textures import PRINT, decal, tile


def test_draws_depend_on_seed_and_name_alone():
    draws = Draws("7")
    first = draws.uniform("shape.height", 2, 5)
    draws.integer("part.count", 1, 9)
    assert Draws("7").uniform("shape.height", 2, 5) == first
    assert Draws("8").uniform("shape.height", 2, 5) != first
    assert draws.groups == {"shape", "part"}


def test_draws_are_pinned():
    """Other values mean other photos for the same seed."""
    draws = Draws("7")
    assert draws.uniform("shape.height", 2, 5) == pytest.approx(4.77404095, abs=1e-8)
    assert [draws.integer(f"part.{i}", 1, 9) for i in range(8)] == [9, 8, 4, 9, 5, 1, 9, 3]
    assert [draws.choice(f"color.{i}", "red green blue") for i in range(4)] == ["red", "red", "blue", "red"]
    assert [draws.chance(f"decor.{i}", 0.3) for i in range(6)] == [True, True, False, False, True, True]
    assert draws.bits("noise") == 165908782006575


def test_integers_reach_both_ends():
    draws = Draws("7")
    assert {draws.integer(f"part.{i}", -1, 2) for i in range(200)} == {-1, 0, 1, 2}


def test_look_alikes_share_all_groups_but_those_that_vary():
    base, other = Draws("7"), Draws("7", "own", ("decor",))
    assert base.uniform("shape.height") == other.uniform("shape.height")
    assert base.uniform("decor.size") != other.uniform("decor.size")


@pytest.mark.parametrize(
    "mesh",
    [
        ball(2.0),
        rounded_box((2, 3, 1), 0.2),
        cylinder(1, -1, 1),
        lathe([(0, -1), (1, -1), (1.5, 0), (1, 1), (0, 1)]),
    ],
)
def test_normals_are_unit_and_point_outwards(mesh):
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
    corners = mesh.vertices[mesh.faces]
    middles, normals = corners.mean(axis=1), mesh.normals[mesh.faces].mean(axis=1)
    assert ((middles * normals).sum(axis=1) > 0).mean() > 0.99


def test_sweep_and_slab_enclose_their_path():
    tube = sweep([(0, 0, 0), (0, 4, 0)], 0.5, sides=16)
    assert abs(np.hypot(tube.vertices[:, 0], tube.vertices[:, 2])).max() == pytest.approx(0.5)
    block = slab([0, 1, 2], [0, 0, 0], [1, 2, 1], 0.6)
    assert block.vertices.min(axis=0) == pytest.approx([0, 0, -0.3])
    assert block.vertices.max(axis=0) == pytest.approx([2, 2, 0.3])


def test_move_scales_then_turns_then_shifts():
    mesh = move(rounded_box((2, 2, 2)), offset=(5, 0, 0), rotate=(0, 90, 0), scale=(1, 1, 3))
    assert mesh.vertices.max(axis=0) == pytest.approx([8, 1, 1])
    np.testing.assert_allclose(rotation(y=90) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    both = join(mesh, mesh)
    assert len(both.vertices) == 2 * len(mesh.vertices)
    assert both.faces.max() == len(both.vertices) - 1


def test_rasterizer_is_the_slow_loop_over_pixels():
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(-3, 23, (60, 2)), rng.uniform(0.5, 2, (60, 1))], axis=1).astype(
        np.float32
    )
    faces = rng.permutation(60).reshape(20, 3)
    closeness, face = rasterize(places, faces, 20, 16)
    for y in range(16):
        for x in range(20):
            best, nearest = 0.0, -1
            for index, (a, b, c) in enumerate(places[faces].astype(float)):
                matrix = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]])
                weights = np.linalg.solve(matrix, [x + 0.5, y + 0.5, 1])
                depth = weights @ [a[2], b[2], c[2]]
                if weights.min() > 0 and depth > best:
                    best, nearest = depth, index
            assert face[y * 20 + x] == nearest
            assert closeness[y * 20 + x] == pytest.approx(best, abs=1e-3)


def _ball_model(rgb=(0.7, 0.7, 0.7)) -> Model:
    model = Model()
    model.add(plain(np.array(rgb)), ball(1.0, 24, 16, 1.0))
    return model.pack()


def test_packing_stands_the_product_on_the_floor_with_diagonal_two():
    model = _ball_model()
    low, high = model.vertices.min(axis=0), model.vertices.max(axis=0)
    assert low[1] == pytest.approx(0)
    assert np.linalg.norm(high - low) == pytest.approx(2)
    assert (low + high)[[0, 2]] == pytest.approx([0, 0], abs=1e-6)


def test_looks_tell_colors_apart():
    red, blue = look(_ball_model((0.9, 0.1, 0.1))), look(_ball_model((0.1, 0.1, 0.9)))
    assert apart(red, red) == 0
    assert apart(red, blue) == pytest.approx((0.8 + 0 + 0.8) / 3, abs=0.02)


def test_a_family_has_distinct_looks_and_repeats():
    looks = [look(model) for model in family(1, "mug", 3)]
    assert len(looks) == 3
    assert all(apart(looks[i], looks[j]) > APART for i in range(3) for j in range(i))
    np.testing.assert_array_equal(look(family(1, "mug", 3)[2]), looks[2])


def test_a_member_does_not_vary_what_its_family_lacks(monkeypatch):
    """Balls without decor: of decor and color, only color can make a second one."""
    built = []

    def build(draws: Draws) -> Model:
        built.append(draws.vary)
        model = Model()
        model.add(plain(np.array([draws.uniform(f"color.{channel}") for channel in "rgb"])), ball(1.0))
        return model

    monkeypatch.setitem(families.CATEGORIES, "plain_ball", build)
    monkeypatch.setattr(families, "VARIATIONS", (("decor",), ("color",)))
    looks = [look(model) for model in family(0, "plain_ball", 0, 4)]
    assert set(built) == {(), ("color",)}
    assert min(apart(looks[i], looks[j]) for i in range(4) for j in range(i)) > APART


def test_a_family_of_equal_products_is_refused(monkeypatch):
    monkeypatch.setitem(families.CATEGORIES, "one_ball", _painted)
    with pytest.raises(RuntimeError, match=r"family 5 of one_ball \(seed 0\) has no 2 distinct products"):
        family(0, "one_ball", 5, 2)


def _painted(draws: Draws) -> Model:
    """Return a ball that draws from every group and looks the same always."""
    for group in ("shape", "part", "color", "decor"):
        draws.uniform(f"{group}.unused")
    model = Model()
    model.add(plain(np.full(3, 0.5)), ball(1.0))
    return model


def test_a_photo_repeats_in_any_order_and_shows_its_product():
    model = family(1, "kettle", 0, 1)[0]
    first = [photograph(model, Draws(f"photo{i}"), 96, 0.5) for i in (0, 1)]
    again = [photograph(model, Draws(f"photo{i}"), 96, 0.5) for i in (1, 0)]
    for (image, product), (other, _) in zip(first, reversed(again), strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(other))
        assert max(image.size) == 96
        assert product.shape == image.size[::-1] and 0 <= product.min() and product.max() == 1
        assert 0.03 < product.mean() < 0.9
        assert np.asarray(image).std() > 10
    assert not np.array_equal(np.asarray(first[0][0]), np.asarray(first[1][0]))


def test_some_photos_are_upright_and_some_wide():
    sizes = {photograph(_ball_model(), Draws(f"aspect{i}"), 48, 0.5)[0].size for i in range(16)}
    assert (48, 48) in sizes
    assert any(width < height for width, height in sizes)
    assert any(width > height for width, height in sizes)


def test_some_photos_of_a_product_are_taken_in_its_own_room():
    rooms = []
    for i in range(40):
        alone, at_home = (
            photograph(_ball_model(), Draws(f"photo{i}"), 32, 0.0, room)[0] for room in (None, Draws("room"))
        )
        rooms.append(not np.array_equal(np.asarray(alone), np.asarray(at_home)))
    assert 4 <= sum(rooms) <= 20  # 0.3 of 40


def test_a_place_is_the_same_behind_other_products_and_the_product_another_before_the_same_place():
    def dark_and_red(place, color, photo="photo", model=_ball_model):
        image, product = photograph(model(color), Draws(photo), 48, 0.0, place=Draws(place))
        return np.asarray(image).astype(int), product

    red, where = dark_and_red("place", (0.8, 0.1, 0.1))
    blue, there = dark_and_red("place", (0.1, 0.1, 0.8))
    elsewhere, _ = dark_and_red("elsewhere", (0.8, 0.1, 0.1))
    assert np.array_equal(where, there)
    corner = np.s_[:4, :4]
    assert where[corner].max() == 0
    assert abs(red[corner] - blue[corner]).mean() < 12 < abs(red[corner] - elsewhere[corner]).mean()
    assert abs(red - blue)[where == 1].mean() > 50


@pytest.mark.parametrize("seed", range(12))
def test_no_photo_is_too_dark_to_see(seed):
    image, _ = photograph(_ball_model((0.05, 0.05, 0.05)), Draws(f"dark{seed}"), 64, 1.0)
    assert np.asarray(image).mean() / 255 > 0.15


@pytest.mark.parametrize("seed", range(6))
def test_a_picture_of_the_night_is_lifted(seed):
    night = np.full((48, 48, 3), 0.001, np.float32)
    assert np.asarray(develop(night, Draws(f"night{seed}"), 1.0)).mean() / 255 > 0.15


def test_light_falls_from_where_it_comes():
    draws = Draws("light")
    world = arrange(_ball_model(), draws, 0.0)
    camera = aim(world, draws, 96, 0.0)
    light = Light(
        np.array([1, 0.2, 0.3], np.float32) / np.float32(1.063),
        np.ones(3, np.float32),
        np.full(3, 0.3, np.float32),
        1.0,
    )
    picture, _ = shade_world(
        world, camera, Lighting(world, light, 96), Backdrop(camera, draws).floor_color, draws, 2
    )
    columns = np.flatnonzero(picture[..., 3].max(axis=0) > 0.5)
    middle = (columns[0] + columns[-1]) // 2
    bright = [part[part[..., 3] > 0.9][:, :3].mean() for part in (picture[:, :middle], picture[:, middle:])]
    assert bright[1] > 1.2 * bright[0]


@pytest.mark.parametrize("kind", sorted(set(PRINT.split())) + ["wood", "fabric", "leather", "brushed"])
def test_patterns_are_colors(kind):
    pattern = tile(Draws("1"), "pattern", kind, np.array([0.8, 0.2, 0.2]), np.array([0.1, 0.1, 0.9]))
    assert pattern.shape == (128, 128, 3)
    assert pattern.min() >= 0
    assert pattern.std() > 0.005


def test_unknown_patterns_are_refused_and_motifs_are_rgba():
    with pytest.raises(ValueError, match="unknown pattern 'tartan'"):
        tile(Draws("1"), "pattern", "tartan", np.zeros(3))
    motif = decal(Draws("1"), "motif", np.ones(3))
    assert motif.shape == (192, 192, 4)
    assert 0 < motif[..., 3].mean() <= 1


@pytest.mark.parametrize("height", [0.1, 0.3, 1.0])
def test_a_slope_in_the_light_does_not_shade_itself(height):
    """A box under light from the side, at angles where its faces slant: the lit faces hold no shadow."""
    model = Model()
    model.add(plain(np.full(3, 0.5)), rounded_box((2, 2, 2), 0.05))
    world = arrange(model.pack(), Draws("slope"), 0.0)
    direction = np.array([0.3, height, 1.0])
    direction /= np.linalg.norm(direction)
    light = Light(direction.astype(np.float32), np.ones(3, np.float32), np.full(3, 0.3, np.float32), 5.0)
    lighting = Lighting(world, light, 96)
    rng = np.random.default_rng(0)
    corners = world.faces[rng.integers(0, len(world.faces), 4000)]
    weights = rng.dirichlet((1, 1, 1), 4000)[..., None]
    points, normals = (
        (values[corners] * weights).sum(axis=1).T for values in (world.vertices, world.normals)
    )
    lit = direction @ normals > 0.25
    points, normals = points[:, lit].astype(np.float32), normals[:, lit].astype(np.float32)
    x = np.arange(lit.sum())
    assert lighting.shadow_on(points, normals, x, x).mean() < 0.02
