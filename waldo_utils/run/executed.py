"""Executed notebooks without what another run with the same results would change."""

import base64
import json
import re
from contextlib import suppress
from pathlib import Path

# pandas gives each styled table a random name, which its style sheet repeats.
STYLED = re.compile(r"\bT_[0-9a-f]{5}(?=[_\s\"']|$)", re.MULTILINE)
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")  # of an object without a text of its own
WIDGET = "application/vnd.jupyter.widget-view+json"


def settle(path: Path) -> None:
    """Rewrite an executed notebook so that the same results give the same bytes.

    Left out: times, progress bars and warnings (they were shown while it ran), widgets, versions, paths,
    random names of cells and tables, and in how many pieces something was printed. A notebook that was cut
    short in the middle of a write stays as it is.
    """
    import nbformat

    with suppress(OSError, ValueError):
        notebook = nbformat.read(path, as_version=4)
        ran = notebook.metadata.pop("papermill", {})
        notebook.metadata["papermill"] = {"parameters": ran.get("parameters", {})}
        notebook.metadata["language_info"] = {"name": "python"}
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"
            cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
            if cell.cell_type == "code":
                cell.outputs = _joined([output for output in cell.outputs if not _passing(output)])
                for place, output in enumerate(cell.outputs):
                    _rename(output, f"T_{number:03d}{place:02d}")
        nbformat.write(notebook, path)


def _passing(output: dict) -> bool:
    """Return whether an output says something of its run only: a progress bar, a warning, or a widget, which
    is nothing without its kernel."""
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def _joined(outputs: list[dict]) -> list[dict]:
    """Join what was printed in a row: a kernel sends it in pieces that hang on the clock."""
    joined: list[dict] = []
    for output in outputs:
        if joined and "name" in output and joined[-1].get("name") == output["name"]:
            joined[-1]["text"] = "".join([*joined[-1]["text"], *output["text"]])
        else:
            joined.append(output)
    return joined


def _rename(output: dict, name: str) -> None:
    """Give a styled table a name that hangs on its place alone, and leave out the addresses of objects."""
    for holder, keys in ((output, ("text",)), (output.get("data", {}), ("text/html", "text/plain"))):
        for key in keys:
            if key in holder:
                holder[key] = ADDRESS.sub("", STYLED.sub(name, "".join(holder[key])))


def pictures(path: Path) -> list[str]:
    """Return the pictures that an executed notebook shows, as base64, in their order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [picture_of(output) for output in outputs]
    return ["".join(picture.split()) for picture in shown if picture]


def picture_of(output: dict) -> str | None:
    """Return the picture that an output of an executed notebook shows, as base64; None if it shows none."""
    data = output.get("data", {})
    return next(("".join(data[kind]) for kind in ("image/png", "image/jpeg") if kind in data), None)


def encoded(picture: Path) -> str:
    """Return a picture's bytes as an executed notebook would hold them."""
    return base64.b64encode(picture.read_bytes()).decode()
