"""Search among more features than memory holds: exactly in blocks, or a shortlist of an approximate index
ranked exactly."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from waldo_utils.retrieval import approximate, exact
from waldo_utils.retrieval.exact import unit
from waldo_utils.retrieval.feature_store import Rows

BLOCK = 65_536  # features in memory at once
AXES = 128  # an approximate index looks at so many principal axes of wider features
LISTS_VISITED = 32
CANDIDATES = 10  # of an approximate index that are ranked exactly, per neighbor wanted
CHECKED = 200  # features whose neighbors tell the share that an approximate index finds
NEIGHBORS = 100  # of each of them


def in_blocks(queries: np.ndarray, k: int, gallery: Rows | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `exact.nearest_neighbors` does, with one block of the gallery in memory at a time."""
    rows = np.empty((len(queries), 0), np.int64)
    similarities = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(gallery), BLOCK):
        part = unit(gallery[start : start + BLOCK])
        found, near = exact.nearest_neighbors(queries, min(k, len(part)), part)
        rows = np.concatenate([rows, found + start], axis=1)
        similarities = np.concatenate([similarities, near], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        rows, similarities = (np.take_along_axis(a, best, axis=1) for a in (rows, similarities))
    return rows, similarities


def build(stored: np.ndarray) -> Any:
    """Return faiss's index of (M, D) stored features: lists of vectors, a byte per number of their principal
    axes."""
    import faiss

    count, width = stored.shape
    lists = max(1, min(round(4 * count**0.5), count // approximate.PER_LIST))
    axes = f"PCA{AXES}," if width > AXES else ""
    index = faiss.index_factory(width, f"{axes}IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    faiss.extract_index_ivf(index).cp.niter = approximate.ROUNDS
    size = min(count, max(approximate.PER_LIST * lists, 10_000))
    sample = np.sort(np.random.default_rng(0).permutation(count)[:size])
    index.train(unit(stored[sample]))
    for start in range(0, count, BLOCK):
        index.add(unit(stored[start : start + BLOCK]))
    return index


@dataclass(frozen=True)
class Approximate:
    """A search of a gallery by an approximate index of the features that it is stored in.

    Features stored after the index was built are searched exactly, and what the index finds is ranked
    exactly, so only neighbors that it misses differ from an exact search.
    """

    index: Any  # faiss's
    gallery: Rows  # (N, D)
    _places: np.ndarray = field(init=False, repr=False)  # gallery rows in the order of their stored rows
    _starts: np.ndarray = field(init=False, repr=False)  # (M + 1,) where those of a stored row begin

    def __post_init__(self):
        order = self.gallery.order
        object.__setattr__(self, "_places", np.argsort(order, kind="stable"))
        counts = np.bincount(order, minlength=len(self.gallery.stored))
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(counts)]))

    def __call__(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return neighbors (Q, k), rows of the gallery, and their similarities, as `exact.nearest_neighbors`
        does."""
        import faiss

        faiss.extract_index_ivf(self.index).nprobe = LISTS_VISITED
        queries = np.ascontiguousarray(queries, np.float32)
        _, stored = self.index.search(queries, min(CANDIDATES * k, self.index.ntotal))
        later = self._places[self._starts[self.index.ntotal] :]
        rows, similarities = [], []
        for query, found in zip(queries, stored, strict=True):
            found = found[found >= 0]
            candidates = [self._places[self._starts[s] : self._starts[s + 1]] for s in found]
            known = np.sort(np.concatenate([*candidates, later]))
            if len(known) < k:  # removed photos fill the shortlist
                near, values = in_blocks(query[None], k, self.gallery)
            else:
                near, values = in_blocks(query[None], k, Rows(self.gallery.stored, self.gallery.order[known]))
                near = known[near]
            rows.append(near[0])
            similarities.append(values[0])
        return np.array(rows), np.array(similarities)


def share_found(search: Approximate, seed: int = 0) -> float:
    """Return the share of exact neighbors that an approximate search finds of features of its own."""
    count = len(search.gallery)
    rows = np.sort(np.random.default_rng(seed).permutation(count)[:CHECKED])
    queries, k = unit(search.gallery[rows]), min(NEIGHBORS, count)
    true, found = in_blocks(queries, k, search.gallery)[0], search(queries, k)[0]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(true, found, strict=True)]))
