"""The tail index of a sample: three estimators, a threshold chosen by the data, an interval that holds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._tail_index import TailIndex
from sgdsim.estimators.pareto_fit import ParetoFit, fit_pareto, profile_interval
from sgdsim.estimators.tail_threshold import choose_threshold, covariance, exceedances, most_exceedances

MIN_SAMPLES = 200
MIN_GROUPS = 8
METHODS = ("hill", "moment", "ml")
_LEFT = 0.15  # of the correction for bias may be wrong
_TIED = 0.05
_JACKKNIFED = 64  # groups are joined to as many at most


@dataclasses.dataclass(frozen=True)
class TailEstimate(TailIndex):
    """A measured tail index.

    Attributes:
        value: alpha in P(X > x) ~ x^-alpha, the exponent of the SURVIVAL function (the density has alpha + 1);
            infinite where the tail is no heavier than exponential.
        stderr: what a normal error of ln(alpha) with the same interval would have; NaN where the interval is open.
        low: lower end of the interval.
        high: upper end of the interval; infinite where a light tail is not excluded.
        threshold: value above which the tail was fitted.
        method: "hill", "moment" or "ml".
        exceedances: how many samples lie above the threshold.
        confidence: of the interval.
    """

    threshold: float
    method: str
    exceedances: int
    confidence: float


def tail_index(
    samples: ArrayLike,
    *,
    method: str = "hill",
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
    total: int | None = None,
    decay: float = 2.0,
) -> TailEstimate:
    r"""Exponent of the survival function, $$P(X > x) \sim x^{-\alpha}$$, with a confidence interval.

    "hill" is Hill's likelihood with the first term of its bias in the model, in closed form:

    $$P(X > x \mid X > u) = \left[1 + \theta \left((x/u)^{\tau} - 1\right)\right]^{-\alpha / \tau}
      \propto x^{-\alpha} \left(1 + c \, x^{-\tau} + \ldots\right);$$

    at theta = 1 it is Hill's. The correction decays as x^-tau with tau = `decay` = 2 wherever both sides have
    the same tail, as norms of deviations of SGD have: a shift or a finite scale then matters in second
    order only. "ml" is the same with tau = 1, the generalised Pareto law; "moment" is the estimator of
    Dekkers, Einmahl and de Haan, for comparison.

    The threshold is chosen by the data: at most n^0.6 exceedances, fewer where a higher threshold contradicts the
    fit by its likelihood ratio. The interval is that of the profile likelihood ("moment": normal). Its width
    takes in 15% of the correction for bias, for the next term of the series, and, where
    `groups` says which samples depend on each other, the scatter between groups with Student's t.

    Args:
        samples: shape (n,); magnitudes are taken, |x|.
        method: "hill", "moment" or "ml".
        confidence: of the interval.
        groups: shape (n,), a label for each sample; samples of different groups are independent, those of one
            need not be. None means that all are independent.
        total: number of samples of which these are the largest; None means that these are all.
        decay: tau of "hill"; 1 where the two sides differ, as for one-sided samples.

    Raises:
        ValueError: fewer than 200 samples, NaN or infinite ones, more than 5% of them tied, fewer than 8 groups.

    Examples:
        >>> import numpy as np
        >>> import sgdsim as ss
        >>> pareto = (np.arange(20_000) + 0.5) ** (-1 / 3)  # quantiles of index 3
        >>> estimate = ss.estimators.tail_index(pareto)
        >>> round(estimate.value, 1), estimate.low < 3 < estimate.high
        (3.0, True)

    Source: Beirlant, Joossens and Segers, "Second-order refined peaks-over-threshold modelling" (2009), for
    the extended Pareto law; Dekkers, Einmahl and de Haan, "A moment estimator" (1989), eq. 1.7.
    """
    method = _checks.choice("method", method, METHODS)
    confidence = _checks.real("confidence", confidence, "in (0, 1)", "0.95 is the default")
    if not 0 < confidence < 1:
        raise _checks.error("confidence", confidence, "in (0, 1)", "0.95 is the default")
    decay = _checks.positive("decay", decay, "2 for tails alike on both sides, 1 otherwise")
    x, labels = _largest_first(samples, groups)
    n = len(x) if total is None else _checks.integer("total", total, low=len(x), remedy="count every sample")
    tau = decay if method == "hill" else 1.0
    _check_distinct(samples, x[: most_exceedances(len(x), n) + 1], "of the largest ")
    k = choose_threshold(x, n, tau, labels)
    fitted = (_moment if method == "moment" else _pareto)(x[: k + 1], tau, confidence, labels)
    value, high, low = (_reciprocal(gamma) for gamma in fitted)
    stderr = math.nan
    if math.isfinite(high):
        stderr = value * math.log(high / low) / (2 * float(scipy.special.ndtri((1 + confidence) / 2)))
    return TailEstimate(value, stderr, low, high, float(x[k]), method, k, confidence)


def hill(samples: ArrayLike, exceedances: int) -> float:
    r"""Hill's plain estimate of the tail index, $$1 / \overline{\log (X_i / X_{(k+1)})}$$ over the k largest.

    No interval: at a given k it holds only where the tail is a pure power law (see `tail_index`).

    Args:
        samples: shape (n,); magnitudes are taken.
        exceedances: k, from 2 to n - 1.

    Raises:
        ValueError: as `tail_index`, or k is out of range.

    Examples:
        >>> import numpy as np
        >>> import sgdsim as ss
        >>> round(ss.estimators.hill((np.arange(20_000) + 0.5) ** (-1 / 3), 1_000), 2)
        3.0

    Source: Hill, "A simple general approach to inference about the tail of a distribution" (1975).
    """
    x, _ = _largest_first(samples, None)
    k = _checks.integer("exceedances", exceedances, low=2, high=len(x) - 1)
    _check_distinct(samples, x[: k + 1], "of the largest ")
    return float(1 / np.log(x[:k] / x[k]).mean())


def _largest_first(samples: ArrayLike, groups: ArrayLike | None) -> tuple[np.ndarray, np.ndarray | None]:
    remedy = "a tail has to be seen: measure more"
    x = np.abs(_checks.finite_array("samples", samples, "drop diverged chains"))
    if x.ndim != 1 or len(x) < MIN_SAMPLES:
        raise _checks.error("samples", samples, f"a vector of {MIN_SAMPLES} or more (got shape {x.shape})", remedy)
    order = np.argsort(-x, kind="stable")
    x = x[order]
    if x[0] == x[-1]:
        raise _checks.error("samples", samples, f"not all equal (they are {x[0]:g})", remedy)
    positive = x[x > 0]
    _check_distinct(samples, positive)
    if len(positive) < MIN_SAMPLES:
        raise _checks.error("samples", samples, f"positive in {MIN_SAMPLES} places or more", remedy)
    x = positive
    if groups is None:
        return x, None
    labels = np.asarray(groups)
    if labels.shape != order.shape:
        raise _checks.error("groups", groups, f"one label a sample (got shape {labels.shape})", "label each sample")
    labels = np.unique(labels[order], return_inverse=True)[1]
    if labels.max() + 1 < MIN_GROUPS:
        raise _checks.error("groups", groups, f"{MIN_GROUPS} or more distinct labels (got {labels.max() + 1})",
                            "run more chains: an interval rests on independent groups of them")
    return x, labels[: len(x)] % _JACKKNIFED


def _check_distinct(samples: ArrayLike, x: np.ndarray, which: str = "") -> None:
    tied = 1 - len(np.unique(x)) / len(x)
    if tied > _TIED:
        raise _checks.error("samples", samples, f"distinct ({tied:.0%} {which}repeat another)",
                            "a tail cannot be fitted to rounded, clipped or repeated values: pass them unrounded, "
                            "once each")


def _pareto(x: np.ndarray, tau: float, confidence: float, labels: np.ndarray | None) -> tuple[float, float, float]:
    """Tail weight gamma = xi / tau from the generalised Pareto fit of (x / u)^tau - 1, u = x[-1], and its interval."""
    k = len(x) - 1
    z = exceedances(x, k, tau)
    fit = fit_pareto(z)
    sampling = (1 + fit.shape) ** 2 / k
    shifts = None
    if labels is not None:  # by fits that leave one group out: unlike influences they allow for its own pull
        shifts = np.array([fit_pareto(z[labels[:k] != g]).shape for g in range(labels.max() + 1)]) - fit.shape
    quantile, variance = _by_groups(shifts, sampling, confidence)
    design = (variance + _remainder(x, fit, tau, labels)) / sampling
    low, high = profile_interval(z, fit, quantile**2 / 2 * design)
    return fit.shape / tau, low / tau, high / tau


def _by_groups(shifts: np.ndarray | None, sampling: float, confidence: float) -> tuple[float, float]:
    """Quantile and variance of an estimate from its shift by each independent group, at least that of sampling.

    Few groups may carry most of the scatter, since excursions come in bursts: Student's t has as many degrees of
    freedom as normal shifts of the same kurtosis would leave to their sum of squares, at most G - 1.
    """
    if shifts is None:
        return float(scipy.special.ndtri((1 + confidence) / 2)), sampling
    squares, groups = (shifts - shifts.mean()) ** 2, len(shifts)
    freedom = min(groups - 1, 3 * squares.sum() ** 2 / np.sum(squares**2))
    scatter = squares.sum() * groups / (groups - 1)
    return float(scipy.stats.t.ppf((1 + confidence) / 2, freedom)), max(float(scatter), sampling)


def _remainder(x: np.ndarray, fit: ParetoFit, tau: float, labels: np.ndarray | None) -> float:
    """Square of what the correction leaves of the bias of xi: 15% of the correction, less its noise."""
    log = tau * np.log(x[:-1] / x[-1])
    correction = log.mean() - fit.shape
    noise = float(covariance(((log - log.mean()) / len(log) - fit.influence[0])[None], labels)[0, 0])
    return _LEFT**2 * max(correction**2 - noise, 0.0) if fit.shape else 0.0


def _moment(x: np.ndarray, tau: float, confidence: float, labels: np.ndarray | None) -> tuple[float, float, float]:
    r"""$$\hat\gamma = M_1 + 1 - \tfrac12 / (1 - M_1^2 / M_2)$$ from moments of log excesses; k Var = 1 + gamma^2."""
    log = np.log(x[:-1] / x[-1])
    m1, m2 = float(log.mean()), float(np.mean(log**2))
    rest = 1 - m1**2 / m2
    gamma = m1 + 1 - 0.5 / rest
    by_m1, by_m2 = 1 - m1 / m2 / rest**2, 0.5 * m1**2 / m2**2 / rest**2
    influence = (by_m1 * (log - m1) + by_m2 * (log**2 - m2)) / len(log)
    shifts = None if labels is None else np.bincount(labels[: len(log)], influence, labels.max() + 1)
    quantile, variance = _by_groups(shifts, (1 + gamma**2) / len(log), confidence)
    half = quantile * math.sqrt(variance)
    return gamma, gamma - half, gamma + half


def _reciprocal(gamma: float) -> float:
    return 1 / gamma if gamma > 0 else math.inf
