"""An index of a folder of photos on disk: features computed once, loaded at the next start, updated by what
changed.

The folder of an index holds `index.json` and the two arrays that it names, `global-*.npy` and `local-*.npy`.
They are written before it and never overwritten, so `index.json` always tells of whole arrays. While an index
grows, every shard of photos is kept in `shards/`, and an interrupted run goes on from there.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils.app import rejection, searching
from waldo_utils.app.index_files import (
    FORMAT,
    OWN_FILES,
    SUFFIXES,
    Entry,
    check_writable,
    entries_of,
    identify,
    list_photos,
    product_of,
    read_record,
)
from waldo_utils.app.rejection import Threshold
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.data.reading import read_photo
from waldo_utils.disk.artifacts import read_array
from waldo_utils.disk.files import remove_partials, write_atomically
from waldo_utils.study import ROOT

HOME = ROOT / "data" / "indexes"
SHARD = 256  # photos
CALIBRATION_QUERIES = 200


@dataclass(frozen=True)
class Index:
    """An opened index."""

    folder: Path  # of the photos
    gallery: Gallery
    unreadable: list[Entry]
    threshold: Threshold | None
    weights: str
    profile: str


@dataclass(frozen=True)
class Summary:
    """What an update did, in numbers of files."""

    added: int
    changed: int
    removed: int
    kept: int
    unreadable: list[Entry]


def default_output(folder: Path) -> Path:
    """Return where the index of a folder of photos is kept unless said otherwise: below `data/indexes`."""
    resolved = folder.resolve()
    return HOME / f"{resolved.name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"


def newest() -> Path:
    """Return the index below `data/indexes` that was written last.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(HOME.glob("*/index.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError("there is no index yet: make one with `python -m waldo_utils index FOLDER`")
    return found[-1].parent


def update(folder: Path, output: Path, models: Models, profile: str) -> Summary:
    """Make the index of a folder of photos, or bring it up to date.

    Photos that have not changed keep their features: the same size and time, or the same bytes under another
    name or time. Sub-folders name products. A file that cannot be read as a photo is left out and listed.

    Args:
        folder: searched with its sub-folders; hidden ones and links to folders are passed over.
        output: folder of the index.
        models: compute the features; an index of other models is made anew.
        profile: whose models these are.

    Raises:
        FileNotFoundError: there is no such folder.
        FileExistsError: `output` is a folder that holds something else.
        ValueError: the folder holds no photo that can be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the folder that holds the photos")
    old = read_record(output)
    if old is None and output.is_dir() and not all(OWN_FILES.fullmatch(p.name) for p in output.iterdir()):
        raise FileExistsError(f"{output} holds files that are no index: choose another --output")
    files = list_photos(folder, output)
    if not files:
        raise ValueError(f"{folder} holds no photo ({', '.join(sorted(SUFFIXES))}): choose another folder")
    check_writable(output)
    remove_partials(output)
    same_models = old is not None and old["digest"] == models.digest
    before = {entry.path: entry for entry in (entries_of(old) if same_models else [])}
    entries = identify(folder, files, before)
    known = _known_rows(output, old if same_models else None, models.digest)
    faults = {entry.sha256: entry.fault for entry in before.values() if entry.fault}
    wanted, seen = [], set()
    for entry in entries:
        if entry.sha256 not in known and entry.sha256 not in faults and entry.sha256 not in seen:
            wanted.append(entry)
            seen.add(entry.sha256)
    _embed(folder, wanted, output / "shards", models, known, faults)
    entries = [replace(entry, fault=faults.get(entry.sha256, "")) for entry in entries]
    kept = [entry for entry in entries if not entry.fault]
    unreadable = [entry for entry in entries if entry.fault]
    if not kept:
        raise ValueError(
            f"none of the {len(entries)} photos in {folder} can be read, the first: {unreadable[0].fault}"
        )
    summary = Summary(
        added=sum(entry.path not in before for entry in entries),
        changed=sum(e.path in before and before[e.path].sha256 != e.sha256 for e in entries),
        removed=len(before.keys() - {entry.path for entry in entries}),
        kept=sum(e.path in before and before[e.path].sha256 == e.sha256 for e in entries),
        unreadable=unreadable,
    )
    if not (same_models and entries == entries_of(old) and old["folder"] == str(folder.resolve())):
        _write(output, folder, entries, known, models, profile, old)
    shutil.rmtree(output / "shards", ignore_errors=True)
    return summary


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
    entries = [entry for entry in entries_of(record) if not entry.fault]
    try:
        embedding = np.array(read_array(output / record["global"]))
        local = read_array(output / record["local"])
    except (OSError, ValueError) as error:
        raise ValueError(f"the arrays of {output} cannot be read ({error}): {remedy}") from None
    if (embedding.ndim, local.ndim) != (2, 4) or not len(embedding) == len(local) == len(entries):
        raise ValueError(
            f"{output} lists {len(entries)} photos but holds features of shapes {embedding.shape} and "
            f"{local.shape}: {remedy}"
        )
    if not np.isfinite(embedding).all():
        raise ValueError(f"some features of {output} are not finite: {remedy}")
    folder = Path(record["folder"])
    gallery = _gallery(folder, entries, embedding, local)
    saved = record["threshold"]
    threshold = Threshold(**(saved | {"weights": tuple(saved["weights"])})) if saved else None
    unreadable = [entry for entry in entries_of(record) if entry.fault]
    return Index(folder, gallery, unreadable, threshold, record["weights"], record["profile"])


def profile_of(output: Path) -> str:
    """Return the profile whose models made an index; raises FileNotFoundError where there is none."""
    record = read_record(output)
    if record is None:
        raise FileNotFoundError(
            f"{output} holds no index: make one with `python -m waldo_utils index FOLDER --output {output}`"
        )
    return record["profile"]


def _embed(
    folder: Path,
    entries: list[Entry],
    shards: Path,
    models: Models,
    known: dict[str, tuple[np.ndarray, int, np.ndarray, int]],
    faults: dict[str, str],
) -> None:
    """Compute features shard by shard, adding to `known` and `faults`."""
    from safetensors.numpy import save_file

    def load(entry: Entry) -> Tensor | str:
        try:
            return searching.prepare(models, read_photo(folder / entry.path, entry.path))
        except ValueError as error:
            return str(error)
        except OSError as error:
            return f"{entry.path} cannot be opened ({error.strerror}): make it readable"

    if not entries:
        return
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(entries), desc="index photos", unit="photo") as bar,
    ):
        for start in range(0, len(entries), SHARD):
            part = entries[start : start + SHARD]
            digests, embeddings, locals_ = [], [], []
            for first in range(0, len(part), 64):
                batch = part[first : first + 64]
                loaded = list(pool.map(load, batch))
                for entry, photo in zip(batch, loaded, strict=True):
                    if isinstance(photo, str):
                        faults[entry.sha256] = photo
                readable = [
                    (entry, photo)
                    for entry, photo in zip(batch, loaded, strict=True)
                    if not isinstance(photo, str)
                ]
                if readable:
                    embedding, local = searching.features(models, torch.stack([p for _, p in readable]))
                    digests += [entry.sha256 for entry, _ in readable]
                    embeddings.append(embedding)
                    locals_.append(local)
                bar.update(len(batch))
            if not digests:
                continue
            arrays = {"global": np.concatenate(embeddings), "local": np.concatenate(locals_)}
            name = hashlib.sha256("".join([models.digest, *digests]).encode()).hexdigest()[:16]
            write_atomically(shards / f"{name}.safetensors", lambda partial: save_file(arrays, partial))
            content = json.dumps({"digest": models.digest, "sha256": digests})
            write_atomically(shards / f"{name}.json", lambda partial: partial.write_text(content))
            _add_rows(known, digests, arrays["global"], arrays["local"])


def _known_rows(output: Path, record: dict | None, digest: str) -> dict:
    """Return where features lie that need not be computed: a file's hash to (globals, row, locals, row)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    known: dict = {}
    for path in sorted((output / "shards").glob("*.json")):
        try:
            content = json.loads(path.read_text())
            arrays = load_file(path.with_suffix(".safetensors"))
            whole = len(content["sha256"]) == len(arrays["global"]) == len(arrays["local"])
            mine = content["digest"] == digest
        except (OSError, ValueError, SafetensorError, KeyError, TypeError):
            continue  # cut off: computed again
        if mine and whole:
            _add_rows(known, content["sha256"], arrays["global"], arrays["local"])
    if record is not None:
        try:
            arrays = [read_array(output / record[name]) for name in ("global", "local")]
        except (OSError, ValueError):
            return known
        digests = [entry.sha256 for entry in entries_of(record) if not entry.fault]
        if (arrays[0].ndim, arrays[1].ndim) == (2, 4) and len(arrays[0]) == len(arrays[1]) == len(digests):
            _add_rows(known, digests, *arrays)
    return known


def _add_rows(known: dict, digests: list[str], embedding: np.ndarray, local: np.ndarray) -> None:
    for row, digest in enumerate(digests):
        known[digest] = (embedding, row, local, row)


def _write(
    output: Path,
    folder: Path,
    entries: list[Entry],
    known: dict,
    models: Models,
    profile: str,
    old: dict | None,
) -> None:
    """Write the arrays in the order of the entries, then the record that names them, then remove older
    arrays."""
    kept = [entry for entry in entries if not entry.fault]
    content = repr((models.digest, [(entry.path, entry.sha256) for entry in kept]))
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    record = {
        "format": FORMAT,
        "folder": str(folder.resolve()),
        "profile": profile,
        "weights": models.weights,
        "digest": models.digest,
        "global": f"global-{name}.npy",
        "local": f"local-{name}.npy",
        "files": [asdict(entry) for entry in entries],
    }
    if old is not None and old["global"] == record["global"]:
        record["threshold"] = old["threshold"]  # the same photos: only times or faults are new
    else:
        rows = [known[entry.sha256] for entry in kept]
        embedding = np.stack([array[row] for array, row, _, _ in rows])

        def write_local(partial: Path) -> None:
            shape = rows[0][2].shape[1:]
            out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(len(rows), *shape))
            for place, (_, _, array, row) in enumerate(rows):
                out[place] = array[row]
            out.flush()

        write_atomically(output / record["global"], lambda partial: np.save(partial, embedding))
        write_atomically(output / record["local"], write_local)
        local = np.load(output / record["local"], mmap_mode="r", allow_pickle=False)
        threshold = _calibrate(models, _gallery(folder, kept, embedding, local))
        record["threshold"] = asdict(threshold) if threshold else None
    text = json.dumps(record, indent=1)
    write_atomically(output / "index.json", lambda partial: partial.write_text(text))
    for path in output.glob("*.npy"):
        if path.name not in (record["global"], record["local"]):
            path.unlink()


def _gallery(folder: Path, entries: list[Entry], embedding: np.ndarray, local: np.ndarray) -> Gallery:
    """Return readable photos of a folder as a gallery."""
    labels = [product_of(entry.path) for entry in entries]
    return Gallery(
        embedding,
        local,
        [entry.path for entry in entries],
        np.array([product for product, _ in labels], dtype=str),
        np.array([category for _, category in labels], dtype=str),
        lambda row: read_photo(folder / entries[row].path),
    )


def _calibrate(models: Models, gallery: Gallery) -> Threshold | None:
    """Return the threshold of a folder whose sub-folders name at least ten products of two photos or more,
    else None."""
    queries = rejection.labelled_rows(gallery.products, CALIBRATION_QUERIES)
    if len(set(gallery.products[queries])) < 10:
        return None
    return rejection.choose_threshold(rejection.ask(models, gallery, queries))
