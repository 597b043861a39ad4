"""Make the starting weights of the small profiles, on rendered products that no profile uses.

The profile "paper" starts from ImageNet; a study of minutes on a CPU cannot afford such a start of its own,
so it is made once, here, and shipped: `python -m waldo_utils pretrain`. Nothing of it is chosen on a
profile's test products.
"""

import copy
import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from waldo_utils.data import checks, manifests
from waldo_utils.data.photo_cache import PhotoCache, build_cache
from waldo_utils.data.transforms import TestTransform, TrainTransform
from waldo_utils.disk.artifacts import write_atomically
from waldo_utils.miniature.datasets import render_sop
from waldo_utils.models.devices import autocast, device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.matching import calibrate, content_head, start_as_matching
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact
from waldo_utils.retrieval.features import PhotoBatches, extract_features
from waldo_utils.study import GlobalStage, RenderedSet
from waldo_utils.training import global_training, loop, validation
from waldo_utils.training.losses import list_loss
from waldo_utils.training.samplers import hard_negatives

VALIDATION_PHOTOS = 900  # of held-out families, for the log


@dataclass(frozen=True)
class Pretraining:
    """How the starting weights are made."""

    rendered: RenderedSet = RenderedSet(
        seed=1000, families=160, size=144, test_fraction=0.05
    )  # the test families are held out to watch the training
    image: GlobalStage = GlobalStage(
        backbone="resnet18",
        local_norm=12.0,
        start="random",
        resize=128,
        size=112,
        crop_scale=(0.3, 1.0),
        epochs=9,
        batch=128,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=0.02,
        drops=(),
    )
    layers: int = 2
    feedforward: int = 256
    reranker_steps: int = 1200
    anchors: int = 64  # per step, each with one positive and
    negatives: int = 3  # so many negatives,
    from_first: int = 30  # drawn from the first so many neighbors in train
    easy: float = 0.3  # or, this share of them, from all products
    learning_rate: float = 3e-5
    seed: int = 0


def pretrain(work: Path, weights: Path, settings: Pretraining | None = None) -> pd.DataFrame:
    """Render, train the image model, train the reranker on its features, and write both with their log.

    Args:
        work: folder of the rendered photos and checkpoints; a run that was interrupted goes on from there.
        weights: folder that receives `image_model.safetensors`, `reranker.safetensors`, `pretraining.json`
            and `pretraining.csv`.
        settings: None: the defaults.

    Returns:
        The log of both trainings.
    """
    settings = settings or Pretraining()
    drawn = settings.rendered
    root = render_sop(
        work / "rendered",
        drawn.seed,
        drawn.families,
        drawn.family_size,
        drawn.photos,
        drawn.size,
        drawn.difficulty,
        drawn.test_fraction,
    )
    manifest = checks.check_manifest(manifests.sop_manifest(root), root)
    photos = build_cache(manifest, root, work / "photos", settings.image.resize)
    train, held = manifest[manifest.split == "train"], manifest[manifest.split == "test"]
    held = held[held.label.isin(held.label.unique()[: VALIDATION_PHOTOS // drawn.photos])]
    train_photos, held_photos = photos.subset(train.index.to_numpy()), photos.subset(held.index.to_numpy())

    torch.manual_seed(settings.seed)
    model = ImageModel(settings.image.backbone, local_norm=settings.image.local_norm)
    transform = TestTransform(settings.image.resize, settings.image.size)
    image_log = global_training.train_global(
        model,
        train_photos,
        train.label.to_numpy(),
        settings.image,
        settings.seed,
        partial(validation.global_recall, model, held_photos, held.label.to_numpy(), transform),
        work / "image_model.pt",
        families=train.family.to_numpy(),
    )
    reranker, reranker_log = pretrain_reranker(
        model, train_photos, train.label.to_numpy(), held_photos, held.label.to_numpy(), settings
    )
    for name, module in (("image_model", model), ("reranker", reranker)):
        tensors = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
        write_atomically(
            weights / f"{name}.safetensors", lambda partial, tensors=tensors: save_file(tensors, partial)
        )
    log = pd.concat(
        [image_log.assign(stage="image model"), reranker_log.assign(stage="reranker")], ignore_index=True
    )
    write_atomically(weights / "pretraining.csv", lambda partial: log.to_csv(partial, index=False))
    record = json.dumps(asdict(settings) | {"torch": torch.__version__}, indent=2)
    write_atomically(weights / "pretraining.json", lambda partial: partial.write_text(record))
    return log


def pretrain_reranker(
    model: ImageModel,
    photos: PhotoCache,
    labels: np.ndarray,
    held_photos: PhotoCache,
    held_labels: np.ndarray,
    settings: Pretraining,
) -> tuple[RerankingTransformer, pd.DataFrame]:
    """Start a reranker as a matcher and train it and the local head on cached feature maps of two views per
    photo.

    The loss is `list_loss`.

    Returns:
        The reranker, with the weights that did best on the held-out photos, and a log: `epoch` (a tenth of
        the steps), `loss`, `validation R@1`, `seconds`.
    """
    image, transform = settings.image, TestTransform(settings.image.resize, settings.image.size)
    crops = TrainTransform(image.size, scale=(0.5, 1.0))
    model.eval().requires_grad_(False).to(device())
    plain, embedding = _maps(model, photos, transform)
    views = [plain, _maps(model, photos, crops)[0]]  # (N, channels, h, w) float16 each
    content_head(model, plain[:: max(1, len(plain) // 1000)])
    model.local_head.requires_grad_(True)
    neighbors, _ = exact.nearest_neighbors(embedding, settings.from_first)
    negatives = hard_negatives(neighbors, labels, settings.from_first)
    held_embedding, _ = extract_features(model, held_photos, transform)
    held_neighbors, _ = exact.nearest_neighbors(held_embedding, 30)

    torch.manual_seed(settings.seed)
    reranker = RerankingTransformer(layers=settings.layers, feedforward=settings.feedforward)
    start_as_matching(reranker, image.local_norm)
    reranker.to(device())
    with torch.no_grad():
        local = model.local_features(plain[:: max(1, len(plain) // 500)].to(device()).float())
        calibrate(reranker, reranker(local[:-1], local[1:]))
    optimizer = torch.optim.AdamW(
        [*reranker.parameters(), *model.local_head.parameters()], lr=settings.learning_rate, weight_decay=0.01
    )
    factor = loop.schedule(settings.reranker_steps, 1, ())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    photos_of = {label: rows.to_numpy() for label, rows in pd.Series(np.arange(len(labels))).groupby(labels)}
    rng, total, start = np.random.default_rng(settings.seed), 0.0, time.monotonic()
    every = max(settings.reranker_steps // 10, 1)

    def recall() -> float:
        return validation.reranked_recall(
            model, reranker, held_photos, held_labels, transform, held_neighbors
        )

    trained = nn.ModuleDict({"reranker": reranker, "local_head": model.local_head})
    log = [{"epoch": 0, "loss": float("nan"), "validation R@1": recall(), "seconds": 0.0}]
    tqdm.write(f"validation R@1 at the start {log[0]['validation R@1']:.3f}")
    best = copy.deepcopy(trained.state_dict())
    for step in tqdm(range(1, settings.reranker_steps + 1), desc="train reranker", unit="step"):
        anchors = rng.integers(0, len(labels), settings.anchors)
        lists = np.stack(
            [_list(a, labels, photos_of, negatives[a], settings, rng) for a in anchors]
        )  # (A, 1 + n)
        query_view, gallery_view = (views[i] for i in rng.integers(0, 2, 2))
        reranker.train()
        with autocast():
            query = model.local_features(query_view[anchors].to(device()).float())
            gallery = model.local_features(gallery_view[lists.ravel()].to(device()).float())
            logits = reranker(query.repeat_interleave(lists.shape[1], dim=0), gallery)
        same = torch.from_numpy(labels[lists] == labels[anchors][:, None]).to(device())
        loss = list_loss(logits.view(lists.shape), same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += float(loss.detach())
        if step % every == 0:
            row = {"epoch": step // every, "loss": total / every, "validation R@1": recall()}
            log.append(row | {"seconds": time.monotonic() - start})
            tqdm.write(f"step {step}: loss {row['loss']:.3f}, validation R@1 {row['validation R@1']:.3f}")
            total = 0.0
            if row["validation R@1"] >= max(earlier["validation R@1"] for earlier in log):
                best = copy.deepcopy(trained.state_dict())
    trained.load_state_dict(best)
    return reranker, pd.DataFrame(log)


def _list(
    anchor, labels, photos_of, negatives, settings: Pretraining, rng: np.random.Generator
) -> np.ndarray:
    """Return rows: another photo of the anchor's product, then hard and some easy negatives."""
    same = photos_of[labels[anchor]]
    rows = [rng.choice(same[same != anchor])]
    for _ in range(settings.negatives):
        hard = len(negatives) and rng.random() >= settings.easy
        rows.append(rng.choice(negatives) if hard else rng.integers(0, len(labels)))
    return np.array(rows)


@torch.no_grad()
def _maps(model: ImageModel, photos: PhotoCache, transform) -> tuple[torch.Tensor, np.ndarray]:
    """Return float16 feature maps (N, channels, h, w) and global features (N, D) of one view of each
    photo."""
    parts = [np.arange(i, min(i + 128, len(photos))) for i in range(0, len(photos), 128)]
    maps, embeddings = [], []
    for images in tqdm(
        PhotoBatches(photos, parts, transform).loader(), total=len(parts), desc="feature maps", unit="batch"
    ):
        with autocast():
            features = model.feature_map(
                images.to(device=device(), memory_format=torch.channels_last)
            ).float()
        maps.append(features.to(torch.float16).contiguous().cpu())
        embeddings.append(F.normalize(model.global_head(features.mean(dim=(2, 3))), dim=1).cpu().numpy())
    return torch.cat(maps), np.concatenate(embeddings)
