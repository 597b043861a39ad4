"""One run at a time per profile: a lock that the system gives back when its holder is gone, however it
went."""

import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waldo_utils.disk.files import UNKNOWN, is_alive, say_once

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PATIENCE = 15  # seconds that the kernel of a killed run gets to notice it and end
# What a process holds, those that it starts may write under as well: they find its token in the environment.
VARIABLE = "WALDO_LOCK_TOKEN"
_PARENT, _OWN = os.environ.get(VARIABLE), uuid.uuid4().hex


class Held(RuntimeError):
    """Another run holds the lock."""


@contextmanager
def hold(path: Path, patience: float = PATIENCE) -> Iterator[int]:
    """Hold the lock file `path`, in which this process writes its number, host and time.

    The lock goes with the open file: a kernel that inherits it keeps it until it has ended too, so a new run
    never
    meets the kernel of a killed one. `flock` of the system, not a library: those close the file to children.
    On a file system without it, and on Windows, a second file says who holds the lock: a killed holder is
    noticed by its number, its kernel is not.

    Args:
        path: the lock file; it stays, empty, when the lock is given back.
        patience: seconds to wait when the holder is dead and only its kernel still ends.

    Yields:
        The file descriptor to hand to kernels.

    Raises:
        Held: another process holds it; says which, and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "token": _OWN}
    holder = json.dumps(facts).encode()
    held = None
    try:
        if not _acquire(descriptor, path, patience):
            held = _claim(path, holder)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, holder)
        os.environ[VARIABLE] = _OWN
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
        if held:
            held.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while something is written, unless this process or the one that started it
    does.

    In a notebook that somebody runs by hand it is held until the cell has ended, so that a training and a
    run of the same profile keep apart, while a kernel that idles holds up nobody. Raises as `hold` does.
    """
    if path.exists() and _read(path).get("token") in (_OWN, _PARENT or _OWN):
        yield
        return
    held = hold(path)
    held.__enter__()
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    try:
        yield
    finally:
        if shell is None:
            held.__exit__(None, None, None)
        else:

            def release(*_: object) -> None:
                shell.events.unregister("post_run_cell", release)
                held.__exit__(None, None, None)

            shell.events.register("post_run_cell", release)


def _acquire(descriptor: int, path: Path, patience: float) -> bool:
    """Lock an opened file; return whether the file system can."""
    if fcntl is None:
        return False
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            holder = _read(path)
            if not _is_gone(holder):
                raise Held(_sentence(holder, path)) from None
            if time.monotonic() > deadline:
                raise Held(
                    f"process {holder['pid']} was killed, but its kernel still works in {path.parent}: end it"
                ) from None
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in UNKNOWN:
                raise
            return False


def _claim(path: Path, holder: bytes) -> Path:
    """Hold a lock by a file that only one process can make, and return it."""
    say_once(
        "this file system knows no locks: a second run is kept out by a file that says who is at work, and is"
        " not kept out by the kernel of a run that was killed"
    )
    claim = path.with_name(f"{path.name}.held")
    for _ in range(2):
        try:
            opened = os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            before = _read(claim)
            if not _is_gone(before):
                raise Held(f"{_sentence(before, path)} (if it is gone, remove {claim})") from None
            claim.unlink(missing_ok=True)
        else:
            os.write(opened, holder)
            os.close(opened)
            return claim
    raise Held(f"another process has just begun in {path.parent}: wait for it, or stop it")


def _sentence(holder: dict, path: Path) -> str:
    return (
        f"process {holder.get('pid', '?')} on {holder.get('host', '?')} has been at work in {path.parent}"
        f" since {holder.get('since', 'just now')}: wait for it, or stop it"
    )


def _read(path: Path) -> dict:
    """Return what the holder wrote; nothing if it has not yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _is_gone(holder: dict) -> bool:
    return holder.get("host") == socket.gethostname() and not is_alive(holder["pid"])
