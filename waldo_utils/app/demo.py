"""The demo without its server: photos that visitors give, searches with a box, matches as the page shows
them, and what matched where.

Nothing is kept of a visitor but the photos: whoever asks names the photo and the box.
"""

import io
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from waldo_utils.app import index, rejection, searching
from waldo_utils.app.rejection import Threshold
from waldo_utils.app.searching import Answer, Box, Gallery, Models
from waldo_utils.data.reading import looks_like_photo, read_photo
from waldo_utils.disk import artifacts
from waldo_utils.figures import explain
from waldo_utils.study import Study

SHOWN, THUMBNAIL = 1600, 320  # longer side of a photo and of a match on the page, in pixels
TOP = 10
MOST_KEPT = 256 * 2**20  # bytes of visitors' photos; the oldest go first
TITLES = {"reranked": "After reranking: by score", "global": "Before reranking: by similarity"}
ALONE = "By similarity (nothing reranks: no models are trained here)"
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


class UnknownPhoto(ValueError):
    """A photo that is not here any more: the server was started anew, or many others came since."""


@dataclass(frozen=True)
class Upload:
    """A visitor's photo."""

    name: str
    content: bytes  # the file
    shown: bytes  # the JPEG for the page
    size: tuple[int, int]  # width and height, upright


def examples(gallery: Gallery, count: int = 12) -> list[int]:
    """Return rows to start with: of each category the first photo whose product has another, then of other
    products; where no product is known, the first photos."""
    rows = rejection.labelled_rows(gallery.products, len(gallery))
    if not len(rows):
        return list(range(min(count, len(gallery))))
    _, of_category = np.unique(gallery.categories[rows], return_index=True)
    _, of_product = np.unique(gallery.products[rows], return_index=True)
    order = dict.fromkeys([*rows[np.sort(of_category)].tolist(), *rows[np.sort(of_product)].tolist()])
    return list(order)[:count]


def open_study(study: Study, models: Models) -> "Demo":
    """Return the demo of a profile: its test photos as gallery, and the threshold where notebook 11 has left
    one.

    Raises: as `searching.study_gallery`.
    """
    gallery = searching.study_gallery(study, models, "test")
    try:
        threshold = rejection.from_table(artifacts.load_table(study, "not_in_catalogue"), models)
    except (FileNotFoundError, ValueError):
        threshold = None  # not run yet, or with other settings
    return Demo(models, gallery, threshold)


def open_folder(folder: Path, models: Models) -> "Demo":
    """Return the demo of an index; raises as `index.open_index`."""
    opened = index.open_index(folder, models)
    return Demo(
        models,
        opened.gallery,
        opened.threshold,
        lambda row: not looks_like_photo(opened.folder / opened.gallery.names[row]),
    )


class Demo:
    """What the page asks for.

    A photo is named by its row in the gallery, as an example, or by the word that `upload` gave.

    Args:
        models: the same that made the gallery's features.
        gallery: what is searched.
        threshold: tells whether the product was found; None: no statement.
        gone: whether a photo of the gallery has been deleted since, or is none any more.
    """

    def __init__(
        self,
        models: Models,
        gallery: Gallery,
        threshold: Threshold | None,
        gone: Callable[[int], bool] = lambda row: False,
    ):
        self.models, self.gallery, self.threshold, self.gone = models, gallery, threshold, gone
        self.examples = [row for row in examples(gallery) if not gone(row)]
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._last: tuple[str, Image.Image] | None = None  # decoded, for the next box on it

    def page(self, largest: int) -> str:
        """Return the page as HTML; `largest` is how many bytes a photo may have."""
        options = [
            (row, f"{self.gallery.categories[row]} {self._name(row)}".strip()) for row in self.examples
        ]
        return TEMPLATES.get_template("page.html.j2").render(
            examples=options, photos=len(self.gallery), weights=self.models.weights, largest=largest
        )

    def upload(self, name: str, content: bytes) -> dict:
        """Keep a visitor's photo.

        Returns:
            `photo`, the word that names it, and its `width` and `height`.

        Raises:
            ValueError: the file is no photo; says why.
        """
        try:
            photo = read_photo(io.BytesIO(content), name or "this file")
        except ValueError as error:
            reason = str(error).removesuffix(": restore or remove it")
            raise ValueError(f"{reason}: choose another file.") from None
        word = "u" + secrets.token_urlsafe(9)  # no number, which would be a row
        self._uploads[word] = Upload(name, content, _jpeg(photo, SHOWN), photo.size)
        while len(self._uploads) > 1 and self._kept() > MOST_KEPT:
            self._uploads.popitem(last=False)
        self._last = (word, photo)
        return {"photo": word, "width": photo.width, "height": photo.height}

    def example(self, row: int) -> dict:
        """Return the same of a photo of the gallery as `upload` does of a visitor's."""
        size = self._photo(str(row))[0].size
        return {"photo": str(row), "width": size[0], "height": size[1]}

    def picture(self, photo: str) -> bytes:
        """Return a photo as a JPEG for the page; raises ValueError where it cannot be read any more."""
        upload = self._uploads.get(photo)
        return upload.shown if upload else _jpeg(self._photo(photo)[0], SHOWN)

    def thumbnail(self, row: int) -> bytes:
        """Return a photo of the gallery as a small JPEG; raises as `picture` does."""
        return _jpeg(self._photo(str(row))[0], THUMBNAIL)

    def search(self, photo: str, box: Box | None) -> dict:
        """Search with a box in pixels of a photo; None: with all of it.

        Returns:
            `box`, what was searched, `said`, the answer in a sentence, and `html`, the matches.

        Raises:
            ValueError: the box holds nothing of the photo, or the photo cannot be read.
            UnknownPhoto: there is no such photo.
        """
        whole, exclude = self._photo(photo)
        try:
            box = None if box is None else searching.clip_box(box, whole.size)
        except ValueError:
            raise ValueError("The box holds nothing of the photo: drag a larger one inside it.") from None
        answer = searching.search(self.models, self.gallery, whole, box, exclude)
        part = "the whole photo" if box is None else f"a box of {box[2]} x {box[3]} pixels"
        margin = None if self.threshold is None else self.threshold.margin(answer, self.gallery)
        said = (
            f"Searched {len(self.gallery):,} photos with {part} in {sum(answer.seconds.values()):.2f} s: "
            f"{rejection.sentence(self.threshold, margin, self.models.reranker is not None)}."
        )
        label = None if exclude is None else str(self.gallery.products[exclude]) or None
        titles = TITLES if self.models.reranker else {"reranked": ALONE}
        lists = {order: self._cards(answer, order, label) for order in titles}
        html = TEMPLATES.get_template("answer.html.j2").render(
            titles=titles, lists=lists, compare=self.models.reranker is not None
        )
        return {"box": box, "said": said, "html": html}

    def compare(self, photo: str, box: Box | None, row: int) -> bytes:
        """Return the query beside a match, with what matched where, as a PNG.

        Raises:
            ValueError: nothing can be compared; says why.
        """
        if self.models.reranker is None:
            raise ValueError("An untrained network has no reranker whose comparison could be explained.")
        query = searching.crop(self._photo(photo)[0], box)
        match = self._photo(str(row))[0]
        _, local = searching.features(self.models, searching.prepare(self.models, query)[None])
        attention = explain.patch_attention(self.models.reranker, local[0], self.gallery.local[row])
        buffer = io.BytesIO()
        figure = explain.match_figure(query, match, attention, self.models.transform)
        figure.savefig(buffer, dpi=100, format="png", facecolor="white")
        return buffer.getvalue()

    def _photo(self, photo: str) -> tuple[Image.Image, int | None]:
        """Return a photo and, where it is one of the gallery, its row."""
        if photo.isdecimal() and int(photo) < len(self.gallery):
            row = int(photo)
            if self.gone(row):
                raise ValueError(f"{self.gallery.names[row]} is no photo in its folder any more.")
            return self.gallery.photo(row), row
        if photo not in self._uploads:
            raise UnknownPhoto("This photo is not here any more: choose it again.")
        self._uploads.move_to_end(photo)
        if self._last is None or self._last[0] != photo:
            upload = self._uploads[photo]
            self._last = (photo, read_photo(io.BytesIO(upload.content), upload.name))
        return self._last[1], None

    def _kept(self) -> int:
        return sum(len(upload.content) + len(upload.shown) for upload in self._uploads.values())

    def _name(self, row: int) -> str:
        return self.gallery.names[row].split("/")[-1]

    def _cards(self, answer: Answer, order: str, label: str | None) -> list[dict]:
        """Return what the page shows of the first matches in one of the two orders."""
        rank_of = np.argsort(answer.reranked)  # of a place in the shortlist
        places = answer.reranked if order == "reranked" else np.arange(len(answer.rows))
        cards = []
        for rank, at in enumerate(places[:TOP].tolist()):
            row = int(answer.rows[at])
            product, category = str(self.gallery.products[row]), str(self.gallery.categories[row])
            words = ", ".join(word for word in (f"product {product}" if product else "", category) if word)
            moved = at - rank
            if self.models.reranker is None or order == "global":
                value = f"similarity {answer.similarities[at]:.3f}"
            else:
                value = f"score {answer.scores[at]:.2f}"
            if self.models.reranker is None:
                change = ""
            elif order == "global":
                change = f"reranked {rank_of[at] + 1}"
            elif moved:
                change = (
                    f"{'▲' if moved > 0 else '▼'} {abs(moved)} {'up' if moved > 0 else 'down'}, was {at + 1}"
                )
            else:
                change = "place kept"
            cards.append(
                {
                    "row": row,
                    "rank": rank + 1,
                    "words": words or self._name(row),
                    "name": self.gallery.names[row],
                    "value": value,
                    "change": change,
                    "kind": {None: "", True: "same", False: "other"}[
                        None if label is None else product == label
                    ],
                    "gone": self.gone(row),
                }
            )
        return cards


def _jpeg(photo: Image.Image, longest: int) -> bytes:
    """Return a photo as a JPEG whose longer side has at most so many pixels."""
    picture = photo.copy()
    picture.thumbnail((longest, longest))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
