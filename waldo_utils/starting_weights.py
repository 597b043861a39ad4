"""The weights that a training starts from: ImageNet's, the study's own from rendered products, or none."""

from pathlib import Path

import torch

from waldo_utils.models import ImageModel, RerankingTransformer
from waldo_utils.study import GlobalStage, RerankerStage

FOLDER = Path(__file__).parent / "weights"
IMAGE_MODEL = FOLDER / "image_model.safetensors"
RERANKER = FOLDER / "reranker.safetensors"
PACKAGE_FILES = [IMAGE_MODEL, RERANKER]


def image_model(settings: GlobalStage) -> ImageModel:
    """Return an image model with its starting weights.

    "imagenet": the backbone from torchvision (downloaded once), heads at random, as published;
    "rendered": everything from the study's own training on rendered products (see `pretraining`);
    "random": everything at random.

    Raises:
        ValueError: the start is unknown, or the weights belong to another architecture.
    """
    model = ImageModel(settings.backbone, local_norm=settings.local_norm)
    if settings.start == "imagenet":
        import torchvision

        weights = torchvision.models.get_model_weights(settings.backbone).IMAGENET1K_V1.get_state_dict(
            progress=True
        )
        model.backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
    elif settings.start == "rendered":
        load_weights(model, IMAGE_MODEL)
    elif settings.start != "random":
        raise ValueError(f"unknown start {settings.start!r}: choose imagenet, rendered or random")
    return model


def reranker(settings: RerankerStage) -> RerankingTransformer:
    """Return a reranking transformer with its starting weights, "rendered" or "random".

    Raises:
        ValueError: the start is unknown, or the weights belong to another architecture.
    """
    model = RerankingTransformer(
        heads=settings.heads, layers=settings.layers, feedforward=settings.feedforward
    )
    if settings.start == "rendered":
        load_weights(model, RERANKER)
    elif settings.start != "random":
        raise ValueError(f"unknown start {settings.start!r}: choose rendered or random")
    return model


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a safetensors file into a model, every key and shape as the model has them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not readable, or is of another architecture; the message names the keys.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: make it with `python -m waldo_utils pretrain`")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}): fetch or make it again"
        ) from None
    check_architecture(model, weights, path)
    model.load_state_dict(weights)


def check_architecture(model: torch.nn.Module, weights: dict, source: object) -> None:
    """Refuse weights whose names or shapes are not the model's.

    Raises:
        ValueError: names up to five missing, unexpected and misshapen tensors.
    """
    own = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    given = {k: tuple(v.shape) for k, v in weights.items()}
    faults = {
        "missing": sorted(own.keys() - given.keys()),
        "unexpected": sorted(given.keys() - own.keys()),
        "of another shape": sorted(k for k in own.keys() & given.keys() if own[k] != given[k]),
    }
    if any(faults.values()):
        text = "; ".join(
            f"{len(keys)} {kind} ({', '.join(keys[:5])})" for kind, keys in faults.items() if keys
        )
        raise ValueError(
            f"{source} does not fit {type(model).__name__}: {text}. Choose weights of this architecture"
        )
