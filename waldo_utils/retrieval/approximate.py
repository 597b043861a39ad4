"""Approximate indexes of global features by faiss's factory strings: built, searched, kept on disk, compared
with exact search."""

import hashlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from waldo_utils.disk.artifacts import write_atomically
from waldo_utils.retrieval.exact import check_features, nearest_neighbors

# Factory string -> the efforts at which it is searched: lists visited (nprobe), or candidates kept
# (efSearch).
INDEXES = {"Flat": (0,), "IVF{lists},Flat": (4, 16, 64), "IVF{lists},PQ32": (16, 64), "HNSW32": (32, 128)}
PER_LIST = 39  # features that a list is trained on: the fewest that faiss takes without a warning
ROUNDS = 10  # of k-means, which finds the lists
SIMILARITIES = 50_000_000  # held at once in the exact search of large galleries
DIGEST = 32  # bytes of SHA-256 at the end of a file


def drawn_gallery(embedding: np.ndarray, labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Draw features like the study's: a Gaussian of the spread within products around each photo's feature.

    Args:
        embedding: (N, D) global features, unit length.
        labels: (N,) product of each; a product needs two photos to tell of the spread.
        count: features to draw.
        seed: of the draw.

    Returns:
        (count, D) float32, unit length.

    Raises:
        ValueError: no product has two photos.
    """
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.max() < 2:
        raise ValueError("no product has two photos: there is no spread within products to draw from")
    means = np.zeros((len(counts), embedding.shape[1]))
    np.add.at(means, index, embedding)
    residual = embedding - (means / counts[:, None])[index]  # (N, D)
    covariance = residual.T @ residual / (len(residual) - len(counts))
    values, vectors = np.linalg.eigh(covariance)
    # (D, D), rows: directions by length
    spread = (vectors * np.sqrt(values.clip(min=0))).T.astype(np.float32)
    rng = np.random.default_rng(seed)
    drawn = np.empty((count, embedding.shape[1]), np.float32)
    for start in range(0, count, 100_000):
        part = drawn[start : start + 100_000]
        part[:] = embedding[rng.integers(len(embedding), size=len(part))]
        part += rng.standard_normal(part.shape, dtype=np.float32) @ spread
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return drawn


def build(features: np.ndarray, factory: str):
    """Return a faiss index of features for search by inner product.

    Args:
        features: (N, D) unit length.
        factory: faiss's description; `{lists}` becomes 4 * sqrt(N), as faiss's guidelines have it.

    Raises:
        ValueError: features are not finite or not of unit length, or faiss does not know the factory string.
    """
    import faiss

    check_features("gallery", features)
    lists = max(1, min(round(4 * len(features) ** 0.5), len(features) // PER_LIST))
    try:
        index = faiss.index_factory(
            features.shape[1], factory.format(lists=lists), faiss.METRIC_INNER_PRODUCT
        )
    except RuntimeError:
        raise ValueError(f"faiss has no index {factory!r}: choose one like {', '.join(INDEXES)}") from None
    if isinstance(index, faiss.IndexIVFPQ):
        index.do_polysemous_training = False  # minutes of annealing for a filter that is not used here
        index.pq.cp.min_points_per_centroid = 1  # small galleries: no warnings
    if isinstance(index, faiss.IndexIVF):
        index.cp.niter = ROUNDS
    if not index.is_trained:
        sample = np.random.default_rng(0).permutation(len(features))[: max(PER_LIST * lists, 10_000)]
        index.train(np.ascontiguousarray(features[np.sort(sample)], np.float32))
    index.add(np.ascontiguousarray(features, np.float32))
    return index


def search(index, queries: np.ndarray, k: int, effort: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the neighbors (Q, k) that an index finds, -1 where it finds fewer, and their similarities (Q,
    k).

    Args:
        index: of `build` or `load`.
        queries: (Q, D) unit length.
        k: neighbors per query.
        effort: lists that an IVF index visits, or candidates that HNSW keeps; a flat index needs none.

    Raises:
        ValueError: queries are not finite, not of unit length, or of another width than the index.
    """
    import faiss

    check_features("query", queries)
    _check_width(index, queries)
    if effort:
        name = "nprobe" if isinstance(index, faiss.IndexIVF) else "efSearch"
        faiss.ParameterSpace().set_index_parameter(index, name, effort)
    similarities, neighbors = index.search(np.ascontiguousarray(queries, np.float32), k)
    return neighbors, similarities


def save(index, path: Path) -> Path:
    """Write an index with the hash of its bytes, atomically."""
    import faiss

    content = faiss.serialize_index(index)  # (bytes,) uint8

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())

    return write_atomically(path, write)


def load(path: Path):
    """Return the index that `save` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is cut off or damaged.
    """
    import faiss

    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: build the index and save it first")
    content = np.fromfile(path, np.uint8)
    if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:].tobytes():
        raise ValueError(f"{path} is cut off or damaged: build the index again")
    return faiss.deserialize_index(content[:-DIGEST])


def add(path: Path, features: np.ndarray) -> int:
    """Add features (n, D) to the index in a file; their rows follow those it holds. Return how many it now
    holds.

    Raises:
        FileNotFoundError, ValueError: as `load`; or features are not finite, not of unit length or of another
            width.
    """
    index = load(path)
    check_features("new", features)
    _check_width(index, features)
    index.add(np.ascontiguousarray(features, np.float32))
    save(index, path)
    return index.ntotal


def _check_width(index, features: np.ndarray) -> None:
    if features.shape[1] != index.d:
        raise ValueError(
            f"features have {features.shape[1]} numbers, the index {index.d}: use the model it was built with"
        )


def index_table(galleries: dict[int, np.ndarray], queries: np.ndarray, k: int = 100) -> pd.DataFrame:
    """Compare indexes with exact search on galleries of several sizes.

    Args:
        galleries: size -> (size, D) features, unit length.
        queries: (Q, D) unit length.
        k: neighbors per query.

    Returns:
        One row per size, index and effort: `gallery`, `index`, `effort`; `recall@1` and `recall@k`, the share
        of the exact first k neighbors that are among the first k; `p50 ms` and `p95 ms` of one query
        alone; `batch ms`, per query of all at once; `MB` of the index, `build s`.
    """
    rows = []
    for size, gallery in galleries.items():
        exact, _ = nearest_neighbors(queries, k, gallery, chunk=max(1, min(128, SIMILARITIES // size)))
        for factory, efforts in tqdm(INDEXES.items(), f"indexes of {size:,}", unit="index", delay=10):
            begin = time.perf_counter()
            index = build(gallery, factory)
            seconds = time.perf_counter() - begin
            megabytes = file_size(index) / 1e6
            for effort in efforts:
                search(index, queries[:1], k, effort)  # warm-up
                begin = time.perf_counter()
                found, _ = search(index, queries, k, effort)
                batch = (time.perf_counter() - begin) / len(queries)
                single = []
                for query in queries[:, None]:
                    begin = time.perf_counter()
                    index.search(query, k)
                    single.append(time.perf_counter() - begin)
                p50, p95 = 1e3 * np.quantile(single, [0.5, 0.95])
                row = {"gallery": size, "index": factory.replace("{lists}", ""), "effort": effort}
                row |= {"recall@1": shared(found, exact, 1), f"recall@{k}": shared(found, exact, k)}
                rows.append(row | {"p50 ms": p50, "p95 ms": p95, "batch ms": 1e3 * batch,
                                   "MB": megabytes, "build s": seconds})  # fmt: skip
    return pd.DataFrame(rows)


def file_size(index) -> int:
    """Return the bytes of an index on disk, without holding a copy of it."""
    import faiss

    written = []
    writer = faiss.PyCallbackIOWriter(lambda part: written.append(len(part)))
    faiss.write_index(index, writer)
    return sum(written)


def shared(found: np.ndarray, exact: np.ndarray, k: int) -> float:
    """Return the share of the first k exact neighbors (Q, K) that are among the first k found (Q, K)."""
    return float((found[:, :k, None] == exact[:, None, :k]).any(axis=1).mean())
