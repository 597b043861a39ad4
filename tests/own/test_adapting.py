"""A training on one's own photos: what it holds out, plans, resumes, chooses, says and refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from small import drawn_photo

from waldo_utils.__main__ import main
from waldo_utils.app import searching
from waldo_utils.models import runs
from waldo_utils.own import adapting
from waldo_utils.training import loop


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for product in range(8):
        (root / f"p{product}").mkdir(parents=True)
        for photo in range(3):
            drawn_photo(10 * product + photo).save(root / f"p{product}" / f"{photo}.png")
    (root / "p0" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (root / "film.mp4").touch()
    return root


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "HOME", tmp_path / "runs")
    monkeypatch.setattr(adapting, "SIZE", 64)
    monkeypatch.setattr(adapting, "BLOCK", 2)
    monkeypatch.setattr(adapting, "MOST_STEPS", 2)
    monkeypatch.setattr(adapting, "VIEWS", 2)


def test_products_are_held_out_whole(folder):
    table = adapting.choose_products(folder)
    parts = table.groupby("product").part.nunique()
    assert (parts == 1).all()
    assert table.groupby("part")["product"].nunique().to_dict() == {"choose": 2, "judge": 2, "train": 4}


def test_a_training_is_kept_used_and_goes_on_where_it_was_killed(
    folder, small, tmp_path, monkeypatch, capsys
):
    fit, calls = loop.fit, []

    def killed_at_the_second_rate(*given):
        calls.append(given[-1].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*given)

    monkeypatch.setattr(loop, "fit", killed_at_the_second_rate)
    arguments = ["train", str(folder), "--name", "mine", "--minutes", "60"]
    assert main(arguments) == 130
    begun = tmp_path / "runs" / "mine" / "unfinished"
    made = {path.name: path.stat().st_mtime_ns for path in begun.glob("*_maps.npy")}
    assert len(made) == 3
    monkeypatch.setattr(loop, "fit", fit)
    capsys.readouterr()
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "goes on where it was" in printed
    assert printed.count("passed over: 1 no photos (film.mp4)\n") == 1
    assert "left out 1 photos that cannot be read, the first: p0/cut.jpg" in printed
    assert "zero-shot" in printed
    assert "training " in printed
    assert not begun.exists()
    facts = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())
    assert [row["rate"] for row in facts["tried"]] == list(adapting.RATES)
    assert {name: len(found) for name, found in facts["products"].items()} == {
        "train": 4,
        "choose": 2,
        "judge": 2,
    }
    models = searching.open_models("runs/mine")
    assert models.weights.startswith("runs/mine, trained on 12 photos of ")
    whole = adapting.train(folder, "again", 60, lambda line: None)
    assert whole.difference.tolist() == [row["difference"] for row in facts["judged"]]
    for ours, theirs in zip(
        models.shortlist.state_dict().values(), runs.load("again")[0].state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert main(arguments) == 2
    assert "holds a finished training" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, arguments, words",
    [
        (None, ["--minutes", "0.00001"], "is too short for 24 photos on this machine"),
        (None, ["--minutes", "-1"], "is no time"),
        (None, ["--name", "a/b"], "is no name for a training"),
        ([0, 1, 2], [], "has 5 products of two photos or more, and a training needs 6"),
        (range(7), [], "has 1 products"),
        (range(6), [], "has 2 products"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    folder, small, tmp_path, capsys, change, arguments, words
):
    for product in change or ():
        for path in (folder / f"p{product}").iterdir():
            path.unlink()
    assert main(["train", str(folder), "--name", "mine", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("error: ") == 1
    assert not list(tmp_path.glob("runs/*/run.json"))


def judged(low, high):
    row = {"metric": "R@1", "difference": (low + high) / 2, "low": low, "high": high, "products": 9}
    return pd.DataFrame([row | {"start": 0.5, "trained": 0.5 + (low + high) / 2}])


def test_the_verdict_follows_the_interval():
    assert adapting.verdict(judged(0.01, 0.05), 1e-4).endswith("training helped")
    assert "did not help by more than chance" in adapting.verdict(judged(-0.01, 0.05), 1e-4)
    assert "did harm" in adapting.verdict(judged(-0.05, -0.01), 1e-4)
    assert adapting.verdict(judged(0, 0), 0).endswith("so the start is kept")
    assert "zero-shot 50.0, trained 53.0, +3.0 points (+1.0 to +5.0)" in adapting.verdict(
        judged(0.01, 0.05), 1
    )


def test_values_are_recall_and_precision_of_the_maps(monkeypatch):
    features = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1.0], [0.8, 0.3]]), dim=1
    )
    model = type("M", (torch.nn.Module,), {
        "feature_map": lambda self, x: x, "global_features": lambda self, x: x
    })()  # fmt: skip
    found = adapting._values(model, [*features], np.array([0, 0, 1, 1]))
    assert found["R@1"].tolist() == [1, 1, 1, 0]
