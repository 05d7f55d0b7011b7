"""Bytes of arrays and of what a traced program has alive at once; nothing is allocated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import PyTree


def size(tree: PyTree) -> int:
    """Bytes of all arrays of a pytree, concrete or not."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _bytes(leaf: PyTree) -> int:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return 8 * math.prod(leaf.shape)
    return np.dtype(leaf.dtype).itemsize * math.prod(leaf.shape)


def temporaries(jaxpr: core.Jaxpr) -> int:
    """Bytes that one block needs on the way: those of the body of the loop over blocks."""
    for equation in jaxpr.eqns:
        inner = list(_inside(equation))
        if equation.primitive.name == "scan":
            return max(peak_live(body) for body in inner)
        found = max((temporaries(body) for body in inner), default=0)
        if found:
            return found
    return 0


def peak_live(jaxpr: core.Jaxpr) -> int:
    """Most bytes alive at once if every operation wrote its result to memory; fusion only lowers it."""
    last = {v: i for i, equation in enumerate(jaxpr.eqns) for v in equation.invars if isinstance(v, core.Var)}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if isinstance(v, core.Var)}
    alive = peak = 0
    made: dict[core.Var, int] = {}
    for i, equation in enumerate(jaxpr.eqns):
        for v in equation.outvars:
            made[v] = _bytes(v.aval)
            alive += made[v]
        peak = max(peak, alive + max((peak_live(body) for body in _inside(equation)), default=0))
        over = [v for v in (*equation.invars, *equation.outvars) if isinstance(v, core.Var) and last.get(v, i) <= i]
        alive -= sum(made.pop(v, 0) for v in over)
    return peak


def _inside(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in itertools.chain.from_iterable(
        x if isinstance(x, tuple | list) else (x,) for x in equation.params.values()
    ):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value
