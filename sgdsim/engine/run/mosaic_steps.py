"""Many steps in one launch on a GPU by Mosaic, the backend of Pallas that JAX keeps: see `pallas_steps`.

Mosaic is for GPUs of compute capability 9.0 and newer. It has no square roots and no powers: they are made of what it
has. Its steps are faster than Triton's on an H200, its compiler up to five times slower: `bench/gpu.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as mosaic
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, primitives
from jaxtyping import PyTree

from sgdsim.engine.run.fused_step import Ref, in_registers, make_step
from sgdsim.kernels import Kernel
from sgdsim.optimizers import Optimizer

# Of one program, a warpgroup; each keeps one chain.
THREADS = 128


@functools.partial(jax.jit, static_argnames=("diverged", "interpret"))
def mosaic_steps(
    kernel: Kernel,
    optimizer: Optimizer,
    key: jax.Array,
    first: jax.Array,
    last: jax.Array,
    params: jax.Array,
    state: optax.OptState,
    alive: jax.Array,
    *,
    diverged: float,
    interpret: bool = False,
) -> tuple[jax.Array, optax.OptState, jax.Array]:
    """Steps `first` to before `last` of every chain; arguments and result are those of `pallas_steps`."""
    tables, tables_layout = jax.tree.flatten((kernel, optimizer))
    carried, carried_layout = jax.tree.flatten((params, state, alive.astype(np.int32)))
    span = jnp.stack([jnp.asarray(first, np.int32), jnp.asarray(last, np.int32)])
    constants = [jax.random.key_data(key), span, *(jnp.atleast_1d(leaf) for leaf in tables)]
    chains, number = params.shape[1], len(carried)
    padding = -chains % THREADS
    chain = jnp.arange(chains + padding, dtype=np.int32)
    filled = [_filled(leaf, padding) for leaf in carried]

    def program(begin: jax.Array, chain_ref: Ref, key_ref: Ref, span_ref: Ref, *refs: Ref) -> None:
        table_refs, read, write = refs[: len(tables)], refs[len(tables) : -number], refs[-number:]
        kernel, optimizer = jax.tree.unflatten(tables_layout, map(in_registers, table_refs, tables))
        here = pl.ds(begin, THREADS)
        step = make_step(kernel, optimizer, (key_ref[0], key_ref[1]), chain_ref[here], carried_layout, diverged)
        begun = [_load(ref, leaf, here) for ref, leaf in zip(read, carried, strict=True)]
        ended = jax.lax.fori_loop(span_ref[0], span_ref[1], in_terms_of_mosaic(step), begun)
        for ref, leaf, value in zip(write, carried, ended, strict=True):
            _store(ref, leaf, here, value)

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in filled]
    grid = ((chains + padding) // THREADS,)
    if interpret:
        run = pl.pallas_call(lambda *refs: program(pl.program_id(0) * THREADS, *refs), out_shape=shapes, grid=grid,
                             interpret=True)  # fmt: skip
    else:
        run = mosaic.kernel(lambda *refs: program(jax.lax.axis_index("programs") * THREADS, *refs), out_type=shapes,
                            grid=grid, grid_names=("programs",), kernel_name="mosaic_steps")  # fmt: skip
    ended = run(chain, *constants, *filled)
    shaped = [new[..., :chains] if old.ndim else new[0] for new, old in zip(ended, carried, strict=True)]
    params, state, living = jax.tree.unflatten(carried_layout, shaped)
    return params, state, living > 0


def in_terms_of_mosaic(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`function` with roots and powers made of reciprocal roots, logarithms and exponentials."""

    def rewritten(*args: PyTree) -> PyTree:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        found = _evaluate(closed, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return rewritten


def _evaluate(closed: ClosedJaxpr, args: list[jax.Array]) -> list[jax.Array]:
    jaxpr: Jaxpr = closed.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))
    for line in jaxpr.eqns:
        given = [x.val if isinstance(x, Literal) else known[x] for x in line.invars]
        inner = line.params.get("jaxpr") or line.params.get("call_jaxpr")
        if line.primitive in _MADE:
            found = [_MADE[line.primitive](*given)]
        elif isinstance(inner, ClosedJaxpr) and line.primitive in (primitives.jit_p, primitives.custom_jvp_call_p):
            found = _evaluate(inner, given)
        else:
            out = line.primitive.bind(*given, **line.params)
            found = out if line.primitive.multiple_results else [out]
        known.update(zip(line.outvars, found, strict=True))
    return [x.val if isinstance(x, Literal) else known[x] for x in jaxpr.outvars]


def _root(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x * jax.lax.rsqrt(x), 0)


def _power(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.exp(jnp.log(x) * jnp.asarray(y, x.dtype))


_MADE: dict[Any, Callable[..., jax.Array]] = {primitives.sqrt_p: _root, primitives.pow_p: _power}


def _filled(leaf: jax.Array, padding: int) -> jax.Array:
    """Chains for whole programs."""
    return jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, padding)]) if leaf.ndim else leaf[None]


def _load(ref: Ref, leaf: jax.Array, here: slice | pl.Slice) -> PyTree:
    """A row for each parameter, one row, or a number."""
    if leaf.ndim == 2:
        return [ref[i, here] for i in range(leaf.shape[0])]
    return ref[here] if leaf.ndim else ref[0]


def _store(ref: Ref, leaf: jax.Array, here: slice | pl.Slice, value: PyTree) -> None:
    if leaf.ndim == 2:
        for i, row in enumerate(value):
            ref[i, here] = row
    elif leaf.ndim:
        ref[here] = value
    else:
        ref[0] = value  # the same from every program
