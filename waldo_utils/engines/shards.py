"""An index made in numbered parts, by any scheduler: each part a folder of its own, joined at the end."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from waldo_utils.app import index, index_files
from waldo_utils.app.index_files import Photos, Summary
from waldo_utils.app.searching import Models
from waldo_utils.data import folders
from waldo_utils.data.folders import Listing
from waldo_utils.disk.files import check_writable, sha256, write_atomically
from waldo_utils.disk.locks import hold
from waldo_utils.retrieval.feature_store import FeatureStore

# Photos that the network takes at once: a shard ends where a batch does, so nothing rounds otherwise.
BATCH = 64
COPIED = 65_536  # rows at once
FILES = ("global", "local", "sha256")  # of a store


def listing_of(source: Path, output: Path) -> tuple[Path, Listing]:
    """Return a folder and its photos; or the folder of a list, and the photos that it names, one a line.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: no photo is found or named, or one that is not there or by a path that leads out of the
            list's folder.
    """
    if source.is_dir():
        folder, listing = source, folders.walk(source, output)
    elif source.is_file():
        lines = {line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()} - {""}
        outside = [line for line in sorted(lines) if Path(line).is_absolute() or ".." in Path(line).parts]
        if outside:
            raise ValueError(f"{source} names {outside[0]}: name photos by their way from the list's folder")
        folder, listing = source.parent, Listing(sorted(set(folders.listed(source, sorted(lines)))))
    else:
        raise FileNotFoundError(f"there is no folder or list {source}: correct the path")
    listing.require_photos(str(source))
    return folder, listing


def make_shard(source: Path, output: Path, number: int, count: int, models: Models, profile: str) -> Path:
    """Compute the features of one part of the photos, and return its folder; killed, it goes on where it was.

    Args:
        source: see `listing_of`.
        output: below which all parts are kept.
        number, count: which of how many parts, from 1.
        models, profile: see `index.update`.

    Raises:
        ValueError: there is no such part, or there are more parts than batches of photos.
        locks.Held: another process makes this part.
    """
    folder, listing = listing_of(source, output)
    batches = -(-len(listing.photos) // BATCH)
    if not 1 <= number <= count <= batches:
        raise ValueError(
            f"there is no shard {number}/{count} of {len(listing.photos)} photos: "
            f"choose 1/1 to {batches}/{batches}"
        )
    own = listing.photos[BATCH * (batches * (number - 1) // count) : BATCH * (batches * number // count)]
    check_writable(place := output / "shards" / f"{number}-of-{count}")
    facts = {
        "number": number, "of": count, "source": str(source), "folder": str(folder.resolve()),
        "profile": profile, "weights": models.weights, "digest": models.digest,
        "listing": _hash(listing.photos), "passed": listing.passed,
    }  # fmt: skip
    with hold(place / ".lock"):
        record = _record(place)
        if record and facts.items() <= record.items():
            return place
        store = index._open_store(place / f"features-{models.digest}")
        photos = index_files.identify(folder, own, None)
        index._embed(folder, photos, store, models, {})
        record = facts | {
            "photos": index_files.write_photos(place, replace(photos, faults={})),
            "files": len(photos),
            "features": store.folder.name,
            "rows": len(store),
            "sha256": {name: sha256(store.folder / name) for name in FILES if (store.folder / name).exists()},
        }
        _write(place / "shard.json", record)
    return place


def passed(place: Path) -> str:
    """Return in one line what was passed over when the photos of a part that is whole were listed."""
    return Listing([], _record(place)["passed"]).sentence()


def records(output: Path) -> list[dict]:
    """Return what the parts below a folder say of themselves, by number;
    raises FileNotFoundError for none."""
    found = [record for place in output.glob("shards/*-of-*") if (record := _record(place))]
    if not found:
        raise FileNotFoundError(
            f"{output} holds no shards: make them with `index FOLDER --shard 1/N --output {output}`"
        )
    return sorted(found, key=lambda record: (record["number"], record["of"]))


def merge(output: Path, models: Models) -> Summary:
    """Join all parts below a folder to the index there:
    the one that a single process makes of the same photos.

    Args:
        output: of the parts, which stay.
        models: that made them.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a part is missing or damaged, or they are of different models, divisions or photos.
    """
    parts = records(output)
    first, shards = parts[0], output / "shards"
    for key, what in (
        ("of", "divisions"),
        ("weights", "models"),
        ("digest", "models"),
        ("listing", "photos"),
    ):
        other = [record for record in parts if record[key] != first[key]]
        if other:
            raise ValueError(
                f"{shards} holds parts of different {what} (shard {first['number']}/{first['of']}: "
                f"{first[key]}, shard {other[0]['number']}/{other[0]['of']}: {other[0][key]}): remove one "
                "kind and make those parts again"
            )
    missing = sorted(set(range(1, first["of"] + 1)) - {record["number"] for record in parts})
    if missing:
        raise ValueError(
            f"{shards} lacks shard {', '.join(map(str, missing))} of {first['of']}: `python -m waldo_utils "
            f"index {first['source']} --shard {missing[0]}/{first['of']} --output {output}`"
        )
    if first["digest"] != models.digest:
        raise ValueError(f"{shards} was made with other models ({first['weights']}): make the shards again")
    stores = []
    for record in parts:
        store = FeatureStore(shards / f"{record['number']}-of-{first['of']}" / record["features"])
        if any(sha256(store.folder / name) != digest for name, digest in record["sha256"].items()):
            raise ValueError(
                f"{store.folder} is not what was recorded: remove {store.folder.parent}, make it again"
            )
        stores.append(store)
    tables = [index_files.read_photos(store.folder.parent, r) for store, r in zip(stores, parts, strict=True)]
    check_writable(output)
    with hold(output / ".lock"):
        return _join(output, first, tables, stores, models)


def _join(
    output: Path, first: dict, tables: list[Photos], stores: list[FeatureStore], models: Models
) -> Summary:
    """Put the parts' rows and tables into one, and let the index find that all of it is known."""
    name = f"features-{hashlib.sha256(models.digest.encode()).hexdigest()[:16]}"
    old = index_files.read_record(output)
    if old is None or old["digest"] != models.digest or old["features"] != name:
        shutil.rmtree(output / name, ignore_errors=True)
    target = FeatureStore(output / name)
    known = {digest.tobytes() for digest in target.array("sha256")}
    for store in stores:
        for start in range(0, len(store), COPIED):
            arrays = [store.array(kind)[start : start + COPIED] for kind in ("sha256", "global", "local")]
            fresh = []
            for row, digest in enumerate(arrays[0]):
                if (key := digest.tobytes()) not in known:
                    known.add(key)
                    fresh.append(row)
            if fresh:
                target.append(*(array[fresh] for array in arrays))
    columns = {
        field: np.concatenate([getattr(table, field) for table in tables])
        for field in ("sizes", "times", "digests", "rows")
    }
    photos = Photos([path for table in tables for path in table.paths], **columns, faults={})
    record = {
        "format": index_files.FORMAT, "folder": first["folder"], "profile": first["profile"],
        "weights": models.weights, "digest": models.digest, "files": len(photos), "features": name,
        "rows": len(target), "threshold": None, "approximate": None,
        "photos": index_files.write_photos(output, photos),
    }  # fmt: skip
    _write(output / "index.json", record)
    listing = Listing(photos.paths, first["passed"])
    return index._update(Path(first["folder"]), output, models, first["profile"], listing)


def _hash(paths: list[str]) -> str:
    return hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _record(place: Path) -> dict | None:
    """Return what a part that is whole says of itself."""
    path = place / "shard.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove {place} and make that shard again") from None


def _write(path: Path, record: dict) -> None:
    text = json.dumps(record, indent=1)
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
