"""The demo as a page in a real browser: upload, drag, resize, choose a match, keyboard, no other host.

Models and photos are tiny and drawn here; the page, its template and the widgets are the real ones.
"""

import importlib.util
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from PIL import Image
from small import drawn_photo

from waldo_utils.app.demo_pictures import await_page, drag
from waldo_utils.study import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [name for name in ("playwright", "voila") if importlib.util.find_spec(name) is None]
if CHROMIUM is None:
    MISSING.append("a chromium on the PATH")
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    # it depends on how fast a browser answers, so it is not part of `make test`
    pytest.mark.skipif("WALDO_BROWSER" not in os.environ, reason="asked for by `make test-browser`"),
]

CELL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from small import small_gallery, small_models
from waldo_utils.app import demo
from waldo_utils.app.rejection import Threshold
models = small_models()
gallery = small_gallery(models, 10, list("aabbccddee"))
demo.Demo(models, gallery, Threshold(0.0, (1.0, 0.0, 0.0, 0.0), 0.25, 0.2, 0.3, 0.125, 0.1, 0.2, 16, 8), [0, 2]).page
"""
SHOTS = os.environ.get("WALDO_SHOTS")  # a folder for screenshots, to look at
PATIENCE = 1000 * int(os.environ.get("WALDO_PATIENCE", 30))  # milliseconds; more on a busy machine


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    kernel = {"kernelspec": {"name": "waldo", "display_name": "Waldo", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=kernel)
    nbformat.write(notebook, folder / "page.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from pathlib import Path; from waldo_utils.app import page; page.serve_notebook(Path({str(folder / 'page.ipynb')!r}), {port}, False)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=log, stderr=log, cwd=folder
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
        page = browser.new_page(viewport={"width": 1200, "height": 1700})
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: _is_outside(request.url) and outside.append(request.url))
        page.goto(address)
        page.wait_for_selector(".waldo .card img")
        yield page, outside
        browser.close()


def _is_outside(url):
    return not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def _shot(page, name):
    if SHOTS:
        page.wait_for_timeout(500)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def _status(page, text):
    page.wait_for_function(
        "text => document.querySelector('.waldo .status')?.innerText.includes(text)", arg=text
    )


def _upload(page, name, content):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a photo").click()
    chooser.value.set_files([{"name": name, "mimeType": "image/png", "buffer": content}])


def _side(page, name):
    return page.get_by_label(name, exact=True)


def test_a_visitor_uploads_drags_resizes_and_chooses(visited, tmp_path):
    page, outside = visited
    _status(page, "with the whole photo")
    assert page.locator(".waldo .card.same img").count() == 2  # in both orders
    _shot(page, "1_start")

    drawn_photo(3, (1000, 800)).save(tmp_path / "mine.png")
    _upload(page, "mine.png", (tmp_path / "mine.png").read_bytes())
    page.wait_for_function("document.querySelectorAll('.waldo .card.same').length == 0")
    before = page.locator(".waldo .card p").all_inner_texts()
    page.wait_for_function("document.querySelector('.waldo .wrapper img').naturalWidth == 1000")

    photo = page.locator(".waldo .wrapper img").bounding_box()
    scale = photo["width"] / 1000
    corner = (photo["x"] + 200 * scale, photo["y"] + 100 * scale)
    end = (photo["x"] + 600 * scale, photo["y"] + 500 * scale)
    drag(page, corner, end)
    _status(page, "with a box of")
    left, top, width, height = (
        int(_side(page, name).input_value()) for name in ("left", "top", "width", "height")
    )
    assert (left, top) == pytest.approx((200, 100), abs=4)
    assert (width, height) == pytest.approx((400, 400), abs=6)
    assert page.locator(".waldo .card p").all_inner_texts() != before
    _shot(page, "2_box")

    drag(page, end, (end[0] + 100 * scale, end[1] + 100 * scale))
    page.wait_for_function(
        "width => +document.querySelectorAll('.waldo input[type=number]')[2].value > width + 50", arg=width
    )
    assert int(_side(page, "width").input_value()) == pytest.approx(width + 100, abs=8)
    assert int(_side(page, "left").input_value()) == left

    page.get_by_role("button", name="Compare 2").nth(1).click()
    pair = page.get_by_role("img", name="The query and match 2")
    pair.wait_for()
    assert pair.bounding_box()["width"] > 400
    _shot(page, "3_pair")

    assert outside == []
    alts = page.eval_on_selector_all(".waldo img", "pictures => pictures.filter(p => p.src).map(p => p.alt)")
    assert len(alts) == 22
    assert all(len(alt) > 10 for alt in alts)


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
    assert page.evaluate("document.activeElement.innerText") == "Compare 1"
    page.keyboard.press("Enter")
    page.get_by_role("img", name="The query and match 1").wait_for()


def test_the_photo_moves_its_box_by_keys_and_lets_tab_through(visited):
    page, _ = visited
    _side(page, "left").fill("100")
    page.keyboard.press("Tab")
    _status(page, "with a box of")
    before = int(_side(page, "left").input_value())
    photo = page.locator(".waldo .wrapper")
    photo.focus()
    page.keyboard.press("Shift+D")  # ten pixels to the right, without selecting the box first
    page.wait_for_function(
        "before => +document.querySelector('.waldo input[type=number]').value > before", arg=before
    )
    photo.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "number"
    photo.focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"


def test_a_photo_of_12_megapixels_and_more_than_10_mb_is_searched(visited):
    page, outside = visited
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    assert len(buffer.getvalue()) > 10 * 2**20
    _upload(page, "large.jpg", buffer.getvalue())
    page.wait_for_function("document.querySelector('.waldo .wrapper img').naturalWidth == 1600")
    assert int(_side(page, "width").input_value()) == 4000
    assert outside == []


def test_a_file_that_is_no_photo_leaves_the_page_alive(visited):
    page, outside = visited
    _upload(page, "notes.txt", b"not a photo")
    _status(page, "notes.txt cannot be read as a photo")
    assert page.locator(".waldo .card").count() == 0
    _shot(page, "4_no_photo")
    page.get_by_role("combobox").select_option(index=2)
    _status(page, "with the whole photo")
    assert outside == []


def _photo(page):
    return page.locator(".waldo .wrapper svg").bounding_box()


def _is_drawn_what_is_searched(page):
    """Compare the box on the photo with the numbers below it, within a pixel of the photo on both sides."""
    scale = _photo(page)["width"] / page.evaluate(
        "document.querySelector('.waldo .wrapper img').naturalWidth"
    )
    boxes = page.eval_on_selector_all(
        ".waldo .wrapper rect.movable",
        "boxes => boxes.map(box => ['x', 'y', 'width', 'height'].map(key => +box.getAttribute(key)))",
    )
    numbers = [int(_side(page, name).input_value()) for name in ("left", "top", "width", "height")]
    assert len(boxes) == 1
    assert [value / scale for value in boxes[0]] == pytest.approx(numbers, abs=4)
    return numbers


@pytest.fixture
def drawing(visited, tmp_path):
    """The page with a photo of 600 x 400 pixels and no box."""
    page, _ = visited
    buffer = io.BytesIO()
    drawn_photo(5, (600, 400)).save(buffer, "PNG")
    _upload(page, "drawing.png", buffer.getvalue())
    page.wait_for_function("document.querySelector('.waldo .wrapper img').naturalWidth == 600")
    page.wait_for_function("document.querySelectorAll('.waldo rect.movable').length == 0")
    _status(page, "the whole photo")
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
    assert _is_drawn_what_is_searched(page) == [left, top, width, height]


def test_a_drag_of_some_pixels_is_told_and_leaves_nothing(drawing):
    page, photo = drawing, _photo(drawing)
    drag(page, (photo["x"] + 50, photo["y"] + 50), (photo["x"] + 53, photo["y"] + 50))
    _status(page, "too small")
    page.wait_for_function("document.querySelectorAll('.waldo rect.movable').length == 0")


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


def test_on_a_phone_nothing_is_cut_and_a_comparison_opens_below_its_card(visited):
    page, _ = visited
    before = page.viewport_size
    page.set_viewport_size({"width": 400, "height": 800})
    page.get_by_role("combobox").select_option(index=1)
    _status(page, "with the whole photo")
    page.wait_for_timeout(500)
    _shot(page, "5_phone")
    cut = page.evaluate(
        "[...document.querySelectorAll('.waldo img, .waldo input, .waldo select, .waldo button, .waldo .status')]"
        ".filter(part => part.getBoundingClientRect().right > innerWidth + 1 && part.offsetParent)"
        ".map(part => part.outerHTML.slice(0, 99))"
    )
    assert cut == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    button = page.get_by_role("button", name="Compare 2", exact=True).last
    button.click()
    pair = page.get_by_role("img", name="The query and match 2")
    pair.wait_for()
    page.wait_for_function("document.querySelector(\".waldo img[alt^='The query']\").naturalWidth > 0")
    below = pair.bounding_box()["y"] - button.bounding_box()["y"]
    assert 0 < below < 160
    assert 250 < pair.bounding_box()["width"] <= 400
    _shot(page, "6_phone_pair")
    page.set_viewport_size(before)


def _kernels(server):
    return [
        child for child in psutil.Process(server.pid).children() if "ipykernel" in " ".join(child.cmdline())
    ]


def test_the_kernel_of_a_closed_page_ends_and_the_others_go_on(visited, served):
    page, _ = visited
    address, server = served
    before = {kernel.pid for kernel in _kernels(server)}
    assert len(before) == 1
    other = page.context.browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(address)
    other.wait_for_selector(".waldo .card img")
    assert len(_kernels(server)) == 2
    other.close(run_before_unload=True)
    deadline = time.monotonic() + 60
    while {kernel.pid for kernel in _kernels(server)} != before:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    page.get_by_role("combobox").select_option(index=2)
    _status(page, "with the whole photo")


def test_a_page_whose_server_has_ended_says_so(visited, served):
    """The last test: it ends the server."""
    page, _ = visited
    _, server = served
    assert page.locator(".lost").count() == 0
    server.terminate()
    server.wait(20)
    page.get_by_role("alert").get_by_text("Connection lost").wait_for(timeout=5000)
    _shot(page, "7_lost")
