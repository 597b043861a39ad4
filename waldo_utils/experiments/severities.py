"""Transforms of the test photos, by severity: what the grid of notebook 04 asks about.

Each takes a photo (3, S, S) in [0, 1] as the model would see it, a random generator and an amount, and
returns a photo of the same form; the random ones scale one draw by the amount, so that a photo turns the same
way at every severity.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from waldo_utils.data.transforms import TestTransform
from waldo_utils.models.backbones import IMAGENET_MEAN, IMAGENET_STD

SEVERITIES = ("mild", "medium", "strong")
ONE_LEVEL = "one level"  # severity of a transform that has none


@dataclass(frozen=True)
class Variant:
    """One transform of the test photos at one severity: photo and row to what the model sees."""

    transform: str
    severity: str  # one of SEVERITIES, or ONE_LEVEL
    parameter: str  # its value in words
    view: TestTransform  # resizes and crops
    change: Callable[[Tensor, torch.Generator], Tensor] | None = None  # of that view; None: nothing
    leaves_range: bool = False  # whether the result may leave [0, 1], which models refuse unless asked

    def __call__(self, photo: Tensor, row: int) -> Tensor:
        """Return (3, S, S) of a (3, h, w) uint8 photo; its random draw depends on `row` alone."""
        view = self.view(photo)
        return view if self.change is None else self.change(view, torch.Generator().manual_seed(row))


def variants(resize: int, size: int) -> list[Variant]:
    """List the untransformed photos ("none"), then every transform at every severity.

    Args:
        resize, size: of the study's test transform, see `images.TestTransform`.
    """
    plain = TestTransform(resize, size)
    listed = [Variant("none", ONE_LEVEL, "untransformed", plain)]
    for name, (change, amounts, words) in GRADED.items():
        for severity, amount in zip(SEVERITIES, amounts, strict=True):
            listed.append(
                Variant(name, severity, words.format(amount), plain, partial(change, amount=amount))
            )
    for severity, share in zip(SEVERITIES, (0.75, 0.6, 0.45), strict=True):
        zoomed = TestTransform(round(size / share), size)
        listed.append(Variant("crop", severity, f"the middle {share:.0%} of each side", zoomed))
    direct = TestTransform(size, size)
    return [
        *listed,
        Variant("no crop", ONE_LEVEL, "resized directly to the model's size", direct),
        Variant("flip", ONE_LEVEL, "half of the photos mirrored", plain, flip),
        Variant("normalization", ONE_LEVEL, "once more than the model", plain, normalization, True),
    ]


def title(variant: Variant) -> str:
    """Return the name of a variant as it stands above its picture."""
    if variant.severity == ONE_LEVEL:
        return variant.transform
    return f"{variant.transform}\n{variant.severity}"


def perspective(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Move each corner inwards by up to `amount` of half a side (torchvision's RandomPerspective)."""
    end = photo.shape[-1] - 1
    corners = [[0, 0], [end, 0], [end, end], [0, end]]
    moves = (torch.rand(4, 2, generator=generator) * amount * photo.shape[-1] / 2).round().int().tolist()
    moved = [
        [x + dx if x == 0 else x - dx, y + dy if y == 0 else y - dy]
        for (x, y), (dx, dy) in zip(corners, moves, strict=True)
    ]
    return functional.perspective(photo, corners, moved).clamp(0, 1)


def grayscale(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Blend the photo with its luminance; at 1 no color is left."""
    return functional.adjust_saturation(photo, 1 - amount)


def contrast(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Stretch the photo about its mean luminance by a factor of 1 - amount to 1 + amount (ColorJitter)."""
    return functional.adjust_contrast(photo, _factor(generator, amount))


def brightness(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Multiply the photo by a factor of 1 - amount to 1 + amount (ColorJitter)."""
    return functional.adjust_brightness(photo, _factor(generator, amount))


def _factor(generator: torch.Generator, amount: float) -> float:
    return 1 + amount * (2 * float(torch.rand((), generator=generator)) - 1)


def blur(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Blur by a Gaussian of sigma 0.1 to `amount` pixels at 224, in proportion at other sizes
    (GaussianBlur)."""
    scale = photo.shape[-1] / 224
    sigma = (0.1 + (amount - 0.1) * float(torch.rand((), generator=generator))) * scale
    kernel = 2 * max(round(3 * amount * scale), 1) + 1  # three sigma each way
    return functional.gaussian_blur(photo, [kernel, kernel], [sigma, sigma]).clamp(0, 1)


def rotation(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Turn the photo by up to `amount` degrees either way; what the corners uncover is black."""
    angle = amount * (2 * float(torch.rand((), generator=generator)) - 1)
    return functional.rotate(photo, angle, InterpolationMode.BILINEAR).clamp(0, 1)


def jpeg(photo: Tensor, generator: torch.Generator, amount: int) -> Tensor:
    """Save and read the photo as a JPEG of quality `amount`."""
    saved = io.BytesIO()
    functional.to_pil_image(photo).save(saved, "JPEG", quality=amount)
    return functional.to_image(Image.open(saved)).as_subclass(Tensor) / 255


def noise(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Add Gaussian noise of standard deviation `amount`."""
    return (photo + amount * torch.randn(photo.shape, generator=generator)).clamp(0, 1)


def occlusion(photo: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Black out one box of the share `amount` of the area, half to twice as wide as high (RandomErasing)."""
    side, draw = photo.shape[-1], torch.rand(3, generator=generator).tolist()
    ratio = 2 ** (2 * draw[0] - 1)
    height, width = (round(side * (amount * part) ** 0.5) for part in (1 / ratio, ratio))
    top, left = int(draw[1] * (side - height + 1)), int(draw[2] * (side - width + 1))
    return functional.erase(photo, top, left, height, width, torch.zeros(3, 1, 1))


def flip(photo: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the photos."""
    return photo.flip(2) if torch.rand((), generator=generator) < 0.5 else photo


def normalization(photo: Tensor, generator: torch.Generator) -> Tensor:
    """Normalize by ImageNet's mean and standard deviation, which the model does once more: the result leaves
    [0, 1]."""
    return functional.normalize(photo, list(IMAGENET_MEAN), list(IMAGENET_STD))


# Name -> function, amount at each severity, parameter in words.
GRADED: dict[str, tuple[Callable[..., Tensor], tuple, str]] = {
    "perspective": (perspective, (0.25, 0.5, 0.75), "corners moved by up to {:.0%} of half a side"),
    "grayscale": (grayscale, (0.5, 0.8, 1.0), "{:.0%} of the color taken away"),
    "contrast": (contrast, (0.25, 0.5, 0.75), "a factor of 1 ± up to {}"),
    "blur": (blur, (1.0, 2.0, 4.0), "sigma 0.1 to {} pixels of 224"),
    "rotation": (rotation, (10, 20, 40), "up to {} degrees either way"),
    "jpeg": (jpeg, (50, 20, 8), "quality {}"),
    "noise": (noise, (0.03, 0.08, 0.15), "standard deviation {}"),
    "brightness": (brightness, (0.25, 0.5, 0.75), "a factor of 1 ± up to {}"),
    "occlusion": (occlusion, (0.1, 0.2, 0.4), "one black box of {:.0%} of the photo"),
}
