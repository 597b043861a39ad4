"""Trainings by several processes: the training of one, up to rounding; killed, they go on with any number."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from waldo_utils import ranks
from waldo_utils.engines import torchrun
from waldo_utils.study import PROFILES, ROOT

WORLD = Path(__file__).with_name("world.py")
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch trains in one process"
)


def start(folder, *words, **variables):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, str(WORLD), str(folder), *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """What worlds of one, two and three processes found: (world, process) -> facts."""
    folder = tmp_path_factory.mktemp("worlds")
    process = start(folder)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return {
        (world, number): torch.load(folder / f"world{world}" / f"{number}.saved", weights_only=False)
        for world in (1, 2, 3)
        for number in range(world)
    }


def difference(first, second):
    """Return the length of the difference of two lists of tensors, as a share of the first's."""
    first, second = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (first, second))
    return ((first - second).norm() / first.norm()).item()


MEMBERS = [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]


@pytest.mark.parametrize("member", MEMBERS)
def test_the_gradients_of_several_processes_are_those_of_one(worlds, member):
    for kind in ("whole", "cached", "reranker"):
        one, several = worlds[1, 0]["gradients"][kind], worlds[member]["gradients"][kind]
        assert [t is None for t in one] == [t is None for t in several]
        assert sum(t is None for t in one) == 2  # of the head that has no part in this loss
        assert difference(*([t for t in tensors if t is not None] for tensors in (one, several))) <= 1e-6


@pytest.mark.parametrize("member", MEMBERS)
def test_features_and_scores_are_shared_by_rows_and_none_is_lost_or_counted_twice(worlds, member):
    for one, several in zip(worlds[1, 0]["features"], worlds[member]["features"], strict=True):
        assert one.shape == several.shape
        assert difference([one], [several]) <= 1e-6


@pytest.mark.parametrize("stage", ["global", "frozen", "finetuned"])
@pytest.mark.parametrize("member", MEMBERS)
def test_the_training_of_several_processes_is_that_of_one(worlds, member, stage):
    log, weights = worlds[1, 0][stage]
    other_log, other_weights = worlds[member][stage]
    pd.testing.assert_frame_equal(log, other_log, rtol=1e-5)
    # AdamW divides by a gradient's size: what is nearly zero follows its rounding.
    assert difference(weights.values(), other_weights.values()) <= (1e-6 if stage == "global" else 1e-3)
    same = worlds[member[0], 0][stage][1]
    assert all(torch.equal(same[key], value) for key, value in other_weights.items())  # bit for bit


def test_a_process_that_dies_ends_the_others_in_one_line_and_any_number_resumes(worlds, tmp_path):
    port = str(_port())
    members = [
        start(tmp_path, "killed", RANK=number, LOCAL_RANK=number, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
              MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        for number in "01"
    ]  # fmt: skip
    members[1].communicate(timeout=300)
    died = time.monotonic()
    _, told = members[0].communicate(timeout=60)
    assert time.monotonic() - died < 60
    assert [member.returncode for member in members] == [2, -9]
    errors = [line for line in told.splitlines() if not line.startswith("epoch") and line]
    assert len(errors) == 1, told
    assert errors[0].startswith("error: process 0 of 2 stops, because another one has ended")
    state = torch.load(tmp_path / "global.pt", weights_only=True)
    assert (len(state["log"]), state["step"]) == (2, 1)  # killed in the second step of the second epoch
    alone = start(tmp_path, "killed")
    assert alone.communicate(timeout=300) and alone.returncode == 0
    log, weights = torch.load(tmp_path / "end", weights_only=False)
    whole_log, whole = worlds[1, 0]["global"]
    pd.testing.assert_frame_equal(log, whole_log, rtol=1e-5)
    assert difference(whole.values(), weights.values()) <= 1e-6


def _port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("world, count", [(1, 5), (3, 7), (4, 3)])
def test_shares_are_runs_that_together_are_all_rows(world, count, monkeypatch):
    monkeypatch.setattr(ranks, "WORLD", world)
    rows = list(range(count))
    shares = [rows[ranks.share(count, rank)] for rank in range(world)]
    assert sum(shares, []) == rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_processes_that_know_different_things_are_refused(monkeypatch):
    class Peers:
        @staticmethod
        def all_gather_object(parts, facts):
            parts[:] = [("seed0_a.pt", 1, 0), ("seed0_b.pt", 1, 0)]

    monkeypatch.setattr(ranks, "WORLD", 2)
    monkeypatch.setattr(torch, "distributed", Peers)
    with pytest.raises(
        ValueError, match="process 1 starts from .*seed0_b.* let all of them see one data folder"
    ):
        ranks.check_same(("seed0_a.pt", 1, 0))


def test_more_processes_than_gpus_and_than_photos_of_a_batch_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="4 processes .* machine of 2 GPUs: --nproc-per-node 2"):
        torchrun.join()
    monkeypatch.setattr(ranks, "WORLD", 99)
    settings = PROFILES["smoke"].global_
    with pytest.raises(ValueError, match="99 processes cannot share a batch of 32 photos: start fewer"):
        torchrun.chain.global_training.train_global(None, [], None, settings, 0, None, tmp_path)


def test_a_notebook_starts_a_process_per_gpu_and_tells_why_it_failed(monkeypatch):
    began = []

    class Process:
        stderr = ["epoch 1\n", "error: no photos\n", "error: another one has ended\n"]
        returncode = 1

        def __init__(self, command, **settings):
            began.append(command)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(ChildProcessError, match="by several processes failed: no photos$"):
        torchrun.rerank_every_seed(PROFILES["smoke"], {})
    assert began[0][1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert began[0][6:] == ["-m", "waldo_utils", "train-study", "--profile", "smoke", "--only", "reranker"]
