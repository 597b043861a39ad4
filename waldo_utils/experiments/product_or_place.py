"""Product or place: does a method find the same product elsewhere, or another product in the same place?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from waldo_utils.data import photo_cache, sources
from waldo_utils.data.photo_cache import PhotoCache
from waldo_utils.data.splits import Split
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics, tables
from waldo_utils.experiments import methods
from waldo_utils.models import trained
from waldo_utils.models.devices import device
from waldo_utils.models.matching import length_weight
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact, features, reranking
from waldo_utils.study import SharedPlaces, Study
from waldo_utils.training import patch_weights
from waldo_utils.training.patch_weights import WeightedMatching

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # local features, neighbors (N, d) -> (N, d) scores
GLOBAL = ("ImageNet, nothing trained", "CO")
ALIKE, LENGTH, SQUARED, BOTH_WAYS = (
    "CO + local matching, all patches alike",
    "CO + local matching",
    "CO + local matching, length squared",
    "CO + local matching, both ways, all alike",
)
LEARNED = "CO + local matching, learned weight"
SWAPPED, RRT_SWAPPED = f"{LEARNED}, swapped backdrops", "CO + RRT (frozen), swapped backdrops"
WITH = " + global score"
STAGES = ("frozen", "finetuned")
MOST = 400  # products of the study's own photos that are searched
CHECKED = 10  # neighbors that validation reorders after each epoch: enough to see the first one change


@dataclass(frozen=True)
class Gallery:
    """Photos that are searched among each other, and what the methods need to know of them.

    Attributes:
        labels: (N,) product of each photo.
        group: (N,) photos with the number of the query count as not there: of its product in its place.
        embedding, neighbors, similarities: (N, D) global features of CO, and (N, K) what they find.
        local: "CO", "frozen" or "finetuned" -> (N, D, h, w) local features.
        untrained: (N, K) neighbors by the averaged map that nothing has trained; None: not compared.
        place: (N,) where each photo was taken; None: unknown.
        known: method -> (N, d) scores that earlier notebooks left.
    """

    labels: np.ndarray
    group: np.ndarray
    embedding: np.ndarray
    neighbors: np.ndarray
    similarities: np.ndarray
    local: dict[str, np.ndarray]
    untrained: np.ndarray | None = None
    place: np.ndarray | None = None
    known: dict[str, np.ndarray] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> "Gallery":
        """Return the gallery of some of its photos, which search among each other."""
        embedding = self.embedding[rows]
        count = min(self.neighbors.shape[1], len(rows) - 1)
        return Gallery(
            self.labels[rows],
            self.group[rows],
            embedding,
            *exact.nearest_neighbors(embedding, count),
            {stage: maps[rows] for stage, maps in self.local.items()},
            place=None if self.place is None else self.place[rows],
        )


# ---------------------------------------------------------------- galleries


def open_photos(study: Study, name: str) -> tuple[pd.DataFrame, PhotoCache, list[Image.Image]]:
    """Render and decode the products of shared places, "test" or "train".

    Returns:
        The manifest (`manifests.places_manifest`), the photos, and the masks of their products.
    """
    drawn: SharedPlaces = getattr(study.places, name)
    folder = artifacts.data_folder(study)
    manifest, root = sources.open_places(drawn, folder / f"rendered_places_{name}")
    photos = photo_cache.build_cache(manifest, root, folder / f"places_{name}_photos", study.data.cache_size)
    masks = []
    for path in manifest["mask"]:
        with Image.open(root / path) as mask:
            masks.append(mask.copy())
    return manifest, photos, masks


def gallery_of(study: Study, seed: int, manifest: pd.DataFrame, photos: PhotoCache, name: str) -> Gallery:
    """Return the gallery of photos in shared places, seen by the study's models of a seed.

    Args:
        study, seed: whose models.
        manifest, photos: as of `open_photos`.
        name: of the set, for what a killed extraction leaves.
    """
    transform = TestTransform(study.global_.resize, study.global_.size)
    models = {"CO": trained.global_model(study, seed)}
    models |= {stage: trained.local_model(study, seed, stage) for stage in STAGES}
    begun = artifacts.partial_path(study, f"places/{name}")
    seen = features.extract_all([*models.values()], photos, transform, partial=begun)
    local = {kind: own for kind, (_, own) in zip(models, seen, strict=True)}
    embedding = seen[0][0]
    average = features.average_maps(trained.start(study), photos, transform)
    count = min(study.evaluation.shortlist, len(photos) - 1)
    labels, place = manifest.label.to_numpy(), manifest.place.to_numpy()
    group = np.unique(np.stack([labels, place], axis=1), axis=0, return_inverse=True)[1].ravel()
    found = exact.nearest_neighbors(embedding, count)
    untrained, _ = exact.nearest_neighbors(exact.unit(average), count)
    return Gallery(labels, group, embedding, *found, local, untrained, place)


def gallery_of_split(study: Study, seed: int, split: str) -> Gallery:
    """Return the gallery of the study's own "validation" or "test" photos, as earlier notebooks left it; of
    more than `MOST` products some that are drawn."""
    labels = methods.labels_of(study, split)
    local = {"CO": artifacts.load_array(study, f"global/seed{seed}/{split}_local")}
    for stage in STAGES:
        local[stage] = artifacts.load_array(study, f"reranker/seed{seed}/{stage}_{split}_local")
    whole = Gallery(
        labels,
        np.arange(len(labels)),
        artifacts.load_array(study, f"global/seed{seed}/{split}_features"),
        *methods.shortlists(study, seed, split),
        local,
        methods.untrained(study, seed) if split == "test" else None,
        known={f"CO + RRT ({stage})": methods.scores(study, seed, stage, split) for stage in STAGES},
    )
    rows = tables.sample_products(labels, MOST)
    return whole if len(rows) == len(labels) else whole.take(rows)


# ---------------------------------------------------------------- training


def learn(
    study: Study, seed: int, train: Split, places: Gallery, validation: Gallery
) -> tuple[dict[str, torch.nn.Module], pd.DataFrame]:
    """Train what tells the product from the place, and keep the weights as `places/seed<n>/...`.

    Every epoch is judged by the mean of two recalls: of the study's validation products, and of the products
    in a share of the places, which no training sees.

    Args:
        study, seed: whose CO, and whose frozen transformer, to start from.
        train: the study's train photos, or their trunk's maps (`beginning.with_maps`).
        places: the train set of shared places.
        validation: the study's validation photos.

    Returns:
        Name of a row -> what was trained for it, and the log of all trainings (`trained`, and the columns of
        `loop.fit`).
    """
    settings = study.places
    rows = judged(study, places)
    seen = places.take(np.setdiff1d(np.arange(len(places.labels)), rows))
    judges = (validation, places.take(rows))
    model, transformer = trained.global_model(study, seed), trained.matcher(study, seed, "frozen")
    sample = torch.from_numpy(np.asarray(seen.local["CO"][:256], np.float32))
    scores = {LEARNED: WeightedMatching(sample), SWAPPED: WeightedMatching(sample), RRT_SWAPPED: transformer}
    logs = []
    for name, score in scores.items():
        stage = "frozen" if name == RRT_SWAPPED else "CO"
        artifact = f"places/seed{seed}/{name.removeprefix('CO + ').replace(' ', '_').replace(',', '')}"
        judge = partial(_mean_recall, score, judges, stage)
        begun = artifacts.checkpoint_path(study, artifact)
        if name == LEARNED:
            shortlists = artifacts.load_array(study, f"global/seed{seed}/train_neighbors")
            log = patch_weights.train_on_look_alikes(
                score, model, train.inputs, train.labels, shortlists, settings, study.reranker,
                study.global_, seed, judge, begun,
            )  # fmt: skip
        else:
            rates, epochs = [(score, settings.learning_rate)], settings.epochs
            if name == SWAPPED:
                rates, epochs = score.rates(settings.weight_learning_rate), settings.weight_epochs
            log = patch_weights.train_on_swapped_backdrops(
                score, rates, seen.local[stage], seen.labels, seen.place, settings, epochs, seed, judge, begun
            )
        artifacts.save_weights(study, artifact, score.state_dict())
        logs.append(log.assign(trained=name))
    return scores, pd.concat(logs, ignore_index=True)


def judged(study: Study, places: Gallery) -> np.ndarray:
    """Return the rows of the train set of shared places that no training sees: all that stands in its last
    places, of which products stand in no other."""
    lowest = pd.Series(places.place).groupby(places.labels).transform("min").to_numpy()  # of a product's
    sharing = np.unique(lowest)  # places that share products go together
    count = min(max(round(study.places.hold_out * len(sharing)), 1), len(sharing) - 1)
    return np.flatnonzero(lowest >= sharing[len(sharing) - count])


def _mean_recall(score: torch.nn.Module, galleries: tuple[Gallery, ...], stage: str) -> float:
    """Return the mean over galleries of recall@1 after a score has reordered the first of each shortlist."""
    recalls = []
    for gallery in galleries:
        local, checked = gallery.local[stage], gallery.neighbors[:, :CHECKED]
        order = exact.reorder(gallery.neighbors, _score_with(score)(local, checked))
        relevant = metrics.relevant_without_copies(gallery.labels, gallery.group)
        recalls.append(_hits(order, gallery)[relevant > 0, 0].mean())
    return float(np.mean(recalls))


# ---------------------------------------------------------------- methods


def scores(study: Study, seed: int, learned: dict[str, torch.nn.Module]) -> dict[str, tuple[str, Score]]:
    """Return method -> whose local features it reads, and its score.

    Args:
        study, seed: whose transformers.
        learned: as of `learn`.
    """
    alike = partial(length_weight, power=0.0)
    found: dict[str, tuple[str, Score]] = {
        ALIKE: ("CO", _match(alike)),
        LENGTH: ("CO", _match(length_weight)),
        SQUARED: ("CO", _match(partial(length_weight, power=2.0))),
        LEARNED: ("CO", _match(learned[LEARNED].weight)),
        SWAPPED: ("CO", _match(learned[SWAPPED].weight)),
        BOTH_WAYS: ("CO", _match(alike, both_ways=True)),
    }
    for stage in STAGES:
        transformer = trained.matcher(study, seed, stage)
        found[f"CO + RRT ({stage})"] = (stage, _score_with(transformer))
        found[f"CO + RRT ({stage}), lengths removed"] = (stage, _without_lengths(transformer))
    return found | {RRT_SWAPPED: ("frozen", _score_with(learned[RRT_SWAPPED]))}


def _match(weight: Callable[[Tensor], Tensor], both_ways: bool = False) -> Score:
    score = partial(reranking.match_maps, weight=weight, both_ways=both_ways)
    return lambda local, neighbors: reranking.pair_scores(score, local, local, neighbors)


def _score_with(score: torch.nn.Module) -> Score:
    """Return the score of a trained transformer, or of a matching."""
    score = score.to(device()).eval()
    if isinstance(score, RerankingTransformer):
        return lambda local, neighbors: reranking.rerank_scores(score, local, local, neighbors)
    return _match(score.weight)


def _without_lengths(transformer: RerankingTransformer) -> Score:
    """Return the score of a transformer that reads local features of one length, the mean of a set's own."""

    def score(local: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
        maps = torch.from_numpy(np.asarray(local, np.float32))
        even = (F.normalize(maps, dim=1) * maps.norm(dim=1).mean()).to(torch.float16).numpy()
        return reranking.rerank_scores(transformer, even, even, neighbors)

    return score


def chosen_weights(
    scored: dict[str, tuple[str, Score]], galleries: tuple[Gallery, ...], depth: int
) -> dict[str, float]:
    """Return method -> the weight of the global similarity added to its score, chosen on some galleries, all
    together.

    Args:
        scored: as of `scores`.
        galleries: of validation products.
        depth: neighbors that are reordered.
    """
    return {
        name: chosen_weight(galleries, [_rated(one, name, *by, depth) for one in galleries], depth)
        for name, by in scored.items()
    }


def orders(
    gallery: Gallery, scored: dict[str, tuple[str, Score]], chosen: dict[str, float], depth: int
) -> dict[str, np.ndarray]:
    """Return method -> (N, K) neighbors in its order: the global ones, and each score alone and with the
    global similarity added.

    Args:
        gallery: whose shortlists are reordered.
        scored: as of `scores`.
        chosen: as of `chosen_weights`.
        depth: neighbors that are reordered.
    """
    found = {"CO": gallery.neighbors}
    if gallery.untrained is not None:
        found = {GLOBAL[0]: gallery.untrained} | found
    for name, by in scored.items():
        ours, similarities = _rated(gallery, name, *by, depth), gallery.similarities[:, :depth]
        found[name] = exact.reorder(gallery.neighbors, ours)
        found[name + WITH] = exact.reorder(gallery.neighbors, ours + chosen[name] * similarities)
    return found


def _rated(gallery: Gallery, name: str, stage: str, score: Score, depth: int) -> np.ndarray:
    """Return the (N, depth) scores of a method, those that are known as they are."""
    if name in gallery.known:
        return gallery.known[name][:, :depth]
    return score(gallery.local[stage], gallery.neighbors[:, :depth])


def chosen_weight(galleries: tuple[Gallery, ...], scored: list[np.ndarray], depth: int) -> float:
    """Return the weight of the global similarity that makes recall@1 of all galleries together best, each
    searched in itself.

    Args:
        galleries: of validation products.
        scored: the (N, d) scores of each.
        depth: neighbors that count, at most d.
    """
    count = min(one.neighbors.shape[1] for one in galleries)
    count = min(count, depth, *(part.shape[1] for part in scored))
    parts, rows, products = [], 0, 0
    for one, part in zip(galleries, scored, strict=True):
        labels = np.unique(one.labels, return_inverse=True)[1] + products
        parts.append((one.neighbors[:, :count] + rows, one.similarities[:, :count], part[:, :count], labels))
        rows, products = rows + len(labels), labels.max() + 1
    return reranking.choose_weight(*(np.concatenate(column) for column in zip(*parts, strict=True)))


# ---------------------------------------------------------------- tables


def _hits(order: np.ndarray, gallery: Gallery) -> np.ndarray:
    return metrics.hits_without_copies(order, gallery.labels, gallery.labels, gallery.group)


def first_neighbors(order: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return (N,) the first neighbor of each query that is not of its own group."""
    others = group[np.asarray(order)] != group[:, None]
    return np.asarray(order)[np.arange(len(order)), others.argmax(axis=1)]


def place_wins(order: np.ndarray, gallery: Gallery) -> np.ndarray:
    """Return (N,) bool: whether the first neighbor is another product in the query's place."""
    first = first_neighbors(order, gallery.group)
    return (gallery.place[first] == gallery.place) & (gallery.labels[first] != gallery.labels)


def table(found: dict[str, np.ndarray], gallery: Gallery, resamples: int) -> pd.DataFrame:
    """Tabulate what each method finds: the product, photos of it in the query's place not counted.

    Args:
        found: as of `orders`.
        gallery: that was searched.
        resamples: of the bootstrap over products.

    Returns:
        The rows of `tables.hit_table`, and where places are known `place@1`, how often the first neighbor is
        another product in the query's place, with its interval (`place@1 low`, `place@1 high`).
    """
    relevant = metrics.relevant_without_copies(gallery.labels, gallery.group)
    hits = {name: [_hits(order, gallery)] for name, order in found.items()}
    result = tables.hit_table(hits, gallery.labels, relevant, resamples)
    if gallery.place is None:
        return result
    asked = relevant > 0
    wins = np.stack([place_wins(order, gallery) for order in found.values()], axis=1)[asked]
    low, high = metrics.bootstrap_interval(wins.astype(float), gallery.labels[asked], resamples)
    for at, (name, values) in enumerate(
        zip(("", " low", " high"), (wins.mean(axis=0), low, high), strict=True)
    ):
        result.insert(1 + at, f"place@1{name}", values)
    return result


def differences(found: dict[str, np.ndarray], gallery: Gallery, resamples: int) -> pd.DataFrame:
    """Tabulate the paired differences of every method to CO, and of what swapped backdrops add, as
    `tables.difference_table` does."""
    relevant = metrics.relevant_without_copies(gallery.labels, gallery.group)
    hits = {name: [_hits(order, gallery)] for name, order in found.items()}
    pairs = [(name, "CO") for name in found if name not in GLOBAL]
    pairs += [(SWAPPED, LEARNED), (RRT_SWAPPED, "CO + RRT (frozen)")]
    return tables.difference_table(hits, pairs, gallery.labels, relevant, resamples)


def weights_on_product(
    weigh: dict[str, tuple[str, Callable[[Tensor], Tensor]]], gallery: Gallery, masks: list[Image.Image]
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Tabulate which share of a photo's patch weights lies on its product; masks are looked at here alone.

    Args:
        weigh: name -> whose local features, and the weight of patches.
        gallery: of the photos.
        masks: of their products.

    Returns:
        One row per weight: `weight of a patch`, `on the product@1`, the mean over photos; and name ->
        (N, h, w) weights of the patches, each photo's of sum one.
    """
    found, rows = {}, []
    for name, (stage, weight) in weigh.items():
        maps = torch.from_numpy(np.asarray(gallery.local[stage], np.float32))
        height, width = maps.shape[2:]
        cells = [mask.resize((width, height), Image.Resampling.BOX) for mask in masks]
        covered = np.stack([np.asarray(cell, np.float32) / 255 for cell in cells])  # (N, h, w)
        with torch.no_grad():
            values = weight(maps.flatten(2).transpose(1, 2).to(device())).cpu()  # (N, h*w)
        values = (values / values.sum(dim=1, keepdim=True)).view(-1, height, width).numpy()
        found[name] = values
        rows.append(
            {"weight of a patch": name, "on the product@1": float((values * covered).sum(axis=(1, 2)).mean())}
        )
    return pd.DataFrame(rows), found


def patch_weights_of(
    learned: dict[str, torch.nn.Module],
) -> dict[str, tuple[str, Callable[[Tensor], Tensor]]]:
    """Return name -> whose local features, and the weight of patches, as `weights_on_product` takes them."""
    return {
        "none": ("CO", partial(length_weight, power=0.0)),
        "length": ("CO", length_weight),
        "length squared": ("CO", partial(length_weight, power=2.0)),
        "learned": ("CO", learned[LEARNED].weight),
        "learned, swapped": ("CO", learned[SWAPPED].weight),
    }


def errors_of_place(found: dict[str, np.ndarray], gallery: Gallery, after: str, count: int = 3) -> list[int]:
    """Return up to `count` queries, of different products, whose first neighbor under all patches alike is
    another product in the same place, and the right product under `after`; where there are too few, any of
    the first kind."""
    wrong = place_wins(found[ALIKE], gallery)
    mended = wrong & _hits(found[after], gallery)[:, 0]
    rows = [*np.flatnonzero(mended), *np.flatnonzero(wrong & ~mended)]
    chosen: dict[int, int] = {}
    for row in rows:
        chosen.setdefault(int(gallery.labels[row]), int(row))
    return [*chosen.values()][:count]
