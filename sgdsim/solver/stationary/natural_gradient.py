"""The natural gradient in its own stationary noise: a fixed point for the Fisher matrix."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.solver.linear_algebra.anderson import fixed_point
from sgdsim.solver.noise.averaged import AveragedNoise
from sgdsim.solver.stationary.dynamics import Dynamics
from sgdsim.solver.stationary.generalized_lyapunov import GeneralizedLyapunov

_SMALLEST = 1e-12  # eigenvalues of C, relative to the largest, below which it has no inverse
_CLOSEST = 24.0  # of the rate to its limit, as -ln of the gap: six digits are left of what 1 / gap multiplies
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
        NotConverged: no shape stays.
    """
    hessian = np.diag(curvatures)
    units = np.sqrt(np.outer(curvatures, curvatures))  # in which a least-squares noise is close to isotropic
    _check_invertible(noise.additive / units)

    def at(x: np.ndarray) -> _AtShape | None:
        shape = x.reshape(units.shape)
        if np.linalg.eigvalsh(shape)[0] <= 0:  # too bold a step
            return None
        return _at_shape(hessian, noise, shape * units, momentum, rate / batch_size)

    def image(found: _AtShape) -> np.ndarray:
        scaled = found.noise / units
        return ((scaled + scaled.T) / 2 / np.trace(scaled)).ravel()

    start = noise.additive / units
    settled = fixed_point(at, image, (start / np.trace(start)).ravel(), climb=False)
    return settled.rate / rate * np.linalg.inv(settled.shape)


class _AtShape(NamedTuple):
    """At a shape K: the rate r for which r c(r) = lambda / S, and the noise C there."""

    shape: Matrix
    rate: float
    noise: Matrix


def _at_shape(hessian: Matrix, noise: AveragedNoise, shape: Matrix, momentum: float, rate: float) -> _AtShape:
    inverse = np.linalg.inv(shape)
    dynamics = Dynamics.around(hessian, inverse, momentum)
    feedback = GeneralizedLyapunov(dynamics, noise)
    rank = len(shape)

    def noise_at(r: float) -> Matrix:
        return noise.additive + noise.linear(feedback.solve(r))

    def size(c: Matrix) -> float:
        return float(np.sum(inverse * c)) / rank

    if feedback.silent:
        return _AtShape(shape, rate / size(noise.additive), noise.additive)
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
    root = scipy.optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-15)
    if root > _CLOSEST:
        raise _beyond_precision(rate)
    r = limit / (1 + math.exp(-root))
    return _AtShape(shape, r, noise_at(r))


def _beyond_precision(rate: float) -> ValueError:
    return _checks.error("learning_rate", rate, "such that a self-consistent Fisher matrix exists in double precision",
                         "pass fisher=, or take more label noise: far below the learning rate it hardly matters")


def _check_invertible(noise: Matrix) -> None:
    values = np.linalg.eigvalsh(noise)
    if values[-1] <= _VANISHING or values[0] <= _SMALLEST * values[-1]:
        raise _checks.error(
            "fisher", None, f"given here: the gradient noise at the minimum is singular (eigenvalues from "
            f"{values[0]:.3g} to {values[-1]:.3g}), so it has no natural gradient", "add label noise, or pass fisher="
        )
