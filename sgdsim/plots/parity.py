"""Predicted against simulated, with error bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.plots.style import COLORS, GUIDE, MARKERS, Points, axes, set_log, styled
from sgdsim.results import Result
from sgdsim.solver.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def parity(
    result: Result,
    prediction: Prediction,
    *,
    quantity: str = "covariance",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw every distinct entry of a quantity, predicted on one axis and measured on the other.

    Args:
        result: a `Result`.
        prediction: a `Prediction`.
        quantity: its name on both.
        ax: matplotlib axes; None makes a figure.
        title: shown above the panel.
    """
    measured, error = (np.asarray(getattr(result, name)) for name in (quantity, f"{quantity}_stderr"))
    predicted = np.asarray(getattr(prediction, quantity))
    groups: dict[str, Points] = {}
    if predicted.ndim == 2:
        diagonal, upper = np.diag_indices(len(predicted)), np.triu_indices(len(predicted), 1)
        for name, where in (("diagonal", diagonal), ("off the diagonal", upper)):
            groups[name] = predicted[where], measured[where], error[where]
    else:
        groups[quantity] = np.atleast_1d(predicted), np.atleast_1d(measured), np.atleast_1d(error)
    ax = parity_points(groups, ax=ax, title=title or quantity.replace("_", " "))
    return ax


def parity_points(
    groups: Mapping[str, Points],
    *,
    ax: Axes | None = None,
    log: bool = False,
    sigmas: float = 2.0,
    title: str = "",
) -> Axes:
    """Draw groups of (predicted, simulated, stderr) around the line of equality, one marker a group.

    Args:
        groups: arrays (predicted, simulated, stderr) by label.
        ax: matplotlib axes; None makes a figure.
        log: logarithmic axes.
        sigmas: half-length of an error bar in standard errors.
        title: shown above the panel.
    """
    ax = axes(ax, (4.6, 4.2))
    with styled():
        for i, (label, (x, y, error)) in enumerate(groups.items()):
            if np.size(x) == 0:
                continue
            ax.errorbar(
                x,
                y,
                yerr=sigmas * np.asarray(error),
                fmt=MARKERS[i % len(MARKERS)],
                capsize=2.5,
                color=COLORS[i % len(COLORS)],
                markerfacecolor="white",
                markeredgewidth=1.4,
                linewidth=1.2,
                label=label,
                zorder=3,
            )
        values = np.concatenate([np.ravel(v) for x, y, _ in groups.values() for v in (x, y)])
        if not log:  # there a bar that reaches 0 would take the whole axis
            reach = [sigmas * np.ravel(error) for _, _, error in groups.values()]
            middle = np.concatenate([np.ravel(y) for _, y, _ in groups.values()])
            values = np.concatenate([values, middle - np.concatenate(reach), middle + np.concatenate(reach)])
        values = values[np.isfinite(values) & ((values > 0) | (not log))]
        low, high = (values.min(), values.max()) if values.size else (0.1, 1.0)
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        ends = (low / 1.3, high * 1.3) if log else (low - margin, high + margin)
        ax.plot(ends, ends, color=GUIDE, linewidth=1.2, zorder=1, label="simulated = predicted")
        if log:
            set_log(ax, "xy")
        ax.set(xlim=ends, ylim=ends, xlabel="predicted", ylabel=f"simulated (±{sigmas:g} standard errors)", title=title)
        ax.set_aspect("equal")
        ax.legend()
    return ax
