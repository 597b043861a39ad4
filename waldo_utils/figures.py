"""Figures of the study (matplotlib): grids of photos, curves, bars, heat maps. One palette, safe for color-blind readers."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image as DisplayedImage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from waldo_utils.artifacts import write_atomically

# Okabe and Ito's colors.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#666666"
)  # fmt: skip
RIGHT, WRONG, QUERY = GREEN, VERMILION, "#222222"
STYLE = {
    "font.size": 13, "axes.titlesize": 14, "axes.labelsize": 13, "axes.spines.top": False, "axes.spines.right": False,
    "figure.dpi": 80, "legend.frameon": False, "axes.axisbelow": True,
}  # fmt: skip


def save(figure: Figure, path: Path, dpi: int = 100) -> DisplayedImage:
    """Write a figure as a PNG of at most 160 colors and return it for display in a notebook."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight", facecolor="white")
    picture = Image.open(buffer).convert("RGB").quantize(160, dither=Image.Dither.FLOYDSTEINBERG)
    write_atomically(path, lambda partial: picture.save(partial, optimize=True))
    return DisplayedImage(filename=str(path))


def photo_sheet(photos: Sequence, columns: int, titles: Sequence[str] | None = None) -> Figure:
    """Show photos in a grid.

    Args:
        photos: pictures, or (3, h, w) tensors in [0, 1].
        columns: photos per row.
        titles: one per photo.
    """
    rows = -(-len(photos) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(1.35 * columns, (1.6 if titles else 1.35) * rows), squeeze=False
        )
        for ax in axes.flat:
            ax.axis("off")
        for i, (ax, photo) in enumerate(zip(axes.flat, photos, strict=False)):
            _show(ax, photo)
            if titles:
                ax.set_title(titles[i], fontsize=10)
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
        for line, query in zip(axes, queries, strict=True):
            _framed(line[0], photos(query), QUERY, "")
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
    """Show, for each query, its first neighbors before and after reranking, one row each; the numbers are old ranks.

    Arguments are those of `neighbor_grid`, with the two orders.
    """
    with plt.rc_context(STYLE):
        figure, axes = _grid(2 * len(queries), count, ["query", *(f"NN{i}" for i in range(1, count + 1))])
        for i, query in enumerate(queries):
            _framed(axes[2 * i][0], photos(query), QUERY, "")
            axes[2 * i][0].set_ylabel("before")
            axes[2 * i + 1][0].text(
                0.95,
                0.5,
                "after\nreranking",
                ha="right",
                va="center",
                fontsize=11,
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


def _grid(rows: int, count: int, titles: list[str]) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(
        max(rows, 1),
        count + 1,
        figsize=(1.35 * (count + 1.2), 1.38 * max(rows, 1)),
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
        _framed(ax, photos(int(neighbor)), RIGHT if right else WRONG, "✓" if right else "✗")
        if notes:
            ax.text(
                0.97,
                0.03,
                notes[i],
                transform=ax.transAxes,
                ha="right",
                va="bottom",
                fontsize=8,
                color="white",
                bbox={"facecolor": "black", "alpha": 0.6, "pad": 1.5, "linewidth": 0},
            )


def _framed(ax: Axes, photo, color: str, mark: str) -> None:
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
            fontsize=11,
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


def learning_curves(log: pd.DataFrame) -> Figure:
    """Draw train loss and validation recall@1 over epochs, one line per seed.

    Args:
        log: columns `epoch`, `loss`, `validation R@1`, `seed`.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 3.8))
        colors = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
        for color, (seed, run) in zip(colors * 9, log.groupby("seed"), strict=False):
            axes[0].plot(run.epoch, run.loss, "o-", color=color, label=f"seed {seed}")
            axes[1].plot(run.epoch, 100 * run["validation R@1"], "o-", color=color, label=f"seed {seed}")
        axes[0].set(xlabel="epoch", ylabel="train loss")
        axes[1].set(xlabel="epoch (0: the start)", ylabel="validation R@1 (%)")
        for ax in axes:
            ax.grid(alpha=0.3)
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[1].legend()
        figure.tight_layout()
    plt.close(figure)
    return figure


def recall_bars(table: pd.DataFrame) -> Figure:
    """Draw recall@k of each method as bars, with the 95 % interval of recall@1.

    Args:
        table: columns `method`, `R@k`, `R@1 low`, `R@1 high`.
    """
    ks = [column for column in table.columns if column.startswith("R@") and column[2:].isdigit()]
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.5, 4.2))
        width, colors = 0.8 / len(table), (GREY, SKY, BLUE, ORANGE, PURPLE, GREEN)
        for i, (_, row) in enumerate(table.iterrows()):
            x = np.arange(len(ks)) + (i - (len(table) - 1) / 2) * width
            bars = ax.bar(x, [100 * row[k] for k in ks], width * 0.94, label=row.method, color=colors[i % 6])
            error = [[100 * (row["R@1"] - row["R@1 low"])], [100 * (row["R@1 high"] - row["R@1"])]]
            ax.errorbar(x[:1], [100 * row["R@1"]], yerr=error, color="black", capsize=4)
            ax.bar_label(bars, fmt="%.1f", fontsize=10, padding=9)
        ax.set_xticks(np.arange(len(ks)), [f"recall@{k[2:]}" for k in ks])
        ax.set(ylabel="%", ylim=(0, 112))
        ax.grid(axis="y", alpha=0.3)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(table))
        figure.tight_layout()
    plt.close(figure)
    return figure


def difference_plot(differences: pd.DataFrame) -> Figure:
    """Draw paired differences of recall@1 with their 95 % intervals around a zero line.

    Args:
        differences: columns `method`, `baseline`, `difference`, `low`, `high`.
    """
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9.5, 0.7 * len(differences) + 1.3))
        for place, row in enumerate(differences[::-1].itertuples()):
            color = GREEN if row.low > 0 else VERMILION if row.high < 0 else GREY
            marker = "^" if row.low > 0 else "v" if row.high < 0 else "o"
            error = [[100 * (row.difference - row.low)], [100 * (row.high - row.difference)]]
            ax.errorbar(
                [100 * row.difference], [place], xerr=error, fmt=marker, color=color, capsize=5, markersize=9
            )
        names = [f"{row.method}\nminus {row.baseline}" for row in differences[::-1].itertuples()]
        ax.set_yticks(range(len(names)), names, fontsize=11)
        ax.axvline(0, color="black", linewidth=1)
        ax.set(
            xlabel="difference of recall@1 (points), 95 % interval over products",
            ylim=(-0.6, len(names) - 0.4),
        )
        ax.grid(axis="x", alpha=0.3)
        figure.tight_layout()
    plt.close(figure)
    return figure


def category_bars(table: pd.DataFrame) -> Figure:
    """Draw recall@1 and category accuracy of each category as horizontal bars.

    Args:
        table: columns `category`, `R@1`, `category accuracy`.
    """
    table = table.sort_values("R@1")
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9, 0.36 * len(table) + 1.6))
        places = np.arange(len(table))
        ax.barh(
            places + 0.2,
            100 * table["category accuracy"],
            0.4,
            color=SKY,
            label="category of the nearest neighbor",
        )
        ax.barh(
            places - 0.2, 100 * table["R@1"], 0.4, color=BLUE, label="product of the nearest neighbor (R@1)"
        )
        ax.set_yticks(places, table.category, fontsize=11)
        ax.set(xlabel="% of queries", xlim=(0, 100), ylim=(-0.6, len(table) - 0.4))
        ax.grid(axis="x", alpha=0.3)
        ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, fontsize=11)
        figure.tight_layout()
    plt.close(figure)
    return figure


def ablation_heatmap(table: pd.DataFrame) -> Figure:
    """Draw a table of recall@1 as a heat map with its values in per cent.

    Args:
        table: fractions; rows are transforms, columns the stages that saw them.
    """
    order = [c for c in ("shortlist", "reranker", "both") if c in table.columns]
    values = (
        100 * table[order].assign(mean=table[order].mean(axis=1)).sort_values("mean", ascending=False)[order]
    )
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7, 0.45 * len(values) + 1.6))
        image = ax.imshow(
            values, cmap="cividis", aspect="auto", vmin=0, vmax=max(float(np.nanmax(values)), 1)
        )
        for (row, column), value in np.ndenumerate(values.to_numpy()):
            if not np.isnan(value):
                shade = "white" if value < 0.6 * np.nanmax(values) else "black"
                ax.text(column, row, f"{value:.1f}", ha="center", va="center", color=shade, fontsize=12)
        ax.set_xticks(
            range(len(order)), [f"{name} saw it" if name != "both" else "both saw it" for name in order]
        )
        ax.set_yticks(range(len(values)), values.index)
        ax.spines[:].set_visible(False)
        figure.colorbar(image, label="recall@1 after reranking (%)")
        figure.tight_layout()
    plt.close(figure)
    return figure


def answer_grid(
    query: Image.Image, photos: Sequence[Image.Image], table: pd.DataFrame, label: str | None = None
) -> Figure:
    """Show a query and its matches in order, each with its rank by global similarity and its product.

    Args:
        query: the crop that was searched.
        photos: the matches, best first.
        table: one row per match: columns `global rank`, `score` and `product`.
        label: product of the query where it is known: matches get a green frame and a check mark, or a vermilion
            frame and a cross. None: grey frames.
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
        _framed(axes[0][0], query, QUERY, "")
        axes[0][0].set_title("query", fontsize=11)
        for i, (photo, row) in enumerate(zip(photos, table.to_dict("records"), strict=True)):
            ax = axes[i // 5][i % 5 + 1]
            color, mark = (
                (GREY, "") if label is None else (RIGHT, "✓") if row["product"] == label else (WRONG, "✗")
            )
            _framed(ax, photo, color, mark)
            ax.set_title(f"{i + 1} (was {row['global rank']})", fontsize=11)
            name = row["product"].split("/")[-1]
            ax.set_xlabel(
                f"{name[:16]}\nscore {row['score']:.2f}" if name else f"score {row['score']:.2f}", fontsize=9
            )
        figure.tight_layout(pad=0.5, h_pad=1.2)
    plt.close(figure)
    return figure


def rejection_curve(curve: pd.DataFrame, threshold: float) -> Figure:
    """Draw how often an absent product is accepted and a present one refused, against the threshold.

    Args:
        curve: columns `threshold`, `false accept`, `false reject`.
        threshold: the one in use.
    """
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 3.6))
        ax.step(
            curve.threshold,
            100 * curve["false accept"],
            where="post",
            color=VERMILION,
            label="absent, accepted",
        )
        ax.step(
            curve.threshold,
            100 * curve["false reject"],
            where="post",
            color=BLUE,
            ls="--",
            label="present, refused",
        )
        ax.axvline(threshold, color=GREY, linewidth=1)
        ax.text(threshold, 102, f"threshold {threshold:.2f}", ha="center", fontsize=11)
        ax.set(xlabel="best score of a search", ylabel="% of queries", ylim=(0, 100))
        ax.grid(alpha=0.3)
        ax.legend(loc="center left")
        figure.tight_layout()
    plt.close(figure)
    return figure
