"""A quantity over two hyperparameters as colours, with boundaries and simulated points on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.plots.style import INK, LINESTYLES, Line, Points, axes, pyplot, set_log, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def heatmap(
    x: ArrayLike,
    y: ArrayLike,
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    label: str = "",
    limits: tuple[float, float] | None = None,
    colormap: str = "cividis",
    boundaries: Mapping[str, Line] | None = None,
    contours: Mapping[float, str] | None = None,
    contour_color: str = "white",
    dots: Points | None = None,
    log: str = "",
    ylim: tuple[float, float] | None = None,
) -> Axes:
    """Draw values over a grid; NaN is left white.

    Args:
        x: horizontal grid, shape (X,).
        y: vertical grid, shape (Y,).
        values: shape (Y, X).
        ax: matplotlib axes; None makes a figure.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        title: shown above the panel.
        label: of the colour bar.
        limits: values of the two ends of the colour scale.
        colormap: a matplotlib name.
        boundaries: lines (x, y) by label.
        contours: labels of thin lines, by the value at which they are drawn.
        contour_color: their colour.
        dots: (x, y, value) of points drawn in the colour of their value.
        log: "", "x", "y" or "xy".
        ylim: range of the vertical axis.
    """
    ax = axes(ax)
    with styled():
        shown = np.asarray(values, np.float64)
        low, high = limits or (float(np.nanmin(shown)), float(np.nanmax(shown)))
        norm = pyplot().Normalize(low, high)
        image = ax.pcolormesh(_edges(x, "x" in log), _edges(y, "y" in log), values, cmap=colormap, norm=norm,
                              rasterized=True)
        ax.grid(False)
        if contours:
            lines = ax.contour(x, y, values, levels=sorted(contours), colors=contour_color, linewidths=1,
                               linestyles="-")
            ax.clabel(lines, fmt=dict(contours), fontsize=9)
        for i, (name, (across, up)) in enumerate((boundaries or {}).items()):
            ax.plot(across, up, color=INK, linestyle=LINESTYLES[i % len(LINESTYLES)], linewidth=1.8, label=name)
        if dots is not None:
            ax.scatter(dots[0], dots[1], c=dots[2], cmap=colormap, norm=norm, edgecolors="white", linewidths=1.6,
                       s=75, zorder=4, label="simulation")
        set_log(ax, log)
        if ylim is not None:
            ax.set_ylim(*ylim)
        ax.figure.colorbar(image, ax=ax, label=label, extend="both")
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        if boundaries or dots is not None:
            ax.legend(loc="upper left", frameon=True, framealpha=0.9)
    return ax


def _edges(centres: ArrayLike, log: bool) -> np.ndarray:
    """Edges of cells half-way between their centres, on the scale of the axis."""
    c = np.log(np.asarray(centres, np.float64)) if log else np.asarray(centres, np.float64)
    half = np.diff(c, prepend=2 * c[0] - c[1], append=2 * c[-1] - c[-2]) / 2 if len(c) > 1 else np.full(2, 0.5)
    edges = np.append(c - half[:-1], c[-1] + half[-1])
    return np.exp(edges) if log else edges
