"""The natural gradient in its own stationary noise: a fixed point for the Fisher matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.solver.dynamics import Dynamics
from sgdsim.solver.noise import AveragedNoise
from sgdsim.solver.stationary import Feedback

_ROUNDS = 200
_KEPT = 8  # past rounds that the next one is extrapolated from
_MIXING = 0.5
_CLOSE = 1e-12  # relative change of the Fisher matrix between rounds
_SMALLEST = 1e-12  # eigenvalues of C, relative to the largest, below which it has no inverse
_VANISHING = 1e-24  # residuals of 1e-12: rounding


def stationary_preconditioner(
    curvatures: np.ndarray, noise: AveragedNoise, momentum: float, rate: float, batch_size: int
) -> Matrix:
    r"""P = (S C)^{-1} for which the noise of SGD with preconditioner P is C itself, in the range of the Hessian.

    Write C = c K with Tr[K^-1 C] = rank. At a fixed shape K this is SGD with preconditioner K^{-1} at the rate
    $r = \lambda / (S c)$, whose noise is known exactly at every stable r, and

    $$r \, c(r) = \lambda / S$$

    has one root: the left side grows from 0, to infinity at the mean-square limit where the noise grows with the
    fluctuation. The shape is then that of the noise found, and so on until it stays.

    Args:
        curvatures: eigenvalues of the Hessian, shape (rank,): the coordinates are its eigenvectors.
        noise: averaged gradient noise in these coordinates.
        momentum: mu.
        rate: lambda.
        batch_size: S.

    Raises:
        ValueError: the noise vanishes at the minimum in some direction, or lambda is at or past the limit (which
            is finite only where the noise is additive).
    """
    hessian = np.diag(curvatures)
    units = np.sqrt(np.outer(curvatures, curvatures))  # in which a least-squares noise is close to isotropic
    _check_invertible(noise.additive / units)
    rates = [1.0]

    def next_shape(shape: Matrix) -> Matrix:
        rates[0], found = _at_shape(hessian, noise, shape * units, momentum, rate / batch_size)
        return found / units / np.trace(found / units)

    shape = _settle(next_shape, noise.additive / units / np.trace(noise.additive / units))
    return rates[0] / rate * np.linalg.inv(shape * units)


def _settle(step: Callable[[Matrix], Matrix], x: Matrix) -> Matrix:
    """The fixed point of a map of positive matrices, by Anderson's acceleration."""
    points: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    smallest = math.inf
    for _ in range(_ROUNDS):
        residual = (step(x) - x).ravel()
        size = float(np.linalg.norm(residual)) / float(np.linalg.norm(x))
        if size < _CLOSE or (size < 100 * _CLOSE and size >= smallest):  # the latter is rounding
            return x
        smallest = min(smallest, size)
        points, residuals = [*points[-_KEPT:], x.ravel()], [*residuals[-_KEPT:], residual]
        move = _MIXING * residual
        if len(points) > 1:
            dx, dr = np.diff(points, axis=0).T, np.diff(residuals, axis=0).T
            move = move - (dx + _MIXING * dr) @ np.linalg.lstsq(dr, residual, rcond=1e-10)[0]
        after = x + move.reshape(x.shape)
        after = (after + after.T) / 2
        if np.linalg.eigvalsh(after)[0] < np.linalg.eigvalsh(x)[0] / 10:  # too bold a step
            points, residuals = [], []
            after = x + _MIXING * residual.reshape(x.shape)
        x = after
    raise _checks.error("fisher", None, f"given here: the self-consistent one did not settle (relative change "
                        f"{smallest:.1e} after {_ROUNDS} rounds)", "pass fisher=, or choose units of order 1")


def _at_shape(
    hessian: Matrix, noise: AveragedNoise, shape: Matrix, momentum: float, rate: float
) -> tuple[float, Matrix]:
    """The rate r for which r c(r) = lambda / S, and C there."""
    inverse = np.linalg.inv(shape)
    dynamics = Dynamics.around(hessian, inverse, momentum)
    feedback = Feedback(dynamics, noise)
    rank = len(shape)

    def noise_at(r: float) -> Matrix:
        return noise.additive + noise.linear(feedback.solve(r))

    def size(c: Matrix) -> float:
        return float(np.sum(inverse * c)) / rank

    if feedback.silent:
        return rate / size(noise.additive), noise.additive
    limit = feedback.limit()

    def excess(u: float) -> float:
        r = limit / (1 + math.exp(-u))
        ratio = r * size(noise_at(r)) / rate
        if not 0 < ratio < math.inf:
            raise _beyond_precision(rate)
        return math.log(ratio)

    low, high = -1.0, 1.0
    while excess(low) > 0 and low > -500:  # exp(500) is still a number
        low *= 2
    while excess(high) < 0 and high < 35:  # further on, r is the limit itself
        high += 2
    if excess(low) > 0 or excess(high) < 0:
        raise _beyond_precision(rate)
    r = limit / (1 + math.exp(-brentq(excess, low, high, xtol=1e-14, rtol=1e-15)))
    return r, noise_at(r)


def _beyond_precision(rate: float) -> ValueError:
    return _checks.error("learning_rate", rate, "such that a self-consistent Fisher matrix exists in double precision",
                         "pass fisher=, or choose units in which noise and curvature are of order 1")


def _check_invertible(noise: Matrix) -> None:
    values = np.linalg.eigvalsh(noise)
    if values[-1] <= _VANISHING or values[0] <= _SMALLEST * values[-1]:
        raise _checks.error(
            "fisher", None, f"given here: the gradient noise at the minimum is singular (eigenvalues from "
            f"{values[0]:.3g} to {values[-1]:.3g}), so it has no natural gradient", "add label noise, or pass fisher="
        )
