"""The demo without a browser: uploads, boxes set from Python, matches, what matched where."""

import datetime
import io
import re
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small import drawn_photo, small_gallery, small_models

from waldo_utils.app import canvas, demo, page, searching
from waldo_utils.app.rejection import Threshold
from waldo_utils.data.transforms import TestTransform
from waldo_utils.figures import explain, grids
from waldo_utils.run import pipeline
from waldo_utils.study import PROFILES


@pytest.fixture(scope="module")
def models():
    return small_models()


@pytest.fixture
def opened(models):
    threshold = Threshold(0.0, (1.0, 0.0, 0.0, 0.0), 0.25, 0.2, 0.3, 0.125, 0.1, 0.2, 16, 8)
    return demo.Demo(models, small_gallery(models), threshold, [0, 2])


def encoded(photo, form, **options):
    buffer = io.BytesIO()
    photo.save(buffer, form, **options)
    return buffer.getvalue()


def names(opened, order="reranked"):
    return [opened.gallery.names[opened.answer.rows[at]] for at in opened._places(order)]


# ---------------------------------------------------------------- what a visitor does


def test_the_first_example_is_searched_and_leaves_itself_out(opened):
    assert "photo0.jpg" not in names(opened)
    assert len(names(opened)) == 5
    assert re.search("Searched 6 photos with the whole photo in [0-9.]+ s: probably", opened.status.value)
    cards = [card.value for card in opened.cards["reranked"]]
    assert sum("✓ same product" in card for card in cards) == 1
    assert sum("✗ other product" in card for card in cards) == 4
    assert all(re.search('alt="After reranking: by score, match [1-5]: ', card) for card in cards[:5])
    assert cards[5] == ""
    assert [button.disabled for button in opened.buttons["reranked"]] == [False] * 5 + [True] * 5


def test_a_box_drawn_on_the_canvas_is_searched_in_pixels_of_the_photo(opened, models):
    photo = drawn_photo(2, size=(4000, 3000))
    opened.open_upload("phone.jpg", encoded(photo, "JPEG"))
    shown = Image.open(io.BytesIO(opened.canvas.image_bytes))
    assert shown.size == (1600, 1200)
    assert opened.factor == 2.5
    opened.canvas.bboxes = [{"x": 100, "y": 80, "width": 400, "height": 200, "label": "crop"}]
    assert [side.value for side in opened.sides.values()] == [250, 200, 1000, 500]
    assert opened.answer.query.size == (1000, 500)
    expected = searching.search(models, opened.gallery, opened.photo, (250, 200, 1000, 500))
    np.testing.assert_allclose(opened.answer.scores, expected.scores)
    assert "✓" not in opened.cards["reranked"][0].value  # the product of an upload is not known


def test_the_last_drawn_box_counts_and_none_is_the_whole_photo(opened):
    first = {"x": 0, "y": 0, "width": 100, "height": 100, "label": "crop"}
    last = {"x": 240, "y": 200, "width": 120, "height": 100, "label": "crop"}
    opened.canvas.bboxes = [first, last]
    assert opened.canvas.bboxes == [last]
    assert [side.value for side in opened.sides.values()] == [
        24,
        20,
        12,
        10,
    ]  # the photo is 48 x 40, shown at 480
    opened.canvas.bboxes = []
    assert opened.answer.query.size == (48, 40)


def test_a_drag_that_has_only_begun_is_left_alone(opened):
    box = {"x": 0, "y": 0, "width": 100, "height": 100, "label": "crop"}
    opened.canvas.bboxes = [box]
    before = opened.answer
    begun = [box, {"x": 200, "y": 200, "width": 0, "height": 0, "label": "crop"}]
    opened.canvas.bboxes = begun
    assert opened.answer is before
    assert opened.canvas.bboxes == begun
    assert "Searched" in opened.status.value
    wider = box | {"width": 300}
    opened.canvas.bboxes = [wider, begun[1]]  # a click left a dot; then the first box is resized
    assert opened.canvas.bboxes == [wider]
    assert opened.answer.query.size == (30, 10)


def test_the_numbers_move_the_box(opened):
    opened.sides["width"].value = 20
    opened.sides["left"].value = 8
    assert opened.canvas.bboxes == [{"x": 80.0, "y": 0.0, "width": 200.0, "height": 400.0, "label": "crop"}]
    assert opened.answer.query.size == (20, 40)
    opened.sides["left"].value = 40  # reaches out of the photo
    assert [side.value for side in opened.sides.values()] == [40, 0, 8, 40]
    opened.whole.click()
    assert opened.canvas.bboxes == []
    assert opened.answer.query.size == (48, 40)


def test_what_is_drawn_is_what_is_searched_also_when_a_box_holds_nothing(opened):
    box = {
        "x": 100,
        "y": 100,
        "width": 200,
        "height": 200,
        "label": "crop",
    }  # the photo is 48 x 40, shown at 480
    opened.canvas.bboxes = [box]
    before, sides = opened.answer, [side.value for side in opened.sides.values()]
    assert sides == [10, 10, 20, 20]
    opened.sides["left"].value = 500
    assert "The box holds nothing of the photo" in opened.status.value
    assert 'role="alert"' in opened.status.value
    opened.canvas.bboxes = [box | {"x": -300}]  # moved out of the photo
    assert "The box holds nothing of the photo" in opened.status.value
    assert opened.answer is before
    assert opened.canvas.bboxes == [box]
    assert [side.value for side in opened.sides.values()] == sides
    opened.canvas.bboxes = [box | {"x": 400}]  # reaches out of the photo
    assert opened.canvas.bboxes == [box | {"x": 400, "width": 80}]
    assert opened.answer.query.size == (8, 20)


def test_a_drag_that_comes_to_nothing_searches_nothing_and_is_told(opened):
    """The page drops a box of some pixels and counts it."""
    whole = opened.answer
    dot = {"x": 50, "y": 50, "width": 0, "height": 0, "label": "crop"}
    opened.canvas.bboxes = [dot]
    opened.canvas.set_state({"bboxes": [], "dropped": 1})
    assert opened.answer is whole
    assert "too small" in opened.status.value and "those of the whole photo" in opened.status.value
    box = {"x": 100, "y": 100, "width": 200, "height": 200, "label": "crop"}
    opened.canvas.bboxes = [box]
    boxed = opened.answer
    opened.canvas.bboxes = [box, dot]
    opened.canvas.set_state({"bboxes": [box], "dropped": 2})
    assert opened.answer is boxed
    assert "those of the box that is drawn" in opened.status.value
    opened.canvas.set_state({"bboxes": [], "dropped": 3})  # a box that was pressed together
    assert opened.answer.query.size == (48, 40)
    assert "those of the whole photo" in opened.status.value
    opened.canvas.bboxes = [box]  # the same as before is another search now
    assert opened.answer.query.size == (20, 20)


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
    opened.open_upload(f"x.{form.lower()}", encoded(photo, form))
    assert "Searched" in opened.status.value
    assert opened.photo.mode == "RGB"
    assert opened.photo.size == (60, 40)


def test_a_turned_photo_is_upright_before_it_is_boxed(opened):
    exif = Image.Exif()
    exif[0x0112] = 6
    opened.open_upload("x.jpg", encoded(drawn_photo(1, (600, 400)), "JPEG", exif=exif))
    assert opened.photo.size == (400, 600)
    assert Image.open(io.BytesIO(opened.canvas.image_bytes)).size == (400, 600)


def test_what_is_no_photo_gets_a_line_that_says_why_and_the_former_answer_goes(opened):
    opened.canvas.bboxes = [{"x": 10, "y": 10, "width": 200, "height": 200, "label": "crop"}]
    opened.choose("global", 0)
    opened.open_upload("<b>notes</b>.txt", b"not a photo")
    status = opened.status.value
    assert "&lt;b&gt;notes&lt;/b&gt;.txt cannot be read as a photo (it is none of JPEG" in status
    assert status.endswith("choose another file.</div>")
    assert opened.answer is opened.photo is None
    assert opened.canvas.bboxes == []
    assert opened.canvas.image_bytes == demo.EMPTY
    assert {card.value for order in demo.ORDERS for card in opened.cards[order]} == {""}
    assert [detail.value for detail in opened.details.values()] == ["", ""]
    opened.sides["left"].value = 4  # of nothing
    assert "There is no photo" in opened.status.value
    whole = encoded(drawn_photo(1, (600, 400)), "JPEG")
    opened.open_upload("cut.jpg", whole[: len(whole) // 2])
    assert "cut.jpg cannot be read as a photo (" in opened.status.value
    assert "none of" not in opened.status.value  # it is a JPEG
    opened.open_upload("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert "IMG_1.HEIC is a HEIC photo" in opened.status.value
    assert "export it as JPEG" in opened.status.value
    opened.example.value = 2
    assert "Searched" in opened.status.value


def test_the_same_file_again_is_searched_again(opened):
    content = encoded(drawn_photo(1), "PNG")
    file = {"name": "x.png", "type": "image/png", "size": len(content), "content": memoryview(content),
            "last_modified": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}  # fmt: skip
    opened.upload.value = (file,)
    first = opened.answer
    assert opened.upload.value == ()
    opened.upload.value = (file,)
    assert opened.answer is not first
    assert "Searched" in opened.status.value


def test_an_example_after_an_upload_can_be_the_same_as_before(opened):
    opened.open_upload("x.png", encoded(drawn_photo(1), "PNG"))
    assert opened.example.value == demo.NONE
    opened.example.value = 0
    assert "photo0.jpg" not in names(opened)


def test_choosing_a_match_shows_the_pair_below_the_cards_where_it_was_asked_for(opened):
    opened.choose("reranked", 1)
    pair = opened.details["reranked"]
    assert "query and match 2 (after reranking)" in pair.value
    assert re.search('alt="The query and match 2 .after reranking., .*numbered lines join', pair.value)
    assert (pair.layout.order, pair.layout.display) == ("3", "block")  # after the second card, of order 2
    opened.buttons["global"][0].click()
    assert pair.value == ""
    assert "match 1 (global model)" in opened.details["global"].value
    opened.choose("global", 9)  # there are five
    assert "match 1 (global model)" in opened.details["global"].value
    opened.set_box((0, 0, 20, 20))
    assert opened.details["global"].value == ""  # it was of another search


def test_examples_are_of_different_categories_and_have_something_to_find(models):
    gallery = small_gallery(models, 6, ("a", "a", "b", "b", "c", ""))
    assert demo.examples(gallery) == [0, 2]
    assert demo.examples(gallery, 1) == [0]


def test_the_box_widget_is_adapted_or_refused():
    module = canvas.PhotoBox._esm
    assert "annotate me" not in module
    assert 'event.key === "Tab"' in module
    assert module.count("export") == 1
    assert "zn.render({ model, el })" in canvas.adapted(
        'let a = "annotate me";\nexport {\n  zn as default\n};\n'
    )
    with pytest.raises(ValueError, match="of another form"):
        canvas.adapted("export default {}")


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
    table = searching.matches(opened.answer, opened.gallery)
    photos = [opened.gallery.photo(row) for row in table["row"]]
    for label in (None, "a"):
        figure = grids.answer_grid(opened.answer.query, photos, table, label)
        assert len(figure.axes) == 6
    attention = explain.patch_attention(models.reranker, opened.answer.local, opened.gallery.local[1])
    figure = explain.match_figure(opened.answer.query, photos[0], attention, models.transform)
    assert len(figure.axes) == 2


def test_an_untrained_network_has_nothing_to_compare_and_says_so(models):
    untrained = replace(models, reranker=None)
    opened = demo.Demo(untrained, small_gallery(untrained), None, [0, 2])
    assert names(opened) == names(opened, "global")
    opened.buttons["reranked"][0].click()
    assert "An untrained network has no reranker" in opened.status.value
    assert not any(detail.value for detail in opened.details.values())


# ---------------------------------------------------------------- the page


def test_the_page_is_the_tagged_cells_of_the_notebook(tmp_path, monkeypatch):
    import nbformat

    monkeypatch.setattr(page, "data_folder", lambda study: tmp_path)
    cells = nbformat.read(page.write_page(PROFILES["smoke"]), as_version=4).cells
    assert cells[0].source == "profile = 'smoke'"
    assert len(cells) == 3
    assert "open_demo(study)" in cells[-1].source


def test_the_page_template_asks_no_other_host(monkeypatch):
    pytest.importorskip("voila")
    from jinja2 import Environment, FileSystemLoader
    from voila.paths import collect_template_paths

    monkeypatch.setenv("JUPYTER_PATH", str(page.TEMPLATES))
    paths = collect_template_paths(["voila", "nbconvert"], "waldo", prune=True)
    assert paths[0].startswith(str(page.TEMPLATES))
    environment = Environment(loader=FileSystemLoader(paths), extensions=["jinja2.ext.i18n"])
    template = environment.get_template("index.html.j2")
    assert "notebook_css" in template.blocks
    assert "http" not in (page.TEMPLATES / "voila/templates/waldo/index.html.j2").read_text(encoding="utf-8")
    assert pipeline.STAGES[-1].stem == page.NOTEBOOK.stem


def test_a_port_that_is_taken_is_passed_over(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        free = page.free_port(taken)
        assert taken < free < taken + page.PORTS
        monkeypatch.setattr(page, "PORTS", 1)
        with pytest.raises(ValueError, match=f"no port from {taken} on is free"):
            page.free_port(taken)
    with pytest.raises(ValueError, match="up to 65535"):
        page.free_port(70_000)


def test_a_demo_without_photos_says_what_is_run_first_and_on_what_it_will_search(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(page, "data_folder", lambda study: tmp_path)
    monkeypatch.setattr(searching, "open_models", lambda study: small_models())
    monkeypatch.setattr(pipeline, "run", lambda study, only: print(f"[1/9] {only} ...") or 3)
    assert page.serve(PROFILES["smoke"], 8866, False) == 3
    said, run = capsys.readouterr().out.split("[1/9] ")
    assert run.startswith(pipeline.STAGES[0].stem)
    assert "models: random" in said
    assert f"notebook {pipeline.STAGES[0].stem} makes them first" in said
    assert "a minute or two" in said and "`make study PROFILE=smoke` runs the whole study" in said
