"""The gradient noise over the curvature, direction by direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.plots.style import COLORS, GUIDE, MARKERS, Line, axes, set_log, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def spectrum(
    curvature: ArrayLike,
    noise: Mapping[str, ArrayLike | Line],
    *,
    proportional: float | None = None,
    ax: Axes | None = None,
    xlabel: str = "eigenvalue h of the Hessian",
    ylabel: str = "variance of the gradient along it",
    title: str = "",
    log: str = "xy",
) -> Axes:
    """Draw the gradient's variance along the eigenvectors of the Hessian against their curvature.

    Args:
        curvature: eigenvalues h_i of H, shape (D,).
        noise: u_i' C u_i for its eigenvectors u_i, shape (D,) each, by label; or (values, standard errors).
        proportional: the slope s of the line C = s H that the Hessian approximation assumes.
        ax: matplotlib axes; None makes a figure.
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        title: shown above the panel.
        log: "", "x", "y" or "xy".
    """
    ax = axes(ax)
    h = np.asarray(curvature, np.float64)
    with styled():
        for i, (label, given) in enumerate(noise.items()):
            values, error = given if isinstance(given, tuple) else (given, None)
            ax.errorbar(h, values, yerr=None if error is None else 2 * np.asarray(error), fmt=MARKERS[i % len(MARKERS)],
                        markersize=max(10 - 3 * i, 4),  # where values agree, one marker sits in the other
                        color=COLORS[i % len(COLORS)], markerfacecolor="white", markeredgewidth=1.4, capsize=2.5,
                        linewidth=1.2, label=label, zorder=3)
        if proportional is not None:
            ends = np.array([h[h > 0].min(), h.max()]) if "x" in log and (h > 0).any() else np.array([0.0, h.max()])
            ax.plot(ends, proportional * ends, color=GUIDE, linestyle="--", label="C proportional to H", zorder=2)
        set_log(ax, log)
        ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
        ax.legend()
    return ax
