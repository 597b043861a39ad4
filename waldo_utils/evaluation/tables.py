"""The reported figures, and the tables that stand beside them."""

import numpy as np
import pandas as pd

from waldo_utils.evaluation import metrics
from waldo_utils.study import Study


def count_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Count photos, products and categories of each split: columns `split`, `photos`, `products`,
    `categories`."""
    counted = manifest.groupby("split", sort=False).agg(
        photos=("path", "size"), products=("label", "nunique"), categories=("category", "nunique")
    )
    order = [split for split in ("train", "validation", "test") if split in counted.index]
    return counted.loc[order].reset_index()


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
    """Pick rows for a sheet of products that are easily confused: of one family where families are known,
    then of its category."""
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
    hits: dict[str, list[np.ndarray]], products: np.ndarray, relevant: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Tabulate the metrics of several methods, each run with several seeds, by the protocol "clean".

    Queries without anything to find are counted and left out. All methods share the bootstrap's draws.

    Args:
        hits: method -> one (Q, K) bool array per seed: whether neighbor k of query q shows its product.
        products: (Q,) product of each query; the bootstrap resamples products.
        relevant: (Q,) photos of its product that the gallery holds, the query itself not counted.
        resamples: of the bootstrap.

    Returns:
        One row per method: `method`; `R@1`, `R@10`, `R@100`, `MAP@R` and `mAP@100` (means over seeds; those
        that need more than K neighbors are left out); of each `... low` and `... high` (95 % interval
        of that mean over products); `R@1 seed spread` (standard deviation over seeds), `queries`,
        `left out`, `products`, `seeds`, `protocol`.
    """
    found = relevant > 0
    means = {method: _seed_means(runs, relevant, found) for method, runs in hits.items()}
    names = list(next(iter(means.values())))
    values = np.stack([column for columns in means.values() for column in columns.values()], axis=1)
    low, high = (
        bound.reshape(len(hits), -1)
        for bound in metrics.bootstrap_interval(values, products[found], resamples)
    )
    rows = []
    for i, (method, runs) in enumerate(hits.items()):
        row = {"method": method} | {name: float(means[method][name].mean()) for name in names}
        for j, name in enumerate(names):
            row[f"{name} low"], row[f"{name} high"] = float(low[i, j]), float(high[i, j])
        row["R@1 seed spread"] = float(np.std([run[found, 0].mean() for run in runs]))
        rows.append(row | _counts(products, found) | {"seeds": len(runs), "protocol": "clean"})
    return pd.DataFrame(rows)


def difference_table(
    hits: dict[str, list[np.ndarray]],
    pairs: list[tuple[str, str]],
    products: np.ndarray,
    relevant: np.ndarray,
    resamples: int,
) -> pd.DataFrame:
    """Tabulate paired differences of recall@1 and MAP@R between methods, with 95 % intervals over products.

    Args:
        hits, products, relevant, resamples: as for `hit_table`.
        pairs: (method, baseline): the row is method minus baseline.

    Returns:
        One row per metric and pair: `metric`, `method`, `baseline`, `difference`, `low`, `high` (fractions),
        `queries`, `left out`, `products`, `seeds`, `protocol`.
    """
    found = relevant > 0
    means = {method: _seed_means(runs, relevant, found) for method, runs in hits.items()}
    compared = [name for name in ("R@1", "MAP@R") if name in means[pairs[0][0]]]
    keys = [(name, method, baseline) for name in compared for method, baseline in pairs]
    values = np.stack(
        [means[method][name] - means[baseline][name] for name, method, baseline in keys], axis=1
    )
    low, high = metrics.bootstrap_interval(values, products[found], resamples)
    table = pd.DataFrame(keys, columns=["metric", "method", "baseline"])
    table = table.assign(difference=values.mean(axis=0), low=low, high=high, **_counts(products, found))
    return table.assign(seeds=[len(hits[method]) for _, method, _ in keys], protocol="clean")


def _seed_means(
    runs: list[np.ndarray], relevant: np.ndarray, found: np.ndarray, ks: tuple[int, ...] = (1, 10, 100)
) -> dict[str, np.ndarray]:
    """Return name -> (Q',) mean over seeds of each metric, of the queries that have anything to find."""
    by_seed = [metrics.per_query(run[found], relevant[found], ks) for run in runs]
    return {name: np.mean([values[name] for values in by_seed], axis=0) for name in by_seed[0]}


def _counts(products: np.ndarray, found: np.ndarray) -> dict[str, int]:
    return {
        "queries": int(found.sum()),
        "left out": int((~found).sum()),
        "products": len(np.unique(products[found])),
    }


def best_epoch(recall: pd.Series) -> int:
    """Return the epoch of the highest value, the later one at a tie, as the training keeps it; epochs count
    from 0."""
    return int(np.flatnonzero(recall.to_numpy() == recall.max())[-1])


def selection_table(
    log: pd.DataFrame, watched: list[dict[int, np.ndarray]], products: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Tabulate what the choice of the epoch and the way to leave out the query do to recall@1 of CO.

    The protocol "clean" takes the epoch that validation products choose and leaves out the query by its row
    number; "as published" takes the epoch that is best on the test photos themselves, and drops the first
    neighbor whatever it is. The rows between change one thing at a time.

    Args:
        log: of all seeds: columns `seed`, `epoch`, `validation R@1`.
        watched: for each seed, epoch -> (2, Q) bool: whether the first neighbor of each test query is right,
            the query left out by row number, and by position. Where it lacks epochs, the rows that need them
            are left out.
        products: (Q,) product of each test query.
        resamples: of the bootstrap.

    Returns:
        One row each: `protocol`, `method`, `epoch chosen on`, `query left out by`, `epochs` (one per seed),
        `R@1`, `R@1 low`, `R@1 high`, the paired `difference` to the first row with `low` and `high`,
        `queries`, `seeds`.
    """
    runs = [run.set_index("epoch") for _, run in log.groupby("seed")]
    complete = all(set(run.index) == set(hits) for run, hits in zip(runs, watched, strict=True))
    rows, columns = [], []
    for protocol, choice, left_out in (
        ("clean", "validation products", "row number"),
        ("between", "nothing: the last epoch", "row number"),
        ("between", "validation products", "position"),
        ("between", "test photos", "row number"),
        ("as published", "test photos", "position"),
    ):
        if choice != "validation products" and not complete:
            continue
        way, epochs = ("row number", "position").index(left_out), []
        for run, hits in zip(runs, watched, strict=True):
            if choice == "test photos":
                epochs.append(best_epoch(pd.Series([hits[epoch][way].mean() for epoch in run.index])))
            else:
                epochs.append(best_epoch(run["validation R@1"]) if "validation" in choice else run.index[-1])
        columns.append(
            np.mean([hits[epoch][way] for hits, epoch in zip(watched, epochs, strict=True)], axis=0)
        )
        rows.append((protocol, "CO", choice, left_out, " ".join(map(str, epochs))))
    values = np.stack(columns, axis=1)  # (Q, rows)
    low, high = metrics.bootstrap_interval(
        np.concatenate([values, values - values[:, :1]], axis=1), products, resamples
    )
    table = pd.DataFrame(
        rows, columns=["protocol", "method", "epoch chosen on", "query left out by", "epochs"]
    )
    count, means = len(rows), values.mean(axis=0)
    table = table.assign(**{"R@1": means, "R@1 low": low[:count], "R@1 high": high[:count]})
    table = table.assign(difference=means - means[0], low=low[count:], high=high[count:])
    return table.assign(queries=len(products), seeds=len(runs))


def duplicate_table(
    hits: dict[str, list[np.ndarray]],
    without: dict[str, list[np.ndarray]],
    products: np.ndarray,
    copies: np.ndarray,
    resamples: int,
) -> pd.DataFrame:
    """Tabulate recall@1 with exact duplicates in the gallery and without: a query finds its own copy too
    easily.

    Args:
        hits: method -> one (Q, K) bool array per seed, leave-one-out, as for `hit_table`.
        without: the same with each query's exact duplicates taken out (`metrics.hits_without_copies`);
            queries that then have nothing to find are left out.
        products: (Q,) product of each query.
        copies: (Q,) equal numbers for photos of equal bytes.
        resamples: of the bootstrap.

    Returns:
        One row per method: `method`, `copies` (queries that have an exact duplicate), `R@1`, `R@1 without
        copies`, each with its 95 % interval over products (`... low`, `... high`); `queries`,
        `queries without copies`, `seeds`, `protocol`.
    """
    first, second = (
        hit_table(
            {method: [run[:, :1] for run in runs] for method, runs in each.items()},
            products,
            count,
            resamples,
        )
        for each, count in (
            (hits, metrics.relevant_counts(products)),
            (without, metrics.relevant_without_copies(products, copies)),
        )
    )
    table = first[["method"]].assign(copies=int((metrics.relevant_counts(copies) > 0).sum()))
    for suffix, part in (("", first), (" without copies", second)):
        for name in ("R@1", "R@1 low", "R@1 high"):
            table[name.replace("R@1", f"R@1{suffix}")] = part[name]
    table["queries"], table["queries without copies"] = first.queries, second.queries
    return table.assign(seeds=first.seeds, protocol="clean")


def percent(table: pd.DataFrame):
    """Return the table styled for display: fractions in per cent, with their 95 % intervals in brackets.

    A column with neighbors `... low` and `... high` takes them in; figures that are missing are "not run".
    Rows may have equal names, which are not shown.
    """
    table = table.reset_index(drop=True)
    shown = pd.DataFrame(index=table.index)
    bounds = {c: (f"{c} low", f"{c} high") for c in table.columns} | {"difference": ("low", "high")}
    bounds = {c: pair for c, pair in bounds.items() if set(pair) <= set(table.columns)}
    taken = {name for pair in bounds.values() for name in pair}
    for column in table.columns:
        if column in taken:
            continue
        sign = "+" if column == "difference" or column.endswith(" gain") else ""
        if column not in bounds and "@" not in column:
            shown[column] = table[column]
            continue
        parts = table[[column, *bounds.get(column, ())]].to_numpy(float)
        shown[column] = [_interval_text(row, sign) for row in parts]
    return shown.style.hide(axis="index").set_properties(**{"white-space": "nowrap"})


def _interval_text(row: np.ndarray, sign: str) -> str:
    """Return "54.11 (50.9–57.3)" of fractions (value, low, high), or of a value alone."""
    if np.isnan(row[0]):
        return "not run"
    value = f"{100 * row[0]:{sign}.2f}"
    bounds = [f"{100 * part:{sign}.{2 if sign else 1}f}" for part in row[1:]]
    return f"{value} ({' to '.join(bounds) if sign else '–'.join(bounds)})" if bounds else value


def category_table(
    orders: dict[str, np.ndarray], labels: np.ndarray, categories: np.ndarray, resamples: int
) -> pd.DataFrame:
    """Tabulate the metrics and the category accuracy of the nearest neighbor, by category, leave-one-out.

    Products are resampled within their category. The macro mean counts every category alike; its interval
    comes from the same resamples.

    Args:
        orders: method -> (Q, K) neighbors, rows of `labels`.
        labels: (Q,) product of each photo.
        categories: (Q,) category of each photo.
        resamples: of the bootstrap.

    Returns:
        One row per method and category, and a row "macro mean" per method: `method`, `category`; `R@1`,
        `R@10`, `MAP@R`, `mAP@100` (those that K neighbors suffice for) and `category accuracy`, each with its
        95 % interval over products (`... low`, `... high`); `queries`, `products`, `protocol`.
    """
    relevant = metrics.relevant_counts(labels)
    found = relevant > 0
    labels_found, categories_found, tables = labels[found], categories[found], []
    for method, neighbors in orders.items():
        hits = metrics.hits(neighbors, labels, labels)
        per_query = _seed_means([hits], relevant, found, ks=(1, 10))
        right = categories[np.asarray(neighbors[:, 0])] == categories
        per_query["category accuracy"] = right[found].astype(float)
        values, names = np.stack(list(per_query.values()), axis=1), list(per_query)
        rows, draws = [], []
        for i, category in enumerate(sorted(set(categories_found))):
            own = categories_found == category
            draws.append(metrics.bootstrap_means(values[own], labels_found[own], resamples, seed=i))
            count = {"queries": int(own.sum()), "products": len(np.unique(labels_found[own]))}
            rows.append(_with_bounds(category, names, values[own].mean(axis=0), draws[-1]) | count)
        macro = np.mean([[row[name] for name in names] for row in rows], axis=0)
        count = {"queries": len(labels_found), "products": len(np.unique(labels_found))}
        rows.append(_with_bounds("macro mean", names, macro, np.mean(draws, axis=0)) | count)
        tables.append(pd.DataFrame(rows).assign(protocol="clean"))
        tables[-1].insert(0, "method", method)
    return pd.concat(tables, ignore_index=True)


def _with_bounds(category: str, names: list[str], means: np.ndarray, draws: np.ndarray) -> dict:
    low, high = metrics.percentile_interval(draws)
    row = {"category": category}
    for name, *figures in zip(names, means, low, high, strict=True):
        row |= dict(zip((name, f"{name} low", f"{name} high"), map(float, figures), strict=True))
    return row


def verdicts(differences: pd.DataFrame) -> pd.DataFrame:
    """Put each paired difference into words: its 95 % interval lies above zero, below it, or holds it.

    Returns:
        One row per difference: `metric`, `method`, `baseline`, `verdict`.
    """
    words = np.select([differences.low > 0, differences.high < 0], ["better", "worse"], "no difference found")
    return differences[["metric", "method", "baseline"]].assign(verdict=words)


def with_gains(rows: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Put what each method gains on its baseline beside its figures.

    Args:
        rows: as of `hit_table`.
        differences: as of `difference_table`, each method with one baseline.

    Returns:
        One row per method: `method`; `R@1` and `MAP@R`, and `R@1 gain` and `MAP@R gain`, each with `... low`
        and `... high`; `verdict` (of R@1); `queries`, `products`, `seeds`. What has no baseline has no gain.
    """
    figures = [name for name in ("R@1", "MAP@R") if name in rows]
    columns = [f"{name}{bound}" for name in figures for bound in ("", " low", " high")]
    table = rows[["method", *columns, "queries", "products", "seeds"]]
    for place, name in enumerate(figures):
        own = differences[differences.metric == name].set_index("method")
        gains = own[["difference", "low", "high"]].set_axis(
            [f"{name} gain{b}" for b in ("", " low", " high")], axis=1
        )
        if place == 0:
            gains["verdict"] = verdicts(own.reset_index()).verdict.to_numpy()
        table = table.merge(gains, how="left", left_on="method", right_index=True)
    return table


def runs(study: Study) -> pd.DataFrame:
    """List what the paper and the report were measured on, and whether a profile runs it.

    What other profiles have run here does not count: a notebook shows the same wherever it runs.
    """
    sop = study.data.source == "sop"
    measured = {
        "Stanford Online Products": sop,
        "Stanford Online Products with the published backbone": sop and study.global_.backbone == "resnet50",
        "Products-10k": sop and study.data.transfer == "products10k",
    }
    return pd.DataFrame(
        [{"measured on": name, "here": "run" if ran else "not run"} for name, ran in measured.items()]
    )
