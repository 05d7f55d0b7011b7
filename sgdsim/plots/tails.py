"""Survival functions of heavy tails, with measured and exact slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._tail_index import TailIndex
from sgdsim.estimators.tail_index import TailEstimate
from sgdsim.plots.style import COLORS, GUIDE, INK, axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def survival(
    deviations: ArrayLike | None,
    seen: float | None,
    estimate: TailEstimate,
    *,
    exact: TailIndex | float | None = None,
    ax: Axes | None = None,
    xlabel: str = "deviation |w − w*|",
    title: str = "",
    xlim: tuple[float, float] | None = None,
) -> Axes:
    """Draw the survival function of the largest deviations, double logarithmic, with slopes through one point of it.

    Args:
        deviations: the largest ones, descending, as `Result.tail`.
        seen: how many there were in all, as `Result.tail_seen`; None means these.
        estimate: a `TailEstimate`; its interval is a band.
        exact: the exact tail index.
        ax: matplotlib axes; None makes a figure.
        xlabel: label of the horizontal axis.
        title: shown above the panel.
        xlim: range of the horizontal axis.

    Raises:
        ValueError: the deviations were not measured.
    """
    if deviations is None:
        raise _checks.error("deviations", None, "measured", "ss.statistics.LargestDeviations() is among the defaults")
    ax = axes(ax)
    x = np.asarray(deviations, np.float64)
    seen = seen or len(x)
    probability = np.arange(1, len(x) + 1) / seen
    pin = max(estimate.exceedances // 10, 1) - 1  # deep in the tail, where a tenth of the exceedances lie above
    ends = np.array([x[min(4 * pin, len(x) - 1)], x[0]])  # a slope is that of the far tail
    line = lambda index: probability[pin] * (ends / x[pin]) ** -index  # noqa: E731
    with styled():
        ax.plot(x, probability, ".", color=INK, markersize=3, zorder=3, label="simulation")
        through = np.array([ends[0], x[pin], ends[1]])
        band = [probability[pin] * (through / x[pin]) ** -index for index in (estimate.low, estimate.high)]
        held = f"{estimate.confidence:.0%} interval {estimate.low:.3g} to {estimate.high:.3g}"
        ax.fill_between(through, *band, color=COLORS[0], alpha=0.2, linewidth=0, label=held)
        ax.plot(ends, line(estimate.value), color=COLORS[0], label=f"measured slope {estimate.value:.3g}", zorder=4)
        if exact is not None:
            slope = float(exact)
            ax.plot(ends, line(slope), color=COLORS[1], linestyle="--", label=f"exact slope {slope:.3g}", zorder=5)
        ax.axvline(estimate.threshold, color=GUIDE, linestyle=(0, (1, 2)), linewidth=1.4, zorder=1, label="threshold")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(0.02 / seen, 3 * probability[-1])  # room for the legend
        low, high = xlim or (0.9 * x[-1], 1.1 * x[0])
        ax.set_xlim(low, high)
        decades = np.log10(high / low)
        marks = [m * 10.0**e for e in range(-30, 31) for m in ((1, 2, 5) if decades < 2 else (1,))]
        marks = [m for m in marks if low <= m <= high]
        ax.set_xticks(marks, [f"{m:g}" for m in marks])
        ax.set_xticks([], minor=True)
        ax.set(xlabel=xlabel, ylabel="share of deviations beyond", title=title)
        ax.legend(loc="lower left")
    return ax
