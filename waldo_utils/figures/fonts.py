"""Names of photos and products in whatever letters, drawn without boxes and without warnings."""

import unicodedata
from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager

FAMILY = "DejaVu Sans"  # comes with matplotlib
NO_FONTS = ("lastresort", "last resort")  # hold a box for every character
INVISIBLE = ("Cf", "Mn", "Me")  # joiners, variants, marks: left out where no font has them


def legible(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return texts as they can be drawn here, and the font families that have their characters.

    Installed fonts are looked through for what matplotlib's own lacks; what none has is written as its code,
    as in "\\u6f22".
    """
    lacking = {ord(c) for text in texts for c in text if c != "\n"} - _characters(_own())
    families = [FAMILY]
    for font in _others() if lacking else ():
        if found := lacking & _characters(font.fname):
            families.append(font.name)
            lacking -= found
        if not lacking:
            break
    drawn = {code: _written(chr(code)) for code in lacking}
    return [text.translate(drawn) for text in texts], families


def _written(character: str) -> str:
    if unicodedata.category(character) in INVISIBLE:
        return ""
    return character.encode("unicode_escape").decode()


def _own() -> str:
    return font_manager.findfont(font_manager.FontProperties(family=FAMILY))


def _others() -> list[font_manager.FontEntry]:
    """Return the upright fonts of the system, in the order of their names."""
    fonts = [
        font
        for font in font_manager.fontManager.ttflist
        if font.style == "normal" and not font.name.lower().replace("-", "").startswith(NO_FONTS)
    ]
    return sorted(
        fonts, key=lambda font: (str(font.weight) not in ("400", "normal", "regular"), font.name, font.fname)
    )


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the codes of the characters that a font draws; none where matplotlib cannot draw with it."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except Exception:  # fonts of pictures (emoji) and damaged ones raise whatever comes
        return frozenset()
