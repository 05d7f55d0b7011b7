"""Run a plan: pass after pass, segment after segment; then put what was measured together."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from sgdsim import _checks
from sgdsim.engine.checkpoints.checkpoint import Saver
from sgdsim.engine.checkpoints.states import named_states, restored_states
from sgdsim.engine.plan.devices import place, precision, replicate
from sgdsim.engine.plan.hosts import agree, everywhere, interrupts
from sgdsim.engine.plan.passes import Pass, make_units, start_states
from sgdsim.engine.plan.plan import Plan
from sgdsim.engine.plan.schedule import Segment
from sgdsim.engine.run.advance import BlockState, Shared, Unit, advance, begin, lowering
from sgdsim.engine.run.collector import Collected, Collector, Finals, Measured, Part, join, named_arrays
from sgdsim.engine.run.progress import ProgressBar
from sgdsim.engine.run.stopping import is_reached, largest_errors
from sgdsim.results import RunState


class Ensemble(NamedTuple):
    """What a run measured, and how it went."""

    plan: Plan
    measured: list[Measured]  # of each point
    steps_done: int
    passes_done: int
    stopped: str  # "all steps", "target_stderr reached" or "interrupted"
    relative_stderr: dict[str, float] | None  # of what has a target
    resumed_from: tuple[int, int] | None  # pass and step
    seconds: float
    state: RunState | None  # after the last step, if asked for


class Progress(NamedTuple):
    """Where a pass stands; replaced as a whole, so that an interruption finds it complete."""

    states: BlockState
    collected: Collected
    done: int
    reached: bool


class Ended(NamedTuple):
    """How a pass ended."""

    at: Progress
    interrupted: bool
    resumed_from: int | None


def run(plan: Plan) -> Ensemble:
    """Simulate every point of the grid; all of them are one compilation."""
    steps = plan.request.steps
    with precision(plan.request.dtype):
        shared = replicate(plan.shared, plan.mesh)
        finals = Finals(plan)
        parts: list[Part] = []
        carried: list[list[np.ndarray]] = []
        resumed, passes_done, interrupted = None, 0, False
        with ProgressBar(steps * len(plan.passes), "simulate", plan.progress) as bar:
            for number, portion in enumerate(plan.passes):
                collector = Collector(plan, portion)
                saver = _saver(plan, number)
                update = functools.partial(_move, bar, number * steps)
                try:
                    with contextlib.closing(saver) if saver else contextlib.nullcontext():
                        ended = one_pass(plan, shared, portion, collector, saver, update)
                except KeyboardInterrupt:  # before the first step of this pass
                    if not parts:
                        raise
                    interrupted = True
                    break
                finals.take(portion, ended.at.states)
                if plan.layout and plan.keep_state:
                    carried.append(plan.layout.taken(portion, ended.at.states))
                parts.append(Part(portion, collector, ended.at.collected))
                done, reached, interrupted = ended.at.done, ended.at.reached, ended.interrupted
                if ended.resumed_from is not None:
                    resumed = (number, ended.resumed_from)
                del ended  # the next pass needs the memory of its states
                if interrupted:
                    break
                passes_done += 1
        measured = join(plan, parts, finals)
    stopped = "interrupted" if interrupted else "target_stderr reached" if reached else "all steps"
    errors = largest_errors(plan, parts[0].collector, parts[0].collected) if plan.target else None
    state = None
    if plan.layout and plan.keep_state and not interrupted:
        state = plan.layout.joined(carried, finals.params[0], _offset(plan) + done)
    seconds = time.perf_counter() - plan.begun
    return Ensemble(plan, measured, done, passes_done, stopped, errors, resumed, seconds, state)


def one_pass(plan: Plan, shared: Shared, portion: Pass, collector: Collector, saver: Saver | None,
             update: Callable[[int], None]) -> Ended:
    """All segments of one pass; from its newest checkpoint on, if there is one."""
    units = make_units(plan.points, plan.blocks.number, portion, plan.padded, plan.request.seed, plan.mesh)
    now, origin = _start(plan, shared, portion, collector, units, saver)
    saved, interrupted = now.done, False
    try:
        with interrupts(plan.mesh) as pressed:
            for segment in plan.segments:
                if segment.stop <= now.done:
                    continue
                if now.reached or interrupted:
                    break
                now = _one_segment(plan, shared, segment, units, now, collector)
                update(now.done)
                interrupted, write = agree(plan.mesh, pressed(), saver is not None and saver.due(now.done))
                if saver and write:
                    _save(saver, now, portion, collector)
                    saved = now.done
    except KeyboardInterrupt:
        interrupted = True
    if saver and saved < now.done:
        _save(saver, now, portion, collector)
    return Ended(now, interrupted, origin)


def _start(plan: Plan, shared: Shared, portion: Pass, collector: Collector, units: Unit,
           saver: Saver | None) -> tuple[Progress, int | None]:
    """The beginning, or where a checkpoint was left."""
    start = place(start_states(plan.request, plan.blocks, portion, plan.padded), plan.mesh)
    first = functools.partial(begin, transform=plan.request.transform, mesh=plan.mesh)
    found = saver.load() if saver else None
    step = found.step if found else -1
    if len(set(everywhere(plan.mesh, step))) > 1:
        raise _checks.error("checkpoint", "different on each host", "a folder that all hosts see",
                            "put it on a shared file system")
    if found is None:
        fresh = first(shared, units, *start)
        if plan.layout and plan.state:
            fresh = plan.layout.continued(plan.state, fresh, portion, plan.mesh)
        return Progress(fresh, Collected(), 0, False), None
    shapes = jax.eval_shape(first, shared, units, *start)
    states = restored_states(found.arrays, shapes, portion.stop - portion.first, plan.mesh)
    return Progress(states, collector.restore(found.arrays), step, bool(found.arrays["reached"][0])), step


def _one_segment(plan: Plan, shared: Shared, segment: Segment, units: Unit, now: Progress,
                 collector: Collector) -> Progress:
    counts = (np.int32(_offset(plan) + segment.start), np.int32(segment.rounds), np.int32(segment.inner))
    with lowering():
        states, sums, centre = advance(
            shared, units, now.states, *counts, np.bool_(segment.measure),
            groups=plan.blocks.groups, transform=plan.request.transform, mesh=plan.mesh, launch=plan.launch,
        )
    # Without it, segments that measure nothing would queue up, each with states of its own.
    jax.block_until_ready(states.alive)
    collected = collector.add(now.collected, segment, states, sums, centre)
    reached = False
    if plan.target and segment.stop in plan.looks:
        reached = is_reached(plan, collector, collected)
        collected = collected if reached else collector.join_halves(collected)
    return Progress(states, collected, segment.stop, reached)


def _offset(plan: Plan) -> int:
    """Steps before the first one."""
    return plan.state.step if plan.state else 0


def _save(saver: Saver, now: Progress, portion: Pass, collector: Collector) -> None:
    states = named_states(now.states, portion.stop - portion.first)
    reached = {"reached": np.array([now.reached])}
    saver.save(now.done, states | named_arrays(now.collected, collector.whole) | reached)


def _saver(plan: Plan, number: int) -> Saver | None:
    if plan.checkpoint is None:
        return None
    folder = Path(plan.checkpoint.path) / f"pass_{number:04d}"
    return Saver(plan.checkpoint, folder, {**plan.identity, "passes": str(len(plan.passes))})


def _move(bar: ProgressBar, before: int, done: int) -> None:
    bar.update(before + done)
