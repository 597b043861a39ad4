"""Numbered shards made by Ray: on this machine's cores,
or by all machines of a cluster that see the photos."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from waldo_utils.app import searching
from waldo_utils.app.index_files import Summary
from waldo_utils.app.searching import Models
from waldo_utils.engines import shards

LOCAL = {"include_dashboard": False}  # of Ray on this machine
PHOTOS = 4_096  # of a task: minutes
RETRIES = 3  # of a task whose worker or machine was lost


def index(
    source: Path,
    output: Path,
    profile: str,
    address: str | None = None,
    photos: int = PHOTOS,
    open_models: Callable[[str], Models] = searching.open_models,
) -> Summary:
    """Index a folder or a list of photos by Ray tasks, each of which makes a shard and returns its folder.

    Args:
        source, output: see `shards.make_shard`; all machines of a cluster must see both.
        profile: the name of the models that compute the features (see `searching.open_models`).
        address: of a cluster; None: this machine alone.
        photos: of a task, about.
        open_models: called once in each worker.

    Raises:
        ModuleNotFoundError: Ray is missing here, or this package on the cluster.
        ConnectionError: no cluster answers, or a task was lost too often.
        ValueError, OSError: as `shards.make_shard` and `shards.merge`.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ModuleNotFoundError("Ray is missing: install the extra `ray`") from None
    _, listing = shards.listing_of(source, output)
    batches = -(-len(listing.photos) // shards.BATCH)
    count = min(batches, -(-len(listing.photos) // photos))
    try:
        _start(ray, address)
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_shard)
        given = (str(source.resolve()), str(output.resolve()))
        waiting = [task.remote(*given, number, count, profile, open_models) for number in range(1, count + 1)]
        with tqdm(total=count, desc="index by Ray", unit="shard") as bar:
            while waiting:
                done, waiting = ray.wait(waiting)
                ray.get(done)
                bar.update(len(done))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError | OSError):
            raise error.cause from None
        lacking = re.search(r"No module named '([^']+)'", str(error))
        if lacking is None:
            raise
        raise ModuleNotFoundError(
            f"a machine of the cluster lacks the package {lacking[1]}: install this project there"
        ) from None
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"Ray gave up a shard ({_first(error)}): the same command goes on") from None
    finally:
        ray.shutdown()
    return shards.merge(output, open_models(profile))


def _start(ray: ModuleType, address: str | None) -> None:
    """Start Ray on this machine, or join a cluster."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else it reports to its makers
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # of a machine that is busy
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="error",
            **({} if address else LOCAL),
        )
    except Exception as error:  # a bare one where it does not start in time
        where = f"no Ray cluster answers at {address}" if address else "Ray does not start on this machine"
        raise ConnectionError(f"{where} ({_first(error)}): correct the address, or try --shard") from None


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@functools.cache
def _models(open_models: Callable[[str], Models], profile: str) -> Models:
    return open_models(profile)


def _shard(
    source: str, output: str, number: int, count: int, profile: str, open_models: Callable[[str], Models]
) -> str:
    """Make one shard in a worker, and return its folder: no photo and no feature passes through Ray."""
    models = _models(open_models, profile)
    return str(shards.make_shard(Path(source), Path(output), number, count, models, profile))
