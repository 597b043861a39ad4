"""Figures of products in shared places: what each stands in, what is found, and which patches count."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from waldo_utils.data.transforms import TestTransform
from waldo_utils.figures.explain import lit
from waldo_utils.figures.grids import QUERY, RIGHT, WRONG, framed
from waldo_utils.figures.style import BLUE, STYLE

Photos = Callable[[int], Image.Image]


def found_grid(
    photos: Photos,
    orders: dict[str, np.ndarray],
    queries: Sequence[int],
    labels: np.ndarray,
    place: np.ndarray,
    count: int = 4,
) -> Figure:
    """Show queries with their first neighbors by several methods, one row each.

    Frames tell the product as everywhere; a blue bar below tells a photo taken in the query's place.

    Args:
        photos: row to picture.
        orders: method -> (N, K) neighbors.
        queries: rows to show.
        labels, place: (N,) product and place of each photo.
        count: neighbors per query.
    """
    lines = [(query, name) for query in queries for name in orders]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            max(len(lines), 1),
            count + 1,
            figsize=(1.5 * (count + 3), 1.55 * max(len(lines), 1)),
            squeeze=False,
        )
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
        if not lines:
            axes[0, 0].set_xlabel("no query to show")
        for line, (query, name) in zip(axes, lines, strict=False):
            framed(line[0], photos(query), QUERY, "")
            line[0].set_ylabel(
                name.replace("CO + ", "").replace(", ", ",\n"), fontsize=10, rotation=0, ha="right"
            )
            for ax, row in zip(line[1:], orders[name][query], strict=False):
                right = labels[row] == labels[query]
                framed(ax, photos(int(row)), RIGHT if right else WRONG, "✓" if right else "✗")
                if place[row] == place[query]:
                    ax.add_patch(
                        Rectangle((0, -0.12), 1, 0.08, transform=ax.transAxes, color=BLUE, clip_on=False)
                    )
        figure.tight_layout(pad=0.5)
    plt.close(figure)
    return figure


def weight_sheet(
    photos: Photos,
    weights: dict[str, np.ndarray],
    rows: Sequence[int],
    transform: TestTransform,
) -> Figure:
    """Show photos as they are, and lit where each weight of a patch is high.

    Args:
        photos: row to picture.
        weights: name -> (N, h, w) weights of the patches of every photo.
        rows: photos to show.
        transform: that they went through.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            max(len(rows), 1), len(weights) + 1, figsize=(1.8 * (len(weights) + 1), 1.9 * max(len(rows), 1)),
            squeeze=False,
        )  # fmt: skip
        for ax in axes.flat:
            ax.axis("off")
        for line, row in zip(axes, rows, strict=False):
            line[0].imshow(np.asarray(photos(row)))
            for ax, heat in zip(line[1:], weights.values(), strict=True):
                lit(ax, photos(row), heat[row] / max(heat[row].max(), 1e-12), transform)
        for ax, title in zip(axes[0], ("photo", *weights), strict=True):
            ax.set_title(title, fontsize=11)
        figure.tight_layout(pad=0.4)
    plt.close(figure)
    return figure
