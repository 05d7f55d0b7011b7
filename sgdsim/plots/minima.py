"""A curve of minima in the plane with where chains ended on it, and quantities along slow time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.plots.style import COLORS, GUIDE, INK, LINESTYLES, MARKERS, PAPER, Line, Points, axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def on_minima(
    curve: ArrayLike,
    start: ArrayLike,
    clouds: Mapping[str, Line],
    *,
    ax: Axes | None = None,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    title: str = "",
) -> Axes:
    """Draw a curve of minima, where chains started, where they are and where theory says they end.

    Args:
        curve: points of the curve, shape (2, n).
        start: where all chains started, shape (2,).
        clouds: by label the chains (2, chains) and the predicted limit (2,).
        ax: matplotlib axes; None makes a figure.
        xlim: range of the horizontal axis.
        ylim: range of the vertical axis.
        title: shown above the panel.
    """
    ax = axes(ax, (4.6, 4.4))
    with styled():
        ax.plot(*np.asarray(curve), color=GUIDE, linewidth=1.0, zorder=1, label="minima")
        for i, (label, (points, limit)) in enumerate(clouds.items()):
            x, y = np.asarray(points)
            ax.scatter(x, y, s=5, color=COLORS[i % len(COLORS)], alpha=0.35, linewidths=0, zorder=2,
                       rasterized=True)
            ax.plot(*np.asarray(limit)[:, None], linestyle="none", marker=MARKERS[i % len(MARKERS)], markersize=9,
                    color=COLORS[i % len(COLORS)], markeredgecolor=INK, markeredgewidth=1.0, zorder=4, label=label)
        ax.plot(*np.asarray(start)[:, None], linestyle="none", marker="*", markersize=13, color=PAPER,
                markeredgecolor=INK, zorder=4, label="start")
        ax.set_aspect("equal")
        ax.set(xlabel="x", ylabel="y", title=title, xlim=xlim, ylim=ylim)
        ax.legend(loc="lower left")
    return ax


def slow_paths(
    theories: Mapping[str, Line],
    simulated: Mapping[str, Points],
    *,
    ax: Axes | None = None,
    limits: Mapping[str, float] | None = None,
    level: float | None = None,
    xlabel: str = "slow time t = k η²",
    ylabel: str = "",
    title: str = "",
    log: str = "",
    legend: bool = True,
) -> Axes:
    """Draw predicted paths as lines and simulated ones, of the same labels, as points with 2-standard-error bars.

    Args:
        theories: (x, y) by label.
        simulated: (x, y, stderr) by label.
        ax: matplotlib axes; None makes a figure.
        limits: values that the paths of these labels tend to: a thin line each.
        level: where a horizontal guide line is drawn, from 0 on.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        title: shown above the panel.
        log: "", "x", "y" or "xy".
        legend: name the labels.
    """
    ax = axes(ax)
    labels = list(dict.fromkeys([*theories, *simulated]))
    with styled():
        for i, label in enumerate(labels):
            color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
            if label in theories:
                ax.plot(*theories[label], color=color, linestyle=LINESTYLES[i % len(LINESTYLES)], zorder=2,
                        label=None if label in simulated else label)
            if limits and label in limits:
                ax.axhline(limits[label], color=color, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
            if label in simulated:
                x, y, error = (np.asarray(v, np.float64) for v in simulated[label])
                ax.errorbar(x, y, yerr=2 * error, fmt=marker, color=color, markerfacecolor="white", capsize=2,
                            markeredgewidth=1.3, linewidth=1.1, zorder=3, label=label)
        if level is not None:
            ax.axhline(level, color=GUIDE, linewidth=1.0, zorder=1)
            ax.set_xlim(left=0.0)
        if "x" in log:
            ax.set_xscale("log")
        if "y" in log:
            ax.set_yscale("log")
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        if legend:
            ax.legend()
    return ax
