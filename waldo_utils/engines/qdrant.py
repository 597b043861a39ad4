"""An index of photos in Qdrant: published there, and asked for the neighbors that are reranked here.

A collection is named after what is in it (models and photos), so whoever publishes the same index twice, or
by two processes at once, writes the same points; another index is another collection.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from waldo_utils.app import index_files
from waldo_utils.engines.qdrant_connection import is_served, opened
from waldo_utils.retrieval.exact import unit
from waldo_utils.retrieval.feature_store import FeatureStore, Rows

BATCH = 256  # points of one request
EFFORT = 4  # candidates that HNSW keeps, for each neighbor that is wanted: see `speed_engines`
Finder = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def collection_of(output: Path) -> tuple[str, list[str], Rows, Rows]:
    """Return the name of an index's collection, and its photos: paths, global (N, D) and local (N, D, h, w)
    features; row i is point i."""
    record = index_files.read_record(output)
    if record is None:
        raise FileNotFoundError(
            f"{output} holds no index: make one with `python -m waldo_utils index FOLDER --output {output}`"
        )
    photos = index_files.read_photos(output, record)
    kept = np.flatnonzero(photos.rows >= 0)
    content = hashlib.sha256(f"{record['digest']} {record['photos']}".encode()).hexdigest()[:16]
    store = FeatureStore(output / record["features"])
    features = (Rows(store.array(kind, record["rows"]), photos.rows[kept]) for kind in ("global", "local"))
    return f"waldo-{content}", [photos.paths[place] for place in kept], *features


def publish(output: Path, where: str, local: bool = False) -> int:
    """Put the photos of an index into a collection, or what is lacking of them, and return how many it holds.

    A point is a photo's row: its global feature, path, product and category. In the end the index's name is
    an alias of the collection, and the collection that had it before goes.

    Args:
        output: folder of the index.
        where: see `opened`.
        local: also the local features, as a multivector with MaxSim: gallery patches of unit length, so that
            a query's raw patches give local matching times the sum of their lengths, for a second stage
            there.

    Raises:
        ConnectionError: as `opened`, or points are lacking in the end.
        ValueError: the collection is of another form, or the index has no local features.
    """
    name, paths, embedding, maps = collection_of(output)
    if local and not maps.shape[1]:
        raise ValueError(
            f"{output} has no local features, because its models rerank nothing: leave out --local"
        )
    with opened(where) as client:
        from qdrant_client import models

        _create(client, name, embedding.shape[1], maps.shape[1] if local else 0)
        count = _count(client, name, len(paths), where)
        # Every publisher goes from first to last: what may be lacking lies in the last requests, or nowhere.
        for start in (max(0, count - 2 * BATCH), 0):
            for first in tqdm(range(start, len(paths), BATCH), desc="publish", unit="batch"):
                ids = list(range(first, min(first + BATCH, len(paths))))
                vectors = {"global": unit(embedding[ids]).tolist()}
                if local:
                    vectors["local"] = _patches(maps[ids], unit=True).tolist()
                payloads = [_payload(paths[row]) for row in ids]
                client.upsert(name, models.Batch(ids=ids, vectors=vectors, payloads=payloads), wait=True)
            count = _count(client, name, len(paths), where)
            if count == len(paths):
                break
        else:
            raise ConnectionError(
                f"{where} holds {count} of {len(paths)} photos after all were sent: try again"
            )
        _name(client, output.resolve().name, name)
    return count


def _payload(path: str) -> dict[str, str]:
    product, category = index_files.product_of(path)
    return {"path": path, "product": product, "category": category}


def _create(client, name: str, width: int, local: int) -> None:
    """Make the collection, or check the one that is there; `local` is the width of local features, 0 for
    none."""
    from qdrant_client import models

    if not client.collection_exists(name):
        vectors = {"global": models.VectorParams(size=width, distance=models.Distance.DOT)}
        if local:
            vectors["local"] = models.VectorParams(
                size=local,
                distance=models.Distance.DOT,
                datatype=models.Datatype.FLOAT16,
                on_disk=True,
                hnsw_config=models.HnswConfigDiff(m=0),  # only looked up
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            )
        try:
            client.create_collection(name, vectors_config=vectors, on_disk_payload=True)
        except Exception:
            if not client.collection_exists(name):  # else another publisher was first
                raise
    form = client.get_collection(name).config.params.vectors
    wanted = {"global": width} | ({"local": local} if local else {})
    sizes = {key: value.size for key, value in form.items()} if isinstance(form, dict) else {"": form.size}
    if not wanted.items() <= sizes.items():
        raise ValueError(
            f"the collection {name} has vectors {sizes}, these features are {wanted}: remove it, "
            "and publish again"
        )


def _count(client, name: str, most: int, where: str) -> int:
    count = client.count(name, exact=True).count
    if count > most:
        raise ValueError(
            f"{name} at {where} holds {count} points, the index {most} photos: remove it, publish again"
        )
    return count


def _name(client, alias: str, name: str) -> None:
    """Give the collection the index's name, and remove the one that had it."""
    from qdrant_client import models

    before = [a.collection_name for a in client.get_aliases().aliases if a.alias_name == alias]
    if before == [name] or client.collection_exists(alias) and not before:
        return  # it is done, or somebody's collection has that name
    made = models.CreateAlias(collection_name=name, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    for old in before:
        if old.startswith("waldo-"):
            client.delete_collection(old)


def _patches(maps: np.ndarray, unit: bool = False) -> np.ndarray:
    """Return (B, h * w, D) float32 patches of local features (B, D, h, w)."""
    patches = np.asarray(maps, np.float32).reshape(*maps.shape[:2], -1).transpose(0, 2, 1)
    return patches / np.linalg.norm(patches, axis=2, keepdims=True).clip(1e-6) if unit else patches


@contextmanager
def asked(output: Path, where: str, local: np.ndarray | None = None) -> Iterator[Finder]:
    """Give a function that finds neighbors as `exact.nearest_neighbors` does, by the engine at an address.

    Args:
        output: folder of the index that was published; its rows are found.
        where: see `opened`.
        local: (D, h, w) local features of the only query, where the engine shall order the shortlist by them.

    Raises:
        ConnectionError: as `opened`.
        ValueError: the index is not published there, or by half.
    """
    name, paths, _, _ = collection_of(output)
    again = f"`python -m waldo_utils publish --index {output} --to {where}`"
    with opened(where) as client:
        from qdrant_client import models

        if not client.collection_exists(name):
            raise ValueError(f"{where} does not hold the index {output} as it is now: {again}")
        count = _count(client, name, len(paths), where)
        if count < len(paths):
            raise ValueError(f"{where} holds {count} of the {len(paths)} photos of {output}: {again} goes on")

        def find(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            rows, similarities = (
                np.empty((len(queries), k), np.int64),
                np.empty((len(queries), k), np.float32),
            )
            effort = models.SearchParams(hnsw_ef=EFFORT * k) if is_served(where) else None  # exact by itself
            for place, query in enumerate(queries):
                ask = {"query": query.tolist(), "using": "global"}
                if local is not None:
                    ask = {
                        "prefetch": models.Prefetch(**ask, limit=k, params=effort),
                        "query": _patches(local[None])[0].tolist(),
                        "using": "local",
                    }
                points = client.query_points(
                    name, **ask, limit=k, search_params=effort, with_payload=False
                ).points
                points.sort(key=lambda point: (-point.score, point.id))
                rows[place], similarities[place] = [p.id for p in points], [p.score for p in points]
            return rows, similarities

        yield find
