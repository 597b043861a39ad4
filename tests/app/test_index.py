"""The index of a folder: what is computed, kept, left out, resumed and refused."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small import drawn_photo, small_models

from waldo_utils.__main__ import main
from waldo_utils.app import index, index_files, rejection, searching
from waldo_utils.retrieval import feature_store, large_search
from waldo_utils.study import ROOT


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture
def folder(tmp_path):
    """Six photos of three products in two categories, one file cut off, one hidden, and notes."""
    root = tmp_path / "photos"
    for i, place in enumerate(["fruit/apple", "fruit/apple", "fruit/pear", "fruit/pear", "tins/beans", "."]):
        (root / place).mkdir(parents=True, exist_ok=True)
        drawn_photo(i).save(root / place / f"{i}.png")
    (root / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a whole photo")
    (root / ".hidden.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("not a photo")
    return root


@pytest.fixture
def computed(monkeypatch):
    """The numbers of photos that features were computed for, call by call."""
    calls, whole = [], searching.features

    def counted(models, batch):
        calls.append(len(batch))
        return whole(models, batch)

    monkeypatch.setattr(searching, "features", counted)
    return calls


def test_an_index_holds_the_photos_in_the_order_of_their_paths(folder, tmp_path, models):
    summary = index.update(folder, tmp_path / "index", models, "mini")
    assert (summary.added, summary.changed, summary.removed, summary.kept) == (6, 0, 0, 0)
    assert [entry.path for entry in summary.unreadable] == ["cut.jpg"]
    assert "cannot be read as a photo" in summary.unreadable[0].fault
    gallery = index.open_index(tmp_path / "index", models).gallery
    assert gallery.names == [
        "5.png", *(f"fruit/{p}.png" for p in ("apple/0", "apple/1", "pear/2", "pear/3")), "tins/beans/4.png",
    ]  # fmt: skip
    assert gallery.products.tolist() == ["", *["fruit/apple"] * 2, *["fruit/pear"] * 2, "tins/beans"]
    assert gallery.categories.tolist() == ["", *["fruit"] * 4, "tins"]
    expected = searching.features(models, searching.prepare(models, drawn_photo(2))[None])
    np.testing.assert_allclose(gallery.embedding[3], expected[0][0], atol=1e-2)
    np.testing.assert_allclose(gallery.local[3], expected[1][0], atol=0.1)
    assert not list((tmp_path / "index").glob("*partial*"))
    assert searching.search(models, gallery, drawn_photo(2)).rows[0] == 3


def test_only_what_changed_is_computed(folder, tmp_path, models, computed):
    update = lambda: index.update(folder, tmp_path / "index", models, "mini")  # noqa: E731
    update()
    assert sum(computed) == 6
    computed.clear()
    assert update().kept == 6
    assert computed == []

    os.utime(folder / "5.png", ns=(1, 1))  # touched: the same bytes
    (folder / "fruit/apple/0.png").rename(folder / "fruit/apple/renamed.png")
    (folder / "tins/beans/4.png").unlink()
    drawn_photo(9).save(folder / "fruit/pear/2.png")  # changed
    drawn_photo(10).save(folder / "new.png")
    summary = update()
    assert (summary.added, summary.changed, summary.removed, summary.kept) == (2, 1, 2, 3)
    assert sum(computed) == 2  # the changed and the new one
    gallery = index.open_index(tmp_path / "index", models).gallery
    for name, seed in (
        ("fruit/apple/renamed.png", 0),
        ("fruit/pear/2.png", 9),
        ("new.png", 10),
        ("5.png", 5),
    ):
        row = searching.search(models, gallery, drawn_photo(seed)).rows[0]
        assert gallery.names[row] == name


def test_a_file_that_is_left_out_counts_as_nothing_else(folder, tmp_path, models):
    update = lambda: index.update(folder, tmp_path / "index", models, "mini")  # noqa: E731
    update()
    (folder / "5.png").write_bytes(b"no photo any more")
    drawn_photo(11).save(folder / "cut.jpg")
    summary = update()
    assert (summary.added, summary.changed, summary.removed, summary.kept) == (1, 0, 1, 5)
    assert [entry.path for entry in summary.unreadable] == ["5.png"]
    drawn_photo(5).save(folder / "5.png")
    (folder / "cut.jpg").unlink()
    summary = update()
    assert (summary.added, summary.changed, summary.removed, summary.kept) == (1, 0, 1, 5)
    assert summary.unreadable == []


def test_an_interrupted_index_goes_on_where_it_stopped(folder, tmp_path, models, monkeypatch):
    whole, calls = searching.features, []

    def stop_in_the_second_shard(models, batch):
        calls.append(len(batch))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(models, batch)

    monkeypatch.setattr(index, "SHARD", 4)
    monkeypatch.setattr(searching, "features", stop_in_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        index.update(folder, tmp_path / "index", models, "mini")
    kept = next((tmp_path / "index").glob("features-*")) / "sha256"
    assert kept.stat().st_size == 32 * calls[0]
    monkeypatch.setattr(searching, "features", lambda m, b: calls.append(len(b)) or whole(m, b))
    done = calls[0]
    calls.clear()
    index.update(folder, tmp_path / "index", models, "mini")
    assert sum(calls) == 6 - done
    whole_index = index.open_index(tmp_path / "index", models).gallery
    monkeypatch.setattr(index, "SHARD", 256)
    index.update(folder, tmp_path / "other", models, "mini")
    again = index.open_index(tmp_path / "other", models).gallery
    assert again.names == whole_index.names
    np.testing.assert_allclose(again.embedding, whole_index.embedding, atol=1e-2)


def test_a_disk_that_fills_is_told_and_what_was_kept_counts(
    folder, tmp_path, models, computed, monkeypatch, capsys
):
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    monkeypatch.setattr(index, "SHARD", 2)
    plain, calls = feature_store.flush, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:  # in the second shard, of whose rows some are written
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(feature_store, "flush", full)
        assert main(["index", str(folder), "--output", str(tmp_path / "index")]) == 2
    assert "No space left on device: make room on the disk" in capsys.readouterr().err
    done = sum(computed)
    assert main(["index", str(folder), "--output", str(tmp_path / "index")]) == 0
    assert sum(computed) == done + 6 - 1  # the first shard holds one photo and the one that cannot be read
    gallery = index.open_index(tmp_path / "index", models).gallery
    for name, seed in (("5.png", 5), ("tins/beans/4.png", 4)):
        assert gallery.names[searching.search(models, gallery, drawn_photo(seed)).rows[0]] == name


def test_rows_that_were_cut_off_are_computed_again(folder, tmp_path, models, computed):
    index.update(folder, tmp_path / "index", models, "mini")
    features = next((tmp_path / "index").glob("features-*"))
    os.truncate(features / "global", (features / "global").stat().st_size - 3)
    drawn_photo(11).save(folder / "new.png")
    computed.clear()
    index.update(folder, tmp_path / "index", models, "mini")
    assert sum(computed) == 2  # the new one and the last
    gallery = index.open_index(tmp_path / "index", models).gallery
    for name, seed in (("new.png", 11), ("tins/beans/4.png", 4), ("5.png", 5)):
        assert gallery.names[searching.search(models, gallery, drawn_photo(seed)).rows[0]] == name


def test_a_photo_added_to_an_index_adds_its_row_alone(folder, tmp_path, models):
    index.update(folder, tmp_path / "index", models, "mini")
    files = [next((tmp_path / "index").glob("features-*")) / name for name in ("global", "local", "sha256")]
    before = [(path.read_bytes(), path.stat().st_ino) for path in files]
    drawn_photo(11).save(folder / "a.png")
    index.update(folder, tmp_path / "index", models, "mini")
    for path, (content, number) in zip(files, before, strict=True):
        grown = path.read_bytes()
        assert grown[: len(content)] == content
        assert len(grown) == len(content) * 7 // 6
        assert path.stat().st_ino == number
    assert index.open_index(tmp_path / "index", models).gallery.names[1] == "a.png"


def test_features_that_no_photo_has_any_more_are_given_up(folder, tmp_path, models, computed, monkeypatch):
    monkeypatch.setattr(index, "SHARD", 2)
    index.update(folder, tmp_path / "index", models, "mini")
    for place in ("fruit/apple/0", "fruit/apple/1", "fruit/pear/2", "fruit/pear/3"):
        (folder / f"{place}.png").unlink()
    index.update(folder, tmp_path / "index", models, "mini")
    (features,) = (tmp_path / "index").glob("features-*")
    assert (features / "sha256").stat().st_size == 32 * 2
    gallery = index.open_index(tmp_path / "index", models).gallery
    assert gallery.names == ["5.png", "tins/beans/4.png"]
    computed.clear()
    assert index.update(folder, tmp_path / "index", models, "mini").kept == 2
    assert computed == []
    assert gallery.names[searching.search(models, gallery, drawn_photo(4)).rows[0]] == "tins/beans/4.png"


def test_a_photo_that_grows_while_it_is_read_is_left_out_until_it_is_whole(
    folder, tmp_path, models, monkeypatch
):
    plain = index.read_photo

    def and_another_writes(path, name):
        if name == "5.png":
            drawn_photo(50, (60, 60)).save(path)
        return plain(path, name)

    monkeypatch.setattr(index, "read_photo", and_another_writes)
    summary = index.update(folder, tmp_path / "index", models, "mini")
    assert "5.png changed while it was read: index again" in [entry.fault for entry in summary.unreadable]
    monkeypatch.setattr(index, "read_photo", plain)
    assert index.update(folder, tmp_path / "index", models, "mini").added == 1
    assert "5.png" in index.open_index(tmp_path / "index", models).gallery.names


def test_a_large_index_is_searched_approximately_and_says_so(tmp_path, models, monkeypatch):
    measured, share_found = [], large_search.share_found
    monkeypatch.setattr(
        large_search, "share_found", lambda search: measured.append(search) or share_found(search)
    )
    monkeypatch.setattr(index, "LARGE", 1)
    monkeypatch.setattr(index, "NEW", 0.1)
    many = labelled_folder(tmp_path / "photos", products=12, photos=4)
    index.update(many, tmp_path / "index", models, "mini")
    opened = index.open_index(tmp_path / "index", models)
    assert opened.gallery.search is not None
    assert opened.share == 1.0  # one list: all are visited
    for at in range(2):  # the second time with features that came after the approximate index
        names = opened.gallery.names
        for seed in (0, 7, 47, 60)[: 3 + at]:
            found = searching.search(models, opened.gallery, drawn_photo(seed))
            assert names[found.rows[0]] == (f"p{seed // 4}/{seed % 4}.png" if seed < 60 else "late.png")
            assert len(set(found.rows)) == len(names)
            assert (np.diff(found.similarities) <= 0).all()
        drawn_photo(60).save(many / "late.png")
        index.update(many, tmp_path / "index", models, "mini")
        opened = index.open_index(tmp_path / "index", models)
    assert len(list((tmp_path / "index").glob("approximate-*"))) == 1
    assert len(measured) == 1  # when the approximate index was built


def test_other_models_are_refused_and_index_anew(folder, tmp_path, models, computed):
    index.update(folder, tmp_path / "index", models, "mini")
    other = small_models(seed=1)
    with pytest.raises(
        ValueError, match="made with other models .random.: make it again with `python -m waldo"
    ):
        index.open_index(tmp_path / "index", other)
    computed.clear()
    index.update(folder, tmp_path / "index", other, "mini")
    assert sum(computed) == 6
    index.open_index(tmp_path / "index", other)


def test_damage_and_wrong_folders_are_one_line(folder, tmp_path, models):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        index.update(tmp_path / "nowhere", tmp_path / "index", models, "mini")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no photo"):
        index.update(tmp_path / "empty", tmp_path / "index", models, "mini")
    (tmp_path / "empty" / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="none of the 1 photos"):
        index.update(tmp_path / "empty", tmp_path / "index", models, "mini")
    with pytest.raises(FileExistsError, match="holds files that are no index"):
        index.update(folder, folder / "fruit", models, "mini")
    with pytest.raises(FileNotFoundError, match="holds no index"):
        index.open_index(tmp_path / "index", models)
    index.update(folder, tmp_path / "index", models, "mini")
    array = next((tmp_path / "index").glob("features-*")) / "local"
    array.write_bytes(array.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        index.open_index(tmp_path / "index", models)
    assert index.update(folder, tmp_path / "index2", models, "mini").added == 6
    (tmp_path / "index" / "index.json").write_text("{")
    with pytest.raises(ValueError, match="index.json is damaged"):
        index.open_index(tmp_path / "index", models)


def test_labelled_folders_get_a_threshold(tmp_path, models):
    for product in range(10):
        place = tmp_path / "photos" / f"p{product}"
        place.mkdir(parents=True)
        for photo in range(2):
            drawn_photo(product * 2 + photo).save(place / f"{photo}.png")
    index.update(tmp_path / "photos", tmp_path / "index", models, "mini")
    threshold = index.open_index(tmp_path / "index", models).threshold
    assert (threshold.queries, threshold.products) == (20, 10)
    assert 0 <= threshold.false_accept <= 1


def test_models_that_rerank_nothing_are_the_reason_why_nothing_is_told(tmp_path, models, monkeypatch, capsys):
    monkeypatch.setattr(searching, "open_models", lambda name: replace(models, reranker=None))
    photos = labelled_folder(tmp_path / "photos", products=12)
    assert main(["index", str(photos), "--output", str(tmp_path / "index")]) == 0
    assert main(["search", str(photos / "p0" / "0.png"), "--index", str(tmp_path / "index")]) == 0
    printed = capsys.readouterr().out
    assert "because these models rerank nothing: `python -m waldo_utils run --profile mini` trains" in printed
    assert "`python -m waldo_utils index FOLDER --model mini`" in printed
    assert "ten products" not in printed


def test_the_command_line_indexes_and_searches(folder, tmp_path, models, monkeypatch, capsys):
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    monkeypatch.setattr(index_files, "HOME", tmp_path / "home")
    photo = str(folder / "fruit/pear/3.png")
    assert main(["search", photo]) == 2
    assert "there is no index yet" in capsys.readouterr().err
    assert main(["index", str(folder)]) == 0
    assert "left out: cut.jpg" in capsys.readouterr().out
    picture = tmp_path / "grid.png"
    arguments = ["search", photo, "--crop", "0,0,999,999", "--top", "3", "--json", "--output", str(picture)]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["models"] == "random"
    assert answer["crop"] == [0, 0, 48, 40]
    assert answer["in catalogue"] is None
    assert len(answer["matches"]) == 3
    assert {match["name"] for match in answer["matches"]} <= set(
        index.open_index(index_files.newest(), models).gallery.names
    )
    with Image.open(picture) as grid:
        assert grid.width > 100
    assert main(["search", photo, "--crop", "500,500,10,10"]) == 2
    assert "holds nothing of the photo (48 x 40 pixels)" in capsys.readouterr().err
    assert main(["search", str(folder / "notes.txt")]) == 2
    assert "cannot be read as a photo" in capsys.readouterr().err
    assert main(["search", photo, "--top", "2"]) == 0
    printed = capsys.readouterr().out
    assert "models: random" in printed
    assert "global rank" in printed


def labelled_folder(root, products=10, photos=2):
    for product in range(products):
        place = root / f"p{product}"
        place.mkdir(parents=True)
        for photo in range(photos):
            drawn_photo(product * photos + photo).save(place / f"{photo}.png")
    return root


def test_what_a_system_or_a_phone_adds_is_no_product_and_is_told(
    folder, tmp_path, models, monkeypatch, capsys
):
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    for place in ("fruit/apple/@eaDir/0.png", "__MACOSX/fruit", ".thumbnails"):
        (folder / place).mkdir(parents=True)
        drawn_photo(7).save(folder / place / "SYNOPHOTO_THUMB_M.jpg")
    drawn_photo(8).save(folder / "fruit/pear/IMG_8", "JPEG")
    (tmp_path / "elsewhere").mkdir()
    drawn_photo(9).save(tmp_path / "elsewhere" / "9.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert main(["index", str(folder), "--output", str(tmp_path / "index")]) == 0
    printed = capsys.readouterr().out
    assert (
        "passed over: 2 hidden (.hidden.jpg, .thumbnails); 1 no photos (notes.txt); 2 of the system"
        in printed
    )
    gallery = index.open_index(tmp_path / "index", models).gallery
    assert set(gallery.products) == {"fruit/apple", "fruit/pear", "tins/beans", "linked", ""}
    assert {"fruit/pear/IMG_8", "linked/9.png"} < set(gallery.names)
    record = json.loads((tmp_path / "index" / "index.json").read_text())
    assert record["passed"]["of the system"] == ["__MACOSX", "fruit/apple/@eaDir"]


def test_two_updates_of_one_index_go_one_after_the_other(folder, tmp_path, models, monkeypatch, capsys):
    from waldo_utils.disk import locks

    monkeypatch.setattr(searching, "open_models", lambda study: models)
    arguments = ["index", str(folder), "--output", str(tmp_path / "index")]
    with locks.hold(tmp_path / "index" / ".lock"):
        assert main(arguments) == 1
    assert f"process {os.getpid()} on " in capsys.readouterr().err
    assert main(arguments) == 0
    drawn_photo(20).save(folder / "late.png")
    assert main(arguments) == 0
    assert "late.png" in index.open_index(tmp_path / "index", models).gallery.names


def test_a_photo_that_is_gone_has_a_placeholder_and_a_line(folder, tmp_path, models, monkeypatch, capsys):
    monkeypatch.setattr(searching, "open_models", lambda study: models)
    drawn_photo(3).save(tmp_path / "query.png")
    output = tmp_path / "index"
    index.update(folder, output, models, "mini")
    (folder / "fruit/pear/3.png").unlink()
    search = [
        "search",
        str(tmp_path / "query.png"),
        "--index",
        str(output),
        "--output",
        str(tmp_path / "m.png"),
    ]
    assert main([*search, "--json"]) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["matches"]) == 6
    line = (
        f"1 of these photos are not in {folder} any more, the first fruit/pear/3.png: index the folder, "
        "or its new"
    )
    assert line in printed.err
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.width > 100
    (folder / "tins/beans/4.png").write_bytes(
        (folder / "tins/beans/4.png").read_bytes()[:60]
    )  # begins as one
    assert main(search) == 0
    line = (
        "fruit/pear/3.png; 1 of these photos cannot be read any more, the first tins/beans/4.png: index the"
    )
    assert line in capsys.readouterr().err
    folder.rename(tmp_path / "renamed")
    assert main(search) == 0
    assert "6 of these photos are not in" in capsys.readouterr().err


def test_an_index_moved_together_with_its_photos_finds_them(folder, tmp_path, models):
    index.update(folder, tmp_path / "index", models, "mini")
    there = tmp_path / "there"
    there.mkdir()
    folder.rename(there / "photos")
    (tmp_path / "index").rename(there / "index")
    opened = index.open_index(there / "index", models)
    assert opened.folder == there / "photos"
    row = opened.gallery.names.index("fruit/apple/0.png")
    assert np.array_equal(np.asarray(opened.gallery.photo(row)), np.asarray(drawn_photo(0)))


def test_an_unchanged_index_opens_no_models(folder, tmp_path, models, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(searching, "open_models", lambda study: opened.append(study) or models)
    arguments = ["index", str(folder), "--output", str(tmp_path / "index")]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert len(opened) == 1
    assert "0 added, 0 changed, 0 removed, 6 as before, 1 left out" in capsys.readouterr().out
    changes = (
        lambda: drawn_photo(30).save(folder / "new.png"),
        lambda: (folder / "new.png").unlink(),
        lambda: os.utime(folder / "cut.jpg", ns=(1, 1)),
        lambda: (folder / "more.txt").touch(),
        lambda: (next((tmp_path / "index").glob("features-*")) / "local").unlink(),
        lambda: monkeypatch.setattr(index_files, "models_key", lambda study: "of other weights"),
    )
    for number, change in enumerate(changes, start=2):
        change()
        assert index_files.unchanged(folder, tmp_path / "index", "efficientnet_lite0") is None, number
        main(arguments)
        assert len(opened) == number
    assert index_files.unchanged(folder, tmp_path / "index", "smoke") is None


def test_to_see_that_an_index_is_unchanged_needs_no_torch():
    code = "import sys; from waldo_utils.app import index_files; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
        == 0
    )


def test_the_key_of_the_models_changes_with_weights_and_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(index_files, "WORK", tmp_path)
    keys = [index_files.models_key("mini")]
    for path in (
        "data/mini/global/seed0/weights.safetensors",
        "data/mini/reranker/log.csv",
        "data/mini/global/seed0/weights.json",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
        keys.append(index_files.models_key("mini"))
    (tmp_path / "data/runs/mine").mkdir(parents=True)
    for content in ("x", "longer"):
        (tmp_path / "data/runs/mine/weights.safetensors").write_text(content)
        keys.append(index_files.models_key("runs/mine"))
    keys.append(index_files.models_key("smoke"))
    assert len(set(keys)) == len(keys)
    assert index_files.models_key("mini") == keys[3]


def test_calibration_reranks_no_more_for_a_product_of_many_photos(tmp_path, models, monkeypatch):
    many = labelled_folder(tmp_path / "photos", products=12, photos=2)
    for photo in range(2, 60):
        drawn_photo(100 + photo).save(many / "p0" / f"{photo}.png")
    pairs, plain = [], rejection.reranking.rerank_scores

    def count(reranker, query, gallery, neighbors):
        pairs.append(neighbors.size)
        return plain(reranker, query, gallery, neighbors)

    monkeypatch.setattr(rejection.reranking, "rerank_scores", count)
    index.update(many, tmp_path / "index", models, "mini")
    gallery = index.open_index(tmp_path / "index", models).gallery
    queries = np.arange(len(gallery))
    pairs.clear()
    found = rejection.ask(models, gallery, queries, depth=5)
    assert sum(pairs) <= len(queries) * 2 * 5
    everything = np.tile(queries, (len(queries), 1))
    scores = plain(models.reranker, gallery.local, gallery.local, everything)
    similarities = gallery.embedding @ gallery.embedding.T
    for i in queries:
        for kept, rows in (
            (queries != i, found.present),
            (gallery.products != gallery.products[i], found.absent),
        ):
            near = np.flatnonzero(kept)[np.argsort(-similarities[i, kept], kind="stable")][:5]
            expected = rejection.evidence(similarities[i, near], scores[i, near], gallery.products[near])
            np.testing.assert_allclose(rows[i], expected, atol=1e-3)
