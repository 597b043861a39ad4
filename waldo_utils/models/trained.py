"""The study's own models, as its trainings left them."""

from dataclasses import replace

from waldo_utils.disk import artifacts
from waldo_utils.models import starting_weights
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.study import Study


def start(study: Study) -> ImageModel:
    """Return the image model as every training of a study starts, projections included.

    Raises:
        FileNotFoundError, ValueError: its weights are missing, or were made from something else.
    """
    model = starting_weights.image_model(replace(study.global_, start="random"))
    model.load_state_dict(artifacts.load_weights(study, "global/start"))
    return model


def global_model(study: Study, seed: int) -> ImageModel:
    """Return CO of a seed.

    Raises:
        FileNotFoundError, ValueError: its weights are missing, or were made from something else.
    """
    model = starting_weights.image_model(study.global_)
    model.load_state_dict(artifacts.load_weights(study, f"global/seed{seed}/weights"))
    return model


def matcher(study: Study, seed: int, stage: str) -> RerankingTransformer:
    """Return the reranking transformer of a seed and stage ("frozen" or "finetuned"); raises as
    `global_model` does."""
    reranker = starting_weights.reranker(study.reranker, study.global_.dim)
    reranker.load_state_dict(artifacts.load_weights(study, f"reranker/seed{seed}/{stage}_reranker"))
    return reranker


def local_model(study: Study, seed: int, stage: str) -> ImageModel:
    """Return the image model whose local features the transformer of a seed and stage reads; see
    `matcher`."""
    model = starting_weights.image_model(study.global_)
    model.load_state_dict(artifacts.load_weights(study, f"reranker/seed{seed}/{stage}_image_model"))
    return model


def reranking_models(study: Study, seed: int, stage: str) -> tuple[ImageModel, RerankingTransformer]:
    """Return `local_model` and `matcher` of a seed and stage."""
    return local_model(study, seed, stage), matcher(study, seed, stage)
