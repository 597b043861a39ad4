"""What a training step spends its time on, and the memory that its batch needs."""

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor

from waldo_utils.data.transforms import TrainTransform
from waldo_utils.models.devices import autocast, device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import map_of
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval.trunk_maps import training_batches
from waldo_utils.study import GlobalStage, RerankerStage
from waldo_utils.training.global_training import global_gradients
from waldo_utils.training.loop import new_optimizer
from waldo_utils.training.reranker_training import reranker_gradients
from waldo_utils.training.samplers import candidate_lists


def step_times(
    model: ImageModel,
    reranker: RerankingTransformer,
    photos: Sequence[Tensor],
    image_settings: GlobalStage,
    reranker_settings: RerankerStage,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> pd.DataFrame:
    """Time the parts of a training step and the whole of it, in turn, for each stage of the training.

    The network's part is forward, backward and optimizer on a batch that is ready, the augmentation's is
    reading the photos and cropping them; the whole loop prepares its batches as the training does. Photos are
    drawn at random.

    Args:
        model, reranker: trained as copies, so they stay as they are.
        photos: (3, h, w) uint8 each, for example a `photo_cache.PhotoCache`; or the trunk's maps of them.
        image_settings, reranker_settings: batches, crops and optimizer; BatchNorm stays in eval mode.
        rounds: how often each is timed; the medians count.
        clock: returns seconds; `time.process_time` counts the processor's, whatever else the machine does.

    Returns:
        One row per stage ("CO", "frozen", "finetuned"): `seconds per step` of the whole loop, the shares of
        it that `network` and `augmentation` take by themselves, and the `rest`, all in [0, 1] but for noise
        and for augmentation that runs while the network does.
    """
    # Copies, crops and batches as the training has them: only what is drawn differs.
    model, reranker = copy.deepcopy(model).to(device()), copy.deepcopy(reranker).to(device())
    model.eval().to(memory_format=torch.channels_last)
    batch, rng = image_settings.batch, np.random.default_rng(0)
    labels = torch.arange(batch) // image_settings.photos_per_product
    image_crop = TrainTransform(image_settings.size, image_settings.crop_scale, image_settings.flip)
    reranker_crop = TrainTransform(
        image_settings.size, reranker_settings.crop_scale or image_settings.crop_scale, image_settings.flip
    )
    if reranker_settings.group is None:
        lists = np.arange(3 * reranker_settings.triplets).reshape(-1, 3)
    else:
        lists = candidate_lists(reranker_settings.groups, reranker_settings.group, rng)
    lists = torch.from_numpy(lists).to(device())
    places = int(lists.max()) + 1  # photos of a batch

    def global_step(images: Tensor) -> None:
        global_gradients(model, images, labels, image_settings)

    def reranker_step(finetune: bool) -> Callable[[Tensor], None]:
        last_map = model.feature_map if finetune else map_of(model)

        def step(images: Tensor) -> None:
            with autocast(model.backbone.depthwise):
                features = last_map(images)
            reranker_gradients(model, reranker, features, lists)

        return step

    # gradients, crop, photos of a batch, optimizer, whether the backbone trains
    stages = {
        "CO": (global_step, image_crop, batch, image_settings.optimizer, True),
        "frozen": (reranker_step(False), reranker_crop, places, "adamw", False),
        "finetuned": (reranker_step(True), reranker_crop, places, "adamw", True),
    }
    rows = []
    for stage, (gradients, crop, count, name, backbone) in stages.items():
        for parameter in (*model.backbone.parameters(), *model.global_head.parameters()):
            parameter.requires_grad_(backbone)
        optimizer = new_optimizer(name, [(model, 1e-6), (reranker, 1e-6)], 0.0)
        batches = training_batches(
            photos, list(rng.integers(0, len(photos), (rounds + 1, count))), crop, seed=0
        )

        def step(images: Tensor, gradients=gradients, optimizer=optimizer) -> None:
            gradients(images)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        # In turn, so that whatever else the machine does meanwhile slows all three alike.
        loop = batches.loader()
        ready = next(loop)
        step(ready)  # warm-up
        times = [
            (
                _seconds(lambda batches=batches, i=i: batches[i], clock),
                _seconds(lambda step=step, ready=ready: step(ready), clock),
                _seconds(lambda step=step, loop=loop: step(next(loop)), clock),
            )
            for i in range(1, rounds + 1)
        ]
        augmentation, network, whole = np.median(times, axis=0)
        shares = {"network": network / whole, "augmentation": augmentation / whole}
        rows.append({"stage": stage, "seconds per step": whole, **shares, "rest": 1 - sum(shares.values())})
    return pd.DataFrame(rows)


def _seconds(action: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return how long an action takes, the device's part included."""
    start = clock()
    action()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def batch_memory(settings: GlobalStage, batches: Sequence[int], micro_batch: int) -> pd.DataFrame:
    """Measure the memory that one step of the global model's training needs, with and without gradient
    caching.

    Each size runs in a process of its own, on random photos or the trunk's maps of them, with BatchNorm in
    eval mode.

    Args:
        settings: backbone, photo size, and whether the trunk stays as it starts (`views`).
        batches: sizes to measure.
        micro_batch: photos whose activations gradient caching holds at once.

    Returns:
        One row per size and way: `batch`, `gradients` ("whole batch", "cached, 32 at once"), `GB` that the
        step took at its peak beyond what the process held before it.
    """
    rows = []
    for batch in batches:
        for size in (None, micro_batch):
            values = [settings.backbone, settings.size, settings.views, batch, size]
            command = [sys.executable, "-m", "waldo_utils.speed.training_speed", json.dumps(values)]
            package = Path(__file__).parents[2]
            peak = subprocess.run(command, cwd=package, capture_output=True, text=True, check=True).stdout
            way = "whole batch" if size is None else f"cached, {size} at once"
            rows.append({"batch": batch, "gradients": way, "GB": float(peak) / 1e9})
    return pd.DataFrame(rows)


def step_memory(backbone: str, size: int, views: int, batch: int, micro_batch: int | None) -> int:
    """Return the bytes that one step takes at its peak beyond what the process held before it; see
    `batch_memory`."""
    settings = replace(GlobalStage(), backbone=backbone, size=size, micro_batch=micro_batch)
    model = ImageModel(backbone).eval().to(device(), memory_format=torch.channels_last)
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2).to(device())
    if views:  # the trunk stays: training begins at its maps
        with torch.no_grad():
            images = torch.rand(batch, *model.trunk_map(images[:1]).shape[1:], device=device())
    before = _peak_memory()
    global_gradients(model, images, torch.arange(batch) // 2, settings)
    return _peak_memory() - before


def _peak_memory() -> int:
    """Return the most bytes held so far: on the device where there is one, else by this process."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # Linux; what `resource` gives there begins with the parent's peak
        line = next(
            line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")
        )
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(step_memory(*json.loads(sys.argv[1])))
