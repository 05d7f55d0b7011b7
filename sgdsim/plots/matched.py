"""Several curves, each with the simulated points that belong to it in the same colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.plots.style import COLORS, GUIDE, LINESTYLES, MARKERS, Line, Points, axes, set_log, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def matched(
    lines: Mapping[str, Line],
    simulated: Mapping[str, Points],
    *,
    ax: Axes | None = None,
    doubtful: Mapping[str, ArrayLike] | None = None,
    doubtful_label: str = "typical runs only",
    bands: Mapping[str, Points] | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log: str = "",
) -> Axes:
    """Draw lines and simulated points with 2-standard-error bars; what has the same label has the same colour.

    Args:
        lines: (x, y) by label.
        simulated: (x, y, stderr) by label.
        ax: matplotlib axes; None makes a figure.
        doubtful: masks of points, by label, whose error bar is not to be believed: drawn grey, without one.
        doubtful_label: what these are called in the legend.
        bands: (x, low, high) by label, shaded.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        title: shown above the panel.
        log: "", "x", "y" or "xy".
    """
    ax, bands, doubtful = axes(ax), bands or {}, doubtful or {}
    labels = list(dict.fromkeys([*lines, *simulated, *bands]))
    grey = False
    with styled():
        for i, label in enumerate(labels):
            color, marker, name = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], label
            if label in bands:
                ax.fill_between(*bands[label], color=color, alpha=0.2, linewidth=0, zorder=1)
            if label in lines:
                ax.plot(*lines[label], color=color, linestyle=LINESTYLES[i % len(LINESTYLES)], zorder=2, label=name)
                name = ""
            if label not in simulated:
                continue
            x, y, error = (np.asarray(v, np.float64) for v in simulated[label])
            off = np.asarray(doubtful.get(label, np.zeros(x.shape)), bool)
            if off.any():
                ax.plot(x[off], y[off], "X", color=GUIDE, markersize=7, linestyle="none", zorder=4,
                        label=None if grey else doubtful_label)
                grey = True
            ax.errorbar(x[~off], y[~off], yerr=2 * error[~off], fmt=marker, color=color, markerfacecolor="white",
                        markeredgewidth=1.4, capsize=2.5, linewidth=1.2, zorder=3, label=name or None)
        set_log(ax, log)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        ax.legend()
    return ax
