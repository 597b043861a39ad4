"""Models as ONNX files for programs that have nothing of ours, checked against torch before they are handed
out."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from waldo_utils.app.searching import Models
from waldo_utils.disk.files import check_writable
from waldo_utils.models.image_model import ImageModel
from waldo_utils.models.inference import OPSET

TOLERANCE = 1e-3  # of outputs whose size is of the order of 1
EXAMPLE = Path(__file__).parent / "onnx_example.py.txt"


class _Photos(nn.Module):
    """An image model that takes photos in [0, 1] as a program reads them."""

    def __init__(self, shortlist: ImageModel, local: ImageModel):
        super().__init__()
        self.shortlist, self.local = shortlist, local

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        models = [self.shortlist] if self.local is self.shortlist else [self.shortlist, self.local]
        maps = [model.backbone((photos - model.mean) / model.std) for model in models]
        return self.shortlist.global_features(maps[0]), self.local.local_features(maps[-1])


def export(models: Models, folder: Path) -> list[Path]:
    """Write `image_model.onnx`, `reranker.onnx` where the models have one, and `example.py`, which uses them.

    `image_model.onnx`: "photos" (B, 3, size, size) in [0, 1] to "global" (B, D), unit length, and "local"
    (B, C, h, w). `reranker.onnx`: "query" and "gallery" (B, C, h, w) to "score" (B,).

    Raises:
        ValueError: what ONNX Runtime computes is not what torch does.
        OSError: the folder cannot be written.
    """
    check_writable(folder)
    size = models.transform.crop
    photos = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    image = _Photos(models.shortlist, models.local).cpu().eval()
    paths = [_checked(image, (photos,), ["photos"], ["global", "local"], folder / "image_model.onnx")]
    if models.reranker is not None:
        with torch.no_grad():
            local = image(photos)[1]
        pairs = (local, local.roll(1, dims=0))
        names = ["query", "gallery"]
        reranker = models.reranker.cpu().eval()
        paths.append(_checked(reranker, pairs, names, ["score"], folder / "reranker.onnx"))
    example = folder / "example.py"
    text = EXAMPLE.read_text(encoding="utf-8").replace("SIZE = 224", f"SIZE = {size}")
    example.write_text(text, encoding="utf-8")
    return [*paths, example]


def _checked(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], path: Path
) -> Path:
    """Write a module as ONNX, run both on the inputs, and return the path if they agree."""
    import onnxruntime

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # of attention: an operator that ONNX has not
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                str(path),
                input_names=names,
                output_names=outputs,
                dynamic_axes={name: {0: "batch"} for name in (*names, *outputs)},
                opset_version=OPSET,
                dynamo=False,
            )
            expected = module(*(value[:2] for value in inputs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value[:2].numpy() for name, value in zip(names, inputs, strict=True)})
    expected = expected if isinstance(expected, tuple) else (expected,)
    for name, ours, theirs in zip(outputs, found, expected, strict=True):
        far = float(np.abs(ours - theirs.numpy()).max()) / max(float(theirs.abs().max()), 1.0)
        if not far < TOLERANCE:
            path.unlink()
            raise ValueError(
                f"{name} of {path.name} differs by {far:.1e} from torch's: other versions may agree"
            )
    return path
