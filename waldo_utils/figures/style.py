"""What all figures share: colors that color-blind readers tell apart, and how a figure is saved."""

import io
from pathlib import Path

from IPython.display import Image as DisplayedImage
from matplotlib.figure import Figure
from PIL import Image

from waldo_utils.disk import artifacts
from waldo_utils.disk.files import write_atomically

# Okabe and Ito's colors.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#666666"
)  # fmt: skip
FILLS = ((GREY, ""), (SKY, "//"), (BLUE, ""), (ORANGE, "\\\\"), (PURPLE, ""), (GREEN, "xx"))  # color, hatch
STYLE = {
    "font.size": 13, "axes.titlesize": 14, "axes.labelsize": 13,
    "axes.spines.top": False, "axes.spines.right": False,
    "figure.dpi": 80, "legend.frameon": False, "axes.axisbelow": True,
}  # fmt: skip


def save(figure: Figure, path: Path, dpi: int = 100) -> DisplayedImage:
    """Write a figure and return it for display in a notebook: photos as a JPEG where the path says so,
    anything drawn as a PNG of at most 160 colors.

    Raises:
        locks.Held: it is one of a profile's results, and another process writes for that profile.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight", facecolor="white")
    picture, options = Image.open(buffer).convert("RGB"), {"optimize": True}
    if path.suffix == ".jpg":
        options["quality"] = 88
    else:
        picture = picture.quantize(160, dither=Image.Dither.FLOYDSTEINBERG)
    with artifacts.writing(path):
        write_atomically(path, lambda partial: picture.save(partial, **options))
    return DisplayedImage(filename=str(path))
