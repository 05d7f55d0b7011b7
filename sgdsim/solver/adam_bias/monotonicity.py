"""How the second-order sharpness coefficient of Adam depends on one beta: thresholds, and where it rises and falls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from sgdsim import _checks
from sgdsim.solver.adam_bias.weight_sums import Number

_NEAREST = 1e-15  # to 1 that a turn of the coefficient is looked for


class Thresholds(NamedTuple):
    """Where the second-order coefficient turns its direction, as noise ratios.

    Attributes:
        start: threshold at the lower end of the interval of the beta that varies.
        smallest: least threshold on the interval: below it the coefficient falls (rises for `b2` fixed) throughout.
        at: the beta of the least threshold.
        largest: largest threshold: above it the coefficient rises (falls) throughout.
        limit: threshold as the varying beta goes to 1.
    """

    start: float
    smallest: float
    at: float
    largest: float
    limit: float


def adam_thresholds(*, b1: float | None = None, b2: float | None = None, low: float | None = None) -> Thresholds:
    r"""Noise ratios at which the SECOND-ORDER sharpness coefficient reverses, for one beta fixed.

    With $S = C_1 + C_2$, at fixed beta_1 the coefficient rises in beta_2 where
    $\lambda > f(\beta_2) = [(1-\beta_2)^2 \partial_2 S]^{-1}$; at fixed beta_2 it falls in beta_1 where
    $\lambda > f(\beta_1) = -[(1-\beta_1)^2 \partial_1 S]^{-1}$. They lie far outside the range of the expansion
    (lambda <~ 0.05), and the exact average has no such reversal: see `adam_sharpness_coefficient`.

    Args:
        b1: the fixed beta_1, or None.
        b2: the fixed beta_2, or None; above 1/2, since there is no threshold below.
        low: lower end of the interval [low, 1) of the other beta; None is 0.9, the published one, or `b1` above it,
            where S is monotone only from about there on.

    Raises:
        ValueError: not exactly one beta is given, one is out of range, or S is not monotone on the interval.

    Examples:
        >>> import sgdsim as ss
        >>> found = ss.solver.adam_bias.adam_thresholds(b1=0.9)
        >>> round(found.start, 10), round(found.smallest, 10), found.limit
        (0.5081870045, 0.4945366333, 0.5)

    Source: Cattaneo and Shigida, Propositions G.1 and G.2.
    """
    slope, sign, limit = _varying(b1, b2)
    if b2 is not None and b2 <= 0.5:
        raise _checks.error("b2", b2, "above 1/2", "there is no reversal in beta_1 below")
    start = _checks.fraction("low", max(0.9, b1 or 0.0) if low is None else low, "0.9 is the published one")
    # In u = 1 - beta, which keeps its digits where beta is close to 1.
    grid = np.geomspace(1 - start, (1 - start) * 1e-4, 400)
    fall, _ = _derivatives(slope, grid)
    if np.any(sign * fall >= 0):
        raise _checks.error("low", start, "such that C_1 + C_2 is monotone on [low, 1)", "take it closer to 1")

    def threshold(u: float) -> float:
        return float(-sign / (u**2 * _derivatives(slope, u)[0]))

    def bend(u: Number) -> Number:  # changes sign with the derivative of the threshold
        first, second = _derivatives(slope, u)
        return 2 * first + u * second

    bends = np.asarray(bend(grid))
    crossed = np.flatnonzero(bends[1:] * bends[:-1] < 0)
    turns = [scipy.optimize.brentq(bend, grid[i], grid[i + 1], xtol=1e-12 * grid[i + 1]) for i in crossed]
    ends = {**{float(u): threshold(u) for u in [1 - start, *turns]}, 0.0: limit}
    at = min(ends, key=lambda u: ends[u])
    return Thresholds(ends[1 - start], ends[at], 1 - at, max(ends.values()), limit)


class Monotonicity(NamedTuple):
    """How the second-order coefficient changes with one beta.

    Attributes:
        turns: betas at which it turns, ascending: the roots of its derivative.
        intervals: (from, to, "rises" or "falls"), from the lower end to 1.
    """

    turns: tuple[float, ...]
    intervals: tuple[tuple[float, float, str], ...]


def adam_monotonicity(
    noise_ratio: float, *, b1: float | None = None, b2: float | None = None, low: float = 0.0
) -> Monotonicity:
    r"""Where the SECOND-ORDER sharpness coefficient rises and falls in one beta, for the other one fixed.

    With $S = C_1 + C_2$, u one minus the beta that varies: the derivative of $s_\mu - s_\nu + \lambda S$ vanishes where

    $$\pm 1 + \lambda u^2 \frac{\partial S}{\partial u} = 0,$$

    with + for beta_2 and - for beta_1. As u goes to 0 the left side tends to $1 - 2\lambda$, and to
    $\lambda \frac{4\beta_2 - 2}{1 + \beta_2} - 1$. Where the second order says anything is another question:
    see `adam_sharpness_coefficient`.

    Args:
        noise_ratio: lambda >= 0.
        b1: the fixed beta_1, or None.
        b2: the fixed beta_2, or None.
        low: lower end of the interval [low, 1) of the other beta.

    Raises:
        ValueError: not exactly one beta is given, or an argument is out of range.

    Examples:
        >>> import sgdsim as ss
        >>> found = ss.solver.adam_bias.adam_monotonicity(0.497, b1=0.9, low=0.9)
        >>> [round(turn, 6) for turn in found.turns], [how for _, _, how in found.intervals]
        ([0.928224, 0.976425], ['falls', 'rises', 'falls'])

    Source: Cattaneo and Shigida, Propositions G.1 (b1 = .9) and G.2 (b2 = .999), for any fixed beta.
    """
    slope, sign, _ = _varying(b1, b2)
    noise = _checks.non_negative("noise_ratio", noise_ratio, "it is B_simple / b, a variance over a square")
    start = _checks.fraction("low", low, "0.9 is the published one")

    def falling(u: Number) -> Number:  # the derivative in u times u^2: positive where the coefficient falls in beta
        return sign + noise * u**2 * _derivatives(slope, u)[0]

    grid = np.geomspace(1 - start, _NEAREST, 1000)
    values = np.asarray(falling(grid))
    crossed = np.flatnonzero(values[1:] * values[:-1] < 0)
    turns = [1 - scipy.optimize.brentq(falling, grid[i + 1], grid[i], rtol=1e-14, xtol=1e-30) for i in crossed]
    falls = values[0] > 0 or (values[0] == 0 and values[1] > 0)
    hows = itertools.cycle(("falls", "rises") if falls else ("rises", "falls"))
    ends = [start, *turns, 1.0]
    return Monotonicity(tuple(turns), tuple(zip(ends[:-1], ends[1:], hows, strict=False)))


def _varying(b1: float | None, b2: float | None) -> tuple[Callable[[Number], Number], float, float]:
    """C_1 + C_2 over one minus the beta that is not fixed, the sign of that beta's own drift, the threshold at 1.

    Raises:
        ValueError: not exactly one beta is given, or it is out of range.
    """
    if (b1 is None) == (b2 is None):
        raise _checks.error("b1, b2", (b1, b2), "one number and one None", "give the beta that stays fixed")
    if b1 is not None:
        fixed = 1 - _checks.fraction("b1", b1)
        return (lambda u: _first(fixed, u) + _shared(fixed, u) + _second(u)), 1.0, 0.5
    beta = _checks.fraction("b2", b2)
    limit = (1 + beta) / (4 * beta - 2) if beta != 0.5 else math.inf
    return (lambda u: _first(u, 1 - beta) + _shared(u, 1 - beta)), -1.0, limit


def _within(u: Number, v: Number) -> Number:  # sum of products of the weights of 1 - u and of 1 - v
    return u * v / (u + v - u * v)


def _drift(u: Number) -> Number:
    return (1 - u) / u


def _first(u1: Number, u2: Number) -> Number:
    """The terms of C_1 + C_2 with beta_1's drift, at betas 1 - u1 and 1 - u2."""
    return _drift(u1) * (3 * _within(u2, u2) - 1 - _within(u1, u2))


def _shared(u1: Number, u2: Number) -> Number:
    """Those of both betas."""
    return 4 * _drift(u2) * _within(u1, u2) - _within(u1, u2) * _drift(u1 + u2 - u1 * u2)


def _second(u2: Number) -> Number:
    """Those of beta_2 alone."""
    nn = _within(u2, u2)
    return _drift(u2) * (2 - 9 * nn) + 3 * nn * _drift(2 * u2 - u2**2)


def _derivatives(function: Callable[[Number], Number], x: Number) -> tuple[Number, Number]:
    """First and second derivative of an analytic function with its nearest pole at 0, by Cauchy's formula."""
    radius = np.asarray(x) / 4
    turn = np.exp(2j * np.pi * np.arange(32) / 32)
    values = function(np.asarray(x)[..., None] + radius[..., None] * turn)
    return (values / turn).mean(axis=-1).real / radius, 2 * (values / turn**2).mean(axis=-1).real / radius**2
