"""Train the image model, and the reranking transformer on top of it.

A training that is killed goes on where it last saved, within an epoch too, and ends with the weights and the log of an
undisturbed one: batches and crops are functions of the seed, the epoch and the step alone.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from waldo_utils.data.images import TrainTransform
from waldo_utils.disk.artifacts import write_atomically
from waldo_utils.models.devices import autocast, device
from waldo_utils.models.networks import ImageModel, RerankingTransformer
from waldo_utils.retrieval.features import CropBatches
from waldo_utils.study import GlobalStage, RerankerStage
from waldo_utils.training.losses import contrastive_loss, list_loss, pair_loss
from waldo_utils.training.samplers import (
    candidate_lists,
    hard_negatives,
    identity_batches,
    look_alikes,
    triplets,
)

WARM_UP = 0.05  # share of the steps over which the learning rate of a cosine schedule rises
SAVE_EVERY = 300.0  # seconds between two saved states within an epoch


def train_global(
    model: ImageModel,
    photos: Sequence[Tensor],
    labels: np.ndarray,
    settings: GlobalStage,
    seed: int,
    validate: Callable[[], float],
    checkpoint: Path,
    families: np.ndarray | None = None,
    watch: Callable[[int], dict[str, float]] | None = None,
) -> pd.DataFrame:
    """Train the image model's backbone and global head with the contrastive loss.

    BatchNorm stays in eval mode when the backbone starts from trained weights, as published; it trains
    when `settings.start` is "random". The local head has no part in this loss.

    Args:
        model: trained in place; at the end it holds the weights of the epoch that `validate` liked best,
            the start (epoch 0) included.
        photos: the N train photos, each a (3, h, w) uint8 tensor.
        labels: (N,) product of each of them.
        settings: the recipe.
        seed: of the batches and the crops.
        validate: recall@1 of the model as it is, on products held out from training.
        checkpoint: file that keeps the state after each epoch and every `SAVE_EVERY` seconds; training resumes from it.
        families: (N,) optional group of products that should meet in one batch (see `identity_batches`).
        watch: called after each epoch, gives more columns of the log, which choose nothing.

    Returns:
        One row per epoch: `epoch`, `loss` (mean over steps), `validation R@1`, `seconds`, and those of `watch`.

    Raises:
        ValueError: a loss is not finite, the checkpoint is broken or another training's, or `settings.micro_batch`
            is set and BatchNorm trains.
    """
    transform = TrainTransform(settings.size, scale=settings.crop_scale, flip=settings.flip)

    def steps_from(epoch: int, start: int) -> Iterator[Tensor]:
        rng = np.random.default_rng([seed, epoch])
        batches = list(identity_batches(labels, settings.batch, settings.photos_per_product, rng, families))
        model.train(settings.start == "random")
        loader = CropBatches(photos, batches, transform, seed=1000 * seed + epoch).loader(start)
        for images, batch in zip(_progress(loader, epoch, start, len(batches)), batches[start:], strict=True):
            yield global_gradients(model, images, torch.from_numpy(labels[batch]), settings)

    groups = pd.Series(labels).value_counts() // settings.photos_per_product
    steps = int(groups.sum()) * settings.photos_per_product // settings.batch
    model.to(device=device(), memory_format=torch.channels_last)
    return _fit(
        model,
        steps_from,
        max(steps, 1),
        settings.epochs,
        settings.optimizer,
        [(model, settings.learning_rate)],
        settings.weight_decay,
        settings.drops,
        validate,
        checkpoint,
        watch,
    )


def global_gradients(model: ImageModel, images: Tensor, labels: Tensor, settings: GlobalStage) -> Tensor:
    """Add the gradients of the contrastive loss over a batch to the model's and return the loss, detached.

    With `settings.micro_batch`, by gradient caching (Gao et al. 2021, arXiv 2101.06983): the embeddings of the whole
    batch without a graph, the loss's gradient by them, then one micro-batch after the other forward again and backward
    from its part of that gradient. The gradients are the same, the activations those of one micro-batch.

    Args:
        model: the image model.
        images: (B, 3, size, size), see `ImageModel.feature_map`.
        labels: (B,) product of each, in main memory.
        settings: the temperature and the micro-batch.

    Raises:
        ValueError: BatchNorm or dropout trains, with which a photo's two embeddings would differ.
    """

    def embed(part: Tensor) -> Tensor:
        with autocast():
            return model(part)[0]

    if settings.micro_batch is None:
        loss = contrastive_loss(embed(images), labels, settings.temperature)
        loss.backward()
        return loss.detach()
    for name, module in model.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            raise ValueError(
                f"micro_batch {settings.micro_batch} needs BatchNorm and dropout in eval mode, but {name} trains: "
                "set micro_batch to None or start from trained weights"
            )
    parts = images.split(settings.micro_batch)
    with torch.no_grad():
        embeddings = torch.cat([embed(part) for part in parts])  # (B, D)
    loss = contrastive_loss(embeddings.requires_grad_(), labels, settings.temperature)
    (gradient,) = torch.autograd.grad(loss, embeddings)  # (B, D)
    for part, part_gradient in zip(parts, gradient.split(settings.micro_batch), strict=True):
        embed(part).backward(part_gradient)
    return loss.detach()


def train_reranker(
    model: ImageModel,
    reranker: RerankingTransformer,
    photos: Sequence[Tensor],
    labels: np.ndarray,
    neighbors: np.ndarray,
    settings: RerankerStage,
    image_settings: GlobalStage,
    seed: int,
    validate: Callable[[], float],
    checkpoint: Path,
    finetune: bool = False,
) -> pd.DataFrame:
    """Train the reranking transformer on triplets with hard negatives from the training shortlist.

    With `finetune=False` ("frozen") the backbone and the global head stay as they are, and the local head
    and the transformer train; with `finetune=True` everything trains. BatchNorm stays in eval mode.
    Each triplet gives a pair (anchor, positive) and a pair (anchor, negative) for `pair_loss`; with `settings.group`,
    every photo of a group of look-alike products is an anchor whose candidates make a list for `list_loss`, so that a
    photo that went through the backbone once serves in many pairs. Finetuning has a learning rate of its own for the
    image model.

    Args:
        model, reranker: trained in place; at the end they hold the weights of the epoch that `validate` liked
            best, the start (epoch 0) included.
        photos: the N train photos, each a (3, h, w) uint8 tensor.
        labels: (N,) product of each of them.
        neighbors: (N, K) nearest train photos of each by the *global* model, as rows of `photos`.
        settings: the recipe.
        image_settings: crops and sizes of the photos.
        seed: of the triplets and the crops.
        validate: recall@1 after reranking, on products held out from training.
        checkpoint: file that keeps the state after each epoch and every `SAVE_EVERY` seconds; training resumes from it.
        finetune: whether the backbone trains too.

    Returns:
        One row per epoch: `epoch`, `loss`, `validation R@1`, `seconds`.
    """
    negatives = hard_negatives(neighbors, labels, settings.negatives)
    epochs = settings.finetune_epochs if finetune else settings.epochs
    scale = settings.crop_scale or image_settings.crop_scale
    transform = TrainTransform(image_settings.size, scale=scale, flip=image_settings.flip)
    trained = nn.ModuleDict({"model": model, "reranker": reranker}).to(device())
    for parameter in (*model.backbone.parameters(), *model.global_head.parameters()):
        parameter.requires_grad_(finetune)

    def steps_from(epoch: int, start: int) -> Iterator[Tensor]:
        batches = _reranker_batches(labels, negatives, settings, np.random.default_rng([seed, epoch]))
        trained.eval()
        rows = [photos_of_batch for photos_of_batch, _ in batches]
        loader = CropBatches(photos, rows, transform, seed=1000 * seed + epoch).loader(start)
        for images, (_, lists) in zip(
            _progress(loader, epoch, start, len(batches)), batches[start:], strict=True
        ):
            yield reranker_gradients(model, reranker, images, torch.from_numpy(lists).to(device()), finetune)

    try:
        return _fit(
            trained,
            steps_from,
            len(_reranker_batches(labels, negatives, settings, np.random.default_rng(0))),
            epochs,
            "adamw",
            [
                (model, settings.finetune_learning_rate if finetune else settings.learning_rate),
                (reranker, settings.learning_rate),
            ],
            settings.weight_decay,
            settings.drops,
            validate,
            checkpoint,
        )
    finally:
        model.requires_grad_(True)


def _reranker_batches(
    labels: np.ndarray, negatives: list[np.ndarray], settings: RerankerStage, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw one epoch: for each batch the rows (P,) of its photos, and lists (B, 2 + n) of places in it.

    A list is an anchor, a photo of its product and n photos of others.
    """
    if settings.group is None:
        drawn = triplets(labels, negatives, settings.triplets_per_epoch, rng)  # (T, 3)
        parts = [drawn[i : i + settings.triplets] for i in range(0, len(drawn), settings.triplets)]
        return [(part.ravel(), np.arange(part.size).reshape(part.shape)) for part in parts]
    drawn = look_alikes(labels, negatives, settings.group, rng)  # (G, products, 2)
    parts = [drawn[i : i + settings.groups] for i in range(0, len(drawn), settings.groups)]
    return [(part.ravel(), candidate_lists(len(part), settings.group, rng)) for part in parts]


def reranker_gradients(
    model: ImageModel, reranker: RerankingTransformer, images: Tensor, lists: Tensor, finetune: bool
) -> Tensor:
    """Add the gradients of the reranker's loss over a batch to the models' and return the loss, detached.

    Args:
        model, reranker: the models.
        images: (P, 3, size, size) photos of the batch.
        lists: (B, 2 + n) places in it: an anchor, a photo of its product, n photos of others.
            One wrong candidate makes a pair for `pair_loss`, several a list for `list_loss`.
        finetune: whether the backbone trains too.
    """
    candidates = lists[:, 1:]  # (B, 1 + n): the right one first
    anchors = lists[:, :1].expand_as(candidates)
    with autocast():
        with torch.set_grad_enabled(finetune):
            features = model.feature_map(images)
        local = model.local_features(features)
        logits = reranker(local[anchors.flatten()], local[candidates.flatten()]).view(candidates.shape)
    right = torch.zeros_like(logits, dtype=torch.bool)
    right[:, 0] = True
    loss = pair_loss(logits[:, 0], logits[:, 1]) if logits.shape[1] == 2 else list_loss(logits, right)
    loss.backward()
    return loss.detach()


def new_optimizer(
    name: str, rates: list[tuple[nn.Module, float]], weight_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer ("sgd" or "adamw") of some modules' trainable parameters, each with its learning rate."""
    groups = [
        {"params": [parameter for parameter in part.parameters() if parameter.requires_grad], "lr": rate}
        for part, rate in rates
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, weight_decay=weight_decay)


def _fit(
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

    `steps_from(epoch, start)` leaves the gradients of one step after the other, from `start` on, in the parameters
    and yields the losses. `rates` are the parts of `trained` with the learning rate of each.
    """
    optimizer = new_optimizer(optimizer_name, rates, weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(steps, epochs, drops))

    def row(epoch: int, loss: float, seconds: float) -> dict[str, float]:
        score = {"epoch": epoch, "loss": loss, "validation R@1": float(validate()), "seconds": seconds}
        return score | (watch(epoch) if watch else {})

    def save() -> None:
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

    optimizer.zero_grad(set_to_none=True)
    for epoch in range(len(log), epochs + 1):
        looked = saved = time.monotonic()
        for loss in steps_from(epoch, step):
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
    """Load a saved state into what is trained; return its log, best weights, and the running epoch's step, total loss and seconds.

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


def _progress(loader: Iterator[Tensor], epoch: int, start: int, steps: int) -> tqdm:
    return tqdm(loader, initial=start, total=steps, desc=f"epoch {epoch}", unit="batch")


def schedule(steps: int, epochs: int, drops: tuple[int, ...]) -> Callable[[int], float]:
    """Return the learning rate's factor at each step: tenfold drops after epochs, or warm-up and one cosine."""
    if drops:
        return lambda step: 0.1 ** sum(step >= steps * drop for drop in drops)
    total = max(steps * epochs, 1)
    warm_up = max(int(WARM_UP * total), 1)
    return lambda step: min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0))))
