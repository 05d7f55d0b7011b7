"""The phase diagram of SGD over batch size and learning rate, with simulated points on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.plots.style import GUIDE, INK, Line, axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In grey the three colours are one: hatches tell them apart.
PHASES = {
    "finite variance": ("#D6E6F2", "o", ""),
    "infinite variance": ("#FBE3C8", "D", "//"),
    "diverges": ("#E4E4E4", "X", "xx"),
}
_HATCH = "#b5b5b5"
DOTS = {"finite variance": "#0072B2", "infinite variance": "#D55E00", "diverges": INK}


def phase_diagram(
    batch_sizes: ArrayLike,
    max_learning_rate: ArrayLike,
    almost_sure: ArrayLike,
    dots: Mapping[str, Line] | None = None,
    *,
    ax: Axes | None = None,
    title: str = "",
    legend: bool = True,
) -> Axes:
    """Draw where SGD settles with finite variance, with infinite variance, and where it diverges.

    Args:
        batch_sizes: S, shape (n,).
        max_learning_rate: the learning rate from which on the variance is infinite, shape (n,).
        almost_sure: the learning rate from which on there is no stationary law, shape (n,).
        dots: simulated points (S, learning rates) by what the simulation found: "finite variance",
            "infinite variance", "diverges" or, open, "undecided".
        ax: matplotlib axes; None makes a figure.
        title: shown above the panel.
        legend: draw the legend below the panel.
    """
    ax = axes(ax)
    sizes, low, high = (np.asarray(v, np.float64) for v in (batch_sizes, max_learning_rate, almost_sure))
    points = {} if dots is None else dots
    rates = [np.asarray(y, np.float64) for _, y in points.values() if np.size(y)]
    top = 1.25 * max([high.max(), *(y.max() for y in rates)])
    bottom = 0.75 * min([low.min(), *(y.min() for y in rates)])
    with styled():
        edges = (np.full(sizes.shape, bottom), low, high, np.full(sizes.shape, top))
        for (name, (color, _, hatch)), below, above in zip(PHASES.items(), edges[:-1], edges[1:], strict=True):
            ax.fill_between(sizes, below, above, facecolor=color, edgecolor=_HATCH, hatch=hatch, linewidth=0,
                            label=f"theory: {name}", zorder=0)
        ax.plot(sizes, low, color=INK, label="mean-square limit", zorder=2)
        ax.plot(sizes, high, color=INK, linestyle="--", label="limit of any stationary law", zorder=2)
        for name, (x, y) in points.items():
            decided = name in DOTS
            ax.plot(x, y, linestyle="none", marker=PHASES[name][1] if decided else "o",
                    color=DOTS[name] if decided else GUIDE, markerfacecolor=DOTS[name] if decided else "white",
                    markeredgecolor="white" if decided else GUIDE, markeredgewidth=0.8 if decided else 1.3,
                    markersize=7, label=f"simulated: {name}", zorder=4)
        ax.set(xscale="log", yscale="log", xlim=(0.88 * sizes.min(), 1.14 * sizes.max()), ylim=(bottom, top),
               xlabel="batch size S", ylabel="learning rate λ", title=title)
        ticks = [b for b in 2.0 ** np.arange(11) if sizes.min() <= b <= sizes.max()]
        ax.set_xticks(ticks, [f"{b:g}" for b in ticks])
        ax.set_xticks([], minor=True)
        ladder = [r for r in np.outer(10.0 ** np.arange(-6, 4), [1, 2, 5]).ravel() if bottom <= r <= top]
        ax.set_yticks(ladder, [f"{r:g}" for r in ladder])
        ax.set_yticks([], minor=True)
        if legend:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return ax
