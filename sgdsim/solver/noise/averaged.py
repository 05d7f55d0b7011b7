"""The covariance of a minibatch gradient averaged over where the weights are: an affine map of their covariance."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sgdsim._types import Matrix
from sgdsim.solver.noise.cumulants import Cumulants


class AveragedNoise(Protocol):
    """C(Sigma) = C0 + C1(Sigma): the gradient noise averaged over deviations of covariance Sigma from the mean."""

    @property
    def additive(self) -> Matrix:
        """C0, the noise at the mean itself, shape (D, D)."""
        ...

    @property
    def carrier(self) -> Matrix:
        """A positive semi-definite matrix whose range holds the noise, shape (D, D)."""
        ...

    def linear(self, sigma: np.ndarray) -> np.ndarray:
        """C1(Sigma), a positive linear map; leading axes of `sigma` (..., D, D) are a stack."""
        ...

    def restrict(self, basis: Matrix) -> AveragedNoise:
        """The same noise in coordinates v = V'w, for a basis V of shape (D, rank)."""
        ...

    def cumulants(self, sigma: Matrix) -> Cumulants:
        """Its third and fourth cumulants at the mean, for weights of covariance `sigma` (D, D) about it."""
        ...
