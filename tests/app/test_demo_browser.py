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
from pathlib import Path

import nbformat
import numpy as np
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
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    kernel = {"kernelspec": {"name": "waldo", "display_name": "Waldo", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=kernel)
    nbformat.write(notebook, folder / "page.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from pathlib import Path; from waldo_utils import page; page.serve_notebook(Path({str(folder / 'page.ipynb')!r}), {port}, False)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=log, stderr=log, cwd=folder
        )
    try:
        await_page(server, port, PATIENCE / 1000)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def visited(address):
    """The opened page, and the requests that it made of other hosts."""
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
    _shot(page, "4_no_photo")
    page.get_by_role("combobox").select_option(index=2)
    _status(page, "with the whole photo")
    assert outside == []
