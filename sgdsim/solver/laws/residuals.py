"""Losses 1/2 (f_i - delta)^2 under fresh label noise, f_i any function of the weights."""

from __future__ import annotations

import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.problems.parts.residuals import Residuals
from sgdsim.solver.laws.law import DataLaw
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.noise.subset import spread


class ResidualLosses(DataLaw[Residuals]):
    """n residuals f_i with derivatives J."""

    @property
    def noise_floor(self) -> float:
        """sigma^2 / 2."""
        return float(self.problem.label_noise) ** 2 / 2

    def slopes(self, w: Vector) -> Matrix:
        """J."""
        return np.asarray(self.problem.jacobian(w))

    def noise_covariance(self, w: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """The factor f times that of the f_i grad f_i, and sigma^2 J'J / (n b) from the labels."""
        f, jacobian = self.problem.residuals(w), self.problem.jacobian(w)
        labels = float(self.problem.label_noise) ** 2 * jacobian.T @ jacobian / len(f)
        return np.asarray(factor.of(float(batch_size)) * spread(f[:, None] * jacobian) + labels / batch_size)
