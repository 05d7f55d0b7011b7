"""The variance of the gradient over the batch size: fitted polynomials with their bands, data, exact curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.estimators import PolynomialFit
from sgdsim.plots.style import COLORS, INK, MARKERS, Line, axes, set_log, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 160


def variance_polynomial(
    fits: Mapping[str, PolynomialFit] | PolynomialFit,
    exact: Mapping[str, Line] | None = None,
    *,
    ax: Axes | None = None,
    level: float = 0.95,
    extent: tuple[float, float] | None = None,
    xlabel: str = "batch size b",
    ylabel: str = "variance of the gradient",
    title: str = "",
    log: str = "xy",
) -> Axes:
    """Draw measured variances with 2-standard-error bars, their fitted curves and the bands of these.

    Args:
        fits: a `PolynomialFit`, or several by label, such as one for each step.
        exact: (b, variance) by label, drawn as dashed black lines.
        ax: matplotlib axes; None makes a figure.
        level: pointwise confidence of the bands.
        extent: smallest and largest b of the curves; None is the range of the data.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        title: shown above the panel.
        log: "", "x", "y" or "xy".
    """
    named = dict(fits) if isinstance(fits, Mapping) else {"simulation": fits}
    exact = exact or {}
    ax = axes(ax)
    floor, ceiling = np.inf, -np.inf
    with styled():
        for i, (label, fit) in enumerate(named.items()):
            color = COLORS[i % len(COLORS)]
            low_b, high_b = extent or (fit.batch_sizes.min(), fit.batch_sizes.max())
            b = np.geomspace(low_b, high_b, _POINTS) if "x" in log else np.linspace(low_b, high_b, _POINTS)
            b = np.clip(b, low_b, high_b)
            low, high = fit.band(b, level)
            ax.fill_between(b, low, high, color=color, alpha=0.2, linewidth=0, zorder=1)
            ax.plot(b, fit(b), color=color, zorder=2)
            ax.errorbar(
                fit.batch_sizes,
                fit.variance,
                yerr=2 * fit.variance_stderr,
                fmt=MARKERS[i % len(MARKERS)],
                color=color,
                markerfacecolor="white",
                markeredgewidth=1.4,
                capsize=2.5,
                linewidth=1.2,
                label=label,
                zorder=4,
            )
            positive = fit.variance[fit.variance > 0]
            floor, ceiling = min(floor, positive.min(initial=np.inf)), max(ceiling, fit.variance.max())
        for sizes, truth in exact.values():
            ax.plot(sizes, truth, color=INK, linestyle=(0, (4, 2)), linewidth=1.1, zorder=3)
        set_log(ax, log)
        # A band that reaches 0 would otherwise take the whole axis.
        if "y" in log and np.isfinite(floor):
            ax.set_ylim(floor / 2.5, ceiling * 2.5)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        handles, _ = ax.get_legend_handles_labels()
        if exact:
            handles.append(ax.plot([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1.1, label="exact")[0])
        ax.legend(handles=handles)
    return ax
