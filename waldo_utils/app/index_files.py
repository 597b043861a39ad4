"""An index on disk: its record, its arrays' names, and the photos that it is of."""

import errno
import hashlib
import json
import re
import stat as modes
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from waldo_utils.app.thresholds import Threshold
from waldo_utils.data import folders
from waldo_utils.disk.files import sha256
from waldo_utils.disk.homes import WORK
from waldo_utils.study import Study

FORMAT = 2
HOME = WORK / "data" / "indexes"
OWN_FILES = re.compile(
    r"shards|\.lock(\.held)?|\.writable.*|(global|local)-[0-9a-f]{16}(\.\d+\.partial)?\.npy|index\.\d+\.partial\.json"
)  # before the record
KEYS = ("folder", "profile", "weights", "digest", "global", "local")  # of the record, texts


@dataclass(frozen=True)
class Entry:
    """One file of the folder, as it was when it was read."""

    path: str  # relative to the folder, with slashes
    size: int  # bytes
    modified: int  # nanoseconds
    sha256: str
    fault: str = ""  # why it is left out


@dataclass(frozen=True)
class Summary:
    """What an update did, in numbers of files."""

    added: int
    changed: int
    removed: int
    kept: int
    unreadable: list[Entry]
    passed: str  # what was no photo or was hidden, in one line; "" for nothing


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


def product_of(path: str) -> tuple[str, str]:
    """Return product and category of a photo by its place: the folder it lies in, and the folder above; ""
    for none."""
    folders = path.split("/")[:-1]
    return "/".join(folders), "/".join(folders[:-1])


def identify(folder: Path, files: list[str], before: dict[str, Entry]) -> list[Entry]:
    """Return size, time and hash of every file; the hash is known where size and time are as before."""
    entries = []
    for path in tqdm(files, desc="look for changes", unit="file", leave=False):
        try:
            stat = (folder / path).stat()
            if not modes.S_ISREG(stat.st_mode):  # a pipe or a device would be read without end
                raise OSError(errno.EINVAL, "a folder or a device")
            old = before.get(path)
            if old and (old.size, old.modified) == (stat.st_size, stat.st_mtime_ns):
                digest = old.sha256
            else:
                digest = sha256(folder / path)
            entries.append(Entry(path, stat.st_size, stat.st_mtime_ns, digest))
        except OSError as error:  # a broken link, or no permission: recorded under a name no bytes have
            entries.append(Entry(path, 0, 0, f"unreadable:{path}:{error.strerror}"))
    return entries


def entries_of(record: dict) -> list[Entry]:
    return [Entry(**file) for file in record["files"]]


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
        if not all(isinstance(entry.path, str) for entry in entries_of(record)):
            raise ValueError("a path is no text")
        lacking = [key for key in KEYS if not isinstance(record[key], str)]
        if lacking or not (record["threshold"] is None or Threshold(**record["threshold"])):
            raise ValueError(f"it lacks {', '.join(lacking)}")
        if any(Path(record[key]).name != record[key] for key in ("global", "local")):
            raise ValueError("its arrays lie elsewhere")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove {output} and index again") from None
    return record


def unchanged(folder: Path, output: Path, study: Study) -> tuple[Summary, str] | None:
    """Return the summary of an index that is up to date, and whose models made it; None where something
    changed. No model is opened, which would take longer than all the rest."""
    record = read_record(output) if folder.is_dir() else None
    if record is None or record.get("models") != models_key(study) or record["profile"] != study.name:
        return None
    listing = folders.walk(folder, output)
    before = entries_of(record)
    entries = identify(folder, listing.photos, {entry.path: entry for entry in before})
    same = [(e.path, e.size, e.modified, e.sha256) for e in entries] == [
        (e.path, e.size, e.modified, e.sha256) for e in before
    ]
    arrays = all((output / record[name]).is_file() for name in ("global", "local"))
    if not (
        same
        and arrays
        and record["folder"] == str(folder.resolve())
        and record.get("passed") == listing.passed
    ):
        return None
    faults = [entry for entry in before if entry.fault]
    return Summary(0, 0, 0, len(before), faults, listing.sentence()), record["weights"]


def models_key(study: Study) -> str:
    """Return what tells the models of a study from others without opening them: settings, and its weights'
    files or the records of them."""
    digest = hashlib.sha256(repr(study).encode())
    trained = WORK / "data" / study.name
    for path in sorted([*trained.glob("global/seed*/*"), *trained.glob("reranker/**/*")]):
        if path.suffix in (".json", ".csv"):
            digest.update(path.name.encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            facts = path.stat()
            digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
