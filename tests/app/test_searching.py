"""Search by photo: boxes by hand, the search against the plain steps, a threshold against counts on paper."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small import drawn_photo, small_gallery, small_models

from waldo_utils.app import rejection, searching
from waldo_utils.app.searching import Gallery, Models
from waldo_utils.data.reading import read_photo
from waldo_utils.disk import artifacts
from waldo_utils.models import runs
from waldo_utils.models.image_model import ImageModel
from waldo_utils.retrieval import exact, reranking
from waldo_utils.study import PROFILES


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture(scope="module")
def gallery(models):
    return small_gallery(models)


# ---------------------------------------------------------------- boxes


@pytest.mark.parametrize(
    "box, expected",
    [
        ((10, 20, 30, 40), (10, 20, 30, 40)),
        ((-5, -5, 20, 20), (0, 0, 15, 15)),
        ((90, 70, 50, 50), (90, 70, 10, 10)),
        ((-10, -10, 500, 500), (0, 0, 100, 80)),
    ],
)
def test_a_box_is_clipped_to_the_photo(box, expected):
    assert searching.clip_box(box, (100, 80)) == expected


@pytest.mark.parametrize("box", [(100, 0, 10, 10), (0, 0, 0, 10), (-10, 0, 10, 10), (5, 5, 10, -2)])
def test_a_box_that_holds_nothing_is_refused(box):
    with pytest.raises(ValueError, match="holds nothing of the photo .100 x 80 pixels."):
        searching.clip_box(box, (100, 80))


def test_a_box_is_read_from_text():
    assert searching.parse_box("1,2,30,40") == (1, 2, 30, 40)
    for text in ("1,2,3", "1,2,3,x", "", "1,2,3,4,5"):
        with pytest.raises(ValueError, match="a crop is left,top,width,height"):
            searching.parse_box(text)


def test_the_crop_is_these_pixels():
    photo = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    assert np.asarray(searching.crop(photo, (1, 2, 3, 9))).tolist() == [[13, 14, 15], [19, 20, 21]]
    assert searching.crop(photo, None) is photo


# ---------------------------------------------------------------- search


def test_a_search_is_the_plain_steps(models, gallery):
    answer = searching.search(models, gallery, drawn_photo(2), box=(0, 0, 24, 40), depth=4)
    pixels = searching.prepare(models, drawn_photo(2).crop((0, 0, 24, 40)))
    embedding, local = searching.features(models, pixels[None])
    neighbors, similarities = exact.nearest_neighbors(embedding, 4, gallery.embedding)
    assert answer.rows.tolist() == neighbors[0].tolist()
    np.testing.assert_allclose(answer.similarities, similarities[0])
    scores = reranking.rerank_scores(models.reranker, local, gallery.local, neighbors)
    np.testing.assert_allclose(answer.scores, scores[0], atol=1e-5)
    left, right = (torch.from_numpy(x).float() for x in (local, gallery.local[neighbors[0]]))
    whole = models.reranker(left.expand(4, -1, -1, -1), right).detach().numpy()
    np.testing.assert_allclose(answer.scores, whole, atol=1e-4)
    assert answer.rows[answer.reranked].tolist() == exact.reorder(neighbors, answer.scores[None])[0].tolist()
    assert set(answer.seconds) == {"crop and resize", "features", "shortlist", "rerank"}


def test_a_photo_of_the_gallery_finds_itself_unless_left_out(models, gallery):
    assert searching.search(models, gallery, gallery.photo(3)).rows[0] == 3
    left_out = searching.search(models, gallery, gallery.photo(3), exclude=3)
    assert sorted(left_out.rows) == [0, 1, 2, 4, 5]
    assert len(searching.search(models, gallery, gallery.photo(3), exclude=3, depth=2).rows) == 2


def test_the_local_features_come_from_the_finetuned_model(models, gallery):
    other = small_models(seed=1)
    both = Models(models.shortlist, other.local, models.reranker, models.transform, 32, "", True, "")
    batch = searching.prepare(models, gallery.photo(0))[None]
    embedding, local = searching.features(both, batch)
    np.testing.assert_array_equal(embedding, searching.features(models, batch)[0])
    np.testing.assert_array_equal(local, searching.features(other, batch)[1])


def test_the_table_tells_both_ranks(models, gallery):
    answer = searching.Answer(
        gallery.photo(0), gallery.local[0], np.array([4, 0, 5]), np.array([0.9, 0.8, 0.7]),
        np.array([0.0, 2.0, 1.0]), {},
    )  # fmt: skip
    table = searching.matches(answer, gallery, top=2)
    assert table["row"].tolist() == [0, 5]
    assert table["global rank"].tolist() == [2, 3]
    assert table["change"].tolist() == [1, 1]
    assert table["product"].tolist() == ["a", ""]
    assert table["category"].tolist() == ["toy", ""]


def test_an_empty_gallery_and_broken_features_are_refused(models, gallery):
    nothing = Gallery(
        gallery.embedding[:0], gallery.local[:0], [], gallery.products[:0], gallery.categories[:0], None
    )
    with pytest.raises(ValueError, match="holds no photo to find"):
        searching.search(models, nothing, drawn_photo(0))
    with pytest.raises(ValueError, match="not finite"):
        searching.score(models, gallery.local[0] * np.float16(np.nan), gallery.local)


def test_the_benchmark_has_all_steps_and_their_shares(models, gallery):
    table = searching.benchmark(models, gallery, [drawn_photo(i) for i in range(4)], warm_up=1).set_index(
        "step"
    )
    assert table.index.tolist() == ["crop and resize", "features", "shortlist", "rerank", "total"]
    assert table.share[:-1].sum() == pytest.approx(1)
    assert (table["p50 ms"] <= table["p95 ms"]).all()


@pytest.mark.parametrize("source, product", [("rendered", "49"), ("sop", "49"), ("photos", "48")])
def test_a_product_is_named_as_in_its_list(models, monkeypatch, tmp_path, source, product):
    """Labels count from 0, as do those of other lists; those of Stanford's form from 1."""
    manifest = pd.DataFrame(
        {"path": ["bicycle_final/110000000049_0.JPG"], "label": 48, "category": "bicycle", "split": "test"}
    )
    manifest.to_csv(tmp_path / "manifest.csv")
    monkeypatch.setattr(searching.artifacts, "load_frame", lambda study, name: manifest)
    monkeypatch.setattr(searching.artifacts, "find", lambda study, name: tmp_path / "manifest.csv")
    monkeypatch.setattr(searching.artifacts, "data_folder", lambda study: tmp_path)
    cached = SimpleNamespace(subset=lambda rows: SimpleNamespace(image=None))
    monkeypatch.setattr(searching, "open_cache", lambda folder: cached)
    monkeypatch.setattr(searching, "average_maps", lambda *_: np.ones((1, 16)))
    study = replace(PROFILES["smoke"], data=replace(PROFILES["smoke"].data, source=source))
    assert searching.study_gallery(study, models, "test").products.tolist() == [product]


# ---------------------------------------------------------------- photos as phones write them


@pytest.mark.parametrize("orientation, size", [(1, (40, 30)), (6, (30, 40)), (8, (30, 40)), (3, (40, 30))])
def test_a_photo_is_upright(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(tmp_path / "x.jpg", exif=exif)
    assert read_photo(tmp_path / "x.jpg").size == size


# ---------------------------------------------------------------- not in the catalogue

# Margins of four queries, with their product in the gallery and without.
MARGINS = pd.DataFrame(
    {"product": list("abcd"), "present": [3.0, 2.0, 5.0, 1.2], "absent": [1.0, 0.0, 2.5, -1.0]}
)


def asked(queries=40, seed=0):
    """Evidence that the best similarity tells apart and the other three do not."""
    rng = np.random.default_rng(seed)
    present, absent = rng.normal(size=(2, queries, 4))
    present[:, 0] += 4
    return rejection.Asked(np.repeat([f"p{i}" for i in range(queries // 2)], 2), present, absent)


def test_evidence_is_four_numbers_of_a_search():
    similarities = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    scores = np.array([1.0, 5.0, 4.0, 2.0, 0.0, 3.0])
    products = np.array(["b", "a", "a", "b", "c", "c"])
    found = rejection.evidence(similarities, scores, products)
    assert found.tolist() == [0.9, 5.0, 2.0, 3.0]  # the second product is c at 3; (5 + 4 + 3 + 2 + 1) / 5
    alone = rejection.evidence(similarities, scores, np.array(["a"] * 6))
    assert alone[2] == 5.0  # against the last score


def test_the_curve_counts_both_errors():
    curve = rejection.curve(MARGINS)
    for row in curve.itertuples(index=False):
        threshold, accepted, refused = row
        assert accepted == sum(MARGINS.absent >= threshold) / 4
        assert refused == sum(MARGINS.present < threshold) / 4
    assert (curve["false accept"].iloc[0], curve["false reject"].iloc[0]) == (1, 0)
    assert (curve["false accept"].iloc[-1], curve["false reject"].iloc[-1]) == (0, 1)


def test_the_logistic_weights_are_those_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    present, absent = np.random.default_rng(0).normal(size=(2, 30, 3)) * [1.0, 20.0, 0.1]
    present += [0.5, 10.0, 0.0]
    rows = np.concatenate([present, absent])
    scale = rows.std(axis=0)
    target = np.repeat([1, 0], 30)
    fitted = linear_model.LogisticRegression(tol=1e-10).fit((rows - rows.mean(axis=0)) / scale, target)
    expected = fitted.coef_[0] / scale
    np.testing.assert_allclose(rejection.logistic_weights(present, absent), expected, rtol=1e-4, atol=1e-7)


def test_the_threshold_finds_the_evidence_that_tells_and_counts_on_products_it_has_not_seen():
    found = asked()
    threshold = rejection.choose_threshold(found)
    assert threshold.weights[0] > 3 * max(abs(weight) for weight in threshold.weights[1:])
    assert max(threshold.false_accept, threshold.false_reject) <= 0.15
    assert threshold.false_accept_low <= threshold.false_accept <= threshold.false_accept_high
    assert (threshold.queries, threshold.products) == (40, 20)
    margins = rejection.held_out_margins(found)
    assert (margins.absent >= 0).mean() == threshold.false_accept
    assert (margins.present < 0).mean() == threshold.false_reject
    # Without a difference the held-out rates say so, although one half can always be told apart a little.
    noise = rejection.Asked(found.products, found.absent, asked(seed=1).absent)
    useless = rejection.choose_threshold(noise)
    assert useless.false_accept + useless.false_reject > 0.7
    with pytest.raises(ValueError, match="needs queries of two products, got 1"):
        rejection.choose_threshold(rejection.Asked(found.products[:2], found.present[:2], found.absent[:2]))


def test_the_held_out_half_is_the_other_one():
    found = asked()
    half = np.isin(found.products, np.unique(found.products)[::2])
    first = rejection.choose_threshold(
        rejection.Asked(found.products[half], found.present[half], found.absent[half])
    )
    margins = rejection.held_out_margins(found)
    expected = found.present[~half] @ np.array(first.weights) - first.value
    np.testing.assert_allclose(margins.present[~half], expected)


def test_the_table_of_evidence_has_each_kind_alone():
    table = rejection.evidence_table(asked()).set_index("evidence")
    assert table.index.tolist() == ["best similarity", "best score", "all four"]
    assert table.AUROC["best similarity"] > 0.95 > 0.7 > table.AUROC["best score"]
    mean = (table["false accept"] + table["false reject"]) / 2
    assert table["mean error"].tolist() == mean.tolist()


def test_asking_leaves_the_product_out(models, gallery):
    found = rejection.ask(models, gallery, np.array([0, 2]), depth=6)
    for i, query in enumerate((0, 2)):
        answer = searching.search(models, gallery, gallery.photo(query), exclude=query)
        near = gallery.products[answer.rows]
        for row, keep in (
            (found.present[i], near != "none"),
            (found.absent[i], near != gallery.products[query]),
        ):
            expected = rejection.evidence(answer.similarities[keep], answer.scores[keep], near[keep])
            np.testing.assert_allclose(row, expected, atol=0.05)  # the gallery's features came in a batch
    with pytest.raises(ValueError, match="has no other photo"):
        rejection.ask(models, gallery, np.array([4]))
    assert rejection.labelled_rows(gallery.products, 10).tolist() == [0, 1, 2, 3]
    assert len(rejection.labelled_rows(gallery.products, 2)) == 2


def test_a_threshold_is_kept_with_the_models_it_belongs_to(models, gallery):
    threshold = rejection.choose_threshold(asked())
    table = rejection.table(threshold, models)
    assert rejection.from_table(table, models) == threshold
    assert rejection.from_table(table, small_models(seed=1)) is None
    assert rejection.from_table(table.drop(columns="weight of mean of five scores"), models) is None
    assert "probably not in the catalogue (0.10 below the threshold" in rejection.sentence(threshold, -0.1)
    assert rejection.sentence(threshold, 0.0).startswith("probably in the catalogue")
    assert "cannot be told, because no threshold was learned" in rejection.sentence(None, None)
    answer = searching.search(models, gallery, drawn_photo(1))
    own = rejection.evidence(answer.similarities, answer.scores, gallery.products[answer.rows])
    expected = sum(w * e for w, e in zip(threshold.weights, own, strict=True)) - threshold.value
    assert threshold.margin(answer, gallery) == pytest.approx(expected)


def test_joined_galleries_keep_rows_and_photos(models, gallery):
    joined = rejection.join(gallery, small_gallery(models, 2, ("x", "x")))
    assert joined.names[6:] == ["photo0.jpg", "photo1.jpg"]
    assert joined.products.tolist() == ["a", "a", "b", "b", "c", "", "x", "x"]
    assert np.array_equal(np.asarray(joined.photo(7)), np.asarray(gallery.photo(1)))


def test_without_trained_models_imagenet_s_network_gives_the_global_order(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    models = searching.open_models(PROFILES["smoke"])
    assert models.reranker is None
    assert "nothing trained" in models.weights
    gallery = small_gallery(models)
    assert gallery.embedding.shape == (6, 1280)
    assert gallery.local.shape[:2] == (6, 0)
    answer = searching.search(models, gallery, drawn_photo(2))
    assert answer.rows[0] == 2
    np.testing.assert_array_equal(answer.scores, answer.similarities)
    assert answer.reranked.tolist() == list(range(6))


def test_many_photos_have_the_features_of_each_alone(monkeypatch):
    models = small_models()
    batch = torch.stack([searching.prepare(models, drawn_photo(i)) for i in range(searching.MANY)])
    many = searching.features(models, batch)
    for i, photo in enumerate(batch):
        for value, alone in zip(many, searching.features(models, photo[None]), strict=True):
            np.testing.assert_allclose(value[i].astype(float), alone[0].astype(float), atol=2e-3)


@pytest.mark.parametrize(
    "name, words",
    [
        (
            "maxi",
            "there are no models 'maxi': choose one of resnet50, efficientnet_lite0, timm:NAME, "
            "runs/NAME, mini",
        ),
        ("runs/none", "there is no finished training runs/none: choose "),
        ("runs/../x", "'../x' is no name for a training"),
        ("timm:efficientnet_lite00", "timm has no network"),
    ],
)
def test_models_of_an_unknown_name_are_refused(name, words):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(words)):
        searching.open_models(name)


def test_a_training_of_one_s_own_is_opened_as_it_was_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "HOME", tmp_path)
    model = ImageModel("efficientnet_lite0", dim=None)
    facts = {"backbone": "efficientnet_lite0", "size": 64, "photos": 7, "folder": "mine"}
    folder = runs.save("best", model, facts)
    models = searching.open_models("runs/best")
    assert models.weights == "runs/best, trained on 7 photos of mine"
    assert (models.reranker, models.transform.crop, models.photo_size) == (None, 64, 64)
    for key, value in model.state_dict().items():
        assert torch.equal(models.shortlist.state_dict()[key], value)
    (folder / "run.json").write_text("[]")
    with pytest.raises(ValueError, match="run.json is damaged"):
        searching.open_models("runs/best")
