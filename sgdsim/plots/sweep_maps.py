"""The comparison of a sweep as maps of z and of the relative error, with the stability limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.sweep_comparison import SweepComparison
from sgdsim.plots.heatmap import heatmap
from sgdsim.plots.style import Line, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Z = 6.0  # the ends of the scale of z
_OFF = 0.2  # and of the relative error


def sweep_maps(report: SweepComparison, *, quantity: str | None = None, x: str = "learning_rate") -> Figure:
    """Draw z and the relative error at every point of a sweep over two hyperparameters.

    Args:
        report: what `ss.compare` returns for a sweep.
        quantity: one of those compared; None is the worst of each point.
        x: the horizontal axis; the other one is vertical. Where they are learning rate and batch size, and theory knows
            it, the stability limit is drawn.

    Returns:
        A matplotlib figure of two panels.

    Raises:
        ValueError: the sweep has not two axes with more than one value, or x is none of them.
    """
    long = [name for name, values in report.axes.items() if len(values) > 1]
    if len(long) != 2:
        raise _checks.error("report", f"over {', '.join(long) or 'one point'}", "over two axes of several values",
                            "read report.along(axis), or compare a part of the sweep")
    _checks.choice("x", x, long)
    y = long[long[0] == x]
    across, up = (np.asarray(report.axes[name], np.float64) for name in (x, y))
    order = np.ix_(np.argsort(up), np.argsort(across))
    across, up = np.sort(across), np.sort(up)
    boundaries: dict[str, Line] = {}
    if (x, y) == ("learning_rate", "batch_size") and report.limits:
        sizes = sorted(report.limits)
        boundaries["stability limit"] = [report.limits[size] for size in sizes], sizes
    log = "".join(axis for axis, values in (("x", across), ("y", up)) if values[0] > 0 and values[-1] >= 3 * values[0])
    figure, ax = panels(1, 2, (10.0, 4.0))
    shown = {"z": ("z", 1.0, _Z), "relative_error": ("relative error [%]", 100.0, 100 * _OFF)}
    for panel, (kind, (label, unit, end)) in zip(ax[0], shown.items(), strict=True):
        values = report.map(kind, quantity).squeeze()
        values = unit * (values.T if long[0] == x else values)
        heatmap(across, up, values[order], ax=panel, xlabel=x.replace("_", " "), ylabel=y.replace("_", " "),
                title=quantity or "worst entry", label=label, limits=(-end, end), colormap="RdBu_r",
                boundaries=boundaries, log=log)
    return figure
