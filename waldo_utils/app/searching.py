"""Search by photo: crop it, find its neighbors in a gallery, rerank them. Everything of the gallery is
computed before."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from waldo_utils.data import manifests
from waldo_utils.data.photo_cache import open_cache
from waldo_utils.data.reading import shrink
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.models import backbones, runs, starting_weights
from waldo_utils.models.devices import autocast, device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import Forward, features_of, shared_trunk
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.models.scorer import GALLERY, QUERY, Scorer
from waldo_utils.retrieval import exact
from waldo_utils.retrieval.feature_store import Rows
from waldo_utils.retrieval.features import average_maps
from waldo_utils.study import PROFILES, GlobalStage, Study, find_profile
from waldo_utils.training import seeds

DEPTH = 100  # neighbors that a search reranks, as published
MANY = 8  # photos at once from which on the prepared networks are faster
Box = tuple[int, int, int, int]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Models:
    """The models of a search, in eval mode."""

    shortlist: ImageModel  # its global features make the shortlist
    local: ImageModel  # its local features are reranked; the same model unless the backbone was finetuned
    reranker: RerankingTransformer | None  # None: the global order is all
    transform: TestTransform
    photo_size: int  # photos are scaled down to so many pixels on the shorter side before the transform
    weights: str  # which weights these are, in words
    trained: bool  # by the notebooks
    digest: str  # of the weights and the sizes

    @cached_property
    def forwards(self) -> tuple[Callable[[Tensor], Tensor], Forward, Forward]:
        """What both image models compute alike of many photos at once, and from it their features, prepared
        once."""
        models = [self.shortlist] if self.local is self.shortlist else [self.shortlist, self.local]
        return shared_trunk(models), features_of(self.shortlist), features_of(self.local)

    @cached_property
    def scorer(self) -> Scorer:
        """The reranker, prepared once for all searches."""
        return Scorer(self.reranker)


@dataclass(frozen=True)
class Gallery:
    """Photos that can be found, with their features."""

    embedding: np.ndarray | Rows  # (N, D) float32, unit length; of a large index float16 on the disk
    local: np.ndarray | Rows  # (N, D, h, w) float16
    names: list[str]
    products: np.ndarray  # (N,) str, "" where it is not known
    categories: np.ndarray  # (N,) str, "" where it is not known
    photo: Callable[[int], Image.Image]
    search: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] | None = None  # None: an exact one

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return neighbors (Q, k) of (Q, D) features of unit length, and their similarities."""
        if self.search is None:
            return exact.nearest_neighbors(queries, k, self.embedding)
        return self.search(queries, k)


@dataclass(frozen=True)
class Answer:
    """What one search found."""

    query: Image.Image  # the crop
    local: np.ndarray  # (D, h, w) float16, its local features
    rows: np.ndarray  # (K,) the shortlist by global similarity, rows of the gallery
    similarities: np.ndarray  # (K,) cosine
    scores: np.ndarray  # (K,) of the reranker, in the order of `rows`
    seconds: dict[str, float]  # what each step took

    @property
    def reranked(self) -> np.ndarray:
        """(K,) places in `rows` in the order of the scores; equal scores keep their order."""
        return np.argsort(-self.scores, kind="stable")


# ---------------------------------------------------------------- models


def open_models(study: Study | str) -> Models:
    """Return models by name, or those of a study.

    A profile (or its study) stands for the finetuned models of the seed that did best on validation products,
    or, where none are trained, for what it starts from. "efficientnet_lite0", "resnet50" and "timm:NAME" are
    networks with ImageNet's weights at the size they were trained on, "runs/NAME" is a training of one's own.
    Where nothing reranks, the global order is all.

    Raises:
        ValueError: there are no models of this name, or the trained ones are of other settings.
        FileNotFoundError, ConnectionError: their weights are not here.
    """
    if isinstance(study, str) and study.partition("@")[0] in PROFILES:
        study = find_profile(study)
    if isinstance(study, str):
        return _image_models(study)
    trained = (artifacts.data_folder(study) / "reranker" / "log.csv").exists()
    if trained:
        seed = seeds.best_seed(study)
        reranker = starting_weights.reranker(study.reranker, study.global_.dim)
        names = (
            f"global/seed{seed}/weights",
            f"reranker/seed{seed}/finetuned_image_model",
            f"reranker/seed{seed}/finetuned_reranker",
        )
        shortlist, local = (ImageModel(study.global_.backbone, dim=study.global_.dim) for _ in range(2))
        for model, name in zip((shortlist, local, reranker), names, strict=True):
            tensors = artifacts.load_weights(study, name)
            starting_weights.check_architecture(model, tensors, f"{name}.safetensors")
            model.load_state_dict(tensors)
        weights = f"trained by the notebooks, profile {study.name}, seed {seed}"
    else:
        shortlist = local = starting_weights.image_model(study.global_, projected=False)
        reranker = None
        weights = (
            f"ImageNet's, nothing trained, nothing reranked: profile {study.name} has no trained models here"
        )
    transform = TestTransform(study.global_.resize, study.global_.size)
    return _models(shortlist, local, reranker, transform, study.data.cache_size, weights, trained)


def _image_models(name: str) -> Models:
    """Return one image model, of a backbone or of a training of one's own, as `open_models` does.

    Its patches are not kept: on 387 real photos matching them gained 1.2 points of recall@1 (72.4 to 73.6)
    for 49 times the numbers per photo.
    """
    if name.startswith(runs.PREFIX):
        model, facts = runs.load(name)
        size, weights = facts["size"], f"{name}, trained on {facts['photos']} photos of {facts['folder']}"
    else:
        if name not in backbones.NAMES and not name.startswith("timm:"):
            known = ", ".join((*backbones.NAMES, "timm:NAME", f"{runs.PREFIX}NAME", *PROFILES))
            raise ValueError(f"there are no models {name!r}: choose one of {known}")
        model = starting_weights.image_model(GlobalStage(backbone=name), projected=False)
        size, weights = model.backbone.size, f"{name}, ImageNet's weights, nothing reranked"
    return _models(model, model, None, TestTransform(size, size), size, weights, False)


def _models(
    shortlist: ImageModel,
    local: ImageModel,
    reranker: RerankingTransformer | None,
    transform: TestTransform,
    photo_size: int,
    weights: str,
    trained: bool,
) -> Models:
    """Return models in eval mode on their device, with their digest."""
    digest = hashlib.sha256(repr((photo_size, transform.resize, transform.crop)).encode())
    for model in filter(None, (shortlist, local, reranker)):
        model.eval().to(device())
        for key, value in sorted(model.state_dict().items()):
            digest.update(key.encode() + value.cpu().numpy().tobytes())
    key = digest.hexdigest()[:16]
    return Models(shortlist, local, reranker, transform, photo_size, weights, trained, key)


def study_gallery(study: Study, models: Models, split: str) -> Gallery:
    """Return the photos of one split as a gallery.

    Trained models take the features that the notebooks left; those of an untrained network are computed once
    and kept under `demo/`.

    Args:
        study: whose notebook 01 has run.
        models: of that study.
        split: "validation" or "test".

    Raises:
        FileNotFoundError: a notebook has not run; says which.
        ValueError: what it left is of other settings.
    """
    manifest = artifacts.load_frame(study, "data/manifest")
    part = manifest[manifest.split == split]
    photos = open_cache(artifacts.data_folder(study) / "photos").subset(part.index.to_numpy())
    if models.trained:
        seed = seeds.best_seed(study)
        embedding = np.array(artifacts.load_array(study, f"global/seed{seed}/{split}_features"))
        local = artifacts.load_array(study, f"reranker/seed{seed}/finetuned_{split}_local")
    else:
        manifest_digest = artifacts.sha256(artifacts.find(study, "data/manifest.csv"))[:8]
        path = artifacts.data_folder(study) / "demo" / f"{split}-{models.digest}-{manifest_digest}.npy"
        if not path.exists():
            average = exact.unit(average_maps(models.shortlist, photos, models.transform))
            artifacts.write_atomically(path, lambda partial: np.save(partial, average))
        try:
            embedding = artifacts.read_array(path)
        except ValueError as error:
            raise ValueError(f"{error}: remove it, it is made again") from None
        local = np.empty((len(embedding), 0, 1, 1), np.float16)
    products = manifests.product_names(part, study.data.source).to_numpy()
    categories = part.category.astype(str).to_numpy()
    return Gallery(embedding, local, part.path.tolist(), products, categories, photos.image)


# ---------------------------------------------------------------- crops


def parse_box(text: str) -> Box:
    """Return the box "left,top,width,height".

    Raises:
        ValueError: the text is not four whole numbers.
    """
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"a crop is left,top,width,height in pixels, for example 40,30,200,180; got {text!r}"
        ) from None
    return left, top, width, height


def clip_box(box: Box, size: tuple[int, int]) -> Box:
    """Return the part of a box that lies in a photo.

    Args:
        box: may reach out of the photo.
        size: width and height of the photo.

    Raises:
        ValueError: nothing of it lies in the photo.
    """
    left, top, width, height = box
    right, bottom = min(left + width, size[0]), min(top + height, size[1])
    left, top = max(left, 0), max(top, 0)
    if right <= left or bottom <= top:
        raise ValueError(
            f"the crop {','.join(map(str, box))} holds nothing of the photo ({size[0]} x {size[1]} pixels): "
            "choose a box inside it"
        )
    return left, top, right - left, bottom - top


def crop(photo: Image.Image, box: Box | None) -> Image.Image:
    """Return the part of a photo inside a box, or the photo for None; raises as `clip_box` does."""
    if box is None:
        return photo
    left, top, width, height = clip_box(box, photo.size)
    return photo.crop((left, top, left + width, top + height))


# ---------------------------------------------------------------- search


def prepare(models: Models, photo: Image.Image) -> Tensor:
    """Return a photo as the image models read it: (3, size, size) in [0, 1]."""
    pixels = torch.from_numpy(np.array(shrink(photo, models.photo_size))).permute(2, 0, 1)
    return models.transform(pixels)


@torch.inference_mode()
def features(models: Models, batch: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return global (B, D) float32 and local (B, D, h, w) float16 features of (B, 3, size, size) photos.

    Without a reranker nobody reads local features: D is 0.
    """
    batch = batch.to(device())
    if len(batch) >= MANY:
        trunk, shortlist, local_model = models.forwards
        batch = trunk(batch)
    else:  # less than the preparation would cost
        batch = batch.contiguous(memory_format=torch.channels_last)
        shortlist, local_model = models.shortlist, models.local
    with autocast(models.shortlist.backbone.depthwise):
        embedding, local = shortlist(batch)
        if models.reranker is None:
            local = local[:, :0]
        elif models.local is not models.shortlist:
            _, local = local_model(batch)
    return embedding.float().cpu().numpy(), local.to(torch.float16).cpu().numpy()


@torch.inference_mode()
def score(models: Models, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return the reranker's (K,) scores of a query's (D, h, w) local features against (K, D, h, w) of a
    gallery.

    In float32: one search is fast enough so, and bfloat16 rounds close scores to ties.

    Raises:
        ValueError: features or scores are not finite.
    """
    own = models.scorer.encode(query[None], np.zeros(1, dtype=np.int64), QUERY)  # (1, h*w, 4 * D)
    codes = models.scorer.encode(gallery, np.arange(len(gallery)), GALLERY)  # (K, h*w, 4 * D)
    pairs = np.stack([np.zeros(len(codes), np.int64), np.arange(len(codes))])
    scores = models.scorer.score(own, codes, pairs).cpu().numpy()
    if not np.isfinite(scores).all():
        raise ValueError("some scores are not finite: the weights or the index are broken, make them again")
    return scores


def search(
    models: Models,
    gallery: Gallery,
    photo: Image.Image,
    box: Box | None = None,
    exclude: int | None = None,
    depth: int = DEPTH,
) -> Answer:
    """Find the photos of a gallery that show the product in a crop of a photo.

    Args:
        models: the same that made the gallery's features.
        gallery: what is searched.
        photo: upright, RGB.
        box: the crop in pixels of the photo; None: all of it.
        exclude: a row of the gallery to leave out, for a query that is in the gallery itself.
        depth: neighbors to rerank, at most.

    Raises:
        ValueError: the crop holds nothing of the photo, or the gallery is empty.
    """
    if len(gallery) - (exclude is not None) < 1:
        raise ValueError("the gallery holds no photo to find: add some")
    clock = [time.perf_counter()]
    query = crop(photo, box)
    pixels = prepare(models, query)
    clock.append(time.perf_counter())
    embedding, local = features(models, pixels[None])
    clock.append(time.perf_counter())
    wanted = min(depth + (exclude is not None), len(gallery))
    rows, similarities = (found[0] for found in gallery.nearest(embedding, wanted))
    if exclude is not None:
        keep = np.flatnonzero(rows != exclude)[:depth]
        rows, similarities = rows[keep], similarities[keep]
    clock.append(time.perf_counter())
    scores = similarities if models.reranker is None else score(models, local[0], gallery.local[rows])
    clock.append(time.perf_counter())
    steps = ("crop and resize", "features", "shortlist", "rerank")
    seconds = dict(zip(steps, np.diff(clock).tolist(), strict=True))
    return Answer(query, local[0], rows, similarities, scores, seconds)


def matches(answer: Answer, gallery: Gallery, top: int = 10) -> pd.DataFrame:
    """Tabulate the first matches after reranking.

    Returns:
        One row per match: `rank`, `global rank`, `change` (places won by reranking), `score`, `similarity`,
        `name`, `product`, `category`, `row` (of the gallery).
    """
    order = answer.reranked[:top]
    rows = answer.rows[order]
    rank = np.arange(1, len(order) + 1)
    return pd.DataFrame(
        {
            "rank": rank,
            "global rank": order + 1,
            "change": order + 1 - rank,
            "score": answer.scores[order],
            "similarity": answer.similarities[order],
            "name": [gallery.names[row] for row in rows],
            "product": gallery.products[rows],
            "category": gallery.categories[rows],
            "row": rows,
        }
    )


# ---------------------------------------------------------------- speed


def benchmark(
    models: Models, gallery: Gallery, photos: Sequence[Image.Image], depth: int = DEPTH, warm_up: int = 3
) -> pd.DataFrame:
    """Time a search from box to reranked answer, each photo with a box around its middle.

    Args:
        models, gallery, depth: as for `search`.
        photos: the queries.
        warm_up: searches before the clock counts.

    Returns:
        One row per step and a last row "total": `step`, `p50 ms`, `p95 ms`, `share` of the mean time.
    """
    boxes = [(p.width // 8, p.height // 8, p.width * 3 // 4, p.height * 3 // 4) for p in photos]
    for photo, box in list(zip(photos, boxes, strict=True))[:warm_up]:
        search(models, gallery, photo, box, depth=depth)
    steps = pd.DataFrame(
        [
            search(models, gallery, photo, box, depth=depth).seconds
            for photo, box in zip(photos, boxes, strict=True)
        ]
    )
    return step_table(steps)


def step_table(seconds: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `benchmark` from what each step (column) of each run (row) took, in seconds."""
    seconds = seconds.assign(total=seconds.sum(axis=1))
    return pd.DataFrame(
        {
            "step": seconds.columns,
            "p50 ms": 1000 * seconds.quantile(0.5).to_numpy(),
            "p95 ms": 1000 * seconds.quantile(0.95).to_numpy(),
            "share": (seconds.mean() / seconds["total"].mean()).to_numpy(),
        }
    )


def benchmark_depths(
    models: Models, gallery: Gallery, photos: Sequence[Image.Image], depths: Sequence[int]
) -> pd.DataFrame:
    """Return the tables of `benchmark` for several depths in one, with a first column `depth`; equal ones
    count once."""
    tables = [
        benchmark(models, gallery, photos, depth).assign(depth=min(depth, len(gallery)))
        for depth in dict.fromkeys(depths)
    ]
    whole = pd.concat(tables, ignore_index=True)
    return whole[["depth", *whole.columns.drop("depth")]]
