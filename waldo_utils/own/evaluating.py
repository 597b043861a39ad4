"""How good models are on photos of one's own: each photo is searched among the others, as in the study's
tables."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils.app import index, index_files, searching
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.data import folders, manifests
from waldo_utils.disk.faults import shorten
from waldo_utils.evaluation import metrics
from waldo_utils.own import suspicions
from waldo_utils.retrieval import exact, reranking
from waldo_utils.retrieval.feature_store import Rows

COLUMNS = {"path", "product", "category", "split"}  # of a list; others are not used
SEPARATORS = (",", ";", "\t", "|")
KS = (1, 5, 10)
SHOWN = 100  # neighbors that are searched, at least
RESAMPLES = 10_000
WORST = 8  # queries to look at


@dataclass(frozen=True)
class Evaluation:
    """What was found; photos are told by their names."""

    facts: dict  # counts, and how the photos were searched
    figures: pd.DataFrame  # method, photos, queries, products, and each metric with `... low` and `... high`
    categories: pd.DataFrame  # of the last method: category, queries, products, each metric
    suspicions: dict[str, list[dict]]
    gallery: Gallery
    neighbors: np.ndarray  # (N, K) of the last method
    worst: list[int]  # rows whose first neighbors are wrong
    passed: str  # what was no photo or was hidden, in one line; "" for nothing


def read_list(source: Path) -> pd.DataFrame:
    """Return a list of photos: `path` as the disk writes it, `product`, and `category` and `split` where it
    has them.

    Its fields are read as those of the study's own lists: perhaps quoted, perhaps with a blank before them.
    The header tells what stands between them.

    Args:
        source: a CSV file; its paths are relative to its folder.

    Raises:
        ValueError: it is no such list; says what is wrong in it.
    """
    lines = manifests.read_lines(source)
    first = lines[0] if lines else ""
    headers = {sep: [name.lower() for name in manifests.csv_fields(first, sep)] for sep in SEPARATORS}
    separator, header = max(headers.items(), key=lambda read: len(COLUMNS & set(read[1])))
    if lacking := {"path", "product"} - set(header):
        raise ValueError(
            f"{source} starts with {shorten(first)!r} and lacks {', '.join(sorted(lacking))}: its first line "
            "names path, product and perhaps category and split, separated by commas, semicolons, tabs or |"
        )
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise ValueError(f"{source} starts with {shorten(first)!r}: name the column {twice[0]} once")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip(f"{separator} \t"):  # an empty row, as spreadsheets leave them
            continue
        fields = manifests.csv_fields(line, separator)
        if len(fields) != len(header) or not fields[header.index("path")]:
            raise ValueError(
                f"{source} line {number} is {shorten(line)!r}: expected {len(header)} fields "
                f"({', '.join(header)}), quoted where they hold {separator!r}"
            )
        rows.append(fields)
    table = pd.DataFrame(rows, columns=header, dtype=str)[[name for name in header if name]]
    if table.empty:
        raise ValueError(f"{source} lists no photo: add some")
    table["path"] = folders.listed(source, table.path)
    if table.path.duplicated().any():
        raise ValueError(f"{source} lists {table.path[table.path.duplicated()].iloc[0]} twice: keep one line")
    return table


def evaluate(source: Path, models: Models, model: str) -> Evaluation:
    """Search each photo of a folder, or of a list, among the others, and count.

    The features are kept as an index, so a second time only what changed is computed. Photos of products with
    one photo are searched in but ask nothing. Of a list with splits, those of the split "test" count, among
    themselves.

    Args:
        source: a folder whose sub-folders name products, or a list as `read_list` reads it.
        models: that make the features.
        model: their name.

    Raises:
        FileNotFoundError, ValueError: there are no photos, or no product has two of them.
    """
    listed = None if source.is_dir() else read_list(source)
    folder = source if listed is None else source.parent
    output = index_files.default_output(source, model)
    listing = None if listed is None else folders.Listing(sorted(listed.path))
    passed = index.update(folder, output, models, model, listing).passed
    opened = index.open_index(output, models)
    gallery, told = opened.gallery, {}
    if listed is not None:
        gallery, told = _labelled(gallery, listed)
    products = gallery.products
    counts = pd.Series(products).map(pd.Series(products).value_counts()).to_numpy()
    asked = np.flatnonzero((products != "") & (counts > 1))
    if not len(asked):
        raise ValueError(
            f"no product of {source} has two photos: put the photos of each product into a sub-folder "
            "of its own"
        )
    if len(set(products) - {""}) < 2:
        raise ValueError(f"{source} holds a single product, which nothing can be taken for: add others")
    copies = gallery.local.order
    features = exact.unit(gallery.embedding[:])
    # Enough for MAP@R once a query's exact copies are left out.
    most = int(counts[asked].max()) + int(np.unique(copies, return_counts=True)[1].max())
    shortlist = min(len(gallery) - 1, max(SHOWN, most))
    neighbors, similarities = exact.nearest_neighbors(features, shortlist)
    orders = {"global descriptor": neighbors}
    if models.reranker is not None:
        depth = neighbors[:, : searching.DEPTH]
        scores = reranking.rerank_scores(models.reranker, gallery.local, gallery.local, depth)
        orders["reranked"] = exact.reorder(neighbors, scores)
    best = list(orders.values())[-1]
    labels = pd.factorize(products)[0]
    figures, values = _figures(orders, labels, copies, asked)
    _, worst = metrics.best_and_worst(best[asked], labels[asked], labels, WORST)
    wrong = ~metrics.hits(best[asked, :1], labels[asked], labels)[:, 0]
    facts = {
        "photos": len(gallery),
        "products": len(set(products) - {""}),
        "queries": len(asked),
        "photos without a product": int((products == "").sum()),
        "products of one photo": int(((products != "") & (counts == 1)).sum()),
        "photos that are exact copies of another": int(len(copies) - len(np.unique(copies))),
        "photos that cannot be read": [entry.fault for entry in opened.unreadable],
        "models": models.weights,
    } | told
    return Evaluation(
        facts,
        figures,
        _by_category(values, gallery.categories[asked], labels[asked]),
        suspicions.find(gallery, neighbors, similarities, labels, asked),
        gallery,
        best,
        [int(asked[row]) for row in worst if wrong[row]],
        passed,
    )


def _labelled(gallery: Gallery, listed: pd.DataFrame) -> tuple[Gallery, dict]:
    """Return the photos of a gallery with the products of a list, those of the split "test" where it has
    one."""
    table = listed.set_index("path").loc[gallery.names]
    told = {}
    extra = sorted(set(listed.columns) - COLUMNS)
    if extra:
        told["columns that were not used"] = extra
    rows = np.arange(len(table))
    if "split" in table:
        if not (table.split == "test").any():
            found = ", ".join(sorted(set(table.split)))
            raise ValueError(f"no photo is of the split test, the list has {found}: name one test")
        rows = np.flatnonzero(table.split == "test")
        told["split"] = "test"
    names = [gallery.names[row] for row in rows]
    categories = table.category if "category" in table else pd.Series("", table.index)
    embedding = gallery.embedding[rows]
    local = Rows(gallery.local.stored, gallery.local.order[rows])
    photo = lambda row: gallery.photo(int(rows[row]))  # noqa: E731
    products = table["product"].to_numpy(object)[rows]
    return Gallery(embedding, local, names, products, categories.to_numpy(object)[rows], photo), told


def _figures(
    orders: dict[str, np.ndarray], labels: np.ndarray, copies: np.ndarray, asked: np.ndarray
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return the table of figures with intervals over products, and the last method's values per query."""
    rows, values = [], {}
    relevant = metrics.relevant_counts(labels)
    for method, order in orders.items():
        hits = metrics.hits(order, labels, labels)
        values = _values(hits[asked], relevant[asked])
        rows.append({"method": method, "photos": "all"} | _with_intervals(values, labels[asked]))
        if len(np.unique(copies)) < len(copies):
            apart = metrics.hits_without_copies(order, labels, labels, copies)
            others = metrics.relevant_without_copies(labels, copies)
            kept = asked[others[asked] > 0]
            if len(kept):
                alone = _values(apart[kept], others[kept])
                told = {"method": method, "photos": "exact copies left out"}
                rows.append(told | _with_intervals(alone, labels[kept]))
    return pd.DataFrame(rows), values


def _values(hits: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Return R@k and MAP@R of each query."""
    values = metrics.per_query(hits, relevant, KS)
    return {name: value for name, value in values.items() if name != "mAP@100"}


def _with_intervals(values: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Return means of values (Q,) and their 95 % intervals over products."""
    low, high = metrics.bootstrap_interval(np.stack([*values.values()], axis=1), labels, RESAMPLES)
    row = {"queries": len(labels), "products": len(np.unique(labels))}
    for i, (name, value) in enumerate(values.items()):
        row |= {name: float(value.mean()), f"{name} low": float(low[i]), f"{name} high": float(high[i])}
    return row


def _by_category(values: dict[str, np.ndarray], categories: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return the means of values (Q,) by category."""
    table = pd.DataFrame({"category": categories, "product": labels} | values)
    groups = table.groupby("category")
    counts = pd.DataFrame({"queries": groups.size(), "products": groups["product"].nunique()})
    return counts.join(groups[list(values)].mean()).reset_index()
