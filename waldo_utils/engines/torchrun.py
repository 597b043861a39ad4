"""The study's trainings by several processes, which torchrun starts: on the GPUs of one machine or of many.

Every process runs the whole chain and has its share of each batch, of the photos and of the queries (see
`ranks`); the first one writes. All of them must see one data folder.
"""

import contextlib
import datetime
import os
import subprocess
import sys
import threading
import time
from typing import NoReturn

import pandas as pd
import torch
import torch.distributed as dist

from waldo_utils import ranks
from waldo_utils.data import splits
from waldo_utils.data.splits import Split
from waldo_utils.disk import artifacts, locks
from waldo_utils.disk.files import is_alive
from waldo_utils.study import Study
from waldo_utils.training import beginning, chain

PARTS = ("global", "reranker")  # the trainings of notebooks 02 and 03
# With a process that lives and is slow; one that ends is noticed at once.
PATIENCE = datetime.timedelta(hours=2)
STARTER = "WALDO_STARTER"  # in the environment: the process without which nobody waits for a training


def join() -> None:
    """Make this process one of those that torchrun started; alone it stays alone.

    Raises:
        ValueError: they are more than the GPUs of this machine.
        ranks.PeerLost: not all of them came.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if starter := os.environ.get(STARTER):
        threading.Thread(target=_end_with, args=(int(starter),), daemon=True).start()
    if world == 1:
        return
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if 0 < gpus < here:
        raise ValueError(
            f"{here} processes were started on a machine of {gpus} GPUs: --nproc-per-node {gpus}"
        )
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    ranks.RANK, ranks.WORLD = int(os.environ["RANK"]), world
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise ranks.PeerLost(
            f"the {world} processes did not find each other ({first}): start them again"
        ) from None


def _end_with(starter: int) -> None:
    """End this process when the one that waits for it is gone."""
    while is_alive(starter):
        time.sleep(1)
    os._exit(1)


def run(study: Study, parts: tuple[str, ...] = PARTS) -> None:
    """Run the trainings of notebooks 02 and 03, as one of the processes that torchrun started.

    Args:
        study: whose notebook 01 has run.
        parts: which of them: "global", "reranker".

    Raises:
        FileNotFoundError, ValueError: what they read is missing, damaged or of other settings.
        locks.Held: another run of the profile is going on.
        ranks.PeerLost: another process has ended.
    """
    join()
    lock = locks.writing(artifacts.lock_path(study)) if ranks.first() else contextlib.nullcontext()
    with lock:
        split = splits.open_splits(study)
        if "global" in parts:
            chain.train_every_seed(study, beginning.begin(study, split))
        if "reranker" in parts:
            chain.rerank_every_seed(study, beginning.with_maps(study, split))
    if ranks.WORLD > 1:
        dist.destroy_process_group()


def leave(reason: str) -> NoReturn:
    """End this process at once, with one line.

    Taking down the transports to a process that is gone can abort this one, or wait for it: they are left to
    the system.
    """
    print(f"error: {reason}", file=sys.stderr, flush=True)
    os._exit(2)


def train_every_seed(study: Study, split: dict[str, Split]) -> pd.DataFrame:
    """Do what `chain.train_every_seed` does, by one process per GPU where this machine has several."""
    if torch.cuda.device_count() < 2:
        return chain.train_every_seed(study, split)
    return _on_every_gpu(study, "global")


def rerank_every_seed(study: Study, split: dict[str, Split]) -> pd.DataFrame:
    """Do what `chain.rerank_every_seed` does, by one process per GPU where this machine has several."""
    if torch.cuda.device_count() < 2:
        return chain.rerank_every_seed(study, split)
    return _on_every_gpu(study, "reranker")


def _on_every_gpu(study: Study, part: str) -> pd.DataFrame:
    """Run one part in as many processes as there are GPUs, and return the log that it kept.

    Raises:
        ChildProcessError: it failed; says why in one line.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(torch.cuda.device_count())]
    command += ["-m", "waldo_utils", "train-study", "--profile", study.name, "--only", part]
    environment = os.environ | {STARTER: str(os.getpid())}
    fault = "its messages are in the terminal"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:  # progress goes to the terminal: a notebook would keep all of it
                print(line, end="", file=sys.__stderr__, flush=True)
                if line.startswith("error: ") and "another one has ended" not in line:
                    fault = line.removeprefix("error: ").strip()
        except BaseException:  # the cell was stopped
            process.terminate()
            raise
    if process.returncode:
        raise ChildProcessError(f"the training by several processes failed: {fault}")
    return artifacts.load_frame(study, f"{part}/log")
