"""Train the image model with the contrastive loss."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from waldo_utils import ranks
from waldo_utils.data.transforms import TrainTransform
from waldo_utils.models.devices import autocast, device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.retrieval.trunk_maps import training_batches
from waldo_utils.study import GlobalStage
from waldo_utils.training.loop import fit, progress
from waldo_utils.training.losses import contrastive_loss
from waldo_utils.training.samplers import identity_batches


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

    From a trunk's maps only the rest of the backbone trains, on the views that were computed. BatchNorm stays
    in eval mode when the backbone starts from trained weights, as published; it trains when `settings.start`
    is "random". The local head has no part in this loss.

    Args:
        model: trained in place; at the end it holds the weights of the epoch that `validate` liked best,
            the start (epoch 0) included.
        photos: the N train photos, each a (3, h, w) uint8 tensor; or the maps that the model's trunk gives of
            them.
        labels: (N,) product of each of them.
        settings: the recipe.
        seed: of the batches and the crops.
        validate: recall@1 of the model as it is, on products held out from training.
        checkpoint: file that keeps the state after each epoch and every `SAVE_EVERY` seconds; training
            resumes from it.
        families: (N,) optional group of products that should meet in one batch (see `identity_batches`).
        watch: called after each epoch, gives more columns of the log, which choose nothing.

    Returns:
        One row per epoch: `epoch`, `loss` (mean over steps), `validation R@1`, `seconds`, and those of
            `watch`.

    Raises:
        ValueError: a loss is not finite, the checkpoint is broken or another training's,
            `settings.micro_batch` is set or processes share the batch and BatchNorm trains, or these are more
            than its photos.
    """
    if settings.batch < ranks.WORLD:
        raise ValueError(
            f"{ranks.WORLD} processes cannot share a batch of {settings.batch} photos: start fewer"
        )
    transform = TrainTransform(settings.size, scale=settings.crop_scale, flip=settings.flip)

    def steps_from(epoch: int, start: int) -> Iterator[Tensor]:
        rng = np.random.default_rng([seed, epoch])
        batches = list(identity_batches(labels, settings.batch, settings.photos_per_product, rng, families))
        model.train(settings.start == "random")
        own = [np.arange(len(batch))[ranks.share(len(batch))] for batch in batches]
        loader = training_batches(photos, batches, transform, 1000 * seed + epoch, own).loader(start)
        for images, batch in zip(progress(loader, epoch, start, len(batches)), batches[start:], strict=True):
            yield global_gradients(model, images, torch.from_numpy(labels[batch]), settings)

    groups = pd.Series(labels).value_counts() // settings.photos_per_product
    steps = int(groups.sum()) * settings.photos_per_product // settings.batch
    model.to(device=device(), memory_format=torch.channels_last)
    return fit(
        model,
        steps_from,
        max(steps, 1),
        settings.epochs,
        settings.optimizer,
        [
            (model.backbone, settings.learning_rate),
            (model.global_head, settings.head_learning_rate or settings.learning_rate),
        ],
        settings.weight_decay,
        settings.drops,
        validate,
        checkpoint,
        watch,
    )


def global_gradients(model: ImageModel, images: Tensor, labels: Tensor, settings: GlobalStage) -> Tensor:
    """Add the gradients of the contrastive loss over a batch to the model's and return the loss, detached.

    Of several processes each embeds its share of the batch and goes backward through that alone; all see the
    loss of the whole batch, of which each returns an equal part. The sum of their gradients is that of one
    process.

    With `settings.micro_batch`, by gradient caching (Gao et al. 2021, arXiv 2101.06983): the embeddings of
    the whole batch without a graph, the loss's gradient by them, then one micro-batch after the other forward
    again and backward from its part of that gradient. The gradients are the same, the activations those of
    one micro-batch.

    Args:
        model: the image model.
        images: a batch of photos or of the trunk's maps, see `ImageModel.feature_map`; this process's share.
        labels: (B,) product of each of the whole batch, in main memory.
        settings: the temperature and the micro-batch.

    Raises:
        ValueError: BatchNorm or dropout trains, with which a photo's two embeddings would differ.
    """

    def embed(part: Tensor) -> Tensor:
        with autocast(model.backbone.depthwise):
            return model.global_features(model.feature_map(part))

    whole = settings.micro_batch is None
    if not whole or ranks.WORLD > 1:
        _check_still(
            model, f"{ranks.WORLD} processes need" if whole else f"micro_batch {settings.micro_batch} needs"
        )
    parts = images.split(settings.micro_batch or len(images))
    with torch.set_grad_enabled(whole):
        own = torch.cat([embed(part) for part in parts])  # (B / processes, D)
    embeddings = ranks.gather(own.detach(), len(labels)).requires_grad_()  # (B, D)
    loss = contrastive_loss(embeddings, labels, settings.temperature)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    gradient = gradient[ranks.share(len(labels))]  # (B / processes, D)
    if whole:
        own.backward(gradient)
    else:
        for part, part_gradient in zip(parts, gradient.split(settings.micro_batch), strict=True):
            embed(part).backward(part_gradient)
    return loss.detach() / ranks.WORLD


def _check_still(model: ImageModel, who: str) -> None:
    """Refuse layers that would embed a photo differently the second time or beside others."""
    for name, module in model.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            raise ValueError(
                f"{who} BatchNorm and dropout in eval mode, but {name} trains: "
                "set micro_batch to None and train in one process, or start from trained weights"
            )
