"""Run one notebook in a kernel of its own that ends with the run, whatever ends the run."""

import ctypes
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path

from waldo_utils.disk.faults import REMEDIES
from waldo_utils.disk.files import rename, write_atomically
from waldo_utils.run import executed
from waldo_utils.study import ROOT

# glibc gives each large tensor back to the system and asks for it anew: kept instead, a training step on a
# CPU is a tenth faster. Other C libraries take no notice. Variable for the processes that are started -> what
# `mallopt` calls it for this one.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
LARGEST_KEPT = 2**31 - 1  # bytes; more does not fit into mallopt's integer
GRACE = 10  # seconds that a kernel gets to end by itself when a run is stopped
START = 300  # seconds that a kernel gets to start, on a machine that is busy with other things
LONGEST_SOCKET = 90  # bytes of a folder's path; that of a socket may have 103 on some systems


class Stopped(BaseException):
    """A signal asked the run to stop; like KeyboardInterrupt no error, so that nothing takes it for one."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the main thread on SIGINT (Ctrl+C) and SIGTERM."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def execute(
    notebook: Path,
    output: Path,
    parameters: dict,
    work: Path,
    lock: int | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Run one notebook with papermill in this Python and return what went wrong, in one line; "" for nothing.

    When anything ends this function early, a signal above all, the kernel and what it started end first. When
    this process is killed, the kernel notices within a second (ipykernel watches its parent) and keeps `lock`
    until then.

    Args:
        notebook: to run, in its folder.
        output: of the executed copy, which is written even when a cell fails.
        parameters: of the notebook.
        work: folder for the kernel's connection file and IPython's settings, so that neither a home folder
            nor what a user keeps there takes part.
        lock: file descriptor that the kernel inherits (see `locks.hold`).
        environment: variables of the kernel beside those of this process.
    """
    from jupyter_client.manager import AsyncKernelManager

    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ["JUPYTER_PATH"] = str(kernel_folder())
    prefer_this_package()
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        folder = work / name.split("_")[0].lower() / name.split("_")[-1].lower()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ[name] = str(folder)
    if not os.access(os.path.expanduser("~"), os.W_OK):  # else each kernel would look for all fonts anew
        os.environ.setdefault("MPLCONFIGDIR", str(work / "matplotlib"))
    keep_memory()
    started: list[AsyncKernelManager] = []

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options: object) -> None:
            started.append(self)
            inherited = {} if lock is None else {"pass_fds": (lock,)}
            options["env"] = os.environ | (environment or {})
            await super().start_kernel(**options, **inherited)

    partial = output.with_name(f"{output.stem}.{os.getpid()}.partial{output.suffix}")
    sockets = _new_sockets(work)
    if os.name == "posix":  # files that nobody else can open: no network takes part, not even the loopback
        connection = {"transport": "ipc", "ip": str(sockets / "kernel")}
    else:
        connection = {"transport_encryption": "auto"}
    future: Future[str] = Future()
    # In a thread of its own: in the main thread nbclient would take the signals, and call a stop a dead
    # kernel.
    work_on = (future, notebook, partial, parameters, Manager, connection)
    threading.Thread(target=_run, args=work_on, daemon=True).start()
    try:
        fault = future.result()  # not join: interrupted, it takes a thread for ended (Python 3.11)
    except BaseException:
        _end(future, started)
        raise
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
        if partial.exists():
            executed.settle(partial)
            rename(partial, output)
    return fault


def _new_sockets(work: Path) -> Path:
    """Return a new folder of this user alone for a kernel's sockets: in `work`, where its path is short
    enough."""
    sockets = work / "sockets"
    if len(os.fsencode(sockets)) > LONGEST_SOCKET:
        return Path(tempfile.mkdtemp(prefix="waldo-"))
    shutil.rmtree(sockets, ignore_errors=True)  # of a run that was killed
    sockets.mkdir(parents=True, mode=0o700)
    return sockets


def _run(
    future: Future, notebook: Path, output: Path, parameters: dict, manager: type, connection: dict
) -> None:
    """Execute a notebook and give the future what went wrong."""
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    try:
        papermill.execute_notebook(
            unformatted(notebook),
            unformatted(output),
            parameters,
            kernel_name="waldo",
            cwd=str(notebook.parent),
            progress_bar=False,
            start_timeout=START,
            log_output=False,
            config=Config({manager.__name__: connection}),
            kernel_manager_class=manager,
            stderr_file=sys.stderr,
            request_save_on_cell_execute=True,
            store_widget_state=False,  # without a kernel it would be megabytes that show nothing
        )
        future.set_result("")
    except PapermillExecutionError as error:
        reason = " ".join(f"{error.ename}: {error.evalue}".split()) + _remedy(error.evalue)
        future.set_result(f"{notebook.name}, cell {error.cell_index + 1} ({_first(error.source)}): {reason}")
    except DeadKernelError:
        future.set_result(f"{notebook.name}{_last(output)}: its kernel died, perhaps for lack of memory")
    except RuntimeError as error:  # of jupyter_client
        future.set_result(
            f"{notebook.name}: its kernel did not start ({error}): make sure that memory and the limit of "
            "open files suffice (`ulimit -a`) and run again"
        )
    except BaseException as error:
        future.set_exception(error)
    finally:
        ensure_event_loop().close()


def _remedy(message: str) -> str:
    """Return ": " and what to do about an error of the system, which its message numbers; "" where it needs
    no more."""
    number = re.match(r"\[Errno (\d+)\]", message)
    remedy = REMEDIES.get(int(number[1])) if number else None
    return f": {remedy}" if remedy else ""


def _first(source: str) -> str:
    """Return the first line of a cell."""
    return source.strip().splitlines()[0] if source.strip() else ""


def _last(executed: Path) -> str:
    """Return which cell of a notebook ran last, as ", cell 3 (its first line)"."""
    import nbformat

    with suppress(OSError, ValueError):
        cells = nbformat.read(executed, as_version=4).cells
        begun = [i for i, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")]
        if begun:
            return f", cell {begun[-1] + 1} ({_first(cells[begun[-1]].source)})"
    return ""


def _end(future: Future, started: list) -> None:
    """Interrupt a kernel until it ends, and kill it with all that it started if it does not, or at a second
    signal."""
    deadline = time.monotonic() + GRACE
    try:
        while not future.done() and time.monotonic() < deadline:
            _signal(started, signal.SIGINT, group=False)
            wait([future], timeout=2)
    finally:
        if not future.done():
            _signal(started, signal.SIGKILL, group=True)
            wait([future], timeout=GRACE)


def _signal(started: list, number: int, group: bool) -> None:
    """Send a signal to the kernels, or to their process groups, in which are the processes that they
    started."""
    for manager in started:
        if manager.provisioner is not None and manager.provisioner.pid:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(manager.provisioner.pid, number)


def keep_memory() -> None:
    """Let this process, and those it starts, keep the memory of freed tensors for the next ones."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        mallopt = None
    for name, parameter in KEEP_MEMORY.items():
        if name not in os.environ and mallopt is not None:
            mallopt(parameter, LARGEST_KEPT)
        os.environ.setdefault(name, str(LARGEST_KEPT))


def unformatted(path: Path) -> str:
    """Return a path as papermill takes it, which would fill in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def check_place() -> None:
    """Refuse a folder that a kernel could not be told of.

    Raises:
        ValueError: the path of the project or of this Python holds the sign that separates paths.
    """
    for folder in (ROOT, Path(sys.prefix)):
        if os.pathsep in str(folder):
            raise ValueError(
                f"the path of {folder} holds {os.pathsep!r}, which separates paths on this system: rename "
                "the folder"
            )


def prefer_this_package() -> None:
    """Let kernels import this package, and not one that this Python has installed from another folder.

    So it is where the project was copied or moved with its virtual environment.
    """
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in places:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, places)])


def kernel_folder() -> Path:
    """Return a folder with a kernel that runs this Python, whatever kernels the user has installed."""
    folder = Path(sys.prefix) / "share" / "waldo-jupyter"
    # jupyter_client fills in what stands in braces, once: so a folder called `{prefix}` is none of its words.
    python = sys.executable.replace(sys.prefix, "{prefix}", 1)
    spec = {
        # a kernel that is told to stop would log the interrupt as an error; what a cell raises is not logged
        # there
        "argv": [
            python,
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
            "--IPKernelApp.log_level=50",
        ],
        "display_name": "Waldo",
        "language": "python",
        "metadata": {"supported_encryption": "curve"},
    }
    path, text = folder / "kernels" / "waldo" / "kernel.json", json.dumps(spec)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return folder
