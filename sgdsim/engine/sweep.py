"""`sweep`: a grid of batch sizes and learning rates in one compilation."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sgdsim import _checks
from sgdsim.engine.assemble import assemble, provenance
from sgdsim.engine.checkpoint import Checkpoint, check_checkpoint
from sgdsim.engine.configure import configure
from sgdsim.engine.ensemble import run_ensemble
from sgdsim.engine.one_pass import Execution
from sgdsim.engine.passes import Configuration
from sgdsim.engine.stopping import check_target
from sgdsim.kernels import make_kernel
from sgdsim.optimizers import resolve
from sgdsim.problems import Problem, check_sampling
from sgdsim.results import SweepResult
from sgdsim.statistics import Statistic


def sweep(
    problem: Problem,
    optimizer: Any,
    *,
    batch_size: Sequence[int] | int,
    learning_rate: Sequence[float] | float | None = None,
    chains: int,
    steps: int,
    burn_in: int = 0,
    seed: int = 0,
    sampling: str | None = None,
    statistics: Sequence[Statistic] | None = None,
    initial: Any = None,
    record: int | Sequence[int] | None = None,
    dtype: Any = None,
    devices: Any = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    progress: bool | None = None,
    passes: int | str | None = None,
    target_stderr: float | Mapping[str, float] | None = None,
) -> SweepResult:
    """Simulate every pair of a batch size and a learning rate; arguments as for `simulate`.

    Every point uses the same seed, hence common random numbers: differences along an axis are sharper
    than the standard errors of the points say, and the points are not independent of each other.

    Args:
        problem: what is learned.
        optimizer: a sgdsim optimizer; its learning rate is replaced by each of `learning_rate`.
        batch_size: one or several batch sizes.
        learning_rate: one or several rates; None keeps the optimizer's own.
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

    Returns:
        A `SweepResult` with the named axes batch_size and learning_rate.

    Raises:
        ValueError: an argument is outside its range, or an axis is empty.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0], label_noise=1.0)
        >>> grid = ss.sweep(problem, ss.SGD(0.1), batch_size=[1, 4], learning_rate=[0.1, 0.2],
        ...                 chains=100, steps=200, burn_in=50)
        >>> grid.covariance.shape
        (2, 2, 1, 1)
    """
    run = configure(
        problem, optimizer, chains=chains, steps=steps, burn_in=burn_in, seed=seed, statistics=statistics,
        initial=initial, record=record, dtype=dtype,
    )
    sizes = [check_sampling(problem, b, sampling) for b in _axis("batch_size", batch_size)]
    if learning_rate is None:
        if run.optimizer is None or callable(run.optimizer.learning_rate):
            raise _checks.error("learning_rate", None, "a list of rates",
                                "sweep over a sgdsim optimizer such as ss.SGD, with learning_rate=[...]")
        learning_rate = float(run.optimizer.learning_rate)
    if run.optimizer is None:
        remedy = "the rate of an optax transformation is fixed: use ss.SGD or ss.Adam"
        raise _checks.error("optimizer", optimizer, "a sgdsim optimizer", remedy)
    rates = [_checks.positive("learning_rate", rate) for rate in _axis("learning_rate", learning_rate)]
    kernels = [make_kernel(problem, size, mode, run.dtype) for size, mode in sizes]
    optimizers: list[Any] = [dataclasses.replace(run.optimizer, learning_rate=rate) for rate in rates]  # type: ignore[type-var]
    resolved = [resolve(optimizer, problem, size) for size, _ in sizes for optimizer in optimizers]
    grid = [(i, j) for i in range(len(sizes)) for j in range(len(rates))]
    configurations = [Configuration(i, k) for k, (i, _) in enumerate(grid)]
    execution = Execution(devices, progress, check_checkpoint(checkpoint), passes, check_target(target_stderr, run),
                          {"optimizer": run.optimizer, "learning_rate": rates, "batch_size": [b for b, _ in sizes],
                           "sampling": sizes[0][1]})
    ensemble = run_ensemble(problem, kernels, resolved, configurations, run, execution)
    results = [
        assemble(measured, run, ensemble,
                 provenance(problem, optimizers[j], *sizes[i], kernels[i], run, ensemble))
        for measured, (i, j) in zip(ensemble.measured, grid, strict=True)
    ]
    axes: dict[str, list[Any]] = {"batch_size": [size for size, _ in sizes], "learning_rate": rates}
    return SweepResult(axes, results)


def _axis(name: str, values: Any) -> list[Any]:
    points = _checks.sequence(name, values)
    if not points or len({str(point) for point in points}) < len(points):
        raise _checks.error(name, values, "one or more distinct values", f"try {name}=[1, 2]")
    return points
