"""What a notebook's tables say, in two sentences that hold for any run: every verdict comes from an
interval."""

import pandas as pd


def verdict(low: float, high: float) -> str:
    """Return "higher", "lower" or "no difference found", as an interval lies above zero, below it, or holds
    it."""
    if low <= 0 <= high:
        return "no difference found"
    return "higher" if low > 0 else "lower"


def _points(row: pd.Series) -> str:
    """Return a difference with its interval and verdict, as "+1.20 points (0.40 to 2.10), higher"."""
    low, high = 100 * row.low, 100 * row.high
    return f"{100 * row.difference:+.2f} points ({low:+.2f} to {high:+.2f}), {verdict(low, high)}"


def _listed(names: list[str]) -> str:
    """Return names as "a, b and c"; "none" for no name."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"


def co(table: pd.DataFrame, selection: pd.DataFrame) -> str:
    """Read what a reranker can win on CO, and what the published protocol adds to it.

    Args:
        table: metrics of CO, as of `tables.hit_table`.
        selection: as of `tables.selection_table`.
    """
    row = table[table.method == "CO"].iloc[0]
    last = [name for name in ("R@10", "R@100") if name in table][-1]
    first = (
        f"The first neighbor is right for {row['R@1']:.1%} of the queries and one of the first {last[2:]} "
        f"for {row[last]:.1%}: the {100 * (row[last] - row['R@1']):.1f} points between are what a reranker "
        "can win."
    )
    published = selection[selection.protocol == "as published"]
    if published.empty:
        return f"{first} What the published protocol adds was not run."
    return f"{first} Against the protocol clean, the published one gives {_points(published.iloc[0])}."


def reranking(table: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Read which steps of the published table hold here, and what the global score adds.

    Args:
        table: metrics of every way to rerank, as of `tables.hit_table`.
        differences: as of `tables.difference_table`.
    """
    steps = [("CO + RRT (frozen)", "CO"), ("CO + RRT (finetuned)", "CO + RRT (frozen)")]
    rows = differences[differences.metric == "R@1"].set_index(["method", "baseline"])
    read = [
        f"{method} against {baseline} {_points(rows.loc[(method, baseline)])}" for method, baseline in steps
    ]
    recall = table.set_index("method")["R@1"]
    alone, mixed = (recall[f"CO + RRT (finetuned){end}"] for end in ("", " + global score"))
    return (
        f"The two steps of the published table, in recall@1 here: {'; '.join(read)}. With the global score "
        f"added, recall@1 of CO + RRT (finetuned) goes from {alone:.1%} to {mixed:.1%}."
    )


def data(counts: pd.DataFrame, copies: int) -> str:
    """Read how many queries every later figure rests on, and how many of them are easy.

    Args:
        counts: as of `tables.count_table`.
        copies: photos of all splits that are byte for byte an earlier one.
    """
    row = counts.set_index("split").loc["test"]
    easy = (
        "No photo is byte for byte another one's copy."
        if not copies
        else (
            f"{copies:,} photos of all {counts.photos.sum():,} are byte for byte an earlier one: "
            "a query with such a copy is easy, however good the model."
        )
    )
    return (
        f"Recall is a share of {row.photos:,} test photos, and its interval is drawn over their "
        f"{row.products:,} products. {easy}"
    )


def transforms(grid: pd.DataFrame, trainings: pd.DataFrame, method: str = "CO + RRT (finetuned)") -> str:
    """Read which transforms of the test photos, and which of the training, move recall@1.

    Args:
        grid: as of `ablations.transform_grid`.
        trainings: as of `ablations.training_table`, the first row being the one compared with.
        method: whose rows of the grid are read.
    """
    rows = grid[(grid.method == method) & (grid.stage == "both")]
    fell, rose = rows[rows.high < 0], rows[rows.low > 0]
    worst = ""
    if len(fell):
        lowest = fell.loc[fell.difference.idxmin()]
        worst = (
            f", most with {lowest['transform']} ({lowest.severity}), by {-100 * lowest.difference:.1f} points"
        )
    read = [f"{row.training}: {_points(row)}" for row in trainings.iloc[1:].itertuples()]
    return (
        f"Where both stages see the transform, recall@1 of {method} falls in {len(fell)} of {len(rows)} "
        f"cases and rises in {len(rose)}{worst}; in the others no difference was found. Trained otherwise "
        f"than with {trainings.training.iloc[0]}, {'; '.join(read)}."
    )


def transfer(table: pd.DataFrame, main: pd.DataFrame, method: str = "CO + RRT (finetuned)") -> str:
    """Read what unseen kinds of products cost, and what reranking gives there.

    Args:
        table: as of `transfer.table`.
        main: the main table, of the products that the models were trained for.
        method: that is read.
    """
    there = table[table.gallery == "test among test"].set_index("method")
    ours, theirs = main.set_index("method").loc[method], there.loc[method]
    apart = theirs["R@1 high"] < ours["R@1 low"] or theirs["R@1 low"] > ours["R@1 high"]
    read = [
        f"{name}, from {rows['R@1']['CO']:.1%} to {rows['R@1'][method]:.1%}"
        for name, rows in (
            (name, part.set_index("method")) for name, part in table.groupby("gallery", sort=False)
        )
    ]
    return (
        f"Recall@1 of {method} is {theirs['R@1']:.1%} on kinds of products that it has not seen and "
        f"{ours['R@1']:.1%} on its own, and the two intervals {'lie apart' if apart else 'overlap'}. "
        f"Reranking takes recall@1 of CO, {'; '.join(read)}; how many photos of the right "
        "product a gallery holds makes the two incomparable."
    )


def every_set(sets: pd.DataFrame) -> str:
    """Read on which sets each method is better or worse than the untrained network, best and worst told.

    Args:
        sets: as of `transfer.every_set`.
    """
    gains = sets.dropna(subset=["R@1 gain"])
    lines = []
    for method, rows in gains.groupby("method", sort=False):
        best, worst = rows.loc[rows["R@1 gain"].idxmax()], rows.loc[rows["R@1 gain"].idxmin()]
        lines.append(
            f"- {method}: {best['R@1 gain']:+.1%} on {best['set']} ({best['verdict']}), "
            f"{worst['R@1 gain']:+.1%} on {worst['set']} ({worst['verdict']})"
        )
    return "Recall@1 against ImageNet's network with nothing trained, best and worst set:\n\n" + "\n".join(
        lines
    )


def categories(table: pd.DataFrame, openset: pd.DataFrame, method: str = "CO + RRT (finetuned)") -> str:
    """Read the easiest and the hardest category, and what a threshold costs.

    Args:
        table: as of `tables.category_table`.
        openset: as of `openset.openset_table`.
        method: that is read.
    """
    rows = table[(table.method == method) & (table.category != "macro mean")].set_index("category")["R@1"]
    row = openset.set_index("method").loc[method]
    return (
        f"Recall@1 of {method} lies between {rows.min():.1%} ({rows.idxmin()}) and {rows.max():.1%} "
        f"({rows.idxmax()}). A threshold that keeps 95 % of the answerable validation queries keeps "
        f"{row['true accept']:.1%} of the test queries whose product is there, and lets "
        f"{row['false accept']:.1%} pass whose product is not."
    )


def depth(cells: pd.DataFrame, baselines: pd.DataFrame, learned: str = "CO + RRT (finetuned)") -> str:
    """Read what the protocol alone changes, and which baselines the learned reranker beats.

    Args:
        cells: differences of cells of the grid to the published one, as of `depths.cell_differences`.
        baselines: as of `reorderings.baseline_differences`.
        learned: the reranker.
    """
    clear = cells[(cells.low > 0) | (cells.high < 0)]
    rows = baselines[
        (baselines.metric == "R@1") & (baselines.method == learned) & (baselines.baseline != "CO")
    ]
    beaten = rows[rows.low > 0].baseline.tolist()
    ahead = rows[rows.high < 0].baseline.tolist()
    return (
        f"{len(clear)} of {len(cells)} changes of depth, crop or flip move recall@1 by more than chance: "
        f"{_listed(clear.method.tolist())}. Of the baselines, {learned} is higher in recall@1 than "
        f"{_listed(beaten)} and lower than {_listed(ahead)}; from the others no difference was found."
    )


def results(differences: pd.DataFrame, transfer_table: pd.DataFrame) -> str:
    """Read which steps are found on this profile's photos, and how many there are.

    Args:
        differences: of the main table, as of `tables.difference_table`.
        transfer_table: as of `transfer.table`.
    """
    rows = differences[differences.metric == "R@1"]
    words = [verdict(row.low, row.high) for row in rows.itertuples()]
    pairs = [f"{row.method} minus {row.baseline}" for row in rows.itertuples()]
    found = [pair for pair, word in zip(pairs, words, strict=True) if word == "higher"]
    lost = [pair for pair, word in zip(pairs, words, strict=True) if word == "lower"]
    return (
        f"Of {len(rows)} differences in recall@1, {len(found)} are found higher ({_listed(found)}) and "
        f"{len(lost)} lower ({_listed(lost)}), on {rows.queries.iloc[0]:,} queries of "
        f"{rows.products.iloc[0]:,} products. "
        f"Products of unseen kinds were asked for {transfer_table.queries.iloc[0]:,} times."
    )


def speed(storage: pd.DataFrame, indexes: pd.DataFrame) -> str:
    """Read in how few bits local features can be kept, and what an approximate index saves.

    Args:
        storage: paired differences to float32, as of `storage.storage_table`.
        indexes: as of `approximate.index_table`.
    """
    worse = storage[(storage.metric == "R@1") & (storage.high < 0)].method.tolist()
    largest = indexes[indexes.gallery == indexes.gallery.max()]
    exact = largest[largest["index"] == "Flat"].iloc[0]
    others = largest[(largest["index"] != "Flat") & (largest["recall@100"] >= 0.95)]
    saved = "none of the approximate indexes finds 95 % of the first 100 neighbors"
    if len(others):
        best = others.loc[others["p50 ms"].idxmin()]
        saved = f"{best['index']} finds {best['recall@100']:.0%} of the first 100 in {best['p50 ms']:.2f} ms"
    fewer = f"kept as {_listed(worse)}" if worse else "kept in any of the fewer bits"
    return (
        f"Against float32, recall@1 falls by {'more' if worse else 'no more'} than chance when local "
        f"features are {fewer}. "
        f"Among {largest.gallery.iloc[0]:,} photos exact search takes {exact['p50 ms']:.2f} ms a query, "
        f"and {saved}."
    )


def places(table: pd.DataFrame, differences: pd.DataFrame, own: pd.DataFrame) -> str:
    """Read how often the place wins over the product,
    and which rows are at or above CO on both kinds of photos.

    Args:
        table: of products that share their places, as of `product_or_place.table`.
        differences: to CO there, as of `product_or_place.differences`.
        own: differences to CO on the study's own test photos.
    """
    wins = table.set_index("method")["place@1"]
    alike = "CO + local matching, all patches alike"
    judged = [part[(part.metric == "R@1") & (part.baseline == "CO")] for part in (differences, own)]
    lower = set().union(*(part[part.high < 0].method for part in judged))
    higher = set.intersection(*(set(part[part.low > 0].method) for part in judged))
    rows = differences[differences.metric == "R@1"].set_index(["method", "baseline"])
    swapped = [pair for pair in rows.index if "swapped" in pair[0] and pair[1] != "CO"]
    gains = "; ".join(
        f"{method} against {baseline} {_points(rows.loc[(method, baseline)])}" for method, baseline in swapped
    )
    return (
        f"The first neighbor is another product in the same place for {wins['CO']:.1%} of the queries by CO,"
        f" {wins[alike]:.1%} by local matching with all patches alike and {wins.min():.1%} by"
        f" {wins.idxmin()}. Below CO in recall@1, on either kind of photos:"
        f" {_listed([m for m in table.method if m in lower])}; above it on both:"
        f" {_listed([m for m in table.method if m in higher])}. What swapped backdrops add, in recall@1:"
        f" {gains}."
    )


def demo(rejected: pd.DataFrame, searches: pd.DataFrame, seconds: float = 0.5) -> str:
    """Read how often the page errs about an absent product, and whether it answers in time.

    Args:
        rejected: as of `rejection.table`.
        searches: as of `searching.benchmark_depths`.
        seconds: that an answer may take.
    """
    row = rejected.iloc[0]
    whole = searches[searches.step == "total"].iloc[0]
    kept = "within" if whole["p95 ms"] <= 1000 * seconds else "beyond"
    return (
        f"{row.false_accept:.0%} of the products that are absent are taken for present, and "
        f"{row.false_reject:.0%} of those that are there for absent. At depth {whole.depth}, 95 of "
        f"100 searches take at most {whole['p95 ms']:.0f} ms, {kept} the {1000 * seconds:.0f} "
        "ms that were the aim."
    )


def own(figures: pd.DataFrame, judged: pd.DataFrame) -> str:
    """Read how good a network is on each folder of one's own, and what training on it adds.

    Args:
        figures: as of `first_try.evaluate`.
        judged: as of `first_try.train`.
    """
    lines = []
    for folder, rows in judged.groupby("folder", sort=False):
        row = figures[figures.folder == folder].iloc[0]
        gains = ", ".join(f"{gain.metric} {_points(gain)}" for _, gain in rows.iterrows())
        lines.append(
            f"- {folder}: with nothing trained the first neighbor is right for {row['R@1']:.1%} of "
            f"{row.queries:,} photos of {row.products} products; trained against that, on products that "
            f"chose nothing: {gains}."
        )
    return "\n".join(lines)
