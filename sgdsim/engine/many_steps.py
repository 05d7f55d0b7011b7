r"""Many steps in one launch on a GPU: every thread keeps a chain in its registers.

A loop of XLA operations moves all parameters through memory several times a step, and a step of few chains costs what
its launches cost. Here one Pallas program reads each chain once, takes all steps, and writes it back. Random words come
from the same Threefry under a key of their own,

$$(\text{word}_1, \text{word}_2) = \mathrm{Threefry}_{key}(t, \, P \cdot \text{chain} + i), \qquad i < P,$$

so chains have the law of the step-by-step loop, not its bits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from sgdsim.engine.configure import Run
from sgdsim.kernels import KernelTable, random
from sgdsim.kernels.lanes import is_lane_sized, lane_law
from sgdsim.optimizers import SGD, Adam, AdamE, RMSProp

# Chains of one program, one for each thread.
LANES = 128
_WARPS = LANES // 32
# Pairs of words of a chain and step; fewer are used, and unused ones cost nothing.
_PAIRS = 2**10


def many_steps_of(platform: str, kernels: KernelTable, optimizers: Sequence[Any], run: Run) -> Any:
    """`many_steps` where it applies: a GPU, float32, Gaussian problems of few parameters, elementwise optimizers."""
    if platform != "gpu" or run.dtype != np.float32 or len(kernels.branches) > 1 or not optimizers:
        return None
    kernel, dimension = kernels.entry(0).kernels[0], run.initial.shape[-1]
    return many_steps if all(is_fusible(kernel, each, dimension) for each in optimizers) else None


def is_fusible(kernel: Any, optimizer: Any, dimension: int) -> bool:
    """Whether a thread can take steps of this kernel and this optimizer by itself."""
    elementwise = type(optimizer) in (SGD, Adam, AdamE, RMSProp) and all(
        np.ndim(leaf) == 0 for leaf in jax.tree.leaves(optimizer)
    )
    if lane_law(kernel) is None or not elementwise or callable(optimizer.learning_rate):
        return False
    state = jax.eval_shape(optimizer.as_optax().init, jax.ShapeDtypeStruct((dimension,), np.float32))
    wide = 1 + sum(leaf.ndim == 1 for leaf in jax.tree.leaves(state))
    return is_lane_sized(kernel, wide, dimension)


@functools.partial(jax.jit, static_argnames=("diverged", "interpret"))
def many_steps(kernel: Any, optimizer: Any, key: jax.Array, first: Any, last: Any, params: jax.Array, state: Any,
               alive: jax.Array, *, diverged: float, interpret: bool = False) -> tuple[jax.Array, Any, jax.Array]:
    """Steps `first` to before `last` of every chain.

    Args:
        kernel: a kernel that `lane_law` knows.
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

    def program(key_ref: Any, span_ref: Any, *refs: Any) -> None:
        table_refs, read, write = refs[: len(tables)], refs[len(tables) : -number], refs[-number:]
        kernel, optimizer = jax.tree.unflatten(tables_layout, map(_in_registers, table_refs, tables))
        law, update = lane_law(kernel), optimizer.as_optax().update
        assert law is not None, "see `is_fusible`"
        chain = pl.program_id(0) * LANES + jax.lax.iota(np.int32, LANES)
        here = chain < chains
        words, counter = (key_ref[0], key_ref[1]), chain.astype(np.uint32) * np.uint32(_PAIRS)

        def step(t: Any, carry: list[Any]) -> list[Any]:
            w, state, alive = jax.tree.unflatten(carried_layout, carry)
            now = jnp.full(LANES, t, np.int32).astype(np.uint32)
            gradient = law(kernel, lambda i: random.threefry(words, (now, counter + np.uint32(i))), w)
            moves = [update(g, _row(state, i), x) for i, (g, x) in enumerate(zip(gradient, w, strict=True))]
            w = [x + change for x, (change, _) in zip(w, moves, strict=True)]
            bounded = functools.reduce(jnp.logical_and, [jnp.abs(x) <= diverged for x in w])  # NaN is not
            return [w, *_rows_joined([new for _, new in moves]), jnp.where(bounded, alive, 0)]

        begun = [_load(ref, leaf, here) for ref, leaf in zip(read, carried, strict=True)]
        ended = jax.lax.fori_loop(span_ref[0], span_ref[1], step, begun)
        for ref, leaf, value in zip(write, carried, ended, strict=True):
            _store(ref, leaf, here, value)

    ended = pl.pallas_call(
        program,
        grid=(-(-chains // LANES),),
        in_specs=[*map(_whole, constants), *map(_block, carried)],
        out_specs=[_block(leaf) for leaf in carried],
        out_shape=[jax.ShapeDtypeStruct(leaf.shape or (1,), leaf.dtype) for leaf in carried],
        compiler_params=triton.CompilerParams(num_warps=_WARPS),
        interpret=interpret,
        name="many_steps",
    )(*constants, *map(jnp.atleast_1d, carried))
    shaped = [new.reshape(old.shape) for new, old in zip(ended, carried, strict=True)]
    params, state, living = jax.tree.unflatten(carried_layout, shaped)
    return params, state, living > 0


def _whole(leaf: Any) -> pl.BlockSpec:
    """All of a constant, for every program."""
    return pl.BlockSpec(leaf.shape, lambda i: (0,) * leaf.ndim)


def _block(leaf: Any) -> pl.BlockSpec:
    """The part of a program: its chains, which are the last axis; or the number that all chains share."""
    if leaf.ndim == 0:
        return pl.BlockSpec((1,), lambda i: (0,))
    return pl.BlockSpec((*leaf.shape[:-1], LANES), lambda i: (0, i)[2 - leaf.ndim :])


def _in_registers(ref: Any, leaf: Any) -> Any:
    """A number, or the numbers of a vector; a matrix is read where it is used."""
    if leaf.ndim == 0:
        return ref[0]
    return tuple(ref[i] for i in range(leaf.size)) if leaf.ndim == 1 else ref


def _load(ref: Any, leaf: Any, here: Any) -> Any:
    """A row for each parameter, one row, or a number."""
    if leaf.ndim == 2:
        return [triton.load(ref.at[np.int32(i), :], mask=here, other=0) for i in range(leaf.shape[0])]
    return triton.load(ref, mask=here, other=0) if leaf.ndim else ref[0]


def _store(ref: Any, leaf: Any, here: Any, value: Any) -> None:
    if leaf.ndim == 2:
        for i, row in enumerate(value):
            triton.store(ref.at[np.int32(i), :], row, mask=here)
    elif leaf.ndim:
        triton.store(ref, value, mask=here)
    else:
        ref[0] = value  # the same from every program


def _row(state: Any, i: int) -> Any:
    """The optimizer's state of parameter i."""
    return jax.tree.map(lambda leaf: leaf[i] if isinstance(leaf, list) else leaf, state, is_leaf=_is_rows)


def _rows_joined(states: list[Any]) -> list[Any]:
    """The leaves of the states of all parameters, lists of rows again; what all share is taken from the first."""
    leaves = zip(*(jax.tree.leaves(state) for state in states), strict=True)
    return [list(rows) if rows[0].ndim else rows[0] for rows in leaves]


def _is_rows(leaf: Any) -> bool:
    return isinstance(leaf, list)
