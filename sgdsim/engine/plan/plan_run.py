"""Decide all that `simulate` and `sweep` will do."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import optax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.engine.checkpoints.checkpoint import Checkpoint, check_checkpoint
from sgdsim.engine.checkpoints.files import refuse_other
from sgdsim.engine.checkpoints.identity import digest, identity, program
from sgdsim.engine.plan import budget
from sgdsim.engine.plan.blocks import plan_blocks
from sgdsim.engine.plan.coupling import couple_run
from sgdsim.engine.plan.devices import check_dtype, make_mesh, precision, resolve_devices
from sgdsim.engine.plan.grid import Grid, MakeGrid, share
from sgdsim.engine.plan.launch import launch_of
from sgdsim.engine.plan.passes import cut_into_passes
from sgdsim.engine.plan.plan import Plan
from sgdsim.engine.plan.request import Request, check_request
from sgdsim.engine.plan.schedule import last_look, plan_segments, thin_across
from sgdsim.engine.plan.settling import warn_if_short
from sgdsim.engine.plan.target import check_target, look_times
from sgdsim.engine.run.run_state import StateLayout, begin_at
from sgdsim.kernels import scheduled_kernel
from sgdsim.optimizers import Optimizer
from sgdsim.problems import Problem
from sgdsim.problems.sampling import PASSES
from sgdsim.results import RunState
from sgdsim.statistics import Statistic


def plan_run(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    make_grid: MakeGrid,
    *,
    chains: int,
    steps: int,
    burn_in: int,
    seed: int,
    statistics: Sequence[Statistic] | None,
    initial: ArrayLike | None,
    record: int | Sequence[int] | None,
    dtype: DTypeLike | None,
    devices: int | Sequence[jax.Device] | None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None,
    progress: bool | None,
    passes: int | str | None,
    target_stderr: float | Mapping[str, float] | None,
    control_variate: bool = False,
    initial_state: object = None,
    keep_state: bool = False,
) -> Plan:
    """Check every argument and decide the rest, before anything is compiled.

    Arguments are those of `simulate` and `sweep`; batch sizes and what is swept come as a grid.
    """
    begun = time.perf_counter()
    request = check_request(problem, optimizer, chains=chains, steps=steps, burn_in=burn_in, seed=seed,
                            statistics=statistics, initial=initial, record=record, dtype=dtype)
    keep = _checks.flag("keep_state", keep_state)
    if initial_state is not None or keep:
        if control_variate:
            raise _checks.error("control_variate", True, "False where a state is kept or given", "leave it out")
        if isinstance(initial_state, RunState) and initial is not None:
            raise _checks.error("initial", initial, "None where initial_state has weights", "leave it out")
        request = begin_at(request, initial_state)
    grid = make_grid(request)
    simulated, companion = problem, None
    if control_variate:
        simulated, request, grid, companion = couple_run(problem, request, grid)
    points = grid.points
    request, until = _over_periods(request, grid, problem)
    warn_if_short(problem, request, [(p.asked, p.batch_size) for p in points if isinstance(p.batch_size, int)])
    kernels = tuple(scheduled_kernel(simulated, sizes, grid.sampling, request.dtype) for sizes in grid.batches)
    saved, target = check_checkpoint(checkpoint), check_target(target_stderr, request)
    with precision(request.dtype):
        chosen = resolve_devices(devices)
        check_dtype(chosen[0].platform, request.dtype)
        mesh, platform = make_mesh(chosen), chosen[0].platform
        blocks = plan_blocks(request.chains, request.dimension, platform)
        units = len(points) * blocks.number
        asked = budget.check_passes(passes, units, target)
        shared = share(simulated, kernels, grid, request)
        launch = launch_of(platform, shared, request)
        layout = StateLayout(request, shared, blocks) if initial_state is not None or keep else None
        if isinstance(initial_state, RunState) and not isinstance(points[0].batch_size, int):
            raise _checks.error("batch_size", "a schedule", "one number where initial_state has a sampler",
                                "run each batch size on its own")
        state = layout.check(initial_state) if layout and initial_state is not None else None
        says: dict[str, str] = {}
        if saved is not None:
            where = {"batch_size": points[0].batch_size, **grid.axes, "points": len(points), "sampling": grid.sampling,
                     "target_stderr": target, "name": saved.name,
                     "program": program(shared, request, blocks, launch, saved.name)}
            if state is not None:
                where["initial_state"] = digest(state)
            says = identity(request, simulated, platform, where)
            refuse_other(Path(saved.path), says)
        looks = look_times(request) if target else []
        segments = plan_segments(request.steps, request.burn_in, request.thin, bool(request.statistics), request.record,
                                 len(points) * request.chains * request.dimension, looks, platform, until)
        need = budget.estimate(request, shared, blocks, len(points), chosen, saved is not None, launch)
        cut = cut_into_passes(units, budget.choose_passes(asked, need, units, request, saved, mesh))
    return Plan(
        problem=problem, request=request, points=points, axes=grid.axes, kernels=kernels, shared=shared, devices=chosen,
        mesh=mesh, blocks=blocks, passes=cut, segments=list(segments), begun=begun, progress=progress, target=target,
        looks=looks, launch=launch, need=need, checkpoint=saved, identity=says, companion=companion,
        layout=layout, keep_state=keep, state=state,
    )


def _over_periods(request: Request, grid: Grid, problem: Problem) -> tuple[Request, int | None]:
    """Measure what repeats with a period at all its places; and where measuring ends then."""
    thin, until = request.thin, None
    if request.transform is not None:
        thin, until = thin_across(thin, None), request.steps
    if grid.sampling in PASSES:
        periods = [-(-(problem.n_examples or 1) // int(sizes[0])) for sizes in grid.batches]
        thin = thin_across(thin, periods)
        until = last_look(request.steps, request.burn_in, thin, periods)
    return request._replace(thin=thin), until
