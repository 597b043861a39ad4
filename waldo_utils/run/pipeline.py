"""Run the notebooks in order, only those whose notebook, code, settings or inputs changed or whose outputs
are gone."""

import ast
import hashlib
import shutil
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from waldo_utils.data import inputs
from waldo_utils.disk import homes, locks
from waldo_utils.disk.files import check_writable, remove_partials, write_atomically
from waldo_utils.run import kernels, last_run, resources, staging
from waldo_utils.run.report import write_report
from waldo_utils.study import ROOT, Study
from waldo_utils.study import find_profile as find_profile  # the command line asks for it here

LIBRARIES = ("numpy", "pandas", "pillow", "torch", "torchvision")  # another version may give other figures


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
    Stage("07_depth_fusion_baselines", ("03_train_reranker",)),
    Stage("08_product_or_place", ("03_train_reranker",)),
    Stage(
        "09_results",
        (
            "03_train_reranker",
            "04_ablate_transforms",
            "05_evaluate_products10k",
            "06_categories_and_neighbors",
            "07_depth_fusion_baselines",
            "08_product_or_place",
        ),
    ),
    Stage("10_speed_and_scale", ("03_train_reranker",)),
    Stage("11_demo", ("03_train_reranker",)),
    Stage("12_own_photos", ("01_prepare_data",)),
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


def sources(notebook: Path, package: Path = ROOT / "waldo_utils") -> list[Path]:
    """Return the package's files that a notebook depends on, found by following its imports."""
    code = "\n".join(source for source, _ in _code_cells(notebook))
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
                    waiting.append(path.read_text(encoding="utf-8"))
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
    parts = [name.split(".") for name in names if name.split(".")[0] == "waldo_utils"]
    return {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}


def check_parameters(notebook: Path, parameters: dict) -> None:
    """Refuse parameters that the notebook does not have, which papermill itself would pass over.

    Raises:
        ValueError: lists the notebook's parameters.
    """
    import papermill

    known = papermill.inspect_notebook(kernels.unformatted(notebook))
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValueError(
            f"{notebook.name} has no parameter {', '.join(map(repr, unknown))}: "
            f"its parameters are {', '.join(known)}"
        )


def run(
    study: Study,
    force: bool = False,
    only: str | None = None,
    parameters: dict | None = None,
    measure: bool = False,
    folders: Folders | None = None,
    stages: tuple[Stage, ...] = STAGES,
) -> int:
    """Run what is not up to date, in order, and write the report; print progress all along.

    Args:
        study: whose notebooks run.
        force: run everything.
        only: the stem of a single notebook to run, whether up to date or not.
        parameters: of the notebooks beside `profile`.
        measure: run everything, and measure the times anew that are kept otherwise.
        folders: None: the project's.
        stages: the notebooks and what they need.

    Returns:
        0; 1 if a notebook failed: its executed copy is kept in the data folder, and the next run starts with
        it; 130 or 143 if Ctrl+C or SIGTERM stopped it: the kernel has ended, and the next run goes on there.

    Raises:
        ValueError: `only` or a parameter is unknown, or the project is in a folder where no kernel finds it.
        OSError: the results or the data folder cannot be written.
        locks.Held: another run of the same profile is going on.
    """
    kernels.check_place()
    folders = folders or Folders.of(study)
    if only and only not in [stage.stem for stage in stages]:
        raise ValueError(
            f"unknown notebook {only!r}: choose one of {', '.join(stage.stem for stage in stages)}"
        )
    parameters = {"profile": study.name, **(parameters or {})}
    chosen = [stage for stage in stages if only in (None, stage.stem)]
    for stage in chosen:
        check_parameters(folders.notebooks / f"{stage.stem}.ipynb", parameters)
    check_writable(folders.results)
    check_writable(folders.data)
    with locks.hold(folders.data / ".lock") as lock:
        try:
            with kernels.stoppable():
                for left in (*remove_partials(folders.data), *remove_partials(folders.results)):
                    print(f"removed {left}, which a killed run left half-written")
                if measure:
                    resources.forget(folders.results)
                if force or measure:
                    for checkpoint in folders.data.rglob("*.pt"):
                        checkpoint.unlink()
                    for begun in list(folders.data.rglob("*.partial/")):  # extractions and scorings
                        shutil.rmtree(begun)
                return _run(stages, chosen, study, force or measure or bool(only), parameters, folders, lock)
        except kernels.Stopped as stopped:
            to_do = [stage.stem for stage in chosen if not _stamp(stage, folders).exists()]
            print(
                f"stopped by {stopped}; the same command goes on with {to_do[0] if to_do else 'the report'}",
                file=sys.stderr,
            )
            return 128 + stopped.number


def _run(
    stages: tuple[Stage, ...],
    chosen: list[Stage],
    study: Study,
    always: bool,
    parameters: dict,
    folders: Folders,
    lock: int,
) -> int:
    """Run the chosen stages, those that are up to date only if `always`, under a lock that is held."""
    start, ran, took = time.monotonic(), False, {}
    for number, stage in enumerate(stages, start=1):
        if stage not in chosen:
            continue
        stamp = _fingerprint(stage, study, parameters, folders)
        if not always and _is_current(stage, stamp, folders):
            continue
        print(f"[{number}/{len(stages)}] {stage.stem} ...", flush=True)
        begin, began = time.monotonic(), time.time()
        _stamp(stage, folders).unlink(missing_ok=True)
        notebook = folders.notebooks / f"{stage.stem}.ipynb"
        copy = folders.data / "unfinished" / notebook.name
        staged = staging.begin(copy.parent / study.name, folders.results)
        environment = {homes.UNFINISHED: str(staged)}
        fault = kernels.execute(notebook, copy, parameters, folders.data / "jupyter", lock, environment)
        minutes = (time.monotonic() - begin) / 60
        if fault:
            print(
                f"[{number}/{len(stages)}] {stage.stem} FAILED after {minutes:.1f} min: {fault}",
                file=sys.stderr,
            )
            print(f"its executed copy is {copy}; the next run starts with it", file=sys.stderr)
            return 1
        outputs = [f"results/{name}" for name in staging.finish(staged, folders.results)]
        outputs += _artifacts(folders, began)
        write_atomically(_executed(stage, folders), partial(shutil.copyfile, copy))
        copy.unlink()
        made = _fingerprint(stage, study, parameters, folders)
        _write(_stamp(stage, folders), "\n".join([made, str(time.time()), *outputs]))
        print(f"[{number}/{len(stages)}] {stage.stem} done in {minutes:.1f} min", flush=True)
        ran, took[stage.stem] = True, minutes
    report = folders.results / "report.html"
    executed = [_executed(stage, folders) for stage in stages]
    peak = _peak_gb()
    if len(took) == len(stages):
        resources.keep(folders.results, took, peak)
        for path in executed:
            last_run.fill(study, path)
    if (ran or not report.exists()) and all(path.exists() for path in executed):
        write_report(study, executed, report)
        print(f"report: {report}")
        ran = True
    if not ran:
        print(f"nothing to do: {folders.results} is up to date (FORCE=1 runs everything again)")
    else:
        print(
            f"done in {(time.monotonic() - start) / 60:.1f} min on {_machine()}; "
            f"peak memory of a notebook {peak:.1f} GB"
        )
    return 0


def _peak_gb() -> float:
    """Return the memory of the notebook that needed most, in GB; NaN where the system does not tell."""
    try:
        import resource
    except ModuleNotFoundError:  # not a system of the Unix kind
        return float("nan")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def _machine() -> str:
    """Return what the minutes of a run hang on, in words."""
    from waldo_utils.speed import benchmark

    facts = benchmark.machine()
    gpu = "" if facts["device"] == "cpu" else f", {facts['device']}"
    return f"{facts['processor']}, {facts['cores']} cores{gpu}, load {facts['load']:.1f}"


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


# ---------------------------------------------------------------- what is up to date


def _fingerprint(stage: Stage, study: Study, parameters: dict, folders: Folders) -> str:
    """Return a hash of all that a stage depends on; a needed stage counts by when it last ran.

    That is: settings, parameters, the notebook's code, the code it imports, the versions of `LIBRARIES`, and
    for a notebook that opens raw photos (imports `sources`) a digest of those.
    """
    notebook = folders.notebooks / f"{stage.stem}.ipynb"
    versions = [(name, version(name)) for name in LIBRARIES]
    digest = hashlib.sha256(repr((replace(study, summary=""), sorted(parameters.items()), versions)).encode())
    digest.update(repr(_code_cells(notebook)).encode())
    code = sources(notebook)
    for path in code:
        digest.update(path.name.encode() + path.read_bytes())
    if ROOT / "waldo_utils" / "data" / "sources.py" in code:
        digest.update(inputs.digest(study.data, folders.data).encode())
    for need in stage.needs:
        stamp = folders.data / "stamps" / f"{need}.txt"
        digest.update(stamp.read_bytes() if stamp.exists() else b"missing")
    return digest.hexdigest()


def _code_cells(notebook: Path) -> list[tuple[str, bool]]:
    """Return what of a notebook decides its results: each code cell's source, and whether it is the
    parameters'.

    Prose, outputs, metadata and the form of the JSON decide nothing: an editor rewrites them when it saves.
    """
    import nbformat

    return [
        (cell.source.rstrip(), "parameters" in cell.metadata.get("tags", []))
        for cell in nbformat.read(notebook, as_version=4).cells
        if cell.cell_type == "code"
    ]


def _artifacts(folders: Folders, since: float) -> list[str]:
    """Return the artifacts that were written since a moment, as "data/..."."""
    from waldo_utils.disk.artifacts import WRITERS

    return [
        f"data/{path.relative_to(folders.data).as_posix()}"
        for path in staging.files(folders.data, tuple(WRITERS))
        if path.suffix != ".pt"  # a training's state, which nobody needs once it has ended
        and path.stat().st_mtime >= since
    ]


def _is_current(stage: Stage, fingerprint: str, folders: Folders) -> bool:
    stamp = _stamp(stage, folders)
    if not stamp.exists() or not _executed(stage, folders).exists():
        return False
    lines = stamp.read_text(encoding="utf-8").split("\n")
    outputs = [line.partition("/") for line in lines[2:]]
    return lines[0] == fingerprint and all(
        (getattr(folders, root) / path).exists() for root, _, path in outputs
    )


def _stamp(stage: Stage, folders: Folders) -> Path:
    return folders.data / "stamps" / f"{stage.stem}.txt"


def _executed(stage: Stage, folders: Folders) -> Path:
    return folders.results / "notebooks" / f"{stage.stem}.ipynb"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
