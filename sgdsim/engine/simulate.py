"""`simulate`: one problem, one optimizer, one batch size, thousands to millions of chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgdsim.engine.assemble import assemble, provenance
from sgdsim.engine.configure import configure
from sgdsim.engine.ensemble import Configuration, run_ensemble
from sgdsim.kernels import make_kernel
from sgdsim.optimizers import resolve
from sgdsim.problems import Problem, check_sampling
from sgdsim.results import Result
from sgdsim.statistics import Statistic


def simulate(
    problem: Problem,
    optimizer: Any,
    *,
    batch_size: int,
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
    checkpoint: None = None,
    progress: bool | None = None,
) -> Result:
    """Run independent training runs and measure where they settle.

    Args:
        problem: what is learned.
        optimizer: a sgdsim optimizer, or any optax transformation (one copy for each chain).
        batch_size: examples in a minibatch; for Gaussian problems it costs nothing.
        chains: independent runs.
        steps: optimizer steps of every chain.
        burn_in: steps before measuring starts; take several relaxation times 1/(learning rate x curvature).
        seed: 0 to 2^32 - 1; the same seed gives the same bits, on any number of devices.
        sampling: "online" for a population; "with_replacement" (the default), "without_replacement" or
            "epochs" for a data set.
        statistics: what to accumulate; None means moments, losses and gradient noise. () measures nothing.
        initial: one point (D,) or one per chain (chains, D); None is the problem's default start.
        record: steps at which ensemble statistics are kept as time series: a list, or every so many.
        dtype: "float32" or "float64"; None is JAX's default. Statistics are merged in float64 either way.
        devices: None for every local device, a number, or a list of devices.
        checkpoint: not available yet; must be None.
        progress: True or False; None shows a bar on a terminal or notebook after two seconds.

    Returns:
        A `Result`; diverged chains are counted there and leave the statistics at the step they diverge.

    Raises:
        ValueError: an argument is outside its range, before anything is compiled.
        NotImplementedError: `checkpoint` is given.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
        >>> result = ss.simulate(problem, ss.SGD(0.3), batch_size=8, chains=500, steps=300, burn_in=100)
        >>> result.status, result.covariance.shape
        ('ok', (2, 2))
    """
    if checkpoint is not None:
        raise NotImplementedError("checkpoint= is not available yet; run in shorter pieces with initial=result.final")
    run = configure(
        problem, optimizer, chains=chains, steps=steps, burn_in=burn_in, seed=seed, statistics=statistics,
        initial=initial, record=record, dtype=dtype,
    )
    size, mode = check_sampling(problem, batch_size, sampling)
    kernel = make_kernel(problem, size, mode, run.dtype)
    optimizers = [] if run.optimizer is None else [resolve(run.optimizer, problem, size)]
    ensemble = run_ensemble(problem, [kernel], optimizers, [Configuration(0, 0)], run, devices, progress)
    origin = provenance(problem, optimizer, size, mode, kernel, run, ensemble)
    return assemble(ensemble.measured[0], run, ensemble, origin)
