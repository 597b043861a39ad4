"""Colors, repeating patterns and printed motifs (numpy and Pillow only). Colors are sRGB in [0, 1]."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from waldo_utils.miniature.draws import Draws

TILE = 128  # pixels of a pattern's side
DECAL = 192  # pixels of a motif's side

PALETTE = {
    "white": (240, 238, 232), "cream": (232, 220, 190), "black": (28, 28, 30), "grey": (128, 130, 132),
    "silver": (190, 192, 195), "red": (178, 34, 38), "navy": (30, 44, 92), "blue": (48, 98, 176),
    "sky": (140, 186, 216), "teal": (24, 122, 122), "green": (52, 112, 60), "olive": (110, 112, 58),
    "mint": (168, 212, 188), "yellow": (232, 190, 54), "orange": (222, 112, 38), "pink": (224, 146, 164),
    "purple": (102, 62, 130), "brown": (98, 62, 40), "tan": (190, 152, 108), "wine": (104, 28, 44),
    "oak": (190, 146, 94), "walnut": (98, 64, 42), "cherry": (132, 66, 42), "pine": (216, 178, 122),
    "ebony": (52, 38, 32), "brass": (196, 152, 70), "copper": (186, 104, 68), "chrome": (200, 204, 208),
    "steel": (160, 164, 168), "charcoal": (62, 64, 68),
}  # fmt: skip
WOODS = "oak walnut cherry pine ebony"
CERAMIC = "white white cream black red navy blue sky teal green mint yellow orange pink purple grey"
FABRIC = "grey charcoal cream tan brown navy blue teal green olive red wine purple mint pink black"
PLASTIC = "black black charcoal grey white red blue teal green yellow orange pink"
METAL = "chrome steel brass copper black"
PRINT = "stripe check plaid zigzag dots floral floral marble speckle"

SYLLABLES = (
    "ba co di fu ga lo mi ne po ra su ta vi zo ke lu mor tel san bri nova dal per kin ost wel ix on"
).split()


def color(draws: Draws, name: str, names: str, jitter: float = 0.07) -> np.ndarray:
    """Return (3,) a palette color, one of `names`, slightly off by up to `jitter`."""
    base = np.array(PALETTE[draws.choice(name, names)], float) / 255
    shift = np.array([draws.uniform(f"{name}.{channel}", -1, 1) for channel in "rgb"]) * jitter
    return np.clip(base * (1 + 2 * shift.mean()) + 0.6 * shift * base, 0.01, 0.97)


def linear(srgb: np.ndarray) -> np.ndarray:
    """Return float32 light intensities of sRGB values (by the power 2.2)."""
    return np.asarray(srgb, np.float32) ** np.float32(2.2)


def luminance(rgb: np.ndarray) -> float:
    """Return a rough brightness of an sRGB color."""
    return float(np.dot(rgb, (0.3, 0.6, 0.1)))


def blend(ground: np.ndarray, figure: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Return (..., 3) colors between ground and figure by (...) amounts in [0, 1]."""
    return np.asarray(ground) * (1 - amount[..., None]) + np.asarray(figure) * amount[..., None]


@lru_cache(None)
def noise(
    index: int, size: int = TILE, slope: float = 1.6, across: float = 1.0, along: float = 1.0
) -> np.ndarray:
    """Return a (size, size) tileable noise in [0, 1] with mean 0.5.

    Args:
        index: which one.
        size: of the tile, pixels.
        slope: how fast amplitudes fall with frequency; small is grainy.
        across, along: stretch of the frequencies; below one makes streaks.
    """
    generator = np.random.default_rng([77, index])
    frequencies = np.fft.fftfreq(size) * size
    fx, fy = np.meshgrid(frequencies * across, frequencies * along, indexing="xy")
    amplitude = 1 / np.maximum(np.hypot(fx, fy), 0.7) ** slope
    amplitude[0, 0] = 0
    field = np.fft.ifft2(np.fft.fft2(generator.standard_normal((size, size))) * amplitude).real
    return np.clip(0.5 + field / (field.std() * 5), 0, 1).astype(np.float32)


# ---------------------------------------------------------------- patterns


def tile(
    draws: Draws, name: str, kind: str, ground: np.ndarray, figure: np.ndarray | None = None
) -> np.ndarray:
    """Return a (TILE, TILE, 3) repeating pattern; "solid" is a single pixel.

    Args:
        draws: decides the pattern's details.
        name: of the draws.
        kind: "solid", "wood", "marble", "speckle", "leather", "brushed", "fabric", or one of `PRINT`.
        ground: (3,) main color.
        figure: (3,) second color; a darker ground if None.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind == "solid":
        return np.asarray(ground, float).reshape(1, 1, 3).copy()
    if kind not in _PATTERNS:
        raise ValueError(f"unknown pattern {kind!r}: choose solid, {', '.join(_PATTERNS)}")
    return _PATTERNS[kind](
        draws, name, np.asarray(ground), ground * 0.6 if figure is None else np.asarray(figure)
    )


def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of a tile's pixels in [0, 1)."""
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE
    return x, y


def _variant(draws: Draws, name: str) -> int:
    return draws.integer(f"{name}.variant", 0, 7)


def _wood(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    variant = _variant(draws, name)
    grain = noise(100 + variant, TILE, 1.5, 1.0, 0.12)
    rings = 0.5 + 0.5 * np.sin(grain * draws.uniform(f"{name}.rings", 14, 40))
    amount = 0.55 * rings + 0.45 * noise(110 + variant, TILE, 0.6, 1.0, 0.06)
    return blend(ground * 1.08, ground * draws.uniform(f"{name}.dark", 0.45, 0.75), amount)


def _marble(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    veins = 1 - abs(noise(120 + _variant(draws, name), TILE, 1.9) - 0.5) * draws.uniform(
        f"{name}.veins", 12, 30
    )
    return blend(ground, figure, np.clip(veins, 0, 1) * 0.8)


def _speckle(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    spots = noise(130 + _variant(draws, name), TILE, 0.3) > draws.uniform(f"{name}.spots", 0.62, 0.78)
    return blend(ground, figure, spots * 1.0)


def _leather(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    return blend(ground, ground * 0.75, noise(140 + _variant(draws, name), TILE, 1.0))


def _brushed(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    return blend(ground, ground * 0.82, noise(150 + _variant(draws, name), TILE, 0.7, 0.05, 1.0))


def _fabric(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    x, y = _coordinates()
    weave = 0.5 + 0.25 * np.sin(x * 2 * np.pi * 32) + 0.25 * np.sin(y * 2 * np.pi * 32)
    return blend(
        ground * 1.05, ground * 0.72, 0.5 * weave + 0.5 * noise(160 + _variant(draws, name), TILE, 0.6)
    )


def _stripe(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    x, y = _coordinates()
    across = x if draws.chance(f"{name}.upright") else y
    phase = across * draws.integer(f"{name}.count", 1, 6) % 1
    return blend(ground, figure, (phase < draws.uniform(f"{name}.duty", 0.15, 0.6)) * 1.0)


def _check(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    x, y = _coordinates()
    count = 2 * draws.integer(f"{name}.count", 1, 4)
    return blend(ground, figure, ((x * count).astype(int) + (y * count).astype(int)) % 2 * 1.0)


def _plaid(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    x, y = _coordinates()
    count = draws.integer(f"{name}.count", 1, 3)
    upright = x * count % 1 < draws.uniform(f"{name}.upright", 0.1, 0.5)
    level = y * count % 1 < draws.uniform(f"{name}.level", 0.1, 0.5)
    thin = (x * count + 0.7) % 1 < 0.06
    return blend(ground, figure, np.maximum(0.45 * upright + 0.45 * level, 0.9 * thin))


def _zigzag(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    x, y = _coordinates()
    count = draws.integer(f"{name}.count", 2, 5)
    phase = (y * count + abs((x * count * 2) % 2 - 1) * 0.6) % 1
    return blend(ground, figure, (phase < draws.uniform(f"{name}.duty", 0.25, 0.6)) * 1.0)


def _dots(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    x, y = _coordinates()
    count = draws.integer(f"{name}.count", 2, 5)
    row = y * count
    shifted = 0.5 * (row.astype(int) % 2) * draws.integer(f"{name}.shift", 0, 1) * (count % 2 == 0)
    distance = np.hypot((x * count + shifted) % 1 - 0.5, row % 1 - 0.5)
    radius = draws.uniform(f"{name}.radius", 0.18, 0.36)
    return blend(ground, figure, np.clip((radius - distance) * TILE / count, 0, 1))


def _floral(draws: Draws, name: str, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
    image = Image.new("RGB", (TILE, TILE), _bytes(ground))
    canvas = ImageDraw.Draw(image)
    for i in range(draws.integer(f"{name}.count", 3, 8)):
        flower = f"{name}.{i}"
        x, y = draws.uniform(f"{flower}.x") * TILE, draws.uniform(f"{flower}.y") * TILE
        radius = draws.uniform(f"{flower}.radius", 0.06, 0.14) * TILE
        fill = _bytes(figure if i % 2 else color(draws, f"{flower}.color", CERAMIC))
        petals, phase = draws.integer(f"{flower}.petals", 4, 7), draws.uniform(f"{flower}.phase", 0, 6)
        for left in (-TILE, 0, TILE):
            for top in (-TILE, 0, TILE):
                _flower(canvas, x + left, y + top, radius, petals, phase, fill)
    return np.asarray(image, float) / 255


def _flower(canvas, x: float, y: float, radius: float, petals: int, phase: float, fill: tuple) -> None:
    if not (-2 * radius < x < TILE + 2 * radius and -2 * radius < y < TILE + 2 * radius):
        return
    for angle in phase + 2 * np.pi * np.arange(petals) / petals:
        _disc(canvas, x + np.cos(angle) * radius * 0.9, y + np.sin(angle) * radius * 0.9, radius * 0.55, fill)
    _disc(canvas, x, y, radius * 0.4, (235, 200, 70))


_PATTERNS: dict[str, Callable] = {
    "wood": _wood, "marble": _marble, "speckle": _speckle, "leather": _leather, "brushed": _brushed,
    "fabric": _fabric, "stripe": _stripe, "check": _check, "plaid": _plaid, "zigzag": _zigzag, "dots": _dots,
    "floral": _floral,
}  # fmt: skip


# ---------------------------------------------------------------- motifs


def decal(draws: Draws, name: str, ground: np.ndarray, kind: str | None = None) -> np.ndarray:
    """Return a (DECAL, DECAL, 4) printed motif, RGBA, in colors that stand out from `ground`.

    Args:
        draws: decides the motif.
        name: of the draws.
        ground: (3,) color it is printed on.
        kind: "logo", "badge", "art", "text", "scene", "face" or "cloud"; None draws one.
    """
    kind = kind or draws.choice(f"{name}.kind", "logo logo art art text text badge scene face cloud")
    image = Image.new("RGBA", (DECAL, DECAL), (0, 0, 0, 0))

    def ink(index: int) -> tuple[int, int, int, int]:
        for attempt in range(6):
            rgb = color(draws, f"{name}.ink{index}.{attempt}", f"{CERAMIC} {PLASTIC}")
            if abs(luminance(rgb) - luminance(ground)) > 0.22:
                break
        return (*_bytes(rgb), 255)

    _MOTIFS[kind](draws, name, image, ImageDraw.Draw(image), ink)
    return np.asarray(image, np.float32) / 255


def word(draws: Draws, name: str) -> str:
    """Return an invented word of one to three syllables."""
    count = draws.integer(f"{name}.syllables", 1, 3)
    return "".join(draws.choice(f"{name}.{i}", SYLLABLES) for i in range(count))


def write(
    canvas: ImageDraw.ImageDraw, center: tuple[float, float], text: str, size: float, fill: tuple
) -> None:
    """Write text around a center, `size` pixels high."""
    canvas.text(center, text, fill=fill, font=_font(max(int(size), 4)), anchor="mm")


@lru_cache(None)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _bytes(rgb: np.ndarray) -> tuple[int, int, int]:
    return tuple(int(255 * channel) for channel in np.clip(rgb, 0, 1))


def _disc(canvas: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple) -> None:
    canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


def _text(draws, name, image, canvas, ink) -> None:
    rows = draws.integer(f"{name}.rows", 1, 3)
    upper = draws.chance(f"{name}.upper")
    for i in range(rows):
        text = word(draws, f"{name}.word{i}")
        text = text.upper() if upper else text.capitalize()
        size = min(DECAL * 0.42 / rows**0.5, 1.5 * DECAL / max(len(text), 2))
        write(canvas, (DECAL / 2, DECAL * (i + 1) / (rows + 1)), text, size, ink(i % 2))


def _logo(draws, name, image, canvas, ink, reach: float = 0.46) -> None:
    points = draws.integer(f"{name}.points", 3, 9)
    angle = np.arange(2 * points) * np.pi / points + draws.uniform(f"{name}.phase", 0, 3)
    inner = draws.uniform(f"{name}.inner", 0.2, 0.42) * reach / 0.46
    radius = DECAL * np.where(np.arange(2 * points) % 2, inner, reach)
    star = DECAL / 2 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    canvas.polygon([tuple(corner) for corner in star], fill=ink(0))
    core = DECAL * draws.uniform(f"{name}.core", 0.12, 0.24)
    _disc(canvas, DECAL / 2, DECAL / 2, core, ink(1))
    letters = word(draws, f"{name}.word")[: draws.integer(f"{name}.letters", 1, 3)]
    write(canvas, (DECAL / 2, DECAL / 2), letters.upper(), core * 1.3, ink(3))


def _badge(draws, name, image, canvas, ink) -> None:
    _disc(canvas, DECAL / 2, DECAL / 2, DECAL / 2 - 4, ink(2))
    _logo(draws, name, image, canvas, ink, reach=0.35)


def _art(draws, name, image, canvas, ink) -> None:
    for i in range(draws.integer(f"{name}.count", 6, 16)):
        shape = f"{name}.{i}"
        x, y = (draws.uniform(f"{shape}.{axis}", 0.05, 0.8) * DECAL for axis in "xy")
        width, height = (draws.uniform(f"{shape}.{axis}", 0.08, 0.4) * DECAL for axis in ("width", "height"))
        right, bottom = min(x + width, DECAL), min(y + height, DECAL)
        kind = draws.choice(f"{shape}.kind", "ellipse rectangle line triangle")
        if kind == "ellipse":
            canvas.ellipse([x, y, right, bottom], fill=ink(i % 4))
        elif kind == "rectangle":
            canvas.rectangle([x, y, right, bottom], fill=ink(i % 4))
        elif kind == "line":
            canvas.line(
                [x, y, x + width - DECAL * 0.2, y + height], fill=ink(i % 4), width=int(3 + DECAL * 0.03)
            )
        else:
            canvas.polygon(
                [(x, y), (x + width, y + height * 0.3), (x + width * 0.4, y + height)], fill=ink(i % 4)
            )


def _scene(draws, name, image, canvas, ink) -> None:
    edge = 8
    canvas.rectangle([edge, edge, DECAL - edge, DECAL - edge], fill=ink(0))
    x = np.linspace(edge, DECAL - edge, 12)
    for i in range(3):
        waves = np.sin(
            x / DECAL * draws.uniform(f"{name}.waves{i}", 4, 16) + draws.uniform(f"{name}.phase{i}", 0, 6)
        )
        y = DECAL * (0.45 + 0.15 * i) + DECAL * 0.09 * waves
        hills = [(edge, DECAL - edge), *zip(x, y, strict=True), (DECAL - edge, DECAL - edge)]
        canvas.polygon(hills, fill=ink(i + 1))
    sun = DECAL * draws.uniform(f"{name}.sun", 0.06, 0.13)
    _disc(canvas, DECAL * draws.uniform(f"{name}.sun_x", 0.2, 0.8), DECAL * 0.25, sun, ink(5))


def _face(draws, name, image, canvas, ink) -> None:
    middle = DECAL / 2
    _disc(canvas, middle, middle, DECAL * 0.4, ink(0))
    eye = draws.uniform(f"{name}.eye", 0.04, 0.1) * DECAL
    apart = draws.uniform(f"{name}.apart", 0.12, 0.22) * DECAL
    height = draws.uniform(f"{name}.height", 0.35, 0.45) * DECAL
    for side in (-1, 1):
        _disc(canvas, middle + side * apart, height, eye, ink(1))
    mouth = [DECAL * 0.3, DECAL * 0.4, DECAL * 0.7, DECAL * draws.uniform(f"{name}.mouth", 0.65, 0.8)]
    canvas.arc(mouth, 20, 160, fill=ink(1), width=int(DECAL * 0.05))
    if draws.chance(f"{name}.ears"):
        for side in (-1, 1):
            corners = [(0.38, 0.3), (0.36, 0.02), (0.12, 0.14)]
            canvas.polygon([(middle + side * DECAL * x, DECAL * y) for x, y in corners], fill=ink(0))


def _cloud(draws, name, image, canvas, ink) -> None:
    first, second, third = (np.array(ink(i)[:3]) / 255 for i in range(3))
    field = noise(200 + draws.integer(f"{name}.field", 0, 9), TILE, 2.0)
    other = noise(210 + draws.integer(f"{name}.other", 0, 9), TILE, 1.7)
    picture = blend(
        blend(first, second, np.clip(field * 2 - 0.5, 0, 1)), third, np.clip(other * 5 - 2.6, 0, 1)
    )
    inside = Image.fromarray((picture * 255).astype(np.uint8)).resize((DECAL - 16, DECAL - 16))
    image.paste(inside, (8, 8))


_MOTIFS: dict[str, Callable] = {
    "text": _text,
    "logo": _logo,
    "badge": _badge,
    "art": _art,
    "scene": _scene,
    "face": _face,
    "cloud": _cloud,
}
