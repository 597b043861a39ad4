"""The methods that a study compares, as data: a name, and the order that it gives each query's neighbors.

A method is a function of a study and a seed that returns (N, K) rows of the test photos for each test photo,
best first. It reads what the trainings left; a table's rows are the keys of a dictionary of methods.
"""

import hashlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics
from waldo_utils.retrieval import exact, reranking
from waldo_utils.study import Study

Method = Callable[[Study, int], np.ndarray]


def untrained(study: Study, seed: int, name: str = "untrained") -> np.ndarray:
    """Return the shortlists of the averaged map that nothing has trained, "untrained" or its "principal"
    axes; the same for every seed."""
    return artifacts.load_array(study, f"global/{name}_test_neighbors")


def searched(study: Study, seed: int, kind: str = "") -> np.ndarray:
    """Return the shortlists of CO as the search gave them; with `kind` "mixed_", of its weights mixed with
    their start."""
    return artifacts.load_array(study, f"global/seed{seed}/{kind}test_neighbors")


def matched(study: Study, seed: int, score: Callable = reranking.match_maps) -> np.ndarray:
    """Return the shortlists of CO, reordered by a `score` of two photos' local features that learned
    nothing."""
    local = artifacts.load_array(study, f"global/seed{seed}/test_local")
    return _reordered(study, searched(study, seed), local, score)


def matched_untrained(study: Study, seed: int) -> np.ndarray:
    """Return the shortlists of `untrained`, reordered by local matching of features that nothing has trained
    either."""
    local = artifacts.load_array(study, "global/untrained_test_local")
    return _reordered(study, untrained(study, seed), local, reranking.match_maps)


def _reordered(study: Study, neighbors: np.ndarray, local: np.ndarray, score: Callable) -> np.ndarray:
    scores = reranking.pair_scores(score, local, local, neighbors[:, : study.evaluation.depth])
    return exact.reorder(neighbors, scores)


def reranked(study: Study, seed: int, stage: str) -> np.ndarray:
    """Return the shortlists of CO in the order of the transformer's scores, "frozen" or "finetuned"."""
    return exact.reorder(searched(study, seed), scores(study, seed, stage, "test"))


def reranked_with_global_score(study: Study, seed: int, stage: str) -> np.ndarray:
    """Return `reranked` with the global similarity added to the scores; validation products choose its
    weight."""
    known = (*shortlists(study, seed, "validation"), scores(study, seed, stage, "validation"))
    weight = reranking.choose_weight(*known, labels_of(study, "validation"))
    neighbors, similarities = shortlists(study, seed, "test")
    ours = scores(study, seed, stage, "test")
    return exact.reorder(neighbors, ours + weight * similarities[:, : ours.shape[1]])


METHODS: dict[str, Method] = {
    "ImageNet, nothing trained": untrained,
    "ImageNet, principal axes": partial(untrained, name="principal"),
    "ImageNet + local matching": matched_untrained,
    "CO": searched,
    "CO, mixed with the start": partial(searched, kind="mixed_"),
    "CO + local matching": matched,
    "CO + RRT (frozen)": partial(reranked, stage="frozen"),
    "CO + RRT (frozen) + global score": partial(reranked_with_global_score, stage="frozen"),
    "CO + RRT (finetuned)": partial(reranked, stage="finetuned"),
    "CO + RRT (finetuned) + global score": partial(reranked_with_global_score, stage="finetuned"),
}
SEARCHED = ("ImageNet, nothing trained", "ImageNet, principal axes", "CO", "CO, mixed with the start")
"""The methods that reorder nothing."""

# What is compared with what: each step of the chain with the one before it, and its ends.
PAIRS = (
    ("ImageNet + local matching", "ImageNet, nothing trained"),
    ("CO", "ImageNet, nothing trained"),
    ("CO, mixed with the start", "CO"),
    ("CO + local matching", "CO"),
    ("CO + RRT (frozen)", "CO"),
    ("CO + RRT (frozen)", "CO + local matching"),
    ("CO + RRT (finetuned)", "CO + RRT (frozen)"),
    ("CO + RRT (finetuned)", "CO"),
    ("CO + RRT (finetuned) + global score", "CO"),
)


def shortlists(study: Study, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbors and similarities (N, K) of CO for each photo of a split."""
    neighbors, similarities = (
        artifacts.load_array(study, f"global/seed{seed}/{split}_{kind}")
        for kind in ("neighbors", "similarities")
    )
    return neighbors, similarities


def scores(study: Study, seed: int, stage: str, split: str) -> np.ndarray:
    """Return (N, d) the transformer's scores of the first d neighbors of each photo of a split."""
    return artifacts.load_array(study, f"reranker/seed{seed}/{stage}_{split}_scores")


def labels_of(study: Study, split: str) -> np.ndarray:
    """Return (N,) the product of each photo of a split."""
    manifest = artifacts.load_frame(study, "data/manifest")
    return manifest.label[manifest.split == split].to_numpy()


def every_order(study: Study, methods: dict[str, Method] = METHODS) -> dict[str, list[np.ndarray]]:
    """Return name -> the order that a method gives the neighbors, one (N, K) array per seed."""
    return {name: [method(study, seed) for seed in study.seeds] for name, method in methods.items()}


def every_hit(
    orders: dict[str, list[np.ndarray]], labels: np.ndarray, copies: np.ndarray | None = None
) -> dict[str, list[np.ndarray]]:
    """Return name -> whether neighbor k of query q shows its product, one (N, K) bool array per seed.

    Args:
        orders: as of `every_order`.
        labels: (N,) product of each photo.
        copies: (N,) equal numbers for photos of equal bytes: leave a query's exact duplicates out; None: all
            count.
    """
    if copies is None:
        return {
            name: [metrics.hits(order, labels, labels) for order in runs] for name, runs in orders.items()
        }
    return {
        name: [metrics.hits_without_copies(order, labels, labels, copies) for order in runs]
        for name, runs in orders.items()
    }


def shortlist_recall(orders: dict[str, list[np.ndarray]], labels: np.ndarray) -> pd.DataFrame:
    """Tabulate recall at the shortlist's length, where an order decides nothing: only other shortlists can
    move it.

    Args:
        orders: as of `every_order`.
        labels: (N,) product of each photo.

    Returns:
        One row per method: `method`; `shortlists of`, the first method with the same photos in its
        shortlists, query by query; `R@K`, mean over seeds, K being the shortlists' length.
    """
    rows, owners = [], {}  # hash of the photos in the shortlists -> the first method that has them
    for name, runs in orders.items():
        held = hashlib.sha256(np.sort(runs, axis=2).astype(np.int64).data).digest()
        recall = np.mean([metrics.hits(order, labels, labels).any(axis=1).mean() for order in runs])
        owner = owners.setdefault(held, name)
        rows.append({"method": name, "shortlists of": owner, f"R@{runs[0].shape[1]}": recall})
    return pd.DataFrame(rows)
