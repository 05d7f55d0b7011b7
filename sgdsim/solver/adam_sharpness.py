"""How strongly noisy Adam penalises the l_1 norm of the gradient: expansion, resummation and exact average."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from sgdsim import _checks
from sgdsim.solver.adam_noise import checked_sums, general_coefficients
from sgdsim.solver.adam_weights import limit_sums

ORDERS = ("second", "resummed", "corrected", "monte_carlo")
SMALL_NOISE = 0.05  # the noise ratio up to which the second order is right to about 1%
_SETTLE = 16.0  # e-folds of the longer memory before the averages are taken


class Estimate(float):
    """A number that carries the standard error it was found with (0 where it is a formula)."""

    stderr: float

    def __new__(cls, value: float, stderr: float = 0.0) -> Estimate:
        """Attach a standard error."""
        number = super().__new__(cls, value)
        number.stderr = stderr
        return number


def adam_sharpness_coefficient(
    b1: float, b2: float, noise_ratio: float, order: str = "second", *, chains: int = 1024, seed: int = 0
) -> Estimate:
    r"""The coefficient C of d_j |g|_1 in |g_j| E Corr_j; positive means that large gradients are penalised.

    With the noise ratio $\lambda = \mathcal B_{simple} / b$, the same for all parameters, and
    $s_\mu = \beta_1 / (1-\beta_1)$, $s_\nu = \beta_2 / (1-\beta_2)$:

    - "second" (the published one): $s_\mu - s_\nu + (C_1 + C_2) \lambda$, for $\lambda \lesssim 0.05$ only. In one
      dimension with a constant Hessian the full second order has C_5 beside C_1 + C_2.
    - "resummed": $\frac{s_\mu}{1+\lambda} - \frac{s_\nu}{(1+\lambda)^2}$, all orders in $\lambda$ at leading order in
      $1 - \beta_2$, where the noise acts on the root as $\epsilon = \lambda g^2$ would.
    - "corrected": the same minus $X / (1+\lambda)^2$, its next order for Gaussian noise and a constant Hessian,
      $X = \frac{21 \lambda (2+\lambda)}{8 (1+\lambda)^2} - \frac{27 \lambda}{4 (1+\lambda)} + \lambda
      \frac{1 + 2\beta_1}{1 + \beta_1}$; for $1 - \beta_2 \ll 1 - \beta_1$.
    - "monte_carlo": the exact average over independent batches with Gaussian noise in one dimension with a constant
      Hessian, n -> infinity, eps -> 0; two control variates, `.stderr` from independent chains.

    The second order turns positive and then rises with beta_2 where its first-order truncations of $1/(1+\lambda)$ and
    $1/(1+\lambda)^2$ change sign; the exact average does neither.

    Args:
        b1: beta_1 in [0, 1).
        b2: beta_2 in [0, 1); above 0 for "monte_carlo" (else the average is infinite).
        noise_ratio: lambda >= 0, variance of the batch gradient over its squared mean.
        order: "second", "resummed", "corrected" or "monte_carlo".
        chains: independent chains, for "monte_carlo".
        seed: for "monte_carlo".

    Returns:
        A float with `.stderr` (0 unless "monte_carlo").

    Raises:
        ValueError: an argument is outside its range.

    Warns:
        UserWarning: "second" beyond a noise ratio of 0.05.

    Examples:
        >>> import sgdsim as ss
        >>> round(ss.solver.adam_sharpness_coefficient(0.9, 0.99, 0.25, order="resummed"), 3)
        -56.16

    Source: Cattaneo and Shigida, equation (9), and docs/theory/adam-bias.md.
    """
    sums = checked_sums(b1, b2)
    noise = _checks.non_negative("noise_ratio", noise_ratio, "it is B_simple / b, a variance over a square")
    _checks.choice("order", order, ORDERS)
    if order == "second":
        if noise > SMALL_NOISE:
            warnings.warn(
                f"second order in the noise at noise_ratio={noise:g}: beyond {SMALL_NOISE} it is wrong by more than "
                "about 1%, later in sign; use order='resummed' or 'monte_carlo'", UserWarning, stacklevel=2)
        return Estimate(second_order(b1, b2, noise))
    if order == "monte_carlo":
        if b2 == 0:
            raise _checks.error("b2", b2, "above 0 for a Monte Carlo average", "1 / |g| has no mean")
        return _monte_carlo(float(b1), float(b2), noise, _checks.integer("chains", chains, low=8),
                            _checks.integer("seed", seed, low=0))
    resummed = float(sums.drift_M / (1 + noise) - sums.drift_N / (1 + noise) ** 2)
    if order == "resummed":
        return Estimate(resummed)
    x = (21 * noise * (2 + noise) / (8 * (1 + noise) ** 2) - 27 * noise / (4 * (1 + noise))
         + noise * (1 + 2 * b1) / (1 + b1))
    return Estimate(resummed - x / (1 + noise) ** 2)


def second_order(b1: float, b2: float, noise_ratio: float) -> float:
    """s_mu - s_nu + (C_1 + C_2) lambda, without a warning."""
    sums = checked_sums(b1, b2)
    return float(sums.drift_M - sums.drift_N + _slope(b1, b2) * noise_ratio)


def _slope(b1: Any, b2: Any) -> Any:
    c = general_coefficients(limit_sums(b1, b2), 1.0, 1.0)
    return c.c1 + c.c2


def _monte_carlo(b1: float, b2: float, noise: float, chains: int, seed: int) -> Estimate:
    r"""Average Corr at a fixed point with g = 1 and Hessian 1, where the sums of the correction are recursions.

    $$L_{t+1} = \beta_1 (L_t + U_t), \qquad P_{t+1} = \beta_2 (P_t + U_t q_t), \qquad
      \mathrm{Corr}_t = \frac{L_t}{R_t} - \frac{M_t P_t}{R_t^3}, \quad U_t = \frac{M_t}{R_t},$$

    with M, q and R^2 the averages of g (by beta_1, by beta_2) and of g^2, because every T_k grows by U_t in a step.
    """
    rng = np.random.default_rng(seed)
    memory = 1 / (1 - max(b1, b2))
    settle, measure = math.ceil(_SETTLE * memory), math.ceil(max(4 * memory, 400))
    m, q, v = np.ones(chains), np.ones(chains), np.full(chains, 1 + noise)
    pushed_m, pushed_v = np.zeros(chains), np.zeros(chains)
    total, first, second = np.zeros(chains), np.zeros(chains), np.zeros(chains)
    for t in range(settle + measure):
        xi = math.sqrt(noise) * rng.standard_normal(chains)
        g = 1 + xi
        m += (1 - b1) * (g - m)
        q += (1 - b2) * (g - q)
        v += (1 - b2) * (g * g - v)
        direction = m / np.sqrt(v)
        if t >= settle:
            total += (pushed_m - direction * pushed_v / np.sqrt(v)) / np.sqrt(v)
            first += xi
            second += xi * xi
        pushed_m = b1 * (pushed_m + direction)
        pushed_v = b2 * (pushed_v + direction * q)
    # The means of the noise and of its square are known: what the correction owes to them is taken out.
    known = np.stack([first, second - measure * noise], axis=1) / measure
    design = np.column_stack([np.ones(chains), known]) if noise else np.ones((chains, 1))
    weights, *_ = np.linalg.lstsq(design, total / measure, rcond=None)
    residual = total / measure - design @ weights
    spread = residual @ residual / (chains - design.shape[1])
    return Estimate(float(weights[0]), math.sqrt(spread * np.linalg.inv(design.T @ design)[0, 0]))


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


def adam_thresholds(*, b1: float | None = None, b2: float | None = None, low: float = 0.9) -> Thresholds:
    r"""Noise ratios at which the SECOND-ORDER sharpness coefficient reverses, for one beta fixed.

    With $S = C_1 + C_2$, at fixed beta_1 the coefficient rises in beta_2 where
    $\lambda > f(\beta_2) = [(1-\beta_2)^2 \partial_2 S]^{-1}$; at fixed beta_2 it falls in beta_1 where
    $\lambda > f(\beta_1) = -[(1-\beta_1)^2 \partial_1 S]^{-1}$. They lie far outside the range of the expansion
    (lambda <~ 0.05), and the exact average has no such reversal: see `adam_sharpness_coefficient`.

    Args:
        b1: the fixed beta_1, or None.
        b2: the fixed beta_2, or None; above 1/2, since there is no threshold below.
        low: lower end of the interval [low, 1) of the other beta.

    Raises:
        ValueError: not exactly one beta is given, one is out of range, or S is not monotone on the interval.

    Examples:
        >>> import sgdsim as ss
        >>> found = ss.solver.adam_thresholds(b1=0.9)
        >>> round(found.start, 10), round(found.smallest, 10), found.limit
        (0.5081870045, 0.4945366333, 0.5)

    Source: Cattaneo and Shigida, Propositions G.1 and G.2.
    """
    if (b1 is None) == (b2 is None):
        raise _checks.error("b1, b2", (b1, b2), "one number and one None", "give the beta that stays fixed")
    low = _checks.fraction("low", low, "0.9 is the published one")
    if b1 is not None:
        fixed, sign, limit = _checks.fraction("b1", b1), 1.0, 0.5

        def slope(x: Any) -> Any:
            return _slope(fixed, x)
    else:
        fixed, sign = _checks.fraction("b2", b2), -1.0
        if fixed <= 0.5:
            raise _checks.error("b2", b2, "above 1/2", "there is no reversal in beta_1 below")
        limit = (1 + fixed) / (4 * fixed - 2)

        def slope(x: Any) -> Any:
            return _slope(x, fixed)

    grid = 1 - np.geomspace(1 - low, (1 - low) * 1e-4, 400)
    rise, _ = _derivatives(slope, grid)
    if np.any(sign * rise <= 0):
        raise _checks.error("low", low, "such that C_1 + C_2 is monotone on [low, 1)", "try 0.9")

    def threshold(x: float) -> float:
        return float(sign / ((1 - x) ** 2 * _derivatives(slope, x)[0]))

    def bend(x: Any) -> Any:  # changes sign with the derivative of the threshold
        first, second = _derivatives(slope, x)
        return 2 * first - (1 - x) * second

    bends = bend(grid)
    crossed = np.flatnonzero(bends[1:] * bends[:-1] < 0)
    turns = [optimize.brentq(bend, grid[i], grid[i + 1], xtol=1e-15) for i in crossed]
    ends = {**{float(x): threshold(x) for x in [low, *turns]}, 1.0: limit}
    at = min(ends, key=lambda x: ends[x])
    return Thresholds(ends[low], ends[at], at, max(ends.values()), limit)


def _derivatives(function: Any, x: Any) -> tuple[Any, Any]:
    """First and second derivative of an analytic function with its nearest pole at 1, by Cauchy's formula."""
    radius = (1 - np.asarray(x)) / 4
    turn = np.exp(2j * np.pi * np.arange(32) / 32)
    values = function(np.asarray(x)[..., None] + radius[..., None] * turn)
    return (values / turn).mean(axis=-1).real / radius, 2 * (values / turn**2).mean(axis=-1).real / radius**2
