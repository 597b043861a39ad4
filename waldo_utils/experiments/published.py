"""The authors' published checkpoints in our models, and the paper's test on them: nothing is trained here.

A checkpoint is what `torch.save` wrote: a state dict, or a dict that holds it as `state`, `state_dict` or
`model`, perhaps with every name below `module.` (repository uvavision/RerankingTransformer, folder RRT_SOP).
It holds a ResNet-50 under torchvision's names, `remap` (the global head), `remap_local` (the local head,
whose features are not normalized), `matcher` (the reranker; a global checkpoint may lack it), an unused
`classifier`, and `mean` and `std`, by which the model normalizes photos.
"""

import json
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from waldo_utils.data import checks, manifests, photo_cache, transforms
from waldo_utils.disk import artifacts
from waldo_utils.disk.homes import WORK
from waldo_utils.evaluation import metrics, reported, tables
from waldo_utils.models import starting_weights, weight_files
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact
from waldo_utils.retrieval.features import extract_features
from waldo_utils.retrieval.reranking import rerank_scores

SHORTLIST = 100
RESIZE, CROP = 256, 224  # pixels
PARTS = {
    "remap.": "global_head.",
    "remap_local.": "local_head.",
}  # published -> ours; other names: the backbone's
MATCHER_PARTS = {"matcher.seg_encoder.": "segment.", "matcher.classifier.": "score.", "matcher.": ""}
LISTING = WORK / "data" / "published" / "unreadable.csv"  # of photos that stop the test
UNUSED = ("classifier.weight", "classifier.bias")


def load_checkpoint(path: Path) -> tuple[ImageModel, RerankingTransformer | None]:
    """Load a published checkpoint into an image model and a reranking transformer.

    Only tensors are read, nothing in the file is executed.

    Returns:
        The image model ("resnet50", local features as they come), and the reranking transformer; None if the
        checkpoint holds no `matcher`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not of this form: names missing, unexpected and misshapen tensors as the
            authors name them.
    """
    given = _state(path)
    model, reranker = ImageModel("resnet50"), RerankingTransformer()
    has_matcher = any(name.startswith("matcher.") for name in given)
    expected = {published_name(name): value for name, value in model.state_dict().items()}
    if has_matcher:
        expected |= {
            published_name(name, matcher=True): value for name, value in reranker.state_dict().items()
        }
    starting_weights.check_shapes(expected, given, path, "a published checkpoint")
    for name in ("mean", "std"):
        if not torch.allclose(given[name].float(), expected[name], atol=1e-4):
            raise ValueError(
                f"{path} normalizes photos by another {name} ({given[name].flatten().tolist()}): "
                "it was not made by the published code"
            )
    model.load_state_dict({name: given[published_name(name)] for name in model.state_dict()})
    if not has_matcher:
        return model, None
    reranker.load_state_dict(
        {name: given[published_name(name, matcher=True)] for name in reranker.state_dict()}
    )
    return model, reranker


def published_name(name: str, matcher: bool = False) -> str:
    """Return the authors' name of a tensor of our image model, or with `matcher` of our reranking
    transformer."""
    for theirs, ours in (MATCHER_PARTS if matcher else PARTS).items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name.removeprefix("backbone.")


def _state(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's state dict without wrappers and without what the authors do not use."""
    content = weight_files.state_dict(weight_files.load_tensors(path), path)
    if content and all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return {name: value for name, value in content.items() if name not in UNUSED}


def evaluate(
    checkpoint: Path,
    global_checkpoint: Path | None,
    root: Path,
    depth: int = SHORTLIST,
    resamples: int = 10_000,
) -> tuple[pd.DataFrame, dict]:
    """Run the paper's test of CO and CO + RRT: every test photo is a query among all the others.

    Photos are resized straight from their files to a square of 256 pixels and cropped to the middle 224, as
    published. The shortlist of 100 comes by cosine from the global checkpoint, its first `depth` are
    reranked.

    Args:
        checkpoint: with a `matcher`: gives the local features and the scores.
        global_checkpoint: gives the shortlist, as published; None: `checkpoint` does, which is the same while
            its backbone was frozen, but not once it was finetuned.
        root: folder of Stanford Online Products, or of its form.
        depth: neighbors reranked per query, 1 to 100.
        resamples: of the bootstrap over products.

    Returns:
        A table of one row per method (see `results.hit_table`), and its provenance: SHA-256 of the
        checkpoints, settings, numbers of photos and products.

    Raises:
        FileNotFoundError: a file or a list is absent.
        ValueError: a checkpoint is not of the published form or lacks the matcher, depth is out of range, or
            the manifest breaks a rule of `manifests.check_manifest`.
    """
    if not 1 <= depth <= SHORTLIST:
        raise ValueError(f"depth is {depth}: the shortlist holds {SHORTLIST}, choose 1 to {SHORTLIST}")
    # All that can be refused is refused before the photos are read.
    files = {"checkpoint": checkpoint} | (
        {"global checkpoint": global_checkpoint} if global_checkpoint else {}
    )
    model, reranker = load_checkpoint(checkpoint)
    if reranker is None:
        raise ValueError(
            f"{checkpoint} holds no matcher to rerank with: give it as --global-checkpoint, "
            "and a reranking checkpoint as --checkpoint"
        )
    global_model = load_checkpoint(global_checkpoint)[0] if global_checkpoint else None
    manifest = manifests.sop_manifest(root)
    test = manifest[manifest.split == "test"].reset_index(drop=True)
    test = checks.check_manifest(test, root, read=True, listing=LISTING)
    photos, labels = photo_cache.PhotoFiles(test, root), test.label.to_numpy()
    transform = transforms.TestTransform(RESIZE, CROP)

    # The published shortlist is the global checkpoint's, the scores are the reranking checkpoint's.
    embedding, local = extract_features(model, photos, transform)
    if global_model is not None:
        embedding, _ = extract_features(global_model, photos, transform)
    neighbors, _ = exact.nearest_neighbors(embedding, min(SHORTLIST, len(test) - 1))
    scores = rerank_scores(reranker, local, local, neighbors[:, :depth])
    orders = {"CO": neighbors, "CO + RRT": exact.reorder(neighbors, scores)}
    hits = {method: [metrics.hits(order, labels, labels)] for method, order in orders.items()}
    # What another run would have to know to get the same table.
    provenance = {
        "checkpoints": {
            name: {"file": path.name, "sha256": artifacts.sha256(path)} for name, path in files.items()
        },
        "shortlist by": "global checkpoint" if global_checkpoint else "checkpoint",
        "shortlist": neighbors.shape[1],
        "depth": scores.shape[1],
        "resize": RESIZE,
        "crop": CROP,
        "queries": len(test),
        "products": int(test.label.nunique()),
        "resamples": resamples,
        "torch": torch.__version__,
    }
    return tables.hit_table(hits, labels, metrics.relevant_counts(labels), resamples), provenance


def report(table: pd.DataFrame, provenance: dict) -> str:
    """Return table and provenance as lines to print, with the reported figures below ours."""
    ks = [k for k in (1, 10, 100) if f"R@{k}" in table]
    lines = [f"{'per cent, 95 % interval':32}" + "".join(f"{f'R@{k}':>20}" for k in ks)]
    for row in table.to_dict("records"):
        cells = [tuple(100 * row[f"R@{k}{bound}"] for bound in ("", " low", " high")) for k in ks]
        lines.append(f"{row['method']:32}" + "".join(f"{a:7.2f} ({b:4.1f}–{c:5.1f})" for a, b, c in cells))
    for row in reported.REPORTED.to_dict("records"):
        cells = "".join(f"{100 * row[f'R@{k}']:6.1f}{'':14}" for k in ks)
        lines.append(f"{row['method'] + ', reported':32} {cells}".rstrip())
    queries, products = provenance["queries"], provenance["products"]
    lines.append(f"{queries:,} queries of {products:,} products; {provenance['depth']} neighbors reranked")
    if (queries, products) != checks.SOP_COUNTS["test"]:
        published = " photos of ".join(f"{count:,}" for count in checks.SOP_COUNTS["test"])
        lines.append(
            f"not the published test set ({published} products): not comparable with the reported figures"
        )
    if provenance["shortlist by"] == "checkpoint":
        lines.append("the shortlist is the checkpoint's own; the reported one is the global checkpoint's")
    for name, file in provenance["checkpoints"].items():
        lines.append(f"{name} {file['file']}: SHA-256 {file['sha256']}")
    return "\n".join(lines)


def save(table: pd.DataFrame, provenance: dict, path: Path) -> None:
    """Write a table as CSV, and beside it a JSON file of its provenance."""
    artifacts.write_atomically(path, lambda partial: table.to_csv(partial, index=False))
    content = json.dumps(provenance | {"sha256": artifacts.sha256(path)}, indent=2)
    artifacts.write_atomically(
        path.with_suffix(".json"), lambda partial: partial.write_text(content, encoding="utf-8")
    )
