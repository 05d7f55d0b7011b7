"""States of blocks as one record of all chains, and back."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim.engine.checkpoints.states import named_states, placed_states
from sgdsim.engine.plan.blocks import Blocks
from sgdsim.engine.plan.passes import Pass
from sgdsim.engine.plan.request import Request
from sgdsim.engine.run.advance import DIVERGED, BlockState, Shared, Unit, begin
from sgdsim.results.run_state import RunState

Carried = tuple[optax.OptState, PyTree]  # of the optimizer and of the sampler
_MOST_STEPS = 2**31 - 2


class StateLayout:
    """Where the chains are in each leaf that blocks carry beside their weights."""

    def __init__(self, request: Request, shared: Shared, blocks: Blocks):
        self._request, self._blocks = request, blocks
        one, more = (self._shapes(shared, size) for size in (blocks.size, blocks.size + 1))
        leaves, self._structure = jax.tree.flatten(one)
        axes = [[i for i, (a, b) in enumerate(zip(x.shape[1:], y.shape[1:], strict=True)) if a != b]
                for x, y in zip(leaves, jax.tree.leaves(more), strict=True)]
        self._axes = [axis[0] if axis else None for axis in axes]
        self._leaves = leaves

    def _shapes(self, shared: Shared, size: int) -> Carried:
        """What one block of so many chains carries."""
        params: PyTree = jax.ShapeDtypeStruct((1, self._request.dimension, size), self._request.dtype)
        alive: PyTree = jax.ShapeDtypeStruct((1, size), np.bool_)
        number: PyTree = jax.ShapeDtypeStruct((1,), np.int32)
        unit = Unit(number, number, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)))
        made = jax.eval_shape(functools.partial(begin, transform=self._request.transform, mesh=None), shared, unit,
                              params, alive)
        return made.optimizer, made.sampler

    def taken(self, portion: Pass, states: BlockState) -> list[np.ndarray]:
        """Every leaf with the chains of one pass first, and no axis of chains where they share it."""
        valid = self._blocks.valid[portion.first : portion.stop]
        leaves = named_states((states.optimizer, states.sampler), len(valid)).values()
        return [rows[0] if axis is None else np.concatenate(
                    [np.moveaxis(row, axis, 0)[:many] for row, many in zip(rows, valid, strict=True)])
                for axis, rows in zip(self._axes, leaves, strict=True)]

    def joined(self, parts: list[list[np.ndarray]], params: np.ndarray, step: int) -> RunState:
        """The record of all passes."""
        leaves = [pieces[0] if axis is None else np.concatenate(pieces)
                  for axis, pieces in zip(self._axes, zip(*parts, strict=True), strict=True)]
        return RunState(step, params, *jax.tree.unflatten(self._structure, leaves))

    def continued(self, state: RunState, fresh: BlockState, portion: Pass, mesh: Mesh | None) -> BlockState:
        """Blocks of one pass at a record that `check` has let through; `fresh` are those at their start."""
        blocks = self._blocks
        ends = np.cumsum(blocks.valid)
        which = [ends[b] - blocks.valid[b] + np.minimum(np.arange(blocks.size), blocks.valid[b] - 1)
                 for b in range(portion.first, portion.stop)]
        plain = [np.stack([leaf if axis is None else np.moveaxis(leaf[chains], 0, axis) for chains in which])
                 for axis, leaf in zip(self._axes, jax.tree.leaves(state[2:]), strict=False)]
        if state.sampler is None:  # of one chain: passes begin anew
            return fresh._replace(optimizer=placed_states(plain, fresh.optimizer, len(which), mesh))
        optimizer, sampler = placed_states(plain, (fresh.optimizer, fresh.sampler), len(which), mesh)
        return fresh._replace(optimizer=optimizer, sampler=sampler)

    def check(self, given: object) -> RunState:
        """A record that fits the run, in its dtypes; the state of an optimizer of one chain is copied to all.

        Raises:
            ValueError: it is of another run.
        """
        leaves, structure = jax.tree.flatten(tuple(given[2:]) if isinstance(given, RunState) else given)
        both = jax.tree.unflatten(self._structure, self._leaves)
        if structure != jax.tree.structure(both if isinstance(given, RunState) else both[0]):  # type: ignore[operator]
            raise refused("of another optimizer or sampling", "of the same optimizer and sampling")
        chains = self._request.chains
        if not isinstance(given, RunState):
            if self._request.optimizer is None:
                raise refused("of one chain", "of all chains for an optax transformation")
            leaves = [leaf if axis is None else np.broadcast_to(leaf, (chains, *np.shape(leaf)))
                      for leaf, axis in zip(leaves, self._axes, strict=False)]
        made = [_fitting(np.asarray(leaf), shape, axis, chains)
                for leaf, shape, axis in zip(leaves, self._leaves, self._axes, strict=False)]
        if isinstance(given, RunState):
            return RunState(given.step, given.params, *jax.tree.unflatten(structure, made))
        return RunState(0, self._request.initial, jax.tree.unflatten(structure, made), None)


def begin_at(request: Request, initial_state: object) -> Request:
    """The request with the weights of a record; another start beside it is refused.

    Raises:
        ValueError: weights do not fit the run, or chains have diverged.
    """
    if not isinstance(initial_state, RunState):
        return request
    params, shape = np.asarray(initial_state.params, np.float64), (request.chains, request.dimension)
    if params.shape != shape:
        raise refused(f"with weights of shape {params.shape}", f"with weights of shape {shape}")
    diverged = int((~(np.abs(params) <= DIVERGED).all(axis=1)).sum())
    if diverged:
        raise refused(f"with {diverged} diverged chains", "of chains that have not diverged")
    if not 0 <= initial_state.step <= _MOST_STEPS - request.steps:
        raise refused(f"after {initial_state.step} steps", f"such that no run has more than {_MOST_STEPS} steps")
    return request._replace(initial=params)


def _fitting(leaf: np.ndarray, like: jax.ShapeDtypeStruct, axis: int | None, chains: int) -> np.ndarray:
    """One leaf in the dtype of blocks, random keys as words."""
    raw = jax.eval_shape(jax.random.key_data, like) if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else like
    wanted = list(raw.shape[1:])
    if axis is not None:
        wanted = [chains, *wanted[:axis], *wanted[axis + 1 :]]
    if list(leaf.shape) != wanted:
        raise refused(f"with an array of shape {leaf.shape}", f"with one of shape {tuple(wanted)} in its place")
    return leaf.astype(raw.dtype)


def refused(value: str, allowed: str) -> ValueError:
    """What is said of a record of another run."""
    return _checks.error("initial_state", value, allowed, "pass result.state of a run with keep_state=True")
