"""The chain of trainings: ImageNet's weights, the global model of every seed, then its reranker, frozen and
finetuned.

What each leaves is kept as artifacts, so that a killed chain goes on where it was.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from waldo_utils.data.splits import Split
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import tables
from waldo_utils.models import heads, starting_weights, trained
from waldo_utils.models.devices import device
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.retrieval import exact, features, reranking
from waldo_utils.study import Study
from waldo_utils.training import beginning, global_training, mixing, reranker_training, validation

STAGES = ("frozen", "finetuned")  # of a reranker's training, each from what the one before it left


def train_every_seed(study: Study, split: dict[str, Split]) -> pd.DataFrame:
    """Train CO once per seed from the weights that `beginning.begin` left, and keep what later notebooks read
    of it.

    That is, for each seed: weights; global and local features, neighbors and similarities of every split;
    `test_epoch<n>`, whether the first neighbor of each test photo is right, of the chosen epoch, and of every
    epoch where `study.evaluation.watch_test` is on; and the test neighbors and the table of shares of CO's
    weights mixed with its start.

    Args:
        study: the settings.
        split: the photos to train on, to choose the epoch by, and to test on.

    Returns:
        The log of all seeds, which is kept too: that of `train_global` and `seed`.
    """
    logs = []
    for seed in study.seeds:
        model = trained.start(study)
        log = _train(study, split, model, seed)
        _mix(study, split, model, seed)
        if study.global_.heads == "principal":
            heads.local_from_global(model, beginning.some_maps(study, model, split["train"]))
        artifacts.save_weights(study, f"global/seed{seed}/weights", model.state_dict())
        for name, part in split.items():
            _keep_neighbors(study, part, model, f"global/seed{seed}/{name}")
        # The chosen epoch is looked at again where nothing watched it.
        embedding = artifacts.load_array(study, f"global/seed{seed}/test_features")
        first = validation.first_hits(embedding, split["test"].labels)
        chosen = tables.best_epoch(log["validation R@1"])
        artifacts.save_array(study, f"global/seed{seed}/test_epoch{chosen}", first)
        logs.append(log.assign(seed=seed))
    return artifacts.save_frame(study, "global/log", pd.concat(logs, ignore_index=True))


def _train(study: Study, split: dict[str, Split], model: ImageModel, seed: int) -> pd.DataFrame:
    """Train CO of one seed in place, and return its log."""
    transform = beginning.plain_transform(study)
    held_out, test = split["validation"], split["test"]
    families = split["train"].rows.get("family")

    def keep(epoch: int, hits: np.ndarray) -> None:
        artifacts.save_array(study, f"global/seed{seed}/test_epoch{epoch}", hits)

    return global_training.train_global(
        model,
        split["train"].inputs,
        split["train"].labels,
        study.global_,
        seed,
        validate=partial(
            validation.global_recall, model, held_out.inputs, held_out.labels, transform, held_out.sets
        ),
        checkpoint=artifacts.checkpoint_path(study, f"global/seed{seed}"),
        families=None if families is None or not study.global_.families_meet else families.to_numpy(),
        watch=partial(
            validation.watch_test,
            model=model,
            photos=test.inputs,
            labels=test.labels,
            transform=transform,
            keep=keep,
        )
        if study.evaluation.watch_test
        else None,
    )


def _mix(study: Study, split: dict[str, Split], model: ImageModel, seed: int) -> None:
    """Keep the test neighbors of a trained model's weights mixed with their start; validation products choose
    the share. The model stays as it is."""
    held_out, transform = split["validation"], beginning.plain_transform(study)
    mixture = trained.start(study)
    shares = mixing.choose_share(
        mixture,
        mixture.state_dict(),
        {key: value.cpu() for key, value in model.state_dict().items()},
        partial(
            validation.global_recall, mixture, held_out.inputs, held_out.labels, transform, held_out.sets
        ),
    )
    artifacts.save_frame(study, f"global/seed{seed}/shares", shares.assign(seed=seed))
    embedding, _ = features.extract_features(mixture, split["test"].inputs, transform)
    neighbors, _ = exact.nearest_neighbors(embedding, min(study.evaluation.shortlist, len(embedding) - 1))
    artifacts.save_array(study, f"global/seed{seed}/mixed_test_neighbors", neighbors)


def _keep_neighbors(study: Study, part: Split, model: ImageModel, name: str) -> None:
    """Extract the features of a split, search each of its photos among the others, and keep both as
    `<name>_...`."""
    transform = beginning.plain_transform(study)
    begun = artifacts.partial_path(study, f"{name}_features")
    embedding, local = features.extract_features(model, part.inputs, transform, partial=begun)
    neighbors, similarities = exact.nearest_within(embedding, study.evaluation.shortlist, part.sets)
    artifacts.save_array(study, f"{name}_features", embedding)
    if not name.endswith("/train"):  # of many photos, and nothing reads them
        artifacts.save_array(study, f"{name}_local", local)
    artifacts.save_array(study, f"{name}_neighbors", neighbors)
    artifacts.save_array(study, f"{name}_similarities", similarities)


def watched_epochs(study: Study, log: pd.DataFrame) -> list[dict[int, np.ndarray]]:
    """Return, for each seed, epoch -> (2, N) bool as `first_hits` gives them: of all epochs where
    `study.evaluation.watch_test` is on, else of the chosen one.

    Args:
        study: the settings.
        log: as `train_every_seed` returned it.
    """
    watched = []
    for seed in study.seeds:
        own = log[log.seed == seed]
        epochs = own.epoch if study.evaluation.watch_test else [tables.best_epoch(own["validation R@1"])]
        names = {epoch: f"global/seed{seed}/test_epoch{epoch}" for epoch in epochs}
        watched.append({epoch: artifacts.load_array(study, name) for epoch, name in names.items()})
    return watched


def rerank_every_seed(study: Study, split: dict[str, Split]) -> pd.DataFrame:
    """Train a reranker on the shortlists of every seed's CO, frozen and then finetuned, and keep what it
    scores.

    That is, for each seed and stage: the weights of the image model and the transformer; local features, and
    the scores of the first `study.evaluation.depth` neighbors, of validation and test photos.

    Args:
        study: the settings.
        split: as for `train_every_seed`, which has run.

    Returns:
        The log of all trainings, which is kept too: that of `train_reranker`, `seed` and `stage`.
    """
    logs = []
    for seed in study.seeds:
        model = trained.global_model(study, seed)
        reranker = start_reranker(study, model, split["train"], seed)
        for stage in STAGES:
            log = _train_reranker(study, split, model, reranker, seed, stage)
            logs.append(log.assign(seed=seed, stage=stage))
            kept = f"reranker/seed{seed}/{stage}"
            artifacts.save_weights(study, f"{kept}_image_model", model.state_dict())
            artifacts.save_weights(study, f"{kept}_reranker", reranker.state_dict())
            for name in ("validation", "test"):
                neighbors = artifacts.load_array(study, f"global/seed{seed}/{name}_neighbors")
                _keep_scores(study, split[name], model, reranker, neighbors, f"{kept}_{name}")
    return artifacts.save_frame(study, "reranker/log", pd.concat(logs, ignore_index=True))


@torch.no_grad()
def start_reranker(study: Study, model: ImageModel, train: Split, seed: int) -> RerankingTransformer:
    """Return the transformer as a training starts it.

    Where it matches (see `RerankingTransformer`), its read-out is shifted so that typical pairs have a mean
    logit of
    zero: else the first steps of training would go into nothing but that shift.

    Args:
        study: the settings.
        model: gives the local features.
        train: the train photos; some of them are paired with the next, one of its product or a look-alike.
        seed: of what starts at random.
    """
    torch.manual_seed(seed)
    reranker = starting_weights.reranker(study.reranker, study.global_.dim).to(device())
    if reranker.matching is not None:
        local = model.local_features(beginning.some_maps(study, model, train))
        reranker.score.bias.sub_(reranker(local, local.roll(-1, dims=0)).mean())
    return reranker


def _train_reranker(
    study: Study,
    split: dict[str, Split],
    model: ImageModel,
    reranker: RerankingTransformer,
    seed: int,
    stage: str,
) -> pd.DataFrame:
    """Train one stage of one seed's reranker in place, and return its log."""
    neighbors = artifacts.load_array(study, f"global/seed{seed}/validation_neighbors")
    validate: Callable[[], float] = partial(
        validation.reranked_recall,
        model,
        reranker,
        split["validation"].inputs,
        split["validation"].labels,
        beginning.plain_transform(study),
        neighbors[:, : study.evaluation.depth],
    )
    return reranker_training.train_reranker(
        model,
        reranker,
        split["train"].inputs,
        split["train"].labels,
        artifacts.load_array(study, f"global/seed{seed}/train_neighbors"),
        study.reranker,
        study.global_,
        seed,
        validate=validate,
        checkpoint=artifacts.checkpoint_path(study, f"reranker/seed{seed}/{stage}"),
        finetune=stage == "finetuned",
    )


def _keep_scores(
    study: Study,
    part: Split,
    model: ImageModel,
    reranker: RerankingTransformer,
    neighbors: np.ndarray,
    name: str,
) -> None:
    """Score the shortlists of a split, and keep its local features and the scores as `<name>_...`."""
    transform = beginning.plain_transform(study)
    shortlist = neighbors[:, : study.evaluation.depth]
    begun = {kind: artifacts.partial_path(study, f"{name}_{kind}") for kind in ("local", "scores")}
    _, local = features.extract_features(model, part.inputs, transform, partial=begun["local"])
    scores = reranking.rerank_scores(reranker, local, local, shortlist, partial=begun["scores"])
    artifacts.save_array(study, f"{name}_local", local)
    artifacts.save_array(study, f"{name}_scores", scores)
