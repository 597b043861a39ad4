"""Take the pictures of the demo in use, in an installed Chromium: `python -m waldo_utils.app.demo_pictures`.

The page of a profile whose notebooks have run is opened, an example chosen, a box drawn and resized, a match
compared and a validation photo uploaded. The example is the first whose product the reranker puts first. The
screenshots go side by side to `results/demo/PROFILE.jpg`.
"""

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from PIL import Image, ImageDraw, ImageFont

from waldo_utils.app import demo, searching
from waldo_utils.data.photo_cache import open_cache
from waldo_utils.disk import artifacts
from waldo_utils.run import pipeline
from waldo_utils.study import ROOT, Study

FOLDER = ROOT / "results" / "demo"
PANELS = (
    "1  Choose or upload a photo",
    "2  Drag a box: the matches follow",
    "3  Compare a match: what matched where",
    "4  A product that is not in the gallery",
)
WIDTH, QUALITY = 1280, 85  # of a screenshot in pixels; of the JPEG
START, DRAWN, RESIZED = (0.08, 0.1), (0.72, 0.75), (0.92, 0.92)  # corners of the box, as shares of the photo
STRIP, TALL = 900, 0.75  # width of a panel in pixels, height by width
PATIENCE = 300_000  # milliseconds
# All that is not folded away is fetched, below the screen's edge too.
LOADED = """[...document.querySelectorAll("#shown, .card img, .pair img")]
    .filter(one => one.checkVisibility())
    .every(one => { one.loading = "eager"; return one.complete; })"""


@contextmanager
def served(profile: str) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the page of a profile and yield its address and the process.

    Raises:
        RuntimeError: the server ends or does not answer: `make demo` shows why.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--profile", profile, "--port", str(port), "--no-browser"]
    command = [sys.executable, "-m", "waldo_utils", "demo", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        await_page(server, port, PATIENCE / 1000)
        yield f"http://127.0.0.1:{port}/", psutil.Process(server.pid)
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def await_page(server: subprocess.Popen, port: int, seconds: float) -> None:
    """Return as soon as the page's server answers.

    Raises:
        RuntimeError: it has ended, or so many seconds are over.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/alive").close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"the page on port {port} does not answer: open it by `make demo`"
                ) from None
            time.sleep(0.2)


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the mouse from one point of the page to another as a hand would."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()


def session(page, address: str, example: int, stranger: bytes) -> list[Image.Image]:
    """Use the page as a visitor would and return a picture for each of `PANELS`.

    Args:
        page: of Playwright.
        address: of the demo.
        example: its place among the page's examples.
        stranger: a JPEG of a product that is not in the gallery.
    """
    shots = []

    def shot() -> None:
        page.wait_for_function(LOADED)
        page.wait_for_timeout(500)
        shots.append(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB"))

    def wait(text: str) -> None:
        page.wait_for_function("text => document.getElementById('status').innerText.includes(text)", arg=text)

    page.goto(address)
    wait("the whole photo")
    page.get_by_label("Example").select_option(index=example + 1)  # the first option is none
    page.wait_for_timeout(1000)
    wait("the whole photo")
    shot()
    photo = page.locator("#photo").bounding_box()

    def place(x: float, y: float) -> tuple[float, float]:
        return photo["x"] + x * photo["width"], photo["y"] + y * photo["height"]

    drag(page, place(*START), place(*DRAWN))
    wait("a box of")
    shot()
    before = page.locator("#status").inner_text()
    drag(page, place(*DRAWN), place(*RESIZED))
    page.wait_for_function(
        "before => ['Searched', 'a box of']"
        ".every(text => document.getElementById('status').innerText.includes(text))"
        " && document.getElementById('status').innerText !== before",
        arg=before,
    )
    page.get_by_role("button", name="Compare 1", exact=True).first.click()
    page.get_by_role("img", name="The query and match 1").wait_for()
    shot()
    page.set_input_files("#file", [{"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": stranger}])
    page.wait_for_function("document.querySelectorAll('.card.same, .card.other').length == 0")
    wait("the whole photo")
    shot()
    return shots


def strip(shots: list[Image.Image]) -> Image.Image:
    """Return the tops of the panels side by side in two rows, each under its caption."""
    font = ImageFont.load_default(size=28)
    height = round(STRIP * TALL)
    tiles = []
    for shot, caption in zip(shots, PANELS, strict=True):
        part = Image.new("RGB", (WIDTH, round(WIDTH * TALL)), "white")
        part.paste(shot)
        tile = Image.new("RGB", (STRIP, height + 44), "white")
        tile.paste(part.resize((STRIP, height), Image.Resampling.LANCZOS), (0, 44))
        ImageDraw.Draw(tile).text((6, 6), caption, fill="#222222", font=font)
        tiles.append(tile)
    height = tiles[0].height
    whole = Image.new("RGB", (2 * STRIP + 16, 2 * height + 16), "white")
    for i, tile in enumerate(tiles):
        whole.paste(tile, ((i % 2) * (STRIP + 16), (i // 2) * (height + 16)))
    return whole


def found_example(study: Study) -> int:
    """Return the first of the page's examples whose resized box finds its product, 0 where none does."""
    models = searching.open_models(study)
    gallery = searching.study_gallery(study, models, "test")
    for place, row in enumerate(demo.examples(gallery)):
        photo = gallery.photo(row)
        (left, top), (right, bottom) = (
            (round(x * photo.width), round(y * photo.height)) for x, y in (START, RESIZED)
        )
        answer = searching.search(models, gallery, photo, (left, top, right - left, bottom - top), row)
        if gallery.products[answer.rows[answer.reranked[0]]] == gallery.products[row]:
            return place
    return 0


def stranger(study: Study) -> bytes:
    """Return the first validation photo of a study as a JPEG: its product is not in the page's gallery."""
    manifest = artifacts.load_frame(study, "data/manifest")
    rows = manifest.index[manifest.split == "validation"].to_numpy()
    photo = open_cache(artifacts.data_folder(study) / "photos").image(int(rows[0]))
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def main() -> int:
    """Take the pictures of a profile's page and write them as one."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="photos", help="default: photos")
    study = pipeline.find_profile(parser.parse_args().profile)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("error: there is no chromium on the PATH: install one", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": 860})
        page.set_default_timeout(PATIENCE)
        with served(study.name) as (address, _):
            picture = strip(session(page, address, found_example(study), stranger(study)))
        browser.close()
    path = FOLDER / f"{study.name}.jpg"
    artifacts.write_atomically(path, lambda partial: picture.save(partial, "JPEG", quality=QUALITY))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
