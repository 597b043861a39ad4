"""Teach a score of two photos which patches are the product: from look-alikes, or from products before
swapped backdrops."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from waldo_utils.data.transforms import TrainTransform
from waldo_utils.models.devices import attention, device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import map_of
from waldo_utils.models.matching import PatchWeight
from waldo_utils.models.reranker import MATCHING
from waldo_utils.retrieval.reranking import match_maps
from waldo_utils.retrieval.trunk_maps import training_batches
from waldo_utils.study import GlobalStage, PlaceStage, RerankerStage
from waldo_utils.training.loop import fit, progress
from waldo_utils.training.losses import list_loss
from waldo_utils.training.samplers import candidate_lists, hard_negatives, look_alikes

SCALE_RATE = 100.0  # times the rate of the weights: a logit's scale and shift are numbers of another size
GROUPS = 12  # of look-alikes in a batch
PRODUCTS = 4  # of a group


class WeightedMatching(nn.Module):
    """Local matching by a learned `PatchWeight`, as a logit: scaled and shifted by two numbers that are
    learned too.

    Args:
        local: (B, D, h, w) local features of some photos; the shift starts where pairs of them have a mean
            logit of zero.
    """

    def __init__(self, local: Tensor):
        super().__init__()
        self.weight = PatchWeight(local.shape[1])
        self.scale = nn.Parameter(torch.tensor(MATCHING))
        with torch.no_grad():
            mean = match_maps(local.float(), local.float().roll(-1, dims=0)).mean()
        self.shift = nn.Parameter(-MATCHING * mean)

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Return (B,) logits of pairs of local feature maps, each (B, D, h, w)."""
        return self.scale * match_maps(query, gallery, self.weight) + self.shift

    def rates(self, rate: float) -> list[tuple[nn.Module, float]]:
        """Return the learning rate of each part, given that of the patches' weight."""
        ends = nn.ParameterList([self.scale, self.shift])
        return [(self.weight, rate), (ends, rate * SCALE_RATE)]


def list_gradients(score: nn.Module, local: Tensor, lists: Tensor) -> Tensor:
    """Add the gradients of the list loss to a score's and return the loss, detached.

    Args:
        score: two (B, D, h, w) batches of local features to (B,) logits.
        local: (P, D, h, w) local features of a batch's photos.
        lists: (B, 2 + n) places in it: an anchor, a photo of its product, n photos of others.
    """
    candidates = lists[:, 1:]  # (B, 1 + n)
    anchors = lists[:, :1].expand_as(candidates)
    with attention():
        logits = score(local[anchors.flatten()], local[candidates.flatten()]).view(candidates.shape)
    right = torch.zeros_like(logits, dtype=torch.bool)
    right[:, 0] = True
    loss = list_loss(logits, right)
    loss.backward()
    return loss.detach()


def train_on_look_alikes(
    score: WeightedMatching,
    model: ImageModel,
    photos: Sequence[Tensor],
    labels: np.ndarray,
    neighbors: np.ndarray,
    settings: PlaceStage,
    recipe: RerankerStage,
    image_settings: GlobalStage,
    seed: int,
    validate: Callable[[], float],
    checkpoint: Path,
) -> pd.DataFrame:
    """Train a patch weight on groups of look-alike products, the model's features as they are.

    Args:
        score: trained in place; at the end it holds the weights of the epoch that `validate` liked best.
        model: gives the local features.
        photos, labels, neighbors: the N train photos, or their trunk's maps, their products, and the nearest
            ones of each; as for `reranker_training.train_reranker`.
        settings, recipe, image_settings: epochs and rate; how far hard negatives are looked for; crops.
        seed: of the groups and the crops.
        validate: recall@1 on products held out from training.
        checkpoint: see `loop.fit`.

    Returns:
        One row per epoch, as of `loop.fit`.
    """
    negatives = hard_negatives(neighbors, labels, recipe.negatives)
    transform = TrainTransform(image_settings.size, scale=image_settings.crop_scale, flip=image_settings.flip)
    model.eval().to(device())
    products = min(PRODUCTS, len(np.unique(labels)))

    def batches(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        drawn = look_alikes(labels, negatives, products, rng)  # (G, products, 2)
        parts = [drawn[i : i + GROUPS] for i in range(0, len(drawn), GROUPS)]
        return [(part.ravel(), candidate_lists(len(part), products, rng)) for part in parts]

    def steps_from(epoch: int, start: int) -> Iterator[Tensor]:
        drawn = batches(np.random.default_rng([seed, epoch]))
        last_map = map_of(model)
        loader = training_batches(photos, [rows for rows, _ in drawn], transform, seed=1000 * seed + epoch)
        batch = progress(loader.loader(start), epoch, start, len(drawn))
        for images, (_, lists) in zip(batch, drawn[start:], strict=True):
            with torch.no_grad():
                local = model.local_features(last_map(images))
            yield list_gradients(score, local, torch.from_numpy(lists).to(device()))

    steps = len(batches(np.random.default_rng(0)))
    return fit(
        score.to(device()), steps_from, steps, settings.epochs, "adamw",
        score.rates(settings.weight_learning_rate), 0.0, (), validate, checkpoint,
    )  # fmt: skip


def train_on_swapped_backdrops(
    score: nn.Module,
    rates: list[tuple[nn.Module, float]],
    local: np.ndarray,
    labels: np.ndarray,
    place: np.ndarray,
    settings: PlaceStage,
    epochs: int,
    seed: int,
    validate: Callable[[], float],
    checkpoint: Path,
) -> pd.DataFrame:
    """Train a score on products before shared backdrops: right is the product in another place, wrong are
    other products in the same place.

    Args:
        score: two batches of local features to logits; trained in place, as by `train_on_look_alikes`.
        rates: its parts with the learning rate of each.
        local: (N, D, h, w) local features of the train photos.
        labels, place: (N,) product and place of each.
        settings: the size of batches and lists.
        epochs: every photo is an anchor once in each.
        seed: of the lists.
        validate, checkpoint: as of `train_on_look_alikes`.
    """

    def steps_from(epoch: int, start: int) -> Iterator[Tensor]:
        lists = swapped_lists(labels, place, settings.wrong, np.random.default_rng([seed, epoch]))
        parts = [lists[i : i + settings.anchors] for i in range(0, len(lists), settings.anchors)]
        score.eval()
        for part in progress(parts[start:], epoch, start, len(parts)):
            rows, places = np.unique(part, return_inverse=True)
            features = torch.from_numpy(np.asarray(local[rows], np.float32)).to(device())
            yield list_gradients(score, features, torch.from_numpy(places.reshape(part.shape)).to(device()))

    anchors = len(swapped_lists(labels, place, settings.wrong, np.random.default_rng(0)))
    steps = -(-anchors // settings.anchors)
    score.to(device())
    return fit(score, steps_from, steps, epochs, "adamw", rates, 0.0, (), validate, checkpoint)


def swapped_lists(labels: np.ndarray, place: np.ndarray, wrong: int, rng: np.random.Generator) -> np.ndarray:
    """Make every photo an anchor: with one of its product in another place, and others in its own place.

    Args:
        labels, place: (N,) product and place of each photo.
        wrong: photos of other products in a list.
        rng: decides which, and the order of the anchors.

    Returns:
        (N, 2 + wrong) rows of `labels`.

    Raises:
        ValueError: a product stands in one place only, or too few others stand in a place.
    """
    lists = []
    for anchor in rng.permutation(len(labels)):
        right = np.flatnonzero((labels == labels[anchor]) & (place != place[anchor]))
        others = np.flatnonzero((labels != labels[anchor]) & (place == place[anchor]))
        if not len(right) or len(others) < wrong:
            raise ValueError(
                f"product {labels[anchor]} in place {place[anchor]} has {len(right)} photos in other places"
                f" and {len(others)} of other products beside it: {wrong} are needed, share places among more"
                " families"
            )
        lists.append([anchor, rng.choice(right), *rng.choice(others, wrong, replace=False)])
    return np.array(lists)
