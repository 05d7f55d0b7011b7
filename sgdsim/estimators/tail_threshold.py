"""How many of the largest samples belong to the tail."""

from __future__ import annotations

import math

import numpy as np

from sgdsim.estimators.pareto_fit import ParetoFit, fit_pareto

_POWER = 0.6
_FEWEST = 100
_STEP = math.sqrt(2)
_CRITICAL = 13.8  # chi-square with two degrees of freedom exceeds it once in a thousand


def exceedances(x: np.ndarray, k: int, decay: float) -> np.ndarray:
    """(x / u)^decay - 1 of the k largest of descending x, where u is the next."""
    return np.expm1(decay * np.log(x[:k] / x[k]))


def most_exceedances(kept: int, total: int) -> int:
    """How many of the largest may belong to the tail: n^0.6 and at least 100, of those that were kept."""
    return min(kept - 1, max(_FEWEST, int(total**_POWER)))


def choose_threshold(x: np.ndarray, total: int, decay: float, labels: np.ndarray | None) -> int:
    r"""Number of exceedances: at most n^0.6, fewer where a higher threshold contradicts the fit.

    Candidates rise by sqrt(2) from about 100. Each fit is held against the exceedances of every candidate
    above it by a likelihood ratio, divided by the design effect of dependent samples. At the first that is
    refuted once in a thousand, half of the last candidate before it is taken, so that the bias left is small
    against the standard error. The cap serves the same end: what is too small to be seen at one threshold
    biases an estimate from a lower one.

    Args:
        x: samples, descending, shape (kept,).
        total: how many samples these are the largest of.
        decay: exponent of `exceedances`.
        labels: independent group of each sample, or None.

    Source: Lepski's principle, as in Boucheron and Thomas, "Tail index estimation, concentration and
    adaptivity" (2015).
    """
    most = most_exceedances(len(x), total)
    steps = int(math.log(most / _FEWEST) / math.log(_STEP) + 1e-9)
    candidates = [round(most / _STEP**j) for j in range(max(steps, 0), -1, -1)]
    fits: list[ParetoFit] = []
    for k in candidates:
        fit = fit_pareto(exceedances(x, k, decay))
        for higher, best in zip(candidates, fits, strict=False):
            z = exceedances(x, higher, decay)
            implied = fit.above((x[higher] / x[k]) ** decay)
            ratio = 2 * (best.log_likelihood(z) - implied.log_likelihood(z))
            if ratio > _CRITICAL * _design_effect(best, labels):
                return candidates[max(len(fits) - 3, 0)]
        fits.append(fit)
    return candidates[-1]


def covariance(influence: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Covariance of estimates from the influence (parameters, k) of each sample, independent between groups."""
    if labels is None:
        return influence @ influence.T
    number = int(labels.max()) + 1
    sums = np.stack([np.bincount(labels[: len(row)], weights=row, minlength=number) for row in influence])
    return sums @ sums.T * number / (number - 1)


def _design_effect(fit: ParetoFit, labels: np.ndarray | None) -> float:
    """By how much dependence inside the groups raises a variance, in the worst direction; 1 or more."""
    if labels is None:
        return 1.0
    return max(1.0, float(np.linalg.eigvals(covariance(fit.influence, labels) @ fit.information).real.max()))
