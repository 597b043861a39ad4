"""Score shortlists by local features: with the reranking transformer, or by plain matching."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils import ranks
from waldo_utils.disk.resumable import ResumableArrays, fingerprint
from waldo_utils.evaluation.metrics import recall_at_k
from waldo_utils.models.devices import autocast, device
from waldo_utils.models.matching import length_weight, local_matching
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.models.scorer import GALLERY, QUERY, Scorer
from waldo_utils.retrieval.exact import reorder

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
CODES = 512_000_000  # bytes of photos' codes held at once
KEPT = 4  # scorers that are prepared, for calls that take turns
TINY = 1e-3  # between the worst score in float32 and the best of the others
_scorers: dict[str, Scorer] = {}


@torch.inference_mode()
def rerank_scores(
    reranker: RerankingTransformer,
    query_local: np.ndarray,
    gallery_local: np.ndarray,
    neighbors: np.ndarray,
    precision: torch.dtype = torch.float32,
    again: int = 0,
    partial: Path | None = None,
) -> np.ndarray:
    """Score every query against each of its neighbors with the transformer; `retrieval.reorder` sorts by it.

    Several processes share the queries. Beside the features, which may be mapped from files, it holds at
    most `CODES` bytes of photos' codes and the activations of `scorer.PAIRS` pairs, however many queries
    there are.

    Args:
        reranker: the transformer, read in eval mode.
        query_local: (Q, D, h, w) local features of the queries: an array, or a `storage.LocalStore`.
        gallery_local: (N, D, h, w) local features of the gallery, likewise.
        neighbors: (Q, K) rows of the gallery.
        precision: float32 gives the scores of the transformer's `forward`; bfloat16 is up to twice as fast,
            but its third digit decides between look-alikes, and some queries get another first neighbor.
        again: so many of each query's best are scored again in float32, which mends that; the scores of the
            others are lowered alike until they lie behind. So a neighbor's place can only differ from that of
            float32 where
            bfloat16 misses it among these best: twice as many as are looked at leave nothing to be seen.
        partial: a folder that keeps what is done until all is, so that a killed scoring goes on there;
            None: nothing is kept.

    Returns:
        (Q, K) float32 scores.

    Raises:
        ValueError: shapes do not fit together, neighbors are not rows of the gallery, `again` is more than
            they are, or features or weights are not finite.
    """
    _check_pairs(query_local, gallery_local, neighbors)
    if query_local.shape[1] != reranker.local:
        raise ValueError(
            f"the reranker reads {reranker.local} channels, the local features have "
            f"{query_local.shape[1]}: use the image model it was trained with"
        )
    # Refused before the first of what may be hours of scoring.
    depth = neighbors.shape[1]
    if not 0 <= again <= depth:
        raise ValueError(f"{again} of {depth} neighbors cannot be scored again: choose from 0 to {depth}")
    scorer, exact = _prepared(reranker, precision), _prepared(reranker, torch.float32)
    if not len(neighbors):
        return np.empty(neighbors.shape, dtype=np.float32)
    content = partial and fingerprint(reranker, query_local, gallery_local, neighbors, precision, again)
    own = ranks.share(len(neighbors))
    kept = ResumableArrays(partial if ranks.WORLD == 1 else None, own.stop - own.start, content)
    # A block's codes fit in memory whatever the gallery's size: those of its queries and of their neighbors.
    places = query_local.shape[2] * query_local.shape[3]  # of a map
    query_bytes = max(scorer.photo_bytes(places) * (depth + 1), exact.photo_bytes(places) * (again + 1))
    block = max(1, CODES // query_bytes)  # queries
    starts = range(own.start + kept.done, own.stop, block)
    for start in tqdm(starts, desc="rerank", unit="block", delay=10, disable=not ranks.first()):
        shortlist = neighbors[start : min(start + block, own.stop)]  # (b, K)
        query = np.arange(start, start + len(shortlist))
        scores = _shortlist_scores(scorer, query_local, gallery_local, query, shortlist)  # (b, K)
        # The best again in full precision; the rough rest is lowered as a whole until it lies behind them.
        if again:
            order = np.argsort(-scores, axis=1, kind="stable")
            best, others = order[:, :again], order[:, again:]
            chosen = np.take_along_axis(shortlist, best, axis=1)  # (b, again)
            finer = _shortlist_scores(exact, query_local, gallery_local, query, chosen)
            rough = np.take_along_axis(scores, others, axis=1)  # (b, K - again), falling
            ahead = rough[:, :1] - finer.min(axis=1, keepdims=True) + TINY  # (b, 1), or (b, 0)
            np.put_along_axis(scores, best, finer, axis=1)
            np.put_along_axis(scores, others, rough - np.maximum(ahead, 0), axis=1)
        kept.append(scores)
    return _finite(*ranks.gather_arrays(kept.finish()))


def _prepared(reranker: RerankingTransformer, precision: torch.dtype) -> Scorer:
    """Return the scorer of a reranker with its weights as they are now; those of the last calls are kept."""
    heads = reranker.encoder.layers[0].self_attn.num_heads  # the weights do not tell
    content = fingerprint(reranker, heads, precision, device())
    if content not in _scorers:
        for oldest in [*_scorers][: max(len(_scorers) - KEPT + 1, 0)]:
            del _scorers[oldest]
        _scorers[content] = Scorer(reranker, precision)
    return _scorers[content]


def _shortlist_scores(
    scorer: Scorer,
    query_local: np.ndarray,
    gallery_local: np.ndarray,
    query: np.ndarray,
    shortlist: np.ndarray,
) -> np.ndarray:
    """Return (b, K) scores of the queries `query` (b,) against their `shortlist` (b, K), rows of the
    gallery."""
    rows, positions = np.unique(shortlist, return_inverse=True)
    query_codes = scorer.encode(query_local, query, QUERY)
    gallery_codes = scorer.encode(gallery_local, rows, GALLERY)
    owners = np.arange(len(query)).repeat(shortlist.shape[1])
    scores = scorer.score(query_codes, gallery_codes, np.stack([owners, positions.ravel()]))  # (b * K,)
    return scores.view(shortlist.shape).cpu().numpy()


def match_maps(
    query: Tensor,
    gallery: Tensor,
    weight: Callable[[Tensor], Tensor] = length_weight,
    both_ways: bool = False,
) -> Tensor:
    """Return the (B,) `matching.local_matching` of pairs of local feature maps, each (B, D, h, w), by a
    `weight` of the query's patches; with `both_ways` its mean with the photos exchanged."""
    query, gallery = query.flatten(2).transpose(1, 2), gallery.flatten(2).transpose(1, 2)  # (B, h*w, D)
    score = local_matching(query, gallery, weight)
    return (score + local_matching(gallery, query, weight)) / 2 if both_ways else score


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
    _check_pairs(query_local, gallery_local, neighbors)
    scores = np.empty(neighbors.shape, dtype=np.float32)
    for start in tqdm(range(0, len(neighbors), batch), desc="score pairs", unit="batch"):
        shortlist = neighbors[start : start + batch]  # (b, K)
        query = torch.from_numpy(np.array(query_local[start : start + batch])).to(device())
        gallery = torch.from_numpy(gallery_local[shortlist.ravel()]).to(device())  # (b*K, D, h, w)
        query = query.repeat_interleave(shortlist.shape[1], dim=0)  # (b*K, D, h, w)
        with autocast():
            result = score(query.float(), gallery.float())
        scores[start : start + batch] = result.float().cpu().numpy().reshape(shortlist.shape)
    return _finite(scores)


def _check_pairs(query_local: np.ndarray, gallery_local: np.ndarray, neighbors: np.ndarray) -> None:
    if len(query_local) != len(neighbors):
        raise ValueError(
            f"{len(query_local)} queries but {len(neighbors)} neighbor lists: pass one list per query"
        )
    if query_local.shape[1:] != gallery_local.shape[1:]:
        raise ValueError(
            f"local features are {query_local.shape[1:]} per query but {gallery_local.shape[1:]} per gallery "
            "photo: use one model and one photo size for both"
        )
    if neighbors.size and not (0 <= neighbors.min() and neighbors.max() < len(gallery_local)):
        raise ValueError(
            f"neighbors are rows {neighbors.min()} to {neighbors.max()} of a gallery of "
            f"{len(gallery_local)}: pass the gallery they were searched in"
        )


def _finite(scores: np.ndarray) -> np.ndarray:
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
