"""Score shortlists by local features: with the reranking transformer, or by plain matching."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils.devices import autocast, device
from waldo_utils.metrics import recall_at_k
from waldo_utils.models import RerankingTransformer
from waldo_utils.retrieval import reorder

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


def rerank_scores(
    reranker: RerankingTransformer, query_local: np.ndarray, gallery_local: np.ndarray, neighbors: np.ndarray
) -> np.ndarray:
    """Score every query against each of its neighbors with the transformer; `retrieval.reorder` sorts by it.

    Args, Returns, Raises: as for `pair_scores`; the transformer is put into eval mode.
    """
    reranker.eval().to(device())
    return pair_scores(reranker, query_local, gallery_local, neighbors)


def local_matching(query: Tensor, gallery: Tensor) -> Tensor:
    """Score pairs of local feature maps (B, D, h, w) without learning anything.

    Returns:
        (B,) mean over patches of the best cosine in the other photo, both ways.
    """
    query = torch.nn.functional.normalize(query.flatten(2), dim=1)  # (B, D, h*w)
    gallery = torch.nn.functional.normalize(gallery.flatten(2), dim=1)
    cosine = query.transpose(1, 2) @ gallery  # (B, h*w, h*w)
    return (cosine.amax(dim=2).mean(dim=1) + cosine.amax(dim=1).mean(dim=1)) / 2


@torch.no_grad()
def pair_scores(
    score: Callable[[Tensor, Tensor], Tensor],
    query_local: np.ndarray,
    gallery_local: np.ndarray,
    neighbors: np.ndarray,
    batch: int = 8,
) -> np.ndarray:
    """Score every query against each of its neighbors.

    Args:
        score: two (B, D, h, w) batches of local features to (B,) scores.
        query_local: (Q, D, h, w) local features of the queries.
        gallery_local: (N, D, h, w) local features of the gallery.
        neighbors: (Q, K) rows of the gallery.
        batch: queries per pass; each makes K pairs.

    Returns:
        (Q, K) float32 scores.

    Raises:
        ValueError: queries and neighbor lists differ in number, or a score is not finite.
    """
    if len(query_local) != len(neighbors):
        raise ValueError(
            f"{len(query_local)} queries but {len(neighbors)} neighbor lists: pass one list per query"
        )
    scores = np.empty(neighbors.shape, dtype=np.float32)
    for start in tqdm(range(0, len(neighbors), batch), desc="score pairs", unit="batch"):
        shortlist = neighbors[start : start + batch]  # (b, K)
        query = torch.from_numpy(np.array(query_local[start : start + batch])).to(device())
        gallery = torch.from_numpy(gallery_local[shortlist.ravel()]).to(device())  # (b*K, D, h, w)
        query = query.repeat_interleave(shortlist.shape[1], dim=0)  # (b*K, D, h, w)
        with autocast():
            result = score(query.float(), gallery.float())
        scores[start : start + batch] = result.float().cpu().numpy().reshape(shortlist.shape)
    if not np.isfinite(scores).all():
        raise ValueError("some pair scores are not finite: the weights or the local features are broken")
    return scores


def choose_weight(
    neighbors: np.ndarray,
    similarities: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    weights: tuple[float, ...] = WEIGHTS,
) -> float:
    """Return the weight w that makes recall@1 of `scores + w * similarities` best; the smallest at a tie.

    Args:
        neighbors: (N, K) shortlists of validation photos, rows of `labels`.
        similarities: (N, K) global similarity of each neighbor.
        scores: (N, d) reranker scores of the first d neighbors.
        labels: (N,) product of each validation photo.
        weights: the weights to try.
    """
    depth = scores.shape[1]
    recall = [
        recall_at_k(reorder(neighbors, scores + weight * similarities[:, :depth]), labels, labels, 1)
        for weight in weights
    ]
    return weights[int(np.argmax(recall))]
