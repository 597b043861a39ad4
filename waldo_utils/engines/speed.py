"""Search by Qdrant's own HNSW, in this process, beside faiss and exact search on the same drawn features."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils.retrieval import approximate, exact
from waldo_utils.speed.timing import in_turns

K = 100  # neighbors
EFFORTS = (100, 400)  # candidates that HNSW keeps
FAISS = ("Flat", "HNSW32")
SENT = 5_000  # points of one request


def engine_table(gallery: np.ndarray, queries: np.ndarray, repeats: int = 3) -> pd.DataFrame:
    """Time exact search, faiss and Qdrant on one gallery, a query at a time, in turns.

    Args:
        gallery: (N, D) float32, unit length.
        queries: (Q, D), likewise.
        repeats: turns of each method.

    Returns:
        One row per engine and effort: `gallery`, `engine`, `effort`, `recall@100` of the exact neighbors,
        `ms per query` (median over turns), `build s`. Where `qdrant-edge-py` is not installed, its figures
        are missing.
    """
    true, _ = exact.nearest_neighbors(queries, K, gallery)
    calls: dict[tuple[str, int], Callable[[], np.ndarray]] = {}
    built: dict[str, float] = {}
    calls["exact", 0] = lambda: _each(lambda q: exact.nearest_neighbors(q, K, gallery)[0], queries)
    for factory in FAISS:
        begin = time.perf_counter()
        index = approximate.build(gallery, factory)
        built[name := f"faiss {factory}"] = time.perf_counter() - begin
        for effort in EFFORTS if "HNSW" in factory else (0,):
            calls[name, effort] = lambda i=index, e=effort: _each(
                lambda q: approximate.search(i, q, K, e)[0], queries
            )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        shard = _edge(gallery, Path(folder))
        built["Qdrant HNSW"] = time.perf_counter() - begin if shard else np.nan
        for effort in EFFORTS if shard else ():
            calls["Qdrant HNSW", effort] = lambda e=effort: _each(lambda q: _ask(shard, q[0], e), queries)
        taken = in_turns({key: call for key, call in calls.items()}, repeats)
        rows = [
            {
                "gallery": len(gallery), "engine": name, "effort": effort,
                "recall@100": np.mean(
                    [len(np.intersect1d(*pair)) / K for pair in zip(true, call(), strict=True)]
                ),
                "ms per query": 1e3 * float(np.median(taken[name, effort])) / len(queries),
                "build s": built.get(name, 0.0),
            }
            for (name, effort), call in calls.items()
        ]  # fmt: skip
        if shard:
            shard.close()
        else:
            rows += [
                {"gallery": len(gallery), "engine": "Qdrant HNSW", "effort": effort} for effort in EFFORTS
            ]
    return pd.DataFrame(rows)


def _each(find: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> np.ndarray:
    """Return what a search finds of one query after the other."""
    return np.concatenate([np.atleast_2d(find(queries[i : i + 1])) for i in range(len(queries))])


def _edge(gallery: np.ndarray, folder: Path):
    """Return Qdrant's engine in this process with the features in it, its HNSW built; None where it is not
    installed."""
    try:
        import qdrant_edge as edge
    except ModuleNotFoundError:
        return None
    config = edge.EdgeConfig(vectors=edge.EdgeVectorParams(size=gallery.shape[1], distance=edge.Distance.Dot))
    shard = edge.EdgeShard.create(str(folder), config)
    for start in range(0, len(gallery), SENT):
        part = gallery[start : start + SENT].tolist()
        points = [edge.Point(start + i, vector, {}) for i, vector in enumerate(part)]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    return shard


def _ask(shard, query: np.ndarray, effort: int) -> np.ndarray:
    import qdrant_edge as edge

    request = edge.QueryRequest(
        limit=K, query=edge.Query.Nearest(query.tolist()), params=edge.SearchParams(hnsw_ef=effort)
    )
    return np.array([point.id for point in shard.query(request)])
