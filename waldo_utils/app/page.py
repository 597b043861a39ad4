"""The demo notebook as a page: Voila on this machine, without a request to any other."""

import os
import socket
from importlib.util import find_spec
from pathlib import Path

from waldo_utils.disk.artifacts import data_folder, write_atomically
from waldo_utils.run import kernels, pipeline
from waldo_utils.study import ROOT, Study

TEMPLATES = Path(__file__).parent / "page_template"
NOTEBOOK = ROOT / "notebooks" / "10_demo.ipynb"
CULL_AFTER, CULL_EVERY = 30, 10  # seconds that a kernel without a page lives, at most both together
PORTS = 100  # that are tried in turn
LARGEST_UPLOAD = 200 * 2**20  # bytes of a message; tornado's own limit of 10 MB is below many photos


def write_page(study: Study) -> Path:
    """Write the notebook that the page shows and return its path: the cells tagged `page`, for one
    profile."""
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    wanted = {"parameters", "page"}
    notebook.cells = [cell for cell in notebook.cells if wanted & set(cell.metadata.get("tags", []))]
    for cell in notebook.cells:
        if "parameters" in cell.metadata.tags:
            cell.source = f"profile = {study.name!r}"
    notebook.metadata.kernelspec.name = "waldo"
    notebook.metadata.title = "Where's Waldo? Find a product by photo"
    path = data_folder(study) / "demo" / "page.ipynb"
    return write_atomically(path, lambda partial: nbformat.write(notebook, partial))


def serve(study: Study, port: int, browser: bool) -> int:
    """Serve the page until interrupted; photos are rendered or read first where the first notebook has not
    run.

    Raises:
        ModuleNotFoundError: Voila is not installed; says how to.
        ValueError: the profile has no models that can search, or no port is free.
    """
    if find_spec("voila") is None:
        raise ModuleNotFoundError("the page needs Voila: install with `pip install -e .[demo]`")
    from waldo_utils.app import searching

    models = searching.open_models(study)  # refused here, in one line, and not on the page
    print(f"models: {models.weights}", flush=True)
    if not (data_folder(study) / "data" / "manifest.csv").exists():
        first = pipeline.STAGES[0].stem
        print(
            f"profile {study.name!r} has no photos here yet: notebook {first} makes them first, which "
            "takes a minute or two for `mini` on two cores. The page then opens at once, with these models; "
            f"`make study PROFILE={study.name}` runs the whole study, and the page then has what it trained.",
            flush=True,
        )
        code = pipeline.run(study, only=first)
        if code:
            return code
    serve_notebook(write_page(study), port, browser)
    return 0


def free_port(first: int) -> int:
    """Return the first port from `first` on that no other program listens on.

    Raises:
        ValueError: there is none.
    """
    for port in range(first, min(first + PORTS, 65_536)):
        with socket.socket() as tried:
            if os.name == "posix":  # as the server will; elsewhere this would share a port that is taken
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
                return port
            except PermissionError:
                raise ValueError(f"port {port} needs rights that you lack: choose one from 1024 on") from None
            except (OSError, OverflowError):
                continue
    raise ValueError(f"no port from {first} on is free: choose another --port, up to 65535")


def serve_notebook(notebook: Path, port: int, browser: bool) -> None:
    """Serve a notebook as a page on this machine until interrupted, on the first free port from `port` on.

    Raises:
        ValueError: no port is free.
    """
    from voila.app import Voila

    kernels.prefer_this_package()
    kernels.keep_memory()
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(kernels.kernel_folder()), str(TEMPLATES)])
    free = free_port(port)
    taken = "" if free == port else f"port {port} is taken by another program; "
    print(
        f"{taken}the demo is at http://127.0.0.1:{free}/ (the first visit takes some seconds); Ctrl+C ends "
        "it",
        flush=True,
    )
    Voila.launch_instance(
        [
            str(notebook),
            f"--Voila.port={free}",
            "--Voila.port_retries=0",
            "--Voila.ip=127.0.0.1",
            f"--Voila.open_browser={browser}",
            "--VoilaConfiguration.template=waldo",
            f"--Voila.tornado_settings={{'websocket_max_message_size': {LARGEST_UPLOAD}}}",
            # Voila's own call, with which a closed page would end its kernel, is refused for want of a token
            "--VoilaConfiguration.multi_kernel_manager_class=waldo_utils.app.page_kernels.PageKernels",
            f"--MappingKernelManager.cull_idle_timeout={CULL_AFTER}",
            f"--MappingKernelManager.cull_interval={CULL_EVERY}",
        ]
    )
