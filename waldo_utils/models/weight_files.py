"""One reader of files of weights: what a file is decides what is said of it, and only tensors are ever
read."""

import argparse
import codecs
import re
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import torch
from torch import Tensor

KEYS = ("state", "state_dict", "model")  # under which trainings keep a state dict
SHOWN = 5
POINTER = b"version https://git-lfs.github.com/spec/"
PAGE = (b"<!doctype", b"<!--", b"<?xml", b"<html", b"<head", b"<body", b"<title", b"<meta", b"<script")
JSON = re.compile(rb"[{[]\s*[\"{[\d\]}]")
ENCODINGS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
ADVICE = re.compile(r"(?<=\w)\. |\s*(?:Check the documentation|Please |Re-running |https?://)")


def load_tensors(path: Path) -> object:
    """Return what `torch.save` wrote to a file, or the tensors of a safetensors file: tensors and plain
    containers only, nothing in it is executed. What `_harmless` names is made too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no whole file of weights, or holds other objects; says what it is and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: correct the path")
    head = refuse_what_is_none(path)
    if _is_safetensors(head, path):
        return _safetensors(path)
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader meets broken files with whatever comes: IndexError, ...
        raise ValueError(_sentence(path, head, error)) from None


def refuse_what_is_none(path: Path) -> bytes:
    """Return how a file begins, if that is not what is often saved in place of a large file.

    Raises:
        ValueError: it is a pointer of Git LFS, a web page or JSON text; says how to get the file.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(POINTER):
        raise ValueError(
            f"{path} is a pointer of Git LFS and not the weights: fetch the large file with `git lfs pull`,"
            " or download it from the project's page"
        )
    text = _plain(head)
    if text.lower().startswith(PAGE):
        raise ValueError(
            f"{path} is a web page and not a download: open it to read why, and fetch the file itself"
        )
    if JSON.match(text) and b"\0" not in text:  # safetensors may begin with these letters, as a length
        raise ValueError(
            f"{path} is JSON text and not the weights, perhaps an error of a server: open it to read why, and"
            " fetch the file itself"
        )
    return head


def _plain(head: bytes) -> bytes:
    """Return how a text begins, in one byte a letter and without the mark that tells its encoding."""
    for mark, encoding in ENCODINGS.items():
        if head.startswith(mark):
            head = head.removeprefix(mark).decode(encoding, "ignore").encode()
    return head.lstrip()


def state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file held: bare, or under `state`, `state_dict` or `model`.

    Raises:
        ValueError: there is none; tells the names that were found.
    """
    for candidate in (content, *(content.get(key) for key in KEYS if isinstance(content, dict))):
        if _is_state(candidate):
            return candidate
    if isinstance(content, dict):
        found = ", ".join(str(name) for name in list(content)[:SHOWN]) or "nothing"
        found += ", ..." if len(content) > SHOWN else ""
    else:
        found = f"a {type(content).__name__}"
    raise ValueError(
        f"{path} holds no state dict, neither bare nor as {', '.join(f'`{key}`' for key in KEYS)}, but"
        f" {found}: choose a checkpoint of the published form"
    )


def _is_state(content: object) -> bool:
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def _harmless() -> list:
    """Return what trainings leave in checkpoints beside tensors and what does nothing when it is made: plain
    numbers of numpy, arguments of a command line, paths."""
    kinds = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
    scalar = np._core.multiarray.scalar
    paths = [
        (PurePosixPath if "Posix" in name else PureWindowsPath, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ]
    numbers = [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]
    return [*numbers, *paths, argparse.Namespace]


def _is_safetensors(head: bytes, path: Path) -> bool:
    """Return whether a file starts with the length of a header of JSON."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= path.stat().st_size


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, or whatever the reader meets
        raise ValueError(
            f"{path} is not a whole safetensors file ({_first(error)}): fetch it again"
        ) from None


def _sentence(path: Path, head: bytes, error: Exception) -> str:
    """Return what is wrong with a file that torch does not read, in one line of our own."""
    text = str(error)
    named = re.search(r"(?:GLOBAL|class) [`']?([\w.]+)", text)
    if named:
        what = f"a numpy object ({named[1]})" if named[1].startswith("numpy.") else f"an object of {named[1]}"
        return (
            f"{path} is not a file of tensors alone: it holds {what}, and nothing but"
            " tensors and plain values is read, for an object may run any code. Where you trust it, load it"
            " where it was made and save its state dict alone"
        )
    names = _names(path) if head.startswith(b"PK") else []
    if names and not any(name.endswith("data.pkl") for name in names):
        inside = [name for name in names if Path(name).suffix in (".pt", ".pth", ".bin", ".safetensors")]
        what = f": unpack it and give {inside[0]}" if inside else ", and none of its files is one of weights"
        return f"{path} is a zip archive and not a file of torch weights{what}"
    if (
        head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!"))
        or head[257:262] == b"ustar"
    ):
        return (
            f"{path} is a packed archive and not a file of torch weights: unpack it and give the file inside"
        )
    return f"{path} is not a whole file of torch weights ({_first(error)}): fetch it again"


def _names(path: Path) -> list[str]:
    """Return what a zip archive holds; nothing where it is damaged."""
    try:
        with zipfile.ZipFile(path) as opened:
            return opened.namelist()
    except Exception:  # BadZipFile, UnicodeDecodeError, struct.error, ...
        return []


def _first(error: Exception) -> str:
    """Return the first sentence of an error without a library's advice or what a terminal would act on."""
    text = ESCAPES.sub("", str(error)).strip() or type(error).__name__
    text = " ".join(text.rsplit("WeightsUnpickler error:", 1)[-1].split())
    text = ADVICE.split(text)[0] or type(error).__name__
    if "weights_only" in text:  # a switch of torch's that nobody here can turn
        return "its form is none that torch reads safely"
    return text[:150]
