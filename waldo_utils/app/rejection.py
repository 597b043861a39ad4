"""Is the product in the catalogue at all? A threshold on what a search found, from queries that ought to
fail."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from waldo_utils.app import searching
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.app.thresholds import EVIDENCE, Threshold, evidence
from waldo_utils.evaluation import metrics
from waldo_utils.experiments import openset
from waldo_utils.retrieval import reranking

TOGETHER = 20  # queries reranked between two steps of the bar
KINDS = {"best similarity": (0,), "best score": (1,), "all four": (0, 1, 2, 3)}  # columns of EVIDENCE
PENALTY = 1.0  # on the squared weights of standardized evidence, as in scikit-learn's default
RESAMPLES = 2000  # of the intervals, over products


@dataclass(frozen=True)
class Asked:
    """Evidence of queries that were searched twice."""

    products: np.ndarray  # (Q,)
    present: np.ndarray  # (Q, 4) EVIDENCE with the other photos of the product in the gallery
    absent: np.ndarray  # (Q, 4) with none


def ask(models: Models, gallery: Gallery, queries: np.ndarray, depth: int = searching.DEPTH) -> Asked:
    """Search with photos of the gallery twice: with the other photos of their product in it, and with none.

    Args:
        models: the same that made the gallery's features.
        gallery: with products.
        queries: (Q,) rows of it whose product has other photos.
        depth: neighbors to rerank.

    Raises:
        ValueError: a query's product is not known or has no other photo, or there is no other product.
    """
    products = gallery.products[queries]
    counts = pd.Series(gallery.products).value_counts()
    if (products == "").any() or (counts[products] < 2).any():
        raise ValueError(
            "a query's product is not known or has no other photo: choose queries that have both"
        )
    if len(counts) < 2:
        raise ValueError("the gallery holds a single product: add others")
    most = int(counts[products].max())
    kept = min(depth + most, len(gallery))  # enough for `depth` neighbors once the own product is gone
    rows, similarities = gallery.nearest(gallery.embedding[queries], kept)
    present, absent = [], []
    for start in tqdm(range(0, len(queries), TOGETHER), desc="calibrate", unit="block", leave=False, delay=2):
        block = range(start, min(start + TOGETHER, len(queries)))
        chosen = []  # for each query the places of its two shortlists
        for i in block:
            found = rows[i] != queries[i]
            others = found & (gallery.products[rows[i]] != products[i])
            chosen.append([np.flatnonzero(keep)[:depth] for keep in (found, others)])
        # Of a product of thousands of photos no more are reranked than the two shortlists hold.
        needed = [np.union1d(*pair) for pair in chosen]
        widest = max(len(places) for places in needed)
        needed = np.array([np.pad(places, (0, widest - len(places)), "edge") for places in needed])
        shortlist = np.take_along_axis(rows[block], needed, axis=1)
        local = gallery.local[queries[block]]
        scores = reranking.rerank_scores(models.reranker, local, gallery.local, shortlist)
        for i, pair, places, row in zip(block, chosen, needed, scores, strict=True):
            whole = np.zeros(rows.shape[1], dtype=row.dtype)
            whole[places] = row
            for where, keep in zip((present, absent), pair, strict=True):
                where.append(evidence(similarities[i, keep], whole[keep], gallery.products[rows[i, keep]]))
    return Asked(products, np.array(present), np.array(absent))


def held_out_margins(asked: Asked, columns: Sequence[int] = KINDS["all four"]) -> pd.DataFrame:
    """Return how far each search is above a threshold, weights and value chosen on the other half of the
    products.

    Args:
        asked: of at least two products.
        columns: of EVIDENCE to use.

    Returns:
        One row per query: `product`, `present` and `absent`; a search is accepted from 0 on.

    Raises:
        ValueError: there are fewer than two products.
    """
    products = np.unique(asked.products)
    if len(products) < 2:
        raise ValueError(f"a threshold needs queries of two products, got {len(products)}: add products")
    half = np.isin(asked.products, products[::2])
    margins = pd.DataFrame({"product": asked.products, "present": 0.0, "absent": 0.0})
    for side in (half, ~half):
        weights, value = _choose(asked.present[side], asked.absent[side], columns)
        margins.loc[~side, "present"] = asked.present[~side] @ weights - value
        margins.loc[~side, "absent"] = asked.absent[~side] @ weights - value
    return margins


def curve(margins: pd.DataFrame) -> pd.DataFrame:
    """Return the two error rates at every threshold that changes one.

    Args:
        margins: columns `present` and `absent`.

    Returns:
        `threshold` ascending, `false accept`, `false reject`; a margin equal to the threshold is accepted.
    """
    present, absent = np.sort(margins.present), np.sort(margins.absent)
    values = np.unique(np.concatenate([present, absent]))
    thresholds = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:] + 1e-3])
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "false accept": 1 - np.searchsorted(absent, thresholds) / len(absent),
            "false reject": np.searchsorted(present, thresholds) / len(present),
        }
    )


def choose_threshold(asked: Asked) -> Threshold:
    """Return weights and threshold chosen on all queries, with the rates of those chosen on half of the
    products.

    The weights are a logistic regression's; the value makes the mean of the two error rates smallest.

    Raises:
        ValueError: there are fewer than two products.
    """
    rates = _rates(held_out_margins(asked))
    weights, value = _choose(asked.present, asked.absent, KINDS["all four"])
    count = {"queries": len(asked.products), "products": len(np.unique(asked.products))}
    named = {name.replace(" ", "_"): rate for name, rate in rates.items()}
    return Threshold(value, tuple(weights.tolist()), **named, **count)


def evidence_table(asked: Asked) -> pd.DataFrame:
    """Tabulate what each kind of evidence is worth on products that chose nothing.

    Returns:
        One row per kind: `evidence`, `AUROC`, `false accept`, `false reject` (with `... low` and `... high`,
        95 % intervals over products), `mean error`.
    """
    rows = []
    for kind, columns in KINDS.items():
        margins = held_out_margins(asked, columns)
        rates = _rates(margins)
        area = float(openset.auroc(margins.present.to_numpy(), margins.absent.to_numpy())[0])
        mean = (rates["false accept"] + rates["false reject"]) / 2
        rows.append({"evidence": kind, "AUROC": area} | rates | {"mean error": mean})
    return pd.DataFrame(rows)


def _rates(margins: pd.DataFrame) -> dict[str, float]:
    """Return the error rates at a margin of 0, each with its interval."""
    wrong = np.column_stack([margins.absent >= 0, margins.present < 0]).astype(float)  # (Q, 2)
    draws = metrics.bootstrap_means(wrong, margins["product"].to_numpy(), RESAMPLES)
    low, high = metrics.percentile_interval(draws)
    rates = {}
    for i, name in enumerate(("false accept", "false reject")):
        figures = (wrong[:, i].mean(), low[i], high[i])
        rates |= dict(zip((name, f"{name} low", f"{name} high"), map(float, figures), strict=True))
    return rates


def _choose(present: np.ndarray, absent: np.ndarray, columns: Sequence[int]) -> tuple[np.ndarray, float]:
    """Return (4,) weights, 0 beside `columns`, and the value with the smallest mean of the two error
    rates."""
    weights = np.zeros(present.shape[1])
    weights[list(columns)] = logistic_weights(present[:, columns], absent[:, columns])
    rates = curve(pd.DataFrame({"present": present @ weights, "absent": absent @ weights}))
    mean = (rates["false accept"] + rates["false reject"]) / 2
    return weights, float(rates.threshold[int(mean.argmin())])


def logistic_weights(present: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Return the (F,) weights of a logistic regression that tells the rows of two (Q, F) arrays apart.

    Columns are standardized for the penalty, and the weights given per unit of the columns. Newton's method.
    """
    rows = np.concatenate([present, absent])  # (2 * Q, F)
    scale = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
    rows = np.column_stack([(rows - rows.mean(axis=0)) / scale, np.ones(len(rows))])  # the last: the constant
    target = np.repeat([1.0, 0.0], [len(present), len(absent)])
    penalty = PENALTY * np.append(np.ones(rows.shape[1] - 1), 0.0)
    weights = np.zeros(rows.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-(rows @ weights).clip(-30, 30)))
        slope = rows.T @ (chance - target) + penalty * weights
        curvature = (rows.T * (chance * (1 - chance))) @ rows + np.diag(penalty + 1e-9)
        weights = weights - np.linalg.solve(curvature, slope)
    return weights[:-1] / scale


def labelled_rows(products: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Return up to `count` rows, drawn at random, whose product is known and has another photo."""
    sizes = pd.Series(products).map(pd.Series(products).value_counts()).to_numpy()
    rows = np.flatnonzero((products != "") & (sizes > 1))
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def join(first: Gallery, second: Gallery) -> Gallery:
    """Return one gallery of two that share no product: the rows of `first`, then those of `second`."""
    return Gallery(
        np.concatenate([first.embedding, second.embedding]),
        np.concatenate([first.local, second.local]),
        [*first.names, *second.names],
        np.concatenate([first.products, second.products]),
        np.concatenate([first.categories, second.categories]),
        lambda row: first.photo(row) if row < len(first) else second.photo(row - len(first)),
    )


def sentence(threshold: Threshold | None, margin: float | None, reranks: bool = True) -> str:
    """Say in words whether a search found its product.

    Args:
        threshold: None: there is none.
        margin: as `Threshold.margin` gives it.
        reranks: whether the models do, without which there never is a threshold.
    """
    if threshold is None and not reranks:
        return (
            "whether it is in the catalogue cannot be told, because these models rerank nothing: `python -m "
            "waldo_utils run --profile mini` trains some that do, then `python -m waldo_utils index FOLDER "
            "--model mini` uses them"
        )
    if threshold is None:
        return (
            "whether it is in the catalogue cannot be told, because no threshold was learned (an index "
            "needs ten products of two photos or more for it, the demo its notebook)"
        )
    verdict = "probably in the catalogue" if margin >= 0 else "probably not in the catalogue"
    return (
        f"{verdict} ({abs(margin):.2f} {'above' if margin >= 0 else 'below'} the threshold; measured on "
        f"{threshold.queries} queries: {threshold.false_accept:.0%} of absent products accepted, "
        f"{threshold.false_reject:.0%} of present ones refused)"
    )


def table(threshold: Threshold, models: Models) -> pd.DataFrame:
    """Return a threshold as a table of one row, with the digest of the models that it belongs to."""
    row = asdict(threshold)
    weights = {f"weight of {name}": weight for name, weight in zip(EVIDENCE, row.pop("weights"), strict=True)}
    return pd.DataFrame([row | weights | {"models": models.digest}])


def from_table(saved: pd.DataFrame, models: Models) -> Threshold | None:
    """Return the threshold of a saved table, or None where it belongs to other models or was made by older
    code."""
    row = saved.to_dict("records")[0]
    if row.pop("models") != models.digest or f"weight of {EVIDENCE[-1]}" not in row:
        return None
    return Threshold(weights=tuple(row.pop(f"weight of {name}") for name in EVIDENCE), **row)
