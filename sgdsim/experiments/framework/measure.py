"""What the experiments share: how long to settle, theory along a curve, verdicts of many points at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sgdsim.comparisons.regime import heavy_tails
from sgdsim.comparisons.stationary import compare_one
from sgdsim.engine import sweep
from sgdsim.experiments.framework.findings import ERROR_RATE, Verdict, share
from sgdsim.optimizers import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.results import GradientVarianceResult, Result, SweepResult
from sgdsim.solver import predict
from sgdsim.solver.prediction import Prediction

APPROXIMATIONS = ("exact", "hessian", "continuous")
LEFT_OVER = 1e-4  # of the distance to the stationary second moments after the burn-in


def settling_steps(*predictions: Prediction, at_least: int = 50, left_over: float = LEFT_OVER) -> int:
    """Return the steps from the minimum that leave this fraction of the way to the stationary covariance."""
    slowest = max(prediction.spectral_radius for prediction in predictions)
    if slowest <= 0:
        return at_least
    return max(at_least, math.ceil(math.log(left_over) / math.log(min(slowest, 1 - 1e-12))))


def sweep_settled(
    problem: Problem,
    optimizer: Optimizer,
    theories: Iterable[Prediction],
    *,
    batch_size: Sequence[int] | int,
    learning_rate: Sequence[float] | None = None,
    chains: int,
    steps: int,
    seed: int,
    initial: ArrayLike | None = None,
) -> SweepResult:
    """Return a sweep over batch sizes and learning rates, measured once the slowest of its points has settled."""
    burn_in = settling_steps(*theories)
    return sweep(problem, optimizer, batch_size=batch_size, learning_rate=learning_rate, chains=chains,
                 steps=burn_in + steps, burn_in=burn_in, seed=seed, initial=initial, progress=False)


def try_predict(
    problem: Problem, optimizer: Optimizer, *, batch_size: int, approximation: str = "exact"
) -> Prediction | None:
    """Return the prediction, or None past the stability limit."""
    try:
        return predict(problem, optimizer, batch_size=batch_size, approximation=approximation)
    except ValueError:
        return None


def along(
    settings: Iterable[tuple[Problem, Optimizer, int]], quantity: str, approximations: Sequence[str] = APPROXIMATIONS
) -> dict[str, np.ndarray]:
    """Return a scalar quantity at each (problem, optimizer, batch size), by approximation; NaN where unstable.

    A covariance counts by its trace.
    """
    lines: dict[str, list[float]] = {name: [] for name in approximations}
    for problem, optimizer, batch_size in settings:
        for name in approximations:
            theory = try_predict(problem, optimizer, batch_size=batch_size, approximation=name)
            lines[name].append(math.nan if theory is None else scalar(getattr(theory, quantity)))
    return {name: np.array(values) for name, values in lines.items()}


def scalar(value: ArrayLike) -> float:
    """Return a number as it is, a covariance by its trace."""
    array = np.asarray(value, np.float64)
    return float(array) if array.ndim == 0 else float(np.trace(array))


def scalar_stderr(value: ArrayLike) -> float:
    """Return the standard error of `scalar`, of a trace as if its entries were independent."""
    array = np.asarray(value, np.float64)
    return float(array) if array.ndim == 0 else float(np.sqrt(np.sum(np.diag(array) ** 2)))


def hold(points: Sequence[tuple[str, Result, Prediction]], error_rate: float = ERROR_RATE) -> list[Verdict]:
    """Compare every (setting, result, prediction), sharing one error rate among them."""
    each = share(len(points), error_rate)
    return [
        Verdict(setting, row)
        for setting, result, theory in points
        for row in compare_one(result, theory, error_rate=each).rows
    ]


def extrapolate(values: np.ndarray, stderr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values at eta = 0 by a quadratic through eta, eta/2 and eta/4 (first axis), and their standard errors."""
    weights = np.array([1.0, -6.0, 8.0]) / 3
    return np.tensordot(weights, values, 1), np.sqrt(np.tensordot(weights**2, np.square(stderr), 1))


def doubtful(results: Iterable[Result]) -> list[bool]:
    """Return for each result whether its tails are too heavy for an error bar of a second moment."""
    return [bool(heavy_tails(result)) for result in results]


def short_provenance(result: Result | GradientVarianceResult, **more: object) -> dict[str, object]:
    """Return how a run was made, without the long description of its problem."""
    return {name: value for name, value in result.provenance.items() if name != "problem"} | more
