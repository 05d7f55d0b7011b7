"""What experiments on the variance of the gradient share: verdicts, tables, and a curve for each batch size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from sgdsim._types import Vector
from sgdsim.comparisons.gradient_variance import compare_gradient_variance
from sgdsim.experiments.framework.curve import Curve
from sgdsim.experiments.framework.findings import ERROR_RATE, Data, Verdict
from sgdsim.results import GradientVarianceResult
from sgdsim.solver.variance import GradientVariance, LayerPolynomials, VariancePolynomial


def judged(
    setting: str,
    result: GradientVarianceResult,
    exact: GradientVariance | VariancePolynomial | LayerPolynomials,
    *,
    step: int | None = None,
    error_rate: float = ERROR_RATE,
) -> list[Verdict]:
    """Return the verdicts of a comparison; its warning on rare events is for the caller to quote, not to raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rows = compare_gradient_variance(result, exact, step=step, error_rate=error_rate).rows
    return [Verdict(setting, row) for row in rows]


def tables(result: GradientVarianceResult, exact: GradientVariance | None = None) -> Data:
    """Return the measured tables (and the exact ones) with named dimensions."""
    grid = ("step", "batch_size")
    names = ("gradient", "full_gradient", "loss")
    found: Data = {
        "step": (("step",), result.step),
        "batch_size": (("batch_size",), result.batch_sizes),
        **{name + end: (grid, getattr(result, name + end)) for name in names for end in ("", "_stderr")},
    }
    if exact is not None:
        found |= {f"{name}_exact": (grid, getattr(exact, name)[result.step]) for name in names}
    return found


def by_size(
    sizes: Sequence[int], fine: Vector, exact: np.ndarray, x: Vector, simulated: np.ndarray, stderr: np.ndarray
) -> dict[str, Curve]:
    """Return a curve over steps for each batch size; tables have shape (steps, batch sizes)."""
    return {
        f"b = {b}": Curve(x, simulated[:, j], stderr[:, j], fine, {"exact": exact[:, j]}) for j, b in enumerate(sizes)
    }
