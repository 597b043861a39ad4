"""The reported figures, and the tables that stand beside them."""

import numpy as np
import pandas as pd

from waldo_utils import metrics

# Stanford Online Products, 60,502 queries (Tan et al., ICCV 2021, and the report that this study rebuilds).
REPORTED = pd.DataFrame(
    [
        ("CO", 0.807, 0.919, 0.969),
        ("CO + RRT (frozen)", 0.818, 0.924, 0.969),
        ("CO + RRT (finetuned)", 0.845, 0.932, 0.966),
    ],
    columns=["method", "R@1", "R@10", "R@100"],
)

# The report's rows of CO + RRT (finetuned) under one changed transform.
REPORTED_TRANSFORMS = pd.DataFrame(
    [
        ("perspective", 0.693, 0.878, 0.966),
        ("grayscale", 0.672, 0.877, 0.966),
        ("contrast", 0.710, 0.882, 0.966),
        ("no crop", 0.863, 0.942, 0.971),
        ("no flip", 0.8444, 0.9325, 0.967),
        ("blur", 0.844, 0.9321, 0.967),
        ("normalization", 0.1283, 0.3233, 0.6597),
    ],
    columns=["transform", "R@1", "R@10", "R@100"],
)

# Products-10k, nothing trained on it.
REPORTED_TRANSFER = pd.DataFrame(
    [("CO + RRT (finetuned)", 0.3473, 0.5407, 0.7342)], columns=["method", "R@1", "R@10", "R@100"]
)

# Category of the nearest neighbor, called accuracy in the report.
REPORTED_CATEGORIES = {
    "bicycle": 0.982,
    "cabinet": 0.944,
    "chair": 0.920,
    "coffee maker": 0.925,
    "fan": 0.914,
    "kettle": 0.942,
    "lamp": 0.925,
    "mug": 0.968,
    "sofa": 0.937,
    "stapler": 0.954,
    "table": 0.910,
    "toaster": 0.920,
}


PUBLISHED_COUNTS = pd.DataFrame(
    [("train", 59_551, 11_318), ("validation", 0, 0), ("test", 60_502, 11_316)],
    columns=["split", "photos", "products"],
)


def count_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Count photos, products and categories of each split: columns `split`, `photos`, `products`, `categories`."""
    counted = manifest.groupby("split", sort=False).agg(
        photos=("path", "size"), products=("label", "nunique"), categories=("category", "nunique")
    )
    order = [split for split in ("train", "validation", "test") if split in counted.index]
    return counted.loc[order].reset_index()


def beside_published_counts(counts: pd.DataFrame) -> pd.DataFrame:
    """Join the counts of Stanford Online Products to ours."""
    return counts.merge(PUBLISHED_COUNTS, on="split", suffixes=("", " (SOP, published)"))


def photos_of_products(manifest: pd.DataFrame, products: int, photos: int) -> list[int]:
    """Pick rows for a sheet: the first `photos` photos of one product each of `products` categories.

    Where no product has so many photos, the most that one has.
    """
    photos = min(photos, int(manifest.groupby("label").size().max()))
    enough = manifest[manifest.groupby("label").path.transform("size") >= photos]
    chosen = enough.drop_duplicates("category").label.head(products)
    if len(chosen) < products:
        chosen = pd.concat([chosen, enough.drop_duplicates("label").label]).drop_duplicates().head(products)
    return [row for label in chosen for row in enough.index[enough.label == label][:photos]]


def look_alikes(manifest: pd.DataFrame, products: int, photos: int) -> list[int]:
    """Pick rows for a sheet of products that are easily confused: of one family where families are known, then
    of its category."""
    photos = min(photos, int(manifest.groupby("label").size().max()))
    enough = manifest[manifest.groupby("label").path.transform("size") >= photos]
    category = enough.category.value_counts().index[0]
    same = enough[enough.category == category]
    if "family" in same:
        same = same.sort_values("family", kind="stable")
    chosen = same.drop_duplicates("label").label.head(products)
    return [row for label in chosen for row in same.index[same.label == label][:photos]]


def sample_products(labels: np.ndarray, products: int | None, seed: int = 0) -> np.ndarray:
    """Return the rows of all photos of some products drawn at random; of all products for None."""
    every = np.unique(labels)
    if products is None or products >= len(every):
        return np.arange(len(labels))
    return np.flatnonzero(np.isin(labels, np.random.default_rng(seed).choice(every, products, replace=False)))


def hit_table(
    hits: dict[str, list[np.ndarray]],
    products: np.ndarray,
    resamples: int,
    ks: tuple[int, ...] = (1, 10, 100),
) -> pd.DataFrame:
    """Tabulate recall@k of several methods, each run with several seeds.

    Args:
        hits: method -> one (Q, K) bool array per seed: whether neighbor k of query q shows its product.
        products: (Q,) product of each query; the bootstrap resamples products.
        resamples: of the bootstrap.
        ks: the cut-offs; those beyond K are left out.

    Returns:
        One row per method: `method`, `R@k` (mean over seeds), `R@1 low` and `R@1 high` (95 % interval of that
        mean over products), `R@1 seed spread` (standard deviation over seeds), `queries`, `products`, `seeds`.
    """
    rows = []
    for method, runs in hits.items():
        row = {"method": method}
        for k in ks:
            if k <= runs[0].shape[1]:
                row[f"R@{k}"] = float(np.mean([run[:, :k].any(axis=1).mean() for run in runs]))
        first = np.mean([run[:, 0] for run in runs], axis=0)  # (Q,) share of seeds that hit
        row["R@1 low"], row["R@1 high"] = metrics.bootstrap_interval(first, products, resamples=resamples)
        row["R@1 seed spread"] = float(np.std([run[:, 0].mean() for run in runs]))
        rows.append(
            row | {"queries": len(products), "products": len(np.unique(products)), "seeds": len(runs)}
        )
    return pd.DataFrame(rows)


def difference_table(
    hits: dict[str, list[np.ndarray]], pairs: list[tuple[str, str]], products: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Tabulate paired differences of recall@1 between methods, with 95 % intervals over products.

    Args:
        hits: as for `hit_table`.
        pairs: (method, baseline): the row is method minus baseline.
        products: (Q,) product of each query.
        resamples: of the bootstrap.

    Returns:
        One row per pair: `method`, `baseline`, `difference`, `low`, `high` (fractions), `queries`, `seeds`.
    """
    rows = []
    for method, baseline in pairs:
        ours, theirs = (np.mean([run[:, 0] for run in hits[name]], axis=0) for name in (method, baseline))
        low, high = metrics.paired_interval(theirs, ours, products, resamples=resamples)
        rows.append(
            {
                "method": method,
                "baseline": baseline,
                "difference": float((ours - theirs).mean()),
                "low": low,
                "high": high,
                "queries": len(products),
                "seeds": len(hits[method]),
            }
        )
    return pd.DataFrame(rows)


def beside_reported(table: pd.DataFrame, reported: pd.DataFrame, key: str = "method") -> pd.DataFrame:
    """Join the reported figures to ours: columns `R@k reported` beside `R@k`; ours missing = not run."""
    return reported.merge(table, on=key, how="outer", suffixes=(" reported", ""), sort=False)


def percent(table: pd.DataFrame):
    """Return the table styled for display: metrics and their bounds in per cent, missing ones as "not run"."""
    fractions = [
        c for c in table.columns if "@" in c or c in ("difference", "low", "high", "category accuracy")
    ]
    return table.style.format(
        {c: lambda v: "not run" if pd.isna(v) else f"{100 * v:.2f}" for c in fractions}
    ).hide(axis="index")


def category_table(orders: dict[str, np.ndarray], labels: np.ndarray, categories: np.ndarray) -> pd.DataFrame:
    """Tabulate recall@1 and the category accuracy of the nearest neighbor, by category.

    Args:
        orders: method -> (Q, K) neighbors, rows of `labels`.
        labels: (Q,) product of each photo.
        categories: (Q,) category of each photo.

    Returns:
        One row per method and category, and a row "macro mean" per method: `method`, `category`, `R@1`,
        `category accuracy`, `queries`.
    """
    rows = []
    for method, neighbors in orders.items():
        first = np.asarray(neighbors[:, 0])
        per_query = pd.DataFrame(
            {
                "category": categories,
                "R@1": labels[first] == labels,
                "category accuracy": categories[first] == categories,
            }
        )
        grouped = per_query.groupby("category").mean().reset_index()
        grouped["queries"] = per_query.groupby("category").size().to_numpy()
        macro = {
            "category": "macro mean",
            **grouped[["R@1", "category accuracy"]].mean(),
            "queries": len(labels),
        }
        rows.append(pd.concat([grouped, pd.DataFrame([macro])]).assign(method=method))
    table = pd.concat(rows, ignore_index=True)
    return table[["method", "category", "R@1", "category accuracy", "queries"]]


def verdicts(differences: pd.DataFrame) -> pd.DataFrame:
    """Put each paired difference into words: its 95 % interval lies above zero, below it, or holds it."""
    words = np.select([differences.low > 0, differences.high < 0], ["better", "worse"], "no difference found")
    return differences[["method", "baseline"]].assign(verdict=words)


def runs() -> pd.DataFrame:
    """List the profiles and whether their main table lies in the results folder."""
    from waldo_utils.artifacts import results_folder
    from waldo_utils.study import PROFILES

    rows = [
        {
            "profile": study.name,
            "what it is": study.summary,
            "main table": "run" if (results_folder(study) / "tables" / "main.csv").exists() else "not run",
        }
        for study in PROFILES.values()
    ]
    return pd.DataFrame(rows)
