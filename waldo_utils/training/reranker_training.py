"""Train the reranking transformer on top of the image model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from waldo_utils import ranks
from waldo_utils.data.transforms import TrainTransform
from waldo_utils.models.devices import attention, autocast, device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import map_of
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval.trunk_maps import training_batches
from waldo_utils.study import GlobalStage, RerankerStage
from waldo_utils.training.loop import fit, progress
from waldo_utils.training.losses import list_loss, pair_loss
from waldo_utils.training.samplers import (
    candidate_lists,
    hard_negatives,
    look_alikes,
    triplets,
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
    Each triplet gives a pair (anchor, positive) and a pair (anchor, negative) for `pair_loss`; with
    `settings.group`, every photo of a group of look-alike products is an anchor whose candidates make a list
    for `list_loss`, so that a photo that went through the backbone once serves in many pairs. Finetuning has
    a learning rate of its own for the image model.

    Args:
        model, reranker: trained in place; at the end they hold the weights of the epoch that `validate` liked
            best, the start (epoch 0) included.
        photos: the N train photos, each a (3, h, w) uint8 tensor; or the maps that the model's trunk gives of
            them.
        labels: (N,) product of each of them.
        neighbors: (N, K) nearest train photos of each by the *global* model, as rows of `photos`.
        settings: the recipe.
        image_settings: crops and sizes of the photos.
        seed: of the triplets and the crops.
        validate: recall@1 after reranking, on products held out from training.
        checkpoint: file that keeps the state after each epoch and every `SAVE_EVERY` seconds; training
            resumes from it.
        finetune: whether the backbone trains too.

    Returns:
        One row per epoch: `epoch`, `loss`, `validation R@1`, `seconds`.
    """
    negatives = hard_negatives(neighbors, labels, settings.negatives)
    epochs = settings.finetune_epochs if finetune else settings.epochs
    scale = settings.crop_scale or image_settings.crop_scale
    transform = TrainTransform(image_settings.size, scale=scale, flip=image_settings.flip)
    trained = nn.ModuleDict({"model": model, "reranker": reranker}).to(device())
    model.to(memory_format=torch.channels_last)
    for parameter in (*model.backbone.parameters(), *model.global_head.parameters()):
        parameter.requires_grad_(finetune)

    local_rate = (
        settings.learning_rate if finetune else settings.local_learning_rate or settings.learning_rate
    )
    last_map = model.feature_map if finetune else map_of(model)

    def steps_from(epoch: int, start: int) -> Iterator[Tensor]:
        batches = _reranker_batches(labels, negatives, settings, np.random.default_rng([seed, epoch]))
        trained.eval()
        rows = [photos_of_batch for photos_of_batch, _ in batches]
        own, lists_of = zip(*(own_lists(lists) for _, lists in batches), strict=True)
        loader = training_batches(photos, rows, transform, 1000 * seed + epoch, list(own)).loader(start)
        for images, lists, (_, whole) in zip(
            progress(loader, epoch, start, len(batches)), lists_of[start:], batches[start:], strict=True
        ):
            if not len(lists):  # fewer lists than processes
                yield torch.zeros((), device=device())
                continue
            with autocast(model.backbone.depthwise):
                features = last_map(images)
            lists = torch.from_numpy(lists).to(device())
            yield reranker_gradients(model, reranker, features, lists, len(lists) / len(whole))

    try:
        return fit(
            trained,
            steps_from,
            len(_reranker_batches(labels, negatives, settings, np.random.default_rng(0))),
            epochs,
            "adamw",
            [
                (model.backbone, settings.finetune_learning_rate),
                (model.local_head, local_rate),
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


def own_lists(lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the photos of a batch that this process needs, as places in it, and its share of the lists, as
    places among these photos."""
    places, own = np.unique(lists[ranks.share(len(lists))], return_inverse=True)
    return places, own.reshape(-1, lists.shape[1])


def reranker_gradients(
    model: ImageModel,
    reranker: RerankingTransformer,
    features: Tensor,
    lists: Tensor,
    weight: float = 1.0,
) -> Tensor:
    """Add the gradients of the reranker's loss over a batch to the models' and return the loss, detached.

    Args:
        model, reranker: the models.
        features: (P, channels, h, w) last maps of the batch's photos; the backbone trains where they have
            gradients.
        lists: (B, 2 + n) places in it: an anchor, a photo of its product, n photos of others.
            One wrong candidate makes a pair for `pair_loss`, several a list for `list_loss`.
        weight: share of these lists in the batch that several processes share.
    """
    candidates = lists[:, 1:]  # (B, 1 + n): the right one first
    anchors = lists[:, :1].expand_as(candidates)
    with autocast(), attention():
        local = model.local_features(features)
        logits = reranker(local[anchors.flatten()], local[candidates.flatten()]).view(candidates.shape)
    right = torch.zeros_like(logits, dtype=torch.bool)
    right[:, 0] = True
    loss = pair_loss(logits[:, 0], logits[:, 1]) if logits.shape[1] == 2 else list_loss(logits, right)
    loss = loss * weight
    loss.backward()
    return loss.detach()
