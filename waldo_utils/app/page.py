"""The demo notebook as a page: Voila on this machine, without a request to any other."""

import os
from importlib.util import find_spec
from pathlib import Path

from waldo_utils.disk.artifacts import data_folder, write_atomically
from waldo_utils.run import kernels, pipeline
from waldo_utils.study import ROOT, Study

TEMPLATES = Path(__file__).parent / "page_template"
NOTEBOOK = ROOT / "notebooks" / "10_demo.ipynb"
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
    """Serve the page until interrupted; photos are rendered or read first where notebook 01 has not run.

    Raises:
        ModuleNotFoundError: Voila is not installed; says how to.
        ValueError: the profile has no models that can search.
    """
    if find_spec("voila") is None:
        raise ModuleNotFoundError("the page needs Voila: install with `pip install -e .[demo]`")
    from waldo_utils.app import searching

    searching.open_models(study)  # refused here, in one line, and not on the page
    if not (data_folder(study) / "data" / "manifest.csv").exists():
        code = pipeline.run(study, only="01_prepare_data")
        if code:
            return code
    serve_notebook(write_page(study), port, browser)
    return 0


def serve_notebook(notebook: Path, port: int, browser: bool) -> None:
    """Serve a notebook as a page on this machine until interrupted."""
    from voila.app import Voila

    kernels.prefer_this_package()
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(kernels.kernel_folder()), str(TEMPLATES)])
    print(
        f"the demo is at http://localhost:{port}/ (the first visit takes some seconds); Ctrl+C ends it",
        flush=True,
    )
    Voila.launch_instance(
        [
            str(notebook),
            f"--Voila.port={port}",
            "--Voila.ip=127.0.0.1",
            f"--Voila.open_browser={browser}",
            "--VoilaConfiguration.template=waldo",
            f"--Voila.tornado_settings={{'websocket_max_message_size': {LARGEST_UPLOAD}}}",
        ]
    )
