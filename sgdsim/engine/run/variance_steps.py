"""The compiled part of `gradient_variance`: blocks step, and hand out a few numbers at every step that is measured."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from sgdsim._types import inner, total
from sgdsim.engine.run.advance import DIVERGED, BlockState, Shared, Unit, over_blocks, transformation
from sgdsim.kernels.conditional_variance import ConditionalMoments
from sgdsim.kernels.linear_network import chain_by_chain
from sgdsim.problems import Problem

# A run whose loss or squared gradient is beyond this has left float32's range in all but name.
_BOUND = 1e30


class NoiseFactors(NamedTuple):
    """How the variance of a block's gradients follows from the moments of one example."""

    data: jax.Array  # 1/b or c_b
    labels: jax.Array  # 1/b


class Rows(NamedTuple):
    """What a block measured, one row a measured step; quantities are listed in `quantities`."""

    alive: jax.Array  # (rows,)
    mean: jax.Array  # (rows, quantities)
    scale: jax.Array  # (rows, quantities)
    spread: jax.Array  # (rows, quantities): variance over runs in units of scale^2
    groups: jax.Array  # (rows, groups): mean of the variance of g over the runs of each group
    fourth: jax.Array  # (rows, quantities): sum over runs of fourth powers of deviations in units of scale^4


def layer_slices(problem: Problem) -> list[tuple[int, int]]:
    """Where each layer of a linear network begins and ends in the parameters; () for anything else."""
    slices, start = [], 0
    for outputs, inputs in getattr(problem, "shapes", ()):
        slices.append((start, start + outputs * inputs))
        start += outputs * inputs
    return slices


def _deviations(x: jax.Array, alive: jax.Array, number: jax.Array) -> jax.Array:
    """Of live runs from their mean, (..., runs); equal runs deviate by exactly 0."""
    x = jnp.where(alive, x, 0)
    d = jnp.where(alive, x - x[..., jnp.argmax(alive)][..., None], 0)
    return jnp.where(alive, d - (d.sum(axis=-1) / jnp.maximum(number, 1))[..., None], 0)


def _summary(h: jax.Array, alive: jax.Array, groups: int) -> Rows:
    """Mean and spread over live runs of quantities (quantities, runs)."""
    number = alive.sum().astype(h.dtype)
    off = _deviations(h, alive, number)
    first = jnp.argmax(alive)
    mean = h[:, first] - off[:, first]
    scale = jnp.maximum(jnp.abs(off).max(axis=1), jnp.finfo(h.dtype).tiny)
    spread = ((off / scale[:, None]) ** 2).sum(axis=1) / jnp.maximum(number - 1, 1)
    fourth = ((off / scale[:, None]) ** 4).sum(axis=1)
    grid = (-1, groups)
    grouped = h[0].reshape(grid).sum(axis=0) / jnp.maximum(alive.reshape(grid).sum(axis=0), 1)
    return Rows(alive.sum(), mean, scale, spread, grouped, fourth)


def _turned(state: BlockState) -> BlockState:
    """Parameters and the optimizer's state with chains first instead of last, or the other way round."""

    def turn(x: jax.Array) -> jax.Array:
        return x.T if x.ndim == 2 else x

    return state._replace(params=turn(state.params), optimizer=jax.tree.map(turn, state.optimizer))


def _bounded(params: jax.Array, chains_first: bool) -> jax.Array:
    """Which chains have not diverged, (chains,); what is fast depends on which axis lies first in memory."""
    small = jnp.abs(params) <= DIVERGED  # NaN is not
    return small.all(axis=0) if chains_first else total(small.astype(params.dtype)) == len(params)


@functools.partial(jax.jit, static_argnames=("transform", "mesh", "groups"))
def measure_and_step(
    shared: Shared,
    moments: ConditionalMoments | None,
    units: Unit,
    laws: NoiseFactors,
    states: BlockState,
    start: jax.Array,
    stop: jax.Array,
    measured: jax.Array,
    *,
    transform: optax.GradientTransformation | None,
    mesh: Mesh | None,
    groups: int,
) -> tuple[BlockState, Rows]:
    r"""Steps `start` to before `stop` of every block; those in `measured` give a row each. All three are traced.

    `measured` are steps in this range, ascending, filled up with -1 (at least one) to a length that calls share.

    With moments the estimator of run r is $h_r = \mathrm{Var}(g \mid w_r) + \frac{R}{R-1} |q_r - \bar q|^2$, q the
    full gradient; without, it is $\frac{R}{R-1} |g_r - \bar g|^2$. The R runs are those of one block: blocks are
    independent, so nothing but these numbers leaves them.
    """
    slices = layer_slices(shared.problem)
    parts = slices if len(slices) > 1 else [(0, shared.problem.dimension)]
    # Products of one chain after the other want its matrices in one piece, from step to step.
    chains_first = chain_by_chain(shared.problem)

    def kept(state: BlockState) -> BlockState:
        return _turned(state) if chains_first else state

    def block(
        everything: tuple[Shared, ConditionalMoments | None, jax.Array, jax.Array, jax.Array],
        args: tuple[Unit, NoiseFactors, BlockState],
    ) -> tuple[BlockState, Rows]:
        shared, moments, start, stop, measured = everything
        unit, law, state = args
        kernel = shared.kernels.entry(unit.kernel)
        optimizer = transformation(shared, unit, transform)
        steps_key = jax.random.fold_in(unit.key, 0)
        dtype, chains = state.params.dtype, state.params.shape[1]

        def estimates(state: BlockState, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
            if moments is None:
                full, seen = shared.problem.gradient(state.params), gradient
                loss = shared.problem.loss(state.params).astype(dtype)
                noise = jnp.zeros((len(parts), chains), dtype)
            else:
                loss, full, data, labels = moments.evaluate(shared.problem, state.params)
                noise, seen = law.data * data + law.labels * labels, full
            size = inner(seen, seen) + total(noise) + jnp.abs(loss)
            alive = state.alive & (size < _BOUND)  # NaN is not
            number = alive.sum().astype(dtype)
            unbiased = number / jnp.maximum(number - 1, 1)

            def spread(x: jax.Array) -> jax.Array:
                d = _deviations(x, alive, number)
                return unbiased * jnp.stack([inner(d[a:z], d[a:z]) for a, z in parts])

            of_full = spread(full)
            of_gradient = noise + (of_full if moments is not None else spread(seen))
            both = [jnp.concatenate([total(x)[None], x]) if len(parts) > 1 else x for x in (of_gradient, of_full)]
            return alive, jnp.where(alive, jnp.concatenate([*both, loss[None]]), 0)

        def measure(i: jax.Array, state: BlockState, gradient: jax.Array, rows: Rows) -> tuple[jax.Array, Rows]:
            alive, h = estimates(state, gradient)
            new = _summary(h, alive, groups)
            return alive, jax.tree.map(lambda old, x: old.at[i].set(x.astype(old.dtype)), rows, new)

        def step(t: jax.Array, carry: tuple[BlockState, Rows, jax.Array]) -> tuple[BlockState, Rows, jax.Array]:
            carried, rows, i = carry
            state = kept(carried)
            gradient, sampler = kernel.draw(jax.random.fold_in(steps_key, t), state.params, state.sampler)
            now = measured[i] == t
            alive, rows = jax.lax.cond(
                now, lambda: measure(i, state, gradient, rows), lambda: (state.alive, rows)
            )
            update, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
            params = state.params + update
            moved = BlockState(params, optimizer_state, sampler, alive & _bounded(params, chains_first))
            return kept(moved), rows, i + now

        length, quantities = len(measured), 2 * (1 + len(parts) if len(parts) > 1 else 1) + 1
        wide = jnp.zeros((length, quantities), dtype)
        rows = Rows(jnp.zeros(length, jnp.int32), wide, wide, wide, jnp.zeros((length, groups), dtype), wide)
        carried, rows, _ = jax.lax.fori_loop(start, stop, step, (kept(state), rows, 0))
        return kept(carried), rows

    return over_blocks(block, mesh)((shared, moments, start, stop, measured), (units, laws, states))
