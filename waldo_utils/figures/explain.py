"""What matched where: the reranker's attention between the patches of two photos, as arrays and as a
figure."""

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from PIL import Image

from waldo_utils.data.photo_cache import PhotoCache
from waldo_utils.data.transforms import TestTransform
from waldo_utils.figures.style import BLUE, GREEN, ORANGE, PURPLE, SKY, STYLE, VERMILION
from waldo_utils.models.devices import device
from waldo_utils.models.reranker import RerankingTransformer


@dataclass(frozen=True)
class PatchAttention:
    """Attention between the P = h * w patches of a query and of a gallery photo, rows first."""

    to_gallery: np.ndarray  # (P, P) from query patch i to gallery patch j
    to_query: np.ndarray  # (P, P) from gallery patch j to query patch i
    grid: tuple[int, int]  # h, w

    @property
    def query_heat(self) -> np.ndarray:
        """(h, w) share of its attention that each query patch gives to the other photo."""
        return self.to_gallery.sum(axis=1).reshape(self.grid)

    @property
    def gallery_heat(self) -> np.ndarray:
        """(h, w) the same for the gallery photo's patches."""
        return self.to_query.sum(axis=1).reshape(self.grid)

    def links(self, count: int = 8) -> list[tuple[int, int, float]]:
        """Return up to `count` pairs (query patch, gallery patch, strength) that are each other's best,
        strongest first.

        The strength of a pair is the geometric mean of the attention both ways.
        """
        strength = np.sqrt(self.to_gallery * self.to_query.T)  # (P, P)
        best = strength.argmax(axis=1)
        mutual = [i for i in range(len(best)) if strength[:, best[i]].argmax() == i]
        mutual.sort(key=lambda i: -strength[i, best[i]])
        return [(i, int(best[i]), float(strength[i, best[i]])) for i in mutual[:count]]


@torch.inference_mode()
def patch_attention(reranker: RerankingTransformer, query: np.ndarray, gallery: np.ndarray) -> PatchAttention:
    """Return which patches attend to which in the reranker's first layer, mean over its heads.

    The first layer, because there a token still is one patch; further up each has read all others.

    Args:
        reranker: in eval mode.
        query, gallery: (D, h, w) local features of the two photos.

    Raises:
        ValueError: the maps differ in shape.
    """
    if query.shape != gallery.shape:
        raise ValueError(f"local features of {query.shape} and {gallery.shape}: make both with one model")
    left, right = (torch.from_numpy(np.array(x))[None].float().to(device()) for x in (query, gallery))
    tokens = reranker.sequence(left, right)  # (1, 2 * P + 2, D)
    first = reranker.encoder.layers[0].self_attn
    weights = first(tokens, tokens, tokens, need_weights=True)[1][0].cpu().numpy()  # (2 * P + 2, 2 * P + 2)
    places = query.shape[1] * query.shape[2]
    own, other = slice(1, places + 1), slice(places + 2, 2 * places + 2)
    return PatchAttention(weights[own, other], weights[other, own], (query.shape[1], query.shape[2]))


def patch_center(
    patch: int, grid: tuple[int, int], photo: tuple[int, int], transform: TestTransform
) -> tuple[float, float]:
    """Return x and y, in pixels of a photo, of the middle of a patch.

    Args:
        patch: number, rows first.
        grid: h, w of the feature map.
        photo: width and height of the photo.
        transform: that the photo went through.
    """
    row, column = divmod(patch, grid[1])
    start = (transform.resize - transform.crop) // 2
    x = (start + (column + 0.5) * transform.crop / grid[1]) / transform.resize
    y = (start + (row + 0.5) * transform.crop / grid[0]) / transform.resize
    return x * photo[0], y * photo[1]


def match_figure(
    query: Image.Image,
    gallery: Image.Image,
    attention: PatchAttention,
    transform: TestTransform,
    count: int = 8,
) -> Figure:
    """Show two photos side by side: bright where a patch attends to the other photo, numbers joining the best
    pairs.

    Args:
        query, gallery: the photos, as they were searched.
        attention: between their patches.
        transform: that both went through.
        count: pairs to join.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 4.6))
        heats = (attention.query_heat, attention.gallery_heat)
        low, high = min(h.min() for h in heats), max(h.max() for h in heats)
        for ax, photo, heat, title in zip(axes, (query, gallery), heats, ("query", "match"), strict=True):
            lit(ax, photo, (heat - low) / max(high - low, 1e-6), transform)
            ax.set_title(title)
        for number, (i, j, _) in enumerate(attention.links(count), start=1):
            color = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE)[(number - 1) % 6]
            start = patch_center(i, attention.grid, query.size, transform)
            end = patch_center(j, attention.grid, gallery.size, transform)
            line = ConnectionPatch(
                start, end, "data", "data", axesA=axes[0], axesB=axes[1], color=color, lw=1.6, alpha=0.85
            )
            figure.add_artist(line)
            for ax, (x, y) in zip(axes, (start, end), strict=True):
                ax.text(
                    x, y, str(number), ha="center", va="center", fontsize=9, color="black", fontweight="bold",
                    bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white",
                          "edgecolor": color, "linewidth": 2},
                )  # fmt: skip
        figure.tight_layout(pad=0.5, w_pad=2)
    plt.close(figure)
    return figure


def pair_figures(
    reranker: RerankingTransformer,
    local: np.ndarray,
    photos: PhotoCache,
    pairs: list[tuple[int, int, str]],
    transform: TestTransform,
) -> Iterator[Figure]:
    """Yield `match_figure` of each pair, with what the pair is above it.

    Args:
        reranker: whose attention is shown.
        local: (N, D, h, w) local features of the photos.
        photos: the N photos.
        pairs: query, match and what they are, as of `changes.pairs_to_explain`.
        transform: that the photos went through.
    """
    for query, match, title in pairs:
        attention = patch_attention(reranker, local[query], local[match])
        figure = match_figure(photos.image(query), photos.image(match), attention, transform)
        figure.suptitle(title, y=1.02, va="bottom")
        yield figure


def lit(ax: Axes, photo: Image.Image, heat: np.ndarray, transform: TestTransform) -> None:
    """Draw a photo, darkened where the heat (h, w) in [0, 1] is low; the rim that the models do not see is
    darkest."""
    width, height = photo.size
    ax.imshow(np.asarray(photo))
    start = (transform.resize - transform.crop) // 2
    side = 4 * transform.resize
    light = np.zeros((side, side))
    cells = Image.fromarray(heat.astype(np.float32)).resize(
        (4 * transform.crop,) * 2, Image.Resampling.BICUBIC
    )
    light[4 * start : 4 * (start + transform.crop), 4 * start : 4 * (start + transform.crop)] = np.asarray(
        cells
    )
    shade = np.zeros((side, side, 4))
    shade[..., 3] = 0.6 * (1 - light.clip(0, 1))
    ax.imshow(shade, extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="equal")
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
