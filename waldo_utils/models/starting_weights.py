"""The weights that a training starts from: ImageNet's, the study's own from rendered products, or none."""

from pathlib import Path

import torch

from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.models.weight_files import load_tensors, refuse_what_is_none
from waldo_utils.study import GlobalStage, RerankerStage

FOLDER = Path(__file__).parents[1] / "weights"
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
        ConnectionError: ImageNet's weights are not here and cannot be downloaded; says where to put them.
    """
    model = ImageModel(settings.backbone, local_norm=settings.local_norm)
    if settings.start == "imagenet":
        path = imagenet_file(settings.backbone)
        weights = {k: v for k, v in load_tensors(path).items() if not k.startswith("fc.")}
        check_architecture(model.backbone, weights, path)
        model.backbone.load_state_dict(weights)
    elif settings.start == "rendered":
        load_weights(model, IMAGE_MODEL)
    elif settings.start != "random":
        raise ValueError(f"unknown start {settings.start!r}: choose imagenet, rendered or random")
    return model


def imagenet_file(backbone: str) -> Path:
    """Return the file of torchvision's ImageNet weights in torch's cache; downloaded, and checked by hash, if
    absent.

    Raises:
        ConnectionError: it is absent and cannot be downloaded; says where to put it.
    """
    import torchvision

    address = torchvision.models.get_model_weights(backbone).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, path, hash_prefix=path.stem.rsplit("-", 1)[1])
        except (OSError, RuntimeError) as error:
            raise ConnectionError(
                f"cannot download {address} ({error}): download it elsewhere and put it at {path}"
            ) from None
    return path


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
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: make it with `python -m waldo_utils pretrain`")
    refuse_what_is_none(path)
    try:
        weights = load_file(path)
    except Exception as error:  # SafetensorError, or whatever the reader meets
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
    check_shapes(model.state_dict(), weights, source, type(model).__name__)


def check_shapes(expected: dict, given: dict, source: object, what: str) -> None:
    """Refuse tensors whose names or shapes are not the expected ones.

    Args:
        expected, given: name -> tensor.
        source: where the given ones come from.
        what: the expected ones belong to.

    Raises:
        ValueError: names up to five missing, unexpected and misshapen tensors, and such as are not finite.
    """
    both = expected.keys() & given.keys()
    faults = {
        "missing": expected.keys() - given.keys(),
        "unexpected": given.keys() - expected.keys(),
        "of another shape": {k for k in both if expected[k].shape != given[k].shape},
        "of another kind": {k for k in both if _kind(expected[k]) != _kind(given[k])},
    }
    if any(faults.values()):
        raise ValueError(
            f"{source} does not fit {what}: {_told(faults)}. Choose weights of this architecture"
        )
    faults = {"not finite": {k for k in both if not torch.isfinite(given[k]).all()}}
    if any(faults.values()):
        raise ValueError(f"{source} is no use as {what}: {_told(faults)}. Fetch or make it again")


def _kind(value: torch.Tensor) -> tuple[bool, torch.layout]:
    """Return what `load_state_dict` cannot convert, or converts in silence; precisions are converted well."""
    return value.is_floating_point(), value.layout


def _told(faults: dict[str, set[str]]) -> str:
    return "; ".join(
        f"{len(keys)} {kind} ({', '.join(sorted(keys)[:5])})" for kind, keys in faults.items() if keys
    )
