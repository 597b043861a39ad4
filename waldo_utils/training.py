"""Train the image model, and the reranking transformer on top of it."""

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

from waldo_utils.artifacts import write_atomically
from waldo_utils.devices import autocast, device
from waldo_utils.features import PhotoBatches
from waldo_utils.images import TrainTransform
from waldo_utils.losses import contrastive_loss, list_loss, pair_loss
from waldo_utils.models import ImageModel, RerankingTransformer
from waldo_utils.samplers import candidate_lists, hard_negatives, identity_batches, look_alikes, triplets
from waldo_utils.study import GlobalStage, RerankerStage

WARM_UP = 0.05  # share of the steps over which the learning rate of a cosine schedule rises


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
        checkpoint: file that keeps the state after each epoch; training resumes from it.
        families: (N,) optional group of products that should meet in one batch (see `identity_batches`).
        watch: called after each epoch, gives more columns of the log, which choose nothing.

    Returns:
        One row per epoch: `epoch`, `loss` (mean over steps), `validation R@1`, `seconds`, and those of `watch`.
    """
    transform = TrainTransform(settings.size, scale=settings.crop_scale, flip=settings.flip)

    def losses(epoch: int) -> Iterator[Tensor]:
        rng = np.random.default_rng([seed, epoch])
        batches = list(identity_batches(labels, settings.batch, settings.photos_per_product, rng, families))
        loader = PhotoBatches(photos, batches, transform, seed=1000 * seed + epoch).loader()
        model.train(settings.start == "random")
        progress = tqdm(
            zip(loader, batches, strict=True), total=len(batches), desc=f"epoch {epoch}", unit="batch"
        )
        for images, batch in progress:
            images = images.to(device=device(), memory_format=torch.channels_last)
            with autocast():
                embedding, _ = model(images)
            yield contrastive_loss(
                embedding, torch.from_numpy(labels[batch]).to(device()), settings.temperature
            )

    groups = pd.Series(labels).value_counts() // settings.photos_per_product
    steps = int(groups.sum()) * settings.photos_per_product // settings.batch
    model.to(device=device(), memory_format=torch.channels_last)
    return _fit(
        model,
        losses,
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
        checkpoint: file that keeps the state after each epoch; training resumes from it.
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

    def losses(epoch: int) -> Iterator[Tensor]:
        batches = _reranker_batches(labels, negatives, settings, np.random.default_rng([seed, epoch]))
        loader = PhotoBatches(
            photos, [rows for rows, _ in batches], transform, seed=1000 * seed + epoch
        ).loader()
        trained.eval()
        for images, (_, lists) in tqdm(
            zip(loader, batches, strict=True), total=len(batches), desc=f"epoch {epoch}", unit="batch"
        ):
            images = images.to(device=device(), memory_format=torch.channels_last)
            lists = torch.from_numpy(lists).to(device())  # (B, 2 + n)
            with autocast():
                with torch.set_grad_enabled(finetune):
                    features = model.feature_map(images)
                local = model.local_features(features)
                candidates = lists[:, 1:]  # (B, 1 + n): the right one first
                anchors = lists[:, :1].expand_as(candidates)
                logits = reranker(local[anchors.flatten()], local[candidates.flatten()]).view(
                    candidates.shape
                )
            if settings.group is None:
                yield pair_loss(logits[:, 0], logits[:, 1])
            else:
                right = torch.zeros_like(logits, dtype=torch.bool)
                right[:, 0] = True
                yield list_loss(logits, right)

    try:
        return _fit(
            trained,
            losses,
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


def _fit(
    trained: nn.Module,
    losses: Callable[[int], Iterator[Tensor]],
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

    `rates` are the parts of `trained` with the learning rate of each.
    """
    groups = [
        {"params": [parameter for parameter in part.parameters() if parameter.requires_grad], "lr": rate}
        for part, rate in rates
    ]
    if optimizer_name == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    else:
        optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(steps, epochs, drops))

    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device(), weights_only=True)
        trained.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        log, best = state["log"], state["best"]
    else:
        log = [{"epoch": 0, "loss": float("nan"), "validation R@1": validate(), "seconds": 0.0}]
        log[0] |= watch(0) if watch else {}
        best = copy.deepcopy(trained.state_dict())

    for epoch in range(len(log), epochs + 1):
        start, total = time.monotonic(), 0.0
        for loss in losses(epoch):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.detach()
        mean = float(total) / steps
        if not np.isfinite(mean):
            raise ValueError(f"the loss of epoch {epoch} is {mean}: lower the learning rate ({rates[0][1]})")
        seconds = time.monotonic() - start
        log.append({"epoch": epoch, "loss": mean, "validation R@1": validate(), "seconds": seconds})
        log[-1] |= watch(epoch) if watch else {}
        if log[-1]["validation R@1"] >= max(row["validation R@1"] for row in log):
            best = copy.deepcopy(trained.state_dict())
        state = {
            "weights": trained.state_dict(),
            "best": best,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "log": log,
        }
        write_atomically(checkpoint, lambda partial, state=state: torch.save(state, partial))
    trained.load_state_dict(best)
    return pd.DataFrame(log)


def schedule(steps: int, epochs: int, drops: tuple[int, ...]) -> Callable[[int], float]:
    """Return the learning rate's factor at each step: tenfold drops after epochs, or warm-up and one cosine."""
    if drops:
        return lambda step: 0.1 ** sum(step >= steps * drop for drop in drops)
    total = max(steps * epochs, 1)
    warm_up = max(int(WARM_UP * total), 1)
    return lambda step: min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0))))
