"""What image transforms do to retrieval, by the stage that sees them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from waldo_utils.data.splits import Split
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics
from waldo_utils.evaluation.reported import REPORTED, REPORTED_TRANSFORMS
from waldo_utils.experiments.severities import ONE_LEVEL, SEVERITIES, Variant
from waldo_utils.models import trained
from waldo_utils.models.devices import device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import map_of, same_tensors, shared_trunk
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact
from waldo_utils.retrieval.batches import PhotoBatches
from waldo_utils.retrieval.features import extract_features
from waldo_utils.retrieval.reranking import rerank_scores
from waldo_utils.study import Study
from waldo_utils.training import chain, reranker_training

STAGES = ("shortlist", "reranker", "both")
QUERIES = 100  # about so many, at least one of each product
# The report's rows in our words ("no flip" is of training: it stands beside our flip at test), at the
# severity nearest to the report's, which does not give its own: torchvision's defaults, and no color left for
# grayscale.
REPORTED_AS = {"no flip": "flip"}
NEAREST_SEVERITY = {
    "perspective": "medium", "grayscale": "strong", "contrast": "medium", "blur": "medium",
    "no crop": ONE_LEVEL, "flip": ONE_LEVEL, "normalization": ONE_LEVEL,
}  # fmt: skip


def query_rows(labels: np.ndarray, queries: int = QUERIES) -> np.ndarray:
    """Return rows of about so many queries, the first photos of every product alike and at least one of each.

    Args:
        labels: (N,) product of each photo; products of one photo have nothing to find and ask nothing.
        queries: how many, rounded up to equally many per product.
    """
    place = pd.Series(labels).groupby(labels).cumcount().to_numpy()  # of each photo in its product
    per_product = -(-queries // len(np.unique(labels)))
    return np.flatnonzero((place < per_product) & (metrics.relevant_counts(labels) > 0))


class _Views(PhotoBatches):
    """Photos as the models see them under a variant, each by its row alone, whatever the batches."""

    def __getitem__(self, i: int) -> Tensor:
        return torch.stack([self.transform(self.photos[int(row)], int(row)) for row in self.batches[i]])


def variant_features(
    global_model: ImageModel, image_models: dict[str, ImageModel], batch: int = 64
) -> Callable[[Variant, Sequence[Tensor]], tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Return a function from a variant and N photos, each a (3, h, w) uint8 tensor, to the features of all
    models.

    It passes once over the photos, and computes what models share once: a trunk, or the whole backbone.

    Args:
        global_model: gives the global features.
        image_models: name -> model that gives local features.
        batch: photos per forward pass.

    The function gives global features (N, D) float32, and name -> local features (N, D, h, w) float16; it
    raises ValueError where the variant leaves [0, 1] without saying so (`Variant.leaves_range`).
    """
    models = {"": global_model, **image_models}
    for model in models.values():
        model.eval().to(device=device(), memory_format=torch.channels_last)
    backbone = global_model.backbone.state_dict()
    shares = {
        name: same_tensors(model.backbone.state_dict(), backbone) for name, model in image_models.items()
    }
    trunk = shared_trunk([*models.values()])
    forward = {name: map_of(model) for name, model in models.items() if not shares.get(name)}

    @torch.no_grad()
    def features(variant: Variant, photos: Sequence[Tensor]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        rows = np.split(np.arange(len(photos)), range(batch, len(photos), batch))
        embeddings, locals_ = [], {name: [] for name in image_models}
        for model in models.values():
            model.check_range = not variant.leaves_range
        try:
            for views in _Views(photos, rows, variant).loader():
                begun = trunk(views)
                maps = {name: last_map(begun) for name, last_map in forward.items()}
                embeddings.append(global_model.global_features(maps[""]).cpu().numpy())
                for name, model in image_models.items():
                    local = model.local_features(maps.get(name, maps[""]))
                    locals_[name].append(local.to(torch.float16).cpu().numpy())
        finally:
            for model in models.values():
                model.check_range = True
        return np.concatenate(embeddings), {name: np.concatenate(parts) for name, parts in locals_.items()}

    return features


def scores_beside(
    reranker: RerankingTransformer,
    local: np.ndarray,
    queries: np.ndarray,
    neighbors: np.ndarray,
    known_neighbors: np.ndarray,
    known_scores: np.ndarray,
) -> np.ndarray:
    """Score shortlists as `reranking.rerank_scores` does, taking over the scores of pairs that are known.

    Args:
        reranker: the transformer.
        local: (N, D, h, w) local features.
        queries: (Q,) rows of them.
        neighbors: (Q, K) rows to score.
        known_neighbors, known_scores: (Q, L) rows scored before, and their scores, from the same features.

    Returns:
        (Q, K) float32 scores.
    """
    same = neighbors[:, :, None] == known_neighbors[:, None, :]  # (Q, K, L)
    scores = np.take_along_axis(known_scores, same.argmax(axis=2), axis=1)  # (Q, K)
    query, place = np.nonzero(~same.any(axis=2))
    if len(query):
        pairs = neighbors[query, place][:, None]
        scores[query, place] = rerank_scores(reranker, local[queries[query]], local, pairs)[:, 0]
    return scores


def transform_grid(
    global_model: ImageModel,
    rerankers: dict[str, tuple[ImageModel, RerankingTransformer]],
    photos: Sequence[Tensor],
    labels: np.ndarray,
    variants: Sequence[Variant],
    queries: np.ndarray,
    shortlist: int,
    depth: int,
    resamples: int,
) -> pd.DataFrame:
    """Evaluate CO and CO + RRT on transformed test photos, for each stage that may see the transform.

    "shortlist": the global features are those of transformed photos, the reranker reads untransformed ones;
    "reranker": the other way round; "both": both. Queries and gallery are transformed alike. CO has no
    reranker: its stage is the shortlist.

    Args:
        global_model: gives the global features.
        rerankers: method -> model of the local features and transformer.
        photos: the N test photos, queries and gallery.
        labels: (N,) product of each of them.
        variants: the untransformed photos first, see `transforms.variants`.
        queries: (Q,) rows of the photos that ask.
        shortlist: neighbors kept per query.
        depth: of which so many are reranked.
        resamples: of the bootstrap over products.

    Returns:
        One row per variant, stage and method, as `recall_table` gives them; `transform`, `severity`,
        `parameter`, `stage`, `method` first, and `reported` (whether the report has the row) last. The
        untransformed rows have stage "none".
    """
    image_models = {method: model for method, (model, _) in rerankers.items()}
    matchers = {method: reranker for method, (_, reranker) in rerankers.items()}
    features = variant_features(global_model, image_models)
    keys, found = [], []
    plain_local, plain, plain_scores = {}, None, {}

    def add(variant: Variant, stage: str, method: str, order: np.ndarray) -> None:
        keys.append((variant.transform, variant.severity, variant.parameter, stage, method))
        found.append(metrics.hits(order, labels[queries], labels))

    for variant in tqdm(variants, desc="transforms", unit="variant"):
        embedding, local = features(variant, photos)
        neighbors = exact.nearest_neighbors(embedding, shortlist)[0][queries]  # (Q, shortlist)
        first = neighbors[:, :depth]
        # The untransformed photos come first: the stage that does not see a transform takes theirs.
        if plain is None:
            plain, plain_local = neighbors, local
            add(variant, "none", "CO", plain)
            for method, reranker in matchers.items():
                plain_scores[method] = rerank_scores(
                    reranker, local[method][queries], local[method], plain[:, :depth]
                )
                add(variant, "none", method, exact.reorder(plain, plain_scores[method]))
            continue
        add(variant, "shortlist", "CO", neighbors)
        known = plain[:, :depth]
        for method, reranker in matchers.items():
            # Most photos of a new shortlist stood in the old one: their scores are known already.
            old, new = plain_local[method], local[method]
            scores = scores_beside(reranker, old, queries, first, known, plain_scores[method])
            add(variant, "shortlist", method, exact.reorder(neighbors, scores))
            scores = rerank_scores(reranker, new[queries], new, known)
            add(variant, "reranker", method, exact.reorder(plain, scores))
            scores = scores_beside(reranker, new, queries, first, known, scores)
            add(variant, "both", method, exact.reorder(neighbors, scores))

    # Every row is paired with the untransformed row of its own method.
    names = pd.DataFrame(keys, columns=["transform", "severity", "parameter", "stage", "method"])
    untransformed = {method: i for i, (*_, stage, method) in enumerate(keys) if stage == "none"}
    table = recall_table(
        names, found, [untransformed[name] for name in names.method], labels[queries], resamples
    )
    return table.assign(reported=table["transform"].isin(NEAREST_SEVERITY))


def training_table(study: Study, seed: int, train: Split, test: Split, neighbors: np.ndarray) -> pd.DataFrame:
    """Train the frozen reranker without each of the training's transforms, for one epoch, and rerank
    untransformed photos with it.

    Args:
        study: whose CO gives the features.
        seed: of CO and of the trainings.
        train: the photos to train on.
        test: the N photos that ask and are searched.
        neighbors: (N, K) shortlists of the test photos, rows of `test`.

    Returns:
        One row per training: `training`, `loss`, `reported` (whether the report has the row), and the columns
        of `recall_table`, against the training with all transforms.
    """
    transform = TestTransform(study.global_.resize, study.global_.size)
    train_neighbors = artifacts.load_array(study, f"global/seed{seed}/train_neighbors")
    changes = {
        "flip and crop": study,
        "no flip": replace(study, global_=replace(study.global_, flip=0.0)),
        "no crop": replace(study, reranker=replace(study.reranker, crop_scale=(1.0, 1.0))),
    }
    fresh = replace(study, global_=replace(study.global_, views=0))  # crops are drawn anew, from the photos
    rows, hits = [], []
    start = chain.start_reranker(fresh, trained.global_model(study, seed), train, seed)
    for name, changed in changes.items():
        model, reranker = trained.global_model(study, seed), copy.deepcopy(start)
        checkpoint = f"reranker/seed{seed}/ablation_{name.replace(' ', '_')}"
        log = reranker_training.train_reranker(
            model,
            reranker,
            train.photos,
            train.labels,
            train_neighbors,
            replace(changed.reranker, epochs=1),
            changed.global_,
            seed,
            validate=lambda: 0.0,  # the last epoch counts
            checkpoint=artifacts.checkpoint_path(changed, checkpoint),
        )
        _, local = extract_features(model, test.photos, transform)
        scores = rerank_scores(reranker, local, local, neighbors[:, : study.evaluation.depth])
        rows.append({"training": name, "loss": log.loss.iloc[-1], "reported": name == "no flip"})
        hits.append(metrics.hits(exact.reorder(neighbors, scores), test.labels, test.labels))
    first = [0] * len(hits)
    return recall_table(pd.DataFrame(rows), hits, first, test.labels, study.evaluation.resamples)


def recall_table(
    names: pd.DataFrame,
    hits: Sequence[np.ndarray],
    baselines: Sequence[int],
    products: np.ndarray,
    resamples: int,
) -> pd.DataFrame:
    """Tabulate recall of several runs with the same queries, and the paired difference of each to its
    baseline.

    Args:
        names: the first columns, one row per run.
        hits: (Q, K) bool of each run: whether neighbor k of query q shows its product.
        baselines: the run that each is compared with.
        products: (Q,) product of each query; the bootstrap resamples products.
        resamples: of the bootstrap.

    Returns:
        `names` with `R@1`, `R@1 low`, `R@1 high` (95 % interval), `R@10`, `R@100` (missing where K is
        smaller), the paired `difference` of R@1 to the baseline with `low` and `high`, `queries` and
        `products`.
    """
    right = np.stack([run[:, 0] for run in hits], axis=1).astype(float)  # (Q, runs)
    change = right - right[:, list(baselines)]
    low, high = metrics.bootstrap_interval(np.concatenate([right, change], axis=1), products, resamples)
    count = len(hits)
    recall = {
        f"R@{k}": [run[:, :k].any(axis=1).mean() if run.shape[1] >= k else np.nan for run in hits]
        for k in (10, 100)
    }
    return names.assign(
        **{"R@1": right.mean(axis=0), "R@1 low": low[:count], "R@1 high": high[:count], **recall},
        difference=change.mean(axis=0),
        low=low[count:],
        high=high[count:],
        queries=len(products),
        products=len(np.unique(products)),
    )


# ---------------------------------------------------------------- reading the grid


def reported_rows(grid: pd.DataFrame, method: str = "CO + RRT (finetuned)") -> pd.DataFrame:
    """Return the grid's rows of one method that the report has, at the severity nearest to the report's."""
    nearest = grid["transform"].map(NEAREST_SEVERITY) == grid.severity
    return grid[nearest & (grid.method == method)]


def beside_report(grid: pd.DataFrame) -> pd.DataFrame:
    """Put each reported test-time row beside ours of the same method.

    Returns:
        One row per reported transform, in the report's order: `transform` with its severity, `R@1 reported`
        and `R@100 reported`; and ours by stage: `R@1 untransformed`, `R@1 shortlist`, `R@1 reranker`, `R@1
        both`.
    """
    rows, reported = reported_rows(grid), REPORTED_TRANSFORMS.set_index("transform")
    plain = grid[(grid.stage == "none") & (grid.method == rows.method.iloc[0])].iloc[0]
    table = []
    for name, figures in reported.drop(index=list(REPORTED_AS)).iterrows():
        own = rows[rows["transform"] == name].set_index("stage")
        label = f"{name} ({own.severity.iloc[0]})" if own.severity.iloc[0] in SEVERITIES else name
        line = {"transform": label, "R@1 reported": figures["R@1"], "R@100 reported": figures["R@100"]}
        line |= {"R@1 untransformed": plain["R@1"]} | {f"R@1 {s}": own["R@1"][s] for s in STAGES}
        table.append(line)
    return pd.DataFrame(table)


def stage_patterns(grid: pd.DataFrame) -> pd.DataFrame:
    """Say which stages can have seen the transform in each reported row, and what ours did there.

    A transform that only the reranker sees cannot change the shortlist, so R@100 stays to the digit; where
    the reported R@100 moved, the shortlist was made anew.

    Returns:
        One row per reported test-time transform: `transform`; `reported R@1 change` and `reported R@100
        change`; `explained by` ("reranker only" or "shortlist redone"); for each stage our change of R@1 with
        its interval and of R@100, as text, in points; `ours` (whether the stage that explains the row moved
        R@1 the reported way).
    """
    rows, reported = reported_rows(grid), REPORTED_TRANSFORMS.set_index("transform")
    method = rows.method.iloc[0]
    base = REPORTED.set_index("method").loc[method]
    plain = grid[(grid.stage == "none") & (grid.method == method)].iloc[0]
    table = []
    for name, figures in reported.drop(index=list(REPORTED_AS)).iterrows():
        own = rows[rows["transform"] == name].set_index("stage")
        kept = round(figures["R@100"], 4) == base["R@100"]
        expected, stage = np.sign(figures["R@1"] - base["R@1"]), "reranker" if kept else "both"
        line = {
            "transform": name,
            "reported R@1 change": f"{100 * (figures['R@1'] - base['R@1']):+.1f}",
            "reported R@100 change": f"{100 * (figures['R@100'] - base['R@100']):+.1f}",
            "explained by": "reranker only" if kept else "shortlist redone (both)",
        }
        for each in STAGES:
            row, moved = own.loc[each], 100 * (own["R@100"][each] - plain["R@100"])
            hundred = "not run" if np.isnan(moved) else f"{moved:+.1f}"
            line[f"ours: {each}"] = f"R@1 {_change_text(row)}, R@100 {hundred}"
        low, high = own.low[stage] * expected, own.high[stage] * expected
        line["ours there"] = (
            "the same way"
            if min(low, high) > 0
            else "the other way"
            if max(low, high) < 0
            else "no difference found"
        )
        table.append(line)
    return pd.DataFrame(table)


def clear_changes(grid: pd.DataFrame) -> pd.DataFrame:
    """List the rows whose paired interval leaves out zero, by method and stage.

    Returns:
        One row per method and stage: `method`, `stage`, `R@1 fell` and `R@1 rose` (transforms with their
        severities), and `intervals` (how many there are; about one in twenty leaves out zero by
        chance).
    """
    table = []
    for (method, stage), rows in grid[grid.stage != "none"].groupby(["method", "stage"], sort=False):
        fell, rose = _listed(rows[rows.high < 0]), _listed(rows[rows.low > 0])
        table.append(
            {"method": method, "stage": stage, "R@1 fell": fell, "R@1 rose": rose, "intervals": len(rows)}
        )
    return pd.DataFrame(table)


def _listed(rows: pd.DataFrame) -> str:
    """Return "grayscale (mild, strong), flip" of such rows, or "none"."""
    parts = []
    for name, own in rows.groupby("transform", sort=False):
        severities = [severity for severity in own.severity if severity in SEVERITIES]
        parts.append(f"{name} ({', '.join(severities)})" if severities else name)
    return ", ".join(parts) or "none"


def _change_text(row: pd.Series) -> str:
    return f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
