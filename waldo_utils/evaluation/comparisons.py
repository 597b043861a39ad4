"""Paired comparisons of any values that queries have, with intervals over products."""

import numpy as np
import pandas as pd

from waldo_utils.evaluation import metrics


def metric_values(runs: list[np.ndarray], relevant: np.ndarray, name: str) -> np.ndarray:
    """Return (Q,) one metric of each query, mean over seeds.

    Args:
        runs: one (Q, K) bool array per seed: whether neighbor k of query q shows its product.
        relevant: (Q,) photos of its product that the gallery holds; none may be 0.
        name: `R@k` for any k up to K, or `MAP@R`.

    Raises:
        ValueError: a query has nothing to find, or K neighbors do not suffice for the metric.
    """
    if (relevant == 0).any():
        raise ValueError(f"{(relevant == 0).sum()} queries have nothing to find: leave them out")
    if name == "MAP@R":
        return np.mean([metrics.average_precision_at_r(run, relevant) for run in runs], axis=0)
    k, shown = int(name.removeprefix("R@")), min(run.shape[1] for run in runs)
    if k > shown:
        raise ValueError(f"{name} needs {k} neighbors per query, got {shown}: search for more")
    return np.mean([run[:, :k].any(axis=1) for run in runs], axis=0)


def nearest_is_of(orders: list[np.ndarray], names: np.ndarray) -> np.ndarray:
    """Return (Q,) how often the first neighbor of each query has the query's name, mean over seeds.

    Args:
        orders: one (Q, K) array per seed: neighbors, nearest first, rows of `names`; query q is row q.
        names: (Q,) product of each photo, or its category.
    """
    return np.mean([names[np.asarray(order[:, 0])] == names for order in orders], axis=0)


def paired_differences(
    values: dict[str, np.ndarray],
    pairs: list[tuple[str, str]],
    products: np.ndarray,
    resamples: int,
    metric: str,
) -> pd.DataFrame:
    """Tabulate differences between values of the same queries, with 95 % intervals over products.

    Args:
        values: name -> (Q,) one value per query, for example of `metric_values`.
        pairs: (method, baseline): the row is method minus baseline.
        products: (Q,) product of each query.
        resamples: of the bootstrap; all pairs share its draws.
        metric: what the values are.

    Returns:
        One row per pair, as of `results.difference_table`: `metric`, `method`, `baseline`, `difference`,
        `low`, `high` (fractions), `queries`, `products`.
    """
    changes = np.stack(
        [values[method] - values[baseline] for method, baseline in pairs], axis=1
    )  # (Q, pairs)
    low, high = metrics.bootstrap_interval(changes, products, resamples)
    table = pd.DataFrame(pairs, columns=["method", "baseline"])
    table.insert(0, "metric", metric)
    table = table.assign(difference=changes.mean(axis=0), low=low, high=high)
    return table.assign(queries=len(products), products=len(np.unique(products)))


def sentences(differences: pd.DataFrame) -> str:
    """Put each paired difference into a sentence that holds for any data: its verdict comes from its
    interval."""
    lines = []
    for row in differences.itertuples():
        bounds = f"{100 * row.difference:+.2f} points ({100 * row.low:+.2f} to {100 * row.high:+.2f})"
        if row.low <= 0 <= row.high:
            verdict = "no difference found"
        else:
            verdict = "higher" if row.low > 0 else "lower"
        lines.append(f"{row.metric} of {row.method} against {row.baseline}: {bounds}, {verdict}")
    return "\n".join(lines)
