"""An index of a folder of photos on disk: features computed once, opened at the next start, updated by what
changed.

The folder of an index holds `index.json`, the table of photos that it names, `photos-*.npz`, and the
features, `features-*`, to which rows are only ever added. A changed table is a new file, written before the
record, so `index.json` always tells of what is whole. Features are kept shard by shard: an interrupted run
goes on there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from waldo_utils.app import index_files, rejection, searching
from waldo_utils.app.index_files import (
    FORMAT,
    NO_DIGEST,
    OWN_FILES,
    Entry,
    Photos,
    Summary,
    identify,
    left_out,
    models_key,
    product_of,
    read_photos,
    read_record,
)
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.app.thresholds import Threshold
from waldo_utils.data import folders
from waldo_utils.data.reading import READERS, read_photo
from waldo_utils.disk.files import check_writable, remove_partials, write_atomically
from waldo_utils.disk.locks import hold
from waldo_utils.retrieval import approximate, exact, large_search
from waldo_utils.retrieval.feature_store import FeatureStore, Rows

SHARD = 256  # photos
CALIBRATION_QUERIES = 200
# Numbers of all global features (240 MB, looked through in some 10 ms) from which they stay on the disk,
# searched approximately.
LARGE = 60_000_000
NEW = 0.02  # share of features that may come after the approximate index was built; they are searched exactly
FAULT = "fault"  # of a picture's `info`: why it stands in a photo's place


@dataclass(frozen=True)
class Index:
    """An opened index."""

    folder: Path  # of the photos
    gallery: Gallery
    unreadable: list[Entry]
    threshold: Threshold | None
    weights: str
    profile: str
    share: float | None  # of the exact neighbors that its search finds; None: all


def update(
    folder: Path, output: Path, models: Models, profile: str, listing: folders.Listing | None = None
) -> Summary:
    """Make the index of a folder of photos, or bring it up to date.

    Photos that have not changed keep their features: the same size and time, or the same bytes under another
    name or time. Sub-folders name products. A file that cannot be read as a photo is left out and listed.

    Args:
        folder: searched with its sub-folders, as `folders.walk` does.
        output: folder of the index.
        models: compute the features; an index of other models is made anew.
        profile: the models' name, a profile's or another (see `searching.open_models`).
        listing: the photos, where they are not all that `folder` holds.

    Raises:
        FileNotFoundError: there is no such folder.
        FileExistsError: `output` is a folder that holds something else.
        ValueError: the folder holds no photo that can be read.
        locks.Held: another update of this index is going on.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the folder that holds the photos")
    old = read_record(output)
    if old is None and output.is_dir() and not all(OWN_FILES.fullmatch(p.name) for p in output.iterdir()):
        raise FileExistsError(f"{output} holds files that are no index: choose another --output")
    listing = listing or folders.walk(folder, output)
    listing.require_photos(str(folder))
    check_writable(output)
    with hold(output / ".lock"):
        return _update(folder, output, models, profile, listing)


def _update(folder: Path, output: Path, models: Models, profile: str, listing: folders.Listing) -> Summary:
    """Do what `update` does, under the index's lock."""
    old = read_record(output)
    remove_partials(output)
    same_models = old is not None and old["digest"] == models.digest
    before = read_photos(output, old) if same_models else None
    photos = identify(folder, listing.photos, before)
    own = f"features-{hashlib.sha256(models.digest.encode()).hexdigest()[:16]}"
    store = _open_store(output / (old["features"] if same_models else own))
    faults = {} if before is None else {before.digests[i].tobytes(): why for i, why in before.faults.items()}
    photos = _with_rows(photos, _embed(folder, photos, store, models, faults), faults)
    unreadable = left_out(photos)
    if len(unreadable) == len(photos):
        raise ValueError(
            f"none of the {len(photos)} photos in {folder} can be read, the first: {unreadable[0].fault}"
        )
    store, photos = _compacted(store, photos, output / own)
    summary = _summary(before, photos, listing.sentence())
    record = {
        "format": FORMAT,
        "folder": str(folder.resolve()),
        "from here": _from(output, folder),
        "profile": profile,
        "weights": models.weights,
        "digest": models.digest,
        "models": models_key(profile),
        "files": len(photos),
        "features": store.folder.name,
        "rows": len(store),
        "passed": listing.passed,
        "photos": index_files.write_photos(output, photos),
    }
    if old is None or any(old.get(key) != value for key, value in record.items()):
        _finish(output, folder, record, photos, store, models, old)
    _remove_others(output, read_record(output))
    return summary


def _summary(before: Photos | None, photos: Photos, passed: str) -> Summary:
    """Compare what was found in the index before with what is now; a file that is left out never is."""
    known = {} if before is None else before.indexed()
    found = photos.indexed()
    there = known.keys() & found.keys()
    kept = sum(known[path] == found[path] for path in there)
    return Summary(
        added=len(found) - len(there),
        changed=len(there) - kept,
        removed=len(known) - len(there),
        kept=kept,
        unreadable=left_out(photos),
        passed=passed,
    )


def _open_store(folder: Path) -> FeatureStore:
    """Return the features kept in a folder; what is damaged is computed again."""
    try:
        return FeatureStore(folder)
    except ValueError:
        shutil.rmtree(folder)
        return FeatureStore(folder)


def _with_rows(photos: Photos, known: dict[bytes, int], faults: dict[bytes, str]) -> Photos:
    """Return photos with the rows of their features, and why others have none."""
    digests = [digest.tobytes() for digest in photos.digests]
    rows = np.array([known.get(digest, -1) for digest in digests], np.int64)
    closed = dict(photos.faults)
    return replace(
        photos,
        rows=rows,
        faults={i: closed.get(i) or faults[digests[i]] for i in np.flatnonzero(rows < 0).tolist()},
    )


def _compacted(store: FeatureStore, photos: Photos, folder: Path) -> tuple[FeatureStore, Photos]:
    """Return the features without those that no photo has any more, once these are more than half."""
    used = np.unique(photos.rows[photos.rows >= 0])
    if len(store) - len(used) <= max(len(used), SHARD):
        return store, photos
    target = folder if folder != store.folder else folder.with_name(f"{folder.name}-1")
    shutil.rmtree(target, ignore_errors=True)
    fresh = FeatureStore(target)
    arrays = [store.array(name) for name in ("sha256", "global", "local")]
    for start in range(0, len(used), large_search.BLOCK):
        part = used[start : start + large_search.BLOCK]
        fresh.append(*(array[part] for array in arrays))
    rows = np.where(photos.rows >= 0, np.searchsorted(used, photos.rows), -1)
    return fresh, replace(photos, rows=rows)


def open_index(output: Path, models: Models) -> Index:
    """Open an index; nothing is computed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or was made with other models.
    """
    record = read_record(output)
    if record is None:
        raise FileNotFoundError(
            f"{output} holds no index: make one with `python -m waldo_utils index FOLDER --output {output}`"
        )
    remedy = f"make it again with `python -m waldo_utils index {record['folder']} --output {output}`"
    if record["digest"] != models.digest:
        raise ValueError(f"{output} was made with other models ({record['weights']}): {remedy}")
    photos = read_photos(output, record)
    folder = Path(record["folder"])
    moved = output / record.get("from here", "")
    if not folder.is_dir() and record.get("from here") and moved.is_dir():
        folder = moved.resolve()
    try:
        store = FeatureStore(output / record["features"])
        known = record["approximate"]
        found = known and approximate.load(output / known["file"])
        gallery = _gallery(folder, photos, store, record["rows"], found)
    except (OSError, ValueError) as error:
        raise ValueError(f"the features of {output} cannot be read ({error}): {remedy}") from None
    saved = record["threshold"]
    threshold = Threshold(**(saved | {"weights": tuple(saved["weights"])})) if saved else None
    return Index(
        folder,
        gallery,
        left_out(photos),
        threshold,
        record["weights"],
        record["profile"],
        known and known["share"],
    )


def profile_of(output: Path) -> str:
    """Return the name of the models that made an index; raises FileNotFoundError where there is none."""
    record = read_record(output)
    if record is None:
        raise FileNotFoundError(
            f"{output} holds no index: make one with `python -m waldo_utils index FOLDER --output {output}`"
        )
    return record["profile"]


def _embed(
    folder: Path, photos: Photos, store: FeatureStore, models: Models, faults: dict[bytes, str]
) -> dict[bytes, int]:
    """Compute the features that are not kept yet, shard by shard, adding to the store, to `faults` and to the
    photos' own faults; return the rows of all by hash."""

    def load(place: int) -> Tensor | str:
        path = photos.paths[place]
        try:
            photo = searching.prepare(models, read_photo(folder / path, path))
            facts = (folder / path).stat()
            if (facts.st_size, facts.st_mtime_ns) != (photos.sizes[place], photos.times[place]):
                return f"{path} changed while it was read: index again"
            return photo
        except ValueError as error:
            return str(error)
        except OSError as error:
            return f"{path} cannot be opened ({error.strerror}): make it readable"

    known = {digest.tobytes(): row for row, digest in enumerate(store.array("sha256"))}
    wanted, seen = [], set()
    for place, digest in enumerate(photos.digests):
        key = digest.tobytes()
        if key == NO_DIGEST or key not in known and key not in faults and key not in seen:
            wanted.append(place)
            seen.add(key)
    if not wanted:
        return known
    with (
        ThreadPoolExecutor(READERS) as pool,
        tqdm(total=len(wanted), desc="index photos", unit="photo") as bar,
    ):
        for start in range(0, len(wanted), SHARD):
            part = wanted[start : start + SHARD]
            places, embeddings, locals_ = [], [], []
            for first in range(0, len(part), 64):
                batch = part[first : first + 64]
                loaded = dict(zip(batch, pool.map(load, batch), strict=True))
                for place, photo in loaded.items():
                    if isinstance(photo, str):
                        photos.faults[place] = photo
                        faults[photos.digests[place].tobytes()] = photo
                readable = {place: photo for place, photo in loaded.items() if not isinstance(photo, str)}
                if readable:
                    embedding, local = searching.features(models, torch.stack([*readable.values()]))
                    places += readable
                    embeddings.append(embedding)
                    locals_.append(local)
                bar.update(len(batch))
            if places:
                known |= {photos.digests[place].tobytes(): len(store) + i for i, place in enumerate(places)}
                store.append(photos.digests[places], np.concatenate(embeddings), np.concatenate(locals_))
    return known


def _from(output: Path, folder: Path) -> str:
    """Return the way from an index to its photos, which lasts where both are moved together."""
    try:
        return Path(os.path.relpath(folder.resolve(), output.resolve())).as_posix()
    except ValueError:  # on Windows, of another drive
        return ""


def _finish(
    output: Path,
    folder: Path,
    record: dict,
    photos: Photos,
    store: FeatureStore,
    models: Models,
    old: dict | None,
) -> None:
    """Add to the record what is learned of all photos, and write it."""
    known = old["approximate"] if old is not None and old["features"] == record["features"] else None
    if len(store) * store.shapes["global"][0] < LARGE:
        known, found = None, None
    elif known and (output / known["file"]).is_file() and len(store) - known["rows"] <= NEW * known["rows"]:
        found = approximate.load(output / known["file"])
    else:
        found = large_search.build(store.array("global"))
        name = (
            f"approximate-{hashlib.sha256(f'{models.digest} {len(store)}'.encode()).hexdigest()[:16]}.faiss"
        )
        approximate.save(found, output / name)
        known = {"file": name, "rows": len(store)}
    gallery = _gallery(folder, photos, store, len(store), found)
    if known and "share" not in known:  # what comes later is searched exactly
        known["share"] = large_search.share_found(gallery.search)
    record["approximate"] = known
    if old is not None and all(old[key] == record[key] for key in ("photos", "features")):
        record["threshold"] = old["threshold"]
    else:
        threshold = _calibrate(models, gallery)
        record["threshold"] = asdict(threshold) if threshold else None
    text = json.dumps(record, indent=1)
    write_atomically(output / "index.json", lambda partial: partial.write_text(text, encoding="utf-8"))


def _remove_others(output: Path, record: dict) -> None:
    """Remove what belongs to earlier records."""
    named = {record["photos"], record["features"], (record["approximate"] or {}).get("file")}
    for path in output.iterdir():
        if path.name.startswith(("photos-", "features-", "approximate-")) and path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _gallery(folder: Path, photos: Photos, store: FeatureStore, rows: int, found: object | None) -> Gallery:
    """Return the readable photos of a folder as a gallery, sorted by path.

    Args:
        rows: of the store that count.
        found: faiss's index of the store's first rows, for a gallery whose features stay on the disk.

    Raises:
        ValueError: the store holds fewer rows, or features that are not finite.
    """
    kept = np.flatnonzero(photos.rows >= 0)
    order, paths = photos.rows[kept], [photos.paths[place] for place in kept]
    embedding = Rows(store.array("global", rows), order)
    local = Rows(store.array("local", rows), order)
    search = None
    if found is not None:
        search = large_search.Approximate(found, embedding)
    else:
        embedding = exact.unit(embedding)
        if not np.isfinite(embedding).all():
            raise ValueError("some are not finite")
    labels = [product_of(path) for path in paths]
    return Gallery(
        embedding,
        local,
        paths,
        np.array([product for product, _ in labels], dtype=object),
        np.array([category for _, category in labels], dtype=object),
        lambda row: _photo(folder / paths[row]),
        search,
    )


def _photo(path: Path) -> Image.Image:
    """Return a photo, or where it cannot be read any more a grey picture with a cross that says so itself."""
    try:
        return read_photo(path)
    except (ValueError, OSError) as error:
        picture = Image.new("RGB", (128, 128), "#dddddd")
        picture.info[FAULT] = str(error)
        draw = ImageDraw.Draw(picture)
        for line in ((32, 32, 96, 96), (32, 96, 96, 32)):
            draw.line(line, fill="#888888", width=6)
        return picture


def told_as_gone(
    opened: Index, output: Path, rows: Iterable[int], pictures: Iterable[Image.Image] = ()
) -> str:
    """Return in one line which photos of an answer are not where they were, or are no photos any more.

    Args:
        opened: the index.
        output: its folder.
        rows: of the answer.
        pictures: what its gallery gave for them, where it was asked.

    Returns:
        The line, "" where nothing is wrong.
    """
    names = [opened.gallery.names[row] for row in rows]
    gone = [name for name in names if not (opened.folder / name).is_file()]
    broken = [name for name, picture in zip(names, pictures, strict=False) if FAULT in picture.info]
    parts = []
    for found, what in (
        (gone, f"are not in {opened.folder} any more"),
        ([name for name in broken if name not in gone], "cannot be read any more"),
    ):
        if found:
            parts.append(f"{len(found)} of these photos {what}, the first {found[0]}")
    if not parts:
        return ""
    return (
        f"{'; '.join(parts)}: index the folder, or its new place, with `python -m waldo_utils index FOLDER "
        f"--output {output}`"
    )


def _calibrate(models: Models, gallery: Gallery) -> Threshold | None:
    """Return the threshold of a folder whose sub-folders name at least ten products of two photos or more,
    else None; None too where nothing reranks, whose scores it would judge."""
    if models.reranker is None:
        return None
    queries = rejection.labelled_rows(gallery.products, CALIBRATION_QUERIES)
    if len(set(gallery.products[queries])) < 10:
        return None
    return rejection.choose_threshold(rejection.ask(models, gallery, queries))
