"""An index on disk: its record, its arrays' names, and the photos that it is of."""

import errno
import json
import os
import re
import stat as modes
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from waldo_utils.app.rejection import Threshold
from waldo_utils.disk.faults import explain
from waldo_utils.disk.files import sha256, write_atomically

FORMAT = 2
SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
}
OWN_FILES = re.compile(
    r"shards|(global|local)-[0-9a-f]{16}(\.\d+\.partial)?\.npy|index\.\d+\.partial\.json"
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


def product_of(path: str) -> tuple[str, str]:
    """Return product and category of a photo by its place: the folder it lies in, and the folder above; ""
    for none."""
    folders = path.split("/")[:-1]
    return "/".join(folders), "/".join(folders[:-1])


def list_photos(folder: Path, output: Path) -> list[str]:
    """Return the photos' paths relative to the folder, sorted."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (Path(place) / name).resolve() != output.resolve()
        ]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                found.append((Path(place) / name).relative_to(folder).as_posix())
    return sorted(found)


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
        record = json.loads(path.read_text())
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


def check_writable(output: Path) -> None:
    """Refuse a folder that cannot be written, before hours of computing."""
    try:
        write_atomically(output / "shards" / "try.txt", lambda partial: partial.write_text("x")).unlink()
    except OSError as error:
        raise OSError(f"the index cannot be written to {output}: {explain(error)}") from None
