"""One HTML file of all executed notebooks, which opens without a network."""

import base64
import io
from pathlib import Path

from PIL import Image

from waldo_utils.disk.files import write_atomically
from waldo_utils.study import Study

WIDTH = 680  # pixels of the report's pictures at most; they are in full beside it
QUALITY = 30  # of its WebP pictures
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #222; margin: 0; }
main { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-top: 3rem; border-top: 1px solid #bbb; padding-top: 1.5rem; }
img { max-width: 100%; height: auto; }
pre { overflow-x: auto; background: #f6f6f6; padding: 0.6rem 0.8rem; font-size: 0.82rem; line-height: 1.4; }
.output_area, .jp-OutputArea-output { overflow-x: auto; }
.input_prompt, .output_prompt, .prompt, .anchor-link { display: none; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 0.6rem 0; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; }
"""


def write_report(study: Study, notebooks: list[Path], path: Path) -> None:
    """Write one HTML file with all executed notebooks, which opens without a network."""
    import nbformat
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    whole = nbformat.v4.new_notebook()
    toc = "\n".join(f"{i}. [{p.stem}](#{p.stem})" for i, p in enumerate(notebooks, start=1))
    whole.cells.append(
        nbformat.v4.new_markdown_cell(f"# Where's Waldo? Profile `{study.name}`\n\n{study.summary}\n\n{toc}")
    )
    for notebook in notebooks:
        whole.cells.append(nbformat.v4.new_markdown_cell(f'<a id="{notebook.stem}"></a>'))
        for cell in nbformat.read(notebook, as_version=4).cells:
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
                for output in cell.outputs:
                    _shrink_pictures(output.get("data", {}))
            whole.cells.append(cell)
    for i, cell in enumerate(whole.cells):
        cell.id = f"cell-{i}"
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(whole)
    highlighting = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    title = f"Where's Waldo? {study.name}"
    page = (
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<style>{STYLE}{highlighting}</style></head><body><main>{body}</main></body></html>"
    )
    write_atomically(path, lambda partial: partial.write_text(page))


def _shrink_pictures(data: dict) -> None:
    """Replace a cell's PNG by a smaller WebP: the report is one file, the PNGs are beside it."""
    if "image/png" not in data:
        return
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((WIDTH, 10 * WIDTH))
    picture.save(buffer, "WEBP", quality=QUALITY, method=6)
    text = base64.b64encode(buffer.getvalue()).decode()
    data["text/html"] = f'<img alt="figure" src="data:image/webp;base64,{text}">'
    del data["image/png"]
