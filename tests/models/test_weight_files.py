"""Files of weights: what a file is decides what is said of it, and tensors are taken wherever that is
safe."""

import argparse
import collections
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from waldo_utils.models import weight_files

STATE = {"weight": torch.arange(6.0), "bias": torch.ones(3)}


class Settings:
    """What a training keeps beside its weights, of a class that nobody else has."""


def torch_file(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
NUMPY = "is not a file of tensors alone: it holds a numpy object .numpy[.a-zA-Z0-9_]*{}., and nothing but"
IS_PAGE = "is a web page and not a download"
IS_JSON = "is JSON text and not the weights, perhaps an error of a server: open it"
PAGE = b"\n<!DOCTYPE html>\n<html><title>Quota exceeded</title>"
FILES = {
    "pointer": (POINTER,
        "is a pointer of Git LFS and not the weights: fetch the large file with `git lfs pull`"),
    "page": (PAGE, IS_PAGE),
    "page with a mark": (b"\xef\xbb\xbf<!DOCTYPE html>", IS_PAGE),
    "page in UTF-16": ("<html>".encode("utf-16"), IS_PAGE),
    "page saved by a browser": (b"<!-- saved from url=(0014)about:internet -->\n<html>", IS_PAGE),
    "page without html": (b"<head><title>x</title>", IS_PAGE),
    "answer of a server": (b'{"error": {"code": 404}}', IS_JSON),
    "answer with a mark": (b'\xef\xbb\xbf [ {"error": "x"}]', IS_JSON),
    "uint8": (torch_file({"state": STATE, "x": np.uint8(3)}), NUMPY.format("UInt8DType")),
    "int16": (torch_file({"state": STATE, "x": np.int16(3)}), NUMPY.format("Int16DType")),
    "complex64": (torch_file({"state": STATE, "x": np.complex64(3)}), NUMPY.format("Complex64DType")),
    "str_": (torch_file({"state": STATE, "x": np.str_("a")}), NUMPY.format("StrDType")),
    "array": (torch_file({"state": STATE, "x": np.ones(3)}), NUMPY.format("_reconstruct")),
    "letters": (b"404: Not Found", "is not a whole file of torch weights .Unsupported operand 52.: fetch it"),
    "zeros": (bytes(1000), "is not a whole file of torch weights .its form is none that torch reads"),
    "archive of it": (zipped(**{"run/c.pt": b"x"}),
        "is a zip archive and not .*: unpack it and give run/c.pt"),
    "archive": (zipped(a="x"), "is a zip archive and not .* none of its files is one of weights"),
    "gzip": (b"\x1f\x8b\x08" + bytes(600), "is a packed archive and not .*: unpack it"),
    "tar": (bytes(257) + b"ustar" + bytes(500), "is a packed archive"),
    "objects": (torch_file({"state": STATE, "x": Settings()}),
        "is not a file of tensors alone: it holds an object of .*Settings, and nothing but tensors"),
    "a function": (torch_file({"x": print}), "is not a file of tensors alone: it holds an object of print"),
    "cut": (torch_file(STATE)[:300], "is not a whole file of torch weights"),
    "cut safetensors": ((99).to_bytes(8, "little") + b"{" + bytes(200), "is not a whole safetensors file"),
    "text": (b"hello", "is not a whole file of torch weights"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_weights_is_told_for_what_it_is(tmp_path, case):
    content, message = FILES[case]
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ValueError, match=f"c.pt {message}") as error:
        weight_files.load_tensors(tmp_path / "c.pt")
    text = str(error.value)
    assert "\n" not in text and "\x1b" not in text and len(text) < 400
    for advice in ("weights_only", "ocumentation", "http", "allowlist"):
        assert advice not in text


@pytest.mark.parametrize(
    "beside",
    [np.float64(0.5), np.float32(2), np.int64(3), np.bool_(True), argparse.Namespace(lr=0.1),
     Path("/data/run"), collections.OrderedDict(a=1), {1, 2}, torch.Size([2])],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_harmless_beside_the_tensors_is_no_hindrance(tmp_path, beside):
    torch.save({"state": STATE, "beside": beside}, tmp_path / "c.pt")
    content = weight_files.load_tensors(tmp_path / "c.pt")
    assert content["beside"] == beside
    assert torch.equal(weight_files.state_dict(content, tmp_path)["weight"], STATE["weight"])


@pytest.mark.parametrize("key", ["state", "state_dict", "model", None])
def test_a_state_dict_is_found_under_the_usual_names(key):
    content = STATE if key is None else {"epoch": 3, key: STATE}
    assert weight_files.state_dict(content, Path("c.pt")) is STATE


def test_where_there_is_no_state_dict_the_names_are_told():
    with pytest.raises(ValueError, match="c.pt holds no state dict, .* but net, epoch: choose"):
        weight_files.state_dict({"net": STATE, "epoch": 3}, Path("c.pt"))
    with pytest.raises(ValueError, match="but 0, 1, 2, 3, 4, ...: choose"):
        weight_files.state_dict(dict.fromkeys(range(9)), Path("c.pt"))
    with pytest.raises(ValueError, match="but a list: choose"):
        weight_files.state_dict([STATE], Path("c.pt"))


def test_safetensors_are_read_whatever_the_name(tmp_path):
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "c.pt")
    content = (tmp_path / "c.pt").read_bytes()[8:]
    length = int.from_bytes(b'{"' + bytes(6), "little")  # of a header that begins as JSON text does
    header, tensors = content[: content.index(b"}}") + 2], content[-36:]
    (tmp_path / "c.pt").write_bytes(length.to_bytes(8, "little") + header.ljust(length) + tensors)
    assert torch.equal(weight_files.load_tensors(tmp_path / "c.pt")["weight"], STATE["weight"])
