"""An index on disk: its record, the table of its photos, and what tells that it is up to date."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import stat as modes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from waldo_utils.app.thresholds import Threshold
from waldo_utils.data import folders
from waldo_utils.disk.files import sha256, write_atomically
from waldo_utils.disk.homes import WORK
from waldo_utils.study import PROFILES

FORMAT = 3
HOME = WORK / "data" / "indexes"
OWN_FILES = re.compile(
    r"\.lock(\.held)?|\.writable.*|features-[0-9a-f]{16}(-\d+)?|(photos|approximate)-[0-9a-f]{16}(\.\d+\.partial)?"
    r"\.(npz|faiss)|index\.\d+\.partial\.json"
)  # before the record
KEYS = ("folder", "profile", "weights", "digest", "photos", "features")  # of the record, texts
DEFAULT_MODEL = "efficientnet_lite0"  # works with nothing downloaded, and on real photos
NO_DIGEST = bytes(32)  # of a file that cannot be opened


@dataclass(frozen=True)
class Photos:
    """The files of a folder as they were when they were read, sorted by path: N of them, in columns."""

    paths: list[str]  # relative to the folder, with slashes
    sizes: np.ndarray  # (N,) int64, bytes
    times: np.ndarray  # (N,) int64, nanoseconds
    digests: np.ndarray  # (N, 32) uint8, SHA-256
    rows: np.ndarray  # (N,) int64, of the features; -1: left out
    faults: dict[int, str]  # why photos are left out, by their places

    def __len__(self) -> int:
        return len(self.paths)

    def indexed(self) -> dict[str, bytes]:
        """Return path and hash of those that have features."""
        places = np.flatnonzero(self.rows >= 0).tolist()
        return {self.paths[place]: self.digests[place].tobytes() for place in places}

    def same_files(self, other: Photos) -> bool:
        """Return whether both tell of the same files, unchanged."""
        return self.paths == other.paths and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("sizes", "times", "digests")
        )


@dataclass(frozen=True)
class Entry:
    """A file that is left out."""

    path: str  # relative to the folder, with slashes
    fault: str  # why


@dataclass(frozen=True)
class Summary:
    """What an update did, in numbers of photos; the files that are left out count nowhere else."""

    added: int
    changed: int
    removed: int
    kept: int
    unreadable: list[Entry]
    passed: str  # what was no photo or was hidden, in one line; "" for nothing


def default_output(folder: Path, model: str = DEFAULT_MODEL) -> Path:
    """Return where the index of a folder of photos by some models is kept unless said otherwise: below
    `data/indexes`."""
    resolved = folder.resolve()
    key = str(resolved) if model == DEFAULT_MODEL else f"{resolved}\0{model}"
    return HOME / f"{resolved.name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def newest() -> Path:
    """Return the index below `data/indexes` that was written last.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(HOME.glob("*/index.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError("there is no index yet: make one with `python -m waldo_utils index FOLDER`")
    return found[-1].parent


def product_of(path: str) -> tuple[str, str]:
    """Return product and category of a photo by its place: the folder it lies in, and the folder above; ""
    for none."""
    folders = path.split("/")[:-1]
    return "/".join(folders), "/".join(folders[:-1])


def identify(folder: Path, files: list[str], before: Photos | None) -> Photos:
    """Return size, time and hash of every file; the hash is known where size and time are as before."""
    places = {} if before is None else {path: place for place, path in enumerate(before.paths)}
    sizes, times = np.zeros(len(files), np.int64), np.zeros(len(files), np.int64)
    digests = np.zeros((len(files), 32), np.uint8)
    for i, path in enumerate(tqdm(files, desc="look for changes", unit="file", leave=False)):
        try:
            stat = (folder / path).stat()
            if not modes.S_ISREG(stat.st_mode):  # a pipe or a device would be read without end
                raise OSError(errno.EINVAL, "a folder or a device")
            old = places.get(path)
            if old is not None and (before.sizes[old], before.times[old]) == (stat.st_size, stat.st_mtime_ns):
                digest = before.digests[old]
            else:
                digest = np.frombuffer(bytes.fromhex(sha256(folder / path)), np.uint8)
            sizes[i], times[i], digests[i] = stat.st_size, stat.st_mtime_ns, digest
        except OSError:  # a broken link, or no permission: stays without a hash, and is tried again next time
            continue
    return Photos(list(files), sizes, times, digests, np.full(len(files), -1), {})


def left_out(photos: Photos) -> list[Entry]:
    """Return the files that have no features, and why."""
    return [Entry(photos.paths[place], fault) for place, fault in sorted(photos.faults.items())]


def write_photos(output: Path, photos: Photos) -> str:
    """Keep the table of photos, and return the name of its file."""
    columns = {
        "paths": np.frombuffer("\0".join(photos.paths).encode("utf-8", "surrogateescape"), np.uint8),
        "faults": np.frombuffer(json.dumps(list(photos.faults.items())).encode(), np.uint8),
    } | {name: getattr(photos, name) for name in ("sizes", "times", "digests", "rows")}
    content = hashlib.sha256(b"".join(np.ascontiguousarray(column).tobytes() for column in columns.values()))
    name = f"photos-{content.hexdigest()[:16]}.npz"
    write_atomically(output / name, lambda partial: np.savez(partial, **columns))
    return name


def read_photos(output: Path, record: dict) -> Photos:
    """Return the table of photos that a record names.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = output / record["photos"]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            columns = {name: saved[name] for name in ("sizes", "times", "digests", "rows")}
            paths = saved["paths"].tobytes().decode("utf-8", "surrogateescape").split("\0")
            faults = {int(place): str(why) for place, why in json.loads(saved["faults"].tobytes())}
        lengths = {len(paths), *(len(column) for column in columns.values())}
        if lengths != {record["files"]} or columns["rows"].max(initial=-1) >= record["rows"]:
            raise ValueError(f"it lists {len(paths)} photos of {record['files']}")
        return Photos(paths, **columns, faults=faults)
    except Exception as error:  # a damaged zip file is met with whatever comes
        raise ValueError(f"{path} is damaged ({error}): remove {output} and index again") from None


def read_record(output: Path) -> dict | None:
    """Return what `index.json` says, None where there is none.

    Raises:
        ValueError: it is damaged, or of another format.
    """
    path = output / "index.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove {output} and index again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{path} is of another format than {FORMAT}: remove {output} and index again")
    try:
        lacking = [key for key in KEYS if not isinstance(record[key], str)]
        lacking += [key for key in ("files", "rows") if not isinstance(record[key], int)]
        if lacking or not (record["threshold"] is None or Threshold(**record["threshold"])):
            raise ValueError(f"it lacks {', '.join(lacking)}")
        names = [record["photos"], record["features"]]
        names += [record["approximate"]["file"]] if record["approximate"] else []
        if any(Path(name).name != name for name in names):
            raise ValueError("its arrays lie elsewhere")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove {output} and index again") from None
    return record


def unchanged(folder: Path, output: Path, model: str) -> tuple[Summary, str] | None:
    """Return the summary of an index that is up to date, and whose models made it; None where something
    changed. No model is opened, which would take longer than all the rest."""
    record = read_record(output) if folder.is_dir() else None
    if record is None or record.get("models") != models_key(model) or record["profile"] != model:
        return None
    listing = folders.walk(folder, output)
    before = read_photos(output, record)
    files = [output / record["features"] / name for name in ("global", "local", "sha256")]
    if not (
        identify(folder, listing.photos, before).same_files(before)
        and all(path.is_file() for path in files)
        and record["folder"] == str(folder.resolve())
        and record.get("passed") == listing.passed
    ):
        return None
    kept = int((before.rows >= 0).sum())
    return Summary(0, 0, 0, kept, left_out(before), listing.sentence()), record["weights"]


def models_key(name: str) -> str:
    """Return what tells models of a name from others without opening them: a study's settings, and their
    weights' files or the records of them."""
    digest = hashlib.sha256(repr(PROFILES.get(name, name)).encode())
    trained = WORK / "data" / name  # of a profile or of "runs/NAME"
    for path in sorted(
        [*trained.glob("*.safetensors"), *trained.glob("global/seed*/*"), *trained.glob("reranker/**/*")]
    ):
        if path.suffix in (".json", ".csv"):
            digest.update(path.name.encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            facts = path.stat()
            digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
