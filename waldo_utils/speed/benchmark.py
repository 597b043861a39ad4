"""Speed of search and reranking on this machine: ratios measured in turns, and theory beside them.

Clock times hang on the machine and on what else it does. So the methods that are compared take turns within
one run, after a warm-up, and tables give medians, ratios and the share of the matrix rate that was measured
in the same run.
"""

import datetime
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from waldo_utils.disk import artifacts
from waldo_utils.disk.artifacts import write_atomically
from waldo_utils.disk.homes import WORK
from waldo_utils.experiments import storage
from waldo_utils.models.devices import device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.models.scorer import COMPILED, PAIRS
from waldo_utils.retrieval import approximate
from waldo_utils.retrieval.exact import nearest_neighbors, reorder
from waldo_utils.retrieval.reranking import rerank_scores
from waldo_utils.speed.timing import in_turns, matrix_rate, peak_memory, tf32
from waldo_utils.study import Study

FOLDER = WORK / "results" / "benchmarks"
DIM, HEADS, PLACES = 128, 4, 49  # of the study's local features
SIZES = {"published (6 layers, 1024)": (6, 1024), "small (2 layers, 256)": (2, 256)}  # layers, feed-forward
SOP_QUERIES, SOP_DEPTH = 60_502, 100
AGAIN = 16  # best neighbors that are scored again in float32
PRECISIONS = {
    "float32": (torch.float32, 0),
    "bfloat16": (torch.bfloat16, 0),
    f"bfloat16, best {AGAIN} again": (torch.bfloat16, AGAIN),
}  # ways to rerank: precision, and neighbors that are scored again in float32
PUBLISHED_PASS = 3_000  # queries whose neighbor of one rank the published loop scores at once
RESNET50 = 4.09e9  # multiply-adds of a 224-pixel photo
GPU_RATE = 989e12  # operations a second, NVIDIA's figure for an H100 (SXM), bfloat16, dense
SERVER_MEMORY = 256e9  # bytes of one machine, for what galleries would need


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    galleries: tuple[int, ...]  # photos of the drawn galleries that indexes are compared on
    searches: tuple[int, ...]  # photos that search among themselves
    queries: int  # of the index comparison
    pairs: int  # that the textbook module scores at once: one rank of so many queries
    shortlists: int  # of SOP_DEPTH neighbors each, that the scorer reranks beside it
    repeats: int  # turns of each method
    batches: tuple[int, ...]  # photos of the training batches whose memory is measured


_TINY = Plan((1_000,), (200, 400), 20, 60, 1, 2, (64,))
PLANS = {
    "smoke": _TINY,
    "rehearsal": _TINY,
    "default": Plan((10_000, 30_000), (2_000, 4_000, 8_000, 16_000), 200, 750, 4, 3, (128, 400)),
    "full": Plan(
        (100_000, 1_000_000, 10_000_000),
        (7_500, 15_000, 30_000, 60_000),
        500,
        PUBLISHED_PASS,
        10,
        7,
        (128, 400, 800),
    ),
}


class Textbook(nn.Module):
    """The reranking transformer as the published code runs it: sequence first, `nn.MultiheadAttention` with
    its defaults, every token of every layer; for comparison only.

    Args:
        reranker: whose weights it takes.
    """

    def __init__(self, reranker: RerankingTransformer):
        super().__init__()
        self.reranker = reranker
        self.attention = nn.ModuleList()
        for layer in reranker.encoder.layers:
            attention = nn.MultiheadAttention(layer.self_attn.embed_dim, layer.self_attn.num_heads)
            attention.load_state_dict(layer.self_attn.state_dict())
            self.attention.append(attention)

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Return (B,) logits of pairs of local feature maps (B, D, h, w)."""
        x = self.reranker.sequence(query, gallery).transpose(0, 1).contiguous()  # (T, B, D)
        for layer, attention in zip(self.reranker.encoder.layers, self.attention, strict=True):
            x = layer.norm1(x + attention(x, x, x)[0])
            x = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
        return self.reranker.score(x[0]).squeeze(-1)


def pair_products(layers: int, feedforward: int, dim: int = DIM, places: int = PLACES) -> tuple[float, float]:
    """Count the multiply-adds of one pair: of the textbook module, and of the `Scorer`, which leaves out what
    nobody reads.

    Per layer and token: 4 D^2 for the projections, 2 D F for the feed-forward, 2 T D for the attention. The
    scorer has the first layer's 3 D^2 already, and computes `[CLS]` alone in the last: one row, but keys and
    values of all.
    """
    tokens = 2 * places + 2
    row = dim**2 + 2 * dim * feedforward + 2 * tokens * dim + dim**2  # q, attention, output, feed-forward
    textbook = layers * tokens * (row + 2 * dim**2)
    scorer = (layers - 1) * tokens * (row + 2 * dim**2) + row + tokens * 2 * dim**2
    first = tokens * 3 * dim**2 if layers > 1 else dim**2 + tokens * 2 * dim**2
    return float(textbook), float(scorer - first)


@torch.inference_mode()
def reranking_speed(plan: Plan) -> pd.DataFrame:
    """Measure the textbook module, one rank of the shortlists at a time, against `rerank_scores` in its
    precisions.

    The published loop scores `PUBLISHED_PASS` pairs at once. On a processor that alone may take twice the
    time: glibc asks the system anew for the memory of each large tensor (the study's kernels tell it to keep
    that memory, see `kernels.KEEP_MEMORY`). So the textbook module is also run on
    few pairs at once.

    Returns:
        One row per size and method: `size`, `method`, `pairs at once`, `ms per pair` (median), `ratio`
        (median over turns of the first method's time by the method's), `share of matrix rate` (of its
        own precision, counting what the method computes), `peak MB`, `device`. Where there is no GPU,
        its rows are missing figures: not run.
    """
    rng = np.random.default_rng(0)
    local = rng.standard_normal((4 * SOP_DEPTH, DIM, 7, 7)).astype(np.float16)
    maps = torch.from_numpy(local).float().to(device())
    pairs = torch.from_numpy(rng.integers(0, len(local), (2, plan.pairs)))
    shortlists = rng.permuted(np.tile(np.arange(len(local)), (plan.shortlists, 1)), axis=1)[:, :SOP_DEPTH]
    few = min(PAIRS[device().type], plan.pairs)
    rates = {p: matrix_rate(p) for p in (torch.float32, torch.bfloat16)}
    tf32_rate, rows = tf32(partial(matrix_rate, torch.float32))(), []
    for name, (layers, feedforward) in SIZES.items():
        torch.manual_seed(0)
        reranker = RerankingTransformer(DIM, HEADS, layers, feedforward).eval().to(device())
        textbook, scorer = pair_products(layers, feedforward)
        runs = {
            f"textbook, {many}": Run(
                _textbook(reranker, maps, pairs, at_once), plan.pairs, at_once, textbook, rates[torch.float32]
            )
            for many, at_once in (("many at once", plan.pairs), ("few at once", few))
        }
        for method, (precision, again) in PRECISIONS.items():
            call = partial(
                rerank_scores, reranker, local[: plan.shortlists], local, shortlists, precision, again
            )
            work = scorer * (1 + again / SOP_DEPTH)
            at_once = few if precision != torch.float32 or torch.cuda.is_available() else COMPILED
            runs[f"scorer {method}"] = Run(call, shortlists.size, at_once, work, rates[precision])
        exact = runs["scorer float32"]
        if torch.cuda.is_available():
            runs["scorer TF32"] = replace(exact, call=tf32(exact.call), rate=tf32_rate)
        calls = {method: run.call for method, run in runs.items()}
        taken = {m: np.divide(s, runs[m].pairs) for m, s in in_turns(calls, plan.repeats).items()}
        first = next(iter(taken.values()))
        for method, run in runs.items():
            rows.append({
                "size": name, "method": method, "pairs at once": run.at_once,
                "ms per pair": 1e3 * np.median(taken[method]),
                "ratio": float(np.median(first / taken[method])),
                "share of matrix rate": run.products / np.median(taken[method]) / run.rate,
                "peak MB": peak_memory(run.call) / 1e6, "device": device().type,
            })  # fmt: skip
        if not torch.cuda.is_available():
            rows += [{"size": name, "method": m, "device": "cuda"} for m in (*runs, "scorer TF32")]
    return pd.DataFrame(rows).sort_values(["device", "size"], kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Run:
    """One method of the reranking comparison."""

    call: Callable[[], object]
    pairs: int  # that the call scores
    at_once: int
    products: float  # multiply-adds per pair
    rate: float  # of the matrix product in its precision, multiply-adds a second


def _textbook(
    reranker: RerankingTransformer, maps: Tensor, pairs: Tensor, at_once: int
) -> Callable[[], object]:
    """Return a call that scores pairs (2, P) of local feature maps (N, D, h, w), so many at once."""
    module = Textbook(reranker).eval().to(device())
    return lambda: [module(maps[query], maps[gallery]) for query, gallery in pairs.split(at_once, 1)]


def precision_tables(
    local: list[np.ndarray],
    rerankers: list[RerankingTransformer],
    neighbors: list[np.ndarray],
    labels: np.ndarray,
    depth: int,
    resamples: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rerank in each of `PRECISIONS`; the arguments are those of `storage.storage_table`.

    Returns:
        One row per precision: `method`, `changed@1` (the share of queries with another first neighbor than in
        float32) and the metrics of `results.hit_table`; and the paired differences of
        `results.difference_table`.
    """
    reranked = {
        name: [
            reorder(
                shortlist, rerank_scores(reranker, features, features, shortlist[:, :depth], precision, again)
            )
            for features, reranker, shortlist in zip(local, rerankers, neighbors, strict=True)
        ]
        for name, (precision, again) in PRECISIONS.items()
    }
    return storage.beside_float32(reranked, labels, resamples)


def search_growth(plan: Plan, dim: int = DIM) -> pd.DataFrame:
    """Time exact search of photos among themselves, beside the theory: N^2 * D multiply-adds at the matrix
    rate.

    Returns:
        One row per number of photos: `photos`, `seconds`, `theory seconds`, `peak MB`.
    """
    features = np.random.default_rng(0).standard_normal((max(plan.searches), dim)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rate, rows = matrix_rate(torch.float32), []
    for photos in plan.searches:
        part = features[:photos]
        taken = in_turns({"search": lambda: nearest_neighbors(part, min(101, photos - 1))}, 3)["search"]
        memory = peak_memory(lambda: nearest_neighbors(part, min(101, photos - 1)))
        rows.append({"photos": photos, "seconds": float(np.median(taken)),
                     "theory seconds": photos**2 * dim / rate, "peak MB": memory / 1e6})  # fmt: skip
    return pd.DataFrame(rows)


def depth_growth(plan: Plan) -> pd.DataFrame:
    """Time the small reranker on shortlists of several depths, beside the theory: proportional to the depth.

    Returns:
        One row per depth: `depth`, `ms per query`, `theory ms per query` (from the largest depth).
    """
    rng, (layers, feedforward) = np.random.default_rng(0), SIZES["small (2 layers, 256)"]
    reranker = RerankingTransformer(DIM, HEADS, layers, feedforward).eval()
    queries = 4 * plan.shortlists
    local = rng.standard_normal((queries, DIM, 7, 7)).astype(np.float16)
    depths = (5, 10, 20, 40)
    shortlists = {depth: rng.integers(0, queries, (queries, depth)) for depth in depths}
    calls = {
        str(d): lambda s=shortlist: rerank_scores(reranker, local, local, s)
        for d, shortlist in shortlists.items()
    }
    taken = [1e3 * np.median(seconds) / queries for seconds in in_turns(calls, plan.repeats).values()]
    table = pd.DataFrame({"depth": depths, "ms per query": taken})
    return table.assign(**{"theory ms per query": taken[-1] * np.array(depths) / depths[-1]})


@torch.inference_mode()
def extraction_speed(plan: Plan) -> float:
    """Return seconds per 224-pixel photo of the published image model (ResNet-50)."""
    model = ImageModel("resnet50").eval().to(device=device(), memory_format=torch.channels_last)
    photos = torch.rand(4, 3, 224, 224, device=device()).to(memory_format=torch.channels_last)
    taken = in_turns({"extract": lambda: model(photos)}, min(plan.repeats, 3))["extract"]
    return float(np.median(taken)) / len(photos)


def evaluation_cost(reranking: pd.DataFrame, search: pd.DataFrame, photo_seconds: float) -> pd.DataFrame:
    """Predict the whole test of Stanford Online Products from what was measured.

    Args:
        reranking: of `reranking_speed`.
        search: of `search_growth`; its largest search is scaled by the square of the photos.
        photo_seconds: of `extraction_speed`.

    Returns:
        One row per part: `part`, `count`, `Pflop` (a multiply-add counts two), `hours here` (predicted from
        measured constants), `GPU minutes` (arithmetic: the operations at `GPU_RATE`, which no real
        program reaches; not measured).
    """
    published = next(iter(SIZES))
    here = reranking[(reranking["size"] == published) & (reranking.device == device().type)]
    pair = here.set_index("method")["ms per pair"] / 1e3
    last, pairs = search.iloc[-1], SOP_QUERIES * SOP_DEPTH
    textbook, scorer = pair_products(*SIZES[published])
    again = 1 + AGAIN / SOP_DEPTH
    rows = [
        ("extract features (ResNet-50)", SOP_QUERIES, SOP_QUERIES * RESNET50, SOP_QUERIES * photo_seconds),
        ("exact search", SOP_QUERIES, SOP_QUERIES**2 * DIM, last.seconds * (SOP_QUERIES / last.photos) ** 2),
        *(
            (f"rerank 100, {method}", pairs, pairs * products, pairs * pair[method])
            for method, products in (
                ("textbook, many at once", textbook),
                ("scorer float32", scorer),
                (f"scorer bfloat16, best {AGAIN} again", scorer * again),
            )
        ),
    ]
    table = pd.DataFrame(rows, columns=["part", "count", "products", "seconds"])
    return pd.DataFrame({
        "part": table.part, "count": table["count"], "Pflop": 2 * table.products / 1e15,
        "hours here": table.seconds / 3600, "GPU minutes": 2 * table.products / GPU_RATE / 60,
    })  # fmt: skip


def gallery_needs(indexes: pd.DataFrame, reranking: pd.DataFrame, photo_bytes: int) -> pd.DataFrame:
    """Work out what large galleries would need, on paper, from the constants measured on the largest drawn
    gallery.

    Flat and IVF-PQ searches visit a fixed share of the gallery, so their time and memory grow with it.

    Args:
        indexes: of `approximate.index_table`.
        reranking: of `reranking_speed`.
        photo_bytes: of one photo's local features on disk.

    Returns:
        One row per gallery: `photos`, `local TB` on disk, `flat GB`, `flat s per query`, `IVF-PQ GB`,
        `IVF-PQ s per query` (the least effort, searched alone, lists' share kept), `machines` of 256 GB that
        hold the flat index, `rerank 100 s` (published size, float32; the same for every gallery).
    """
    largest = indexes[indexes.gallery == indexes.gallery.max()]
    flat = largest[largest["index"] == "Flat"].iloc[0]
    coarse = largest[largest["index"] == "IVF,PQ32"].iloc[0]
    here = reranking[(reranking.device == device().type) & (reranking.method == "scorer float32")].iloc[0]
    rows = []
    for photos in (10**6, 10**8, 10**9):
        grown = photos / flat.gallery
        rows.append({
            "photos": photos, "local TB": photos * photo_bytes / 1e12, "flat GB": flat.MB * grown / 1e3,
            "flat s per query": flat["p50 ms"] * grown / 1e3, "IVF-PQ GB": coarse.MB * grown / 1e3,
            "IVF-PQ s per query": coarse["p50 ms"] * grown / 1e3,
            "machines": int(np.ceil(flat.MB * 1e6 * grown / SERVER_MEMORY)),
            "rerank 100 s": here["ms per pair"] * SOP_DEPTH / 1e3,
        })  # fmt: skip
    return pd.DataFrame(rows)


def index_speed(embedding: np.ndarray, labels: np.ndarray, plan: Plan) -> pd.DataFrame:
    """Compare approximate indexes (`approximate.index_table`) on drawn galleries, each the first part of the
    largest; arguments as for `approximate.drawn_gallery`."""
    largest = approximate.drawn_gallery(embedding, labels, max(plan.galleries))
    queries = approximate.drawn_gallery(embedding, labels, plan.queries, seed=1)
    return approximate.index_table({size: largest[:size] for size in plan.galleries}, queries)


def measure(plan: Plan, embedding: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each speed table with its name, as soon as it is measured.

    Args:
        plan: how much is measured.
        embedding: (N, D) global features; galleries are drawn like them.
        labels: (N,) their products.
    """
    reranking, search = reranking_speed(plan), search_growth(plan)
    yield "speed_reranking", reranking
    yield "speed_search", search
    yield "speed_depth", depth_growth(plan)
    yield "speed_evaluation", evaluation_cost(reranking, search, extraction_speed(plan))
    indexes = index_speed(embedding, labels, plan)
    yield "speed_indexes", indexes
    yield "speed_galleries", gallery_needs(indexes, reranking, 2 * DIM * PLACES)


def machine() -> dict[str, object]:
    """Return what a clock time hangs on: processor, threads, load, versions, date."""
    import faiss

    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").exists()
        else []
    )
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "faiss": faiss.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
    }


def save(name: str, table: pd.DataFrame, folder: Path, facts: dict[str, object]) -> None:
    """Write a table as CSV, and what it hangs on as JSON beside it."""
    path = folder / f"{name}.csv"
    write_atomically(path, lambda partial: table.to_csv(partial, index=False))
    content = json.dumps(facts, indent=2)
    write_atomically(path.with_suffix(".json"), lambda partial: partial.write_text(content, encoding="utf-8"))


def keep(study: Study, name: str, measure: Callable[[], pd.DataFrame], asked: object = None) -> pd.DataFrame:
    """Return a kept result table of clock times; where there is none, or one of something else, measure and
    save it.

    Times differ with each run and machine. So the first measurement stays until somebody measures anew on
    purpose (`python -m waldo_utils run --measure`): a rerun takes no time for it and changes no file.

    Args:
        study, name: as of `artifacts.save_table`.
        measure: gives the table.
        asked: what is measured, in so far as the study does not say it.
    """
    path = artifacts.results_folder(study) / "tables" / f"{name}.csv"
    asked = repr(asked)
    try:
        table = artifacts.load_table(study, name)
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")).get("machine")
    except (FileNotFoundError, ValueError):  # never measured, or with other settings
        facts = None
    if facts is None or facts.get("asked") != asked:
        facts = machine() | {"asked": asked}
        artifacts.save_table(study, name, measure(), facts)
        table = artifacts.load_table(study, name)  # the same digits as every later time
    for file in (path, path.with_suffix(".json")):
        file.touch()  # an output of the notebook that ran, as the others are
    print("measured {date} on {processor}, {threads} threads, {device}, torch {torch}".format(**facts))
    return table


def kept(name: str, folder: Path = FOLDER) -> tuple[pd.DataFrame, dict[str, object]]:
    """Return a table that `python -m waldo_utils benchmark --full` left, and what it hangs on.

    Where it has not been run, a table that says so and nothing.
    """
    path = folder / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame({"not run": ["run `python -m waldo_utils benchmark --full`"]}), {}
    return pd.read_csv(path), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def shown(table: pd.DataFrame):
    """Return a speed table styled for display: three digits, missing figures "not run"."""
    digits = {column: "{:.3g}" for column in table.select_dtypes("float").columns}
    counts = {column: "{:,}" for column in table.select_dtypes("integer").columns}
    return table.style.hide(axis="index").format(digits | counts, na_rep="not run")
