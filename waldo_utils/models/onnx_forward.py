"""Parts of the image model run by ONNX Runtime: the same numbers several times as fast on processors."""

import io
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from waldo_utils.models.devices import autocast, device
from waldo_utils.models.image_model import ImageModel

OPSET = 17
PART = 8  # photos at once: as fast as 64, in less memory
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
    """A part of an image model, from normalized photos or from the trunk's maps."""

    def __init__(self, model: ImageModel, from_trunk: bool):
        super().__init__()
        self.model = model
        self.from_trunk = from_trunk

    def last_map(self, x: Tensor) -> Tensor:
        backbone = self.model.backbone
        return backbone.tail(x) if self.from_trunk else backbone(x)


class _Features(_Part):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.last_map(x)
        return self.model.global_features(features), self.model.local_features(features)


class _LastMap(_Part):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.last_map(x),)


class _TrunkMap(_Part):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.model.backbone.trunk(x),)


def _forward(model: ImageModel, part: type[_Part]) -> Forward:
    """Return the forward of a part of the model in eval mode, as its weights are now.

    By ONNX Runtime in float32 where the model stands on a processor and its backbone is of depthwise
    convolutions, which torch computes slowly there; else by torch, in bfloat16 where the machine has
    instructions for it.
    """
    by_onnx = model.backbone.depthwise and device().type == "cpu"
    sessions: dict[tuple[int, ...], Forward] = {}

    @torch.no_grad()
    def run(batch: Tensor) -> tuple[Tensor, ...]:
        from_trunk = batch.shape[1] != 3
        batch = batch.float() if from_trunk else model.normalized(batch)
        if not by_onnx:
            with autocast():
                return tuple(value.float() for value in part(model, from_trunk)(batch))
        if batch.shape[1:] not in sessions:
            sessions[batch.shape[1:]] = _session(part(model, from_trunk), batch)
        return sessions[batch.shape[1:]](batch)

    return run


def _session(part: nn.Module, example: Tensor) -> Forward:
    """Return a module's forward by ONNX Runtime for batches of any length of the example's shape."""
    import onnxruntime

    file = io.BytesIO()
    with warnings.catch_warnings():  # torch announces another exporter, which needs one more package
        warnings.simplefilter("ignore")
        torch.onnx.export(
            part.eval(),
            (example[:1].contiguous(),),
            file,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> tuple[Tensor, ...]:
        parts = [session.run(None, {"x": part.contiguous().numpy()}) for part in x.split(PART)]
        return tuple(torch.from_numpy(np.concatenate(outputs)) for outputs in zip(*parts, strict=True))

    return run
