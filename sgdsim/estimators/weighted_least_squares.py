"""Linear least squares with known errors: whitened, columns scaled, by QR."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class LeastSquares(NamedTuple):
    """A weighted least-squares fit.

    Attributes:
        coefficients: beta, shape (K,).
        root: F with F F' = E (beta - truth)(beta - truth)', shape (K, any); it keeps the condition number unsquared.
        chi_square: squared residuals in units of their errors.
        parameters: data less the expected chi-square.
        surprise: the chi-square of data and assumed sizes of coefficients, with as many degrees of freedom as data; 0
            where nothing was assumed.
    """

    coefficients: np.ndarray
    root: np.ndarray
    chi_square: float
    parameters: float
    surprise: float = 0.0

    def error(self, rows: np.ndarray) -> np.ndarray:
        """Standard error of each linear combination, `rows` of shape (..., K)."""
        return np.linalg.norm(rows @ self.root, axis=-1)


def whitener(covariance: np.ndarray) -> np.ndarray:
    """W with W Cov W' = I, for errors (m,) or a covariance (m, m); applied as `whiten(W, x)`."""
    if covariance.ndim == 1:
        return 1 / covariance
    return np.linalg.inv(np.linalg.cholesky(covariance))


def whiten(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """W x along the first axis."""
    if weights.ndim == 2:
        return weights @ x
    return weights.reshape((-1,) + (1,) * (x.ndim - 1)) * x


def weighted_least_squares(design: np.ndarray, target: np.ndarray) -> LeastSquares:
    r"""$$\hat\beta = \arg\min |A\beta - y|^2, \quad A D^{-1} = QR, \quad \mathrm{Cov}(\hat\beta) = F F^\top, \;
    F = D^{-1} R^{-1}$$ for whitened A (m, K), m >= K, and y (m,), with D the norms of the columns of A.
    """
    scale = np.linalg.norm(design, axis=0)
    q, r = np.linalg.qr(design / scale)
    projected = q.T @ target
    # Not SciPy's triangular solver: its BLAS call starts threads even for these, at a hundred times the cost.
    root = np.linalg.inv(r) / scale[:, None]
    beta = np.linalg.solve(r, projected) / scale
    return LeastSquares(beta, root, float(((target - q @ projected) ** 2).sum()), design.shape[1])
