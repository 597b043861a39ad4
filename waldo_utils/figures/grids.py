"""Figures of the study (matplotlib): grids of photos, curves, bars, heat maps. One palette, safe for
color-blind readers."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from waldo_utils.figures import fonts
from waldo_utils.figures.style import GREEN, GREY, STYLE, VERMILION

RIGHT, WRONG, QUERY = GREEN, VERMILION, "#222222"


def photo_sheet(photos: Sequence, columns: int, titles: Sequence[str] | None = None) -> Figure:
    """Show photos in a grid.

    Args:
        photos: pictures, or (3, h, w) tensors in [0, 1].
        columns: photos per row.
        titles: one per photo.
    """
    rows = -(-len(photos) // columns)
    titles, families = fonts.legible(titles) if titles else (None, None)
    lines = max(title.count("\n") + 1 for title in titles) if titles else 0
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(1.35 * columns, (1.35 + 0.25 * lines) * rows), squeeze=False
        )
        for ax in axes.flat:
            ax.axis("off")
        for i, (ax, photo) in enumerate(zip(axes.flat, photos, strict=False)):
            _show(ax, photo)
            if titles:
                ax.set_title(titles[i], fontsize=10, fontfamily=families, parse_math=False)
        figure.tight_layout(pad=0.3)
    plt.close(figure)
    return figure


def neighbor_grid(
    photos: Callable[[int], Image.Image],
    neighbors: np.ndarray,
    queries: Sequence[int],
    labels: np.ndarray,
    count: int = 5,
) -> Figure:
    """Show queries, one per row, with their first neighbors.

    A green frame and a check mark tell the same product, a vermilion frame and a cross another one.

    Args:
        photos: row to picture.
        neighbors: (N, K) rows, nearest first.
        queries: rows to show.
        labels: (N,) product of each photo.
        count: neighbors per query.
    """
    with plt.rc_context(STYLE):
        figure, axes = _grid(len(queries), count, ["query", *(f"NN{i}" for i in range(1, count + 1))])
        if not len(queries):
            axes[0, 0].set_xlabel("no query to show")
        for line, query in zip(axes, queries, strict=False):  # without a query one line is empty
            framed(line[0], photos(query), QUERY, "")
            _fill(line[1:], photos, neighbors[query][:count], labels[query], labels)
    plt.close(figure)
    return figure


def before_after_grid(
    photos: Callable[[int], Image.Image],
    before: np.ndarray,
    after: np.ndarray,
    queries: Sequence[int],
    labels: np.ndarray,
    count: int = 5,
) -> Figure:
    """Show, for each query, its first neighbors before and after reranking, one row each; the numbers are old
    ranks.

    Arguments are those of `neighbor_grid`, with the two orders.
    """
    with plt.rc_context(STYLE):
        figure, axes = _grid(2 * len(queries), count, ["query", *(f"NN{i}" for i in range(1, count + 1))])
        for i, query in enumerate(queries):
            framed(axes[2 * i][0], photos(query), QUERY, "")
            axes[2 * i][0].set_ylabel("before")
            axes[2 * i + 1][0].text(
                0.95,
                0.5,
                "after\nreranking",
                ha="right",
                va="center",
                fontsize=14,
                transform=axes[2 * i + 1][0].transAxes,
            )
            axes[2 * i + 1][0].axis("off")
            _fill(axes[2 * i][1:], photos, before[query][:count], labels[query], labels)
            old = {int(row): rank for rank, row in enumerate(before[query], start=1)}
            new = after[query][:count]
            _fill(
                axes[2 * i + 1][1:],
                photos,
                new,
                labels[query],
                labels,
                [f"was {old[int(row)]}" for row in new],
            )
    plt.close(figure)
    return figure


def rank_change_grid(
    photos: Callable[[int], Image.Image], tables: dict[str, pd.DataFrame], columns: int = 5
) -> Figure:
    """Show pairs of query and right photo, `columns` pairs per line, with the photo's rank before and after.

    Args:
        photos: row to picture.
        tables: title -> one row per pair: `query`, `neighbor`, `rank before`, `rank after` (see
            `changes.rank_changes`).
        columns: pairs per line.
    """
    lines = [
        (title, table.iloc[start : start + columns])
        for title, table in tables.items()
        for start in range(0, max(len(table), 1), columns)
    ]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(lines), 2 * columns, figsize=(2.5 * columns + 0.6, 1.75 * len(lines)), squeeze=False
        )
        for ax in axes.flat:
            ax.axis("off")
        for line, (title, table) in zip(axes, lines, strict=True):
            line[0].text(-0.12, 0.5, title, transform=line[0].transAxes, rotation=90, ha="right", va="center")
            for i, row in enumerate(table.itertuples(index=False)):
                query, match = line[2 * i], line[2 * i + 1]
                for ax, photo, color, mark in ((query, row[0], QUERY, ""), (match, row[1], RIGHT, "✓")):
                    ax.axis("on")
                    ax.set(xticks=[], yticks=[])
                    framed(ax, photos(int(photo)), color, mark)
                query.set_title("query", fontsize=12)
                match.set_title(f"rank {row[2]} → {row[3]}", fontsize=12)
        figure.tight_layout(pad=0.4)
    plt.close(figure)
    return figure


def _grid(rows: int, count: int, titles: list[str]) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(
        max(rows, 1),
        count + 1,
        figsize=(1.5 * (count + 1.2), 1.53 * max(rows, 1)),
        squeeze=False,
        gridspec_kw={"width_ratios": [1.15, *[1] * count]},
    )
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    figure.tight_layout(pad=0.4)
    return figure, axes


def _fill(
    axes, photos, row: np.ndarray, label: int, labels: np.ndarray, notes: list[str] | None = None
) -> None:
    for i, (ax, neighbor) in enumerate(zip(axes, row, strict=False)):
        right = labels[neighbor] == label
        framed(ax, photos(int(neighbor)), RIGHT if right else WRONG, "✓" if right else "✗")
        if notes:
            ax.text(
                0.97,
                0.03,
                notes[i],
                transform=ax.transAxes,
                ha="right",
                va="bottom",
                fontsize=12,
                fontweight="bold",
                color="white",
                bbox={"facecolor": "black", "alpha": 0.75, "pad": 2, "linewidth": 0},
            )


def framed(ax: Axes, photo, color: str, mark: str) -> None:
    """Draw a photo in a colored frame, with a mark in its corner."""
    _show(ax, photo)
    for spine in ax.spines.values():
        spine.set(visible=True, color=color, linewidth=3)
    if mark:
        ax.text(
            0.06,
            0.94,
            mark,
            transform=ax.transAxes,
            ha="left",
            va="top",
            fontsize=13,
            fontweight="bold",
            color="white",
            bbox={"facecolor": color, "pad": 2, "linewidth": 0},
        )


def _show(ax: Axes, photo) -> None:
    """Draw a photo in the middle of a white square."""
    if not isinstance(photo, Image.Image):
        photo = Image.fromarray((np.asarray(photo).transpose(1, 2, 0) * 255).round().astype(np.uint8))
    side = max(photo.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(photo, ((side - photo.width) // 2, (side - photo.height) // 2))
    square.thumbnail((128, 128))
    ax.imshow(np.asarray(square))


def answer_grid(
    query: Image.Image, photos: Sequence[Image.Image], table: pd.DataFrame, label: str | None = None
) -> Figure:
    """Show a query and its matches in order, each with its rank by global similarity and its product.

    Args:
        query: the crop that was searched.
        photos: the matches, best first.
        table: one row per match: columns `global rank`, `score` and `product`.
        label: product of the query where it is known: matches get a green frame and a check mark, or a
            vermilion frame and a cross. None: grey frames.
    """
    columns = min(len(photos), 5)
    lines = -(-len(photos) // 5)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            lines, columns + 1, figsize=(1.75 * (columns + 1), 2.35 * lines), squeeze=False
        )
        for ax in axes.flat:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        framed(axes[0][0], query, QUERY, "")
        axes[0][0].set_title("query", fontsize=11)
        for i, (photo, row) in enumerate(zip(photos, table.to_dict("records"), strict=True)):
            ax = axes[i // 5][i % 5 + 1]
            color, mark = (
                (GREY, "") if label is None else (RIGHT, "✓") if row["product"] == label else (WRONG, "✗")
            )
            framed(ax, photo, color, mark)
            ax.set_title(f"{i + 1} (was {row['global rank']})", fontsize=11)
            (name,), families = fonts.legible([row["product"].split("/")[-1][:16]])
            ax.set_xlabel(
                f"{name[:24]}\nscore {row['score']:.2f}" if name else f"score {row['score']:.2f}",
                fontsize=9,
                fontfamily=families,
                parse_math=False,  # a folder may be called $x
            )
        figure.tight_layout(pad=0.5, h_pad=1.2)
    plt.close(figure)
    return figure
