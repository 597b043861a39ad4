"""Recall of models as the trainings ask for it after each epoch: on held-out products, and on test for
comparison."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from waldo_utils import ranks
from waldo_utils.evaluation import metrics
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact
from waldo_utils.retrieval.features import extract_features
from waldo_utils.retrieval.reranking import rerank_scores


def global_recall(
    model: ImageModel,
    photos: Sequence[Tensor],
    labels: np.ndarray,
    transform: Callable[..., Tensor],
    sets: np.ndarray | None = None,
) -> float:
    """Return recall@1 of the global features: each photo searched among the others of its set.

    Args:
        model: the image model.
        photos: N photos, each a (3, h, w) uint8 tensor.
        labels: (N,) product of each of them.
        transform: photo to (3, size, size) in [0, 1].
        sets: (N,) the set that each comes from; None: all from one.
    """
    embedding, _ = extract_features(model, photos, transform)
    neighbors, _ = exact.nearest_within(embedding, 1, sets)
    return ranks.agreed(metrics.recall_at_k(neighbors, labels, labels, 1))


def reranked_recall(
    model: ImageModel,
    reranker: RerankingTransformer,
    photos: Sequence[Tensor],
    labels: np.ndarray,
    transform: Callable[..., Tensor],
    neighbors: np.ndarray,
) -> float:
    """Return recall@1 after the reranker has reordered the given shortlists.

    Args:
        model, photos, labels, transform: as for `global_recall`; the model gives the local features.
        reranker: the transformer.
        neighbors: (N, K) shortlist of each photo, as rows of `photos`; all K are reranked.
    """
    _, local = extract_features(model, photos, transform)
    scores = rerank_scores(reranker, local, local, neighbors)
    return ranks.agreed(metrics.recall_at_k(exact.reorder(neighbors, scores), labels, labels, 1))


def first_hits(embedding: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return whether the first neighbor of each photo shows its product, under two ways to leave out the
    photo itself.

    Args:
        embedding: (N, D) global features, unit length.
        labels: (N,) product of each photo.

    Returns:
        (2, N) bool: left out by its row number; by position, as published.
    """
    neighbors, _ = exact.nearest_neighbors(embedding, 2, gallery=embedding)
    ways = (metrics.self_by_row(neighbors), metrics.self_by_position(neighbors))
    return np.stack([metrics.hits(way, labels, labels)[:, 0] for way in ways])


def watch_test(
    epoch: int,
    model: ImageModel,
    photos: Sequence[Tensor],
    labels: np.ndarray,
    transform: Callable[..., Tensor],
    keep: Callable[[int, np.ndarray], object],
) -> dict[str, float]:
    """Look at the test photos after an epoch, for the comparison with the published choice; it chooses
    nothing here.

    Args:
        epoch: that has just ended.
        model, photos, labels, transform: as for `global_recall`, of the test photos.
        keep: called with the epoch and its `first_hits`.

    Returns:
        A column of the training log: `test R@1`.
    """
    embedding, _ = extract_features(model, photos, transform)
    hits = first_hits(embedding, labels)
    keep(epoch, hits)
    return {"test R@1": float(hits[0].mean())}
