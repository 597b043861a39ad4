"""A first try of the tools for photos of one's own, on folders that are made of a study's photos."""

import shutil
from pathlib import Path

import pandas as pd

from waldo_utils.app.searching import Models
from waldo_utils.data import manifests, sources
from waldo_utils.disk import artifacts
from waldo_utils.disk.files import write_atomically
from waldo_utils.models import runs
from waldo_utils.own import adapting, evaluating
from waldo_utils.own.evaluating import Evaluation
from waldo_utils.study import DataStage

PRODUCTS = 60  # of a folder, at most
PER_PRODUCT = 9  # photos, at most
STEPS = 40  # of a training, at each rate
FEW_STEPS = {"smoke": 10}  # of a profile that only shows that all of it runs
MINUTES = 600.0  # so long that the steps decide, not the machine


def write_folders(settings: DataStage, data: Path, output: Path) -> dict[str, Path]:
    """Copy photos of the first products of the test set, and of the transfer set, into a folder each.

    Args:
        settings: the profile's data stage; its photos were prepared before.
        data: the profile's data folder.
        output: for the two folders; what another call left there is removed.

    Returns:
        "test" and "transfer" to the folders, whose photos lie in `category/product`, the product called as in
        its list.

    Raises:
        locks.Held: `output` is among a profile's data, and another process writes for that profile.
    """
    folders = {"test": output / "test", "transfer": output / "transfer"}
    with artifacts.writing(output):
        shutil.rmtree(output, ignore_errors=True)
        opened = (
            (*sources.open_source(settings, data), settings.source),
            (*sources.open_transfer(settings, data), ""),
        )
        for folder, (manifest, root, source) in zip(folders.values(), opened, strict=True):
            kept = choose(manifest[manifest.split == "test"])
            for row, product in zip(kept.itertuples(), manifests.product_names(kept, source), strict=True):
                parts = [name.replace("/", " ") for name in (row.category, product)]
                place = folder.joinpath(*parts, Path(row.path).name)
                # With its time, by which a training that was killed knows its photos.
                write_atomically(place, lambda partial, photo=root / row.path: shutil.copy2(photo, partial))
    return folders


def choose(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the first `PER_PRODUCT` photos of the first `PRODUCTS` products, the categories taking turns."""
    products = manifest.drop_duplicates("label")
    turns = products.assign(turn=products.groupby("category").cumcount()).sort_values("turn", kind="stable")
    kept = manifest[manifest.label.isin(turns.label.head(PRODUCTS))]
    return kept[kept.groupby("label").cumcount() < PER_PRODUCT]


def evaluate(
    folders: dict[str, Path], models: Models, model: str
) -> tuple[dict[str, Evaluation], pd.DataFrame]:
    """Evaluate models on each folder; return what was found, and all figures in one table."""
    found = {name: evaluating.evaluate(folder, models, model) for name, folder in folders.items()}
    figures = [evaluation.figures.assign(folder=name) for name, evaluation in found.items()]
    table = pd.concat(figures, ignore_index=True)
    return found, table[["folder", *table.columns.drop("folder")]]


def train(folders: dict[str, Path], profile: str) -> pd.DataFrame:
    """Train on each folder, as "runs/PROFILE_FOLDER", and print each verdict; a finished training of that
    name is made anew.

    Returns:
        The trainings against their starts, as of `adapting.train`, with their `folder`.
    """
    judged, steps = [], FEW_STEPS.get(profile, STEPS)
    said: list[str] = []  # the verdict last; what comes before tells of this machine
    for name, folder in folders.items():
        run = f"{profile}_{name}"
        runs.forget(run)
        judged.append(adapting.train(folder, run, MINUTES, said.append, steps).assign(folder=name))
        print(f"{name}: {said[-1]}\n")
    table = pd.concat(judged, ignore_index=True)
    return table[["folder", *table.columns.drop("folder")]]
