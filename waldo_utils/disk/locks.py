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

from waldo_utils.disk.files import is_alive

try:
    import fcntl
except ImportError:  # Windows: runs are not kept apart there
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
    try:
        _acquire(descriptor, path, patience)
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "token": _OWN}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        os.environ[VARIABLE] = _OWN
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


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


def _acquire(descriptor: int, path: Path, patience: float) -> None:
    if fcntl is None:
        return
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _read(path)
            if not _is_gone(holder):
                raise Held(
                    f"process {holder.get('pid', '?')} on {holder.get('host', '?')} has been at work in "
                    f"{path.parent} since "
                    f"{holder.get('since', 'just now')}: wait for it, or stop it"
                ) from None
            if time.monotonic() > deadline:
                raise Held(
                    f"process {holder['pid']} was killed, but its kernel still works in {path.parent}: end it"
                ) from None
            time.sleep(0.1)


def _read(path: Path) -> dict:
    """Return what the holder wrote; nothing if it has not yet."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {}


def _is_gone(holder: dict) -> bool:
    return holder.get("host") == socket.gethostname() and not is_alive(holder["pid"])
