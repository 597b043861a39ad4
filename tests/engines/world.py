"""Small trainings in several processes: `world.py FOLDER` forks worlds of one, two and three and keeps what
each finds; `world.py FOLDER killed` is one process of a training whose second process is killed."""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from waldo_utils import ranks
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.engines import torchrun
from waldo_utils.models import image_model
from waldo_utils.models.backbones import Backbone
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact, features, reranking
from waldo_utils.study import PROFILES
from waldo_utils.training import global_training, loop, reranker_training

WORLDS = (1, 2, 3)
SMOKE = PROFILES["smoke"]
IMAGE = replace(
    SMOKE.global_, start="imagenet", size=16, resize=16, batch=8, epochs=2, optimizer="sgd",
    learning_rate=0.05, head_learning_rate=None, drops=(1,),
)  # fmt: skip
# 24 triplets in batches of five: the last has four, which three processes share unevenly.
RERANKER = replace(
    SMOKE.reranker, group=None, triplets=5, triplets_per_epoch=24, negatives=5, learning_rate=1e-3
)
LABELS = np.repeat(np.arange(8), 4)


class Tiny(Backbone):
    """One convolution."""

    channels = 8

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, kernel_size=4, stride=4)

    def tail(self, x):
        return self.layer(x).relu()


image_model.new_backbone = lambda name, pretrained: Tiny()
for module in (global_training, reranker_training):
    module.autocast = lambda *given: contextlib.nullcontext()


def new_models():
    torch.manual_seed(0)
    model = image_model.ImageModel("tiny", dim=16)
    return model, RerankingTransformer(dim=16, heads=2, layers=2, feedforward=32)


class Photos(list):
    """Photos of eight products; the look of a given number ends the process that takes it."""

    looks = 10**9

    def __init__(self):
        rng = np.random.default_rng(0)
        patterns = rng.uniform(0, 255, (8, 3, 5, 5))
        noisy = (patterns[label] + rng.normal(0, 20, (3, 5, 5)) for label in LABELS)
        super().__init__(
            torch.from_numpy(np.kron(p, np.ones((1, 4, 4))).clip(0, 255).astype(np.uint8)) for p in noisy
        )

    def __getitem__(self, i):
        self.looks -= 1
        if self.looks < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(i)


def train(folder, photos, micro_batch=3):
    """Train the global model and return its log and weights, which stand for its score."""
    model, _ = new_models()
    log = global_training.train_global(
        model, photos, LABELS, replace(IMAGE, micro_batch=micro_batch), 0,
        lambda: float(model.global_head.weight.detach().sum().sin().abs()), folder / "global.pt",
    )  # fmt: skip
    return log.drop(columns="seconds"), model.state_dict()


def gradients(micro_batch):
    """Return the loss and the gradients of one batch of seven photos."""
    model, _ = new_models()
    photos = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3])
    settings = replace(IMAGE, micro_batch=micro_batch)
    loss = global_training.global_gradients(model.eval(), photos[ranks.share(7)], labels, settings)
    loss = ranks.add_gradients(model.parameters(), loss)
    return [loss, *(parameter.grad for parameter in model.parameters())]


def reranker_gradients():
    """Return the loss and the gradients of seven triplets, or of this process's share of them."""
    model, reranker = new_models()
    photos = torch.rand(21, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    places, lists = reranker_training.own_lists(np.arange(21).reshape(7, 3))
    maps = model.feature_map(photos[places])
    loss = reranker_training.reranker_gradients(
        model, reranker, maps, torch.from_numpy(lists), len(lists) / 7
    )
    parameters = [*model.parameters(), *reranker.parameters()]
    return [ranks.add_gradients(parameters, loss), *(parameter.grad for parameter in parameters)]


def found(folder):
    """Return what this world finds, the same in all of its processes."""
    model, reranker = new_models()
    neighbors, _ = exact.nearest_neighbors(
        features.extract_features(model, Photos(), TestTransform(16, 16), batch=7)[0], 8
    )
    embedding, local = features.extract_features(model, Photos(), TestTransform(16, 16), batch=20)
    scores = reranking.rerank_scores(reranker, local, local, neighbors)
    average = features.average_maps(model, Photos(), TestTransform(16, 16), batch=7)
    facts = {
        "features": [torch.from_numpy(array).float() for array in (embedding, local, scores, average)],
        "gradients": {"whole": gradients(None), "cached": gradients(3), "reranker": reranker_gradients()},
        "global": train(folder, Photos()),
    }
    for stage in ("frozen", "finetuned"):
        log = reranker_training.train_reranker(
            model, reranker, Photos(), LABELS, neighbors, RERANKER, IMAGE, 0, lambda: 0.5,
            folder / f"{stage}.pt", finetune=stage == "finetuned",
        )  # fmt: skip
        weights = {key: value.clone() for key, value in (model.state_dict() | reranker.state_dict()).items()}
        facts[stage] = (log.drop(columns="seconds"), weights)
    return facts


def rank(number, world, port, folder):
    """Be one process of a world and keep what it finds."""
    if world > 1:
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
        os.environ |= dict(zip(names, map(str, (number, number, world, world, port)), strict=True))
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    torchrun.join()
    torch.set_num_threads(1)
    folder = folder / f"world{world}"
    folder.mkdir(exist_ok=True)
    torch.save(found(folder), folder / f"{number}.saved")


def killed(folder):
    """Train by the command, and die as the second of several processes in the second epoch."""
    photos = Photos()
    if os.environ.get("RANK") == "1":
        photos.looks = 32 + 10
    loop.SAVE_EVERY = 0.0
    artifacts.ROOT = folder
    training = SimpleNamespace(
        train_every_seed=lambda study, split: torch.save(train(folder, photos), folder / "end")
    )
    torchrun.chain, torchrun.beginning = training, SimpleNamespace(begin=lambda study, split: split)
    torchrun.splits = SimpleNamespace(open_splits=lambda study: {})
    from waldo_utils.__main__ import main

    return main(["train-study", "--profile", "smoke", "--only", "global"])


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2:] == ["killed"]:
        sys.exit(killed(place))
    fork = multiprocessing.get_context("fork")
    for world in WORLDS:
        port = free_port()
        members = [fork.Process(target=rank, args=(number, world, port, place)) for number in range(world)]
        for member in members:
            member.start()
        for member in members:
            member.join()
            if member.exitcode:
                sys.exit(f"a process of the world of {world} ended with {member.exitcode}")
