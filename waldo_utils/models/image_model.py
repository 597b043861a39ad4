"""The image model: a photo to one global feature and a map of local ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from waldo_utils.models.backbones import backbone as new_backbone


class ImageModel(nn.Module):
    """Photos to one global and a map of local features (RRT; Tan et al., ICCV 2021).

    The backbone's last feature map is averaged and projected to the global feature, and projected
    place by place to the local features, which keep their lengths. Normalization happens in here, so photos
    come in
    as they are: bytes, or in [0, 1].

    `check_range` refuses photos outside [0, 1]; only the ablation that shows what a second normalization does
    turns it off.

    Args:
        backbone: name of the backbone, see `backbones.backbone`.
        dim: of the projected features; None: no projection, features are the map's own.
        pretrained: see `backbones.backbone`.
    """

    check_range = True

    def __init__(self, backbone: str = "resnet50", dim: int | None = 128, pretrained: bool = False):
        super().__init__()
        self.backbone = new_backbone(backbone, pretrained)
        channels = self.backbone.channels
        self.global_head = nn.Identity() if dim is None else nn.Linear(channels, dim)
        self.local_head = nn.Identity() if dim is None else nn.Conv2d(channels, dim, kernel_size=1)
        self.register_buffer("mean", torch.tensor(self.backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(self.backbone.std).view(1, 3, 1, 1))

    def feature_map(self, photos: Tensor) -> Tensor:
        """Return the backbone's last (B, channels, h, w) map.

        Args:
            photos: (B, 3, H, W), uint8 or in [0, 1]; or the trunk's maps of them (B, trunk channels, h, w),
                as `trunk_map` gives them. Their channels tell the two apart.

        Raises:
            ValueError: a value of a photo lies outside [0, 1], for example because it was normalized before.
        """
        if photos.shape[1] == 3:
            return self.backbone(self.normalized(photos))
        return self.backbone.tail(photos.float())

    def trunk_map(self, photos: Tensor) -> Tensor:
        """Return the trunk's (B, trunk channels, h, w) map of photos (B, 3, H, W), uint8 or in [0, 1]."""
        return self.backbone.trunk(self.normalized(photos))

    def normalized(self, photos: Tensor) -> Tensor:
        """Return photos (B, 3, H, W), uint8 or in [0, 1], as the backbone wants them.

        Raises:
            ValueError: see `check`.
        """
        self.check(photos)
        return self.scaled(photos)

    def check(self, photos: Tensor) -> None:
        """Refuse photos outside [0, 1]. Bytes need no look, for which a GPU would have to stop at every step.

        Raises:
            ValueError: a value lies outside.
        """
        if photos.dtype == torch.uint8 or not self.check_range:
            return
        low, high = photos.aminmax()
        if low < 0 or high > 1:
            raise ValueError(
                f"photos must lie in [0, 1], got [{low:.3f}, {high:.3f}]: "
                "leave normalization to the model, which does it itself"
            )

    def scaled(self, photos: Tensor) -> Tensor:
        """Return `normalized` photos without a look at their range."""
        if photos.dtype == torch.uint8:
            photos = photos / 255
        return (photos - self.mean) / self.std

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Return global features (B, D), unit length, and local features (B, D, h, w); see `feature_map`."""
        features = self.feature_map(photos)  # (B, channels, h, w)
        return self.global_features(features), self.local_features(features)

    def global_features(self, features: Tensor) -> Tensor:
        """Return the (B, D) global features, unit length, of a backbone's (B, channels, h, w) map."""
        embedding = self.global_head(features.mean(dim=(2, 3)))  # (B, D)
        return F.normalize(embedding.float(), dim=1)

    def local_features(self, features: Tensor) -> Tensor:
        """Return the (B, D, h, w) local features of a backbone's (B, channels, h, w) map."""
        return self.local_head(features).float()
