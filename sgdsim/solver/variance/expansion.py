"""Moments as polynomials in the noise factor: one recursion for each power."""

from __future__ import annotations

import numpy as np

from sgdsim import _checks
from sgdsim.problems.base import Problem
from sgdsim.solver.laws.second_moments import SecondMoments
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.variance.polynomial import VariancePolynomial
from sgdsim.solver.variance.recursion import propagate

QUANTITIES = ("gradient", "full_gradient", "loss")
_TINY = 1e-290  # smaller contributions on 0 <= x <= 1 change nothing, and denormal numbers are slow
_ROUNDING = 1e-12


def expand(
    problem: Problem,
    moments: SecondMoments,
    factor: NoiseFactor,
    rates: np.ndarray,
    start: np.ndarray,
    order: int | None,
    quantity: str,
) -> VariancePolynomial:
    r"""Coefficients after len(rates) - 1 steps; the last rate is not used.

    $$V_t = \sum_k V_t^{(k)} x^k, \qquad V^{(k)}_{t+1} = (I - \alpha_t K) V^{(k)}_t (I - \alpha_t K)
      + \alpha_t^2 [H(V^{(k-1)}_t) + \delta_{k1} G(d_t)] .$$

    Every V^(k) is positive semi-definite, so every coefficient of a variance is non-negative: sums without
    cancellation, and a proof that it does not rise with b. So are those of the loss, but for the constant, where the
    Hessian has no negative eigenvalue.

    Raises:
        ValueError: the coefficients exceed double precision, or `order` cuts off terms of unknown sign.
    """
    step = len(rates) - 1
    signed = quantity == "loss" and bool(moments.curvatures.min() < 0)
    if signed and order is not None:
        raise _checks.error("order", order, "None for the loss where the Hessian has a negative eigenvalue",
                            "what is cut off is bounded only where coefficients are not negative")
    constant, slope = factor.inverse
    highest = step + 1 if order is None else min(order, step + 1)
    v = np.zeros((highest + 1, len(moments.rows)))
    noise = np.zeros_like(v)
    d, top = moments.enter(start), 0
    with np.errstate(over="ignore", invalid="ignore"):
        for t, rate in enumerate(rates):
            last = min(top + 1, highest)
            noise[1 : last + 1] = moments.respond(v[:last])
            noise[1] += moments.inject(d) + slope * moments.additive
            noise[0] = constant * moments.additive
            if t < step:
                v[: last + 1] = moments.decay(rate) * v[: last + 1] + rate**2 * noise[: last + 1]
                v[: last + 1][np.abs(v[: last + 1]) < _TINY] = 0.0
                top = last if v[last].any() else top
                d = moments.step(d, rate)
        values = moments.traces(v, noise)[QUANTITIES.index(quantity)]
    if quantity == "loss":
        values[0] += problem.loss(moments.leave(d[None])[:, 0])
    coefficients = cleaned(values, first=len(values) if signed else int(quantity == "loss"))
    if highest == step + 1:
        return VariancePolynomial(coefficients, factor)
    # the recursion itself at a few noise factors says how much is cut off
    anchors = 0.5 ** np.arange(13)
    at = anchors[:, None]
    exact = propagate(problem, moments, rates, start, at, constant + slope * at)[QUANTITIES.index(quantity)][-1]
    kept = np.polynomial.polynomial.polyval(anchors, coefficients)
    missed = np.maximum(exact - kept, 0.0) + 1e-13 * np.where(np.isfinite(exact), exact, 0.0)
    return VariancePolynomial(coefficients, factor, tail=(anchors, missed))


def cleaned(values: np.ndarray, first: int) -> np.ndarray:
    """The coefficients, those from `first` on with rounding below zero removed.

    Raises:
        ValueError: they exceed double precision.
        ArithmeticError: one is negative beyond rounding, which the theory excludes.
    """
    if not np.isfinite(values).all():
        raise _checks.error("learning_rate", "diverging", "such that coefficients stay below 1e308",
                            "lower it, ask for fewer steps, or pass a smaller order")
    rest = values[first:]
    if rest.min(initial=0.0) < -_ROUNDING * np.abs(rest).max(initial=0.0):
        raise ArithmeticError(f"the coefficient {rest.min()} is negative: second moments are inconsistent")
    return np.concatenate([values[:first], np.maximum(rest, 0.0)])
