"""What the experiments on the variance of the gradient share."""

from __future__ import annotations

import warnings
from typing import Any

from sgdsim.compare_variance import compare_gradient_variance
from sgdsim.experiments._table import load
from sgdsim.experiments.findings import ERROR_RATE, Verdict
from sgdsim.problems import DatasetRegression
from sgdsim.results import GradientVarianceResult

PAPER = "The Impact of the Mini-batch Size on the Variance of Gradients"


def halving(t: int) -> float:
    """Return the paper's 1/(2t), which starts at t = 1."""
    return 1 / (2 * (t + 1))


def diabetes() -> DatasetRegression:
    """Return scikit-learn's diabetes table: 442 rows, standardised, intercept last."""
    frame, target, _ = load("diabetes", None)
    return DatasetRegression.from_table(frame, target=target, standardize_columns=True, intercept=True)


def judged(
    setting: str, result: GradientVarianceResult, exact: Any, *, error_rate: float = ERROR_RATE, **which: Any
) -> list[Verdict]:
    """Return the verdicts of a comparison; its warning on rare events is for the caller to quote, not to raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rows = compare_gradient_variance(result, exact, error_rate=error_rate, **which).rows
    return [Verdict(setting, row) for row in rows]


def provenance(result: GradientVarianceResult, **more: Any) -> dict[str, Any]:
    """Return how a run was made, without the long description of its problem."""
    return {**{k: v for k, v in result.provenance.items() if k != "problem"}, "runs": result.runs, **more}


def tables(result: GradientVarianceResult, exact: Any = None) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return the measured tables (and the exact ones) with named dimensions."""
    grid = ("step", "batch_size")
    names = ("gradient", "full_gradient", "loss")
    found: dict[str, tuple[tuple[str, ...], Any]] = {
        "step": (("step",), result.step),
        "batch_size": (("batch_size",), result.batch_sizes),
        **{name + end: (grid, getattr(result, name + end)) for name in names for end in ("", "_stderr")},
    }
    if exact is not None:
        found |= {f"{name}_exact": (grid, getattr(exact, name)[result.step]) for name in names}
    return found
