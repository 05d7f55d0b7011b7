"""Gradient noise that is the same everywhere."""

from __future__ import annotations

import dataclasses

import numpy as np

from sgdsim._types import Matrix
from sgdsim.solver.noise.cumulants import Cumulants


@dataclasses.dataclass(frozen=True, eq=False)
class AdditiveNoise:
    """Gaussian noise of a fixed covariance C0."""

    additive: Matrix

    @property
    def carrier(self) -> Matrix:
        """C0."""
        return self.additive

    def linear(self, sigma: np.ndarray) -> np.ndarray:
        """0."""
        return np.zeros_like(sigma)

    def restrict(self, basis: Matrix) -> AdditiveNoise:
        """V' C0 V."""
        return AdditiveNoise(basis.T @ self.additive @ basis)

    def cumulants(self, sigma: Matrix) -> Cumulants:
        """0."""
        flat, cube = np.zeros_like(sigma), np.zeros((len(sigma), *sigma.shape))
        return Cumulants(flat, cube, flat, cube, cube)
