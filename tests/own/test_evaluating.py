"""An evaluation of one's own photos: the study's own figures, products of one photo, copies, suspicions, and
bad lists."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from small import drawn_photo, small_models

from waldo_utils.__main__ import main
from waldo_utils.app import index_files, searching
from waldo_utils.evaluation import metrics
from waldo_utils.experiments import methods
from waldo_utils.own import evaluating, suspicions
from waldo_utils.retrieval import exact, reranking


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture
def home(tmp_path, models, monkeypatch):
    monkeypatch.setattr(index_files, "HOME", tmp_path / "data" / "indexes")
    monkeypatch.setattr(searching, "open_models", lambda name: models)
    monkeypatch.setattr(evaluating, "RESAMPLES", 200)


def noisy(seed, product):
    """A photo of a product: its drawn picture with some of another in it."""
    base = np.asarray(drawn_photo(product), np.float32)
    other = np.asarray(drawn_photo(1000 + seed), np.float32)
    from PIL import Image

    return Image.fromarray((0.55 * base + 0.45 * other).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Eight products of three photos in two categories, one of one photo, one photo of none."""
    root = tmp_path / "photos"
    for product in range(8):
        place = root / ("tins" if product % 2 else "fruit") / str(product)
        place.mkdir(parents=True)
        for photo in range(3):
            noisy(10 * product + photo, product).save(place / f"{photo}.png")
    (root / "fruit" / "alone").mkdir()
    drawn_photo(500).save(root / "fruit" / "alone" / "0.png")
    drawn_photo(501).save(root / "loose.png")
    return root


def test_the_figures_are_those_of_the_study_s_own_tables(folder, models, home):
    found = evaluating.evaluate(folder, models, "efficientnet_lite0")
    names, products = found.gallery.names, found.gallery.products
    photos = torch.stack([searching.prepare(models, found.gallery.photo(row)) for row in range(len(names))])
    embedding, local = searching.features(models, photos)
    neighbors, _ = exact.nearest_neighbors(embedding, len(names) - 1)
    scores = reranking.rerank_scores(models.reranker, local, local, neighbors)
    orders = {"global descriptor": [neighbors], "reranked": [exact.reorder(neighbors, scores)]}
    labels = pd.factorize(products)[0]
    hits = methods.every_hit(orders, labels)
    asked = np.flatnonzero(pd.Series(products).map(pd.Series(products).value_counts()) > 1)
    assert len(asked) == 24
    for method, (run,) in hits.items():
        row = found.figures[found.figures.method == method].iloc[0]
        relevant = metrics.relevant_counts(labels)[asked]
        values = metrics.per_query(run[asked], relevant, (1, 5, 10))
        for name, value in values.items():
            assert row[name] == pytest.approx(value.mean(), abs=1e-9), (method, name)
            low, high = metrics.bootstrap_interval(value[:, None], labels[asked], 200)
            assert (row[f"{name} low"], row[f"{name} high"]) == pytest.approx((low[0], high[0]), abs=1e-9)
    assert 0 < found.figures["R@1"].iloc[0] < 1  # else nothing was compared
    assert found.facts["products of one photo"] == 1
    assert found.facts["photos without a product"] == 1
    table = found.categories.set_index("category")
    assert table.queries.to_dict() == {"fruit": 12, "tins": 12}
    assert table["R@1"].mean() == pytest.approx(found.figures["R@1"].iloc[-1])


def test_what_is_passed_over_is_told(folder, home, tmp_path, capsys):
    (folder / "fruit" / "@eaDir").mkdir()
    (folder / "film.mp4").touch()
    line = "passed over: 1 no photos (film.mp4); 1 of the system (fruit/@eaDir)\n"
    assert main(["evaluate", str(folder), "--output", str(tmp_path / "page")]) == 0
    assert capsys.readouterr().out.count(line) == 1
    assert main(["search", "--many", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.err.count(line) == 1
    assert "passed over" not in printed.out  # which is the table
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "film.mp4").touch()
    assert main(["search", "--many", str(tmp_path / "empty")]) == 2
    assert (
        "empty holds no photo (passed over: 1 no photos (film.mp4)): choose another"
        in capsys.readouterr().err
    )


def test_exact_copies_are_told_apart(folder, models, home):
    for product in (0, 2):
        content = (folder / "fruit" / str(product) / "0.png").read_bytes()
        (folder / "fruit" / str(product) / "copy.png").write_bytes(content)
    found = evaluating.evaluate(folder, models, "efficientnet_lite0")
    assert found.facts["photos that are exact copies of another"] == 2
    table = found.figures.set_index(["method", "photos"])["R@1"].unstack()
    assert table["all"]["global descriptor"] > table["exact copies left out"]["global descriptor"]


def test_a_photo_under_two_products_is_suspected(folder, models, home):
    content = (folder / "fruit" / "0" / "0.png").read_bytes()
    (folder / "tins" / "1" / "same.png").write_bytes(content)
    found = evaluating.evaluate(folder, models, "efficientnet_lite0").suspicions
    near = found["near-identical photos under two products"][0]
    assert {near["first"], near["second"]} == {"fruit/0/0.png", "tins/1/same.png"}
    assert near["similarity"] == pytest.approx(1)


@pytest.mark.parametrize("last, parts", [(4, [["a", "b"], ["c", "d"]]), (0, None)])
def test_a_product_whose_halves_do_not_find_each_other_is_suspected(last, parts):
    gallery = type("G", (), {"names": list("abcdef"), "products": np.array([*"pppp", *"qq"], object)})
    labels = np.array([0, 0, 0, 0, 1, 1])
    neighbors = np.array([[1, 4, 5], [0, 4, 5], [3, 4, 5], [2, last, 5], [5, 0, 1], [4, 0, 1]])
    found = suspicions._two_things(gallery, neighbors, labels, np.arange(6))
    assert found == ([{"product": "p", "parts": parts}] if parts else [])


def test_a_photo_that_no_photo_of_its_product_matches_is_listed():
    gallery = type("G", (), {"names": list("abcd"), "products": np.array(["p", "p", "q", "q"], object)})
    neighbors = np.array([[2], [2], [3], [2]])
    labels = np.array([0, 0, 1, 1])
    same = labels[neighbors] == labels[:, None]
    found = suspicions._matched_by_nobody(gallery, neighbors, same, np.arange(4))
    assert [entry["photo"] for entry in found] == ["a", "b"]


def test_a_list_gives_what_its_folder_gives_and_numbers_are_names(folder, models, home, tmp_path, capsys):
    whole = evaluating.evaluate(folder, models, "efficientnet_lite0")
    names = [name for name in whole.gallery.names if name.count("/") == 2]
    rows = [
        {"path": f"photos/{n}", "product": "0" + n.split("/")[1], "category": n.split("/")[0]} for n in names
    ]
    pd.DataFrame(rows).assign(color="red").to_csv(tmp_path / "list.csv", index=False)
    listed = evaluating.evaluate(tmp_path / "list.csv", models, "efficientnet_lite0")
    assert len(listed.gallery) == 25
    assert "00" in set(listed.gallery.products)
    assert listed.facts["columns that were not used"] == ["color"]
    assert main(["evaluate", str(tmp_path / "list.csv"), "--output", str(tmp_path / "page")]) == 0
    printed = capsys.readouterr().out
    assert "products of one photo: 1" in printed
    content = json.loads((tmp_path / "page" / "evaluation.json").read_text())
    assert content["figures"][0]["R@1"] == listed.figures["R@1"][0]
    page = (tmp_path / "page" / "evaluation.html").read_text()
    assert "Worst queries" in page
    assert "data:image/png;base64" in page

    halves = pd.DataFrame(rows).assign(split=lambda t: np.where(t.category == "tins", "test", "train"))
    halves.to_csv(tmp_path / "halves.csv", index=False)
    half = evaluating.evaluate(tmp_path / "halves.csv", models, "efficientnet_lite0")
    assert set(half.gallery.categories) == {"tins"}
    assert half.facts["split"] == "test"


@pytest.mark.parametrize(
    "content",
    [
        'path, product\nphotos/loose.png, "x, y"\n',
        '\ufeff"path"; "product"\r\n"photos/loose.png"; "x, y"\r\n;\r\n',
        "Path|Product|\nphotos/loose.png | x, y|\n",
        "split\tproduct\tpath\ntest\tx, y\tphotos/loose.png\n\n",
    ],
)
def test_a_list_may_be_quoted_and_separated_as_programs_do(folder, tmp_path, content):
    (tmp_path / "list.csv").write_text(content, encoding="utf-8", newline="")
    (row,) = evaluating.read_list(tmp_path / "list.csv").to_dict("records")
    assert {"path": "photos/loose.png", "product": "x, y"}.items() <= row.items()
    assert row.keys() <= evaluating.COLUMNS


LISTS = {
    "": "starts with '' and lacks path, product",
    "file,class\na.png,1\n": "starts with 'file,class' and lacks path, product",
    "path:product\nphotos/loose.png:1\n": "starts with 'path:product' and lacks path, product: .* tabs or |",
    "path,product,color,Color\n": "name the column color once",
    "path,product\nphotos/a,b.png,1\n": "line 2 is 'photos/a,b.png,1': expected 2 fields .*, quoted where",
    'path,product\n\nphotos/loose.png,"x\n': "line 3 is 'photos/loose.png,\"x': expected 2 fields",
    "path,product\nphotos/loose.png\n": "line 2 is 'photos/loose.png': expected 2 fields",
    "path,product\n,1\n": "line 2 is ',1': expected 2 fields",
    "path,product\n": "lists no photo",
    "path,product\nno.png,1\nb.png,1\n": "2 photos of .* are not there, the first no.png",
    "path,product\nphotos/loose.png,1\nphotos/loose.png,1\n": "lists photos/loose.png twice",
    "path,product\nphotos/loose.png,1\n": "no product of .* has two photos",
    "path,product\nphotos/loose.png,1\nphotos/fruit/0/0.png,1\n": "holds a single product",
    "path,product,split\nphotos/loose.png,1,train\n": "no photo is of the split test, the list has train",
}


@pytest.mark.parametrize("content", LISTS)
def test_a_bad_list_is_refused_in_one_line(folder, models, home, tmp_path, content, capsys):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(ValueError, match=LISTS[content]):
        evaluating.evaluate(tmp_path / "list.csv", models, "efficientnet_lite0")


def test_evaluate_wants_a_folder_or_a_checkpoint(home, tmp_path, capsys):
    assert main(["evaluate"]) == 2
    assert "takes a FOLDER of photos, or --checkpoint" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "none")]) == 2
    assert "give a folder whose sub-folders name products" in capsys.readouterr().err


def test_many_photos_are_searched_into_one_table(folder, models, home, tmp_path, capsys):
    assert main(["index", str(folder)]) == 0
    (folder / "fruit" / "0" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    out = tmp_path / "matches.csv"
    assert main(["search", "--many", str(folder / "fruit" / "0"), "--top", "2", "--output", str(out)]) == 0
    assert "left out: cut.jpg" in capsys.readouterr().err
    table = pd.read_csv(out)
    assert table.groupby("photo").size().to_dict() == {f"{i}.png": 2 for i in range(3)}
    for arguments, words in (
        (["search"], "takes a PHOTO, or --many FOLDER"),
        (["search", "a.png", "--many", "b"], "takes a PHOTO, or --many FOLDER"),
        (["search", "--many", str(tmp_path / "none")], "is no folder"),
        (["search", "--many", str(folder), "--output", "x.png"], "ends in .csv"),
        (["search", "--many", str(folder), "--crop", "1,1,2,2"], "leave them out with --many"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err
