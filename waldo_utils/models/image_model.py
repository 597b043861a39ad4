"""The image model: a photo to one global feature and a map of local ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BACKBONES = ("resnet50", "resnet18")


class ImageModel(nn.Module):
    """Photos to one global and a map of local features (RRT; Tan et al., ICCV 2021).

    The backbone's last feature map is averaged and projected to the global feature, and projected
    place by place to the local features. Normalization with ImageNet's mean and standard deviation
    happens in here, so photos come in as they are: bytes, or in [0, 1].

    "resnet50" is torchvision's, stride 32: 224-pixel photos give a 7 x 7 map. "resnet18" is torchvision's
    without its
    last stage, stride 16: 112-pixel photos give a 7 x 7 map.

    Published local features come as the local head gives them; `local_norm` scales each to that length
    instead.

    `check_range` refuses photos outside [0, 1]; only the ablation that shows what a second normalization does
    turns it off.
    """

    check_range = True

    def __init__(self, backbone: str = "resnet50", dim: int = 128, local_norm: float | None = None):
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f"unknown backbone {backbone!r}: choose one of {', '.join(BACKBONES)}")
        import torchvision  # four seconds of import that only training and extraction need

        network = getattr(torchvision.models, backbone)(weights=None)
        channels = network.fc.in_features
        if backbone == "resnet18":
            network.layer4, channels = nn.Identity(), 256
        del network.fc
        self.backbone = network
        self.global_head = nn.Linear(channels, dim)
        self.local_head = nn.Conv2d(channels, dim, kernel_size=1)
        self.local_norm = local_norm
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def feature_map(self, photos: Tensor) -> Tensor:
        """Return the backbone's (B, channels, h, w) map of photos (B, 3, H, W), uint8 or in [0, 1].

        Bytes need no look at their range, for which a GPU would have to stop at every step.

        Raises:
            ValueError: a value lies outside [0, 1], for example because the photos were normalized before.
        """
        if photos.dtype == torch.uint8:
            photos = photos / 255
        elif self.check_range:
            low, high = photos.aminmax()
            if low < 0 or high > 1:
                raise ValueError(
                    f"photos must lie in [0, 1], got [{low:.3f}, {high:.3f}]: "
                    "leave normalization to the model, which does it itself"
                )
        net = self.backbone
        x = (photos - self.mean) / self.std
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return global features (B, D), unit length, and local features (B, D, h, w)."""
        features = self.feature_map(photos)  # (B, channels, h, w)
        return self.global_features(features), self.local_features(features)

    def global_features(self, features: Tensor) -> Tensor:
        """Return the (B, D) global features, unit length, of a backbone's (B, channels, h, w) map."""
        embedding = self.global_head(features.mean(dim=(2, 3)))  # (B, D)
        return F.normalize(embedding.float(), dim=1)

    def local_features(self, features: Tensor) -> Tensor:
        """Return the (B, D, h, w) local features of a backbone's (B, channels, h, w) map."""
        local = self.local_head(features).float()  # (B, D, h, w)
        return local if self.local_norm is None else self.local_norm * F.normalize(local, dim=1)
