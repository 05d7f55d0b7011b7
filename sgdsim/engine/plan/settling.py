"""Warn before a run that is too short to settle, where curvature and learning rate say so."""

from __future__ import annotations

import math
import warnings

import numpy as np

from sgdsim._types import as_matrix
from sgdsim.engine.plan.request import Request
from sgdsim.kernels.choose import row_of
from sgdsim.optimizers import is_heavy_ball, resolve
from sgdsim.optimizers.base import constant
from sgdsim.problems import Problem

MOST_LEFT = 0.1  # share of the stationary variance that may be missing on average
_LARGEST = 512  # parameters, for which eigenvalues are a matter of a tenth of a second
_FLAT = 1e-12  # curvatures, relative to the largest, along which nothing moves


class NotSettled(UserWarning):
    """A run ends before its slowest direction has settled: what it measures is not stationary.

    Examples:
        >>> import warnings, sgdsim as ss
        >>> problem = ss.LinearRegression([1.0, 0.003], label_noise=0.5)
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     result = ss.simulate(problem, ss.SGD(0.2), batch_size=8, chains=100, steps=1000, burn_in=500)
        >>> said[0].category is ss.NotSettled, result.status
        (True, 'ok')
    """


def forgetting(problem: Problem, optimizer: object, batch_size: int) -> float | None:
    r"""The factor by which second moments of the slowest direction forget their start in a step; None if not known.

    $$\rho = \max_h |z|^2, \qquad z^2 - (1 + \mu - \lambda h)\, z + \mu = 0,$$

    over the eigenvalues h of the preconditioned Hessian, for heavy-ball SGD where the Hessian is constant.
    """
    row = row_of(problem)
    # Where it is known, the gradient of one example is linear in the weights.
    if row is None or row.noise_at_minimum is None or problem.dimension > _LARGEST:
        return None
    optimizer = resolve(optimizer, problem, batch_size)
    if not is_heavy_ball(optimizer) or callable(optimizer.learning_rate):
        return None
    curvature = as_matrix(np.asarray(problem.hessian(), np.float64), problem.dimension)
    if optimizer.preconditioner is not None:
        curvature = as_matrix(np.asarray(optimizer.preconditioner, np.float64), problem.dimension) @ curvature
    h = np.linalg.eigvals(curvature).real
    h = h[np.abs(h) > _FLAT * np.abs(h).max(initial=0.0)]
    mu = constant(optimizer.momentum)
    half = (1 + mu - constant(optimizer.learning_rate) * h) / 2
    root = np.sqrt(half.astype(complex) ** 2 - mu)
    radii = np.maximum(np.abs(half + root), np.abs(half - root))
    return float(radii.max() ** 2) if radii.size else None


def missing(rho: float, burn_in: int, steps: int) -> float:
    r"""Share of the variance that is missing on average over T steps after B: $\rho^B (1-\rho^T) / (T (1-\rho))$."""
    window = max(1, steps - burn_in)
    if not 0 < rho < 1:
        return 0.0
    return rho**burn_in * -math.expm1(window * math.log(rho)) / (window * (1 - rho))


def warn_if_short(problem: Problem, request: Request, points: list[tuple[object, int]]) -> None:
    """Warn if the slowest point of a run that measures a stationary law leaves much of its variance out.

    Args:
        problem: what is learned.
        request: what is asked for; a run that is recorded step by step is meant to be seen on its way.
        points: optimizer and batch size of each.
    """
    if not request.statistics or request.record:
        return
    known = [rho for optimizer, size in points if (rho := forgetting(problem, optimizer, size)) is not None and rho < 1]
    left = missing(max(known, default=0.0), request.burn_in, request.steps)
    if left > MOST_LEFT:
        wait = math.ceil(math.log(MOST_LEFT / 10) / math.log(max(known)))
        warnings.warn(
            f"the run is too short to settle: {left:.0%} of the variance of its slowest direction will be missing on "
            f"average (it forgets {1 - max(known):.2g} a step); try burn_in={wait}, and as many steps after it",
            NotSettled, stacklevel=5,
        )
