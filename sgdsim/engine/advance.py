"""The compiled heart: every block of chains takes many steps, each block on its own."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from sgdsim._types import total
from sgdsim.optimizers import Optimizer
from sgdsim.statistics import Measurement

# Beyond it a chain counts as diverged, whatever the dtype.
DIVERGED = 1e18


class Shared(NamedTuple):
    """What every block sees: kernels and optimizers of all configurations, the problem, the statistics."""

    kernels: Any
    optimizers: Any
    problem: Any
    statistics: tuple[Any, ...]


class Unit(NamedTuple):
    """One block of one configuration: which kernel and optimizer it uses, and its key."""

    kernel: Any
    optimizer: Any
    key: Any


class BlockState(NamedTuple):
    """What a block carries from step to step."""

    params: Any  # (D, chains)
    optimizer: Any
    sampler: Any
    alive: Any  # (chains,): neither padding nor diverged


def batched(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Any optax transformation, one independent copy for each chain on the last axis."""
    update = jax.vmap(transform.update, in_axes=-1, out_axes=-1)
    return optax.GradientTransformation(jax.vmap(transform.init, in_axes=-1, out_axes=-1), update)


def optimizer_of(shared: Shared, unit: Unit) -> Optimizer:
    """The optimizer of a unit."""
    return jax.tree.map(lambda leaf: leaf[unit.optimizer], shared.optimizers)


def transformation(shared: Shared, unit: Unit, transform: Any) -> optax.GradientTransformation:
    """The optimizer of a unit as optax has it, or one copy of an optax transformation for each chain."""
    return batched(transform) if transform is not None else optimizer_of(shared, unit).as_optax(shared.problem)


def over_blocks(function: Any, mesh: Mesh | None) -> Any:
    """`function(shared, block)` for every block: in turn on a device, blocks spread over devices."""

    def in_turn(shared: Any, blocks: Any) -> Any:
        return jax.lax.map(functools.partial(function, shared), blocks)

    if mesh is None:
        return in_turn
    spread, everywhere = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
    return jax.shard_map(in_turn, mesh=mesh, in_specs=(everywhere, spread), out_specs=spread, check_vma=False)


@functools.partial(jax.jit, static_argnames=("transform", "mesh"))
def begin(shared: Shared, units: Unit, params: Any, alive: Any, *, transform: Any, mesh: Any) -> BlockState:
    """The state of every block before its first step."""

    def block(shared: Shared, args: tuple[Unit, Any, Any]) -> BlockState:
        unit, params, alive = args
        sampler = shared.kernels.entry(unit.kernel).init(jax.random.fold_in(unit.key, 1), params.shape[-1])
        return BlockState(params, transformation(shared, unit, transform).init(params), sampler, alive)

    return over_blocks(block, mesh)(shared, (units, params, alive))


@functools.partial(jax.jit, static_argnames=("transform", "mesh", "groups", "fused"))
def advance(
    shared: Shared,
    units: Unit,
    states: BlockState,
    start: Any,
    rounds: Any,
    inner: Any,
    measure: Any,
    *,
    transform: Any,
    mesh: Any,
    groups: int,
    fused: Any = None,
) -> tuple[BlockState, Any, Any]:
    """Take `rounds` x `inner` steps from step `start`; measure the first of each round if `measure`.

    Returns the new states, the sums of every statistic and the centre they are taken about, block by
    block. All counts are traced: every segment of every run of this shape is one compilation. `fused` takes many
    unmeasured steps at once (see `many_steps`); None takes one after the other.
    """

    def block(shared_and_counts: Any, args: tuple[Unit, BlockState]) -> tuple[BlockState, Any, Any]:
        shared, start, rounds, inner, measure = shared_and_counts
        unit, state = args
        kernel = shared.kernels.entry(unit.kernel)
        optimizer = transformation(shared, unit, transform)
        steps_key = jax.random.fold_in(unit.key, 0)
        dimension, chains = state.params.shape
        dtype = state.params.dtype
        live = jnp.where(state.alive, state.params, 0)
        centre = live.sum(axis=1) / jnp.maximum(state.alive.sum(), 1).astype(dtype)

        def step(t: Any, state: BlockState) -> tuple[BlockState, Any]:
            gradient, sampler = kernel.draw(jax.random.fold_in(steps_key, t), state.params, state.sampler)
            update, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
            params = state.params + update
            bounded = total((jnp.abs(params) <= DIVERGED).astype(dtype))  # NaN is not
            return BlockState(params, optimizer_state, sampler, state.alive & (bounded == dimension)), gradient

        def several(first: Any, last: Any, state: BlockState) -> BlockState:
            if fused is None:
                return jax.lax.fori_loop(first, last, lambda t, s: step(t, s)[0], state)
            own = kernel.kernels[0], optimizer_of(shared, unit), jax.random.fold_in(unit.key, 2)
            moved = fused(*own, first, last, state.params, state.optimizer, state.alive, diverged=DIVERGED)
            return BlockState(moved[0], moved[1], state.sampler, moved[2])

        def add(sums: Any, state: BlockState, gradient: Any) -> Any:
            grid = (chains // groups, groups)
            at = Measurement(
                params=state.params.reshape(dimension, *grid),
                gradient=gradient.reshape(dimension, *grid),
                weight=state.alive.reshape(grid).astype(dtype),
                centre=centre,
                problem=shared.problem,
            )
            return tuple(s.update(x, at) for s, x in zip(shared.statistics, sums, strict=True))

        def one_round(r: Any, carry: Any) -> Any:
            state, sums = carry
            t = start + r * inner
            moved, gradient = step(t, state)
            if shared.statistics:
                sums = jax.lax.cond(measure, lambda: add(sums, state, gradient), lambda: sums)
            return several(t + 1, t + inner, moved), sums

        def all_rounds() -> Any:
            return jax.lax.fori_loop(0, rounds, one_round, (state, zero))

        zero = tuple(s.init(dimension, groups, dtype) for s in shared.statistics)
        if fused is None:
            moved, sums = all_rounds()
        else:
            stop = start + rounds * inner
            moved, sums = jax.lax.cond(measure, all_rounds, lambda: (several(start, stop, state), zero))
        return moved, sums, centre

    return over_blocks(block, mesh)((shared, start, rounds, inner, measure), (units, states))
