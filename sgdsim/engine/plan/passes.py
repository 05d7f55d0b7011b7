"""Points of a grid, units (a block of one point), passes over them, and where their chains start."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sgdsim.engine.plan.blocks import Blocks
from sgdsim.engine.plan.devices import place
from sgdsim.engine.plan.request import Request
from sgdsim.engine.run.advance import Unit


class Point(NamedTuple):
    """One point of a grid: an index into the kernels and one into the optimizers, and what they stand for."""

    kernel: int
    optimizer: int
    batch_size: int | list[int]  # a list where it changes from step to step
    sampling: str
    asked: object  # the optimizer, as a user would write it


class Pass(NamedTuple):
    """The units of one pass: in order of point, then block, from `first` to before `stop`."""

    first: int
    stop: int


def cut_into_passes(units: int, passes: int) -> list[Pass]:
    """Passes of equal length (the last may be shorter), whatever the devices are."""
    length = -(-units // passes)
    return [Pass(first, min(first + length, units)) for first in range(0, units, length)]


@functools.partial(jax.jit, static_argnames="mesh")
def block_keys(
    seed: np.uint32, block: np.ndarray, more: np.uint32 | None = None, *, mesh: Mesh | None
) -> jax.Array:
    """Keys of blocks, from the seed and perhaps one `more` number; equal blocks of all points share theirs."""
    root = jax.random.key(seed)
    if more is not None:
        root = jax.random.fold_in(root, more)
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(block)
    if mesh is None:
        return keys
    return jax.lax.with_sharding_constraint(keys, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])))


def make_units(
    points: Sequence[Point], number: int, portion: Pass, padded: int, seed: int, mesh: Mesh | None,
    more: int | None = None,
) -> Unit:
    """The units of a pass over `number` blocks; padding repeats the first."""
    which, block = np.divmod(unit_numbers(portion, padded), number)
    table = np.array([(point.kernel, point.optimizer) for point in points], dtype=np.int32)
    extra = None if more is None else np.uint32(more)
    keys = block_keys(np.uint32(seed), block.astype(np.uint32), extra, mesh=mesh)
    kernel, optimizer = place((table[which, 0], table[which, 1]), mesh)
    return Unit(kernel, optimizer, keys)


def unit_numbers(portion: Pass, padded: int) -> np.ndarray:
    """Which unit stands at each place of a pass; padding repeats the first."""
    numbers = np.arange(portion.first, portion.stop)
    return np.concatenate([numbers, np.full(padded - len(numbers), portion.first)])


def start_states(request: Request, blocks: Blocks, portion: Pass, padded: int) -> tuple[np.ndarray, np.ndarray]:
    """Starting points (units, D, size) and which chains count (units, size)."""
    block = unit_numbers(portion, padded) % blocks.number
    alive = np.arange(blocks.size) < blocks.valid[block, None]
    alive[portion.stop - portion.first :] = False
    initial = request.initial
    shape = (padded, request.dimension, blocks.size)
    if initial.ndim == 1:
        return np.broadcast_to(initial[:, None].astype(request.dtype), shape), alive
    params = np.empty(shape, request.dtype)
    params[:] = initial[0][:, None]
    ends = np.cumsum(blocks.valid)
    for place_, b in enumerate(block):
        params[place_, :, : blocks.valid[b]] = initial[ends[b] - blocks.valid[b] : ends[b]].T
    return params, alive
