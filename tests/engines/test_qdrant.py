"""An index in Qdrant: published whole, resumed, asked, and what is refused."""

import json

import numpy as np
import pytest
from small import drawn_photo, small_models

from waldo_utils.__main__ import main
from waldo_utils.app import index, searching
from waldo_utils.disk import locks
from waldo_utils.engines import qdrant
from waldo_utils.retrieval import exact, reranking

qdrant_client = pytest.importorskip("qdrant_client", reason="the extra `qdrant` is not installed")


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture(scope="module")
def indexed(tmp_path_factory, models):
    """An index of twelve photos of four products."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(12):
        (folder / f"toy/{i // 3}").mkdir(parents=True, exist_ok=True)
        drawn_photo(i).save(folder / f"toy/{i // 3}/{i}.png")
    output = tmp_path_factory.mktemp("index")
    index.update(folder, output, models, "mini")
    return output


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of Qdrant's local mode, and requests of five points."""
    monkeypatch.setattr(qdrant, "BATCH", 5)
    return str(tmp_path / "engine")


def test_what_is_published_is_found_as_the_exact_search_finds_it(indexed, place, models):
    assert qdrant.publish(indexed, place, local=True) == 12
    gallery = index.open_index(indexed, models).gallery
    with qdrant.asked(indexed, place) as find:
        rows, similarities = find(gallery.embedding[[0, 7]], 12)
    expected, near = exact.nearest_neighbors(gallery.embedding[[0, 7]], 12, gallery.embedding)
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(similarities, near, atol=1e-6)
    with qdrant.opened(place) as client:
        (alias,) = client.get_aliases().aliases
        (point,) = client.retrieve(alias.alias_name, [7])
    assert alias.alias_name == indexed.name
    assert point.payload == {"path": gallery.names[7], "product": "toy/2", "category": "toy"}


def test_the_second_stage_there_is_local_matching(indexed, place, models):
    qdrant.publish(indexed, place, local=True)
    gallery = index.open_index(indexed, models).gallery
    query = gallery.local[[4]].astype(np.float32)
    with qdrant.asked(indexed, place, query[0]) as find:
        rows, scores = find(gallery.embedding[[4]], 6)
    shortlist, _ = exact.nearest_neighbors(gallery.embedding[[4]], 6, gallery.embedding)
    matched = reranking.pair_scores(reranking.match_maps, query, gallery.local[:], shortlist)
    assert rows.tolist() == exact.reorder(shortlist, matched).tolist()
    lengths = np.linalg.norm(query, axis=1).sum()
    np.testing.assert_allclose(scores[0] / lengths, np.sort(matched[0])[::-1], atol=5e-3)


def test_a_publication_that_was_cut_off_is_refused_and_goes_on(indexed, place, monkeypatch):
    sent = []

    def upsert(self, name, points, wait):
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.append(points.ids)
        return whole(self, name, points, wait=wait)

    whole = qdrant_client.QdrantClient.upsert
    monkeypatch.setattr(qdrant_client.QdrantClient, "upsert", upsert)
    with pytest.raises(KeyboardInterrupt):
        qdrant.publish(indexed, place)
    with pytest.raises(
        ValueError, match=r"holds 10 of the 12 photos of .*: `python -m waldo_utils publish .* goes on"
    ):
        with qdrant.asked(indexed, place):
            pass
    monkeypatch.setattr(qdrant_client.QdrantClient, "upsert", whole)
    assert qdrant.publish(indexed, place) == 12
    assert qdrant.publish(indexed, place) == 12  # two publishers write the same points


def test_another_index_takes_the_place_of_the_one_before(tmp_path, place, models):
    folder, output = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    for count in (2, 3):
        drawn_photo(count).save(folder / f"{count}.png")
        drawn_photo(9).save(folder / "9.png")
        index.update(folder, output, models, "mini")
        with pytest.raises(
            ValueError, match="does not hold the index .* as it is now: `python -m waldo_utils publish"
        ):
            with qdrant.asked(output, place):
                pass
        assert qdrant.publish(output, place) == count
    with qdrant.opened(place) as client:
        assert len(client.get_collections().collections) == 1


def test_a_collection_of_another_size_or_with_more_points_is_refused(indexed, place):
    from qdrant_client import models

    name = qdrant.collection_of(indexed)[0]
    with qdrant.opened(place) as client:
        vectors = {"global": models.VectorParams(size=4, distance=models.Distance.DOT)}
        client.create_collection(name, vectors_config=vectors)
    with pytest.raises(
        ValueError, match=r"has vectors {'global': 4}, these features are {'global': 16}: remove it"
    ):
        qdrant.publish(indexed, place)
    with qdrant.opened(place) as client:
        client.delete_collection(name)
    qdrant.publish(indexed, place)
    with qdrant.opened(place) as client:
        client.upsert(name, models.Batch(ids=[99], vectors={"global": [[0.0] * 16]}))
    with pytest.raises(ValueError, match="holds 13 points, the index 12 photos: remove it"):
        qdrant.publish(indexed, place)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the client leaves its lock open
def test_who_does_not_answer_is_told_in_a_line(indexed, place, tmp_path, monkeypatch, capsys):
    assert main(["publish", "--index", str(indexed), "--to", "http://127.0.0.1:9"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: nobody answers at http://127.0.0.1:9 (") and told.count("\n") == 1
    with pytest.raises(ValueError, match="ftp://x is no address of Qdrant"):
        qdrant.publish(indexed, "ftp://x")
    with pytest.raises(FileNotFoundError, match="holds no index: make one"):
        qdrant.publish(tmp_path, place)
    with qdrant.opened(place), pytest.raises(locks.Held, match="another process works in"):
        qdrant.publish(indexed, place)
    monkeypatch.setitem(__import__("sys").modules, "qdrant_client", None)
    with pytest.raises(ModuleNotFoundError, match="install the extra `qdrant`"):
        qdrant.publish(indexed, place)


def test_the_command_searches_there_and_reranks_here(indexed, place, models, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    drawn_photo(5).save(tmp_path / "query.png")
    assert main(["publish", "--index", str(indexed), "--to=~/engine"]) == 0
    assert f"are at {place}" in capsys.readouterr().out
    assert not (tmp_path / "~").exists()
    told = []
    for engine in ([], ["--engine=~/engine"]):
        capsys.readouterr()
        assert main(["search", str(tmp_path / "query.png"), "--index", str(indexed), "--json", *engine]) == 0
        told.append(json.loads(capsys.readouterr().out))
    names = [[match["name"] for match in one["matches"]] for one in told]
    assert names[0] == names[1]
    assert [m["score"] for m in told[1]["matches"]] == pytest.approx([m["score"] for m in told[0]["matches"]])
    assert len(names[1]) == 10
