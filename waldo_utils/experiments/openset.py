"""Search with a fixed gallery, and queries whose product the gallery does not hold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from waldo_utils.data.splits import Split
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics, tables
from waldo_utils.models import trained
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact, reranking
from waldo_utils.study import Study


@dataclass(frozen=True)
class Answers:
    """What a method answers to Q queries, each asked twice.

    Attributes:
        hits: (Q, K) bool, the product in the gallery: whether neighbor k of query q shows it, in the method's
        order.
        present: (Q,) score of the first answer with the product in the gallery.
        absent: (Q,) score of the first answer with all photos of the query's product taken out of the
        gallery.
        products: (Q,) product of each query.
        relevant: (Q,) photos of the product in the gallery.
    """

    hits: np.ndarray
    present: np.ndarray
    absent: np.ndarray
    products: np.ndarray
    relevant: np.ndarray


def first_photos(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split photos into queries and gallery: the first photo of each product, and all others.

    Args:
        labels: (N,) product of each photo.

    Returns:
        Rows of the queries and rows of the gallery, both ascending.
    """
    queries = np.sort(np.unique(labels, return_index=True)[1])
    return queries, np.setdiff1d(np.arange(len(labels)), queries)


def ask(
    embedding: np.ndarray,
    labels: np.ndarray,
    shortlist: int,
    depth: int,
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Answers:
    """Ask for the first photo of each product, the others being the gallery, with and without its product in
    there.

    With the product taken out, the photos behind it move up, so that both answers come from equally long
    shortlists.

    Args:
        embedding: (N, D) global features of all photos, unit length.
        labels: (N,) product of each of them.
        shortlist: neighbors kept per query; fewer where the gallery is smaller.
        depth: of which so many are reranked.
        score: rows of the queries (Q,), rows of the gallery (G,) and neighbors (Q, k), rows of those, to (Q,
            k) scores. None: the cosine similarity.
    """
    queries, gallery = first_photos(labels)
    relevant = metrics.relevant_counts(labels[queries], labels[gallery])
    reach = min(depth + int(relevant.max()), len(gallery))
    neighbors, scores = exact.nearest_neighbors(
        embedding[queries], min(max(shortlist, reach), len(gallery)), gallery=embedding[gallery]
    )
    if score is not None:
        scores = score(queries, gallery, neighbors[:, :reach])
    order = exact.reorder(neighbors, scores[:, :depth])[:, :shortlist]
    hits = metrics.hits(neighbors[:, :reach], labels[queries], labels[gallery])
    present, absent = top_scores(scores[:, :reach], hits, depth)
    return Answers(
        metrics.hits(order, labels[queries], labels[gallery]), present, absent, labels[queries], relevant
    )


def ask_every_seed(study: Study, split: dict[str, Split]) -> dict[str, dict[str, list[Answers]]]:
    """Ask CO and CO + RRT (finetuned) of every seed, among the validation photos and among the test photos.

    Returns:
        "validation" and "test" -> method -> its answers, one per seed.
    """
    answers = {name: {"CO": [], "CO + RRT (finetuned)": []} for name in ("validation", "test")}
    for seed in study.seeds:
        matcher = trained.matcher(study, seed, "finetuned")
        for name, asked in answers.items():
            local = artifacts.load_array(study, f"reranker/seed{seed}/finetuned_{name}_local")
            embedding = artifacts.load_array(study, f"global/seed{seed}/{name}_features")
            depths = (study.evaluation.shortlist, study.evaluation.depth)
            asked["CO"].append(ask(embedding, split[name].labels, *depths))
            asked["CO + RRT (finetuned)"].append(
                ask(embedding, split[name].labels, *depths, partial(_rescore, matcher, local))
            )
    return answers


def _rescore(
    matcher: RerankingTransformer,
    local: np.ndarray,
    queries: np.ndarray,
    gallery: np.ndarray,
    neighbors: np.ndarray,
) -> np.ndarray:
    """Score neighbors of some photos among others, all of them rows of `local`, as `ask` wants it."""
    return reranking.rerank_scores(matcher, local[queries], local[gallery], neighbors)


def query_gallery_table(answers: dict[str, list[Answers]], resamples: int) -> pd.DataFrame:
    """Tabulate the metrics of queries whose product is in the gallery, as `tables.hit_table` does.

    Args:
        answers: method -> answers of each seed.
        resamples: of the bootstrap over products.
    """
    first = next(iter(answers.values()))[0]
    hits = {method: [run.hits for run in runs] for method, runs in answers.items()}
    table = tables.hit_table(hits, first.products, first.relevant, resamples)
    table.insert(1, "gallery", "all photos but the first of each product")
    return table


def top_scores(scores: np.ndarray, hits: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the best score among the first `depth` neighbors, with all neighbors there and with the hits
    taken out.

    Args:
        scores: (Q, K) of the neighbors, in the order of the search (not of the scores).
        hits: (Q, K) bool: the neighbor shows the query's product.
        depth: neighbors that count.

    Returns:
        Two arrays (Q,): the product present; absent.

    Raises:
        ValueError: a query has hits only, so that nothing is left.
    """
    others = ~hits & ((~hits).cumsum(axis=1) <= depth)  # the first `depth` that are not hits
    if not others.any(axis=1).all():
        raise ValueError(
            f"{(~others.any(axis=1)).sum()} queries have no other product among their neighbors: "
            "search for more"
        )
    return scores[:, :depth].max(axis=1), np.where(others, scores, -np.inf).max(axis=1)


def auroc(present: np.ndarray, absent: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the area under the ROC curve: the chance that a present query scores higher than an absent one.

    Ties count half (Hanley and McNeil, 1982).

    Args:
        present, absent: (Q,) scores of the same queries.
        weights: (B, Q) how often each query counts, one row per resample; None: once.

    Returns:
        (B,), or (1,) without weights.
    """
    weights = np.ones((1, len(present))) if weights is None else weights
    order = np.argsort(absent, kind="stable")
    below = np.concatenate([np.zeros((len(weights), 1)), weights[:, order].cumsum(axis=1)], axis=1)
    left, right = (np.searchsorted(absent[order], present, side) for side in ("left", "right"))
    return (weights * (below[:, left] + below[:, right]) / 2).sum(axis=1) / weights.sum(axis=1) ** 2


def accepting_threshold(present: np.ndarray, rate: float = 0.95) -> float:
    """Return the highest threshold at which at least `rate` of the scores (Q,) are accepted (score >=
    threshold)."""
    return float(np.sort(present)[::-1][int(np.ceil(rate * len(present))) - 1])


def openset_table(
    validation: dict[str, list[Answers]], test: dict[str, list[Answers]], resamples: int, rate: float = 0.95
) -> pd.DataFrame:
    """Tabulate how well a method's first score tells queries whose product is in the gallery from others.

    The threshold accepts `rate` of the validation queries whose product is there; test chooses nothing.
    Intervals are over test products, the threshold given.

    Args:
        validation, test: method -> answers of each seed.
        resamples: of the bootstrap.
        rate: share of present validation queries that the threshold accepts.

    Returns:
        One row per method: `method`, `AUROC`, `true accept` (share of present queries accepted), `accepted
        and right` (the first neighbor also shows the product), `false accept` (share of absent
        queries accepted), each a mean over seeds with `... low` and `... high`; `queries`,
        `products`, `seeds`, `protocol`.
    """
    rows = []
    for method, runs in test.items():
        products, index = np.unique(runs[0].products, return_inverse=True)
        shares = []
        for held_out, run in zip(validation[method], runs, strict=True):
            threshold = accepting_threshold(held_out.present, rate)
            accepted = run.present >= threshold
            shares.append(np.stack([accepted, accepted & run.hits[:, 0], run.absent >= threshold], axis=1))
        areas = np.concatenate(
            [
                np.mean([auroc(run.present, run.absent, drawn[:, index]) for run in runs], axis=0)
                for drawn in metrics.product_draws(len(products), resamples)
            ]
        )
        values = np.mean(shares, axis=0)  # (Q, 3)
        draws = np.column_stack([areas, metrics.bootstrap_means(values, runs[0].products, resamples)])
        means = [np.mean([auroc(run.present, run.absent) for run in runs]), *values.mean(axis=0)]
        row = {"method": method}
        names = ("AUROC", "true accept", "accepted and right", "false accept")
        for name, *figures in zip(names, means, *metrics.percentile_interval(draws), strict=True):
            row |= dict(zip((name, f"{name} low", f"{name} high"), map(float, figures), strict=True))
        count = {"queries": len(index), "products": len(products), "seeds": len(runs), "protocol": "clean"}
        rows.append(row | count)
    return pd.DataFrame(rows)


def score_panels(
    validation: dict[str, list[Answers]], test: dict[str, list[Answers]]
) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Return method -> scores of present and of absent test queries, and the threshold that validation
    chooses; of the first seed."""
    return {
        method: (runs[0].present, runs[0].absent, accepting_threshold(validation[method][0].present))
        for method, runs in test.items()
    }
