"""Modules compiled by OpenVINO, the image model's parts among them: the same numbers in half the time or less
on processors."""

import io
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from waldo_utils.models.devices import autocast, device
from waldo_utils.models.image_model import ImageModel

OPSET = 17
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


class Compiled:
    """A module's forward in float32, as its weights are now, for inputs of one shape.

    Each core computes one part of a batch after the other, so what comes out hangs neither on the number of
    cores nor on what else is in the batch.

    Args:
        module: in eval mode; its inputs and outputs are tensors of equally many rows.
        examples: one part: its inputs, of so many rows as are computed at once.
    """

    def __init__(self, module: nn.Module, examples: Sequence[Tensor]):
        sys.modules.setdefault("openvino_telemetry", None)  # which would tell the vendor of each import
        import openvino

        file = io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch announces another exporter, which needs one more package
            inputs = tuple(example.contiguous() for example in examples)
            torch.onnx.export(module, inputs, file, opset_version=OPSET, dynamo=False)
        cores = torch.get_num_threads()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": cores,
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        self.rows = len(examples[0])
        self.model = core.compile_model(core.read_model(file.getvalue(), b""), "CPU", settings)
        self.queue = openvino.AsyncInferQueue(self.model, 2 * cores)  # the next part stands ready
        self.queue.set_callback(_keep)
        self.tensor = openvino.Tensor
        self.lock = threading.Lock()  # a queue serves one caller at a time

    def __call__(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """Return the module's outputs of a batch of any length, float32."""
        arrays = [tensor.contiguous().numpy() for tensor in batch]
        count = len(arrays[0])
        starts = range(0, count, self.rows)
        return self.run(([a[start : start + self.rows] for a in arrays] for start in starts), count)

    def run(self, parts: Iterable[list[np.ndarray]], count: int) -> tuple[Tensor, ...]:
        """Return the outputs of `count` rows in parts, each of as many as the examples; the last may
        have fewer."""
        found = [np.empty((count, *output.shape[1:]), np.float32) for output in self.model.outputs]
        with self.lock:
            for number, part in enumerate(parts):
                if missing := self.rows - len(part[0]):  # filled up, and left out again
                    part = [np.concatenate([array, array[-1:].repeat(missing, axis=0)]) for array in part]
                inputs = [self.tensor(array, shared_memory=True) for array in part]
                place = (found, number * self.rows, part)  # with the part itself, which must live so long
                self.queue.start_async(inputs, place)
            self.queue.wait_all()
        return tuple(torch.from_numpy(output) for output in found)


def _keep(request: "openvino.InferRequest", place: tuple[list[np.ndarray], int, list]) -> None:  # noqa: F821
    found, start, _ = place
    for output, tensor in zip(found, request.output_tensors, strict=True):
        rows = output[start : start + tensor.shape[0]]
        rows[:] = tensor.data[: len(rows)]
