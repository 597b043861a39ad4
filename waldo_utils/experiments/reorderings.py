"""More ways to reorder the same shortlists, as methods: scores fused another way, and baselines that learn
nothing."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics, tables
from waldo_utils.experiments import methods
from waldo_utils.experiments.methods import METHODS, Method
from waldo_utils.retrieval import baselines, exact, fusion, reranking
from waldo_utils.study import Study

STAGES = ("frozen", "finetuned")
LEARNED = "CO + RRT (finetuned)"  # what the baselines are compared with


def share_curve(study: Study, seed: int, stage: str, split: str) -> pd.DataFrame:
    """Tabulate what each share of the reranker's score gives on the photos of a split (see
    `fusion.fusion_curve`)."""
    known = (*methods.shortlists(study, seed, split), methods.scores(study, seed, stage, split))
    return fusion.fusion_curve(*known, methods.labels_of(study, split))


def share_curves(study: Study) -> pd.DataFrame:
    """Tabulate `share_curve` of every seed and stage, on validation and on test photos; with columns `stage`,
    `split`, `seed`."""
    curves = [
        share_curve(study, seed, stage, split).assign(stage=stage, split=split, seed=seed)
        for seed in study.seeds
        for stage in STAGES
        for split in ("validation", "test")
    ]
    return pd.concat(curves, ignore_index=True)


def chosen_shares(curves: pd.DataFrame) -> dict[str, list[float]]:
    """Return stage -> the share that validation products choose, one per seed, from `share_curves`."""
    held_out = curves[curves.split == "validation"]
    return {
        stage: [fusion.choose_share(curve) for _, curve in rows.groupby("seed", sort=False)]
        for stage, rows in held_out.groupby("stage", sort=False)
    }


def fused(study: Study, seed: int, stage: str) -> np.ndarray:
    """Return the shortlists of CO in the order of both scores, each standardized over the shortlist;
    validation products choose the share of the reranker's."""
    share = fusion.choose_share(share_curve(study, seed, stage, "validation"))
    neighbors, similarities = methods.shortlists(study, seed, "test")
    scores = methods.scores(study, seed, stage, "test")
    return exact.reorder(neighbors, fusion.fuse(similarities, scores, share))


def fusion_methods() -> dict[str, Method]:
    """Return CO and, for each stage, the reranker alone and the two ways to add the global score."""
    found = {"CO": METHODS["CO"]}
    for stage in STAGES:
        name = f"CO + RRT ({stage})"
        found[name] = METHODS[name]
        found[f"{name} + global score (raw weight)"] = METHODS[f"{name} + global score"]
        found[f"{name} + global score (standardized)"] = partial(fused, stage=stage)
    return found


def fusion_differences(
    hits: dict[str, list[np.ndarray]], products: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Compare the standardized fusion with the raw weight, and with the reranker alone.

    Args:
        hits: of `fusion_methods`, as of `methods.every_hit`.
        products: (N,) product of each photo, each a query among the others.
        resamples: of the bootstrap over products.
    """
    ends = [f"CO + RRT ({stage}) + global score (standardized)" for stage in STAGES]
    pairs = [(end, end.replace("standardized", "raw weight")) for end in ends]
    pairs += [(end, end.split(" + global")[0]) for end in ends]
    return tables.difference_table(hits, pairs, products, metrics.relevant_counts(products), resamples)


# ---------------------------------------------------------------- baselines


def chosen_settings(study: Study, seed: int) -> dict[str, dict[str, float]]:
    """Return baseline -> the settings that validation products choose, of one seed, which all seeds use."""
    embedding, shortlists = (
        artifacts.load_array(study, f"global/seed{seed}/validation_{kind}")
        for kind in ("features", "neighbors")
    )
    grids = {
        "alpha query expansion": (baselines.query_expansion, baselines.EXPANSIONS),
        "k-reciprocal": (baselines.k_reciprocal, baselines.RECIPROCAL),
    }
    labels, depth = methods.labels_of(study, "validation"), study.evaluation.depth
    return {
        name: baselines.choose_settings(score, grid, embedding, shortlists, labels, depth)[0]
        for name, (score, grid) in grids.items()
    }


def rescored(
    study: Study, seed: int, score: Callable[..., np.ndarray], settings: dict[str, float]
) -> np.ndarray:
    """Return the shortlists of CO, reordered by a `score` of global features with its `settings`."""
    neighbors = methods.searched(study, seed)
    embedding = artifacts.load_array(study, f"global/seed{seed}/test_features")
    return exact.reorder(neighbors, score(embedding, neighbors, study.evaluation.depth, **settings))


def matched_finer(study: Study, seed: int, both: bool = False) -> np.ndarray:
    """Return the shortlists of CO, reordered by local matching of the trunk's map, whose places are twice as
    fine (averaged two by two); with `both`, of its score and that of the last map together."""
    neighbors = methods.searched(study, seed)
    maps = torch.from_numpy(np.array(artifacts.load_array(study, "global/test_maps")[:, 0])).float()
    finer = torch.nn.functional.avg_pool2d(maps, 2).numpy()  # (N, c, h, w)
    shortlist = neighbors[:, : study.evaluation.depth]
    scores = reranking.pair_scores(reranking.match_maps, finer, finer, shortlist)
    if both:
        local = artifacts.load_array(study, f"global/seed{seed}/test_local")
        scores = scores + reranking.pair_scores(reranking.match_maps, local, local, shortlist)
    return exact.reorder(neighbors, scores)


def baseline_methods(study: Study, settings: dict[str, dict[str, float]]) -> dict[str, Method]:
    """Return CO, the learned rerankers, and the baselines with the settings of `chosen_settings`; those of
    the trunk's map where the study computes with it."""
    expansion, reciprocal = settings["alpha query expansion"], settings["k-reciprocal"]
    finer = {
        "CO + local matching, stride 16": matched_finer,
        "CO + local matching, both maps": partial(matched_finer, both=True),
    }
    return {
        **{name: METHODS[name] for name in ("CO", "CO + RRT (frozen)", LEARNED)},
        "CO + alpha query expansion": partial(rescored, score=baselines.query_expansion, settings=expansion),
        "CO + k-reciprocal": partial(rescored, score=baselines.k_reciprocal, settings=reciprocal),
        "CO + local matching": METHODS["CO + local matching"],
        **(finer if study.global_.views else {}),
        "CO + mutual matches, count": partial(methods.matched, score=baselines.mutual_count),
        "CO + mutual matches, cosine": partial(methods.matched, score=baselines.mutual_cosine),
    }


def baseline_differences(
    hits: dict[str, list[np.ndarray]], products: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Compare every method with CO, and the learned reranker with every one that learned nothing.

    Args:
        hits: of `baseline_methods`, as of `methods.every_hit`.
        products, resamples: as for `fusion_differences`.
    """
    others = [name for name in hits if name != "CO"]
    pairs = [(name, "CO") for name in others]
    pairs += [(LEARNED, name) for name in others if "RRT" not in name]
    return tables.difference_table(hits, pairs, products, metrics.relevant_counts(products), resamples)
