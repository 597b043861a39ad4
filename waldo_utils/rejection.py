"""Is the product in the catalogue at all? A threshold on a search's best score, from queries that ought to fail."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from waldo_utils import retrieval, searching
from waldo_utils.searching import Gallery, Models


@dataclass(frozen=True)
class Threshold:
    """Best scores below `value` say "probably not in the catalogue"."""

    value: float
    false_accept: float  # share of absent products taken for present
    false_reject: float  # share of present products taken for absent
    queries: int  # photos asked, each once with its product in the gallery and once without
    products: int  # of these photos


def best_scores(
    models: Models, gallery: Gallery, queries: np.ndarray, depth: int = searching.DEPTH
) -> pd.DataFrame:
    """Search with photos of the gallery twice: with the other photos of their product in it, and with none.

    Args:
        models: the same that made the gallery's features.
        gallery: with products.
        queries: rows of it whose product has other photos.
        depth: neighbors to rerank.

    Returns:
        One row per query: `product`, `present` and `absent`, the best scores of the two searches.

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
    rows, _ = retrieval.nearest_neighbors(gallery.embedding[queries], kept, gallery.embedding)
    found = []
    asked = zip(queries, products, rows, strict=True)
    for query, product, near in tqdm(asked, total=len(queries), desc="calibrate", unit="query", leave=False):
        near = near[near != query]
        scores = searching.score(models, gallery.local[query], gallery.local[near])
        other = gallery.products[near] != product
        found.append((product, scores[:depth].max(), scores[other][:depth].max()))
    return pd.DataFrame(found, columns=["product", "present", "absent"])


def curve(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the two error rates at every threshold that changes one.

    Args:
        scores: columns `present` and `absent`, best scores of searches.

    Returns:
        `threshold` ascending, `false accept`, `false reject`; a score equal to the threshold is accepted.
    """
    present, absent = np.sort(scores.present), np.sort(scores.absent)
    values = np.unique(np.concatenate([present, absent]))
    thresholds = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:] + 1e-3])
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "false accept": 1 - np.searchsorted(absent, thresholds) / len(absent),
            "false reject": np.searchsorted(present, thresholds) / len(present),
        }
    )


def choose_threshold(scores: pd.DataFrame) -> Threshold:
    """Return the threshold with the smallest mean of the two error rates, and its rates on products it has not seen.

    The value comes from all queries. The rates are those of thresholds chosen on one half of the products and counted
    on the other, both ways round.

    Args:
        scores: as `best_scores` gives them, of at least two products.

    Raises:
        ValueError: there are fewer than two products.
    """
    products = np.unique(scores["product"])
    if len(products) < 2:
        raise ValueError(f"a threshold needs queries of two products, got {len(products)}: add products")
    half = scores["product"].isin(products[::2])
    wrong = []
    for side in (half, ~half):
        value = _best(scores[side])
        wrong.append(pd.DataFrame({"fa": scores.absent[~side] >= value, "fr": scores.present[~side] < value}))
    rates = pd.concat(wrong).mean()
    return Threshold(_best(scores), float(rates.fa), float(rates.fr), len(scores), len(products))


def _best(scores: pd.DataFrame) -> float:
    rates = curve(scores)
    mean = (rates["false accept"] + rates["false reject"]) / 2
    return float(rates.threshold[int(mean.argmin())])


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


def sentence(threshold: Threshold | None, best: float) -> str:
    """Say in words whether a search's best score means that the product was found."""
    if threshold is None:
        return "no statement whether it is in the catalogue: no products were known to calibrate on"
    verdict = "probably in the catalogue" if best >= threshold.value else "probably not in the catalogue"
    return (
        f"{verdict} (best score {best:.2f}, threshold {threshold.value:.2f}; measured on {threshold.queries} queries: "
        f"{threshold.false_accept:.0%} of absent products accepted, {threshold.false_reject:.0%} of present ones refused)"
    )


def table(threshold: Threshold, models: Models) -> pd.DataFrame:
    """Return a threshold as a table of one row, with the digest of the models that it belongs to."""
    return pd.DataFrame([asdict(threshold) | {"models": models.digest}])


def from_table(saved: pd.DataFrame, models: Models) -> Threshold | None:
    """Return the threshold of a saved table, or None where it belongs to other models."""
    row = saved.to_dict("records")[0]
    return Threshold(**row) if row.pop("models") == models.digest else None
