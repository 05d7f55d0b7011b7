"""The implicit regulariser of label noise, from the Hessian alone, and its strength."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector

_FLAT = 1e-10  # eigenvalues below this share of the largest are rounding


def label_noise_regularizer(
    hessian: ArrayLike, learning_rate: float, momentum: float = 0.0, *, curvature: float = 1.0
) -> float:
    r"""What label noise adds to the loss, for a strength lambda of 1.

    $$R = -\frac{1+\beta}{2 \eta \alpha} \, \mathrm{tr} \log\Big(1 - \frac{\eta}{2(1+\beta)} H\Big)
        = \sum_i \frac{h_i}{4\alpha} + \frac{\eta h_i^2}{16 (1+\beta) \alpha} + \dots$$

    Args:
        hessian: H of the loss at a minimum, D x D or a length-D diagonal; the formula stands for negative
            eigenvalues, too.
        learning_rate: eta, below 2(1+beta)/h_max.
        momentum: beta of the heavy ball, in [0, 1).
        curvature: alpha, for classification (`label_flip_constants`); 1 for the squared error.

    Returns:
        R, in double precision.

    Raises:
        ValueError: H is not symmetric, or the learning rate is at or past the limit.

    Examples:
        >>> from sgdsim.solver.manifold import label_noise_regularizer
        >>> round(label_noise_regularizer([1.0], 1.0), 10), round(label_noise_regularizer([1.0], 1e-6), 10)
        (0.3465735903, 0.2500000625)

    Source: Damian, Ma and Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", equations (1), (11) and (13),
    the last with its sign corrected (see the errata).
    """
    matrix = _checks.symmetric("hessian", hessian)
    h = matrix if matrix.ndim == 1 else np.linalg.eigvalsh(matrix)
    rate, beta = check_rate(learning_rate, momentum, h)
    alpha = _checks.positive("curvature", curvature)
    return float(-(1 + beta) / (2 * rate * alpha) * np.log1p(-rate * h / (2 * (1 + beta))).sum())


def label_noise_strength(
    learning_rate: float, *, label_noise: float, batch_size: int, momentum: float = 0.0
) -> float:
    r"""The strength lambda of the regulariser in $L + \lambda R$.

    $$\lambda = \frac{\eta \sigma^2}{B (1-\beta)} .$$

    Args:
        learning_rate: eta.
        label_noise: the STANDARD DEVIATION sigma of the noise on a label.
        batch_size: B.
        momentum: beta of the heavy ball, in [0, 1).

    Examples:
        >>> from sgdsim.solver.manifold import label_noise_strength
        >>> round(label_noise_strength(0.1, label_noise=0.5, batch_size=5, momentum=0.5), 12)
        0.01
    """
    rate = _checks.positive("learning_rate", learning_rate)
    sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
    return rate * sigma**2 / (_checks.integer("batch_size", batch_size) * (1 - _checks.fraction("momentum", momentum)))


def label_noise_covariance(
    hessian: ArrayLike,
    learning_rate: float,
    *,
    label_noise: float,
    batch_size: int,
    momentum: float = 0.0,
    curvature: float = 1.0,
) -> Matrix:
    r"""Covariance of the Ornstein-Uhlenbeck process around a global minimum.

    $$\mathrm{Cov}(\theta) = \frac\lambda\alpha \Pi_H \Big(2 - \frac{\eta}{1+\beta} H\Big)^{-1}, \qquad
      \lambda = \frac{\eta\sigma^2}{B(1-\beta)},$$

    the solution of the heavy ball driven by label noise alone, of covariance sigma^2 G / B, where H = alpha G. Batches
    drawn from the examples add their own noise, since the fluctuations keep residuals from being 0; that share does not
    vanish with sigma, only with eta / B.

    Args:
        hessian: H, the Hessian at the global minimum, positive semi-definite, D x D or a length-D diagonal.
        learning_rate: eta, below 2(1+beta)/h_max.
        label_noise: the STANDARD DEVIATION sigma of the noise on a label.
        batch_size: B.
        momentum: beta of the heavy ball, in [0, 1).
        curvature: alpha, for classification (`label_flip_constants`); 1 for the squared error.

    Returns:
        Shape (D, D); 0 along flat directions.

    Raises:
        ValueError: H has a negative eigenvalue, or the learning rate is at or past the limit.

    Examples:
        >>> from sgdsim.solver.manifold import label_noise_covariance
        >>> label_noise_covariance([1.0, 0.0], 0.5, label_noise=0.3, batch_size=3).round(6).tolist()
        [[0.01, 0.0], [0.0, 0.0]]

    Source: Damian, Ma and Lee, Proposition 2 and Proposition 21.
    """
    h, vectors = check_curvatures(hessian)
    rate, beta = check_rate(learning_rate, momentum, h)
    strength = label_noise_strength(rate, label_noise=label_noise, batch_size=batch_size, momentum=beta)
    strength /= _checks.positive("curvature", curvature)
    stiff = h > _FLAT * h.max(initial=0.0)
    return (vectors * np.where(stiff, strength / (2 - rate * h / (1 + beta)), 0.0)) @ vectors.T


def check_curvatures(hessian: ArrayLike) -> tuple[Vector, Matrix]:
    """Eigenvalues and eigenvectors of a positive semi-definite Hessian; those that are rounding become 0.

    Raises:
        ValueError: it is not symmetric, or has a negative eigenvalue.
    """
    h = _checks.positive_semidefinite("hessian", hessian)
    values, vectors = (h, np.eye(len(h))) if h.ndim == 1 else np.linalg.eigh(h)
    return np.maximum(values, 0.0), vectors


def check_rate(learning_rate: float, momentum: float, curvatures: Vector) -> tuple[float, float]:
    """The learning rate and the momentum, for these curvatures.

    Raises:
        ValueError: the learning rate is at or past 2(1+beta)/h_max, where descent itself stops converging.
    """
    rate = _checks.positive("learning_rate", learning_rate)
    beta = _checks.fraction("momentum", momentum)
    top = float(curvatures.max(initial=0.0))
    if rate * top >= 2 * (1 + beta):
        raise _checks.error("learning_rate", rate, f"below 2(1+momentum)/h_max = {2 * (1 + beta) / top:.6g}",
                            "lower it: past the limit full-batch descent diverges")
    return rate, beta
