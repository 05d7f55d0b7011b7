"""Gradient noise of regression on fresh Gaussian inputs."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.solver.noise.cumulants import Cumulants

_STEP = 1e-20  # of a complex-step derivative: nothing is subtracted, so any tiny number does


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianNoise:
    r"""Regression on fresh Gaussian inputs [5, 132, 151], in one form for label noise, input noise and decay.

    $$C = \tfrac1b (K E K + \mathrm{Tr}[K E] K + s^2 K), \qquad E = \Sigma + d_0 d_0^\top.$$

    K is the inputs' covariance as the learner sees it, d0 the bias w* - K^{-1} A u, s^2 the residual variance.
    """

    data_hessian: Matrix
    bias: Vector
    residual_variance: float
    batch_size: int

    @cached_property
    def additive(self) -> Matrix:
        """C at Sigma = 0."""
        k = self.data_hessian
        return self.linear(np.outer(self.bias, self.bias)) + self.residual_variance * k / self.batch_size

    @property
    def carrier(self) -> Matrix:
        """K."""
        return self.data_hessian

    def linear(self, sigma: np.ndarray) -> np.ndarray:
        """(K Sigma K + Tr[K Sigma] K) / b."""
        k = self.data_hessian
        trace = np.sum(k * sigma, axis=(-2, -1))
        return (k @ sigma @ k + trace[..., None, None] * k) / self.batch_size

    def restrict(self, basis: Matrix) -> GaussianNoise:
        """V' K V and V' d0."""
        k = basis.T @ self.data_hessian @ basis
        return GaussianNoise(k, basis.T @ self.bias, self.residual_variance, self.batch_size)

    def cumulants(self, sigma: Matrix) -> Cumulants:
        r"""Of the mean of b products x_i r of jointly Gaussian x and r: connected pairings are cycles.

        $$\kappa(x_{i_1} r, \dots, x_{i_n} r) = \sum_{\text{cyclic orders}} \mathrm{tr} \prod_k M_{i_k i_{k+1}}, \qquad
          M_{ij} = \begin{pmatrix} c_j & s^2 \\ K_{ij} & c_i \end{pmatrix}.$$
        """
        k, b, dimension = self.data_hessian, self.batch_size, len(self.bias)
        variance = self.residual_variance + float(np.sum(k * sigma))

        def cycle(d: np.ndarray) -> np.ndarray:
            c, s2 = k @ d, variance + d @ k @ d
            ones = np.ones((dimension, dimension), c.dtype)
            return np.array([[ones * c, ones * s2], [k * ones, ones * c[:, None]]])  # (2, 2, i, j)

        def third(d: np.ndarray) -> np.ndarray:
            m = cycle(d)
            own = np.einsum("pqii->pqi", m)
            return np.einsum("pqi,qria,rpai->ia", own, m, m) / b**2

        m = cycle(self.bias)
        own = np.einsum("pqii->pqi", m)
        ends = np.einsum("pqi,qria->pria", own, m)
        fourth = np.einsum("pria,rsab,spbi->iab", ends, m, m, optimize=True)
        back = np.einsum("pqia,qrai->pria", m, m)
        fourth = (fourth + fourth.mT + np.einsum("pria,rpib->iab", back, back)) / b**3
        directions = 1j * _STEP * np.eye(dimension)
        slopes = [third(self.bias + e).imag / _STEP for e in directions]
        pull = k @ self.bias
        curvature = (np.einsum("ii->i", k)[:, None, None] * k + k[:, :, None] * k[:, None, :]) / b
        slope = 2 * (np.diag(k)[:, None] * pull + pull[:, None] * k) / b
        return Cumulants(slope, curvature, third(self.bias), np.stack(slopes, axis=-1), fourth)
