"""Third and fourth cumulants of a minibatch gradient, and how they vary with the weights."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from sgdsim._types import Matrix
from sgdsim.solver.noise import AveragedNoise, GaussianNoise, SubsetNoise

_STEP = 1e-20  # of a complex-step derivative: nothing is subtracted, so any tiny number does


class Cumulants(NamedTuple):
    """Cumulants of the gradient noise xi at the mean, with two indices equal, and derivatives by the weights.

    Attributes:
        variance_slope: d Var(xi_i) / d w_c, shape (D, D).
        variance_curvature: half the second derivatives of Var(xi_i), shape (D, D, D).
        third: kappa(xi_i, xi_i, xi_a), shape (D, D).
        third_slope: d kappa(xi_i, xi_i, xi_a) / d w_c, shape (D, D, D).
        fourth: kappa(xi_i, xi_i, xi_a, xi_b), shape (D, D, D).
    """

    variance_slope: Matrix
    variance_curvature: np.ndarray
    third: Matrix
    third_slope: np.ndarray
    fourth: np.ndarray


def cumulants(noise: AveragedNoise, sigma: Matrix, batch_size: int, mode: str) -> Cumulants:
    """The cumulants of the noise of one minibatch; `sigma` is the covariance of the weights about their mean."""
    if isinstance(noise, GaussianNoise):
        return gaussian_cumulants(noise, sigma)
    if isinstance(noise, SubsetNoise):
        return subset_cumulants(noise, batch_size, mode)
    d = len(sigma)
    flat, cube = np.zeros((d, d)), np.zeros((d, d, d))
    return Cumulants(flat, cube, flat, cube, cube)


def gaussian_cumulants(noise: GaussianNoise, sigma: Matrix) -> Cumulants:
    r"""Of the mean of b products x_i r of jointly Gaussian x and r: connected pairings are cycles.

    $$\kappa(x_{i_1} r, \dots, x_{i_n} r) = \sum_{\text{cyclic orders}} \mathrm{tr} \prod_k M_{i_k i_{k+1}}, \qquad
      M_{ij} = \begin{pmatrix} c_j & s^2 \\ K_{ij} & c_i \end{pmatrix}.$$
    """
    k, b, dimension = noise.second_moment, noise.batch_size, len(noise.bias)
    variance = noise.residual_variance + float(np.sum(k * sigma))

    def cycle(d: np.ndarray) -> np.ndarray:
        c, s2 = k @ d, variance + d @ k @ d
        ones = np.ones((dimension, dimension), c.dtype)
        return np.array([[ones * c, ones * s2], [k * ones, ones * c[:, None]]])  # (2, 2, i, j)

    def third(d: np.ndarray) -> np.ndarray:
        m = cycle(d)
        own = np.einsum("pqii->pqi", m)
        return np.einsum("pqi,qria,rpai->ia", own, m, m) / b**2

    m = cycle(noise.bias)
    own = np.einsum("pqii->pqi", m)
    ends = np.einsum("pqi,qria->pria", own, m)
    fourth = np.einsum("pria,rsab,spbi->iab", ends, m, m, optimize=True)
    back = np.einsum("pqia,qrai->pria", m, m)
    fourth = (fourth + fourth.mT + np.einsum("pria,rpib->iab", back, back)) / b**3
    directions = 1j * _STEP * np.eye(dimension)
    slopes = [third(noise.bias + e).imag / _STEP for e in directions]
    pull = k @ noise.bias
    curvature = (np.einsum("ii->i", k)[:, None, None] * k + k[:, :, None] * k[:, None, :]) / b
    slope = 2 * (np.diag(k)[:, None] * pull + pull[:, None] * k) / b
    return Cumulants(slope, curvature, third(noise.bias), np.stack(slopes, axis=-1), fourth)


def subset_cumulants(noise: SubsetNoise, batch_size: int, mode: str) -> Cumulants:
    """Of batches of a finite data set, exactly.

    Without replacement fresh label noise counts as independent of which rows are drawn, to leading order.
    """
    x, n, gram = noise.features, len(noise.features), noise.gram
    values, weights = np.zeros(1), np.ones(1)
    if noise.label_variance and mode == "with_replacement":
        # Gauss-Hermite: three values of the label noise have its first five moments
        spread = np.sqrt(3 * noise.label_variance * batch_size)
        values, weights = spread * np.array([0.0, 1.0, -1.0]), np.array([4.0, 1.0, 1.0]) / 6
    factors = subset_factors(n, batch_size, mode)
    centre, d = x.T @ noise.residuals / n, x.shape[1]
    slope, third, covariance = (np.zeros((d, d)) for _ in range(3))
    curvature, third_slope, fourth = (np.zeros((d, d, d)) for _ in range(3))
    for value, weight in zip(values, weights / n, strict=True):
        a = x * (noise.residuals + value)[:, None] - centre
        covariance += weight * a.T @ a
        for i in range(d):
            change = x[:, i, None] * x - gram[i]  # d a_i / d w
            square = a[:, i, None] ** 2
            slope[i] += 2 * factors.second * weight * a[:, i] @ change
            curvature[i] += factors.second * weight * change.T @ change
            third[i] += factors.third * weight * a[:, i] ** 2 @ a
            bend = 2 * (a * a[:, i, None]).T @ change + (x * square).T @ x - square.sum() * gram
            third_slope[i] += factors.third * weight * bend
            fourth[i] += factors.fourth * weight * (a * square).T @ a
    own = np.diag(covariance)[:, None, None]
    fourth += factors.pairs * (own * covariance + 2 * covariance[:, :, None] * covariance[:, None, :])
    return Cumulants(slope, curvature, third, third_slope, fourth)


class SubsetFactors(NamedTuple):
    """What multiplies the centred moments of one row in the cumulants of the mean of b rows.

    The fourth is `fourth` times the fourth moment plus `pairs` times the three products of covariances.
    """

    second: float
    third: float
    fourth: float
    pairs: float


def subset_factors(n: int, batch_size: int, mode: str) -> SubsetFactors:
    """With replacement the row draws are independent; without, from the chances that 1 to 4 given rows are drawn."""
    b = batch_size
    if mode == "with_replacement":
        return SubsetFactors(1 / b, 1 / b**2, 1 / b**3, -1 / b**3)
    chances = list(itertools.accumulate(((b - k) / (n - k) if n > k else 0.0 for k in range(4)), lambda p, q: p * q))
    one, two, three, four = chances
    second = n * (one - two) / b**2
    third = n * (one - 3 * two + 2 * three) / b**3
    fourth = n * (one - 7 * two + 12 * three - 6 * four) / b**4
    return SubsetFactors(second, third, fourth, n**2 * (two - 2 * three + four) / b**4 - second**2)
