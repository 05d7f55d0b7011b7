"""Least squares with as many parameters as examples: the fluctuation across the interpolation threshold."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Vector

_GRID = 200_001


@dataclasses.dataclass(frozen=True, eq=False)
class HighDimensionLaw:
    """A law in the eigenvectors of A^ = X'X/N, of which nothing else is known.

    Attributes:
        fluctuation: Tr[A^ Sigma], twice the excess of the training loss.
        covariance: eigenvalues of Sigma, in the order of those of A^, shape (D,); 0 where that of A^ is.
        noise_covariance: those of C, of the batch-mean gradient, shape (D,).
        max_learning_rate: from which on the second moment does not exist.
    """

    fluctuation: float
    covariance: Vector
    noise_covariance: Vector
    max_learning_rate: float

    @property
    def trace(self) -> float:
        """Tr Sigma."""
        return float(self.covariance.sum())


def high_dimension_law(
    eigenvalues: ArrayLike,
    learning_rate: float,
    batch_size: int,
    label_noise: float,
    *,
    ratio: float,
    momentum: float = 0.0,
) -> HighDimensionLaw:
    r"""The covariance of SGD on N examples of D features, N and D large at N/D = alpha [theorem 6; stationary.md 6].

    $$\mathrm{Tr}[\hat A \Sigma] = \max\Big(0, \tfrac{\lambda\sigma^2}{b} \big(1 - \tfrac1\alpha\big) \kappa\Big),
      \kappa = \frac{\mathrm{Tr}[\hat A G^{-1}]}{1 - \tfrac\lambda b \mathrm{Tr}[\hat A G^{-1}]}, \qquad
      G = 2 I - \lambda \big(1 - \tfrac1b\big) \hat A,$$

    $$\Sigma = \tfrac{\lambda\sigma^2}{b} \big(1 - \tfrac1\alpha\big) \big(1 + \tfrac{\lambda\kappa}{b}\big) G^{-1}$$

    on the range of A^. The second moment exists where G > 0 and $\lambda\,\mathrm{Tr}[\hat A G^{-1}] < b$.

    The labels' noise sigma is drawn once, with the data; 1 - 1/alpha is the share of it that the fit leaves. It is
    the leading order in 1/N; `predict(DatasetRegression(...))` is exact for the data at hand.

    Args:
        eigenvalues: of A^ = X'X/N, shape (D,), zeros included; or `marchenko_pastur(...)` for isotropic inputs.
        learning_rate: lambda.
        batch_size: b, drawn with replacement.
        label_noise: sigma, a standard deviation.
        ratio: alpha = N/D > 0.
        momentum: mu; the law is the paper's at 0 and follows section 3 otherwise.

    Returns:
        A `HighDimensionLaw`; no fluctuation for alpha <= 1, where the model interpolates.

    Raises:
        ValueError: an argument is out of range, or lambda is at or past the mean-square limit.

    Examples:
        >>> from sgdsim.solver.stationary import high_dimension_law, marchenko_pastur
        >>> spectrum = marchenko_pastur(1000, ratio=2.0)
        >>> law = high_dimension_law(spectrum, 0.01, 32, label_noise=1.0, ratio=2.0)
        >>> round(law.fluctuation, 4), round(law.trace, 4), round(law.max_learning_rate, 4)
        (0.0934, 0.0932, 0.0611)
    """
    h = _spectrum(eigenvalues)
    rate = _checks.positive("learning_rate", learning_rate)
    b = _checks.integer("batch_size", batch_size)
    sigma = _checks.non_negative("label_noise", label_noise)
    alpha = _checks.positive("ratio", ratio, "it is the number of examples over the number of features")
    mu = _checks.fraction("momentum", momentum)

    def gap(rate: float) -> Vector:
        return 2 * (1 - mu) - ((1 - mu) / (1 + mu) - 1 / b) * rate * h

    def feedback(rate: float) -> float:
        return rate / b * float(np.sum(h / gap(rate))) - 1

    # lambda Tr[A G^-1] / b rises with lambda: to infinity where an eigenvalue of G is 0, if one ever is.
    shrink = ((1 - mu) / (1 + mu) - 1 / b) * h.max()
    top = 2 * (1 - mu) / shrink * (1 - 1e-12) if shrink > 0 else 1e3 * b / h.sum()
    limit = top  # of large batches, to rounding
    if feedback(top) > 0:
        limit = float(scipy.optimize.brentq(feedback, 0.0, top, xtol=1e-15 * top, rtol=1e-14))
    if rate >= limit:
        raise _checks.error("learning_rate", rate, f"below {limit:.6g}, where the second moment stops existing",
                            "lower it")
    kappa = float(np.sum(h / gap(rate))) / -feedback(rate)
    left = rate * sigma**2 / b * max(0.0, 1 - 1 / alpha)
    covariance = np.where(h > 0, left * (1 + rate * kappa / b) / gap(rate), 0.0)
    noise = covariance * h * (2 * (1 - mu) - (1 - mu) / (1 + mu) * rate * h) / rate
    return HighDimensionLaw(left * kappa, covariance, noise, limit)


def hessian_fluctuation(
    eigenvalues: ArrayLike, learning_rate: float, batch_size: int, label_noise: float
) -> HighDimensionLaw:
    r"""The law with the noise replaced by $C = \sigma^2 \hat A / b$: what the literature predicts in its place.

    $$\mathrm{Tr}[\hat A \Sigma] = \tfrac{\lambda\sigma^2}{b} \mathrm{Tr}[\hat A (2I - \lambda \hat A)^{-1}].$$

    It knows nothing of the interpolation threshold. Tr Sigma grows with the rank of A^, and is flat from there on.

    Raises:
        ValueError: an argument is out of range, or lambda is at or past 2 / (largest eigenvalue).
    """
    h = _spectrum(eigenvalues)
    rate = _checks.positive("learning_rate", learning_rate)
    if rate * h.max() >= 2:
        raise _checks.error("learning_rate", rate, f"below {2 / h.max():.6g}, 2 / the largest eigenvalue", "lower it")
    noise = label_noise**2 / _checks.integer("batch_size", batch_size) * h
    covariance = np.where(h > 0, rate * label_noise**2 / batch_size / (2 - rate * h), 0.0)
    return HighDimensionLaw(float(h @ covariance), covariance, noise, float(2 / h.max()))


def marchenko_pastur(dimension: int, *, ratio: float, variance: float = 1.0) -> np.ndarray:
    r"""The spectrum of X'X/N for isotropic inputs, N and D large: D quantiles of the Marchenko-Pastur law.

    $$\rho(h) = \frac{\alpha}{2\pi v h} \sqrt{(h_+ - h)(h - h_-)}, \qquad h_\pm = v \big(1 \pm 1/\sqrt{\alpha}\big)^2,$$

    and a share 1 - alpha of exact zeros where alpha = N/D < 1.

    Args:
        dimension: D, how many eigenvalues.
        ratio: alpha = N/D > 0.
        variance: v of one feature.

    Returns:
        Ascending eigenvalues, shape (D,).

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> from sgdsim.solver.stationary import marchenko_pastur
        >>> h = marchenko_pastur(1000, ratio=4.0)
        >>> round(float(h.mean()), 3), round(float((h**2).mean()), 3)  # 1 and 1 + 1/alpha
        (1.0, 1.25)
    """
    size = _checks.integer("dimension", dimension)
    alpha = _checks.positive("ratio", ratio, "it is the number of examples over the number of features")
    v = _checks.positive("variance", variance)
    zeros = max(0.0, 1 - alpha)
    # h = v (1 + 1/alpha - 2 cos(t) / sqrt(alpha)): the square roots at both edges become smooth.
    t = (np.arange(_GRID) + 0.5) * np.pi / _GRID
    h = v * (1 + 1 / alpha - 2 * np.cos(t) / np.sqrt(alpha))
    share = np.cumsum(np.sin(t) ** 2 / h)
    middle = (np.arange(size) + 0.5) / size
    return np.where(middle < zeros, 0.0, np.interp((middle - zeros) / (1 - zeros), share / share[-1], h))


def _spectrum(eigenvalues: ArrayLike) -> np.ndarray:
    h = _checks.finite_array("eigenvalues", eigenvalues)
    if h.ndim != 1 or h.size == 0 or h.min() < -1e-10 * max(h.max(), 1e-300) or h.max() <= 0:
        raise _checks.error("eigenvalues", eigenvalues, "a list of eigenvalues of X'X/N: none negative, not all 0",
                            "pass np.linalg.eigvalsh(problem.gram)")
    return np.maximum(h, 0)
