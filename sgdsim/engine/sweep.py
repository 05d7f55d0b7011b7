"""`sweep`: a grid of batch sizes, learning rates and other hyperparameters in one compilation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import cast

import jax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim._specs import own_settings
from sgdsim.engine.checkpoints.checkpoint import Checkpoint
from sgdsim.engine.plan.grid import combinations
from sgdsim.engine.plan.plan_run import plan_run
from sgdsim.engine.run.assemble import assemble
from sgdsim.engine.run.loop import run
from sgdsim.optimizers import Optimizer
from sgdsim.problems import BatchSizes, Problem
from sgdsim.results import SweepResult
from sgdsim.statistics import Statistic


@own_settings
def sweep(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: Sequence[BatchSizes] | BatchSizes,
    learning_rate: Sequence[float] | float | None = None,
    zip: bool = False,
    chains: int,
    steps: int,
    burn_in: int = 0,
    seed: int = 0,
    sampling: str | None = None,
    statistics: Sequence[Statistic] | None = None,
    initial: ArrayLike | None = None,
    record: int | Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    progress: bool | None = None,
    passes: int | str | None = None,
    target_stderr: float | Mapping[str, float] | None = None,
    keep_groups: bool | None = None,
    **hyperparameters: Sequence[float] | float,
) -> SweepResult:
    """Simulate every combination of batch size, learning rate and other hyperparameters; arguments as for `simulate`.

    Every point uses the same seed, hence common random numbers: differences along an axis are sharper
    than the standard errors of the points say, and the points are not independent of each other.

    Args:
        problem: what is learned.
        optimizer: a sgdsim optimizer; what is swept takes the place of its own.
        batch_size: one or several batch sizes; in a list each may be a schedule as for `simulate`: a function of the
            step, or a list of one number a step.
        learning_rate: one or several rates; None keeps the optimizer's own.
        zip: walk through all lists side by side, as Python's zip does, instead of combining each with each; they are
            equally long, or single values. The one axis is then called point.
        chains: independent runs of every point.
        steps: optimizer steps of every chain.
        burn_in: steps before measuring starts.
        seed: as for `simulate`.
        sampling: as for `simulate`.
        statistics: as for `simulate`.
        initial: as for `simulate`.
        record: as for `simulate`.
        dtype: as for `simulate`.
        devices: as for `simulate`.
        checkpoint: as for `simulate`.
        progress: as for `simulate`.
        passes: as for `simulate`.
        target_stderr: as for `simulate`; every point must meet it.
        keep_groups: as for `simulate`; None keeps them where those of all points take at most 64 MiB.
        hyperparameters: one or several values of any other number that the optimizer has, by its name: momentum, b1,
            b2, eps, weight_decay, exponent.

    Returns:
        A `SweepResult` with the named axes batch_size, learning_rate, and one for each of `hyperparameters`. Where a
            batch size is a schedule, the axis in its place is called schedule and counts them.

    Raises:
        ValueError: an argument is outside its range, an axis is empty, or the optimizer has no such number.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0], label_noise=1.0)
        >>> grid = ss.sweep(problem, ss.SGD(0.1), batch_size=[1, 4], learning_rate=[0.1, 0.2],
        ...                 chains=100, steps=200, burn_in=50)
        >>> grid.covariance.shape
        (2, 2, 1, 1)
    """
    swept = {"learning_rate": learning_rate, **hyperparameters}
    grid = combinations(problem, optimizer, batch_size, swept, sampling, zip)
    plan = plan_run(
        problem, optimizer, grid, chains=chains, steps=steps, burn_in=burn_in, seed=seed, statistics=statistics,
        initial=initial, record=record, dtype=dtype, devices=devices, checkpoint=checkpoint, progress=progress,
        passes=passes, target_stderr=target_stderr,
    )
    ensemble = run(plan)
    results = [assemble(ensemble, point, keep_groups) for point in range(len(plan.points))]
    optimizers = [cast(Optimizer, point.asked) for point in plan.points]
    axes = {"point": list(range(len(results)))} if zip else dict(plan.axes)
    return SweepResult(axes, results, (problem, optimizers))
