"""Run the notebooks in order, only those whose notebook, code, settings or inputs changed."""

import ast
import base64
import hashlib
import io
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from waldo_utils.study import PROFILES, ROOT, Study

REPORT_WIDTH = 600  # pixels of the report's pictures at most; they are in full beside it

# glibc gives each large tensor back to the system and asks for it anew: kept instead, a training step on a CPU
# is a tenth faster. Other C libraries take no notice.
KEEP_MEMORY = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


@dataclass(frozen=True)
class Stage:
    """One notebook and the notebooks whose outputs it reads."""

    stem: str
    needs: tuple[str, ...] = ()


STAGES = (
    Stage("01_prepare_data"),
    Stage("02_train_global", ("01_prepare_data",)),
    Stage("03_train_reranker", ("02_train_global",)),
    Stage("04_ablate_transforms", ("03_train_reranker",)),
    Stage("05_evaluate_products10k", ("03_train_reranker",)),
    Stage("06_categories_and_neighbors", ("03_train_reranker",)),
    Stage(
        "07_results",
        (
            "03_train_reranker",
            "04_ablate_transforms",
            "05_evaluate_products10k",
            "06_categories_and_neighbors",
        ),
    ),
    Stage("08_speed_and_scale", ("03_train_reranker",)),
    Stage("09_demo", ("03_train_reranker",)),
)


@dataclass(frozen=True)
class Folders:
    """Where a run reads and writes."""

    notebooks: Path
    results: Path  # of the profile
    data: Path  # of the profile

    @classmethod
    def of(cls, study: Study) -> "Folders":
        """Return the project's own folders for a study."""
        return cls(ROOT / "notebooks", ROOT / "results" / study.name, ROOT / "data" / study.name)


def find_profile(name: str) -> Study:
    """Return the study of a profile.

    Raises:
        ValueError: there is no such profile; lists those there are.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def sources(notebook: Path, package: Path = ROOT / "waldo_utils") -> list[Path]:
    """Return the package's files that a notebook depends on, found by following its imports.

    A module's `PACKAGE_FILES` are not looked up; files in `waldo_utils/weights` count for whoever imports
    `starting_weights`.
    """
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    code = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
    found: set[Path] = set()
    waiting = [code]
    while waiting:
        for name in _imports(waiting.pop()):
            for path in (
                package.parent / f"{name.replace('.', '/')}.py",
                package.parent / name.replace(".", "/") / "__init__.py",
            ):
                if path.exists() and path not in found:
                    found.add(path)
                    waiting.append(path.read_text())
    if package / "starting_weights.py" in found:
        found.update((package / "weights").glob("*.safetensors"))
    return sorted(found)


def _imports(code: str) -> set[str]:
    """Return the dotted names of the package's modules that a piece of code imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.split(".")[0] == "waldo_utils"}


def check_parameters(notebook: Path, parameters: dict) -> None:
    """Refuse parameters that the notebook does not have, which papermill itself would pass over.

    Raises:
        ValueError: lists the notebook's parameters.
    """
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValueError(
            f"{notebook.name} has no parameter {', '.join(map(repr, unknown))}: its parameters are {', '.join(known)}"
        )


def run(
    study: Study,
    force: bool = False,
    only: str | None = None,
    parameters: dict | None = None,
    folders: Folders | None = None,
    stages: tuple[Stage, ...] = STAGES,
) -> int:
    """Run what is not up to date, in order, and write the report; print progress all along.

    Args:
        study: whose notebooks run.
        force: run everything.
        only: the stem of a single notebook to run, whether up to date or not.
        parameters: of the notebooks beside `profile`.
        folders: None: the project's.
        stages: the notebooks and what they need.

    Returns:
        0, or 1 if a notebook failed: its executed copy is kept, and the next run starts with it.

    Raises:
        ValueError: `only` or a parameter is unknown.
        OSError: the results folder cannot be written.
    """
    folders = folders or Folders.of(study)
    if only and only not in [stage.stem for stage in stages]:
        raise ValueError(
            f"unknown notebook {only!r}: choose one of {', '.join(stage.stem for stage in stages)}"
        )
    parameters = {"profile": study.name, **(parameters or {})}
    chosen = [stage for stage in stages if only in (None, stage.stem)]
    for stage in chosen:
        check_parameters(folders.notebooks / f"{stage.stem}.ipynb", parameters)
    _check_writable(folders.results)

    if force:
        for checkpoint in folders.data.rglob("*.pt"):
            checkpoint.unlink()
    start, ran = time.monotonic(), False
    for number, stage in enumerate(stages, start=1):
        if stage not in chosen:
            continue
        stamp = _fingerprint(stage, study, parameters, folders)
        if not (force or only) and _is_current(stage, stamp, folders):
            continue
        print(f"[{number}/{len(stages)}] {stage.stem} ...", flush=True)
        begin = time.monotonic()
        _stamp(stage, folders).unlink(missing_ok=True)
        fault = execute(folders.notebooks / f"{stage.stem}.ipynb", _executed(stage, folders), parameters)
        minutes = (time.monotonic() - begin) / 60
        if fault:
            print(
                f"[{number}/{len(stages)}] {stage.stem} FAILED after {minutes:.1f} min: {fault}",
                file=sys.stderr,
            )
            print(
                f"its executed copy is {_executed(stage, folders)}; the next run starts with it",
                file=sys.stderr,
            )
            return 1
        _write(_stamp(stage, folders), _fingerprint(stage, study, parameters, folders) + f"\n{time.time()}")
        print(f"[{number}/{len(stages)}] {stage.stem} done in {minutes:.1f} min", flush=True)
        ran = True
    report = folders.results / "report.html"
    executed = [_executed(stage, folders) for stage in stages]
    if (ran or not report.exists()) and all(path.exists() for path in executed):
        write_report(study, executed, report)
        print(f"report: {report}")
        ran = True
    if not ran:
        print(f"nothing to do: {folders.results} is up to date (FORCE=1 runs everything again)")
    else:
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"done in {(time.monotonic() - start) / 60:.1f} min, peak memory of a notebook {peak:.1f} GB")
    return 0


def status(
    study: Study, folders: Folders | None = None, stages: tuple[Stage, ...] = STAGES
) -> dict[str, bool]:
    """Return, for each notebook, whether its executed copy is up to date."""
    folders, parameters = folders or Folders.of(study), {"profile": study.name}
    current: dict[str, bool] = {}
    for stage in stages:
        fresh = _is_current(stage, _fingerprint(stage, study, parameters, folders), folders)
        current[stage.stem] = fresh and all(current[need] for need in stage.needs)
    return current


def execute(notebook: Path, output: Path, parameters: dict) -> str:
    """Run one notebook with papermill in this Python and return what went wrong, in one line; "" for nothing."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ["JUPYTER_PATH"] = str(kernel_folder())
    for name in KEEP_MEMORY:
        os.environ.setdefault(name, str(4 << 30))
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters,
            kernel_name="waldo",
            cwd=str(notebook.parent),
            progress_bar=False,
            log_output=False,
            config=Config(KernelManager={"transport_encryption": "auto"}),
            stderr_file=sys.stderr,
            request_save_on_cell_execute=True,
            store_widget_state=False,  # a widget needs a kernel: its state would be megabytes that show nothing
        )
    except PapermillExecutionError as error:
        first = error.source.strip().splitlines()[0] if error.source.strip() else ""
        return f"{notebook.name}, cell {error.cell_index + 1} ({first}): {error.ename}: {error.evalue}"
    except DeadKernelError:
        return f"{notebook.name}: its kernel died, perhaps for lack of memory"
    return ""


def write_report(study: Study, notebooks: list[Path], path: Path) -> None:
    """Write one HTML file with all executed notebooks, which opens without a network."""
    import nbformat
    from nbconvert import HTMLExporter

    whole = nbformat.v4.new_notebook()
    toc = "\n".join(f"{i}. [{p.stem}](#{p.stem})" for i, p in enumerate(notebooks, start=1))
    whole.cells.append(
        nbformat.v4.new_markdown_cell(f"# Where's Waldo? Profile `{study.name}`\n\n{study.summary}\n\n{toc}")
    )
    for notebook in notebooks:
        whole.cells.append(nbformat.v4.new_markdown_cell(f'<a id="{notebook.stem}"></a>'))
        for cell in nbformat.read(notebook, as_version=4).cells:
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
                for output in cell.outputs:
                    _shrink_pictures(output.get("data", {}))
            whole.cells.append(cell)
    for i, cell in enumerate(whole.cells):
        cell.id = f"cell-{i}"
    exporter = HTMLExporter(
        embed_images=True, mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url=""
    )
    body, _ = exporter.from_notebook_node(whole)
    _write(path, body)


def _shrink_pictures(data: dict) -> None:
    """Replace a cell's PNG by a JPEG where that is smaller: the report is one file, the PNGs are beside it."""
    if "image/png" not in data:
        return
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((REPORT_WIDTH, 10 * REPORT_WIDTH))
    picture.save(buffer, "JPEG", quality=35)
    jpeg = base64.b64encode(buffer.getvalue()).decode()
    if len(jpeg) < len(data["image/png"]):
        del data["image/png"]
        data["image/jpeg"] = jpeg


# ---------------------------------------------------------------- what is up to date


def _fingerprint(stage: Stage, study: Study, parameters: dict, folders: Folders) -> str:
    """Return a hash of all that a stage depends on; a needed stage counts by when it last ran."""
    notebook = folders.notebooks / f"{stage.stem}.ipynb"
    digest = hashlib.sha256(repr((study, sorted(parameters.items()))).encode())
    for path in [notebook, *sources(notebook)]:
        digest.update(path.name.encode() + path.read_bytes())
    for need in stage.needs:
        stamp = next(
            (_stamp(s, folders) for s in STAGES if s.stem == need), folders.data / "stamps" / f"{need}.txt"
        )
        digest.update(stamp.read_bytes() if stamp.exists() else b"missing")
    return digest.hexdigest()


def _is_current(stage: Stage, fingerprint: str, folders: Folders) -> bool:
    stamp = _stamp(stage, folders)
    return (
        stamp.exists()
        and _executed(stage, folders).exists()
        and stamp.read_text().split("\n")[0] == fingerprint
    )


def _stamp(stage: Stage, folders: Folders) -> Path:
    return folders.data / "stamps" / f"{stage.stem}.txt"


def _executed(stage: Stage, folders: Folders) -> Path:
    return folders.results / "notebooks" / f"{stage.stem}.ipynb"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def _check_writable(folder: Path) -> None:
    """Refuse a results folder that cannot be written, before anything runs."""
    try:
        _write(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}): make it writable") from None


def kernel_folder() -> Path:
    """Return a folder with a kernel that runs this Python, whatever kernels the user has installed."""
    import json

    folder = Path(sys.prefix) / "share" / "waldo-jupyter"
    spec = {
        # a kernel that is told to stop would log the interrupt as an error; what a cell raises is not logged there
        "argv": [
            sys.executable,
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
    _write(folder / "kernels" / "waldo" / "kernel.json", json.dumps(spec))
    return folder
