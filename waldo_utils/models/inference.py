"""Parts of the image model run by OpenVINO: the same numbers several times as fast on processors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from waldo_utils.models.compiled import Compiled
from waldo_utils.models.devices import autocast, device
from waldo_utils.models.image_model import ImageModel

Forward = Callable[[Tensor], tuple[Tensor, ...]]


def features_of(model: ImageModel) -> Forward:
    """Return a function from a batch (see `ImageModel.feature_map`) to its global (B, D) and local (B, D, h,
    w) features, without gradients."""
    return _forward(model, _Features)


def map_of(model: ImageModel) -> Callable[[Tensor], Tensor]:
    """Return `ImageModel.feature_map` as a function without gradients."""
    forward = _forward(model, _LastMap)
    return lambda batch: forward(batch)[0]


def trunk_of(model: ImageModel) -> Callable[[Tensor], Tensor]:
    """Return `ImageModel.trunk_map` as a function without gradients."""
    forward = _forward(model, _TrunkMap)
    return lambda photos: forward(photos)[0]


def shared_trunk(models: Sequence[ImageModel]) -> Callable[[Tensor], Tensor]:
    """Return a function from photos to the trunk's maps of them, where several models have the same trunk, so
    that it runs once for all; else, and of maps, it gives back what it gets. `features_of` and `map_of` take
    either."""
    first, *others = [model.backbone.trunk_state() for model in models]
    if not (first and others and all(same_tensors(first, other) for other in others)):
        return lambda batch: batch
    trunk = trunk_of(models[0])
    return lambda batch: trunk(batch) if batch.shape[1] == 3 else batch


def same_tensors(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    """Return whether two state dicts have the same names and values."""
    return some.keys() == others.keys() and all(torch.equal(some[key], others[key]) for key in some)


class _Part(nn.Module):
    """A part of an image model, from photos or from the trunk's maps."""

    def __init__(self, model: ImageModel, from_trunk: bool):
        super().__init__()
        self.model = model
        self.from_trunk = from_trunk

    def last_map(self, x: Tensor) -> Tensor:
        backbone = self.model.backbone
        return backbone.tail(x.float()) if self.from_trunk else backbone(self.model.scaled(x))


class _Features(_Part):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.last_map(x)
        return self.model.global_features(features), self.model.local_features(features)


class _LastMap(_Part):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.last_map(x),)


class _TrunkMap(_Part):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.model.backbone.trunk(self.model.scaled(x)),)


def _forward(model: ImageModel, part: type[_Part]) -> Forward:
    """Return the forward of a part of the model in eval mode, as its weights are now.

    By OpenVINO in float32 where the model stands on a processor and its backbone is of depthwise
    convolutions, which torch computes slowly there; else by torch, in bfloat16 where the machine has
    instructions for it.
    """
    by_openvino = model.backbone.depthwise and device().type == "cpu"
    compiled: dict[tuple, Compiled] = {}

    @torch.no_grad()
    def run(batch: Tensor) -> tuple[Tensor, ...]:
        from_trunk = batch.shape[1] != 3
        if not from_trunk:
            model.check(batch)
        if not by_openvino:
            with autocast():
                return tuple(value.float() for value in part(model, from_trunk)(batch))
        form = (batch.dtype, *batch.shape[1:])
        if form not in compiled:
            example = torch.zeros(1, *batch.shape[1:], dtype=batch.dtype)
            compiled[form] = Compiled(part(model, from_trunk).eval(), [example])
        return compiled[form](batch)

    return run
