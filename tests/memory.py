"""Measure the peak memory of every stage on rendered data of one, two and four sizes, and of an evaluation of
SOP's.

`make memory` writes `results/benchmarks/memory.csv` with its provenance. Every figure comes from a process of
its own. What a stage must hold grows with the data (its features); the rest of its peak should not.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from waldo_utils.data import manifests, photo_cache, transforms
from waldo_utils.disk.files import sha256, write_atomically
from waldo_utils.evaluation import metrics
from waldo_utils.miniature.datasets import render_sop
from waldo_utils.models import starting_weights
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact, features, reranking
from waldo_utils.study import PROFILES, ROOT
from waldo_utils.training import global_training, reranker_training

SCALES = (1, 2, 4)
FAMILIES = 2  # per category at scale 1: 240 photos
SOP_PHOTOS, SOP_PRODUCTS = 60_502, 11_316  # the test split of Stanford Online Products
SOP_QUERIES = 200  # reranked: some blocks of codes; more would take time, not memory
STUDY = PROFILES["smoke"]


def render(folder: Path, scale: int) -> int:
    """Render the photos, in this process."""
    root = render_sop(folder / "photos", 5, FAMILIES * scale, 2, 5, 64, 0.5, processes=1)
    return len(manifests.sop_manifest(root))


def cache(folder: Path, scale: int) -> int:
    """Decode them into a cache."""
    manifest = manifests.sop_manifest(folder / "photos")
    return len(photo_cache.build_cache(manifest, folder / "photos", folder / "cache", 64))


def train_global(folder: Path, scale: int) -> int:
    """Train the image model for an epoch."""
    photos, labels = photo_cache.open_cache(folder / "cache"), manifests.sop_manifest(folder / "photos").label
    model = starting_weights.image_model(STUDY.global_)
    checkpoint = folder / "global.pt"
    checkpoint.unlink(missing_ok=True)
    global_training.train_global(model, photos, labels.to_numpy(), STUDY.global_, 0, lambda: 0.0, checkpoint)
    return len(photos)


def extract(folder: Path, scale: int) -> int:
    """Extract global and local features."""
    photos = photo_cache.open_cache(folder / "cache")
    transform = transforms.TestTransform(STUDY.global_.resize, STUDY.global_.size)
    embedding, local = features.extract_features(
        starting_weights.image_model(STUDY.global_), photos, transform
    )
    for name, array in (("embedding", embedding), ("local", local)):
        write_atomically(folder / f"{name}.npy", lambda path, array=array: np.save(path, array))
    return len(photos)


def train_reranker(folder: Path, scale: int) -> int:
    """Finetune the reranker and the image model for an epoch."""
    photos, labels = photo_cache.open_cache(folder / "cache"), manifests.sop_manifest(folder / "photos").label
    neighbors, _ = exact.nearest_neighbors(np.load(folder / "embedding.npy"), 50)
    model, reranker = (
        starting_weights.image_model(STUDY.global_),
        starting_weights.reranker(STUDY.reranker),
    )
    settings = replace(STUDY.reranker, finetune_epochs=1)
    checkpoint = folder / "reranker.pt"
    checkpoint.unlink(missing_ok=True)
    reranker_training.train_reranker(
        model,
        reranker,
        photos,
        labels.to_numpy(),
        neighbors,
        settings,
        STUDY.global_,
        0,
        lambda: 0.0,
        checkpoint,
        finetune=True,
    )
    return len(photos)


def evaluate(folder: Path, scale: int) -> int:
    """Search, rerank the first 20 and count."""
    labels = manifests.sop_manifest(folder / "photos").label.to_numpy()
    embedding, local = np.load(folder / "embedding.npy"), np.load(folder / "local.npy", mmap_mode="r")
    _count(embedding, local, starting_weights.reranker(STUDY.reranker), labels, 100, 20, len(labels))
    return len(labels)


def evaluate_sop(folder: Path, scale: int) -> int:
    """Search, rerank a slice of the queries and count, on made-up features of the size of SOP's test
    split."""
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((SOP_PHOTOS, 128), dtype=np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    path = folder / "sop_local.npy"
    local = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(SOP_PHOTOS, 128, 7, 7))
    for start in range(0, SOP_PHOTOS, 1000):
        local[start : start + 1000] = rng.standard_normal(local[start : start + 1000].shape, dtype=np.float32)
    local.flush()
    labels = np.sort(np.arange(SOP_PHOTOS) % SOP_PRODUCTS)
    local = np.load(path, mmap_mode="r")
    for start in range(0, SOP_PHOTOS, 1000):  # reranking all queries would map every page
        local[start : start + 1000].max()
    _count(embedding, local, RerankingTransformer(), labels, 100, 100, SOP_QUERIES)
    return SOP_PHOTOS


def _count(
    embedding: np.ndarray,
    local: np.ndarray,
    reranker: RerankingTransformer,
    labels: np.ndarray,
    shortlist: int,
    depth: int,
    queries: int,
) -> None:
    neighbors, _ = exact.nearest_neighbors(embedding, shortlist)
    scores = reranking.rerank_scores(reranker, local[:queries], local, neighbors[:queries, :depth])
    order = neighbors.copy()
    order[:queries] = exact.reorder(neighbors[:queries], scores)
    hits = metrics.hits(order, labels, labels)
    values = metrics.per_query(hits, metrics.relevant_counts(labels), (1, 10, 100))
    metrics.bootstrap_interval(np.stack(list(values.values()), axis=1), labels, 200)


STAGES = {
    "render the photos": render,
    "decode them into the cache": cache,
    "train CO": train_global,
    "extract features": extract,
    "finetune the reranker": train_reranker,
    "search, rerank, count": evaluate,
    "search, rerank, count at SOP's size": evaluate_sop,
}
SOP = "search, rerank, count at SOP's size"


def peak() -> float:
    """Return the most memory that this process has held, in MB; pages of mapped files count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(stage: str, folder: Path, scale: int) -> dict:
    """Run one stage in a process of its own and return a row of the table."""
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder), "--scale", str(scale)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Measure all stages, or run the one that `measure` asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="*", choices=STAGES, default=list(STAGES), help="some of the stages")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "memory.csv")
    options = parser.parse_args()
    if options.stage:
        imports = peak()
        photos = STAGES[options.stage](options.folder, options.scale)
        size = sum(path.stat().st_size for path in options.folder.glob("*.npy")) / 2**20
        row = {"stage": options.stage, "scale": options.scale, "photos": photos, "features MB": size}
        print(json.dumps(row | {"imports MB": imports, "peak MB": peak()}))
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="waldo-memory-") as temporary:
        for scale in SCALES:
            folder = Path(temporary) / str(scale)
            folder.mkdir()
            for stage in options.only:
                if stage != SOP:
                    rows.append(measure(stage, folder, scale))
                    print(rows[-1], flush=True)
        if SOP in options.only:
            folder = Path(temporary) / "sop"
            folder.mkdir()
            rows.append(measure(SOP, folder, 1))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).round(1)
    write_atomically(options.output, lambda path: table.to_csv(path, index=False))
    provenance = {
        "what": __doc__.split("\n")[0],
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "torch", "pillow", "pandas")},
        "sha256": sha256(options.output),
    }
    write_atomically(
        options.output.with_suffix(".json"), lambda path: path.write_text(json.dumps(provenance, indent=2))
    )
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
