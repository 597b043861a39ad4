"""The grid of depths, test inputs and flips, on shortlists and photos that can be checked with a finger."""

import numpy as np
import pandas as pd
import pytest
import torch

from waldo_utils.experiments import depths
from waldo_utils.figures import depth_curves
from waldo_utils.models.backbones import IMAGENET_MEAN
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact, features, reranking

# One query of product 1 and five gallery photos of products 0, 0, 1, 0, 1; the scores prefer the last.
NEIGHBORS = np.array([[0, 1, 2, 3, 4]])
GALLERY, QUERY = np.array([0, 0, 1, 0, 1]), np.array([1])
SCORES = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])


def test_each_depth_reorders_so_many():
    hits = depths.depth_hits(NEIGHBORS, SCORES, QUERY, GALLERY, (1, 3, 5))
    assert hits[1].tolist() == [[False, False, True, False, True]]  # as it was
    assert hits[3].tolist() == [[True, False, False, False, True]]
    assert hits[5].tolist() == [[True, False, True, False, False]]
    with pytest.raises(ValueError, match="depth 10 needs as many scores, got 5"):
        depths.depth_hits(NEIGHBORS, SCORES, QUERY, GALLERY, (5, 10))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"), [((20, 40), (2, 6), (0, 8)), ((40, 20), (0, 8), (2, 6))]
)
def test_padding_keeps_the_aspect_and_is_of_the_mean_color(shape, rows, columns):
    square = depths.PadTransform(8)(torch.full((3, *shape), 255, dtype=torch.uint8))
    assert square.shape == (3, 8, 8)
    photo = torch.zeros(8, 8, dtype=torch.bool)
    photo[slice(*rows), slice(*columns)] = True
    assert (square[:, photo] == 1).all()
    assert torch.equal(square[:, ~photo], torch.tensor(IMAGENET_MEAN)[:, None].expand(3, int((~photo).sum())))


def test_a_very_flat_photo_keeps_a_pixel():
    assert depths.PadTransform(8)(torch.zeros(3, 2, 300, dtype=torch.uint8)).shape == (3, 8, 8)


def test_the_mirror_is_left_to_right():
    photo = torch.zeros(3, 8, 8, dtype=torch.uint8)
    photo[:, 0, 0] = 255
    mirrored = depths.MirrorTransform(depths.test_inputs(8, 8)["direct resize"])(photo)
    assert mirrored[:, 0, 7].tolist() == [1, 1, 1]
    assert mirrored.sum() == 3


def test_queries_are_whole_products_until_there_are_enough():
    labels = np.repeat([5, 6, 7, 8], [3, 3, 3, 3])
    rows = depths.query_rows(labels, 4)
    assert len(rows) == 6
    assert len(np.unique(labels[rows])) == 2
    assert len(depths.query_rows(labels, 3)) == 3
    assert (
        depths.query_rows(labels, None).tolist() == depths.query_rows(labels, 99).tolist() == list(range(12))
    )


def test_mean_direction_by_hand():
    mean = depths.mean_direction(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert mean[0] == pytest.approx([np.sqrt(0.5)] * 2)


@pytest.fixture(scope="module")
def scored():
    torch.manual_seed(0)
    co, finetuned = (ImageModel("efficientnet_lite0").eval() for _ in range(2))
    reranker = RerankingTransformer(heads=2, layers=1, feedforward=32).eval()
    photos = list(
        torch.randint(256, (8, 3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    )
    inputs = depths.test_inputs(40, 32)
    queries = np.array([2, 5, 6])
    found = depths.score_inputs(co, finetuned, reranker, photos, queries, inputs, shortlist=5)
    return co, finetuned, reranker, photos, inputs, queries, found


def test_scored_inputs_are_those_of_a_plain_search_over_all(scored):
    co, finetuned, reranker, photos, inputs, queries, found = scored
    assert list(found) == [(name, flip) for name in inputs for flip in (False, True)]
    transform = inputs["direct resize"]
    embedding, _ = features.extract_features(co, photos, transform)
    _, local = features.extract_features(finetuned, photos, transform)
    neighbors, _ = exact.nearest_neighbors(embedding, 5)
    scores = reranking.rerank_scores(reranker, local, local, neighbors)
    np.testing.assert_array_equal(found["direct resize", False][0], neighbors[queries])
    np.testing.assert_allclose(found["direct resize", False][1], scores[queries], atol=1e-4)


def test_the_flip_does_not_care_whether_the_query_is_mirrored(scored):
    co, finetuned, reranker, photos, inputs, queries, found = scored
    photos = [photo.flip(2) if row == 5 else photo for row, photo in enumerate(photos)]
    again = depths.score_inputs(
        co, finetuned, reranker, photos, np.array([5]), {"padded": inputs["padded"]}, shortlist=5
    )
    np.testing.assert_array_equal(again["padded", True][0][0], found["padded", True][0][1])
    np.testing.assert_allclose(again["padded", True][1][0], found["padded", True][1][1], atol=2e-3)
    assert abs(again["padded", False][1][0] - found["padded", False][1][1]).max() > 2e-3


def test_the_grid_has_a_row_per_cell_with_intervals_and_is_drawn(scored):
    queries, found = scored[5:]
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    hits = depths.grid_hits(found, queries, labels)
    assert list(hits)[:3] == [("center crop", False, 1), ("center crop", False, 5), ("center crop", True, 1)]
    table = depths.grid_table(hits, labels[queries], np.full(3, 3), resamples=50)
    assert len(table) == 12
    assert "R@10" not in table
    assert (table["R@1 low"] <= table["R@1"]).all()
    assert (table["R@1"] <= table["R@1 high"]).all()
    assert table["R@1"].tolist() == [run[:, 0].mean() for run in hits.values()]
    axes = depth_curves.depth_lines(table).axes
    assert len(axes) == 1
    assert [line.get_label() for line in axes[0].lines][:2] == ["center crop", "center crop + flip"]
    # the deepest is 5 here, no deeper than the log's 15: the pair that changes the depth alone is left out
    assert [method for method, _ in depths.published_pairs(hits)] == [
        "direct resize, depth 5", "direct resize, depth 5", "padded, depth 5", "center crop + flip, depth 5"
    ]  # fmt: skip


def test_published_pairs_change_one_axis_after_the_first():
    hits = dict.fromkeys(
        (name, flip, depth)
        for name in ("center crop", "direct resize", "padded")
        for flip in (False, True)
        for depth in (1, 15, 100)
    )
    pairs = depths.published_pairs(hits)
    assert {baseline for _, baseline in pairs} == {"center crop, depth 100"}
    assert [method for method, _ in pairs] == [
        "direct resize, depth 15", "direct resize, depth 100", "padded, depth 100",
        "center crop + flip, depth 100", "center crop, depth 15",
    ]  # fmt: skip


def test_fusion_lines_mark_each_chosen_share():
    rows = [
        {"stage": "frozen", "split": split, "seed": seed, "share": share, "R@1": share / 2}
        for split in ("validation", "test") for seed in (0, 1) for share in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    (ax,) = depth_curves.fusion_lines(pd.DataFrame(rows), {"frozen": [0.5, 1.0]}).axes
    assert [line.get_label() for line in ax.lines] == [
        "validation products", "test: chooses nothing", "chosen, per seed", "_"
    ]  # fmt: skip
    assert ax.lines[0].get_ydata().tolist() == [0, 25, 50]


def test_the_widest_and_the_tallest_photo():
    photos = [torch.zeros(3, *shape) for shape in ((4, 4), (2, 4), (8, 4))]
    assert depths.widest_and_tallest(photos) == (1, 2)


def test_recall_at_the_end_moves_only_with_the_shortlist():
    labels = np.array([0, 0, 1, 1])
    first = np.array([[2, 1], [2, 0], [0, 3], [0, 2]])
    others = np.array([[2, 3], [2, 3], [0, 3], [0, 2]])  # two shortlists lack the product
    table = depths.end_differences({"CO": first, "turned": first[:, ::-1], "own": others}, labels, 100)
    assert table.metric.tolist() == ["R@2"] * 2
    assert table.method.tolist() == ["turned", "own"]
    assert table.difference.tolist() == [0, -0.5]


def test_category_accuracy_is_never_below_recall_and_its_lowest_category_is_named():
    labels, categories = np.array([0, 0, 1, 1]), np.array([*"aabb"])
    order = np.array([[1], [0], [3], [0]])  # the last query is of another category
    accuracy, table = depths.category_differences({"CO": [order]}, labels, categories, 100)
    assert accuracy.iloc[0].tolist() == ["CO", 0.5, 0.75, 0.75]
    assert table.difference.tolist() == [0]
    _, table = depths.category_differences({"CO": [order]}, labels, np.array([*"aaaa"]), 100)
    assert table.difference.tolist() == [0.25]
    assert (table.method[0], table.baseline[0]) == ("CO, by category", "CO, by product")


def test_cells_are_compared_with_the_published_one():
    hits = {
        ("center crop", False, 5): np.array([[True], [False]]),
        ("center crop", False, 100): np.array([[True], [True]]),
        **{("direct resize", False, depth): np.array([[True], [True]]) for depth in (5, 100)},
        ("padded", False, 100): np.array([[False], [False]]),
        ("center crop", True, 100): np.array([[True], [True]]),
    }
    table = depths.cell_differences(hits, np.array([0, 1]), np.array([1, 1]), 100).set_index("method")
    assert table.loc["padded, depth 100", "difference"] == -1
    assert table.loc["center crop, depth 5", "difference"] == -0.5
    assert (table.baseline == "center crop, depth 100").all()
