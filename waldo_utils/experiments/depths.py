"""How deep to rerank, and what the models see at test time: a grid of depths, ways to fit a photo, and mirror
images."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Subset

from waldo_utils.data.transforms import TestTransform
from waldo_utils.evaluation import comparisons, metrics
from waldo_utils.evaluation.comparisons import metric_values
from waldo_utils.models.backbones import IMAGENET_MEAN
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact
from waldo_utils.retrieval.features import extract_all, extract_features
from waldo_utils.retrieval.reranking import rerank_scores

DEPTHS = (1, 5, 10, 15, 30, 50, 100)
QUERIES = 250  # of the grid in small profiles: some 200,000 pairs, half a minute on two cores


class PadTransform:
    """Scaled until the longer side fits, the aspect ratio kept; the rest of the square is of ImageNet's mean
    color.

    The models subtract that color, so the padding is zero to them.

    Args:
        size: side of the square in pixels.
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, photo: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (3, size, size) in [0, 1] of a (3, h, w) uint8 photo, which lies in its middle."""
        height, width = (max(round(side * self.size / max(photo.shape[1:])), 1) for side in photo.shape[1:])
        scaled = torch.nn.functional.interpolate(
            photo[None].float(), (height, width), mode="bilinear", antialias=True, align_corners=False
        )[0]
        square = torch.tensor(IMAGENET_MEAN)[:, None, None].repeat(1, self.size, self.size)
        top, left = (self.size - height) // 2, (self.size - width) // 2
        square[:, top : top + height, left : left + width] = scaled.div(255).clamp(0, 1)
        return square


class MirrorTransform:
    """Another transform's result, mirrored left to right."""

    def __init__(self, transform: Callable[..., Tensor]):
        self.transform = transform

    def __call__(self, photo: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (3, size, size) in [0, 1] of a (3, h, w) uint8 photo."""
        return self.transform(photo, generator).flip(2)


def test_inputs(resize: int, size: int) -> dict[str, Callable[..., Tensor]]:
    """Return the three ways to make a square of `size` pixels of a photo, by name.

    "center crop" is the published one; "direct resize" squeezes the whole photo into the square; "padded"
    keeps its aspect ratio.
    """
    return {
        "center crop": TestTransform(resize, size),
        "direct resize": TestTransform(size, size),
        "padded": PadTransform(size),
    }


test_inputs.__test__ = False  # not a test of pytest's


def widest_and_tallest(photos: Sequence[Tensor]) -> tuple[int, int]:
    """Return the rows of the photo that is widest for its height, and of the one that is tallest for its
    width."""
    aspect = np.array([photo.shape[2] / photo.shape[1] for photo in photos])
    return int(aspect.argmax()), int(aspect.argmin())


def query_rows(labels: np.ndarray, queries: int | None, seed: int = 0) -> np.ndarray:
    """Return the rows of all photos of products drawn at random, just enough of them for so many queries.

    Args:
        labels: (N,) product of each photo.
        queries: how many photos at least, if there are so many; None: all.
        seed: of the draw.
    """
    if queries is None:
        return np.arange(len(labels))
    products, counts = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(products))
    enough = int(np.searchsorted(counts[order].cumsum(), queries)) + 1
    return np.flatnonzero(np.isin(labels, products[order[:enough]]))


def score_inputs(
    global_model: ImageModel,
    image_model: ImageModel,
    reranker: RerankingTransformer,
    photos: Sequence[Tensor],
    queries: np.ndarray,
    inputs: dict[str, Callable[..., Tensor]],
    shortlist: int,
) -> dict[tuple[str, bool], tuple[np.ndarray, np.ndarray]]:
    """Search and rerank the whole shortlist of some queries, for each test input, without and with a
    test-time flip.

    Queries and gallery, shortlist and reranker see the same input. With the flip, a global feature is the
    mean of those of a photo and of its mirror image, scaled to length 1, for queries and gallery alike; the
    reranker's score is the mean of those of the query and of the mirrored query against the gallery photo as
    it is.

    Args:
        global_model: gives the global features.
        image_model, reranker: give the local features and the scores.
        photos: N photos, the gallery; a query leaves itself out.
        queries: (Q,) rows of `photos`.
        inputs: name -> photo to (3, size, size) in [0, 1].
        shortlist: neighbors K per query, all of them scored.

    Returns:
        (input, flip) -> neighbors (Q, K), rows of `photos`, and scores (Q, K).
    """
    asked = Subset(photos, queries.tolist())
    found = {}
    for name, transform in inputs.items():
        (embedding, _), (_, local) = extract_all([global_model, image_model], photos, transform)
        mirrored, _ = extract_features(global_model, photos, MirrorTransform(transform))
        _, mirrored_local = extract_features(image_model, asked, MirrorTransform(transform))
        plain = exact.nearest_neighbors(embedding, shortlist)[0][queries]
        found[name, False] = plain, rerank_scores(reranker, local[queries], local, plain)
        both = exact.nearest_neighbors(mean_direction(embedding, mirrored), shortlist)[0][queries]
        scores = [rerank_scores(reranker, of, local, both) for of in (local[queries], mirrored_local)]
        found[name, True] = both, np.mean(scores, axis=0)
    return found


def mean_direction(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the mean of two arrays of features (N, D), each row scaled to length 1."""
    mean = (first + second) / 2
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def depth_hits(
    neighbors: np.ndarray,
    scores: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    depths: tuple[int, ...],
) -> dict[int, np.ndarray]:
    """Return depth -> (Q, K) hits after reordering the first `depth` neighbors by their scores.

    One scoring of the whole shortlist serves every depth: a score depends on its pair alone.

    Args:
        neighbors: (Q, K) rows of the gallery.
        scores: (Q, d) scores of the first d neighbors.
        query_labels: (Q,) product of each query.
        gallery_labels: (N,) product of each gallery photo.
        depths: each at most d.

    Raises:
        ValueError: a depth is beyond the scores.
    """
    if max(depths) > scores.shape[1]:
        raise ValueError(f"depth {max(depths)} needs as many scores, got {scores.shape[1]}: score more pairs")
    return {
        depth: metrics.hits(exact.reorder(neighbors, scores[:, :depth]), query_labels, gallery_labels)
        for depth in depths
    }


def cell(name: str, flip: bool, depth: int) -> str:
    """Return the name of a cell of the grid."""
    return f"{name}{' + flip' if flip else ''}, depth {depth}"


def grid_hits(
    found: dict[tuple[str, bool], tuple[np.ndarray, np.ndarray]],
    queries: np.ndarray,
    labels: np.ndarray,
) -> dict[tuple[str, bool, int], np.ndarray]:
    """Return (input, flip, depth) -> (Q, K) hits, for each of `DEPTHS` within the shortlist.

    Args:
        found: as of `score_inputs`.
        queries: (Q,) rows of `labels`.
        labels: (N,) product of each photo.
    """
    hits = {}
    for (name, flip), (neighbors, scores) in found.items():
        depths = tuple(depth for depth in DEPTHS if depth <= scores.shape[1])
        for depth, found_hits in depth_hits(neighbors, scores, labels[queries], labels, depths).items():
            hits[name, flip, depth] = found_hits
    return hits


def grid_table(
    hits: dict[tuple[str, bool, int], np.ndarray], products: np.ndarray, relevant: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Tabulate recall@1 and recall@10 of each cell of the grid, with 95 % intervals over products.

    Args:
        hits: as of `grid_hits`.
        products: (Q,) product of each query.
        relevant: (Q,) photos of its product that the gallery holds; none may be 0.
        resamples: of the bootstrap; all cells share its draws.

    Returns:
        One row per cell: `input`, `flip`, `depth`, `R@1`, `R@10` (where the shortlist has ten), each with
        `... low` and `... high`; `queries`, `products`.
    """
    names = [name for name in ("R@1", "R@10") if int(name[2:]) <= next(iter(hits.values())).shape[1]]
    values = np.stack(
        [metric_values([run], relevant, name) for run in hits.values() for name in names], axis=1
    )
    low, high = metrics.bootstrap_interval(values, products, resamples)
    table = pd.DataFrame(list(hits), columns=["input", "flip", "depth"])
    for i, name in enumerate(names):
        own = slice(i, None, len(names))
        columns = {name: values.mean(axis=0)[own], f"{name} low": low[own], f"{name} high": high[own]}
        table = table.assign(**columns)
    return table.assign(queries=len(products), products=len(np.unique(products)))


def published_pairs(hits: dict[tuple[str, bool, int], np.ndarray]) -> list[tuple[str, str]]:
    """Return which cells to compare with the published one, center crop at the greatest depth, as names of
    cells.

    First the protocol of the authors' own training log, direct resize at depth 15; then one axis at a time.

    Args:
        hits: as of `grid_hits`, of the inputs of `test_inputs`.
    """
    deepest = max(depth for _, _, depth in hits)
    shallow = max(depth for _, _, depth in hits if depth <= 15)
    others = [
        ("direct resize", False, shallow),
        ("direct resize", False, deepest),
        ("padded", False, deepest),
        ("center crop", True, deepest),
        ("center crop", False, shallow),
    ]
    published = ("center crop", False, deepest)
    return [(cell(*other), cell(*published)) for other in others if other != published]


# ---------------------------------------------------------------- what the reported figures can mean


def end_differences(orders: dict[str, np.ndarray], labels: np.ndarray, resamples: int) -> pd.DataFrame:
    """Compare recall at the shortlist's length, where an order decides nothing, of each method with the
    first.

    Args:
        orders: method -> (N, K) neighbors of each photo, rows of `labels`.
        labels: (N,) product of each photo.
        resamples: of the bootstrap.

    Returns:
        As of `comparisons.paired_differences`.
    """
    relevant = metrics.relevant_counts(labels)
    some, (first, *others) = relevant > 0, orders
    name = f"R@{orders[first].shape[1]}"
    values = {
        method: metric_values([metrics.hits(order, labels, labels)[some]], relevant[some], name)
        for method, order in orders.items()
    }
    pairs = [(method, first) for method in others]
    return comparisons.paired_differences(values, pairs, labels[some], resamples, name)


def category_differences(
    orders: dict[str, list[np.ndarray]], labels: np.ndarray, categories: np.ndarray, resamples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare how often the first neighbor is of the query's category with how often it is of its product.

    Args:
        orders: method -> (N, K) neighbors of each photo, one array per seed.
        labels: (N,) product of each photo.
        categories: (N,) category of each photo.
        resamples: of the bootstrap.

    Returns:
        One row per method: `method`, `lowest category` (its category accuracy), `category accuracy` and `R@1`
        over all queries; and the paired differences, as of `comparisons.paired_differences`.
    """
    some = metrics.relevant_counts(labels) > 0
    values, rows = {}, []
    for method, runs in orders.items():
        by_category, by_product = (
            comparisons.nearest_is_of(runs, names)[some] for names in (categories, labels)
        )
        values |= {f"{method}, by category": by_category, f"{method}, by product": by_product}
        lowest = pd.Series(by_category).groupby(categories[some]).mean().min()
        overall = (by_category.mean(), by_product.mean())
        rows.append((method, lowest, *overall))
    pairs = [(f"{method}, by category", f"{method}, by product") for method in orders]
    differences = comparisons.paired_differences(
        values, pairs, labels[some], resamples, "right first neighbors"
    )
    return pd.DataFrame(rows, columns=["method", "lowest category", "category accuracy", "R@1"]), differences


def cell_differences(
    hits: dict[tuple[str, bool, int], np.ndarray], products: np.ndarray, relevant: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Compare recall@1 of cells of the grid with the published one, as `published_pairs` lists them.

    Args:
        hits, products, relevant, resamples: as for `grid_table`.
    """
    values = {cell(*key): metric_values([run], relevant, "R@1") for key, run in hits.items()}
    return comparisons.paired_differences(values, published_pairs(hits), products, resamples, "R@1")
