"""Many steps in one launch on a GPU: every thread keeps a chain in its registers.

A loop of XLA operations moves all parameters through memory several times a step, and a step of few chains costs what
its launches cost. Here one Pallas program reads each chain once, takes all steps, and writes it back; see `fused_step`
for the step itself.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import PyTree

from sgdsim.engine.run.fused_step import Ref, in_registers, make_step
from sgdsim.kernels import Kernel
from sgdsim.optimizers import Optimizer

# Of one program; each keeps one chain.
THREADS = 128
_WARPS = THREADS // 32


@functools.partial(jax.jit, static_argnames=("diverged", "interpret"))
def pallas_steps(
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
    """Steps `first` to before `last` of every chain.

    Args:
        kernel: a kernel that `pallas_law` knows.
        optimizer: an elementwise optimizer.
        key: of the block; no other draw may use it.
        first: step, traced.
        last: the step after the last, traced.
        params: (D, chains), float32.
        state: of the optimizer; leaves (D, chains), or one number for all chains.
        alive: (chains,), bool; a chain dies once a parameter is beyond `diverged`, or not a number.
        diverged: a bound below the largest float32.
        interpret: emulate the program, on any machine: for tests.

    Returns:
        The new params, state and alive.
    """
    tables, tables_layout = jax.tree.flatten((kernel, optimizer))
    carried, carried_layout = jax.tree.flatten((params, state, alive.astype(np.int32)))
    span = jnp.stack([jnp.asarray(first, np.int32), jnp.asarray(last, np.int32)])
    constants = [jax.random.key_data(key), span, *(jnp.atleast_1d(leaf) for leaf in tables)]
    chains, number = params.shape[1], len(carried)

    def program(key_ref: Ref, span_ref: Ref, *refs: Ref) -> None:
        table_refs, read, write = refs[: len(tables)], refs[len(tables) : -number], refs[-number:]
        kernel, optimizer = jax.tree.unflatten(tables_layout, map(in_registers, table_refs, tables))
        chain = pl.program_id(0) * THREADS + jax.lax.iota(np.int32, THREADS)
        here = chain < chains
        step = make_step(kernel, optimizer, (key_ref[0], key_ref[1]), chain, carried_layout, diverged)
        begun = [_load(ref, leaf, here) for ref, leaf in zip(read, carried, strict=True)]
        ended = jax.lax.fori_loop(span_ref[0], span_ref[1], step, begun)
        for ref, leaf, value in zip(write, carried, ended, strict=True):
            _store(ref, leaf, here, value)

    ended = pl.pallas_call(
        program,
        grid=(-(-chains // THREADS),),
        in_specs=[*map(_whole, constants), *map(_block, carried)],
        out_specs=[_block(leaf) for leaf in carried],
        out_shape=[jax.ShapeDtypeStruct(leaf.shape or (1,), leaf.dtype) for leaf in carried],
        compiler_params=triton.CompilerParams(num_warps=_WARPS),
        interpret=interpret,
        name="pallas_steps",
    )(*constants, *map(jnp.atleast_1d, carried))
    shaped = [new.reshape(old.shape) for new, old in zip(ended, carried, strict=True)]
    params, state, living = jax.tree.unflatten(carried_layout, shaped)
    return params, state, living > 0


def _whole(leaf: jax.Array) -> pl.BlockSpec:
    """All of a constant, for every program."""
    return pl.BlockSpec(leaf.shape, lambda i: (0,) * leaf.ndim)


def _block(leaf: jax.Array) -> pl.BlockSpec:
    """The part of a program: its chains, which are the last axis; or the number that all chains share."""
    if leaf.ndim == 0:
        return pl.BlockSpec((1,), lambda i: (0,))
    return pl.BlockSpec((*leaf.shape[:-1], THREADS), lambda i: (0, i)[2 - leaf.ndim :])


def _load(ref: Ref, leaf: jax.Array, here: jax.Array) -> PyTree:
    """A row for each parameter, one row, or a number."""
    if leaf.ndim == 2:
        return [triton.load(ref.at[np.int32(i), :], mask=here, other=0) for i in range(leaf.shape[0])]
    return triton.load(ref, mask=here, other=0) if leaf.ndim else ref[0]


def _store(ref: Ref, leaf: jax.Array, here: jax.Array, value: PyTree) -> None:
    if leaf.ndim == 2:
        for i, row in enumerate(value):
            triton.store(ref.at[np.int32(i), :], row, mask=here)
    elif leaf.ndim:
        triton.store(ref, value, mask=here)
    else:
        ref[0] = value  # the same from every program
