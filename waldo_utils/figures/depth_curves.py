"""Figures of the depth grid and of the fusion of two scores."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from waldo_utils.figures.style import BLUE, GREEN, GREY, ORANGE, STYLE

LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))  # color and marker, one per test input


def depth_lines(table: pd.DataFrame) -> Figure:
    """Draw recall against the depth of reranking, one line per test input, dashed with the test-time flip.

    Depth 1 reorders nothing: it is CO.

    Args:
        table: as of `depths.grid_table`.
    """
    names = [name for name in ("R@1", "R@10") if name in table]
    depths = sorted(table.depth.unique())
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(names), figsize=(6 * len(names), 4.6), squeeze=False)
        for ax, name in zip(axes[0], names, strict=True):
            for (kind, flip), run in table.groupby(["input", "flip"], sort=False):
                color, marker = LOOKS[list(table.input.unique()).index(kind) % len(LOOKS)]
                places = [depths.index(depth) for depth in run.depth]
                label = f"{kind}{' + flip' if flip else ''}"
                ax.plot(
                    places, 100 * run[name], color=color, marker=marker, label=label,
                    linestyle="--" if flip else "-", markerfacecolor="white" if flip else color,
                )  # fmt: skip
                if kind == table.input.iloc[0] and not flip:
                    bounds = (100 * run[f"{name} low"], 100 * run[f"{name} high"])
                    note = f"95 % interval of {kind}"
                    ax.fill_between(places, *bounds, color=color, alpha=0.12, linewidth=0, label=note)
            ticks = [f"{depth}\n(CO)" if depth == 1 else str(depth) for depth in depths]
            ax.set_xticks(range(len(depths)), ticks)
            ax.set(xlabel="neighbors reranked", ylabel=f"recall@{name[2:]} (%)")
            ax.grid(alpha=0.3)
        handles, names = axes[0][0].get_legend_handles_labels()
        order = sorted(range(len(names)), key=lambda i: names[i].startswith("95 %"))  # the band last
        figure.legend(
            [handles[i] for i in order],
            [names[i] for i in order],
            loc="lower center",
            ncols=4,
            bbox_to_anchor=(0.5, -0.14),
        )
        figure.tight_layout()
    plt.close(figure)
    return figure


def fusion_lines(curves: pd.DataFrame, chosen: dict[str, list[float]]) -> Figure:
    """Draw recall@1 against the reranker's share of the fused score, on validation and on test, one panel per
    reranker.

    Lines are means over seeds. Dotted lines are the shares that validation chose, one per seed; the test
    curve, dashed, is for reading only.

    Args:
        curves: columns `stage`, `split` ("validation" or "test"), `seed`, `share`, `R@1`.
        chosen: stage -> the chosen share of each seed.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(chosen), figsize=(6 * len(chosen), 4.2), sharex=True, sharey=True, squeeze=False
        )
        for ax, (stage, shares) in zip(axes[0], chosen.items(), strict=True):
            for split, look in (
                ("validation", {"color": BLUE}),
                ("test", {"color": GREY, "linestyle": "--"}),
            ):
                own = curves[(curves.stage == stage) & (curves.split == split)]
                mean = own.groupby("share")["R@1"].mean()
                label = "test: chooses nothing" if split == "test" else "validation products"
                ax.plot(mean.index, 100 * mean, linewidth=2.5, label=label, **look)
            for i, share in enumerate(np.unique(shares)):
                ax.axvline(
                    share, color=ORANGE, linestyle=":", linewidth=2.5, label="_" if i else "chosen, per seed"
                )
            ax.set(title=f"CO + RRT ({stage})", xlabel="share of the reranker (0: CO, 1: RRT alone)")
            ax.grid(alpha=0.3)
        axes[0][0].set_ylabel("recall@1 (%)")
        figure.legend(
            *axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.1)
        )
        figure.tight_layout()
    plt.close(figure)
    return figure
