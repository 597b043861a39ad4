"""Names in letters that the figures' font lacks: drawn with another font, or written as codes, never as
boxes."""

import pandas as pd
import pytest
from matplotlib import font_manager
from PIL import Image

from waldo_utils.figures import fonts, grids

NAMES = ["漢字", "กาแฟ", "قهوة", "☕🍎", "कॉफ़ी", "a\u200db", "$x_{"]


@pytest.fixture(autouse=True)
def own_font_alone(monkeypatch):
    monkeypatch.setattr(fonts, "_others", lambda: [])


def test_what_no_font_has_is_written_as_its_code():
    texts, families = fonts.legible(["mug 漢", "mug", "a\U000e0100b\nc"])
    assert texts == ["mug \\u6f22", "mug", "ab\nc"]
    assert families == ["DejaVu Sans"]


def test_a_font_that_has_it_is_taken(monkeypatch):
    math = next(font for font in font_manager.fontManager.ttflist if font.name == "STIXGeneral")
    missing = min(fonts._characters(math.fname) - fonts._characters(fonts._own()))
    monkeypatch.setattr(fonts, "_others", lambda: [math])
    assert fonts.legible([f"a{chr(missing)}漢"]) == (
        [f"a{chr(missing)}\\u6f22"],
        ["DejaVu Sans", "STIXGeneral"],
    )
    assert fonts.legible(["plain"])[1] == ["DejaVu Sans"]


def test_a_font_that_cannot_be_drawn_with_has_no_characters(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert fonts._characters(str(tmp_path / "broken.ttf")) == frozenset()


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_matches_is_drawn_without_a_warning(tmp_path, name):
    photo = Image.new("RGB", (8, 8))
    table = pd.DataFrame({"global rank": [1], "score": [0.5], "product": [f"shop/{name}"]})
    grids.answer_grid(photo, [photo], table).savefig(tmp_path / "a.png")
    grids.photo_sheet([photo], 1, [name]).savefig(tmp_path / "b.png")
