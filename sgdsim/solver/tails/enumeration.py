"""Data sets with one direction that moves: a step multiplies it by one of a few numbers, so that sums are exact."""

from __future__ import annotations

import itertools
import math

import numpy as np
import scipy

from sgdsim._types import Vector
from sgdsim.solver.noise.subset import SubsetNoise
from sgdsim.solver.stationary.linearized import LinearizedSGD

_MOST = 10_000  # different batches beyond which limits are simulated


def scalar_steps(setting: LinearizedSGD) -> tuple[Vector, Vector] | None:
    """Every k of a step w <- (1 - lambda k) w and its probability; None where steps are no numbers, or too many."""
    noise, dynamics = setting.feedback.noise, setting.dynamics
    if not isinstance(noise, SubsetNoise) or dynamics.momentum or len(dynamics.curvatures) != 1:
        return None
    squares = noise.features[:, 0] ** 2
    drawn = _with_replacement if setting.sampling == "with_replacement" else _subsets
    sums = drawn(squares, setting.batch_size)
    if sums is None:
        return None
    decay = dynamics.curvatures[0] - squares.mean()
    pace = dynamics.preconditioner[0, 0]
    return pace * (sums[0] / setting.batch_size + decay), sums[1]


def scalar_exponent(curvature: Vector, chance: Vector, rate: float) -> float:
    """E ln|1 - lambda k|; minus infinity where a step may end at the minimum."""
    with np.errstate(divide="ignore"):
        return float(chance @ np.log(np.abs(1 - rate * curvature)))


def scalar_limit(curvature: Vector, chance: Vector, settled: float) -> float:
    """The lowest learning rate above `settled`, where E (1 - lambda k)^2 = 1, at which E ln|1 - lambda k| = 0.

    The exponent is concave between two learning rates 1/k that end at the minimum, where it is minus infinity.
    """
    # Below `settled` the exponent is negative, by Jensen's inequality.
    ends = np.unique(1 / curvature[curvature > 0])
    edges = [*ends[ends < settled][-1:], *ends[ends >= settled]]

    def exponent(rate: float) -> float:
        return max(scalar_exponent(curvature, chance, rate), -1e300)

    for low, high in itertools.zip_longest(edges, edges[1:], fillvalue=2 * edges[-1]):
        last = high == 2 * edges[-1]  # from the last end on every step lengthens more and more
        best = high if last else scipy.optimize.minimize_scalar(lambda rate: -exponent(rate), bounds=(low, high),
                                                                method="bounded", options={"xatol": 1e-9 * low}).x
        if exponent(best) >= 0:
            return float(scipy.optimize.brentq(exponent, low, best, xtol=1e-14 * low, rtol=1e-14))
    return settled


def scalar_index(curvature: Vector, chance: Vector, rate: float) -> float:
    """The root kappa of E |1 - lambda k|^kappa = 1: infinite where no step lengthens, 0 where there is no law."""
    with np.errstate(divide="ignore"):
        size, weight = np.log(np.abs(1 - rate * curvature)), np.log(chance)
    if chance @ size >= 0:
        return 0.0
    if size.max() <= 0:
        return math.inf

    def growth(power: float) -> float:
        return float(scipy.special.logsumexp(weight + power * size))

    high = 1.0
    while growth(high) <= 0:
        high *= 2
    low = high / 2
    while growth(low) >= 0:
        low /= 2
    return float(scipy.optimize.brentq(growth, low, high, xtol=1e-13 * low, rtol=1e-13))


def _with_replacement(squares: Vector, batch_size: int) -> tuple[Vector, Vector] | None:
    """Sums of so many independent draws, one draw after the other."""
    one, chance = _merged(squares, np.full(len(squares), 1 / len(squares)))
    sums, weight = np.zeros(1), np.ones(1)
    for _ in range(batch_size):
        if len(sums) * len(one) > 100 * _MOST:
            return None
        sums, weight = _merged(np.add.outer(sums, one).ravel(), np.outer(weight, chance).ravel())
    return (sums, weight) if len(sums) <= _MOST else None


def _subsets(squares: Vector, batch_size: int) -> tuple[Vector, Vector] | None:
    count = math.comb(len(squares), batch_size)
    if count > _MOST:
        return None
    sums = [math.fsum(subset) for subset in itertools.combinations(squares, batch_size)]
    return _merged(np.array(sums), np.full(count, 1 / count))


def _merged(values: Vector, chance: Vector) -> tuple[Vector, Vector]:
    """Values that are equal but for rounding, once each."""
    order = np.argsort(values)
    values, chance = values[order], chance[order]
    first = np.flatnonzero(np.diff(values, prepend=-np.inf) > 1e-12 * values[-1])
    return values[first], np.add.reduceat(chance, first)
