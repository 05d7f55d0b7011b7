"""Gradient of a quadratic bowl with additive Gaussian noise."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from sgdsim._types import apply, spec
from sgdsim.kernels.base import normals, square_root
from sgdsim.problems import Quadratic


@spec
class QuadraticKernel:
    r"""$$g = H(w-m) + \tfrac1{\sqrt b} F z, \quad F F^\top = C, \quad z \sim N(0, I_D).$$"""

    problem: Any
    factor: Any

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """One gradient per chain."""
        z = normals(key, params.shape, params.dtype)
        return self.problem.gradient(params) + apply(self.factor, z), state


def quadratic_kernel(problem: Quadratic, batch_size: int) -> QuadraticKernel:
    """The kernel of a `Quadratic` at one batch size."""
    return QuadraticKernel(problem, square_root(problem.noise_covariance) / np.sqrt(batch_size))
