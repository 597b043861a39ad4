"""The networks that an image model can stand on, by name.

A backbone turns photos into its last feature map. It is cut in two: a `trunk`, which a study may leave as it
starts and compute once per photo, and a `tail` that trains.
"""

import difflib

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = ("resnet50", "efficientnet_lite0")


class Backbone(nn.Module):
    """Photos to a feature map, in two parts.

    Attributes:
        channels: of the last map.
        trunk_channels: of the trunk's map; 3 where the trunk does nothing.
        size: side in pixels of the square photos that the network was trained on.
        mean, std: what photos in [0, 1] are normalized by, three values each.
        depthwise: whether it is made of depthwise convolutions, which torch computes slowly on processors.
        trunk_names: how the names of the trunk's tensors begin.
    """

    channels: int
    trunk_channels: int = 3
    trunk_names: tuple[str, ...] = ()
    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    depthwise: bool = False

    def trunk(self, x: Tensor) -> Tensor:
        """Return the trunk's (B, trunk_channels, h, w) map of normalized photos (B, 3, H, W)."""
        return x

    def tail(self, x: Tensor) -> Tensor:
        """Return the last (B, channels, h, w) map from the trunk's."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the last (B, channels, h, w) map of normalized photos (B, 3, H, W)."""
        return self.tail(self.trunk(x))

    def trunk_state(self) -> dict[str, Tensor]:
        """Return the tensors that the trunk computes with, by name."""
        return {key: value for key, value in self.state_dict().items() if key.startswith(self.trunk_names)}


class ResNet50(Backbone):
    """torchvision's ResNet-50, the published backbone: stride 32, 224-pixel photos give a 7 x 7 x 2048 map.

    The trunk ends at stride 16. Tensors have torchvision's names.
    """

    channels, trunk_channels = 2048, 1024
    trunk_names = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")

    def __init__(self):
        super().__init__()
        import torchvision  # seconds of import that only training and extraction need

        network = torchvision.models.resnet50(weights=None)
        for name, part in network.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, part)

    def trunk(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer3(self.layer2(self.layer1(x)))

    def tail(self, x: Tensor) -> Tensor:
        return self.layer4(x)


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0: 4.65 M parameters, stride 32, 224-pixel photos give a 7 x 7 x 1280 map.

    The trunk ends at stride 16 (14 x 14 x 112 of 224-pixel photos). Tensors have timm's names. The published
    weights want bytes normalized by (x - 127) / 128.
    """

    channels, trunk_channels = 1280, 112
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    depthwise = True
    blocks_of_stage = (1, 2, 2, 3, 3, 4, 1)
    trunk_stages = 5  # of them
    trunk_names = ("conv_stem.", "bn1.", *(f"blocks.{stage}." for stage in range(trunk_stages)))

    def __init__(self):
        super().__init__()
        import timm

        network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        for name in ("conv_stem", "bn1", "blocks", "conv_head", "bn2"):
            self.add_module(name, getattr(network, name))

    def trunk(self, x: Tensor) -> Tensor:
        return self.blocks[: self.trunk_stages](self.bn1(self.conv_stem(x)))

    def tail(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_head(self.blocks[self.trunk_stages :](x)))


class TimmBackbone(Backbone):
    """Any network of timm that gives a feature map or patch tokens; its trunk does nothing.

    Args:
        name: as timm knows it.
        pretrained: whether its weights come from timm's hub, which needs a network the first time.

    Raises:
        ValueError: timm has no such network, or it gives no map.
        ConnectionError: its weights are not here and cannot be fetched.
    """

    def __init__(self, name: str, pretrained: bool = False):
        super().__init__()
        import timm

        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()"
            raise ValueError(f"timm has no network {name!r}: {hint}")
        try:
            self.network = timm.create_model(name, pretrained=pretrained, num_classes=0)
        except (OSError, RuntimeError) as error:  # what the hub's client raises without a network
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConnectionError(
                f"the weights of {name} are not here and cannot be fetched ({first}): run once with a"
                " network, or copy the hub's cache of a machine that has them"
            ) from None
        settings = self.network.pretrained_cfg
        self.size = settings["input_size"][-1]
        self.mean, self.std = tuple(settings["mean"]), tuple(settings["std"])
        self.channels = self.network.num_features
        with torch.no_grad():
            self.network.eval()
            self.tail(torch.zeros(1, 3, self.size, self.size))  # refuses a network without a map here

    def tail(self, x: Tensor) -> Tensor:
        features = self.network.forward_features(x)
        if features.dim() == 4:  # channels first, or last as in Swin
            return features if features.shape[1] == self.channels else features.permute(0, 3, 1, 2)
        if features.dim() == 3 and hasattr(self.network, "num_prefix_tokens"):
            patches = features[:, self.network.num_prefix_tokens :].transpose(1, 2)  # (B, channels, h*w)
            side = round(patches.shape[2] ** 0.5)
            if side * side == patches.shape[2]:
                return patches.unflatten(2, (side, side))
        raise ValueError(
            f"{type(self.network).__name__} gives features of shape {tuple(features.shape)}, no map of"
            " places: choose another network"
        )


def backbone(name: str, pretrained: bool = False) -> Backbone:
    """Return the backbone of a name: "resnet50", "efficientnet_lite0", or "timm:NAME" of any network of timm.

    Args:
        name: of the backbone.
        pretrained: for "timm:NAME": with the weights of timm's hub. The others get theirs from
            `starting_weights`.

    Raises:
        ValueError: there is no such backbone; names the nearest.
        ConnectionError: timm's weights are not here and cannot be fetched.
    """
    if name.startswith("timm:"):
        return TimmBackbone(name.removeprefix("timm:"), pretrained)
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.3)
        hint = f", did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown backbone {name!r}: choose {', '.join(NAMES)} or timm:NAME{hint}")
    return ResNet50() if name == "resnet50" else EfficientNetLite0()
