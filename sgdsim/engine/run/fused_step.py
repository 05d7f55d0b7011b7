r"""One step of a chain that is kept in registers: what the programs for GPUs and TPUs repeat many times in a launch.

A chain's numbers are rows: one array for each parameter, which holds the chains side by side. Random words come from
the same Threefry as everywhere under a key of their own,

$$(\text{word}_1, \text{word}_2) = \mathrm{Threefry}_{key}(t, \, P \cdot \text{chain} + i), \qquad i < P,$$

so chains have the law of the step-by-step loop, not its bits, and do not depend on how a program groups them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sgdsim.kernels import Kernel, pallas_law
from sgdsim.kernels.draws import random
from sgdsim.optimizers import Optimizer

# Pairs of words of a chain and step; fewer are used, and unused ones cost nothing.
PAIRS = 2**10

Ref = Any  # to the memory of the device: JAX has no public type of what a program is handed
Step = Callable[[jax.Array, list[PyTree]], list[PyTree]]


def make_step(
    kernel: Kernel,
    optimizer: Optimizer,
    key: tuple[jax.Array, jax.Array],
    chain: jax.Array,
    layout: jax.tree_util.PyTreeDef,
    diverged: float,
) -> Step:
    """A step of the chains numbered `chain`, for `fori_loop`.

    Args:
        kernel: a kernel that `pallas_law` knows, its numbers as `pallas_laws` reads them.
        optimizer: an elementwise optimizer.
        key: the two words of a key that no other draw may use.
        chain: numbers of the chains within their block, int32, in any shape.
        layout: of (parameters, the optimizer's state, alive) as what the loop carries: a leaf is a list of D rows, a
            row, or a number for all chains.
        diverged: a chain dies once a parameter is beyond it, or not a number.
    """
    law, update = pallas_law(kernel), optimizer.as_optax().update
    assert law is not None, "see `plan.launch`"
    counter = chain.astype(np.uint32) * np.uint32(PAIRS)

    def step(t: jax.Array, carry: list[PyTree]) -> list[PyTree]:
        w, state, alive = jax.tree.unflatten(layout, carry)
        gradient = law(kernel, lambda i: random.threefry(key, (t.astype(np.uint32), counter + np.uint32(i))), w)
        moves = [update(g, _row(state, i), x) for i, (g, x) in enumerate(zip(gradient, w, strict=True))]
        w = [x + change for x, (change, _) in zip(w, moves, strict=True)]
        bounded = functools.reduce(jnp.logical_and, [jnp.abs(x) <= diverged for x in w])  # NaN is not
        return [w, *_rows_joined(state, [new for _, new in moves]), jnp.where(bounded, alive, 0)]

    return step


def in_registers(ref: Ref, leaf: jax.Array) -> PyTree:
    """A number, or the numbers of a vector; a matrix is read where it is used."""
    if leaf.ndim == 0:
        return ref[0]
    return tuple(ref[i] for i in range(leaf.size)) if leaf.ndim == 1 else ref


def _row(state: PyTree, i: int) -> PyTree:
    """The optimizer's state of parameter i."""
    return jax.tree.map(lambda leaf: leaf[i] if isinstance(leaf, list) else leaf, state, is_leaf=_is_rows)


def _rows_joined(old: PyTree, states: list[PyTree]) -> list[PyTree]:
    """The leaves of the states of all parameters, lists of rows again; what all share is taken from the first."""
    leaves = zip(*(jax.tree.leaves(state) for state in states), strict=True)
    return [list(rows) if _is_rows(leaf) else rows[0]
            for leaf, rows in zip(jax.tree.leaves(old, is_leaf=_is_rows), leaves, strict=True)]


def _is_rows(leaf: object) -> bool:
    return isinstance(leaf, list)
