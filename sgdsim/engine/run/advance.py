"""The compiled heart: every block of chains takes many steps, each block on its own."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from sgdsim._specs import Remembered
from sgdsim._types import total
from sgdsim.engine.run.keys import independent_keys
from sgdsim.kernels import KernelTable
from sgdsim.optimizers import Optimizer
from sgdsim.problems import Problem
from sgdsim.statistics import Measurement, Statistic

# Beyond it a chain counts as diverged, whatever the dtype.
DIVERGED = 1e18
# From so many chains on, the groups of a GPU or a TPU are of neighbours.
MEMBERS_IN_PLACE = 1024

S = TypeVar("S")
B = TypeVar("B")
R = TypeVar("R")


class Launch(NamedTuple):
    """Many steps of every chain of a block in one launch, in place of a loop."""

    program: str  # what provenance calls it
    take: Callable[..., tuple[jax.Array, optax.OptState, jax.Array]]  # see `pallas_steps`
    fused: bool = True  # or a loop of operations after all, in another layout


class Shared(NamedTuple):
    """What every block sees: kernels and optimizers of all points, the problem, the statistics."""

    kernels: KernelTable
    optimizers: Optimizer | None  # all of them, leaf by leaf stacked; None where an optax transformation was given
    remembered: Remembered[Problem]
    statistics: tuple[Statistic, ...]

    @property
    def problem(self) -> Problem:
        """The problem, with what is derived from it worked out on the host."""
        return self.remembered.recall()


class Unit(NamedTuple):
    """One block of one point: which kernel and optimizer it uses, and its key."""

    kernel: jax.Array
    optimizer: jax.Array
    key: jax.Array


class BlockState(NamedTuple):
    """What a block carries from step to step."""

    params: jax.Array  # (D, chains)
    optimizer: optax.OptState
    sampler: PyTree
    alive: jax.Array  # (chains,): neither padding nor diverged
    memory: tuple[PyTree, ...] = ()  # what each statistic remembers


def batched(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Any optax transformation, one independent copy for each chain on the last axis."""
    update = jax.vmap(transform.update, in_axes=-1, out_axes=-1)
    return optax.GradientTransformation(jax.vmap(transform.init, in_axes=-1, out_axes=-1), update)


def optimizer_of(shared: Shared, unit: Unit) -> Optimizer:
    """The optimizer of a unit."""
    return jax.tree.map(lambda leaf: leaf[unit.optimizer], shared.optimizers)


def transformation(
    shared: Shared, unit: Unit, transform: optax.GradientTransformation | None
) -> optax.GradientTransformation:
    """The optimizer of a unit as optax has it, or one copy of an optax transformation for each chain."""
    return batched(transform) if transform is not None else optimizer_of(shared, unit).as_optax(shared.problem)


def in_groups(x: jax.Array, groups: int) -> jax.Array:
    """(..., chains) as (..., members, groups): see `Blocks` for who is in which group."""

    def every(x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], -1, groups)

    # Padding ends a block, and takes less than `groups` + 1 chains: of small groups it would empty the last ones.
    if x.shape[-1] < MEMBERS_IN_PLACE * groups:
        return every(x)
    return jax.lax.platform_dependent(x, cpu=every, default=functools.partial(neighbours, groups=groups))


def neighbours(x: jax.Array, groups: int) -> jax.Array:
    """(..., chains) as (..., members, groups), neighbours together: where lanes are chains, nothing moves."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -1, -2)


def over_blocks(function: Callable[[S, B], R], mesh: Mesh | None) -> Callable[[S, B], R]:
    """`function(shared, block)` for every block: in turn on a device, blocks spread over devices."""

    def in_turn(shared: S, blocks: B) -> R:
        return jax.lax.map(functools.partial(function, shared), blocks)

    if mesh is None:
        return in_turn
    spread, everywhere = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
    return jax.shard_map(in_turn, mesh=mesh, in_specs=(everywhere, spread), out_specs=spread, check_vma=False)


@contextlib.contextmanager
def lowering() -> Iterator[None]:
    """Without JAX's notice that Pallas's Triton backend will go: `launch_of` has Mosaic's program for that day."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        yield


@functools.partial(jax.jit, static_argnames=("transform", "mesh"))
def begin(
    shared: Shared,
    units: Unit,
    params: jax.Array,
    alive: jax.Array,
    *,
    transform: optax.GradientTransformation | None,
    mesh: Mesh | None,
) -> BlockState:
    """The state of every block before its first step."""

    def block(shared: Shared, args: tuple[Unit, jax.Array, jax.Array]) -> BlockState:
        unit, params, alive = args
        sampler = shared.kernels.entry(unit.kernel).init(jax.random.fold_in(unit.key, 1), params.shape[-1])
        memory = tuple(s.begin(params) if hasattr(s, "begin") else () for s in shared.statistics)
        state = transformation(shared, unit, transform).init(params)
        if transform is not None:
            state = independent_keys(state, jax.random.fold_in(unit.key, 3))
        return BlockState(params, state, sampler, alive, memory)

    return over_blocks(block, mesh)(shared, (units, params, alive))


@functools.partial(jax.jit, static_argnames=("transform", "mesh", "groups", "launch"))
def advance(
    shared: Shared,
    units: Unit,
    states: BlockState,
    start: jax.Array,
    rounds: jax.Array,
    inner: jax.Array,
    measure: jax.Array,
    *,
    transform: optax.GradientTransformation | None,
    mesh: Mesh | None,
    groups: int,
    launch: Launch | None = None,
) -> tuple[BlockState, tuple[PyTree, ...], jax.Array]:
    """Take `rounds` x `inner` steps from step `start`; measure the first of each round if `measure`.

    Returns the new states, the sums of every statistic and the centre they are taken about, block by
    block. All counts are traced: every segment of every run of this shape is one compilation. `launch` takes many
    unmeasured steps at once; None takes one after the other.
    """

    def block(
        shared_and_counts: tuple[Shared, jax.Array, jax.Array, jax.Array, jax.Array], args: tuple[Unit, BlockState]
    ) -> tuple[BlockState, tuple[PyTree, ...], jax.Array]:
        shared, start, rounds, inner, measure = shared_and_counts
        unit, state = args
        kernel = shared.kernels.entry(unit.kernel)
        optimizer = transformation(shared, unit, transform)
        steps_key = jax.random.fold_in(unit.key, 0)
        dimension, dtype = state.params.shape[0], state.params.dtype
        live = jnp.where(state.alive, state.params, 0)
        centre = live.sum(axis=1) / jnp.maximum(state.alive.sum(), 1).astype(dtype)

        def step(t: jax.Array, state: BlockState) -> tuple[BlockState, jax.Array]:
            gradient, sampler = kernel.draw(jax.random.fold_in(steps_key, t), state.params, state.sampler)
            update, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
            params = state.params + update
            bounded = total((jnp.abs(params) <= DIVERGED).astype(dtype))  # NaN is not
            memory = tuple(s.remember(m, state.params) if hasattr(s, "remember") else m
                           for s, m in zip(shared.statistics, state.memory, strict=True))
            alive = state.alive & (bounded == dimension)
            return BlockState(params, optimizer_state, sampler, alive, memory), gradient

        def several(first: jax.Array, last: jax.Array, state: BlockState) -> BlockState:
            if launch is None:
                return jax.lax.fori_loop(first, last, lambda t, s: step(t, s)[0], state)
            own = kernel.kernels[0], optimizer_of(shared, unit), jax.random.fold_in(unit.key, 2)
            moved = launch.take(*own, first, last, state.params, state.optimizer, state.alive, diverged=DIVERGED)
            return BlockState(moved[0], moved[1], state.sampler, moved[2], state.memory)

        def add(
            sums: tuple[PyTree, ...], state: BlockState, gradient: jax.Array, memory: tuple[PyTree, ...]
        ) -> tuple[PyTree, ...]:
            at = Measurement(
                params=in_groups(state.params, groups),
                gradient=in_groups(gradient, groups),
                weight=in_groups(state.alive, groups).astype(dtype),
                centre=centre,
                problem=shared.problem,
            )
            return tuple(s.update(x, at._replace(memory=m))
                         for s, x, m in zip(shared.statistics, sums, memory, strict=True))

        def one_round(r: jax.Array, carry: tuple[BlockState, tuple[PyTree, ...]]) -> tuple[BlockState, PyTree]:
            state, sums = carry
            t = start + r * inner
            moved, gradient = step(t, state)
            if shared.statistics:
                sums = jax.lax.cond(measure, lambda: add(sums, state, gradient, moved.memory), lambda: sums)
            return several(t + 1, t + inner, moved), sums

        def all_rounds() -> tuple[BlockState, tuple[PyTree, ...]]:
            return jax.lax.fori_loop(0, rounds, one_round, (state, zero))

        zero = tuple(s.init(dimension, groups, dtype) for s in shared.statistics)
        if launch is None:
            moved, sums = all_rounds()
        else:
            stop = start + rounds * inner
            moved, sums = jax.lax.cond(measure, all_rounds, lambda: (several(start, stop, state), zero))
        return moved, sums, centre

    return over_blocks(block, mesh)((shared, start, rounds, inner, measure), (units, states))
