"""Products of kinds that no model was trained on, in every gallery that their set has."""

from functools import partial

import numpy as np
import pandas as pd

from waldo_utils.data.splits import Split
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics, tables
from waldo_utils.experiments import methods
from waldo_utils.models import trained
from waldo_utils.retrieval import exact, features, reranking
from waldo_utils.study import Study

STAGES = ("frozen", "finetuned")
UNTRAINED = "ImageNet, nothing trained"
GALLERIES = {"test among test": "test", "test in train": "train"}  # name -> the split that is searched
Features = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]


def extract(study: Study, seed: int, split: dict[str, Split]) -> Features:
    """Compute what each model of the chain sees in the photos of the transfer set.

    Args:
        study: whose models see the photos.
        seed: of the models.
        split: photos of the transfer set.

    Returns:
        "untrained", "CO" or a stage -> split -> global features (N, D), unit length, and local ones (N, D, h,
        w).
    """
    transform = TestTransform(study.global_.resize, study.global_.size)
    models = {"untrained": trained.start(study), "CO": trained.global_model(study, seed)}
    models |= {stage: trained.local_model(study, seed, stage) for stage in STAGES}
    seen: Features = {kind: {} for kind in models}
    for name, part in split.items():
        begun = artifacts.partial_path(study, f"transfer/{name}")
        found = features.extract_all([*models.values()], part.photos, transform, partial=begun)
        for kind, both in zip(models, found, strict=True):
            seen[kind][name] = both
        average = features.average_maps(models["untrained"], part.photos, transform)
        seen["untrained"][name] = (exact.unit(average), seen["untrained"][name][1])
    return seen


def search(study: Study, seed: int, seen: Features) -> dict[str, dict[str, np.ndarray]]:
    """Search the test photos among each other, and among the train photos of the same products where the set
    has such; then reorder.

    Args:
        study, seed: as for `extract`.
        seen: as of `extract`.

    Returns:
        gallery, of `GALLERIES` -> method -> (Q, K) rows of the gallery, best first.
    """
    orders = {}
    for name, part in GALLERIES.items():
        if part not in seen["CO"]:
            continue
        untrained, neighbors = (_nearest(study, seen[kind], part) for kind in ("untrained", "CO"))
        shortlist = neighbors[:, : study.evaluation.depth]
        orders[name] = {
            UNTRAINED: untrained,
            "ImageNet + local matching": _matched(study, seen["untrained"], part, untrained),
            "CO": neighbors,
            "CO + local matching": _matched(study, seen["CO"], part, neighbors),
        }
        for stage in STAGES:
            scores = reranking.rerank_scores(
                trained.matcher(study, seed, stage),
                seen[stage]["test"][1],
                seen[stage][part][1],
                shortlist,
                partial=artifacts.partial_path(study, f"transfer/{stage}_{part}_scores"),
            )
            orders[name][f"CO + RRT ({stage})"] = exact.reorder(neighbors, scores)
    return orders


def _nearest(study: Study, seen: dict[str, tuple], part: str) -> np.ndarray:
    """Return the shortlists of the test photos in a split by one model's global features."""
    queries, gallery = seen["test"][0], None if part == "test" else seen[part][0]
    most = len(queries) - 1 if gallery is None else len(gallery)  # a query is left out of its own gallery
    return exact.nearest_neighbors(queries, min(study.evaluation.shortlist, most), gallery=gallery)[0]


def _matched(study: Study, seen: dict[str, tuple], part: str, neighbors: np.ndarray) -> np.ndarray:
    """Return shortlists reordered by local matching of one model's local features."""
    own, others = (seen[place][1] for place in ("test", part))
    scores = reranking.pair_scores(reranking.match_maps, own, others, neighbors[:, : study.evaluation.depth])
    return exact.reorder(neighbors, scores)


def table(
    orders: dict[str, dict[str, np.ndarray]], labels: dict[str, np.ndarray], resamples: int
) -> pd.DataFrame:
    """Tabulate the metrics of every gallery and method, as `tables.hit_table` does, with a column `gallery`.

    Args:
        orders: as of `search`.
        labels: split -> (N,) product of each photo.
        resamples: of the bootstrap over products.
    """
    return _of_every_gallery(partial(tables.hit_table, resamples=resamples), orders, labels)


def differences(
    orders: dict[str, dict[str, np.ndarray]], labels: dict[str, np.ndarray], resamples: int
) -> pd.DataFrame:
    """Tabulate what each method gains on the untrained network, as `tables.difference_table` does, with a
    column `gallery`; arguments as of `table`."""
    methods = list(next(iter(orders.values())))
    pairs = [(method, UNTRAINED) for method in methods if method != UNTRAINED]

    def compare(hits: dict, products: np.ndarray, relevant: np.ndarray) -> pd.DataFrame:
        return tables.difference_table(hits, pairs, products, relevant, resamples)

    return _of_every_gallery(compare, orders, labels)


def every_set(study: Study, test: Split, orders: dict, labels: dict[str, np.ndarray]) -> pd.DataFrame:
    """Tabulate the test set and the transfer set below each other, each searched among itself, with what
    every method gains there on the untrained network.

    Args:
        study: whose methods are looked at on its test set.
        test: its test photos.
        orders, labels: as of `table`, of the transfer set.

    Returns:
        `set`, then the columns of `tables.with_gains`.
    """
    resamples, own = study.evaluation.resamples, metrics.relevant_counts(test.labels)
    hits = methods.every_hit(methods.every_order(study), test.labels)
    pairs = [(method, UNTRAINED) for method in hits if method != UNTRAINED]
    ours = tables.with_gains(
        tables.hit_table(hits, test.labels, own, resamples),
        tables.difference_table(hits, pairs, test.labels, own, resamples),
    )
    among = {"test among test": orders["test among test"]}
    theirs = tables.with_gains(table(among, labels, resamples), differences(among, labels, resamples))
    names = test_name(test), other_name(study)
    parts = [part.assign(set=name) for part, name in zip((ours, theirs), names, strict=True)]
    joined = pd.concat(parts, ignore_index=True)
    return joined[["set", *(column for column in joined if column != "set")]]


def test_name(test: Split) -> str:
    """Return the name of a study's test set."""
    return "own kinds" if test.sets is None else str(test.sets[0])


test_name.__test__ = False  # not a test of pytest's


def other_name(study: Study) -> str:
    """Return the name of a study's transfer set."""
    return {"products10k": "Products-10k", "grocery": "Grocery"}.get(study.data.transfer, "other kinds")


def _of_every_gallery(tabulate, orders: dict, labels: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return the tables of (hits, products, relevant) of all galleries below each other."""
    parts = []
    for name, found in orders.items():
        part = GALLERIES[name]
        hits = {
            method: [metrics.hits(order, labels["test"], labels[part])] for method, order in found.items()
        }
        relevant = metrics.relevant_counts(labels["test"], None if part == "test" else labels[part])
        parts.append(tabulate(hits, labels["test"], relevant))
        parts[-1].insert(1, "gallery", name)
    return pd.concat(parts, ignore_index=True)
