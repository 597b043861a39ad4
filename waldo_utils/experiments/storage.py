"""Local features on disk: written once in shards, read photo by photo, in as many bits as the reranker needs.

A store is a folder of shards and the record `store.json`, which is written last. It stands in for an array
(N, D, h, w): `rerank_scores` reads the photos it needs from it, whatever the size of the gallery.
"""

import json
import shutil
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils.disk.artifacts import write_atomically
from waldo_utils.evaluation import metrics, tables
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval.exact import reorder
from waldo_utils.retrieval.reranking import rerank_scores

KINDS = ("float32", "float16", "int8", "1 bit")
SHARD = 512  # photos


def record_type(kind: str, numbers: int) -> np.dtype:
    """Return what is stored of one photo: its codes, and for int8 and 1 bit the scale that decodes them.

    Args:
        kind: one of `KINDS`.
        numbers: D * h * w.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of storage {kind!r}: choose one of {', '.join(KINDS)}")
    if kind == "1 bit":
        return np.dtype([("scale", "<f4"), ("codes", "u1", (-(-numbers // 8),))])
    if kind == "int8":
        return np.dtype([("scale", "<f4"), ("codes", "i1", (numbers,))])
    return np.dtype([("codes", {"float32": "<f4", "float16": "<f2"}[kind], (numbers,))])


def channel_statistics(local: np.ndarray) -> np.ndarray:
    """Return (2, D) float32: the center of each channel of local features (N, D, h, w), and its mean distance
    from it."""
    local = np.asarray(local, np.float32)
    center = local.mean(axis=(0, 2, 3))
    return np.stack([center, abs(local - center[:, None, None]).mean(axis=(0, 2, 3))])


def encode(local: np.ndarray, kind: str, channels: np.ndarray) -> np.ndarray:
    """Return the (N,) records of local features (N, D, h, w).

    The scale of a photo is its largest absolute number over 127 for int8. 1 bit keeps on which side of its
    channel's center a number lies; its scale is the mean length of the photo's features, to which `decode`
    brings each of them: without centers, spreads and lengths of its own kind, a reranker makes nothing of
    signs.

    Args:
        local: (N, D, h, w) local features.
        kind: one of `KINDS`.
        channels: (2, D) of `channel_statistics`; only 1 bit reads it.

    Raises:
        ValueError: the kind is unknown, or the features are not finite or too large for it.
    """
    flat = np.asarray(local, np.float32).reshape(len(local), -1)  # (N, D*h*w)
    if not np.isfinite(flat).all():
        raise ValueError("some local features are not finite: extract them again")
    records = np.empty(len(flat), record_type(kind, flat.shape[1]))
    if kind == "int8":
        records["scale"] = abs(flat).max(axis=1) / 127
        records["codes"] = np.rint(flat / np.where(records["scale"] > 0, records["scale"], 1)[:, None])
    elif kind == "1 bit":
        maps = flat.reshape(local.shape)
        records["scale"] = np.linalg.norm(maps, axis=1).mean(axis=(1, 2))
        above = maps >= channels[0][:, None, None]  # (N, D, h, w)
        records["codes"] = np.packbits(above.reshape(flat.shape), axis=1)
    else:
        largest = np.finfo(records["codes"].dtype).max
        if abs(flat).max(initial=0) > largest:
            raise ValueError(f"local features reach {abs(flat).max():.3g}, {kind} {largest:.3g}: use float32")
        records["codes"] = flat
    return records


def decode(records: np.ndarray, kind: str, shape: tuple[int, ...], channels: np.ndarray) -> np.ndarray:
    """Return the (N, D, h, w) local features of (N,) records; float16 stays float16, all others are float32.

    Args:
        records: as `encode` gave them.
        kind: of storage.
        shape: (D, h, w).
        channels: as for `encode`.
    """
    codes = records["codes"]
    if kind == "1 bit":
        above = np.unpackbits(codes, axis=1, count=int(np.prod(shape))).reshape(len(records), *shape)
        center, spread = channels[:, :, None, None]  # (D, 1, 1) each
        maps = np.where(above, center + spread, center - spread)  # (N, D, h, w)
        length = np.linalg.norm(maps, axis=1, keepdims=True)
        return maps * (records["scale"][:, None, None, None] / np.maximum(length, 1e-12))
    if kind == "int8":
        codes = codes * records["scale"][:, None]
    return codes.reshape(len(records), *shape)


def write_store(folder: Path, parts: Iterable[np.ndarray], kind: str = "float16") -> "LocalStore":
    """Write local features as they come, one shard per part, and open the store.

    Args:
        folder: of the store; a store that is there already is replaced.
        parts: (n, D, h, w) local features of the next n photos each; only one part is held in memory,
            and the first gives the statistics of channels that 1 bit needs.
        kind: one of `KINDS`.

    Raises:
        ValueError: there are no photos, parts differ in shape, or `encode` refuses them.
    """
    record = folder / "store.json"
    record.unlink(missing_ok=True)
    shape, counts, channels = None, [], None
    for part in parts:
        if shape is None:
            shape, channels = part.shape[1:], channel_statistics(part)
        if part.shape[1:] != shape:
            raise ValueError(f"local features are {part.shape[1:]} per photo after {shape}: use one model")
        records = encode(part, kind, channels)
        write_atomically(_shard(folder, len(counts)), lambda partial: np.save(partial, records))
        counts.append(len(part))
    if not counts:
        raise ValueError(f"there are no local features to write to {folder}")
    content = json.dumps({"kind": kind, "shape": shape, "counts": counts, "channels": channels.tolist()})
    write_atomically(record, lambda partial: partial.write_text(content, encoding="utf-8"))
    return LocalStore(folder)


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05}.npy"


class LocalStore:
    """Local features on disk that read like an array (N, D, h, w): `store[rows]` decodes those photos alone.

    Args:
        folder: as `write_store` wrote it.

    Raises:
        FileNotFoundError: it holds no store, or none that was finished.
        ValueError: a shard is missing, cut off or of another store.
    """

    def __init__(self, folder: Path):
        if not (folder / "store.json").exists():
            raise FileNotFoundError(f"{folder} holds no finished store: write it with `write_store`")
        record = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        self.kind: str = record["kind"]
        self.starts = np.cumsum([0, *record["counts"]]).tolist()  # first photo of each shard, and N
        self.shape: tuple[int, int, int, int] = (self.starts[-1], *record["shape"])  # (N, D, h, w)
        self.channels = np.array(record["channels"], np.float32)  # (2, D)
        stored = record_type(self.kind, int(np.prod(self.shape[1:])))
        self.shards = []
        for number, count in enumerate(record["counts"]):
            path = _shard(folder, number)
            try:
                shard = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise ValueError(f"{path} cannot be read ({error}): write the store again") from None
            if shard.dtype != stored or shard.shape != (count,):
                raise ValueError(f"{path} is not the shard that was recorded: write the store again")
            self.shards.append(shard)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def photo_bytes(self) -> int:
        """Bytes on disk per photo."""
        return self.shards[0].dtype.itemsize

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the (R, D, h, w) local features of the photos `rows` (R,), in their order.

        Raises:
            IndexError: a row is not one of the store's.
        """
        rows = np.asarray(rows)
        if rows.size and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a store of {len(self)} photos")
        records = np.empty(len(rows), self.shards[0].dtype)
        shards = np.array([bisect_right(self.starts, row) - 1 for row in rows.tolist()], int)
        for number in np.unique(shards):
            own = shards == number
            records[own] = self.shards[number][rows[own] - self.starts[number]]
        return decode(records, self.kind, self.shape[1:], self.channels)


def storage_table(
    folder: Path,
    local: list[np.ndarray],
    rerankers: list[RerankingTransformer],
    neighbors: list[np.ndarray],
    labels: np.ndarray,
    depth: int,
    resamples: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rerank with the local features of each kind of storage, read back from disk.

    Args:
        folder: for the stores; they are removed when they have been measured.
        local: (N, D, h, w) local features of each seed.
        rerankers: the transformer of each seed.
        neighbors: (N, K) shortlist of each seed.
        labels: (N,) product of each photo.
        depth: neighbors reranked per query.
        resamples: of the bootstrap over products.

    Returns:
        One row per kind: `storage`, `bytes per photo`, `changed@1` (the share of queries with another first
        neighbor than with float32) and the metrics of `results.hit_table`; and the paired differences of each
        kind to float32, as `results.difference_table` has them.
    """
    reranked, sizes = {}, {}
    for kind in KINDS:
        place, orders = folder / kind.replace(" ", "_"), []
        for features, reranker, shortlist in zip(local, rerankers, neighbors, strict=True):
            parts = (np.asarray(features[i : i + SHARD]) for i in range(0, len(features), SHARD))
            store = write_store(place, parts, kind)
            scores = rerank_scores(reranker, store, store, shortlist[:, :depth])
            orders.append(reorder(shortlist, scores))
            sizes[kind] = store.photo_bytes
            shutil.rmtree(place)
        reranked[kind] = orders
    table, differences = beside_float32(reranked, labels, resamples)
    table = table.rename(columns={"method": "storage"})
    table.insert(1, "bytes per photo", [sizes[kind] for kind in KINDS])
    return table, differences


def beside_float32(
    reranked: dict[str, list[np.ndarray]], labels: np.ndarray, resamples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare ways to keep or to compute the same scores with "float32", which is one of them.

    Args:
        reranked: name -> (N, K) neighbors in the order that it gives, for each seed.
        labels: (N,) product of each photo.
        resamples: of the bootstrap over products.

    Returns:
        One row per name: `method`, `changed@1` (the share of queries with another first neighbor than with
        float32) and the metrics of `results.hit_table`; and the paired differences of the others to
        float32.
    """
    hits = {
        name: [metrics.hits(order, labels, labels) for order in orders] for name, orders in reranked.items()
    }
    first = {name: np.stack([order[:, 0] for order in orders]) for name, orders in reranked.items()}
    relevant = metrics.relevant_counts(labels)
    table = tables.hit_table(hits, labels, relevant, resamples)
    table.insert(1, "changed@1", [float((first[name] != first["float32"]).mean()) for name in table.method])
    pairs = [(name, "float32") for name in hits if name != "float32"]
    return table, tables.difference_table(hits, pairs, labels, relevant, resamples)
