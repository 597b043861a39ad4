"""The commands for a folder of one's own: what can be typed, and what then happens."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from waldo_utils.disk import faults, files
from waldo_utils.disk.paths import given


def add(commands: argparse._SubParsersAction, command: Callable, add_model: Callable) -> None:
    """Add the commands; `command` and `add_model` are the command line's own."""
    train = command(
        commands, "train", _train, "train a model on a folder of your own photos",
        "Sub-folders name products. Some products choose rate and length, others judge whether it helped. "
        "The result is the model runs/NAME of index, evaluate and export, kept below data/runs. The same "
        "command again goes on where a killed one was.",
        "my_photos --name mine --minutes 20",
    )  # fmt: skip
    train.add_argument("folder", type=given, metavar="FOLDER", help="of the photos")
    train.add_argument("--name", required=True, metavar="NAME", help="of the result, runs/NAME")
    train.add_argument(
        "--minutes", type=float, default=20, metavar="N", help="that it may take, about (default: 20)"
    )
    export = command(
        commands, "export", _export, "write models as ONNX files for other programs",
        "Beside them lies an example that needs onnxruntime, numpy and Pillow only.", "--onnx my_models",
    )  # fmt: skip
    export.add_argument("--onnx", type=given, required=True, metavar="FOLDER", help="of the files")
    add_model(export)


def evaluate(source: Path, model: str, output: Path | None) -> int:
    """Evaluate a folder or a list, print the figures and write the page."""
    from waldo_utils.app import index_files, searching
    from waldo_utils.own import evaluating, evaluation_page

    if not source.exists():
        raise ValueError(
            f"there is no {source}: give a folder whose sub-folders name products, or a CSV file"
        )
    folder = (
        output or index_files.HOME.parent / "evaluations" / index_files.default_output(source, model).name
    )
    files.check_writable(folder)
    models = searching.open_models(model)
    print(f"models: {models.weights}", flush=True)
    found = evaluating.evaluate(source, models, model)
    page, _ = evaluation_page.write(found, source, folder)
    print(evaluation_page.shown(found.figures).to_string(index=False))
    if len(found.categories) > 1:
        print(evaluation_page.shown(found.categories).to_string(index=False))
    for name, value in found.facts.items():
        if value and not isinstance(value, str):
            print(f"{name}: {len(value) if isinstance(value, list) else value}")
    for kind, listed in found.suspicions.items():
        print(f"to look at, {kind}: {len(listed)}")
    if found.passed:
        print(found.passed)
    print(f"page: {page}")
    return 0


def search_many(folder: Path, index_folder: Path, output: Path | None, top: int) -> int:
    """Search each photo of a folder and write the matches as CSV."""
    import pandas as pd
    from tqdm import tqdm

    from waldo_utils.app import index, searching
    from waldo_utils.data import folders
    from waldo_utils.data.reading import read_photo

    if not folder.is_dir():
        raise ValueError(f"--many {folder} is no folder: give one of photos")
    listing = folders.walk(folder)
    listing.require_photos(f"--many {folder}")
    if passed := listing.sentence():
        print(passed, file=sys.stderr)
    models = searching.open_models(index.profile_of(index_folder))
    opened = index.open_index(index_folder, models)
    tables = []
    for name in tqdm(listing.photos, desc="search", unit="photo"):
        try:
            photo = read_photo(folder / name, name)
        except (ValueError, OSError) as error:
            print(f"left out: {faults.printable(str(error))}", file=sys.stderr)
            continue
        answer = searching.search(models, opened.gallery, photo)
        table = searching.matches(answer, opened.gallery, top).drop(columns=["row", "change"])
        margin = opened.threshold.margin(answer, opened.gallery) if opened.threshold else None
        table.insert(0, "photo", name)
        tables.append(table.assign(**{"in catalogue": None if margin is None else margin >= 0}))
    if not tables:
        raise ValueError(f"none of the {len(listing.photos)} photos of {folder} can be read")
    whole = pd.concat(tables, ignore_index=True)
    if output is None:
        whole.to_csv(sys.stdout, index=False, errors="backslashreplace")
    else:
        files.write_atomically(
            output, lambda part: whole.to_csv(part, index=False, errors="backslashreplace")
        )
        print(f"{len(tables)} photos searched: {output}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from waldo_utils.own import adapting

    adapting.train(options.folder, options.name, options.minutes, lambda line: print(line, flush=True))
    print(f"use it: index FOLDER --model runs/{options.name.removeprefix('runs/')}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from waldo_utils.app import searching
    from waldo_utils.own import exporting

    files.check_writable(options.onnx)
    for path in exporting.export(searching.open_models(options.model), options.onnx):
        print(path)
    return 0
