"""An index in parts: joined, it is the index of one process bit for bit; what does not fit is refused."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from small import drawn_photo, small_models

from waldo_utils.__main__ import main
from waldo_utils.app import index, searching
from waldo_utils.engines import ray_tasks, shards
from waldo_utils.study import ROOT

COUNT = 150  # photos: batches of 64, 64 and 22


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of fifty products, one cut off and two alike."""
    root = tmp_path_factory.mktemp("given") / "photos"
    for i in range(COUNT - 1):
        (root / f"toy/{i // 3:02}").mkdir(parents=True, exist_ok=True)
        drawn_photo(i if i != 149 else 0, (24, 20)).save(root / f"toy/{i // 3:02}/{i:03}.png")
    (root / "toy/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (root / "film.mp4").touch()
    return root


@pytest.fixture(scope="module")
def alone(tmp_path_factory, folder, models):
    """The index of one process, as bytes by name."""
    output = tmp_path_factory.mktemp("alone") / "index"
    index.update(folder, output, models, "mini")
    return contents(output)


def contents(output):
    """Return what an index is: every file's bytes, but for the lock and the parts it was made from."""
    files = [path for path in output.rglob("*") if path.is_file() and "shards" not in path.parts]
    return {str(path.relative_to(output)): path.read_bytes() for path in files if path.name != ".lock"}


def same(output, alone):
    """Compare an index with that of one process; where it lies beside the photos differs."""
    made = contents(output)
    assert made.keys() == alone.keys()
    return [name for name in made if made[name] != alone[name] and name != "index.json"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_joined_parts_are_the_index_of_one_process(count, folder, alone, models, tmp_path):
    output = tmp_path / "index"
    for number in range(count, 0, -1):  # in any order
        shards.make_shard(folder, output, number, count, models, "mini")
    summary = shards.merge(output, models)
    assert [entry.path for entry in summary.unreadable] == ["toy/cut.png"]
    assert (summary.added, summary.changed, summary.removed, summary.kept) == (COUNT - 1, 0, 0, 0)
    assert same(output, alone) == []
    opened = index.open_index(output, models)
    assert opened.threshold is not None
    assert index.update(folder, output, models, "mini").kept == COUNT - 1
    assert same(output, alone) == []


def test_a_list_names_the_photos_of_an_index(folder, models, tmp_path, monkeypatch):
    names = folder / "list.txt"
    names.write_text("toy/00/001.png\n\ntoy/00/000.png\n")
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    try:
        command = ["index", str(names), "--shard", "1/1", "--output", str(tmp_path / "index")]
        assert main(command) == 0
        assert main(["index", "--merge", str(tmp_path / "index")]) == 0
        assert index.open_index(tmp_path / "index", models).gallery.names == [
            "toy/00/000.png",
            "toy/00/001.png",
        ]
        names.write_text("../outside.png\n")
        with pytest.raises(ValueError, match="names ../outside.png: name photos by their way from"):
            shards.listing_of(names, tmp_path)
    finally:
        names.unlink()


def test_a_list_may_write_names_in_another_form_but_none_that_are_not_there(folder, tmp_path):
    for name in ("e\u0301.png", "plain.png"):  # as macOS writes it
        (tmp_path / name).write_bytes((folder / "toy/00/000.png").read_bytes())
    (names := tmp_path / "list.txt").write_text("\u00e9.png\ne\u0301.png\nplain.png\n", encoding="utf-8-sig")
    assert shards.listing_of(names, tmp_path)[1].photos == ["e\u0301.png", "plain.png"]
    names.write_text("plain.png\nnone.png\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"1 photos of .*list.txt are not there, the first none.png: correct"
    ):
        shards.listing_of(names, tmp_path)


def test_what_is_passed_over_is_told(folder, models, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    line = "passed over: 1 no photos (film.mp4)\n"
    for part in (["index", str(folder), "--shard", "1/1", "--output"], ["index", "--merge"]):
        assert main([*part, str(tmp_path / "index")]) == 0
        assert capsys.readouterr().out.count(line) == 1


def test_what_does_not_fit_is_refused_by_name(folder, models, tmp_path):
    output = tmp_path / "index"
    with pytest.raises(FileNotFoundError, match="holds no shards: make them"):
        shards.merge(output, models)
    with pytest.raises(ValueError, match="no shard 3/4 of 150 photos: choose 1/1 to 3/3"):
        shards.make_shard(folder, output, 3, 4, models, "mini")
    place = shards.make_shard(folder, output, 1, 3, models, "mini")
    with pytest.raises(
        ValueError, match="lacks shard 2, 3 of 3: `python -m waldo_utils index .* --shard 2/3"
    ):
        shards.merge(output, models)
    other = small_models(1)
    shards.make_shard(folder, output, 2, 3, other, "mini")
    with pytest.raises(
        ValueError, match=r"parts of different models \(shard 1/3: digest0, shard 2/3: digest1\)"
    ):
        shards.merge(output, models)
    for number in (2, 3):
        shards.make_shard(folder, output, number, 3, models, "mini")
    with pytest.raises(ValueError, match="was made with other models"):
        shards.merge(output, other)
    path = place / "features-digest0" / "global"
    path.write_bytes(bytes(1) + path.read_bytes()[1:])
    with pytest.raises(ValueError, match="is not what was recorded: remove .*1-of-3, make it again"):
        shards.merge(output, models)
    shutil.rmtree(place)
    (folder / "later.png").write_bytes((folder / "toy/00/000.png").read_bytes())
    try:
        shards.make_shard(folder, output, 1, 3, models, "mini")
        with pytest.raises(ValueError, match="parts of different photos"):
            shards.merge(output, models)
    finally:
        (folder / "later.png").unlink()


def dying_models(profile):
    """Return the models; the first worker that asks is killed, having said so."""
    said = Path(os.environ["SAID"])
    if profile == "mini" and "RAY_RAYLET_PID" in os.environ and not said.exists():
        said.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return small_models()


@pytest.fixture
def prompt(monkeypatch):
    """Let Ray's workers take turns with other tests: left alone, they yield to all of them."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


# Ray leaves processes of its own that end a little later.
QUIET = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@QUIET
def test_ray_makes_the_same_index_although_a_worker_is_killed(folder, alone, tmp_path, monkeypatch, prompt):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setitem(ray_tasks.LOCAL, "num_cpus", 2)
    here = Path(__file__).parent
    places = [str(ROOT), str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    ray_tasks.index(folder, tmp_path / "index", "mini", photos=60, open_models=dying_models)
    assert (tmp_path / "said").exists()
    assert len(list((tmp_path / "index/shards").glob("*-of-3"))) == 3
    assert same(tmp_path / "index", alone) == []


@QUIET
def test_a_cluster_without_the_package_is_told_so(folder, tmp_path, prompt):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(
        ModuleNotFoundError, match="lacks the package test_shards: install this project there"
    ):
        ray_tasks.index(folder, tmp_path / "index", "mini", open_models=dying_models)


def test_without_ray_a_line_says_what_to_install(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert main(["index", str(folder), "--ray", "--output", str(tmp_path / "index")]) == 2
    assert capsys.readouterr().err == "error: Ray is missing: install the extra `ray`\n"
