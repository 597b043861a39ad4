"""Figures of cost: what grows with what, theory beside measurement, accuracy against storage and against
time."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from waldo_utils.figures.style import BLUE, FILLS, GREEN, GREY, ORANGE, PURPLE, STYLE


def storage_curve(table: pd.DataFrame) -> Figure:
    """Draw R@1 and MAP@R of reranking with their 95 % intervals against the bytes that a photo takes on disk.

    Args:
        table: of `storage.storage_table`.
    """
    names = [name for name in ("R@1", "MAP@R") if name in table]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(names), figsize=(5.6 * len(names), 3.9), squeeze=False)
        for ax, name, color, marker in zip(axes[0], names, (BLUE, ORANGE), ("o", "s"), strict=False):
            values = 100 * table[name]
            errors = [values - 100 * table[f"{name} low"], 100 * table[f"{name} high"] - values]
            ax.errorbar(
                table["bytes per photo"] / 1e3, values, yerr=errors, color=color, marker=marker, capsize=5
            )
            for kb, value, kind in zip(table["bytes per photo"] / 1e3, values, table.storage, strict=True):
                ax.annotate(kind, (kb, value), (5, 6), textcoords="offset points", fontsize=11)
            ax.set(xscale="log", xlabel="kB of local features per photo", ylabel=f"{name} (%)")
            ax.set_xlim(0.6 * table["bytes per photo"].min() / 1e3, 3 * table["bytes per photo"].max() / 1e3)
            _plain_numbers(ax.xaxis)
            ax.grid(alpha=0.3)
        figure.tight_layout()
    plt.close(figure)
    return figure


def growth_curves(search: pd.DataFrame, depth: pd.DataFrame) -> Figure:
    """Draw the time of search over photos and of reranking over depth, theory dashed.

    Args:
        search: of `benchmark.search_growth`.
        depth: of `benchmark.depth_growth`.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11.2, 3.9))
        axes[0].plot(search.photos, search.seconds, color=BLUE, marker="o", label="measured")
        axes[0].plot(
            search.photos, search["theory seconds"], color=GREY, linestyle="--",
            label="N² · 128 multiply-adds\nat the matrix rate",
        )  # fmt: skip
        axes[0].set(
            xscale="log", yscale="log", xlabel="photos N that search among themselves", ylabel="seconds"
        )
        _plain_numbers(axes[0].xaxis)
        axes[1].plot(depth.depth, depth["ms per query"], color=ORANGE, marker="s", label="measured")
        axes[1].plot(
            depth.depth, depth["theory ms per query"], color=GREY, linestyle="--", label="proportional"
        )
        axes[1].set(
            xlabel="neighbors reranked per query", ylabel="ms per query", xlim=(0, None), ylim=(0, None)
        )
        for ax, title in zip(axes, ("exact search", "reranking, small size"), strict=True):
            ax.set_title(title)
            ax.grid(alpha=0.3)
            ax.legend(loc="lower right")  # both curves rise
        figure.tight_layout()
    plt.close(figure)
    return figure


def index_scatter(table: pd.DataFrame) -> Figure:
    """Draw the recall of indexes against the time of a query that is searched alone, one panel per gallery.

    Args:
        table: of `approximate.index_table`.
    """
    recall = next(name for name in table if name.startswith("recall@") and name != "recall@1")
    sizes = list(dict.fromkeys(table.gallery))
    looks = zip((GREY, BLUE, ORANGE, GREEN, PURPLE), ("*", "o", "s", "^", "D"), strict=True)
    look = dict(zip(dict.fromkeys(table["index"]), looks, strict=False))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(sizes), figsize=(5.6 * len(sizes), 4.2), sharey=True, squeeze=False
        )
        for ax, size in zip(axes[0], sizes, strict=True):
            for name, rows in table[table.gallery == size].groupby("index", sort=False):
                color, marker = look[name]
                ax.plot(
                    rows["p50 ms"], 100 * rows[recall], color=color, marker=marker, markersize=9,
                    label=name if name != "Flat" else "Flat (exact)",
                )  # fmt: skip
            ax.set(title=f"{size:,} photos", xscale="log", xlabel="ms per query, median")
            _plain_numbers(ax.xaxis)
            ax.grid(alpha=0.3)
        axes[0][0].set(ylabel=f"{recall} against exact (%)")
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower center", ncols=len(names), bbox_to_anchor=(0.5, -0.09))
        figure.tight_layout()
    plt.close(figure)
    return figure


def ratio_bars(table: pd.DataFrame) -> Figure:
    """Draw how many times as fast as the first method, the textbook module, each way to rerank is.

    Args:
        table: of `benchmark.reranking_speed`; rows that were not run are left out.
    """
    table = table.dropna(subset="ratio")
    sizes, methods = (list(dict.fromkeys(table[column])) for column in ("size", "method"))
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9, 0.42 * len(table) + 1.8))
        step = 0.8 / len(methods)
        for i, method in enumerate(methods):
            rows = table[table.method == method].set_index("size").loc[sizes]
            color, hatch = FILLS[i]
            places = [j + step * (i - (len(methods) - 1) / 2) for j in range(len(sizes))]
            ax.barh(
                places, rows.ratio, 0.95 * step, color=color, hatch=hatch, edgecolor="white", label=method
            )
            for place, ratio in zip(places, rows.ratio, strict=True):
                ax.annotate(f"{ratio:.1f}×", (ratio, place), (5, 0), textcoords="offset points", va="center")
        ax.axvline(1, color="black", linewidth=1)
        ax.set_yticks(range(len(sizes)), sizes)
        ax.invert_yaxis()
        ax.set(xlabel=f"times as fast as: {methods[0]}", xlim=(0, 1.12 * table.ratio.max()))
        ax.grid(axis="x", alpha=0.3)
        ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
        figure.tight_layout()
    plt.close(figure)
    return figure


def _plain_numbers(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis, without powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter(NullFormatter())
