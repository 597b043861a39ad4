"""Does training on rendered products help on real ones? CO trained anew on one kind of train photos after the
other, and looked at on every test set."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from waldo_utils.data.splits import Split
from waldo_utils.data.transforms import TestTransform
from waldo_utils.disk import artifacts
from waldo_utils.evaluation import metrics, tables
from waldo_utils.experiments import transfer
from waldo_utils.models import trained
from waldo_utils.models.image_model import ImageModel
from waldo_utils.retrieval import exact, features
from waldo_utils.study import Study
from waldo_utils.training import beginning, global_training, mixing, validation

NONE = "nothing"
RENDERED = "rendered"


def parts_of(train: Split) -> dict[str, np.ndarray]:
    """Return the kinds of train photos that are compared, by name: rows of each.

    Where there are real and rendered ones: each of them and both; else all there are.
    """
    everything = np.arange(len(train.labels))
    if train.sets is None or RENDERED not in train.sets:
        return {"all train photos": everything}
    rendered = train.sets == RENDERED
    if rendered.all():
        return {"rendered": everything}
    return {"rendered": everything[rendered], "real": everything[~rendered], "both": everything}


def first_hits(
    study: Study, seed: int, split: dict[str, Split], others: dict[str, Split]
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Train CO on each of `parts_of`, every time for as many steps as on all, and search every test set.

    As in the study, validation products choose the epoch and the share that is mixed with the start.

    Args:
        study: the settings.
        seed: of the batches and the crops.
        split: the photos of the study's splits, with the trunk's maps where it computes with them.
        others: test sets beside `split["test"]`, by name.

    Returns:
        trained on -> set -> [(Q, K) bool], whether neighbor k of query q shows its product; the first is
        `NONE`.
    """
    train = split["train"]
    hits = {NONE: _looks(study, trained.start(study), split["test"], others)}
    for name, rows in parts_of(train).items():
        model, part = trained.start(study), train.take(rows)
        start = {key: value.clone() for key, value in model.state_dict().items()}
        epochs = max(1, round(study.global_.epochs * len(train.labels) / len(rows)))
        held_out, transform = split["validation"], beginning.plain_transform(study)

        def validate(model: ImageModel = model) -> float:
            return validation.global_recall(model, held_out.inputs, held_out.labels, transform, held_out.sets)

        families = part.rows.get("family")
        global_training.train_global(
            model,
            part.inputs,
            pd.factorize(part.labels)[0],
            replace(study.global_, epochs=epochs),
            seed,
            validate=validate,
            checkpoint=artifacts.checkpoint_path(study, f"sim_to_real/seed{seed}_{name.replace(' ', '_')}"),
            families=(
                None if families is None or not study.global_.families_meet else pd.factorize(families)[0]
            ),
        )
        end = {key: value.cpu().clone() for key, value in model.state_dict().items()}
        mixing.choose_share(model, start, end, validate)
        hits[name] = _looks(study, model, split["test"], others)
    return hits


@torch.no_grad()
def _looks(
    study: Study, model: ImageModel, test: Split, others: dict[str, Split]
) -> dict[str, list[np.ndarray]]:
    """Return set -> [(Q, K) bool] of each test set, searched among itself."""
    looks = {}
    plain = TestTransform(study.global_.resize, study.global_.size)
    for name, part in ({transfer.test_name(test): test} | others).items():
        transform = plain if part.maps is None else None
        embedding, _ = features.extract_features(model, part.inputs, transform)
        shortlist = min(study.evaluation.shortlist, len(embedding) - 1)
        neighbors, _ = exact.nearest_neighbors(embedding, shortlist)
        looks[name] = [metrics.hits(neighbors, part.labels, part.labels)]
    return looks


def table(
    hits: dict[str, dict[str, list[np.ndarray]]], labels: dict[str, np.ndarray], resamples: int
) -> pd.DataFrame:
    """Tabulate the metrics on every set, and what each kind of train photos gains on nothing trained.

    Args:
        hits: as of `first_hits`.
        labels: set -> (N,) product of each photo.
        resamples: of the bootstrap over products.

    Returns:
        One row per set and kind: `trained on`, `set`, `R@1` and `MAP@R` with intervals, `difference`, `low`
        and `high` (of R@1, paired with `NONE`), the same for MAP@R, `queries`, `products`.
    """
    parts = []
    for name, products in labels.items():
        found = {kind: looks[name] for kind, looks in hits.items()}
        relevant = metrics.relevant_counts(products)
        pairs = [(kind, NONE) for kind in found if kind != NONE]
        rows = tables.hit_table(found, products, relevant, resamples)
        gains = tables.difference_table(found, pairs, products, relevant, resamples)
        parts.append(tables.with_gains(rows, gains).assign(set=name))
    joined = pd.concat(parts, ignore_index=True)
    return joined.rename(columns={"method": "trained on"})
