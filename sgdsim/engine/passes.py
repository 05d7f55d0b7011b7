"""Units (a block of one configuration), passes over them, and where their chains start."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sgdsim.engine.advance import Unit
from sgdsim.engine.blocks import Blocks
from sgdsim.engine.configure import Run
from sgdsim.engine.devices import place


class Configuration(NamedTuple):
    """One point of a grid: an index into the kernels and one into the optimizers."""

    kernel: int
    optimizer: int


class Portion(NamedTuple):
    """The units of one pass: in order of configuration, then block, from `first` to before `stop`."""

    first: int
    stop: int


def cut_into_passes(units: int, passes: int) -> list[Portion]:
    """Portions of equal length (the last may be shorter), whatever the devices are."""
    length = -(-units // passes)
    return [Portion(first, min(first + length, units)) for first in range(0, units, length)]


@functools.partial(jax.jit, static_argnames="mesh")
def block_keys(seed: Any, block: Any, more: Any = None, *, mesh: Mesh | None) -> Any:
    """Keys of blocks, from the seed and perhaps one `more` number; equal blocks of all configurations share theirs."""
    root = jax.random.key(seed)
    if more is not None:
        root = jax.random.fold_in(root, more)
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(block)
    if mesh is None:
        return keys
    return jax.lax.with_sharding_constraint(keys, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])))


def make_units(
    configurations: Sequence[Configuration], number: int, portion: Portion, padded: int, seed: int, mesh: Mesh | None
) -> Unit:
    """The units of a pass over `number` blocks; padding repeats the first."""
    which, block = np.divmod(unit_numbers(portion, padded), number)
    table = np.array(configurations, dtype=np.int32)
    keys = block_keys(np.uint32(seed), block.astype(np.uint32), mesh=mesh)
    kernel, optimizer = place((table[which, 0], table[which, 1]), mesh)
    return Unit(kernel, optimizer, keys)


def unit_numbers(portion: Portion, padded: int) -> np.ndarray:
    """Which unit stands at each place of a pass; padding repeats the first."""
    numbers = np.arange(portion.first, portion.stop)
    return np.concatenate([numbers, np.full(padded - len(numbers), portion.first)])


def start_states(run: Run, blocks: Blocks, portion: Portion, padded: int) -> tuple[np.ndarray, np.ndarray]:
    """Starting points (units, D, size) and which chains count (units, size)."""
    block = unit_numbers(portion, padded) % blocks.number
    alive = np.arange(blocks.size) < blocks.valid[block, None]
    alive[portion.stop - portion.first :] = False
    shape = (padded, run.initial.shape[-1], blocks.size)
    if run.initial.ndim == 1:
        return np.broadcast_to(run.initial[:, None].astype(run.dtype), shape), alive
    params = np.empty(shape, run.dtype)
    params[:] = run.initial[0][:, None]
    ends = np.cumsum(blocks.valid)
    for place_, b in enumerate(block):
        params[place_, :, : blocks.valid[b]] = run.initial[ends[b] - blocks.valid[b] : ends[b]].T
    return params, alive
