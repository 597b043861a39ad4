"""Files that are whole or absent: written under a temporary name, flushed to the disk, renamed."""

import errno
import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil

# What network shares answer where a call is unknown to them.
UNKNOWN = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOLCK,
    errno.EBADF,
    errno.ENOTTY,
}


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` with a temporary path, flush what it wrote to the disk and rename it to `path`.

    The temporary name holds the number of the process, so that two of them never write into one file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        write(partial)
        rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def rename(partial: Path, path: Path) -> None:
    """Flush a finished file to the disk, give it its name, and flush that too."""
    with partial.open("rb+") as file:
        flush(file.fileno())
    partial.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        try:
            folder = os.open(path.parent, os.O_RDONLY)
        except OSError:  # may be written and not read
            return
        try:
            flush(folder)
        finally:
            os.close(folder)


def flush(descriptor: int) -> None:
    """Bring an opened file or folder to the disk; where the file system knows no such thing, say so once."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        say_once(
            "this file system does not bring files to the disk when it is asked to (no fsync): after a"
            " failure of power some may be missing"
        )


@cache
def say_once(text: str) -> None:
    """Say a line on stderr, and not again in this process."""
    print(text, file=sys.stderr, flush=True)


def check_writable(folder: Path) -> None:
    """Make a folder and refuse one that cannot be written, before anything is computed.

    Raises:
        OSError: names the folder, the reason and the remedy.
    """
    try:
        write_atomically(folder / ".writable", Path.touch).unlink()
    except OSError as error:
        from waldo_utils.disk.faults import REMEDIES  # which writes by this module

        remedy = REMEDIES.get(error.errno, "make it writable, or make room")
        raise OSError(f"cannot write to {folder} ({error.strerror}): {remedy}") from None


def remove_partials(folder: Path) -> list[Path]:
    """Delete the temporary files that killed processes left below a folder, and return them.

    Those of a process that lives, for example of a notebook that somebody runs by hand, stay.
    """
    removed = []
    for path in [*folder.rglob("*.partial"), *folder.rglob("*.partial.*")]:
        number = path.name.split(".partial")[0].rsplit(".", 1)[-1]
        if path.is_file() and not (number.isdigit() and is_alive(int(number))):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def is_alive(process: int) -> bool:
    """Return whether a process of this number runs on this machine; one that only awaits its parent does
    not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
