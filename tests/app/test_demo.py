"""The demo without its server: photos of visitors, searches with a box, matches, what matched where."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small import drawn_photo, small_gallery, small_models

from waldo_utils.app import demo, index, searching
from waldo_utils.app.rejection import Threshold
from waldo_utils.data.transforms import TestTransform
from waldo_utils.figures import explain, grids


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture
def opened(models):
    threshold = Threshold(0.0, (1.0, 0.0, 0.0, 0.0), 0.25, 0.2, 0.3, 0.125, 0.1, 0.2, 16, 8)
    return demo.Demo(models, small_gallery(models), threshold)


def encoded(photo, form, **options):
    buffer = io.BytesIO()
    photo.save(buffer, form, **options)
    return buffer.getvalue()


def part(found, order="reranked"):
    """Return the HTML of one of the two lists."""
    return re.search(f'<ol class="cards" data-order="{order}">(.*?)</ol>', found["html"], flags=re.S)[1]


# ---------------------------------------------------------------- what a visitor does


def test_an_example_leaves_itself_out_and_its_product_is_told(opened):
    found = opened.search("0", None)
    assert re.search(
        "Searched 6 photos with the whole photo in [0-9.]+ s: probably .* 16 queries", found["said"]
    )
    assert "25% of absent products accepted" in found["said"]
    for order in demo.TITLES:
        cards = part(found, order)
        assert cards.count("<li") == 5
        assert "photo0.jpg" not in cards
        assert cards.count("✓ same product") == 1 and cards.count("✗ other product") == 4
        assert len(re.findall(f'alt="{demo.TITLES[order]}, match [1-5]: ', cards)) == 5
    assert found["html"].index("After reranking") < found["html"].index('<details id="before">')


def test_the_reranked_list_tells_what_moved_and_the_global_one_where_to(opened, models):
    answer = searching.search(models, opened.gallery, opened.gallery.photo(0), None, 0)
    found = opened.search("0", None)
    names, changes = [
        re.findall(pattern, part(found)) for pattern in ('title="([^"]+)"', "score [-0-9.]+, ([^<]+)<")
    ]
    assert names == [opened.gallery.names[row] for row in answer.rows[answer.reranked]]
    for rank, (at, told) in enumerate(zip(answer.reranked, changes, strict=True)):
        moved = at - rank
        expected = f"▲ {moved} up, was {at + 1}" if moved > 0 else f"▼ {-moved} down, was {at + 1}"
        assert told.strip() == (expected if moved else "place kept")
    told = re.findall(r"reranked (\d)", part(found, "global"))
    assert [int(rank) - 1 for rank in told] == np.argsort(answer.reranked).tolist()


def test_a_box_is_searched_in_pixels_of_the_photo_and_cut_to_it(opened, models):
    photo = drawn_photo(2, size=(4000, 3000))
    given = opened.upload("phone.jpg", encoded(photo, "JPEG"))
    assert (given["width"], given["height"]) == (4000, 3000)
    assert Image.open(io.BytesIO(opened.picture(given["photo"]))).size == (1600, 1200)
    found = opened.search(given["photo"], (250, 200, 1000, 500))
    assert found["box"] == (250, 200, 1000, 500)
    assert "a box of 1000 x 500 pixels" in found["said"]
    read = opened._photo(given["photo"])[0]
    expected = searching.search(models, opened.gallery, read, (250, 200, 1000, 500))
    scores = [float(score) for score in re.findall("score ([-0-9.]+),", part(found))]
    np.testing.assert_allclose(scores, np.sort(expected.scores)[::-1], atol=0.006)
    assert "product" not in found["html"].replace("product a", "").replace("product b", "").replace(
        "product c", ""
    )
    assert opened.search(given["photo"], (3500, 2800, 1000, 500))["box"] == (3500, 2800, 500, 200)
    with pytest.raises(ValueError, match="The box holds nothing of the photo"):
        opened.search(given["photo"], (4000, 0, 10, 10))


@pytest.mark.parametrize(
    "photo, form",
    [
        (Image.new("RGBA", (60, 40), (255, 0, 0, 0)), "PNG"),
        (Image.new("L", (60, 40), 120), "PNG"),
        (Image.new("CMYK", (60, 40)), "JPEG"),
        (Image.new("RGB", (60, 40), "blue"), "WEBP"),
        (Image.new("P", (60, 40)), "GIF"),
    ],
)
def test_photos_of_all_kinds_are_searched(opened, photo, form):
    given = opened.upload(f"x.{form.lower()}", encoded(photo, form))
    assert (given["width"], given["height"]) == (60, 40)
    assert "Searched" in opened.search(given["photo"], None)["said"]


def test_a_turned_photo_is_upright_before_it_is_boxed(opened):
    exif = Image.Exif()
    exif[0x0112] = 6
    given = opened.upload("x.jpg", encoded(drawn_photo(1, (600, 400)), "JPEG", exif=exif))
    assert (given["width"], given["height"]) == (400, 600)
    assert Image.open(io.BytesIO(opened.picture(given["photo"]))).size == (400, 600)


def test_what_is_no_photo_is_refused_with_a_line_that_says_why(opened):
    with pytest.raises(
        ValueError, match=r"notes.txt cannot be read as a photo \(it is none of JPEG.*another file.$"
    ):
        opened.upload("notes.txt", b"not a photo")
    whole = encoded(drawn_photo(1, (600, 400)), "JPEG")
    with pytest.raises(ValueError, match=r"cut.jpg cannot be read as a photo \((?!it is none)"):
        opened.upload("cut.jpg", whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="IMG_1.HEIC is a HEIC photo.*export it as JPEG"):
        opened.upload("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_the_oldest_photos_go_when_there_is_no_room_and_are_told_as_unknown(opened, monkeypatch):
    content = encoded(drawn_photo(1), "PNG")
    first = opened.upload("x.png", content)["photo"]
    monkeypatch.setattr(demo, "MOST_KEPT", int(2.5 * opened._kept()))
    second = opened.upload("x.png", content)["photo"]
    assert second != first
    opened.search(first, None)  # asked for last, it stays
    opened.upload("x.png", content)
    assert "Searched" in opened.search(first, None)["said"]
    with pytest.raises(demo.UnknownPhoto, match="choose it again"):
        opened.search(second, None)
    monkeypatch.setattr(demo, "MOST_KEPT", 1)  # one photo always has room
    assert "Searched" in opened.search(opened.upload("x.png", content)["photo"], None)["said"]


def test_names_are_no_markup(models):
    gallery = replace(small_gallery(models), names=['<b>"x".jpg'] * 6, products=np.full(6, ""))
    opened = demo.Demo(models, gallery, None)
    html = opened.search("0", None)["html"]
    assert html.count("&lt;b&gt;&#34;x") >= 10 and html.count("<b>") == 10  # the ranks
    assert "&lt;b&gt;" in opened.page(1)


def test_a_photo_that_was_deleted_shows_as_such_and_does_not_end_the_answer(models):
    gone = set()
    opened = demo.Demo(models, small_gallery(models), None, gone.__contains__)
    gone.add(1)
    cards = part(opened.search("0", None))
    assert cards.count("no longer a photo in its folder") == 1
    assert 'src="thumbnail/1"' not in cards and cards.count("<img") == 4
    assert cards.count("<button") == 4
    with pytest.raises(ValueError, match="photo1.jpg is no photo in its folder any more"):
        opened.compare("0", None, 1)
    with pytest.raises(ValueError, match="photo1.jpg is no photo in its folder any more"):
        opened.example(1)
    assert 0 not in demo.Demo(models, small_gallery(models), None, lambda row: row == 0).examples


def test_a_match_is_compared_with_what_was_searched(opened):
    picture = Image.open(io.BytesIO(opened.compare("0", (0, 0, 20, 20), 1)))
    assert picture.format == "PNG" and picture.width > 700
    assert picture.tobytes() != Image.open(io.BytesIO(opened.compare("0", None, 1))).tobytes()


def test_examples_are_of_different_categories_and_have_something_to_find(models):
    gallery = small_gallery(models, 6, ("a", "a", "b", "b", "c", ""))
    assert demo.examples(gallery) == [0, 2]
    assert demo.examples(gallery, 1) == [0]
    assert demo.examples(small_gallery(models, 6, [""] * 6), 4) == [0, 1, 2, 3]


def test_an_index_is_opened_with_its_photos(models, tmp_path):
    for i in range(4):
        (tmp_path / "photos" / f"p{i // 2}").mkdir(parents=True, exist_ok=True)
        drawn_photo(i).save(tmp_path / "photos" / f"p{i // 2}" / f"{i}.png")
    index.update(tmp_path / "photos", tmp_path / "index", models, "smoke")
    opened = demo.open_folder(tmp_path / "index", models)
    assert opened.examples == [0, 2]
    assert "product p0" in part(opened.search("0", None))
    (tmp_path / "photos" / "p0" / "1.png").unlink()
    (tmp_path / "photos" / "p1" / "2.png").write_bytes(b"no photo any more")
    assert part(opened.search("0", None)).count("no longer a photo in its folder") == 2


# ---------------------------------------------------------------- what matched where


def test_attention_is_that_of_the_first_layer(models):
    query, gallery = torch.randn(2, 16, 2, 3, generator=torch.Generator().manual_seed(0)).numpy()
    attention = explain.patch_attention(models.reranker, query, gallery)
    assert attention.to_gallery.shape == (6, 6)
    assert attention.query_heat.shape == (2, 3)
    layer = models.reranker.encoder.layers[0].self_attn
    tokens = models.reranker.sequence(torch.from_numpy(query)[None], torch.from_numpy(gallery)[None])[0]
    q, k, _ = (tokens @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, dim=1)
    heads = [
        torch.softmax(q[:, 8 * head : 8 * head + 8] @ k[:, 8 * head : 8 * head + 8].T / 8**0.5, dim=1)
        for head in range(2)
    ]
    weights = ((heads[0] + heads[1]) / 2).detach().numpy()
    np.testing.assert_allclose(attention.to_gallery, weights[1:7, 8:14], atol=1e-6)
    np.testing.assert_allclose(attention.to_query, weights[8:14, 1:7], atol=1e-6)
    with pytest.raises(ValueError, match="make both with one model"):
        explain.patch_attention(models.reranker, query, gallery[:, :1])


def test_links_are_mutual_and_strongest_first():
    to_gallery = np.array([[0.9, 0.1], [0.3, 0.4]])
    to_query = np.array([[0.4, 0.1], [0.2, 0.9]])  # rows are gallery patches
    attention = explain.PatchAttention(to_gallery, to_query, (1, 2))
    # strengths: (0,0) sqrt(0.9 * 0.4), (0,1) sqrt(0.1 * 0.2), (1,0) sqrt(0.3 * 0.1), (1,1) sqrt(0.4 * 0.9)
    assert [(i, j) for i, j, _ in attention.links()] == [(0, 0), (1, 1)]
    assert attention.links(1)[0][2] == pytest.approx(0.6)
    np.testing.assert_allclose(attention.query_heat, [[1.0, 0.7]])
    lonely = explain.PatchAttention(np.array([[0.9, 0.1], [0.8, 0.1]]), np.full((2, 2), 0.5), (1, 2))
    assert [(i, j) for i, j, _ in lonely.links()] == [(0, 0)]  # patch 1 likes 0 best, which likes 0 more


def test_patch_centers_count_the_rim_that_is_cropped():
    transform = TestTransform(128, 112)  # 8 pixels of rim; 7 patches of 16
    assert explain.patch_center(0, (7, 7), (128, 128), transform) == (16, 16)
    assert explain.patch_center(48, (7, 7), (256, 128), transform) == (224, 112)
    assert explain.patch_center(7, (7, 7), (128, 128), transform) == (16, 32)


def test_figures_are_drawn(models, opened):
    answer = searching.search(models, opened.gallery, opened.gallery.photo(0), None, 0)
    table = searching.matches(answer, opened.gallery)
    photos = [opened.gallery.photo(row) for row in table["row"]]
    for label in (None, "a"):
        figure = grids.answer_grid(answer.query, photos, table, label)
        assert len(figure.axes) == 6
    attention = explain.patch_attention(models.reranker, answer.local, opened.gallery.local[1])
    figure = explain.match_figure(answer.query, photos[0], attention, models.transform)
    assert len(figure.axes) == 2


def test_an_untrained_network_has_one_list_and_nothing_to_compare(models):
    untrained = replace(models, reranker=None)
    opened = demo.Demo(untrained, small_gallery(untrained), None)
    found = opened.search("0", None)
    assert "because these models rerank nothing" in found["said"]
    html = found["html"]
    assert demo.ALONE in html
    assert (
        html.count("<ol") == 1
        and "<button" not in html
        and "reranked" not in html.replace('data-order="reranked"', "")
    )
    with pytest.raises(ValueError, match="An untrained network has no reranker"):
        opened.compare("0", None, 1)
