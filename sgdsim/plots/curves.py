"""A quantity over a hyperparameter: theories as lines, the simulation as points with error bars."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.plots.style import (
    APPROXIMATIONS,
    COLORS,
    GUIDE,
    INK,
    LINESTYLES,
    MARKERS,
    Line,
    Look,
    Points,
    axes,
    set_log,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(
    theories: Mapping[str, Line],
    simulated: Points | None = None,
    *,
    ax: Axes | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    limits: Sequence[float] = (),
    optimum: float | None = None,
    log: str = "",
    ylim: tuple[float, float] | None = None,
    xticks: Sequence[float] | None = None,
    doubtful: ArrayLike | None = None,
    limit_label: str = "stability limit",
) -> Axes:
    """Draw theories as lines and simulated points with 2-standard-error bars.

    Args:
        theories: (x, y) by name; the names "exact", "hessian" and "continuous" have a look of their own.
        simulated: (x, y, stderr), or None.
        ax: matplotlib axes; None makes a figure.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        title: shown above the panel.
        limits: where a stability limit is marked.
        optimum: where an optimum is marked.
        log: "", "x", "y" or "xy".
        ylim: range of the vertical axis.
        xticks: where the horizontal axis has its labels.
        doubtful: a mask of simulated points whose error bar is not to be believed: drawn grey, without one.
        limit_label: what `limits` are called in the legend.
    """
    ax = axes(ax)
    with styled():
        known = [name for name in theories if name in APPROXIMATIONS]
        taken = {APPROXIMATIONS[name].color for name in known}
        free = itertools.cycle(k for k, color in enumerate(COLORS) if color not in taken)
        for name in [*known, *(name for name in theories if name not in known)]:
            look, (x, y) = APPROXIMATIONS.get(name), theories[name]
            if look is None:
                k = next(free)
                look = Look(COLORS[k], LINESTYLES[k], name)
            ax.plot(x, y, color=look.color, linestyle=look.linestyle, label=look.label, zorder=2)
        if simulated is not None:
            x, y, error = (np.asarray(v, np.float64) for v in simulated)
            heavy = np.zeros(x.shape, bool) if doubtful is None else np.asarray(doubtful, bool)
            if heavy.any():
                ax.plot(x[heavy], y[heavy], "X", color=GUIDE, markersize=7, linestyle="none", zorder=4,
                        label="heavy tails: no error bar")
            ax.errorbar(
                x[~heavy],
                y[~heavy],
                yerr=2 * error[~heavy],
                fmt="o",
                color=INK,
                markerfacecolor="white",
                markeredgewidth=1.4,
                capsize=2.5,
                linewidth=1.2,
                label="simulation",
                zorder=4,
            )
        for i, limit in enumerate(limits):
            ax.axvline(
                limit,
                color=INK,
                linestyle=(0, (1, 2)),
                linewidth=1.4,
                zorder=1,
                label=limit_label if i == 0 else None,
            )
        if optimum is not None:
            ax.axvline(optimum, color="#CC79A7", linestyle=(0, (6, 2)), linewidth=1.4, zorder=1, label="optimum")
        set_log(ax, log)
        if xticks is not None:
            ax.set_xticks(list(xticks), [f"{x:g}" for x in xticks])
            ax.set_xticks([], minor=True)
        if ylim is not None:
            ax.set_ylim(*ylim)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        ax.legend()
    return ax


def points(
    groups: Mapping[str, Line],
    *,
    ax: Axes | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log: str = "",
) -> Axes:
    """Draw labelled series as markers joined by thin lines, for values that exist at a few places only.

    Args:
        groups: (x, y) by label.
        ax: matplotlib axes; None makes a figure.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        title: shown above the panel.
        log: "", "x", "y" or "xy".
    """
    ax = axes(ax)
    with styled():
        for i, (label, (x, y)) in enumerate(groups.items()):
            ax.plot(
                x,
                y,
                color=COLORS[i % len(COLORS)],
                marker=MARKERS[i % len(MARKERS)],
                markerfacecolor="white",
                linestyle=LINESTYLES[i % len(LINESTYLES)],
                linewidth=1.3,
                markeredgewidth=1.4,
                label=label,
            )
        set_log(ax, log)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        ax.legend()
    return ax
