"""Laws that have a formula: the checked forms of the paper's results, each where it is exact.

Scalars lambda (`rate`), b (`batch_size`), mu (`momentum`), sigma (`label_noise`, a standard deviation);
matrices as float64 arrays of shape (D, D). The matrix equations of `predict` contain them all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector


class ClosedForm(NamedTuple):
    """A stationary covariance, shape (D, D), and the two losses that go with it."""

    covariance: Matrix
    train_loss: float
    test_loss: float


def _trace(*factors: Matrix) -> float:
    return float(np.trace(np.linalg.multi_dot(factors)))


def _inverse_gap(gap: Matrix, pull: Matrix, rate: float, batch_size: int) -> tuple[Matrix, float]:
    """G^-1 and kappa = t / (1 - lambda t / b), t = Tr[pull G^-1].

    Raises:
        ValueError: G is not positive, or the denominator is not: past the mean-square limit.
    """
    if np.linalg.eigvalsh((gap + gap.T) / 2)[0] <= 0:
        raise _checks.error("rate", rate, "below the stability limit (G > 0)", "lower it")
    inverse = np.linalg.inv(gap)
    trace = _trace(pull, inverse)
    if rate * trace >= batch_size:
        raise _checks.error("rate", rate, "below the stability limit (lambda Tr[A G^-1] < b)", "lower it")
    return inverse, trace / (1 - rate * trace / batch_size)


def _commute(name: str, a: Matrix, b: Matrix) -> None:
    if np.abs(a @ b - b @ a).max() > 1e-10 * np.abs(a).max() * max(np.abs(b).max(), 1e-300):
        raise _checks.error(name, b, "commuting with the covariance", "use predict: it needs no such condition")


def label_noise_law(covariance: Matrix, rate: float, batch_size: int, label_noise: float,
                    momentum: float = 0.0) -> ClosedForm:
    r"""Label noise and Gaussian inputs [6, 8, 127, 128].

    $$G = 2(1-\mu) I - \Big(\tfrac{1-\mu}{1+\mu} + \tfrac1b\Big) \lambda A, \qquad
      \kappa = \frac{\mathrm{Tr}[A G^{-1}]}{1 - \tfrac\lambda b \mathrm{Tr}[A G^{-1}]}, \qquad
      \Sigma = \tfrac{\lambda\sigma^2}{b} \Big(1 + \tfrac{\lambda\kappa}{b}\Big) G^{-1}.$$

    Raises:
        ValueError: at or past the mean-square limit.
    """
    a, mu = covariance, momentum
    gap = 2 * (1 - mu) * np.eye(len(a)) - ((1 - mu) / (1 + mu) + 1 / batch_size) * rate * a
    inverse, kappa = _inverse_gap(gap, a, rate, batch_size)
    factor = 1 + rate * kappa / batch_size
    return ClosedForm(
        rate * label_noise**2 / batch_size * factor * inverse,
        label_noise**2 / 2 * factor,
        rate * label_noise**2 * kappa / (2 * batch_size),
    )


def input_noise_law(covariance: Matrix, input_noise: Matrix, teacher: Vector, rate: float,
                    batch_size: int) -> ClosedForm:
    r"""Input noise of covariance B, labels u.x [132-135, 147], no momentum.

    $$K = A + B, \quad s_0 = \mathrm{Tr}[A K^{-1} B u u^\top], \quad G = 2I - \lambda(1 + 1/b) K, \quad
      \Sigma = \tfrac{\lambda s_0}{b} \Big(1 + \tfrac{\lambda\kappa}{b}\Big) G^{-1},$$

    $$L_{test} = \tfrac{\lambda s_0}{2b} \Big(1 + \tfrac{\lambda\kappa}{b}\Big) \mathrm{Tr}[A G^{-1}]
        + \tfrac12 (B'u)^\top A B'u, \quad B' = K^{-1} B.$$

    [134] prints kappa in L_test, which is wrong; A, B and u need not commute.

    Raises:
        ValueError: at or past the mean-square limit.
    """
    a, b, u = covariance, input_noise, teacher
    k = a + b
    lost = np.linalg.solve(k, b @ u)  # B' u
    residual = float(u @ a @ lost)
    inverse, kappa = _inverse_gap(2 * np.eye(len(k)) - rate * (1 + 1 / batch_size) * k, k, rate, batch_size)
    factor = 1 + rate * kappa / batch_size
    sigma = rate * residual / batch_size * factor * inverse
    return ClosedForm(sigma, residual / 2 * factor, (_trace(a, sigma) + float(lost @ a @ lost)) / 2)


def weight_decay_test_loss(covariance: Matrix, decay: Matrix, teacher: Vector, rate: float, batch_size: int) -> float:
    r"""Test loss under weight decay Gamma that commutes with A, no label noise, no momentum [10-12, 151-160].

    $$L_{test} = \tfrac{\lambda}{2b} (t \kappa + r) + \tfrac t2, \qquad t = \mathrm{Tr}[A K^{-2} \Gamma^2 U], \quad
      G = 2I - \lambda (K + K^{-1} A^2 / b), \quad q = \mathrm{Tr}[A^2 K^{-1} G^{-1}],$$

    $$\kappa = \frac{q}{1 - \lambda q / b}, \qquad
      r = \frac{\mathrm{Tr}[A^3 K^{-3} \Gamma^2 G^{-1} U]}{1 - \lambda q / b}, \quad K = A + \Gamma, \; U = uu^\top.$$

    Raises:
        ValueError: Gamma does not commute with A, or K or the learning rate is outside the stable range.
    """
    a, gamma, u = covariance, decay, np.outer(teacher, teacher)
    _commute("decay", a, gamma)
    k = a + gamma
    if np.linalg.eigvalsh(k)[0] <= 0:
        raise _checks.error("decay", decay, "such that A + Gamma is positive", "make it less negative")
    inverse = np.linalg.inv(k)
    gap = 2 * np.eye(len(a)) - rate * (k + inverse @ a @ a / batch_size)
    inverse_gap, kappa = _inverse_gap(gap, a @ a @ inverse, rate, batch_size)
    q = _trace(a @ a, inverse, inverse_gap)
    t = _trace(a, inverse, inverse, gamma, gamma, u)
    r = _trace(a @ a @ a, inverse @ inverse @ inverse, gamma @ gamma, inverse_gap, u) / (1 - rate * q / batch_size)
    return rate / (2 * batch_size) * (t * kappa + r) + t / 2


def scalar_decay_test_loss(a: float, gamma: float, rate: float, batch_size: int, teacher: float = 1.0) -> float:
    r"""One dimension [160]:

    $$L_{test} = \frac{a \gamma^2}{2(a+\gamma)} \cdot
        \frac{2 - \lambda(a+\gamma)}{2(a+\gamma) - \lambda((a+\gamma)^2 + 2a^2/b)} u^2.$$

    Raises:
        ValueError: a + gamma <= 0, or at or past the mean-square limit.
    """
    k = a + gamma
    gap = 2 * k - rate * (k**2 + 2 * a**2 / batch_size)
    if k <= 0 or gap <= 0:
        raise _checks.error("rate", rate, "in the stable range", "lower it, or change gamma")
    return a * gamma**2 / (2 * k) * (2 - rate * k) / gap * teacher**2


def negative_decay_helps(a: float, rate: float, batch_size: int) -> bool:
    r"""Whether the best weight decay in one dimension is negative: 2b/(b+2) < a lambda < sqrt(b/2), b >= 3.

    The lower limit is the stability limit without decay, so the optimum is negative only where training
    without decay is itself unstable.
    """
    return batch_size >= 3 and 2 * batch_size / (batch_size + 2) < a * rate < np.sqrt(batch_size / 2)


def damped_newton_law(
    covariance: Matrix, rate: float, batch_size: int, label_noise: float, momentum: float = 0.0
) -> Matrix:
    r"""Covariance under L = lambda A^{-1} [83].

    $$\Sigma = \frac{\lambda \sigma^2}{g b - \lambda D} A^{-1}, \qquad
      g = 2(1-\mu) - \Big(\tfrac{1-\mu}{1+\mu} + \tfrac1b\Big) \lambda.$$

    Raises:
        ValueError: at or past the mean-square limit g b = lambda D.
    """
    mu, dimension = momentum, len(covariance)
    g = 2 * (1 - mu) - ((1 - mu) / (1 + mu) + 1 / batch_size) * rate
    if g * batch_size <= rate * dimension:
        raise _checks.error("rate", rate, "below the stability limit (g b > lambda D)", "lower it")
    return rate * label_noise**2 / (g * batch_size - rate * dimension) * np.linalg.inv(covariance)


def natural_gradient_law(
    covariance: Matrix, rate: float, batch_size: int, label_noise: float, momentum: float = 0.0
) -> Matrix:
    r"""Covariance under $L = (\lambda / b) C^{-1}$, C the stationary covariance of the batch-mean gradient [84-89].

    $$\Sigma = x A^{-1}, \qquad x = \tfrac14 \Big( \lambda g - 2 s + \sqrt{\lambda^2 g^2
        + 4 \lambda \big(g - \tfrac{2}{(1+D)(1+\mu)}\big) s + 4 s^2} \Big),$$

    $$s = \frac{\sigma^2}{1+D}, \qquad g = \frac{1}{(1+D)(1+\mu)} + \frac{1}{(1-\mu) b}.$$

    There is one positive x for every lambda > 0 and sigma > 0. At sigma = 0 it is lambda g / 2, the limit of small
    label noise, where the second moment is only just finite.
    """
    mu, dimension = momentum, len(covariance)
    s = label_noise**2 / (1 + dimension)
    g = 1 / ((1 + dimension) * (1 + mu)) + 1 / ((1 - mu) * batch_size)
    root = np.sqrt((rate * g) ** 2 + 4 * rate * (g - 2 / ((1 + dimension) * (1 + mu))) * s + 4 * s**2)
    return (rate * g - 2 * s + root) / 4 * np.linalg.inv(covariance)


def natural_gradient_ensemble_radius(
    dimension: int, rate: float, batch_size: int, label_noise: float, memory: float = 0.0
) -> float:
    r"""How far a small error of the ensemble's estimate of C is carried on, a step; from 1 on the law is unstable.

    Many chains without momentum, $\Sigma_t = x_t A^{-1}$, whose estimate $S \hat C_t = c_t A$ has memory rho:

    $$c_{t+1} = \rho c_t + (1-\rho) (\sigma^2 + (1+D) x_t), \qquad l = \lambda / c_{t+1},$$

    $$x_{t+1} = \Big(1 - 2 l + l^2 \big(1 + \tfrac{D+1}{b}\big)\Big) x_t + l^2 \sigma^2 / b,$$

    linearised about its fixed point, `natural_gradient_law`. (Ours.) The loop is slow, and so harmless, for rho near 1;
    for rho = 0 too large a step makes too large a noise and that too small a step: at b > D + 1 it oscillates.
    """
    variance, spread = label_noise**2, 1 + dimension
    x = float(natural_gradient_law(np.eye(dimension), rate, batch_size, label_noise)[0, 0])
    c = variance + spread * x
    step = rate / c
    grow = 1 + spread / batch_size
    kept = 1 - 2 * step + step**2 * grow
    through = (x * (2 * step * grow - 2) + 2 * step * variance / batch_size) * (-step / c)
    inward = (1 - memory) * spread
    return float(np.abs(np.linalg.eigvals([[kept + through * inward, through * memory], [inward, memory]])).max())


def continuous_law(dimension: int, rate: float, batch_size: int, label_noise: float = 1.0) -> Matrix:
    r"""Continuous time with C = sigma^2 H / b [18]: $\Sigma = \lambda \sigma^2 / (2b)\, I$."""
    return rate * label_noise**2 / (2 * batch_size) * np.eye(dimension)


def hessian_law(hessian: Matrix, rate: float, batch_size: int, label_noise: float = 1.0) -> Matrix:
    r"""Discrete time with C = sigma^2 H / b: $\Sigma = (\lambda \sigma^2 / b) (2I - \lambda H)^{-1}$.

    Raises:
        ValueError: lambda is at or past 2 / (largest eigenvalue).
    """
    gap = 2 * np.eye(len(hessian)) - rate * hessian
    if np.linalg.eigvalsh(gap)[0] <= 0:
        raise _checks.error("rate", rate, "below 2 / the largest eigenvalue", "lower it")
    return rate * label_noise**2 / batch_size * np.linalg.inv(gap)
