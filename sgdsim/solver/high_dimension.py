"""Least squares with as many parameters as examples: the fluctuation across the interpolation threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _checks

_GRID = 200_001


def high_dimension_law(
    eigenvalues: Any, rate: float, batch_size: int, label_noise: float, *, ratio: float, momentum: float = 0.0
) -> float:
    r"""Tr[A^ Sigma] of SGD on N examples of D features, N and D large at N/D = alpha [theorem 6; stationary.md 6].

    $$\mathrm{Tr}[\hat A \Sigma] = \max\Big(0, \tfrac{\lambda\sigma^2}{b} \big(1 - \tfrac1\alpha\big) \kappa\Big),
      \kappa = \frac{\mathrm{Tr}[\hat A G^{-1}]}{1 - \tfrac\lambda b \mathrm{Tr}[\hat A G^{-1}]}, \qquad
      G = 2 I - \lambda \big(1 - \tfrac1b\big) \hat A .$$

    The labels' noise sigma is drawn once, with the data; 1 - 1/alpha is the share of it that the fit leaves. It is
    the leading order in 1/N; `predict(DatasetRegression(...))` is exact for the data at hand.

    Args:
        eigenvalues: of A^ = X'X/N, shape (D,), zeros included; or `marchenko_pastur(...)` for isotropic inputs.
        rate: lambda.
        batch_size: b, drawn with replacement.
        label_noise: sigma, a standard deviation.
        ratio: alpha = N/D > 0.
        momentum: mu; the law is the paper's at 0 and follows section 3 otherwise.

    Returns:
        Tr[A^ Sigma], twice the excess of the training loss; 0 for alpha <= 1, where the model interpolates.

    Raises:
        ValueError: an argument is out of range, or lambda is at or past the mean-square limit.

    Examples:
        >>> from sgdsim.solver import high_dimension_law, marchenko_pastur
        >>> spectrum = marchenko_pastur(1000, ratio=2.0)
        >>> round(high_dimension_law(spectrum, 0.01, 32, label_noise=1.0, ratio=2.0), 4)
        0.0934
    """
    h = _spectrum(eigenvalues)
    rate = _checks.positive("rate", rate)
    b = _checks.integer("batch_size", batch_size)
    sigma = _checks.non_negative("label_noise", label_noise)
    alpha = _checks.positive("ratio", ratio, "it is the number of examples over the number of features")
    mu = _checks.fraction("momentum", momentum)
    gap = 2 * (1 - mu) * np.ones_like(h) - ((1 - mu) / (1 + mu) - 1 / b) * rate * h
    kappa = _kappa(h, gap, rate, b)
    return max(0.0, rate * sigma**2 / b * (1 - 1 / alpha) * kappa)


def hessian_fluctuation(eigenvalues: Any, rate: float, batch_size: int, label_noise: float) -> float:
    r"""Tr[A^ Sigma] with the noise replaced by $C = \sigma^2 \hat A / b$: what the literature predicts in its place.

    $$\mathrm{Tr}[\hat A \Sigma] = \tfrac{\lambda\sigma^2}{b} \mathrm{Tr}[\hat A (2I - \lambda \hat A)^{-1}].$$

    It knows nothing of the interpolation threshold.

    Raises:
        ValueError: an argument is out of range, or lambda is at or past 2 / (largest eigenvalue).
    """
    h = _spectrum(eigenvalues)
    rate = _checks.positive("rate", rate)
    if rate * h.max() >= 2:
        raise _checks.error("rate", rate, f"below {2 / h.max():.6g}, 2 / the largest eigenvalue", "lower it")
    return float(rate * label_noise**2 / _checks.integer("batch_size", batch_size) * np.sum(h / (2 - rate * h)))


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
        >>> from sgdsim.solver import marchenko_pastur
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


def _kappa(h: np.ndarray, gap: np.ndarray, rate: float, batch_size: int) -> float:
    if gap.min() <= 0:
        raise _checks.error("rate", rate, "below the stability limit (G > 0)", "lower it")
    trace = float(np.sum(h / gap))
    if rate * trace >= batch_size:
        raise _checks.error("rate", rate, "below the stability limit (lambda Tr[A G^-1] < b)", "lower it")
    return trace / (1 - rate * trace / batch_size)


def _spectrum(eigenvalues: Any) -> np.ndarray:
    h = _checks.finite_array("eigenvalues", eigenvalues)
    if h.ndim != 1 or h.size == 0 or h.min() < -1e-10 * max(h.max(), 1e-300) or h.max() <= 0:
        raise _checks.error("eigenvalues", eigenvalues, "a list of eigenvalues of X'X/N: none negative, not all 0",
                            "pass np.linalg.eigvalsh(problem.gram)")
    return np.maximum(h, 0)
