"""Run every block of every configuration through all segments, pass by pass, and merge what they measured."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sgdsim._types import cast
from sgdsim.engine import memory
from sgdsim.engine.advance import Shared
from sgdsim.engine.blocks import Blocks, plan_blocks
from sgdsim.engine.checkpoint import Checkpoint, Saver
from sgdsim.engine.checkpoint_files import refuse_other
from sgdsim.engine.collector import Collector, Finals, Measured, Part, join
from sgdsim.engine.configure import Run
from sgdsim.engine.devices import make_mesh, replicate, resolve_devices
from sgdsim.engine.identity import identity
from sgdsim.engine.many_steps import many_steps_of
from sgdsim.engine.one_pass import Execution, Program, one_pass
from sgdsim.engine.passes import Configuration, cut_into_passes
from sgdsim.engine.progress import ProgressBar
from sgdsim.engine.schedule import plan_segments
from sgdsim.engine.stopping import look_times, relative_errors
from sgdsim.kernels import Kernel, kernel_table
from sgdsim.optimizers import Optimizer
from sgdsim.problems import Problem


class Ensemble(NamedTuple):
    """All configurations, how they were laid out, and how it went."""

    measured: list[Measured]
    blocks: Blocks
    devices: list[jax.Device]
    steps_done: int
    interrupted: bool
    seconds: float
    how: dict[str, Any]  # for the provenance


def run_ensemble(
    problem: Problem,
    kernels: Sequence[Kernel],
    optimizers: Sequence[Optimizer],
    configurations: Sequence[Configuration],
    run: Run,
    execution: Execution,
) -> Ensemble:
    """Simulate every configuration; all of them are one compilation."""
    begun = time.perf_counter()
    with precision(run.dtype):
        chosen = resolve_devices(execution.devices)
        mesh, platform = make_mesh(chosen), chosen[0].platform
        blocks = plan_blocks(run.chains, problem.dimension, platform)
        units = len(configurations) * blocks.number
        asked = memory.check_passes(execution.passes, units, execution.target)
        signature = _signature(run, problem, platform, execution)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *optimizers) if optimizers else None
        table = kernel_table(kernels)
        shared = cast(Shared(table, stacked, problem, run.statistics), run.dtype)
        fused = many_steps_of(platform, table, optimizers, run)
        looks = look_times(run) if execution.target else []
        plan = list(plan_segments(run.steps, run.burn_in, run.thin, bool(run.statistics), run.record,
                                  len(configurations) * run.chains * problem.dimension, looks, platform))
        need = memory.estimate(run, shared, blocks, len(configurations), chosen, execution.checkpoint is not None,
                               fused)
        passes = memory.choose_passes(asked, need, units, run, execution.checkpoint, mesh)
        portions = cut_into_passes(units, passes)
        longest = portions[0].stop - portions[0].first
        program = Program(run, replicate(shared, mesh), configurations, blocks, mesh,
                           -(-longest // len(chosen)) * len(chosen), plan, looks, fused, execution)
        finals = Finals(run, blocks, len(configurations))
        parts: list[Part] = []
        resumed: list[tuple[int, int]] = []
        passes_done, interrupted = 0, False
        with ProgressBar(run.steps * len(portions), "simulate", execution.progress) as bar:
            for number, portion in enumerate(portions):
                collector = Collector(run, blocks, len(configurations), portion)
                saver = _saver(execution.checkpoint, number, len(portions), signature)
                update = functools.partial(_move, bar, number * run.steps)
                try:
                    with contextlib.closing(saver) if saver else contextlib.nullcontext():
                        ended = one_pass(program, portion, collector, saver, update)
                except KeyboardInterrupt:  # before the first step of this pass
                    if not parts:
                        raise
                    interrupted = True
                    break
                finals.take(portion, ended.at.states)
                parts.append(Part(portion, collector, ended.at.collected))
                ended = ended._replace(at=ended.at._replace(states=None))  # the next pass needs the memory
                if ended.resumed_from is not None:
                    resumed.append((number, ended.resumed_from))
                if ended.interrupted:
                    interrupted = True
                    break
                passes_done += 1
        measured = join(run, blocks, parts, finals)
    how = {
        "stopped": "interrupted" if interrupted else "target_stderr reached" if ended.at.reached else "all steps",
        "target_stderr": execution.target,
        "relative_stderr": _largest_errors(program, parts) if execution.target else None,
        "resumed_from_step": resumed[-1][1] if resumed else None,
        "resumed_from_pass": resumed[-1][0] if resumed and len(portions) > 1 else None,
        "passes": len(portions),
        "passes_done": passes_done,
        "hosts": len({device.process_index for device in chosen}),
        "memory_estimate": need.of(longest),
        "steps_per_launch": "one" if fused is None else "many",
    }
    return Ensemble(measured, blocks, chosen, ended.at.done, interrupted, time.perf_counter() - begun, how)


def precision(dtype: np.dtype) -> Any:
    """Double precision inside, where chains ask for it; whatever the user has set stays outside."""
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


def _move(bar: ProgressBar, before: int, done: int) -> None:
    bar.update(before + done)


def _largest_errors(program: Program, parts: list[Part]) -> dict[str, float]:
    """Relative standard errors of what has a target, the largest of all configurations, at the end."""
    whole = [h for h in parts[0].collector.join_halves(parts[0].collected).halves if h is not None]
    names = list(program.execution.target or ())
    if not whole:
        return dict.fromkeys(names, np.inf)
    found = [relative_errors(program.run, parts[0].collector.of(c, whole[0]), names)
             for c in range(len(program.configurations))]
    return {name: max(errors[name] for errors in found) for name in names}


def _signature(run: Run, problem: Problem, platform: str, execution: Execution) -> dict[str, str]:
    """What checkpoints of this run must say; those of another run are refused."""
    if execution.checkpoint is None:
        return {}
    rest = execution.identity | {"target_stderr": execution.target}
    signature = identity(run, problem, rest.pop("optimizer"), platform, rest)
    refuse_other(Path(execution.checkpoint.path), signature)
    return signature


def _saver(checkpoint: Checkpoint | None, number: int, passes: int, signature: dict[str, str]) -> Saver | None:
    if checkpoint is None:
        return None
    return Saver(checkpoint, Path(checkpoint.path) / f"pass_{number:04d}", signature | {"passes": str(passes)})
