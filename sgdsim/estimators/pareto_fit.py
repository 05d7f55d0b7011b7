"""Generalised Pareto maximum likelihood for exceedances, with its profile likelihood."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy

_EXPONENTIAL = -20.0  # log(theta x median) below which the law is exponential to rounding
_STEPS = 100


class ParetoFit(NamedTuple):
    """P(Z > z) = (1 + xi z / sigma)^(-1/xi), fitted to k exceedances Z > 0.

    Attributes:
        shape: xi >= 0; 0 is the exponential law.
        scale: sigma.
        influence: of each exceedance on (xi, log theta), shape (2, k), theta = xi / sigma: they sum to 0, their
            squares to the variances.
        information: of (xi, log theta), shape (2, 2).
    """

    shape: float
    scale: float
    influence: np.ndarray
    information: np.ndarray

    def log_likelihood(self, z: np.ndarray) -> float:
        """Of exceedances z, summed."""
        if self.shape == 0:
            return -len(z) * math.log(self.scale) - float(z.sum()) / self.scale
        log1p = np.log1p(self.shape / self.scale * z)
        return -len(z) * math.log(self.scale) - (1 + 1 / self.shape) * float(log1p.sum())

    def above(self, ratio: float) -> ParetoFit:
        """The law of exceedances of `ratio` x the threshold, in units of it: the same xi, another sigma."""
        return self._replace(scale=(self.scale + self.shape * (ratio - 1)) / ratio)


def fit_pareto(z: np.ndarray) -> ParetoFit:
    r"""Maximise the likelihood over xi >= 0 and sigma > 0.

    With theta = xi / sigma the best xi is the mean of log(1 + theta z), which leaves one equation,

    $$1 = \bar a \, (1 + 1 / \bar L), \quad a_i = \frac{\theta z_i}{1 + \theta z_i}, \; L_i = \log(1 + \theta z_i).$$

    Args:
        z: exceedances, shape (k,), not negative.

    Source: Grimshaw, "Computing maximum likelihood estimates for the generalized Pareto distribution" (1993).
    """
    unit = float(np.median(z))
    s = _climb(z / unit)
    if s < _EXPONENTIAL:
        return _exponential(z)
    log1p, a = _parts(z / unit, s)
    xi = float(log1p.mean())
    score = np.array([log1p / xi**2 - 1 / xi, 1 - (1 + 1 / xi) * a])
    cross = a.mean() / xi**2
    information = len(z) * np.array([[1 / xi**2, -cross], [-cross, (1 + 1 / xi) * float(np.mean(a * (1 - a)))]])
    return ParetoFit(xi, xi * unit * math.exp(-s), np.linalg.solve(information, score), information)


def profile_interval(z: np.ndarray, fit: ParetoFit, drop: float) -> tuple[float, float]:
    """The xi on both sides of the fit where the profile log-likelihood has dropped by `drop`.

    Args:
        z: exceedances, shape (k,).
        fit: their `fit_pareto`.
        drop: half a quantile of chi-square with one degree of freedom, times a design effect.

    Returns:
        Low and high; low is 0 where the exponential law has not dropped so far.
    """
    target = fit.log_likelihood(z) - drop

    def excess(log_xi: float) -> float:
        return _profile(z, math.exp(log_xi), fit.scale) - target

    start = math.log(fit.shape) if fit.shape else -10.0
    high = start + 0.25
    while excess(high) > 0:
        high += 0.5
    upper = math.exp(scipy.optimize.brentq(excess, max(start, high - 0.5), high, xtol=1e-6))
    if _exponential(z).log_likelihood(z) >= target:
        return 0.0, upper
    low = start - 0.25
    while excess(low) > 0:
        low -= 0.5
    return math.exp(scipy.optimize.brentq(excess, low, min(start, low + 0.5), xtol=1e-6)), upper


def _exponential(z: np.ndarray) -> ParetoFit:
    return ParetoFit(0.0, float(z.mean()), np.zeros((2, len(z))), np.eye(2))


def _parts(z: np.ndarray, s: float) -> tuple[np.ndarray, np.ndarray]:
    t = math.exp(s) * z
    return np.log1p(t), t / (1 + t)


def _climb(z: np.ndarray) -> float:
    """Log theta at the maximum, by Newton steps of at most 1 from theta = 1."""
    s = 0.0
    for _ in range(_STEPS):
        log1p, a = _parts(z, s)
        xi, first, second = log1p.mean(), a.mean(), float(np.mean(a * (1 - a)))
        slope = 1 - first - first / xi
        curvature = first**2 / xi**2 - second / xi - second
        step = -slope / curvature if curvature < 0 else math.copysign(0.5, slope)
        step = min(max(step, -1.0), 1.0)
        s += step
        if abs(step) < 1e-10 or s < _EXPONENTIAL:
            break
    return float(s)


def _profile(z: np.ndarray, xi: float, scale: float) -> float:
    """Log-likelihood at xi with the best sigma, found by Newton steps in its logarithm from `scale`."""
    weight, s = 1 + 1 / xi, math.log(xi / scale)
    for _ in range(_STEPS):
        _, a = _parts(z, s)
        step = (1 - weight * float(a.mean())) / (weight * float(np.mean(a * (1 - a))))
        step = min(max(step, -1.0), 1.0)
        s += step
        if abs(step) < 1e-9:
            break
    return ParetoFit(xi, xi * math.exp(-s), z, z).log_likelihood(z)
