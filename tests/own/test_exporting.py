"""Exported models: equal outputs, and the example that needs nothing of ours."""

import os
import subprocess
import sys

import pytest
import torch
from small import drawn_photo, small_models

from waldo_utils.__main__ import main
from waldo_utils.app import searching
from waldo_utils.own import exporting


def test_the_example_gives_what_the_models_give_without_them(tmp_path, monkeypatch, capsys):
    models = small_models()
    monkeypatch.setattr(searching, "open_models", lambda name: models)
    assert main(["export", "--onnx", str(tmp_path / "onnx")]) == 0
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert names == {"image_model.onnx", "reranker.onnx", "example.py"}
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    photos = [drawn_photo(i, (32, 32)) for i in range(3)]
    for path, photo in zip(paths, photos, strict=True):
        photo.save(path)
    run = [sys.executable, "-c",
           "import sys, runpy\nsys.modules['torch'] = sys.modules['waldo_utils'] = None\n"
           "runpy.run_path(sys.argv.pop(1), run_name='__main__')"]  # fmt: skip
    shown = subprocess.run(
        [*run, str(tmp_path / "onnx" / "example.py"), *map(str, paths)],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    lines = [line.split() for line in shown.stdout.splitlines()]
    embedding, local = searching.features(models, torch.stack([searching.prepare(models, p) for p in photos]))
    scores = searching.score(models, local[0], local[1:])
    expected = sorted(zip(scores, embedding[1:] @ embedding[0], paths[1:], strict=True), key=lambda e: -e[0])
    for line, (score, similarity, path) in zip(lines, expected, strict=True):
        assert (float(line[0]), float(line[1])) == pytest.approx((score, similarity), abs=0.02)
        assert line[2] == str(path)
    assert len((tmp_path / "onnx" / "example.py").read_text().splitlines()) <= 26


def test_outputs_that_differ_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", 0.0)
    with pytest.raises(ValueError, match="of image_model.onnx differs by"):
        exporting.export(small_models(), tmp_path)
    assert not list(tmp_path.glob("*.onnx"))
