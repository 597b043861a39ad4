"""Train the image model, and the reranking transformer on top of it.

A training that is killed goes on where it last saved, within an epoch too, and ends with the weights and the
log of an undisturbed one: batches and crops are functions of the seed, the epoch and the step alone.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from waldo_utils import ranks
from waldo_utils.disk.artifacts import write_atomically
from waldo_utils.models.devices import device

WARM_UP = 0.05  # share of the steps over which the learning rate of a cosine schedule rises
SAVE_EVERY = 300.0  # seconds between two saved states within an epoch


def new_optimizer(
    name: str, rates: list[tuple[nn.Module, float]], weight_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer ("sgd" or "adamw") of some modules' trainable parameters, each with its learning
    rate."""
    groups = [
        {"params": [parameter for parameter in part.parameters() if parameter.requires_grad], "lr": rate}
        for part, rate in rates
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, weight_decay=weight_decay)


def fit(
    trained: nn.Module,
    steps_from: Callable[[int, int], Iterator[Tensor]],
    steps: int,
    epochs: int,
    optimizer_name: str,
    rates: list[tuple[nn.Module, float]],
    weight_decay: float,
    drops: tuple[int, ...],
    validate: Callable[[], float],
    checkpoint: Path,
    watch: Callable[[int], dict[str, float]] | None = None,
) -> pd.DataFrame:
    """Run the epochs, validate after each, keep the best weights, save the state to resume from.

    `steps_from(epoch, start)` leaves the gradients of one step after the other, from `start` on, in the
    parameters and yields the losses. `rates` are the parts of `trained` with the learning rate of each.
    Several processes each leave a share of gradient and loss, which is added up here; the first one saves.
    """
    optimizer = new_optimizer(optimizer_name, rates, weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(steps, epochs, drops))

    def row(epoch: int, loss: float, seconds: float) -> dict[str, float]:
        score = {"epoch": epoch, "loss": loss, "validation R@1": float(validate()), "seconds": seconds}
        return score | (watch(epoch) if watch else {})

    def save() -> None:
        if not ranks.first():
            return
        state = {
            "weights": trained.state_dict(),
            "best": best,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "log": log,
            "step": step,
            "total": total,
            "seconds": seconds,
            "random": torch.get_rng_state(),
        }
        write_atomically(checkpoint, lambda partial: torch.save(state, partial))

    if checkpoint.exists():
        log, best, step, total, seconds = _resume(checkpoint, trained, optimizer, scheduler)
    else:
        log, best = [row(0, float("nan"), 0.0)], copy.deepcopy(trained.state_dict())
        step, total, seconds = 0, torch.zeros((), device=device()), 0.0

    ranks.check_same((checkpoint.name, len(log), step))
    optimizer.zero_grad(set_to_none=True)
    for epoch in range(len(log), epochs + 1):
        looked = saved = time.monotonic()
        for loss in steps_from(epoch, step):
            loss = ranks.add_gradients(trained.parameters(), loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss
            step += 1
            now = time.monotonic()
            seconds, looked = seconds + now - looked, now
            if now - saved > SAVE_EVERY:
                saved = now
                save()
        mean = float(total) / steps
        if not np.isfinite(mean):
            raise ValueError(f"the loss of epoch {epoch} is {mean}: lower the learning rate ({rates[0][1]})")
        seconds += time.monotonic() - looked
        log.append(row(epoch, mean, seconds))
        if log[-1]["validation R@1"] >= max(earlier["validation R@1"] for earlier in log):
            best = copy.deepcopy(trained.state_dict())
        step, total, seconds = 0, torch.zeros_like(total), 0.0
        save()
    trained.load_state_dict(best)
    return pd.DataFrame(log)


def _resume(
    checkpoint: Path,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> tuple[list[dict], dict[str, Tensor], int, Tensor, float]:
    """Load a saved state into what is trained; return its log, best weights, and the running epoch's step,
    total loss and seconds.

    Raises:
        ValueError: the file is cut off, no checkpoint, or of another training.
    """
    try:
        state = torch.load(checkpoint, map_location=device(), weights_only=True)
        trained.load_state_dict(state["best"])
        trained.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["random"].cpu())
        return state["log"], state["best"], state["step"], state["total"], state["seconds"]
    except Exception as error:  # the reader meets broken files with whatever comes
        raise ValueError(
            f"{checkpoint} is no whole checkpoint of this training ({type(error).__name__}): "
            "delete it and run the training again"
        ) from None


def progress(loader: Iterator[Tensor], epoch: int, start: int, steps: int) -> tqdm:
    return tqdm(
        loader, initial=start, total=steps, desc=f"epoch {epoch}", unit="batch", disable=not ranks.first()
    )


def schedule(steps: int, epochs: int, drops: tuple[int, ...]) -> Callable[[int], float]:
    """Return the learning rate's factor at each step: tenfold drops after epochs, or warm-up and one
    cosine."""
    if drops:
        return lambda step: 0.1 ** sum(step >= steps * drop for drop in drops)
    total = max(steps * epochs, 1)
    warm_up = max(int(WARM_UP * total), 1)
    return lambda step: min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0))))
