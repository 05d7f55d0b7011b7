"""Kernels of several batch sizes in one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sgdsim._specs import spec
from sgdsim._types import AnyArray
from sgdsim.kernels.base import Kernel


@spec
class KernelTable:
    """Kernels of several batch sizes in one program; kernels of one shape share one branch.

    `branches[k]` is a kernel whose leaves are stacked; entry i of the table is row `row[i]` of branch `branch[i]`.
    """

    branches: tuple[Any, ...]
    branch: AnyArray
    row: AnyArray

    def entry(self, index: Any) -> TableEntry:
        """Kernel number `index` (may be traced)."""
        row = self.row[index]
        kernels = tuple(jax.tree.map(lambda leaf: leaf[row], branch) for branch in self.branches)
        return TableEntry(kernels, self.branch[index])


@spec
class TableEntry:
    """One kernel of a `KernelTable`: candidates of every shape, and which of them it is."""

    kernels: tuple[Any, ...]
    branch: AnyArray

    def init(self, key: jax.Array, chains: int) -> PyTree:
        """The sampler state of this kernel, and idle ones for the other candidates."""
        return tuple(kernel.init(key, chains) for kernel in self.kernels)

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """Draw from this kernel alone."""

        def use(k: int) -> Any:
            def branch(key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, Any]:
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
