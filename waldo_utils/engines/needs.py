"""What a million to a billion photos would need, engine by engine: arithmetic on what was measured,
none of it run."""

import pandas as pd

from waldo_utils.speed.benchmark import SERVER_MEMORY, SOP_DEPTH

PHOTOS = (10**6, 10**7, 10**8, 10**9)
QDRANT_FACTOR = 1.5  # of N x D x 4 bytes, by Qdrant's documentation
INDEXES = {
    "exact": ("Flat", 0),
    "faiss HNSW32": ("HNSW32", 128),
    "faiss IVF,PQ32": ("IVF,PQ32", 16),
}  # engine -> index and effort of the measured table


def engine_needs(indexes: pd.DataFrame, width: int, photo_seconds: float, pair_ms: float) -> pd.DataFrame:
    """Work out what search of large galleries needs, from the largest gallery that was measured.

    Memory and exact search grow with the gallery. The graph of HNSW is taken to cost the same time in any
    gallery, and IVF to visit a fixed share of it: both are guesses, and what they find falls with the
    gallery.

    Args:
        indexes: of `approximate.index_table`.
        width: D of the global features.
        photo_seconds: that the features of one photo take on this machine.
        pair_ms: that reranking one pair takes on it.

    Returns:
        One row per gallery and engine: `photos`, `engine`, `memory GB`, `machines` of 256 GB that hold it,
        `extraction hours here`, `s per query` (missing for Qdrant, which was not measured at this size),
        `rerank 100 s`, `recall@100` (in the largest measured gallery).
    """
    largest = indexes[indexes.gallery == indexes.gallery.max()]
    rows = []
    for photos in PHOTOS:
        common = {
            "extraction hours here": photos * photo_seconds / 3600, "rerank 100 s": SOP_DEPTH * pair_ms / 1e3,
        }  # fmt: skip
        for engine, (index, effort) in INDEXES.items():
            measured = largest[(largest["index"] == index) & (largest.effort == effort)].iloc[0]
            grown = photos / measured.gallery
            slower = 1.0 if index.startswith("HNSW") else grown
            rows.append({
                "photos": photos, "engine": engine, "memory GB": measured.MB * grown / 1e3,
                "s per query": measured["p50 ms"] * slower / 1e3, "recall@100": measured["recall@100"],
                **common,
            })  # fmt: skip
        memory = QDRANT_FACTOR * photos * width * 4 / 1e9
        rows.append({"photos": photos, "engine": "Qdrant (documented)", "memory GB": memory, **common})
    table = pd.DataFrame(rows)
    machines = (table["memory GB"] * 1e9 / SERVER_MEMORY).apply(lambda share: -int(-share // 1))
    table.insert(3, "machines", machines)
    return table


def local_needs(storage: pd.DataFrame, disk: float = 1e12) -> pd.DataFrame:
    """Work out what the local features of large galleries take on disk,
    and what fewer bits cost in this study.

    Args:
        storage: the study's table of that name: what each kind takes, and the recall that it leaves.
        disk: bytes of one disk.

    Returns:
        One row per kind: `storage`, `bytes per photo`, `R@1` and `lost R@1` (beside float32, measured on this
        study's few photos), `TB` for each gallery, and `photos per disk`.
    """
    table = storage[["storage", "bytes per photo", "R@1"]].copy()
    table["lost R@1"] = table["R@1"].iloc[0] - table["R@1"]
    for photos in PHOTOS:
        table[f"TB of {photos:,}"] = photos * table["bytes per photo"] / 1e12
    table["photos per disk"] = (disk // table["bytes per photo"]).astype(int)
    return table
