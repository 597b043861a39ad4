"""The demo as a page in a real browser: upload, drag, resize, choose a match, keyboard, no other host.

Models and photos are tiny and drawn here; the page and its server are the real ones.
"""

import importlib.util
import io
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from small import drawn_photo

from waldo_utils.app.demo_pictures import LOADED, PANELS, WIDTH, await_page, drag, session
from waldo_utils.study import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [name for name in ("playwright",) if importlib.util.find_spec(name) is None]
if CHROMIUM is None:
    MISSING.append("a chromium on the PATH")
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    # it depends on how fast a browser answers, so it is not part of `make test`
    pytest.mark.skipif("WALDO_BROWSER" not in os.environ, reason="asked for by `make test-browser`"),
]

CODE = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from small import small_gallery, small_models
from waldo_utils.app import demo, page
from waldo_utils.app.rejection import Threshold
models = small_models()
gallery = small_gallery(models, 10, list("aabbccddee"))
threshold = Threshold(0.0, (1.0, 0.0, 0.0, 0.0), 0.25, 0.2, 0.3, 0.125, 0.1, 0.2, 16, 8)
asyncio.run(page.serve_demo(demo.Demo(models, gallery, threshold), "127.0.0.1", int(sys.argv[1]), "/", False))
"""
SHOTS = os.environ.get("WALDO_SHOTS")  # a folder for screenshots, to look at
PATIENCE = 1000 * int(os.environ.get("WALDO_PATIENCE", 30))  # milliseconds; more on a busy machine


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", CODE, str(port)], env=environment, stdout=log, stderr=log, cwd=folder
        )
    try:
        await_page(server, port, PATIENCE / 1000)
        yield f"http://127.0.0.1:{port}/", server
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def visited(served):
    """The opened page, and the requests that it made of other hosts."""
    address, _ = served
    from playwright.sync_api import sync_playwright

    outside = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: _is_outside(request.url) and outside.append(request.url))
        page.goto(address)
        page.wait_for_selector(".card img")
        yield page, outside
        browser.close()


def _is_outside(url):
    return not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def _shot(page, name):
    if SHOTS:
        page.wait_for_timeout(500)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def _status(page, text):
    page.wait_for_function("text => document.getElementById('status').innerText.includes(text)", arg=text)


def _choose(page, example):
    page.evaluate("document.getElementById('status').textContent = ''")  # it tells of the former answer
    page.get_by_label("Example").select_option(index=example)
    _status(page, "with the whole photo")


def _upload(page, name, content):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a photo").click()
    chooser.value.set_files([{"name": name, "mimeType": "image/png", "buffer": content}])


def _side(page, name):
    return page.get_by_label(name, exact=True)


def _numbers(page):
    return [int(_side(page, name).input_value()) for name in ("left", "top", "width", "height")]


def _until(page, what):
    page.wait_for_function(what)


def test_a_visitor_uploads_drags_resizes_and_chooses(visited):
    page, outside = visited
    _status(page, "with the whole photo")
    assert page.locator(".card.same").count() == 2  # in both orders
    assert page.locator("#before .card img").first.is_hidden()
    cards = page.locator("[data-order=reranked] .card img")
    first = cards.first.bounding_box()
    row = [i for i in range(cards.count()) if cards.nth(i).bounding_box()["y"] == first["y"]]
    assert len(row) == 5 and first["width"] >= 160
    photo = page.locator("#photo").bounding_box()
    assert photo["x"] + photo["width"] < first["x"]
    page.get_by_text("Before reranking: by similarity").click()
    assert page.locator("#before .card img").first.is_visible()
    _shot(page, "1_start")

    buffer = io.BytesIO()
    drawn_photo(3, (1000, 800)).save(buffer, "PNG")
    _upload(page, "mine.png", buffer.getvalue())
    _until(page, "document.querySelectorAll('.card.same').length == 0 && document.querySelector('.card')")
    assert page.locator("#before .card img").first.is_visible()  # it stays open
    before = page.locator(".card p").all_inner_texts()
    _until(page, "document.getElementById('shown').naturalWidth == 1000")

    photo = page.locator("#photo").bounding_box()
    scale = photo["width"] / 1000
    corner = (photo["x"] + 200 * scale, photo["y"] + 100 * scale)
    end = (photo["x"] + 600 * scale, photo["y"] + 500 * scale)
    drag(page, corner, end)
    _status(page, "with a box of")
    left, top, width, height = _numbers(page)
    assert (left, top) == pytest.approx((200, 100), abs=4)
    assert (width, height) == pytest.approx((400, 400), abs=6)
    assert page.locator(".card p").all_inner_texts() != before
    _shot(page, "2_box")

    drag(page, end, (end[0] + 100 * scale, end[1] + 100 * scale))  # a corner
    _status(page, f"a box of {_numbers(page)[2]} x")
    assert _numbers(page) == pytest.approx([left, top, width + 100, height + 100], abs=8)
    drag(page, (photo["x"] + 400 * scale, photo["y"] + 300 * scale), (photo["x"], photo["y"] + 340 * scale))
    _until(page, "document.querySelector('#sides input').value == 0")  # the whole box, as far as the rim
    assert _numbers(page) == pytest.approx([0, top + 40, width + 100, height + 100], abs=8)
    drag(
        page,
        (photo["x"] + 250 * scale, photo["y"] + 140 * scale),
        (photo["x"] + 250 * scale, photo["y"] + 40 * scale),
    )
    _until(page, "document.querySelectorAll('#sides input')[1].value < 60")  # its upper edge
    assert _numbers(page) == pytest.approx([0, top - 60, width + 100, height + 200], abs=10)

    page.get_by_role("button", name="Compare 2", exact=True).first.click()
    pair = page.get_by_role("img", name="The query and match 2")
    pair.wait_for()
    _until(page, "document.querySelector('.pair img').naturalWidth > 0")
    assert pair.bounding_box()["width"] > 400
    _shot(page, "3_pair")

    assert outside == []
    alts = page.eval_on_selector_all("img", "pictures => pictures.map(picture => picture.alt)")
    assert len(alts) == 22
    assert all(len(alt) > 10 for alt in alts)
    page.get_by_text("Before reranking: by similarity").click()


def test_the_keyboard_is_enough(visited):
    page, _ = visited
    _side(page, "left").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("10")
    page.keyboard.press("Tab")
    _status(page, "with a box of")
    assert page.evaluate("document.activeElement.type") == "number"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Whole photo"
    page.keyboard.press("Enter")
    _status(page, "with the whole photo")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Compare 1"
    page.keyboard.press("Enter")
    page.get_by_role("img", name="The query and match 1").wait_for()


def test_the_photo_draws_moves_and_removes_its_box_by_keys_and_lets_tab_through(drawing):
    page = drawing
    photo = page.locator("#photo")
    photo.focus()
    page.keyboard.press("ArrowRight")  # there is none yet
    assert _numbers(page) == [0, 0, 600, 400]
    page.keyboard.press("Enter")
    _status(page, "with a box of 300 x 200")
    assert _numbers(page) == [150, 100, 300, 200]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowDown")
    _status(page, "with a box of 300 x 204")
    assert _is_drawn_what_is_searched(page) == [162, 96, 300, 204]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "number"
    photo.focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    photo.focus()
    page.keyboard.press("Delete")
    _status(page, "with the whole photo")
    assert page.locator("#box").is_hidden()


def test_a_photo_of_12_megapixels_and_more_than_10_mb_is_searched(visited):
    page, outside = visited
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    assert len(buffer.getvalue()) > 10 * 2**20
    _upload(page, "large.jpg", buffer.getvalue())
    _until(page, "document.getElementById('shown').naturalWidth == 1600")
    _status(page, "with the whole photo")
    assert _numbers(page) == [0, 0, 4000, 3000]
    assert outside == []


def test_a_file_that_is_no_photo_takes_the_former_answer_away_and_leaves_the_page_alive(visited):
    page, outside = visited
    _upload(page, "notes.txt", b"not a photo")
    _status(page, "notes.txt cannot be read as a photo")
    assert page.locator(".card").count() == 0
    assert page.locator("#photo").is_hidden()
    _shot(page, "4_no_photo")
    _choose(page, 2)
    assert outside == []


def _photo(page):
    return page.locator("#photo").bounding_box()


def _is_drawn_what_is_searched(page):
    """Compare the box on the photo with the numbers below it and with the answer, within a pixel."""
    photo, box = _photo(page), page.locator("#box").bounding_box()
    scale = photo["width"] / 600
    drawn = [(box["x"] - photo["x"]) / scale, (box["y"] - photo["y"]) / scale]
    drawn += [box["width"] / scale, box["height"] / scale]
    numbers = _numbers(page)
    assert drawn == pytest.approx(numbers, abs=4)
    assert f"a box of {numbers[2]} x {numbers[3]} pixels" in page.locator("#status").inner_text()
    return numbers


@pytest.fixture
def drawing(visited, tmp_path):
    """The page with a photo of 600 x 400 pixels and no box."""
    page, _ = visited
    buffer = io.BytesIO()
    drawn_photo(5, (600, 400)).save(buffer, "PNG")
    _upload(page, "drawing.png", buffer.getvalue())
    _until(page, "document.getElementById('shown').naturalWidth == 600")
    _status(page, "the whole photo")
    assert page.locator("#box").is_hidden()
    page.evaluate("scrollTo(0, 0)")
    return page


OUTSIDE = {"another element": (0.5, 3.0), "beside the photo": (1.2, 0.5), "outside the window": (5.0, -5.0)}


@pytest.mark.parametrize("place", OUTSIDE)
def test_a_drag_ends_wherever_the_button_is_let_go_and_is_cut_to_the_photo(drawing, place):
    page, photo = drawing, _photo(drawing)
    start = photo["x"] + photo["width"] * 0.4, photo["y"] + photo["height"] * 0.4
    end = photo["x"] + photo["width"] * OUTSIDE[place][0], photo["y"] + photo["height"] * OUTSIDE[place][1]
    drag(page, start, end)
    _status(page, "with a box of")
    left, top, width, height = _is_drawn_what_is_searched(page)
    assert 0 <= left and 0 <= top and left + width <= 600 and top + height <= 400
    page.mouse.move(photo["x"] + 30, photo["y"] + 30, steps=4)  # the drag is over
    page.mouse.click(photo["x"] + 20, photo["y"] + 20)
    _status(page, "too small")
    page.wait_for_timeout(500)
    assert _numbers(page) == [left, top, width, height]
    assert "those of the box that is drawn" in page.locator("#status").inner_text()


def test_a_drag_of_some_pixels_is_told_and_leaves_nothing(drawing):
    page, photo = drawing, _photo(drawing)
    drag(page, (photo["x"] + 50, photo["y"] + 50), (photo["x"] + 53, photo["y"] + 50))
    _status(page, "too small")
    assert page.locator("#box").is_hidden()
    assert _numbers(page) == [0, 0, 600, 400]


def test_fingers_drag_and_a_second_one_changes_nothing(drawing):
    page, photo = drawing, _photo(drawing)
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        touch.send(
            "Input.dispatchTouchEvent",
            {
                "type": kind,
                "touchPoints": [
                    {"x": photo["x"] + x * photo["width"], "y": photo["y"] + y * photo["height"], "id": i}
                    for i, (x, y) in enumerate(points)
                ],
            },
        )

    send("touchStart", (0.25, 0.25))
    page.wait_for_timeout(100)
    for share in (0.3, 0.4, 0.5):
        send("touchMove", (share, share))
    send("touchStart", (0.5, 0.5), (0.9, 0.1))
    send("touchMove", (0.75, 0.75), (0.8, 0.2))
    send("touchEnd")
    _status(page, "with a box of")
    left, top, width, height = _is_drawn_what_is_searched(page)
    assert (left, top) == pytest.approx((150, 100), abs=6)
    assert width > 100 and height > 60


def test_the_same_file_again_is_searched_again(drawing):
    page = drawing
    _side(page, "left").fill("100")
    page.keyboard.press("Tab")
    _status(page, "with a box of")
    buffer = io.BytesIO()
    drawn_photo(5, (600, 400)).save(buffer, "PNG")
    _upload(page, "drawing.png", buffer.getvalue())
    _status(page, "with the whole photo")


def test_a_mouse_and_a_finger_at_once_draw_one_box(drawing):
    page, photo = drawing, _photo(drawing)
    page.mouse.move(photo["x"] + photo["width"] * 0.25, photo["y"] + photo["height"] * 0.25)
    page.mouse.down()
    page.mouse.move(photo["x"] + photo["width"] * 0.5, photo["y"] + photo["height"] * 0.5, steps=4)
    page.evaluate(
        "([x, y]) => ['pointerdown', 'pointermove', 'pointerup'].forEach((kind, i) =>"
        " document.getElementById('photo').dispatchEvent(new PointerEvent(kind, { pointerId: 77, buttons: 1,"
        " pointerType: 'touch', bubbles: true, clientX: x + 10 * i, clientY: y })))",
        [photo["x"] + photo["width"] * 0.9, photo["y"] + photo["height"] * 0.1],
    )
    assert page.locator("#box").is_visible()
    page.mouse.move(photo["x"] + photo["width"] * 0.75, photo["y"] + photo["height"] * 0.75, steps=4)
    page.mouse.up()
    _status(page, "with a box of")
    assert _is_drawn_what_is_searched(page) == pytest.approx([150, 100, 300, 200], abs=6)


def test_on_a_phone_nothing_is_cut_and_a_comparison_opens_below_its_card(visited):
    page, _ = visited
    before = page.viewport_size
    page.set_viewport_size({"width": 400, "height": 800})
    _choose(page, 1)
    page.wait_for_timeout(500)
    _shot(page, "5_phone")
    cut = page.evaluate(
        "[...document.querySelectorAll('img, input, select, button, #status')]"
        ".filter(part => part.getBoundingClientRect().right > innerWidth + 1 && part.offsetParent)"
        ".map(part => part.outerHTML.slice(0, 99))"
    )
    assert cut == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    button = page.get_by_role("button", name="Compare 2", exact=True).first
    button.click()
    pair = page.get_by_role("img", name="The query and match 2")
    pair.wait_for()
    _until(page, "document.querySelector('.pair img').naturalWidth > 0")
    below = pair.bounding_box()["y"] - button.bounding_box()["y"]
    assert 0 < below < 160
    assert 250 < pair.bounding_box()["width"] <= 400
    _shot(page, "6_phone_pair")
    page.set_viewport_size(before)


def test_in_a_dark_theme_words_are_light_on_dark(visited):
    page, _ = visited
    page.emulate_media(color_scheme="dark")
    _choose(page, 2)
    _shot(page, "7_dark")
    for part in ("h1", "#status", ".card p", "#whole", "#example"):
        text, behind = page.eval_on_selector(
            part,
            "part => { const own = getComputedStyle(part), color = own.backgroundColor;"
            " const behind = color === 'rgba(0, 0, 0, 0)'"
            " ? getComputedStyle(document.body).backgroundColor : color;"
            " return [own.color, behind].map(text => text.match(/\\d+/g).slice(0, 3).map(Number)); }",
        )
        assert min(text) - max(behind) > 100
    page.emulate_media(color_scheme="light")


def test_a_visit_costs_next_to_nothing_and_takes_no_process(visited, served):
    page, _ = visited
    address, server = served
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    others = []
    for _ in range(5):
        other = page.context.browser.new_page()
        other.set_default_timeout(PATIENCE)
        other.goto(address)
        other.wait_for_selector(".card img")
        others.append(other)
    assert process.children() == []
    assert process.memory_info().rss - before < 5 * 10 * 2**20
    for other in others:
        other.close()


def test_pictures_are_taken_of_every_step(visited, served):
    page = visited[0].context.browser.new_page(viewport={"width": WIDTH, "height": 860})
    page.set_default_timeout(PATIENCE)
    buffer = io.BytesIO()
    drawn_photo(3).save(buffer, "JPEG")
    shots = session(page, served[0], 0, buffer.getvalue())
    folded = f'<details><p class="card"><img loading="lazy" src="{served[0]}thumbnail/9?fresh"></p></details>'
    page.set_content(folded)
    assert not page.locator("img").evaluate("one => one.complete") and page.evaluate(LOADED)
    page.locator("details").evaluate("one => { one.open = true; }")
    page.wait_for_function(LOADED)
    assert page.locator("img").evaluate("one => one.complete")
    page.close()
    assert len(shots) == len({shot.tobytes() for shot in shots}) == len(PANELS)
    assert {shot.width for shot in shots} == {WIDTH}


def test_a_page_whose_server_has_ended_says_so(visited, served):
    """The last test: it ends the server."""
    page, _ = visited
    _, server = served
    assert page.locator("#lost").is_hidden()
    server.terminate()
    server.wait(20)
    page.get_by_role("alert").get_by_text("Connection lost").wait_for(timeout=5000)
    _shot(page, "8_lost")
