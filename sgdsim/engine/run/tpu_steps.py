"""Many steps in one launch on a TPU: a chain's parameters are vector registers of 8 x 128 chains.

XLA keeps a block as (D, chains) with parameters on sublanes: inner products are reductions across them, and what there
is one of for each chain fills an eighth of a register. Here every parameter has registers of its own and no number
moves between lanes; see `fused_step` for the step itself.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import PyTree

from sgdsim.engine.run.fused_step import Ref, in_registers, make_step
from sgdsim.kernels import Kernel
from sgdsim.optimizers import Optimizer

LANES = 128
SUBLANES = 8
# Registers that the chains of a program fill with parameters, at most; there are 64. One chain alone waits for itself.
_REGISTERS = 16
_MOST = 8


@functools.partial(jax.jit, static_argnames=("diverged", "interpret"))
def tpu_steps(
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
    dimension, chains = params.shape
    tables, tables_layout = jax.tree.flatten((kernel, optimizer))
    carried, carried_layout = jax.tree.flatten((params, state, alive.astype(np.int32)))
    span = jnp.stack([jnp.asarray(first, np.int32), jnp.asarray(last, np.int32)])
    numbers = [jax.random.key_data(key), span, *(jnp.atleast_1d(leaf) for leaf in tables)]
    count, high = len(carried), SUBLANES * vectors(dimension)

    def program(key_ref: Ref, span_ref: Ref, *refs: Ref) -> None:
        table_refs, read, write = refs[: len(tables)], refs[len(tables) : -count], refs[-count:]
        kernel, optimizer = jax.tree.unflatten(tables_layout, map(in_registers, table_refs, tables))
        row = pl.program_id(0) * high + jax.lax.broadcasted_iota(np.int32, (high, LANES), 0)
        chain = row * LANES + jax.lax.broadcasted_iota(np.int32, (high, LANES), 1)
        step = make_step(kernel, optimizer, (key_ref[0], key_ref[1]), chain, carried_layout, diverged)
        begun = [_load(ref, leaf, chain.shape) for ref, leaf in zip(read, carried, strict=True)]
        ended = jax.lax.fori_loop(span_ref[0], span_ref[1], step, begun)
        for ref, leaf, value in zip(write, carried, ended, strict=True):
            _store(ref, leaf, value)

    ended = pl.pallas_call(
        program,
        grid=(-(-chains // (high * LANES)),),
        in_specs=[*(pl.BlockSpec(memory_space=pltpu.SMEM) for _ in numbers), *(_block(leaf, high) for leaf in carried)],
        out_specs=[_block(leaf, high) for leaf in carried],
        out_shape=[jax.ShapeDtypeStruct(_shape(leaf), leaf.dtype) for leaf in carried],
        interpret=interpret,
        name="tpu_steps",
    )(*numbers, *map(_in_rows, carried))
    shaped = [new.reshape(*old.shape[:-1], -1)[..., :chains] if old.ndim else new[0]
              for new, old in zip(ended, carried, strict=True)]
    params, state, living = jax.tree.unflatten(carried_layout, shaped)
    return params, state, living > 0


def vectors(dimension: int) -> int:
    """Registers of chains that a program takes at once for each parameter."""
    return max(1, min(_MOST, _REGISTERS // dimension))


def _shape(leaf: jax.Array) -> tuple[int, ...]:
    """Chains as rows of 128, the last one filled up."""
    return (*leaf.shape[:-1], -(-leaf.shape[-1] // LANES), LANES) if leaf.ndim else (1,)


def _in_rows(leaf: jax.Array) -> jax.Array:
    if leaf.ndim == 0:
        return leaf[None]
    padding = [(0, 0)] * (leaf.ndim - 1) + [(0, -leaf.shape[-1] % LANES)]
    return jnp.pad(leaf, padding).reshape(_shape(leaf))


def _block(leaf: jax.Array, high: int) -> pl.BlockSpec:
    """The chains of a program; or the number that all chains share."""
    if leaf.ndim == 0:
        return pl.BlockSpec(memory_space=pltpu.SMEM)
    return pl.BlockSpec((*leaf.shape[:-1], high, LANES), lambda i: (0, i, 0)[2 - leaf.ndim :])


def _load(ref: Ref, leaf: jax.Array, shape: tuple[int, ...]) -> PyTree:
    """A row for each parameter, or one row; of a number too, since the scalar core has no powers."""
    if leaf.ndim == 2:
        return [ref[i] for i in range(leaf.shape[0])]
    return ref[...] if leaf.ndim else jnp.full(shape, ref[0])


def _store(ref: Ref, leaf: jax.Array, value: PyTree) -> None:
    if leaf.ndim == 2:
        for i, row in enumerate(value):
            ref[i] = row
    elif leaf.ndim:
        ref[...] = value
    else:
        ref[0] = value.max()  # the same in all
