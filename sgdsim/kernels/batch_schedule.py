"""Batch sizes that change from step to step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from sgdsim._specs import spec
from sgdsim._types import AnyArray
from sgdsim.kernels.base import Kernel
from sgdsim.kernels.choose import make_kernel
from sgdsim.kernels.join import KernelTable, kernel_table
from sgdsim.problems import Problem


@spec
class BatchSchedule:
    """The kernel of a run whose batch size is a schedule: step t draws from entry `index[t]` of the table."""

    table: KernelTable
    index: AnyArray

    def init(self, key: jax.Array, chains: int) -> PyTree:
        """The step, and what the kernels remember."""
        return jnp.zeros((), jnp.int32), self.table.entry(0).init(key, chains)

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """Draw from the kernel of this step."""
        step, sampler = state
        gradient, sampler = self.table.entry(self.index[step]).draw(key, params, sampler)
        return gradient, (step + 1, sampler)


def scheduled_kernel(problem: Problem, sizes: np.ndarray, sampling: str, dtype: DTypeLike) -> Kernel:
    """The kernel for the batch sizes of all steps, shape (steps,); one size alone needs no schedule."""
    different, index = np.unique(sizes, return_inverse=True)
    kernels = [make_kernel(problem, int(size), sampling, dtype) for size in different]
    return kernels[0] if len(kernels) == 1 else BatchSchedule(kernel_table(kernels), index.astype(np.int32))
