"""One pass over some units: all segments, from the beginning or from a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sgdsim import _checks
from sgdsim.engine.advance import BlockState, Shared, Unit, advance, begin
from sgdsim.engine.blocks import Blocks
from sgdsim.engine.checkpoint import Checkpoint, Saver
from sgdsim.engine.collector import Collected, Collector, named_arrays
from sgdsim.engine.configure import Run
from sgdsim.engine.devices import place
from sgdsim.engine.hosts import agree, everywhere, fetch, interrupts
from sgdsim.engine.passes import Configuration, Portion, make_units, start_states
from sgdsim.engine.schedule import Segment
from sgdsim.engine.stopping import is_reached


class Execution(NamedTuple):
    """How a run is carried out; nothing here changes a number but `target`, which may end it early."""

    devices: Any
    progress: bool | None
    checkpoint: Checkpoint | None
    passes: int | str | None
    target: dict[str, float] | None
    identity: dict[str, Any]  # what a checkpoint must share besides `Run`


class Program(NamedTuple):
    """What is the same for all passes."""

    run: Run
    shared: Shared
    configurations: Sequence[Configuration]
    blocks: Blocks
    mesh: Mesh | None
    padded: int
    plan: list[Segment]
    looks: list[int]
    fused: Any
    execution: Execution


class Progress(NamedTuple):
    """Where a pass stands; replaced as a whole, so that an interruption finds it complete."""

    states: BlockState | None
    collected: Collected
    done: int
    reached: bool


class Ended(NamedTuple):
    """How a pass ended."""

    at: Progress
    interrupted: bool
    resumed_from: int | None


def one_pass(program: Program, portion: Portion, collector: Collector, saver: Saver | None,
             update: Callable[[int], None]) -> Ended:
    """All segments of one pass; from its newest checkpoint on, if there is one."""
    run, mesh = program.run, program.mesh
    units = make_units(program.configurations, program.blocks.number, portion, program.padded, run.seed, mesh)
    now, origin = _start(program, portion, collector, units, saver)
    saved, interrupted = now.done, False
    try:
        with interrupts(mesh) as pressed:
            for segment in program.plan:
                if segment.stop <= now.done:
                    continue
                if now.reached or interrupted:
                    break
                now = _one_segment(program, segment, units, now, collector)
                update(now.done)
                interrupted, write = agree(mesh, pressed(), saver is not None and saver.due(now.done))
                if saver and write:
                    _save(saver, now, portion, collector)
                    saved = now.done
    except KeyboardInterrupt:
        interrupted = True
    if saver and saved < now.done:
        _save(saver, now, portion, collector)
    return Ended(now, interrupted, origin)


def _start(program: Program, portion: Portion, collector: Collector, units: Unit,
           saver: Saver | None) -> tuple[Progress, int | None]:
    """The beginning, or where a checkpoint was left."""
    run, mesh = program.run, program.mesh
    start = place(start_states(run, program.blocks, portion, program.padded), mesh)
    first = functools.partial(begin, transform=run.transform, mesh=mesh)
    found = saver.load() if saver else None
    step = found.step if found else -1
    if len(set(everywhere(mesh, step))) > 1:
        raise _checks.error("checkpoint", "different on each host", "a folder that all hosts see",
                            "put it on a shared file system")
    if found is None:
        return Progress(first(program.shared, units, *start), Collected(), 0, False), None
    shapes = jax.eval_shape(first, program.shared, units, *start)
    states = _restored(found.arrays, shapes, portion.stop - portion.first, mesh)
    return Progress(states, collector.restore(found.arrays), step, bool(found.arrays["reached"][0])), step


def _one_segment(program: Program, segment: Segment, units: Unit, now: Progress, collector: Collector) -> Progress:
    counts = (np.int32(segment.start), np.int32(segment.rounds), np.int32(segment.inner))
    states, sums, centre = advance(
        program.shared, units, now.states, *counts, np.bool_(segment.measure),
        groups=program.blocks.groups, transform=program.run.transform, mesh=program.mesh, fused=program.fused,
    )
    # Without it, segments that measure nothing would queue up, each with states of its own.
    jax.block_until_ready(states.alive)
    collected = collector.add(now.collected, segment, states, sums, centre)
    reached = False
    target = program.execution.target
    if target and segment.stop in program.looks:
        reached = is_reached(target, program.run, collector, collected, len(program.configurations))
        collected = collected if reached else collector.join_halves(collected)
    return Progress(states, collected, segment.stop, reached)


def _save(saver: Saver, now: Progress, portion: Portion, collector: Collector) -> None:
    used = portion.stop - portion.first
    leaves = {f"state.{i:03d}": _plain(leaf)[:used] for i, leaf in enumerate(jax.tree.leaves(now.states))}
    reached = {"reached": np.array([now.reached])}
    saver.save(now.done, leaves | named_arrays(now.collected, collector.whole) | reached)


def _restored(arrays: dict[str, np.ndarray], shapes: Any, used: int, mesh: Mesh | None) -> BlockState:
    """States from a checkpoint, in the layout of these devices; padding repeats the first unit."""
    leaves, structure = jax.tree.flatten(shapes)
    restored = []
    for i, leaf in enumerate(leaves):
        saved = arrays[f"state.{i:03d}"]
        full = place(np.concatenate([saved, saved[:1].repeat(leaf.shape[0] - used, axis=0)]), mesh)
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        restored.append(jax.random.wrap_key_data(full) if is_key else full if mesh else jnp.asarray(full))
    return jax.tree.unflatten(structure, restored)


def _plain(leaf: Any) -> np.ndarray:
    return fetch(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
