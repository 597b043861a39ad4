"""What a study starts from: its frozen trunk's maps, its start's projections, and how far they go
untrained."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from waldo_utils.data.splits import Split
from waldo_utils.data.transforms import TestTransform, TrainTransform
from waldo_utils.disk import artifacts
from waldo_utils.models import heads, starting_weights
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import map_of
from waldo_utils.retrieval import exact, features, trunk_maps
from waldo_utils.retrieval.batches import PhotoBatches
from waldo_utils.study import Study

SOME = 256  # photos whose local features are measured


def plain_transform(study: Study) -> TestTransform | None:
    """Return the transform of photos that are tested on; None where the study computes with its trunk's
    maps."""
    return None if study.global_.views else TestTransform(study.global_.resize, study.global_.size)


def begin(study: Study, split: dict[str, Split]) -> dict[str, Split]:
    """Prepare what every training of a study starts from, and keep it.

    That is: `global/start`, the weights with their projections; the test neighbors of these weights with
    nothing trained, by the averaged map itself and by its principal axes of the train photos (as many as the
    projections have); the local features of test photos that these projections give; and, where the trunk
    stays as it starts, its maps of all photos.

    Args:
        study: the settings.
        split: the photos of each split.

    Returns:
        The splits, with the trunk's maps where the study computes with them.
    """
    torch.manual_seed(study.seeds[0])  # of projections that start at random
    model = starting_weights.image_model(study.global_)
    if study.global_.views:
        for name, part in split.items():
            _keep_maps(study, model, part, name)
        split = with_maps(study, split)
    average = {
        name: features.average_maps(model, split[name].inputs, plain_transform(study))
        for name in ("train", "test")
    }
    axes = heads.principal_axes(average["train"], min(study.global_.dim, *average["train"].shape))
    if study.global_.heads == "principal":
        heads.start_at(model, axes)
        heads.local_from_global(model, some_maps(study, model, split["train"]))
    artifacts.save_weights(study, "global/start", model.state_dict())
    _, local = features.extract_features(model, split["test"].inputs, plain_transform(study))
    artifacts.save_array(study, "global/untrained_test_local", local)
    for name, embedding in (("untrained", average["test"]), ("principal", average["test"] @ axes.T)):
        count = min(study.evaluation.shortlist, len(embedding) - 1)
        neighbors, _ = exact.nearest_neighbors(exact.unit(embedding), count)
        artifacts.save_array(study, f"global/{name}_test_neighbors", neighbors)
    return split


def with_maps(study: Study, split: dict[str, Split]) -> dict[str, Split]:
    """Return the splits with the trunk's maps that `begin` left, where the study computes with them.

    Raises:
        FileNotFoundError, ValueError: they are missing, damaged or of other settings.
    """
    if not study.global_.views:
        return split
    return {
        name: replace(part, maps=trunk_maps.TrunkMaps(artifacts.load_array(study, f"global/{name}_maps")))
        for name, part in split.items()
    }


def _keep_maps(study: Study, model: ImageModel, part: Split, name: str) -> None:
    """Compute and keep the trunk's maps of a split: several views of train photos, the plain one of
    others."""
    settings = study.global_
    maps = trunk_maps.compute_trunk_maps(
        model,
        part.photos,
        TestTransform(settings.resize, settings.size),
        TrainTransform(settings.size, scale=settings.crop_scale, flip=settings.flip),
        views=settings.views if name == "train" else 1,
        partial=artifacts.partial_path(study, f"global/{name}_maps"),
    )
    artifacts.save_array(study, f"global/{name}_maps", maps)


@torch.no_grad()
def some_maps(study: Study, model: ImageModel, part: Split) -> Tensor:
    """Return the (`SOME`, channels, h, w) last maps of a model of the first photos of a split."""
    rows = np.arange(min(SOME, len(part.rows)))
    (batch,) = PhotoBatches(part.inputs, [rows], plain_transform(study)).loader()
    return map_of(model.eval())(batch)
