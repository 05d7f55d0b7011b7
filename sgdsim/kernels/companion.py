"""Two chains on the same random numbers: the one that learns, and a linear one whose covariance is known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import apply, as_matrix, spec
from sgdsim.kernels.base import Kernel
from sgdsim.kernels.conditional_variance import noise_factor
from sgdsim.problems import DatasetRegression, LinearRegression, Problem, Quadratic


@spec
class CompanionKernel:
    r"""The gradient of (w, v): what the kernel draws at w, and the linearised one with the noise at the minimum,

    $$g_v = H v + g(w^*),$$

    where g(w*) is drawn with the key of g(w).
    """

    kernel: Kernel
    minimum: Any
    hessian: Any

    def init(self, key: jax.Array, chains: int) -> Any:
        """What the kernel remembers."""
        return self.kernel.init(key, chains)

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Both gradients, (2D, chains)."""
        w, v = jnp.split(params, 2)
        gradient, new = self.kernel.draw(key, w, state)
        at_minimum = jnp.broadcast_to(jnp.asarray(self.minimum)[:, None], w.shape)
        noise, _ = self.kernel.draw(key, at_minimum, state)
        return jnp.concatenate([gradient, apply(self.hessian, v) + noise]), new


def noise_at_minimum(problem: Problem, batch_size: int, sampling: str) -> np.ndarray:
    r"""Covariance of the minibatch-mean gradient at the minimum, shape (D, D).

    Raises:
        ValueError: the problem has none that is known, or batches depend on each other.
    """
    if sampling == "epochs":
        raise _checks.error("control_variate", True, "False with sampling='epochs'",
                            "batches of a pass depend on each other: use 'without_replacement'")
    if isinstance(problem, Quadratic):
        return as_matrix(problem.noise_covariance, problem.dimension) / batch_size
    if isinstance(problem, LinearRegression):
        k = as_matrix(problem.second_moment, problem.dimension)
        d = problem.minimum - problem.effective_teacher
        c = k @ d
        return ((d @ c + problem.residual_variance) * k + np.outer(c, c)) / batch_size
    if isinstance(problem, DatasetRegression):
        x = problem.features
        gradients = x * (x @ problem.minimum - problem.targets)[:, None]
        spread = np.cov(gradients.T, bias=True).reshape(problem.dimension, -1)
        factor = noise_factor(batch_size, problem.n_examples, sampling)
        return factor * spread + problem.label_noise**2 / batch_size * x.T @ x / len(x)
    raise _checks.error("control_variate", True, f"False for {type(problem).__name__}",
                        "it needs a known minimum: Quadratic, LinearRegression or DatasetRegression")
