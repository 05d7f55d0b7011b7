"""Gradient noise of batches from a finite data set."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cached_property

import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.problems.parts.fourth_moments import FourthMoments
from sgdsim.solver.noise.cumulants import Cumulants
from sgdsim.solver.noise.factor import NoiseFactor

_ROWS = 4096  # at a time, so that memory does not grow with the data


def spread(gradients: np.ndarray) -> Matrix:
    """The covariance of the rows of `gradients` (n, D): of one example's gradient."""
    centred = gradients - gradients.mean(axis=0)
    return centred.T @ centred / len(centred)


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetNoise:
    r"""Least squares on batches of a finite data set of any distribution [99, 108, 116].

    $$C = f \Big( \tfrac1n \sum_i (r_i^2 + x_i^\top \Sigma x_i) x_i x_i^\top - \hat A \Sigma \hat A
          - \bar g \bar g^\top \Big) + \tfrac{\sigma^2}{b} \hat A .$$

    r_i are the residuals at the mean, gbar the data gradient there, f the noise factor of b; fresh label noise sigma
    is not thinned by it.
    """

    features: np.ndarray
    residuals: Vector
    label_noise: float
    batch_size: int
    factor: NoiseFactor
    label_law: str = "gaussian"
    moments: FourthMoments | None = None

    @cached_property
    def fourth(self) -> FourthMoments:
        """Those of the features."""
        return self.moments or FourthMoments(self.features)

    @cached_property
    def thinning(self) -> float:
        """The factor f: 1/b, or c_b."""
        return self.factor.of(float(self.batch_size))

    @property
    def data_hessian(self) -> Matrix:
        """A^ = X'X / n."""
        return self.fourth.gram

    @cached_property
    def additive(self) -> Matrix:
        """C at Sigma = 0."""
        drawn = spread(self.features * self.residuals[:, None])
        return self.thinning * drawn + self.label_noise**2 / self.batch_size * self.data_hessian

    @property
    def carrier(self) -> Matrix:
        """A^, or 0 when every batch is the whole data set."""
        return self.data_hessian * float(self.thinning > 0 or self.label_noise > 0)

    def linear(self, sigma: np.ndarray) -> np.ndarray:
        """The factor f times X' diag(x_i' Sigma x_i) X / n - A^ Sigma A^."""
        if self.thinning == 0:
            return np.zeros_like(sigma)
        return self.thinning * (self.fourth.of(sigma) - self.data_hessian @ sigma @ self.data_hessian)

    def restrict(self, basis: Matrix) -> SubsetNoise:
        """X V."""
        inside = self.fourth.restrict(basis)
        return dataclasses.replace(self, features=inside.features, moments=inside)

    def cumulants(self, sigma: Matrix) -> Cumulants:
        """Of batches of a finite data set, exactly, at the mean itself.

        Without replacement fresh label noise counts as independent of which rows are drawn, to leading order.
        """
        return self._cumulants

    @cached_property
    def _cumulants(self) -> Cumulants:
        n, gram = len(self.features), self.data_hessian
        values, weights = np.zeros(1), np.ones(1)
        if self.label_noise and self.factor.n_examples is None:
            values, weights = self.label_noise * np.array([1.0, -1.0]), np.ones(2) / 2
            if self.label_law == "gaussian":  # Gauss-Hermite: three values have its first five moments
                values, weights = np.sqrt(3) * np.append(values, 0), np.array([1.0, 1.0, 4.0]) / 6
        higher = self.factor.cumulants(self.batch_size)
        centre, d = self.features.T @ self.residuals / n, self.features.shape[1]
        slope, third, covariance = (np.zeros((d, d)) for _ in range(3))
        curvature, third_slope, fourth = (np.zeros((d, d, d)) for _ in range(3))
        rows = [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]
        for (value, weight), part in itertools.product(zip(values, weights / n, strict=True), rows):
            x = self.features[part]
            a = x * (self.residuals[part] + value)[:, None] - centre
            covariance += weight * a.T @ a
            for i in range(d):
                change = x[:, i, None] * x - gram[i]  # d a_i / d w
                square = a[:, i, None] ** 2
                slope[i] += 2 * self.thinning * weight * a[:, i] @ change
                curvature[i] += self.thinning * weight * change.T @ change
                third[i] += higher.third * weight * a[:, i] ** 2 @ a
                bend = 2 * (a * a[:, i, None]).T @ change + (x * square).T @ x - square.sum() * gram
                third_slope[i] += higher.third * weight * bend
                fourth[i] += higher.fourth * weight * (a * square).T @ a
        own = np.diag(covariance)[:, None, None]
        fourth += higher.pairs * (own * covariance + 2 * covariance[:, :, None] * covariance[:, None, :])
        return Cumulants(slope, curvature, third, third_slope, fourth)
