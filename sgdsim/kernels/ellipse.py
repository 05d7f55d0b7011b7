"""Minibatch gradients of the noisy ellipse: a batch is the mean of its label noise."""

from __future__ import annotations

from typing import Any

import jax
from jax.typing import DTypeLike
from jaxtyping import PyTree

from sgdsim._specs import spec
from sgdsim.kernels.label_noise import DirectMean, FreshNoise, MeanNoise, mean_noise
from sgdsim.problems import Ellipse


@spec
class EllipseKernel:
    r"""$$g = (f - \bar\delta) \nabla f, \qquad \bar\delta = \tfrac1b \sum_{i \le b} \delta_i .$$"""

    problem: Any
    noise: MeanNoise

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain."""
        delta = self.noise.draw(key, params.shape[1], params.dtype)
        return self.problem.vjp(params, self.problem.residuals(params) - delta), state


def ellipse_kernel(problem: Ellipse, batch_size: int, sampling: str, dtype: DTypeLike) -> EllipseKernel:
    """The kernel of an `Ellipse` at one batch size."""
    return EllipseKernel(problem, mean_noise(problem.label_noise, problem.noise, batch_size))


def direct_kernel(problem: Ellipse, batch_size: int) -> EllipseKernel:
    """The kernel that draws every delta of the batch."""
    return EllipseKernel(problem, DirectMean(FreshNoise(problem.label_noise, problem.noise), batch_size))
