"""Statistics of the ensemble over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sgdsim import _checks
from sgdsim.plots.style import COLORS, GUIDE, LINESTYLES, MARKERS, axes, set_log, styled
from sgdsim.results import Result
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.whole_run import RunPrediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = 12  # along a line, however many steps were recorded


def trajectory(
    results: Mapping[str, Result] | Result,
    quantity: str = "test_loss",
    *,
    index: int | tuple[int, ...] = (),
    predictions: Mapping[str, Prediction] | Prediction | None = None,
    ax: Axes | None = None,
    ylabel: str = "",
    title: str = "",
    log: str = "",
) -> Axes:
    """Draw a recorded quantity over the steps with a band of 2 standard errors, and where theory says it settles.

    Args:
        results: a `Result` of `simulate(..., record=...)`, or several by label.
        quantity: which of the recorded ones, as "test_loss" or "mean".
        index: which entry of a vector or matrix.
        predictions: a `Prediction` or `RunPrediction`, or several by the label of their result: a thin dashed line
            each.
        ax: matplotlib axes; None makes a figure.
        ylabel: label of the vertical axis; "" is the quantity and its entry.
        title: shown above the panel.
        log: "", "x", "y" or "xy".

    Raises:
        ValueError: nothing was recorded, the quantity was not, or the index leaves more than one number.
    """
    many = dict(results) if isinstance(results, Mapping) else {"simulation": results}
    stationary = predictions if isinstance(predictions, Mapping) else {next(iter(many), ""): predictions}
    entry = index if isinstance(index, tuple) else (index,)
    series = {label: _series(result, quantity, entry) for label, result in many.items()}
    name = quantity.replace("_", " ") + (f"[{','.join(map(str, entry))}]" if entry else "")
    ax = axes(ax)
    labelled = False
    with styled():
        for i, (label, (step, value, error)) in enumerate(series.items()):
            color = COLORS[i % len(COLORS)]
            ax.fill_between(step, value - 2 * error, value + 2 * error, color=color, alpha=0.2, linewidth=0, zorder=1)
            ax.plot(step, value, color=color, linestyle=LINESTYLES[i % len(LINESTYLES)], linewidth=1.5,
                    marker=MARKERS[i % len(MARKERS)], markevery=max(1, len(step) // _MARKS), markerfacecolor="white",
                    markeredgewidth=1.2, label=label, zorder=3)
            theory = stationary.get(label)
            if isinstance(theory, RunPrediction):
                predicted = [np.asarray(value)[entry] for value in getattr(theory, quantity)]
                ax.plot(theory.step, predicted, color=GUIDE, linestyle=(0, (6, 3)), linewidth=1.2, zorder=4,
                        label=None if labelled else "predicted")
                labelled = True
            elif theory is not None:
                ax.axhline(np.asarray(getattr(theory, quantity))[entry], color=GUIDE, linestyle=(0, (6, 3)),
                           linewidth=1.2, zorder=2, label=None if labelled else "stationary, predicted")
                labelled = True
        if "x" in log:
            ax.set_xscale("symlog", linthresh=1)  # step 0 is a step
            ax.set_xlim(left=0)
        set_log(ax, log.replace("x", ""))
        ax.set(xlabel="step", ylabel=ylabel or name, title=title)
        ax.legend()
    return ax


def _series(result: Result, quantity: str, entry: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    record = result.record or {}
    known = [name for name in record if name != "step" and not name.endswith("_stderr")]
    if not known:
        raise _checks.error("results", result, "a result with a record", "simulate(..., record=100) keeps every 100th")
    quantity = _checks.choice("quantity", quantity, known)
    value = np.asarray(record[quantity], np.float64)
    if value.ndim - 1 != len(entry):
        shape = value.shape[1:]
        raise _checks.error("index", entry, f"of {len(shape)} numbers, as {quantity} has shape {shape}",
                            "name one entry, such as index=0 or index=(0, 1)")
    error = np.asarray(record.get(f"{quantity}_stderr", np.zeros_like(value)), np.float64)
    where: tuple[slice | int, ...] = (slice(None), *entry)
    return np.asarray(record["step"]), value[where], error[where]
