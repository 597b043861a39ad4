"""Curves, bars and heat maps of recall."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from waldo_utils.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, VERMILION

HEAT_RANGE = 40  # points of recall@1 at which the heat maps' colors end


def learning_curves(log: pd.DataFrame) -> Figure:
    """Draw train loss and validation recall@1 over epochs, one line per seed; test recall, which chooses
    nothing, dashed.

    Args:
        log: columns `epoch`, `loss`, `validation R@1`, `seed`, and perhaps `test R@1`.
    """
    watched = "test R@1" in log
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 3.8))
        colors = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
        markers = ("o", "s", "^", "D", "v")
        for i, (seed, run) in enumerate(log.groupby("seed")):
            look = {"color": colors[i % 5], "marker": markers[i % 5]}
            axes[0].plot(run.epoch, run.loss, **look)
            axes[1].plot(run.epoch, 100 * run["validation R@1"], label=f"seed {seed}", **look)
            if watched:
                axes[1].plot(run.epoch, 100 * run["test R@1"], linestyle="--", alpha=0.6, **look)
        axes[0].set(xlabel="epoch", ylabel="train loss")
        axes[1].set(xlabel="epoch (0: the start)", ylabel="recall@1 (%)")
        if watched:
            axes[1].plot([], [], color=GREY, linestyle="--", label="test: chooses nothing")
        axes[1].set_title("validation products" + (", and test (dashed)" if watched else ""))
        for ax in axes:
            ax.grid(alpha=0.3)
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
        figure.tight_layout()
    plt.close(figure)
    return figure


def metric_intervals(table: pd.DataFrame) -> Figure:
    """Draw each method's metrics with their 95 % intervals, a panel per metric, the best value orange.

    Args:
        table: columns `method`, and of `R@1`, `R@10`, `R@100` and `MAP@R` those there are, each with its
            `... low` and `... high`.
    """
    names = [c for c in ("R@1", "R@10", "R@100", "MAP@R") if c in table.columns]
    places = np.arange(len(table))[::-1]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(names),
            figsize=(2.3 * len(names) + 4.2, 0.42 * len(table) + 1.2),
            sharey=True,
            squeeze=False,
        )
        for ax, name in zip(axes[0], names, strict=True):
            values, low, high = (100 * table[f"{name}{bound}"].to_numpy() for bound in ("", " low", " high"))
            for place, value, start, end in zip(places, values, low, high, strict=True):
                color = ORANGE if value == values.max() else BLUE
                ax.plot([start, end], [place, place], color=color, linewidth=2)
                ax.plot([value], [place], "o", color=color, markersize=7, clip_on=False)
                ax.annotate(
                    f"{value:.1f}",
                    (value, place),
                    (0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize=10,
                )
            ax.set(title=name.replace("R@", "recall@", 1) if name[0] == "R" else name, xlabel="%")
            ax.set_ylim(-0.5, len(table) - 0.2)
            ax.margins(x=0.12)
            ax.set_xlim(right=min(ax.get_xlim()[1], 100))
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.grid(alpha=0.3)
        axes[0][0].set_yticks(places, table.method)
        figure.tight_layout(w_pad=1.5)
    plt.close(figure)
    return figure


def difference_plot(differences: pd.DataFrame) -> Figure:
    """Draw paired differences with their 95 % intervals around a zero line, one panel per metric.

    Better is a green triangle upward, worse a vermilion one downward, no difference found a gray circle.

    Args:
        differences: columns `metric`, `method`, `baseline`, `difference`, `low`, `high`, the same pairs for
            each metric.
    """
    metrics = list(dict.fromkeys(differences.metric))
    with plt.rc_context(STYLE):
        pairs = differences[differences.metric == metrics[0]][::-1]
        figure, axes = plt.subplots(
            1, len(metrics), figsize=(12, 0.75 * len(pairs) + 1.6), sharex=True, sharey=True, squeeze=False
        )
        for ax, metric in zip(axes[0], metrics, strict=True):
            for place, row in enumerate(differences[differences.metric == metric][::-1].itertuples()):
                color = GREEN if row.low > 0 else VERMILION if row.high < 0 else GREY
                marker = "^" if row.low > 0 else "v" if row.high < 0 else "o"
                error = [[100 * (row.difference - row.low)], [100 * (row.high - row.difference)]]
                ax.errorbar(
                    [100 * row.difference], [place], xerr=error,
                    fmt=marker, color=color, capsize=6, markersize=11,
                    linewidth=2,
                )  # fmt: skip
            ax.axvline(0, color="black", linewidth=1)
            ax.set(
                title=f"difference of {metric}", xlabel="points, 95 % interval", ylim=(-0.6, len(pairs) - 0.4)
            )
            ax.grid(axis="x", alpha=0.3)
        names = [f"{row.method}\nminus {row.baseline}" for row in pairs.itertuples()]
        axes[0][0].set_yticks(range(len(names)), names)
        figure.tight_layout()
    plt.close(figure)
    return figure


def category_bars(table: pd.DataFrame) -> Figure:
    """Draw recall@1 and category accuracy of each category as horizontal bars with their 95 % intervals.

    Args:
        table: columns `category`, `R@1` and `category accuracy`, the two with `... low` and `... high`.
    """
    table = table.sort_values("R@1")
    drawn = (
        ("category accuracy", 0.2, SKY, "//", "category of the nearest neighbor"),
        ("R@1", -0.2, BLUE, "", "product of the nearest neighbor (R@1)"),
    )
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(10, 0.45 * len(table) + 1.7))
        places = np.arange(len(table))
        for name, shift, color, hatch, label in drawn:
            values, low, high = (100 * table[f"{name}{bound}"].to_numpy() for bound in ("", " low", " high"))
            ax.barh(places + shift, values, 0.4, color=color, hatch=hatch, edgecolor="white", label=label)
            ax.errorbar(
                values,
                places + shift,
                xerr=[values - low, high - values],
                fmt="none",
                color="black",
                capsize=3,
            )
        ax.set_yticks(places, table.category)
        ax.set(
            xlabel="% of queries, 95 % interval over products", xlim=(0, 102), ylim=(-0.6, len(table) - 0.4)
        )
        ax.grid(axis="x", alpha=0.3)
        ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
        figure.tight_layout()
    plt.close(figure)
    return figure


def score_histograms(panels: dict[str, tuple[np.ndarray, np.ndarray, float]]) -> Figure:
    """Draw the first answer's scores, for queries whose product is in the gallery and for others, one panel
    per method.

    Args:
        panels: method -> scores (Q,) with the product present, scores (Q,) with it absent, threshold of
            acceptance.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(5.8 * len(panels), 4.4), squeeze=False)
        for ax, (method, (present, absent, threshold)) in zip(axes[0], panels.items(), strict=True):
            edges = np.histogram_bin_edges(np.concatenate([present, absent]), bins=30)
            ax.hist(absent, edges, color=ORANGE, alpha=0.55, label="product absent")
            ax.hist(
                present, edges, histtype="step", color=BLUE, linewidth=2.5, label="product in the gallery"
            )
            ax.axvline(threshold, color="black", linestyle="--", label="threshold (validation)")
            ax.set(title=method, xlabel="score of the first answer", ylabel="queries")
            ax.grid(axis="y", alpha=0.3)
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.08))
        figure.tight_layout()
    plt.close(figure)
    return figure


def transform_heatmap(grid: pd.DataFrame, method: str) -> Figure:
    """Draw what each transform does to one method's recall@1, by the stage that saw it and by severity.

    A cell holds the change against untransformed photos in points, in bold where its 95 % interval leaves out
    zero. Transforms without severities fill the three columns of a stage. Those that the report has stand
    first, with a dot.

    Args:
        grid: as `ablations.transform_grid` returns it.
        method: whose rows to draw.
    """
    # A row per transform, the report's first; CO has no stage but the shortlist.
    rows = grid[(grid.method == method) & (grid.stage != "none")]
    plain = grid[(grid.method == method) & (grid.stage == "none")].iloc[0]
    severities = ["mild", "medium", "strong"]
    stages = [stage for stage in ("shortlist", "reranker", "both") if stage in set(rows.stage)]
    only = "only " if len(stages) > 1 else ""
    names = rows.sort_values("reported", ascending=False, kind="stable")["transform"].unique()
    reported = rows.groupby("transform").reported.first()[names].to_numpy()
    places = np.arange(len(names)) + 0.35 * ~reported  # a gap below those of the report
    norm, colors = plt.Normalize(-HEAT_RANGE, HEAT_RANGE), plt.get_cmap("PuOr")
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(3.1 + 2.75 * len(stages), 0.42 * len(names) + 2.1))
        # Cells one by one: an image could not span the columns of a transform without severities.
        for row in rows.to_dict("records"):
            wide = row["severity"] not in severities
            left = 3.2 * stages.index(row["stage"]) + (0 if wide else severities.index(row["severity"]))
            middle, width = places[list(names).index(row["transform"])], 3 if wide else 1
            value, clear = 100 * row["difference"], row["low"] > 0 or row["high"] < 0
            ax.add_patch(
                plt.Rectangle(
                    (left, middle - 0.5), width, 1, facecolor=colors(norm(value)), edgecolor="white"
                )
            )
            ax.text(
                left + width / 2,
                middle,
                "0.0" if abs(value) < 0.05 else f"{value:+.1f}".replace("-", "\N{MINUS SIGN}"),
                ha="center",
                va="center",
                fontsize=12,
                fontweight="bold" if clear else "normal",
                color="white" if abs(value) > 0.7 * HEAT_RANGE else "black",
            )
        # Two lines of headings, which ticks cannot be.
        for i, stage in enumerate(stages):
            title = "both saw it" if stage == "both" else f"{only}the {stage} saw it"
            ax.text(3.2 * i + 1.5, -1.35, title, ha="center", va="bottom", fontsize=13, fontweight="bold")
            for j, severity in enumerate(severities):
                ax.text(3.2 * i + j + 0.5, -0.65, severity, ha="center", va="bottom", fontsize=11)
        # The names stand at the left as ticks, with the report's dot; a frame would cut the gaps.
        ax.set(xlim=(0, 3.2 * len(stages) - 0.2), ylim=(places[-1] + 0.55, -0.55), xticks=[])
        ax.set_yticks(
            places, [f"{name} ●" if mark else name for name, mark in zip(names, reported, strict=True)]
        )
        ax.tick_params(left=False)
        ax.spines[:].set_visible(False)
        ax.set_title(f"{method}: R@1 {100 * plain['R@1']:.1f} % untransformed", pad=52, loc="left")
        bar = figure.colorbar(plt.cm.ScalarMappable(norm, colors), ax=ax, extend="both", aspect=30, pad=0.03)
        bar.set_label("change of R@1 (points)")
        ax.text(
            0,
            -0.02,
            "● a row of the report (flip: its row of training without flip)\n"
            f"bold: the 95 % interval over {plain['products']} products leaves out zero",
            transform=ax.transAxes,
            va="top",
            fontsize=11,
        )
        figure.tight_layout()
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
        ax.text(threshold, 102, "threshold", ha="center", fontsize=11)
        ax.set(xlabel="evidence above the threshold (log odds)", ylabel="% of queries", ylim=(0, 100))
        ax.grid(alpha=0.3)
        ax.legend(loc="center left")
        figure.tight_layout()
    plt.close(figure)
    return figure
