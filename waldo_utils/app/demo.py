"""The demo: choose a photo, drag a box, see its matches and what matched where. Widgets over `searching`.

Everything that happens can be set off from Python as well (`open_upload`, `canvas.bboxes`, `choose`), so that
it is tested without a browser.
"""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from waldo_utils.app import rejection, searching
from waldo_utils.app.canvas import PhotoBox
from waldo_utils.app.rejection import Threshold
from waldo_utils.app.searching import Answer, Box, Gallery, Models
from waldo_utils.data.reading import read_photo
from waldo_utils.disk import artifacts
from waldo_utils.figures import explain
from waldo_utils.study import Study

LARGEST, SMALLEST = 1600, 480  # longer side of a photo on the page, in pixels
TOP = 10
NONE = -1  # no example
EMPTY = base64.b64decode(b"R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # one clear pixel
WHERE = {"global": "global model", "reranked": "after reranking"}
ORDERS = tuple(WHERE)
STYLE = f"<style>{(Path(__file__).parent / 'demo.css').read_text(encoding='utf-8')}</style>"


def shown(photo: Image.Image) -> tuple[Image.Image, float]:
    """Return a photo as the page shows it, and how much larger the photo itself is.

    The longer side is scaled down to 1600 pixels, or up to 480.
    """
    longer = max(photo.size)
    target = min(max(longer, SMALLEST), LARGEST)
    if target == longer:
        return photo, 1.0
    size = (max(round(photo.width * target / longer), 1), max(round(photo.height * target / longer), 1))
    return photo.resize(size, Image.Resampling.BICUBIC), longer / target


def examples(gallery: Gallery, count: int = 12) -> list[int]:
    """Return rows to start with: of each category the first photo whose product has another, then of other
    products."""
    rows = rejection.labelled_rows(gallery.products, len(gallery))
    _, of_category = np.unique(gallery.categories[rows], return_index=True)
    _, of_product = np.unique(gallery.products[rows], return_index=True)
    order = dict.fromkeys([*rows[np.sort(of_category)].tolist(), *rows[np.sort(of_product)].tolist()])
    return list(order)[:count]


def open_demo(study: Study) -> "Demo":
    """Return the demo of a profile: its test photos as gallery, and the threshold where notebook 10 has left
    one.

    Raises: as `searching.open_models` and `searching.study_gallery`.
    """
    models = searching.open_models(study)
    gallery = searching.study_gallery(study, models, "test")
    try:
        threshold = rejection.from_table(artifacts.load_table(study, "not_in_catalogue"), models)
    except (FileNotFoundError, ValueError):
        threshold = None  # not run yet, or with other settings
    return Demo(models, gallery, threshold, examples(gallery))


class Demo:
    """The page and its state.

    Args:
        models: the same that made the gallery's features.
        gallery: what is searched.
        threshold: tells whether the product was found; None: no statement.
        rows: of the gallery, offered as queries; each leaves itself out of its search.

    Attributes:
        page: the widget to show.
        canvas: the photo with its box, in pixels of the photo as shown.
        answer: of the last search, None before the first and after a fault.
    """

    def __init__(self, models: Models, gallery: Gallery, threshold: Threshold | None, rows: Sequence[int]):
        self.models, self.gallery, self.threshold = models, gallery, threshold
        self.photo: Image.Image | None = None
        self.answer: Answer | None = None
        self.factor = 1.0  # of the photo to the photo as shown
        self.exclude: int | None = None
        self.label: str | None = None  # product of the query, where it is known
        self._box: Box | None = None  # what was searched
        self._quiet = False  # while the page itself moves the box
        self._drawn: dict | None = None  # the box on the canvas

        self.upload = widgets.FileUpload(
            accept="image/*,.heic", description="Upload a photo", layout={"width": "160px"}
        )
        named = [
            (f"{gallery.categories[row]} {gallery.names[row].split('/')[-1]}".strip(), row) for row in rows
        ]
        self.example = widgets.Dropdown(
            options=[("choose an example", NONE), *named], description="or", layout={"width": "360px"}
        )
        self.canvas = PhotoBox(hide_buttons=True, classes=["crop"], colors=["#D55E00"])
        self.sides = {
            name: widgets.IntText(
                0, description=name, layout={"width": "170px"}, style={"description_width": "60px"}
            )
            for name in ("left", "top", "width", "height")
        }
        self.whole = widgets.Button(
            description="Whole photo", tooltip="Remove the box and search the whole photo"
        )
        self.status = widgets.HTML()
        self.cards = {order: [widgets.HTML() for _ in range(TOP)] for order in ORDERS}
        self.buttons = {
            order: [widgets.Button(description=f"Compare {i}", disabled=True) for i in range(1, TOP + 1)]
            for order in ORDERS
        }
        # Below the row of cards in which it was asked for: see `_lay_out`.
        self.details = {order: widgets.HTML() for order in ORDERS}
        for detail in self.details.values():
            detail.add_class("detail")
        self.page = self._lay_out()

        self.upload.observe(self._on_upload, "value")
        self.example.observe(self._on_example, "value")
        self.canvas.observe(self._on_canvas, "bboxes")
        self.canvas.observe(self._on_dropped, "dropped")
        self.whole.on_click(lambda _: self.set_box(None))
        for side in self.sides.values():
            side.observe(self._on_sides, "value")
        for order in ORDERS:
            for place, button in enumerate(self.buttons[order]):
                button.on_click(lambda _, order=order, place=place: self.choose(order, place))
        self._say("Upload a photo or choose an example, then drag a box around the product.")
        if rows:
            self.example.value = rows[0]

    # -------------------------------------------------------- what a visitor does

    def open_upload(self, name: str, content: bytes) -> None:
        """Open an uploaded file and search with all of it; what is no photo gets a line that says why, and
        the former answer goes."""
        self._quiet = True
        self.example.value = NONE
        self._quiet = False
        try:
            photo = read_photo(io.BytesIO(content), name or "this file")
        except ValueError as error:
            self._close()
            self._say(
                f"{str(error).removesuffix(': restore or remove it')}: choose another file.", fault=True
            )
            return
        self._open(photo, None)

    def open_example(self, row: int) -> None:
        """Open a photo of the gallery, which leaves itself out, and search with all of it."""
        self._open(self.gallery.photo(row), row)

    def set_box(self, box: Box | None) -> None:
        """Search with a box in pixels of the photo; None: with all of it. The canvas and the numbers
        follow."""
        if self.photo is None:
            self._say("There is no photo yet: upload one or choose an example.", fault=True)
            return
        try:
            box = None if box is None else searching.clip_box(box, self.photo.size)
        except ValueError:
            self._place(self._box)
            self._say("The box holds nothing of the photo: drag a larger one inside it.", fault=True)
            return
        self._place(box)
        self._search(box)

    def _place(self, box: Box | None) -> None:
        """Set canvas and numbers to a box in pixels of the photo; None: the whole photo."""
        self._quiet = True
        left, top, width, height = box or (0, 0, *self.photo.size)
        for name, value in zip(self.sides, (left, top, width, height), strict=True):
            self.sides[name].value = value
        here = [value / self.factor for value in (left, top, width, height)]
        keys = ("x", "y", "width", "height")
        drawn = [dict(zip(keys, here, strict=True)) | {"label": "crop"}] if box else []
        if not _same_boxes(drawn, self.canvas.bboxes, 1 + 1 / self.factor):
            self.canvas.bboxes = drawn
        self._drawn = self.canvas.bboxes[0] if self.canvas.bboxes else None
        self._quiet = False

    def choose(self, order: str, place: int) -> None:
        """Show a match beside the query, with what matched where.

        Args:
            order: "global" or "reranked".
            place: in that order, from 0.
        """
        if self.answer is None or place >= len(self.answer.rows):
            return
        if self.models.reranker is None:
            self._say("An untrained network has no reranker whose comparison could be explained.", fault=True)
            return
        at = int(self._places(order)[place])
        row = int(self.answer.rows[at])
        attention = explain.patch_attention(self.models.reranker, self.answer.local, self.gallery.local[row])
        try:
            photo = self.gallery.photo(row)
        except ValueError as error:
            self._say(f"{error}", fault=True)
            return
        figure = explain.match_figure(self.answer.query, photo, attention, self.models.transform)
        joined = len(attention.links())
        alt = (
            f"The query and match {place + 1} ({WHERE[order]}), {self._words(row)}, side by side. Bright: "
            f"patches that attend to the other photo. {joined} numbered lines join the patches that attend to "
            "each other most."
        )
        self._clear_details()
        detail = self.details[order]
        detail.layout.order = str(2 * place + 1)
        detail.layout.display = "block"
        detail.value = (
            f'<div class="pair"><h3>What matched: query and match {place + 1} ({WHERE[order]})</h3>'
            f'<img src="{_png(figure)}" alt="{html.escape(alt, quote=True)}">'
            "<p>Bright patches attend to the other photo; the same number marks a pair of patches that "
            "attend to each other most (first layer of the reranker, mean of its heads). The rim is cropped before the "
            "models see it.</p></div>"
        )

    # -------------------------------------------------------- events

    def _on_upload(self, change: dict) -> None:
        if change["new"]:
            file = change["new"][-1]
            self.open_upload(file["name"], bytes(file["content"]))
            self.upload.value = ()  # else the same file again would be no change

    def _on_example(self, change: dict) -> None:
        if change["new"] != NONE and not self._quiet:
            self.open_example(change["new"])

    def _on_canvas(self, change: dict) -> None:
        """Search with the last box; one of no size is a drag that has only begun, and is left alone."""
        if self._quiet:
            return
        boxes = change["new"]
        whole = [box for box in boxes if box["width"] >= 1 and box["height"] >= 1]
        if boxes and boxes[-1] not in whole and (not whole or whole[-1] == self._drawn):
            return
        if self.answer is not None and boxes == ([] if self._drawn is None else [self._drawn]):
            return  # a drag that came to nothing
        if not whole:
            self.set_box(None)
            return
        self._drawn = whole[-1]
        if boxes != [self._drawn]:
            self._quiet = True
            self.canvas.bboxes = [self._drawn]
            self._quiet = False
        here = tuple(float(self._drawn[key]) for key in ("x", "y", "width", "height"))
        self.set_box(searching.scale_box(here, self.factor))

    def _on_dropped(self, change: dict) -> None:
        searched = "the box that is drawn" if self.canvas.bboxes else "the whole photo"
        self._say(
            f"That box is too small: drag a larger one. The matches are those of {searched}.", fault=True
        )

    def _on_sides(self, change: dict) -> None:
        if not self._quiet:
            self.set_box(tuple(side.value for side in self.sides.values()))

    # -------------------------------------------------------- what follows

    def _open(self, photo: Image.Image, row: int | None) -> None:
        self.photo, self.exclude = photo, row
        self.label = None if row is None else str(self.gallery.products[row])
        picture, self.factor = shown(photo)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        self._quiet = True
        self.canvas.bboxes = []
        self.canvas.image_bytes = buffer.getvalue()
        self.canvas.layout.width = f"{round(min(1.0, 560 / picture.height) * min(picture.width, 720))}px"
        self.canvas.layout.max_width = "100%"
        self._quiet = False
        self.set_box(None)

    def _close(self) -> None:
        """Take photo and answer from the page."""
        self.photo = self.answer = self.exclude = self.label = self._box = self._drawn = None
        self._quiet = True
        self.canvas.bboxes = []
        self.canvas.image_bytes = EMPTY
        for side in self.sides.values():
            side.value = 0
        self._quiet = False
        self._clear_details()
        for order in ORDERS:
            self._show(order, [])

    def _clear_details(self) -> None:
        for detail in self.details.values():
            detail.value, detail.layout.display = "", "none"

    def _show(self, order: str, cards: list[str]) -> None:
        """Show these cards in one of the two orders, and no others."""
        for i, (card, button) in enumerate(zip(self.cards[order], self.buttons[order], strict=True)):
            button.disabled = i >= len(cards)
            button.layout.visibility = "hidden" if button.disabled else "visible"
            card.value = "" if button.disabled else cards[i]

    def _search(self, box: Box | None) -> None:
        self._box = box
        self.answer = searching.search(self.models, self.gallery, self.photo, box, self.exclude)
        for order in ORDERS:
            self._show(order, [self._card(order, i, int(at)) for i, at in enumerate(self._places(order))])
        self._clear_details()
        part = "the whole photo" if box is None else f"a box of {box[2]} x {box[3]} pixels"
        seconds = sum(self.answer.seconds.values())
        margin = None if self.threshold is None else self.threshold.margin(self.answer, self.gallery)
        self._say(
            f"Searched {len(self.gallery)} photos with {part} in {seconds:.2f} s: "
            f"{rejection.sentence(self.threshold, margin)}."
        )

    def _places(self, order: str) -> np.ndarray:
        """Return the first places of the answer's shortlist in one of the two orders."""
        return (self.answer.reranked if order == "reranked" else np.arange(len(self.answer.rows)))[:TOP]

    def _words(self, row: int) -> str:
        product, category = str(self.gallery.products[row]), str(self.gallery.categories[row])
        words = ", ".join(w for w in (f"product {product}" if product else "", category) if w)
        return words or self.gallery.names[row]

    def _card(self, order: str, i: int, at: int) -> str:
        """Return one match as HTML."""
        row = int(self.answer.rows[at])
        rank = int(np.flatnonzero(self.answer.reranked == at)[0])
        same = None if self.label is None else str(self.gallery.products[row]) == self.label
        mark = {None: "", True: "✓ same product", False: "✗ other product"}[same]
        if order == "reranked":
            moved = at - rank
            change = f"▲ {moved} up, was {at + 1}" if moved > 0 else f"▼ {-moved} down, was {at + 1}"
            value = f"score {self.answer.scores[at]:.2f}, {change if moved else 'place kept'}"
        else:
            value = f"similarity {self.answer.similarities[at]:.3f}, reranked {rank + 1}"
        try:
            picture = self.gallery.photo(row).copy()
            picture.thumbnail((160, 160))
            source = _jpeg(picture)
        except ValueError:
            source = ""
        words = self._words(row)
        alt = html.escape(f"{_title(order)}, match {i + 1}: {words}. {mark}", quote=True)
        kind = {None: "", True: "same", False: "other"}[same]
        return (
            f'<div class="card {kind}"><img src="{source}" alt="{alt}">'
            f"<p><b>{i + 1}</b> · {html.escape(words)}<br>{html.escape(value)}<br>{mark}</p></div>"
        )

    def _say(self, text: str, fault: bool = False) -> None:
        kind, role = ("status fault", "alert") if fault else ("status", "status")
        self.status.value = f'<div class="{kind}" role="{role}" aria-live="polite">{html.escape(text)}</div>'

    def _lay_out(self) -> widgets.VBox:
        wrap = widgets.Layout(display="flex", flex_flow="row wrap")
        # Cards take even places and a comparison the odd one after its card: a line of its own below the
        # line of cards in which it was asked for, whose gap the next cards fill.
        grid = widgets.Layout(
            display="grid",
            grid_template_columns="repeat(auto-fill, 108px)",
            grid_auto_flow="row dense",
            overflow="visible",
        )
        rows = []
        for order in ORDERS:
            cards = [
                widgets.VBox(
                    [card, button], layout={"width": "108px", "margin": "0 0 8px 0", "order": str(2 * i)}
                )
                for i, (card, button) in enumerate(zip(self.cards[order], self.buttons[order], strict=True))
            ]
            for button in self.buttons[order]:
                button.layout.width = "100px"
            whole = widgets.Box([*cards, self.details[order]], layout=grid)
            rows += [widgets.HTML(f"<h3>{_title(order)}</h3>"), whole]
        controls = [
            widgets.Box([self.upload, self.example], layout=wrap),
            widgets.Box([*self.sides.values(), self.whole], layout=wrap),
        ]
        for box in controls:
            box.add_class("controls")
        page = widgets.VBox([widgets.HTML(STYLE), controls[0], self.canvas, controls[1], self.status, *rows])
        page.add_class("waldo")
        return page


def _title(order: str) -> str:
    return {"global": "Global model: by similarity", "reranked": "After reranking: by score"}[order]


def _same_boxes(one: list[dict], other: list[dict], tolerance: float) -> bool:
    """Return whether two lists of at most one box agree within some pixels, so that the page need not move a
    box."""
    keys = ("x", "y", "width", "height")
    return len(one) == len(other) and all(
        abs(float(a[key]) - float(b[key])) <= 2 * tolerance
        for a, b in zip(one, other, strict=True)
        for key in keys
    )


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png", facecolor="white")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
