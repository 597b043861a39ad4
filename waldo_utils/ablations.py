"""What image transforms do to retrieval, by the stage that sees them."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from waldo_utils import metrics, retrieval
from waldo_utils.features import extract_features
from waldo_utils.models import ImageModel, RerankingTransformer
from waldo_utils.reranking import rerank_scores

STAGES = ("shortlist", "reranker", "both")


def transform_grid(
    global_model: ImageModel,
    image_model: ImageModel,
    reranker: RerankingTransformer,
    photos: Sequence[Tensor],
    labels: np.ndarray,
    plain: Callable[..., Tensor],
    variants: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor] | None]],
    shortlist: int,
    depth: int,
) -> pd.DataFrame:
    """Evaluate CO + RRT on transformed test photos, for each stage that may see the transform.

    "shortlist": the global features are those of transformed photos, the reranker reads untransformed ones;
    "reranker": the other way round; "both": both. Queries and gallery are transformed alike.

    Args:
        global_model: gives the global features.
        image_model, reranker: give the local features and the scores.
        photos: the N test photos.
        labels: (N,) product of each of them.
        plain: the test transform of the row "none".
        variants: name -> photo transform and batch transform (or None).
        shortlist: neighbors kept per query.
        depth: of which so many are reranked.

    Returns:
        One row per variant and stage: `transform`, `stage`, `R@1`, `R@10`, `R@100` (those within the shortlist),
        `CO R@1` (before reranking), `queries`.
    """

    def row(name: str, stage: str, embedding: np.ndarray, local: np.ndarray) -> dict:
        neighbors, _ = retrieval.nearest_neighbors(embedding, shortlist)
        scores = rerank_scores(reranker, local, local, neighbors[:, :depth])
        order = retrieval.reorder(neighbors, scores)
        recall = {
            f"R@{k}": metrics.recall_at_k(order, labels, labels, k) for k in (1, 10, 100) if k <= shortlist
        }
        before = metrics.recall_at_k(neighbors, labels, labels, 1)
        return {"transform": name, "stage": stage, **recall, "CO R@1": before, "queries": len(labels)}

    plain_embedding, _ = extract_features(global_model, photos, plain)
    _, plain_local = extract_features(image_model, photos, plain)
    rows = [row("none", "both", plain_embedding, plain_local)]
    for name, (transform, batch_transform) in variants.items():
        checked = name != "normalization"  # the one variant that leaves [0, 1], on purpose
        global_model.check_range = image_model.check_range = checked
        embedding, _ = extract_features(global_model, photos, transform, batch_transform)
        _, local = extract_features(image_model, photos, transform, batch_transform)
        global_model.check_range = image_model.check_range = True
        rows.append(row(name, "shortlist", embedding, plain_local))
        rows.append(row(name, "reranker", plain_embedding, local))
        rows.append(row(name, "both", embedding, local))
    return pd.DataFrame(rows)
