"""Pick the kernel of a problem, a batch size and a sampling mode; join kernels for a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import spec
from sgdsim.kernels.base import Kernel
from sgdsim.kernels.cycling import cycling_kernel
from sgdsim.kernels.dataset import dataset_kernel
from sgdsim.kernels.ellipse import ellipse_kernel
from sgdsim.kernels.gaussian import gaussian_kernel
from sgdsim.kernels.linear_network import linear_network_kernel
from sgdsim.kernels.network import network_kernel
from sgdsim.kernels.quadratic import quadratic_kernel
from sgdsim.kernels.reparametrized import diagonal_kernel, matrix_kernel
from sgdsim.problems import (
    CyclingToy,
    DatasetRegression,
    DeepLinear,
    DiagonalNetwork,
    Ellipse,
    FlaxNetwork,
    FromLoss,
    LinearRegression,
    MatrixFactorization,
    Problem,
    Quadratic,
    TwoLayerLinear,
)

# problem type -> (problem, batch_size, sampling, dtype) -> kernel
_MAKERS: dict[type, Callable[[Any, int, str, Any], Kernel]] = {
    Quadratic: lambda problem, size, sampling, dtype: quadratic_kernel(problem, size),
    LinearRegression: lambda problem, size, sampling, dtype: gaussian_kernel(problem, size, dtype),
    DatasetRegression: dataset_kernel,
    FlaxNetwork: network_kernel,
    FromLoss: network_kernel,
    TwoLayerLinear: linear_network_kernel,
    DeepLinear: linear_network_kernel,
    Ellipse: ellipse_kernel,
    CyclingToy: cycling_kernel,
    DiagonalNetwork: diagonal_kernel,
    MatrixFactorization: matrix_kernel,
}


def make_kernel(problem: Problem, batch_size: int, sampling: str, dtype: Any) -> Kernel:
    """The fastest kernel that has exactly the law of the minibatch-mean gradient; a problem may bring its own."""
    own = getattr(problem, "make_kernel", None)
    if own is not None:
        return own(batch_size, sampling, dtype)
    for kind, make in _MAKERS.items():
        if isinstance(problem, kind):
            return make(problem, batch_size, sampling, dtype)
    names = ", ".join(kind.__name__ for kind in _MAKERS)
    raise _checks.error("problem", type(problem).__name__, f"one of {names}",
                        "or give it a method make_kernel(batch_size, sampling, dtype)")


@spec
class KernelTable:
    """Kernels of several batch sizes in one program; kernels of one shape share one branch.

    `branches[k]` is a kernel whose leaves are stacked; entry i of the table is row `row[i]` of branch `branch[i]`.
    """

    branches: tuple[Any, ...]
    branch: Any
    row: Any

    def entry(self, index: Any) -> TableEntry:
        """Kernel number `index` (may be traced)."""
        row = self.row[index]
        kernels = tuple(jax.tree.map(lambda leaf: leaf[row], branch) for branch in self.branches)
        return TableEntry(kernels, self.branch[index])


@spec
class TableEntry:
    """One kernel of a `KernelTable`: candidates of every shape, and which of them it is."""

    kernels: tuple[Any, ...]
    branch: Any

    def init(self, key: jax.Array, chains: int) -> Any:
        """The sampler state of this kernel, and idle ones for the other candidates."""
        return tuple(kernel.init(key, chains) for kernel in self.kernels)

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Draw from this kernel alone."""

        def use(k: int) -> Any:
            def branch(key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
                gradient, new = self.kernels[k].draw(key, params, state[k])
                return gradient, (*state[:k], new, *state[k + 1 :])

            return branch

        if len(self.kernels) == 1:
            return use(0)(key, params, state)
        return jax.lax.switch(self.branch, [use(k) for k in range(len(self.kernels))], key, params, state)


def kernel_table(kernels: Sequence[Kernel]) -> KernelTable:
    """Join kernels so that one compiled program serves all of them."""
    groups: dict[Any, list[int]] = {}
    for i, kernel in enumerate(kernels):
        leaves, structure = jax.tree.flatten(kernel)
        groups.setdefault((structure, tuple(np.shape(leaf) for leaf in leaves)), []).append(i)
    branch, row = np.zeros(len(kernels), np.int32), np.zeros(len(kernels), np.int32)
    for k, members in enumerate(groups.values()):
        for r, i in enumerate(members):
            branch[i], row[i] = k, r
    stacked = tuple(
        jax.tree.map(lambda *leaves: np.stack(leaves), *(kernels[i] for i in members)) for members in groups.values()
    )
    return KernelTable(stacked, jnp.asarray(branch), jnp.asarray(row))
