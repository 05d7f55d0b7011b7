"""Gradient of a quadratic bowl with additive Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from sgdsim._specs import spec
from sgdsim._types import Matrix, apply, as_matrix
from sgdsim.kernels import pallas_laws
from sgdsim.kernels.base import Kernel, normal_rows, square_root
from sgdsim.kernels.conditional_variance import GradientMoments
from sgdsim.kernels.pallas_laws import Law, Pairs, Row, times
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
        z = normal_rows(key, params.shape[0], params)
        return self.problem.gradient(params) + apply(self.factor, z), state


@spec
class QuadraticMoments:
    """tr C of one example, wherever the weights are."""

    trace: Any

    def evaluate(self, problem: Quadratic, params: jax.Array) -> GradientMoments:
        """The moments of every chain."""
        constant = jnp.full((1, params.shape[1]), self.trace, params.dtype)
        return GradientMoments(problem.loss(params), problem.gradient(params), constant, jnp.zeros_like(constant))


def quadratic_kernel(problem: Quadratic, batch_size: int, sampling: str, dtype: DTypeLike) -> QuadraticKernel:
    """The kernel of a `Quadratic` at one batch size."""
    return QuadraticKernel(problem, square_root(problem.example_noise_covariance) / np.sqrt(batch_size))


def quadratic_noise(problem: Quadratic, batch_size: int, sampling: str) -> Matrix:
    """C / b, wherever the weights are, shape (D, D)."""
    return as_matrix(problem.example_noise_covariance, problem.dimension) / batch_size


def quadratic_law(kernel: Kernel) -> Law | None:
    """The law for one chain."""
    return _law if isinstance(kernel, QuadraticKernel) else None


def _law(kernel: QuadraticKernel, pairs: Pairs, w: Sequence[Row]) -> list[Row]:
    """H (w - m) + F z."""
    away = [wi - mi for wi, mi in zip(w, kernel.problem.minimum, strict=True)]
    noise = times(kernel.factor, pallas_laws.normals(pairs, len(w)))
    return [g + e for g, e in zip(times(kernel.problem.hessian_operator, away), noise, strict=True)]


def quadratic_moments(problem: Quadratic) -> QuadraticMoments:
    """The moments of a `Quadratic`."""
    c = problem.example_noise_covariance
    return QuadraticMoments(np.asarray(c.sum() if c.ndim == 1 else np.trace(c)))
