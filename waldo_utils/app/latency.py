"""Measurements of the demo that the notebooks are too short for: `python -m waldo_utils.app.latency`.

A search with a ResNet-50 at 224 pixels and the published reranker (random weights: they take the same time as
trained ones), and the start of a saved gallery of 10,000 photos, made once below `data/benchmark`: 500 photos
over and over, whose features are computed once but saved 10,000 times. Then visits of the page, one after
another and ten at once, and what they cost the one process in memory.
"""

import json
import os
import platform
import re
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image
from tqdm import tqdm

from waldo_utils.app import demo_pictures, index, searching
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.data.photo_cache import PhotoCache, open_cache
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.run import pipeline
from waldo_utils.study import ROOT, Study

TABLE = ROOT / "results" / "benchmarks" / "demo_latency.csv"
WORK = ROOT / "data" / "benchmark"
PHOTOS = 10_000  # of the saved gallery
DIFFERENT = 500  # of these
QUERIES = 100
VISITS = 10


def published_models() -> Models:
    """Return models of the published form with random weights."""
    torch.manual_seed(0)
    image, local = ImageModel("resnet50").eval(), ImageModel("resnet50").eval()
    reranker = RerankingTransformer().eval()
    transform = TestTransform(256, 224)
    return Models(image, local, reranker, transform, 256, "random, published form", False, "random")


def random_gallery(count: int, photo: Image.Image, dim: int = 128, side: int = 7) -> Gallery:
    """Return a gallery of random features, all of one photo."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(count, dim)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    local = rng.normal(size=(count, dim, side, side)).astype(np.float16)
    unknown = np.full(count, "")
    return Gallery(embedding, local, [str(i) for i in range(count)], unknown, unknown, lambda row: photo)


def write_photos(cache: PhotoCache, folder: Path, count: int, different: int) -> None:
    """Write photos as JPEG files in folders of eight: the first `different` ones of a cache, over and over.

    What is there already is left as it is.
    """
    for i in tqdm(range(count), desc="write photos", unit="photo"):
        path = folder / f"product{i // 8:05d}" / f"{i:06d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            cache.image(i % min(different, len(cache))).save(path, quality=90)


def start_times(study: Study, output: Path, repeats: int = 5) -> pd.DataFrame:
    """Time what stands between a program's start and its first search: models, then the saved index.

    Returns:
        Rows "models", "index" and "total": `step`, `p50 ms`, `p95 ms`, `share`.
    """
    seconds = []
    for _ in range(repeats):
        clock = [time.perf_counter()]
        models = searching.open_models(study)
        clock.append(time.perf_counter())
        index.open_index(output, models)
        clock.append(time.perf_counter())
        seconds.append(dict(zip(("models", "index"), np.diff(clock).tolist(), strict=True)))
    return searching.step_table(pd.DataFrame(seconds))


def visit(address: str) -> dict[str, float]:
    """Open the page as a browser does, with its first example, and return how long each step took, in
    seconds."""

    def ask(path: str, body: bytes | None = None) -> str:
        with urllib.request.urlopen(urllib.request.Request(address + path, body), timeout=600) as answer:
            return answer.read().decode("latin-1")

    clock = [time.perf_counter()]
    example = re.search(r'<option value="(\d+)"', ask(""))[1]
    ask(f"example/{example}")
    ask(f"photo/{example}")
    clock.append(time.perf_counter())
    body = json.dumps({"photo": example, "box": None}).encode()
    first, *_ = json.loads(ask("search", body).splitlines()[-1])["html"].partition("<details")
    clock.append(time.perf_counter())
    for path in re.findall(r"thumbnail/\d+", first):
        ask(path)
    clock.append(time.perf_counter())
    return dict(zip(("page and photo", "matches", "their pictures"), np.diff(clock).tolist(), strict=True))


def visits(address: str, server: psutil.Process, count: int = VISITS) -> dict[str, pd.DataFrame]:
    """Visit a page `count` times one after another, then as often at once.

    Returns:
        By case a table as of `searching.step_table`, with a column `MB`: by how much the server's memory
        grew, per visit.
    """

    def grown(before: int) -> float:
        return (server.memory_info().rss - before) / count / 2**20

    visit(address)  # what the first one prepares
    before = server.memory_info().rss
    alone = searching.step_table(pd.DataFrame([visit(address) for _ in range(count)])).assign(
        MB=grown(before)
    )
    before = server.memory_info().rss
    with ThreadPoolExecutor(count) as pool:
        seconds = list(pool.map(visit, [address] * count))
    together = searching.step_table(pd.DataFrame(seconds)).assign(MB=grown(before))
    return {"a visit, one after another": alone, f"a visit, {count} at once": together}


def measure(study: Study) -> pd.DataFrame:
    """Return all measurements: `case`, `photos`, `depth`, `step`, `p50 ms`, `p95 ms`, `share`, `MB` of a
    visit; a start has no depth."""
    models = searching.open_models(study)
    gallery = searching.study_gallery(study, models, "test")
    photos = [gallery.photo(row * 17 % len(gallery)) for row in range(QUERIES)]
    tables = []

    def keep(case: str, size: int, depth: int | None, table: pd.DataFrame) -> None:
        tables.append(table.assign(case=case, photos=size, depth=depth))
        total = table.iloc[-1]
        print(f"{case}: p50 {total['p50 ms']:.0f} ms, p95 {total['p95 ms']:.0f} ms", flush=True)

    depth = searching.DEPTH
    keep(f"search, {study.name}", len(gallery), depth, searching.benchmark(models, gallery, photos, depth))
    larger = [photo.resize((320, 320)) for photo in photos]
    big = random_gallery(len(gallery), larger[0])
    table = searching.benchmark(published_models(), big, larger, depth)
    keep("search, ResNet-50 at 224 px", len(big), depth, table)
    write_photos(open_cache(artifacts.data_folder(study) / "photos"), WORK / "photos", PHOTOS, DIFFERENT)
    index.update(WORK / "photos", WORK / "index", models, study.name)
    opened = index.open_index(WORK / "index", models).gallery
    keep("start of a saved gallery", len(opened), None, start_times(study, WORK / "index"))
    keep("search, saved gallery", len(opened), depth, searching.benchmark(models, opened, photos, depth))
    with demo_pictures.served(study.name) as (address, server):
        for case, table in visits(address, server).items():
            keep(case, len(gallery), depth, table)
    whole = pd.concat(tables, ignore_index=True)
    return whole[["case", "photos", "depth", "step", "p50 ms", "p95 ms", "share", "MB"]]


def main() -> int:
    """Measure with the models of `mini` and write the table with its provenance."""
    study = pipeline.find_profile("mini")
    table = measure(study)
    artifacts.write_atomically(TABLE, lambda partial: table.to_csv(partial, index=False))
    provenance = {
        "queries": QUERIES,
        "models": searching.open_models(study).digest,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "sha256": artifacts.sha256(TABLE),
    }
    text = json.dumps(provenance, indent=2)
    artifacts.write_atomically(
        TABLE.with_suffix(".json"), lambda partial: partial.write_text(text, encoding="utf-8")
    )
    print(table.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
