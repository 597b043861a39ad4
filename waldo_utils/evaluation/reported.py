"""The reported figures and published counts, and our tables beside them."""

import pandas as pd

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


def beside_published_counts(counts: pd.DataFrame) -> pd.DataFrame:
    """Join the counts of Stanford Online Products to ours."""
    return counts.merge(PUBLISHED_COUNTS, on="split", suffixes=("", " (SOP, published)"))


def beside_reported(table: pd.DataFrame, reported: pd.DataFrame, key: str = "method") -> pd.DataFrame:
    """Join the reported figures to ours: our rows first, in their order, then what was reported and not run;
    columns `R@k reported` after ours."""
    named = reported.rename(columns={column: f"{column} reported" for column in reported.columns.drop(key)})
    order = {name: place for place, name in enumerate(pd.concat([table[key], reported[key]]).unique())}
    joined = named.merge(table, on=key, how="outer")
    joined = joined.sort_values(key, key=lambda names: names.map(order), kind="stable", ignore_index=True)
    ours = [key, *(name for name in table if name != key and name.split(" ")[0] in reported)]
    return joined[list(dict.fromkeys([*ours, *named, *table]))]


def beside_reported_categories(table: pd.DataFrame, method: str = "CO + RRT (finetuned)") -> pd.DataFrame:
    """Join the reported category accuracy to our recall@1 of a method, which it was taken for.

    Args:
        table: as of `tables.category_table`.
        method: whose rows are shown.
    """
    ours = table[table.method == method]
    joined = ours.assign(**{"category accuracy@1 reported": ours.category.map(REPORTED_CATEGORIES)})
    return joined.filter(regex="^(category$|category accuracy|R@1)")
