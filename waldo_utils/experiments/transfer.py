"""Products of kinds that no model was trained on, in two galleries."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from waldo_utils.data.splits import Split
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics, tables
from waldo_utils.models import trained
from waldo_utils.retrieval import exact, features, reranking
from waldo_utils.study import Study

STAGES = ("frozen", "finetuned")
GALLERIES = {"test among test": "test", "test in train": "train"}  # name -> the split that is searched


def extract(
    study: Study, seed: int, split: dict[str, Split]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Return the global features of CO, and the local ones of the frozen and the finetuned model.

    Args:
        study: whose models see the photos.
        seed: of the models.
        split: photos of the transfer set.

    Returns:
        split -> (N, D), and stage -> split -> (N, D, h, w).
    """
    models = {"CO": trained.global_model(study, seed)}
    models |= {stage: trained.local_model(study, seed, stage) for stage in STAGES}
    look: Callable = partial(
        features.extract_features, transform=TestTransform(study.global_.resize, study.global_.size)
    )

    def both(stage: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        begun = artifacts.partial_path(study, f"transfer/{stage}_{name}")
        return look(models[stage], split[name].photos, partial=begun)

    embedding = {name: both("CO", name)[0] for name in split}
    return embedding, {stage: {name: both(stage, name)[1] for name in split} for stage in STAGES}


def search(
    study: Study,
    seed: int,
    embedding: dict[str, np.ndarray],
    local: dict[str, dict[str, np.ndarray]],
) -> dict[str, dict[str, np.ndarray]]:
    """Search the test photos among each other, and among the train photos of the same products; then rerank.

    Args:
        study, seed: as for `extract`.
        embedding, local: as of `extract`.

    Returns:
        gallery, of `GALLERIES` -> method -> (Q, K) rows of the gallery, best first.
    """
    shortlist = min(study.evaluation.shortlist, len(embedding["test"]) - 1, len(embedding["train"]))
    orders = {}
    for name, part in GALLERIES.items():
        gallery = None if part == "test" else embedding[part]  # None: the query itself is left out
        neighbors, _ = exact.nearest_neighbors(embedding["test"], shortlist, gallery=gallery)
        orders[name] = {"CO": neighbors}
        for stage in STAGES:
            scores = reranking.rerank_scores(
                trained.matcher(study, seed, stage),
                local[stage]["test"],
                local[stage][part],
                neighbors[:, : study.evaluation.depth],
                partial=artifacts.partial_path(study, f"transfer/{stage}_{part}_scores"),
            )
            orders[name][f"CO + RRT ({stage})"] = exact.reorder(neighbors, scores)
    return orders


def table(
    orders: dict[str, dict[str, np.ndarray]], labels: dict[str, np.ndarray], resamples: int
) -> pd.DataFrame:
    """Tabulate the metrics of every gallery and method, as `tables.hit_table` does, with a column `gallery`.

    Args:
        orders: as of `search`.
        labels: split -> (N,) product of each photo.
        resamples: of the bootstrap over products.
    """
    parts = []
    for name, part in GALLERIES.items():
        hits = {
            method: [metrics.hits(order, labels["test"], labels[part])]
            for method, order in orders[name].items()
        }
        relevant = metrics.relevant_counts(labels["test"], None if part == "test" else labels[part])
        parts.append(tables.hit_table(hits, labels["test"], relevant, resamples))
        parts[-1].insert(1, "gallery", name)
    return pd.concat(parts, ignore_index=True)
