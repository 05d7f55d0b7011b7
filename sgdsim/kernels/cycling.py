"""Minibatch gradients of the cycling toy: how often each of its thirteen examples was drawn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sgdsim._specs import spec
from sgdsim._types import AnyArray
from sgdsim.kernels.base import Kernel
from sgdsim.kernels.dataset import rows_kernel
from sgdsim.problems import CyclingToy


@spec
class CyclingExamples:
    """The examples of a `CyclingToy` for the samplers of finite data sets."""

    problem: Any
    targets: AnyArray  # all 0: there for their number

    def residual_sum(
        self, key: jax.Array, params: jax.Array, index: jax.Array, weight: jax.Array | None = None
    ) -> jax.Array:
        """Sum of f_i grad f_i over the rows in `index`, weighted by `weight`, both (rows, chains)."""
        share = jnp.ones_like(index, params.dtype) if weight is None else weight
        here = index[None] == jnp.arange(len(self.targets), dtype=index.dtype)[:, None, None]
        counts = jnp.where(here, share, 0).sum(axis=1)
        return self.problem.vjp(params, counts * self.problem.residuals(params))

    def decay(self, params: jax.Array) -> float:
        """No weight decay."""
        return 0.0


def cycling_kernel(problem: CyclingToy, batch_size: int, sampling: str, dtype: DTypeLike) -> Kernel:
    """The kernel of a `CyclingToy` for one sampling mode."""
    examples: Any = CyclingExamples(problem, np.zeros(problem.n_examples))
    return rows_kernel(examples, batch_size, sampling)
