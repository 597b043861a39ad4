"""The commands of this room: what can be typed, and nothing that takes time to import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from waldo_utils import ranks
from waldo_utils.disk.paths import given, given_or_address
from waldo_utils.study import find_profile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from waldo_utils.app.searching import Answer, Gallery, Models
    from waldo_utils.speed.benchmark import Plan


def add(command: Callable[..., argparse.ArgumentParser], add_profile: Callable[..., None]) -> None:
    """Add the commands, each by calling `command`; `add_profile` adds the option of that name."""
    train = command(
        "train-study", _train_study,
        "run the trainings of notebooks 02 and 03, in several processes if torchrun starts it",
        "By itself it is one process. `torchrun --nproc-per-node 4 -m waldo_utils train-study --profile "
        "paper` is four that share each batch, which gives the same training up to rounding; all must see "
        "one data folder. Killed, it goes on where it was, with any number of them.",
        "--profile paper",
    )  # fmt: skip
    add_profile(train, "whose trainings")
    train.add_argument("--only", choices=("global", "reranker"), help="the trainings of one notebook")
    publish = command(
        "publish", _publish, "put an index into Qdrant, which serves its search (needs the extra `qdrant`)",
        "The same command again sends what is lacking. `search --engine URL` then asks there, "
        "and reranks here.",
        "--index my_index --to http://localhost:6333",
    )  # fmt: skip
    publish.add_argument(
        "--index", type=given, metavar="FOLDER", help="of the index (default: the one that was made last)"
    )
    publish.add_argument(
        "--to",
        type=given_or_address,
        required=True,
        metavar="URL",
        help="where Qdrant answers; a folder, for trials",
    )
    publish.add_argument("--local", action="store_true", help="the local features too, to be ranked by there")


def _train_study(options: argparse.Namespace) -> int:
    from waldo_utils.engines import torchrun

    study = find_profile(options.profile)
    try:
        torchrun.run(study, (options.only,) if options.only else torchrun.PARTS)
    except ranks.PeerLost as error:
        torchrun.leave(str(error))
    return 0


def _publish(options: argparse.Namespace) -> int:
    from waldo_utils.app import index_files
    from waldo_utils.engines import qdrant

    folder = options.index or index_files.newest()
    count = qdrant.publish(folder, options.to, options.local)
    print(f"{count} photos of {folder} are at {options.to}")
    print(f"search them: python -m waldo_utils search PHOTO --index {folder} --engine {options.to}")
    return 0


def search(engine: str | None, folder: Path, models: Models, gallery: Gallery, *what: object) -> Answer:
    """Return what `searching.search` finds, with the shortlist of an engine where one is named."""
    from waldo_utils.app import searching

    if engine is None:
        return searching.search(models, gallery, *what)
    from waldo_utils.engines import qdrant

    with qdrant.asked(folder, engine) as find:
        return searching.search(models, replace(gallery, search=find), *what)


def add_parts(index: argparse.ArgumentParser) -> None:
    """Add the options by which an index is made in parts; FOLDER may then be a list of photos, one a line."""
    ways = index.add_mutually_exclusive_group()
    ways.add_argument(
        "--shard", metavar="I/N", help="make part I of N alone, below --output; FOLDER may be a list"
    )
    ways.add_argument(
        "--merge", type=given, metavar="FOLDER", help="join the parts below this folder to an index there"
    )
    ways.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS",
        help="make and join the parts by Ray, here or by a cluster (needs the extra `ray`)",
    )  # fmt: skip


def index_in_parts(options: argparse.Namespace) -> int:
    """Make a part of an index, join the parts, or do both by Ray."""
    from waldo_utils.app import index_files, searching
    from waldo_utils.engines import shards

    output = options.merge or options.output
    if output is None:
        if options.shard or options.folder is None:
            raise ValueError("--shard needs FOLDER and --output, --ray needs FOLDER")
        output = index_files.default_output(options.folder, options.model)
    elif options.folder is None and not options.merge:
        raise ValueError("index needs the FOLDER of the photos, or a list of them")
    if options.ray:
        from waldo_utils.engines import ray_tasks

        address = None if options.ray == "local" else options.ray
        summary = ray_tasks.index(options.folder, output, options.model, address)
    elif options.merge:
        profiles = {record["profile"] for record in shards.records(output)}
        summary = shards.merge(output, searching.open_models(profiles.pop()))
    else:
        number, _, count = options.shard.partition("/")
        if not (number.isdigit() and count.isdigit()):
            raise ValueError(f"--shard takes I/N, for example 3/100, got {options.shard}")
        models = searching.open_models(options.model)
        place = shards.make_shard(options.folder, output, int(number), int(count), models, options.model)
        _print_if(shards.passed(place))
        print(f"shard: {place}\njoin all: python -m waldo_utils index --merge {output}")
        return 0
    print(f"{summary.added + summary.changed + summary.kept} photos, {len(summary.unreadable)} left out")
    _print_if(summary.passed)
    print(f"index: {output}")
    return 0


def _print_if(line: str) -> None:
    if line:
        print(line)


def measure_engines(plan: Plan, embedding: np.ndarray, labels: np.ndarray) -> tuple[str, pd.DataFrame]:
    """Return the table of engines on the smallest drawn gallery of a plan, with its name."""
    from waldo_utils.engines import speed
    from waldo_utils.retrieval import approximate

    gallery = approximate.drawn_gallery(embedding, labels, min(plan.galleries))
    queries = approximate.drawn_gallery(embedding, labels, plan.queries, seed=1)
    return "speed_engines", speed.engine_table(gallery, queries, min(plan.repeats, 3))
