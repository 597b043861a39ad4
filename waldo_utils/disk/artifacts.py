"""What the notebooks hand to each other: arrays, weights and tables, each with a record of what made it.

Every artifact has a sibling `.json` that holds what it depends on (settings, earlier artifacts, code) and the
SHA-256 of its bytes. Loading compares all of it with the present study and says which notebook to rerun when
they differ. Files are written under a temporary name, flushed and renamed, so a half-written one is never
taken for whole.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils import ranks
from waldo_utils.disk import locks
from waldo_utils.disk.files import sha256, write_atomically
from waldo_utils.disk.homes import UNFINISHED
from waldo_utils.disk.homes import WORK as ROOT
from waldo_utils.study import PROFILES, Study

# First part of an artifact's name -> the notebook that writes it and the settings it depends on.
WRITERS = {
    "data": ("01_prepare_data", ("data",)),
    "global": ("02_train_global", ("data", "global_", "evaluation", "seeds")),
    "reranker": ("03_train_reranker", ("data", "global_", "reranker", "evaluation", "seeds")),
    "transfer": ("05_evaluate_products10k", ("data", "global_", "reranker", "evaluation", "seeds")),
    "sim_to_real": ("05_evaluate_products10k", ("data", "global_", "evaluation", "seeds")),
    "places": ("08_product_or_place", ("data", "global_", "reranker", "evaluation", "places", "seeds")),
}
# First part of an artifact's name -> the artifacts of an earlier notebook that its own are made from.
INPUTS = {
    "global": ("data/manifest.json", "photos/content.txt"),
    "reranker": ("data/manifest.json", "photos/content.txt", "global/seed*/weights.json"),
    "transfer": ("data/transfer_manifest.json", "transfer_photos/content.txt", "reranker/seed*/*_model.json"),
    "sim_to_real": ("data/manifest.json", "photos/content.txt", "global/start.json"),
    "places": ("data/manifest.json", "photos/content.txt", "reranker/seed*/*_model.json"),
}
PACKAGE = Path(__file__).parents[1]
FEATURE_CODE = (
    "ranks.py",
    "data/deep_photos.py",
    "data/photo_cache.py",
    "data/reading.py",
    "data/transforms.py",
    "models/devices.py",
    "models/backbones.py",
    "models/image_model.py",
    "models/inference.py",
    "models/reranker.py",
    "retrieval/batches.py",
    "retrieval/features.py",
)
TRAINING_CODE = (
    *FEATURE_CODE,
    "models/heads.py",
    "models/starting_weights.py",
    "retrieval/trunk_maps.py",
    "training/chain.py",
    "training/loop.py",
    "training/losses.py",
    "training/samplers.py",
)
GLOBAL_CODE = ("training/beginning.py", "training/global_training.py", "training/mixing.py")
SEARCH_CODE = ("retrieval/reranking.py", "retrieval/exact.py", "models/matching.py", "models/scorer.py")
# First part of an artifact's name -> the files of the package that decide what is in it; its notebook imports
# them.
CODE = {
    "data": ("data/checks.py", "data/manifests.py"),
    "global": (*TRAINING_CODE, *GLOBAL_CODE, *SEARCH_CODE),
    "reranker": (*TRAINING_CODE, "training/reranker_training.py", *SEARCH_CODE),
    "transfer": (*FEATURE_CODE, "experiments/transfer.py", *SEARCH_CODE),
    "sim_to_real": (
        *FEATURE_CODE,
        *GLOBAL_CODE,
        "experiments/sim_to_real.py",
        "models/heads.py",
        "models/starting_weights.py",
        "retrieval/exact.py",
        "retrieval/trunk_maps.py",
        "training/loop.py",
        "training/losses.py",
        "training/samplers.py",
    ),
    "places": (
        *FEATURE_CODE,
        *SEARCH_CODE,
        "experiments/product_or_place.py",
        "retrieval/trunk_maps.py",
        "training/loop.py",
        "training/losses.py",
        "training/patch_weights.py",
        "training/samplers.py",
    ),
}


def data_folder(study: Study) -> Path:
    """Return the folder of the study's large files: photos, features, weights. Git ignores it."""
    return ROOT / "data" / study.name


def results_folder(study: Study) -> Path:
    """Return the folder of the study's small results: tables, figures, executed notebooks.

    In the kernel of a run it is one in the data folder: what a notebook writes comes to results/ when it is
    done (`run.staging`).
    """
    unfinished = Path(os.environ.get(UNFINISHED, ""))
    return unfinished if unfinished.name == study.name else ROOT / "results" / study.name


def lock_path(study: Study) -> Path:
    """Return the lock file of a profile: whoever writes for it holds that, one at a time."""
    return data_folder(study) / ".lock"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the lock of the profile whose data or results `path` is among, while it is written; anywhere else
    nothing is held.

    Raises:
        locks.Held: another process writes for this profile.
    """
    tops = [ROOT / top for top in ("data", "results") if path.is_relative_to(ROOT / top)]
    profile = path.relative_to(tops[0]).parts[0] if tops and path != tops[0] else ""
    if profile.partition("@")[0] not in PROFILES:
        yield
        return
    with locks.writing(ROOT / "data" / profile / ".lock"):
        yield


def save(study: Study, name: str, write: Callable[[Path], None]) -> Path:
    """Write the artifact `name` (for example "global/seed0/weights.safetensors") and its record.

    Of several processes the first one writes, and the others wait for it.

    Args:
        study: the settings that produced it.
        name: path below the study's data folder; its first part must be a key of `WRITERS`.
        write: called with the path to write to.

    Raises:
        KeyError: the first part of the name is not a known stage.
        locks.Held: another process writes for this profile.
    """
    path = data_folder(study) / name
    if ranks.first():
        with locks.writing(lock_path(study)):
            _write(study, name, path, write)
    ranks.wait()
    return path


def _write(study: Study, name: str, path: Path, write: Callable[[Path], None]) -> None:
    """Do what `save` does, under the profile's lock."""
    record = path.with_suffix(".json")
    record.unlink(missing_ok=True)
    write_atomically(path, write)
    content = {
        "settings": _settings(study, name),
        "inputs": _inputs(study, name),
        "code": _code(CODE[name.split("/")[0]]),
        "processes": ranks.WORLD,
        "sha256": sha256(path),
    }
    text = json.dumps(content, indent=2)
    write_atomically(record, lambda partial: partial.write_text(text, encoding="utf-8"))


def find(study: Study, name: str) -> Path:
    """Return the path of the artifact `name` after checking that the present study made it.

    Raises:
        FileNotFoundError: there is no such artifact, or it has no record.
        ValueError: it was made with other settings, by other code or from other photos or weights, or its
            bytes are not those that were recorded.
    """
    path = data_folder(study) / name
    notebook = WRITERS[name.split("/")[0]][0]
    record = path.with_suffix(".json")
    if not path.is_file() or not record.is_file():
        raise FileNotFoundError(f"{path} is missing: run notebook {notebook} with profile {study.name!r}")
    content = _read_record(record, ("settings", "inputs", "code", "sha256"), f"rerun notebook {notebook}")
    changed = _differences(content["settings"], _settings(study, name))
    if changed:
        raise ValueError(f"{path} was made with other settings ({changed}): rerun notebook {notebook}")
    if content["sha256"] != sha256(path):
        raise ValueError(
            f"{path} is not the file that was recorded (its SHA-256 differs): rerun notebook {notebook}"
        )
    for fact, made, now in (
        ("from another", content["inputs"], _inputs(study, name)),
        ("by another", content["code"], _code(CODE[name.split("/")[0]])),
    ):
        other = [key for key in made if made[key] != now.get(key)]
        if other:
            raise ValueError(f"{path} was made {fact} {other[0]}: rerun notebook {notebook}")
    return path


def save_array(study: Study, name: str, array: np.ndarray) -> np.ndarray:
    """Save an array as `<name>.npy` and return it."""
    save(study, f"{name}.npy", lambda partial: np.save(partial, array))
    return array


def load_array(study: Study, name: str) -> np.ndarray:
    """Return the array `<name>.npy` as a read-only memory map; raises as `find` does."""
    path = find(study, f"{name}.npy")
    try:
        return read_array(path)
    except ValueError as error:
        raise ValueError(f"{error}: make it again") from None


def read_array(path: Path) -> np.ndarray:
    """Return a `.npy` file as a read-only memory map.

    Raises:
        ValueError: it is cut off, or holds anything but one array of plain numbers; nothing in it is
            executed.
    """
    try:
        with np.errstate(all="ignore"):  # a header may claim any size
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive")
    except OSError:
        raise
    except Exception as error:  # ValueError, EOFError, OverflowError, SyntaxError, ...
        raise ValueError(f"{path} is no whole array of numbers ({str(error).splitlines()[0]})") from None
    return array


def save_weights(study: Study, name: str, weights: dict) -> dict:
    """Save a state dict as `<name>.safetensors` and return it."""
    from safetensors.torch import save_file

    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    save(study, f"{name}.safetensors", lambda partial: save_file(tensors, partial))
    return weights


def checkpoint_path(study: Study, name: str) -> Path:
    """Return where a training keeps the state it resumes from.

    The file's name holds a hash of the settings, the inputs, the code that trains and the starting weights,
    so that a training with others starts anew. Raises `locks.Held` where another process writes for this
    profile, before hours of training.
    """
    return _unfinished(study, name, TRAINING_CODE).with_suffix(".pt")


def partial_path(study: Study, name: str) -> Path:
    """Return the folder of an extraction or scoring that is under way, named as `checkpoint_path` names its
    files."""
    return _unfinished(study, name, CODE[name.split("/")[0]]).with_suffix(".partial")


def load_weights(study: Study, name: str) -> dict:
    """Return the state dict `<name>.safetensors`; raises as `find` does."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = find(study, f"{name}.safetensors")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): make it again") from None


def save_frame(study: Study, name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Save a data frame that later notebooks read (manifest, log) as `<name>.csv` and return it."""
    save(study, f"{name}.csv", lambda partial: frame.to_csv(partial, index=False))
    return frame


def load_frame(study: Study, name: str) -> pd.DataFrame:
    """Return the data frame `<name>.csv`; raises as `find` does."""
    path = find(study, f"{name}.csv")
    try:
        return pd.read_csv(path, keep_default_na=False)
    except ValueError as error:
        raise ValueError(f"{path} is no table ({error}): make it again") from None


def save_table(
    study: Study, name: str, table: pd.DataFrame, machine: dict[str, object] | None = None
) -> pd.DataFrame:
    """Save a result table with its provenance to the results folder and return it for display.

    Args:
        study: the settings that produced the table.
        name: the file's stem, for example "main".
        table: columns whose name contains "@" are metrics: fractions in [0, 1], unrounded; rounding is the
            display's business. A "... gain" of one may be negative. A figure that was not run is missing
            (NaN), never 0.
        machine: what clock times hang on, for the record.

    Raises:
        ValueError: a metric is not a fraction, for example a percentage.
        locks.Held: another process writes for this profile.
    """
    values = table.filter(like="@")
    least = np.where(values.columns.str.contains(" gain"), -1.0, 0.0)
    inside = (values >= least) & (values <= 1) | values.isna()
    if not inside.all(axis=None):
        raise ValueError(f"table {name!r}: metrics must be fractions in [0, 1], got\n{values}")
    path = results_folder(study) / "tables" / f"{name}.csv"
    with locks.writing(lock_path(study)):
        write_atomically(path, lambda partial: table.to_csv(partial, index=False))
        provenance = {"study": _recorded(study), "torch": version("torch"), "sha256": sha256(path)}
        provenance |= {"machine": machine} if machine else {}
        text = json.dumps(provenance, indent=2)
        write_atomically(
            path.with_suffix(".json"), lambda partial: partial.write_text(text, encoding="utf-8")
        )
    return table


def load_table(study: Study, name: str) -> pd.DataFrame:
    """Return the result table `name`.

    Raises:
        FileNotFoundError: no notebook has written it yet.
        ValueError: it was made with other settings.
    """
    path = results_folder(study) / "tables" / f"{name}.csv"
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise FileNotFoundError(
            f"{path} is missing: run the notebooks before this one with profile {study.name!r}"
        )
    provenance = _read_record(path.with_suffix(".json"), ("study",), "rerun the notebooks")
    changed = _differences(provenance["study"], _recorded(study))
    if changed:
        raise ValueError(f"{path} was made with other settings ({changed}): rerun the notebooks")
    if provenance.get("sha256", "") != sha256(path):
        raise ValueError(
            f"{path} is not the table that was recorded (its SHA-256 differs): rerun the notebooks"
        )
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"{path} is no table ({error}): rerun the notebooks") from None


def _read_record(path: Path, keys: tuple[str, ...], remedy: str) -> dict:
    """Return what a record says; raises ValueError where it is damaged or lacks a key."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not all(key in record for key in keys):
            raise ValueError(f"it lacks {' or '.join(keys)}")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from None
    return record


def _recorded(study: Study) -> dict:
    """Return all settings of a study as JSON gives them back; its summary is prose and decides nothing."""
    settings = json.loads(json.dumps(asdict(study)))
    del settings["summary"]
    return settings


def _settings(study: Study, name: str) -> dict:
    """Return the settings that artifact `name` depends on, as JSON gives them back."""
    stages = WRITERS[name.split("/")[0]][1]
    settings = asdict(study)
    return json.loads(json.dumps({stage: settings[stage] for stage in stages}))


def _inputs(study: Study, name: str) -> dict[str, str]:
    """Return the start of the SHA-256 of each artifact that `name` is made from, whatever code made that."""
    folder = data_folder(study)
    patterns = INPUTS.get(name.split("/")[0], ())
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    return {path.relative_to(folder).as_posix(): _content(path)[:16] for path in paths}


def _content(path: Path) -> str:
    """Return the SHA-256 that a record holds, or that of another file."""
    if path.suffix == ".json":
        return _read_record(path, ("sha256",), "run the notebooks again")["sha256"]
    return sha256(path)


def _code(names: tuple[str, ...]) -> dict[str, str]:
    """Return a hash of each of the package's files."""
    return {name: _first_hash(PACKAGE / name) for name in names}


@cache
def _first_hash(path: Path) -> str:
    """Return a file's hash when it was first asked for: what is edited later is not the code that runs."""
    return sha256(path)[:16]


def _unfinished(study: Study, name: str, code: tuple[str, ...]) -> Path:
    """Return a path whose name tells what the unfinished artifact `name` is being made from, to write
    there."""
    if ranks.first():
        with locks.writing(lock_path(study)):
            pass
    facts = json.dumps([_settings(study, name), _inputs(study, name), _code(code)], sort_keys=True)
    return data_folder(study) / f"{name}_{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


def _differences(old: object, new: object, path: str = "") -> str:
    """Name the settings that differ, as "global_.epochs: 3, now 4"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        parts = [_differences(old.get(k), new.get(k), f"{path}.{k}" if path else k) for k in keys]
        return ", ".join(part for part in parts if part)
    return "" if old == new else f"{path}: {old}, now {new}"
