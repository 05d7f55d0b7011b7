"""How strongly noisy Adam penalises the l_1 norm of the gradient: expansion, resummation and exact average."""

from __future__ import annotations

import math
import warnings

import numpy as np

from sgdsim import _checks
from sgdsim.solver.adam_bias.noise_coefficients import checked_sums, general_coefficients
from sgdsim.solver.adam_bias.weight_sums import Number, limit_sums

APPROXIMATIONS = ("second", "resummed", "corrected", "monte_carlo")
SMALL_NOISE = 0.05  # the noise ratio up to which the second order is of use
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
    b1: float, b2: float, noise_ratio: float, approximation: str = "second", *, chains: int = 1024, seed: int = 0
) -> Estimate:
    r"""The coefficient C of d_j |g|_1 in |g_j| E Corr_j; positive means that large gradients are penalised.

    With the noise ratio $\lambda = \mathcal B_{simple} / b$, the same for all parameters, and
    $s_\mu = \beta_1 / (1-\beta_1)$, $s_\nu = \beta_2 / (1-\beta_2)$:

    - "second" (the published one): $s_\mu - s_\nu + (C_1 + C_2) \lambda$, for $\lambda \lesssim 0.05$ only: there it is
      right to 1 % for $1 - \beta_2 \le (1-\beta_1) / 10$, to some 10 % at equal betas. In one
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
        approximation: "second", "resummed", "corrected" or "monte_carlo".
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
        >>> round(ss.solver.adam_bias.adam_sharpness_coefficient(0.9, 0.99, 0.25, "resummed"), 3)
        -56.16

    Source: Cattaneo and Shigida, equation (9), and docs/theory/adam-bias.md.
    """
    sums = checked_sums(b1, b2)
    noise = _checks.non_negative("noise_ratio", noise_ratio, "it is B_simple / b, a variance over a square")
    _checks.choice("approximation", approximation, APPROXIMATIONS)
    if approximation == "second":
        if noise > SMALL_NOISE:
            warnings.warn(
                f"second order in the noise at noise_ratio={noise:g}: beyond {SMALL_NOISE} the terms left out count, "
                "later they decide the sign; try approximation='resummed' or 'monte_carlo'", UserWarning, stacklevel=2)
        return Estimate(second_order(b1, b2, noise))
    if approximation == "monte_carlo":
        if b2 == 0:
            raise _checks.error("b2", b2, "above 0 for a Monte Carlo average", "1 / |g| has no mean")
        return _monte_carlo(float(b1), float(b2), noise, _checks.integer("chains", chains, low=8),
                            _checks.integer("seed", seed, low=0))
    resummed = float(sums.drift_M / (1 + noise) - sums.drift_N / (1 + noise) ** 2)
    if approximation == "resummed":
        return Estimate(resummed)
    x = (21 * noise * (2 + noise) / (8 * (1 + noise) ** 2) - 27 * noise / (4 * (1 + noise))
         + noise * (1 + 2 * b1) / (1 + b1))
    return Estimate(resummed - x / (1 + noise) ** 2)


def second_order(b1: float, b2: float, noise_ratio: float) -> float:
    """s_mu - s_nu + (C_1 + C_2) lambda, without a warning."""
    sums = checked_sums(b1, b2)
    return float(sums.drift_M - sums.drift_N + _slope(b1, b2) * noise_ratio)


def _slope(b1: Number, b2: Number) -> Number:
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
