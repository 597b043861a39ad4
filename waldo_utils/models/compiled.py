"""A torch module compiled by OpenVINO: the same numbers several times as fast on processors."""

import io
import sys
import threading
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

OPSET = 17


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
        if missing := -count % self.rows:  # the last part is filled up
            arrays = [np.concatenate([array, array[-1:].repeat(missing, axis=0)]) for array in arrays]
        starts = range(0, count, self.rows)
        return self.run(([a[start : start + self.rows] for a in arrays] for start in starts), count)

    def run(self, parts: Iterable[list[np.ndarray]], count: int) -> tuple[Tensor, ...]:
        """Return the first `count` rows of the outputs of parts, each of as many rows as the examples."""
        found = [np.empty((count, *output.shape[1:]), np.float32) for output in self.model.outputs]
        with self.lock:
            for number, part in enumerate(parts):
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
