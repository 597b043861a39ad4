"""The photo with its box: the box widget, with what it lacks (`canvas.js`)."""

import re
from pathlib import Path

from jupyter_bbox_widget import BBoxWidget
from traitlets import Int

SMALLEST_BOX = 5  # pixels of the screen
MEND = (Path(__file__).parent / "canvas.js").read_text(encoding="utf-8")


def adapted(module: str) -> str:
    """Return the box widget's JavaScript with a text for those who cannot see the photo, and with `MEND`.

    Raises:
        ValueError: the module is not as expected.
    """
    export = re.search(r"export \{\s*(\w+) as default\s*\};?\s*$", module)
    if export is None or "annotate me" not in module:
        raise ValueError(
            "this jupyter-bbox-widget is of another form: install the version in requirements.lock"
        )
    body = module[: export.start()].replace(
        "annotate me", "The photo to search. The four numbers below set the box on it."
    )
    return body + MEND.replace("WIDGET", export.group(1)).replace("SMALLEST_BOX", str(SMALLEST_BOX))


class PhotoBox(BBoxWidget):
    """The box on the photo.

    Attributes:
        dropped: how many boxes were too small to be meant.
    """

    _esm = adapted(BBoxWidget._esm)

    dropped = Int(0).tag(sync=True)
