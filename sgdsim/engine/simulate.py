"""`simulate`: one problem, one optimizer, one batch size, thousands to millions of chains."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from sgdsim.engine.assemble import assemble, provenance
from sgdsim.engine.checkpoint import Checkpoint, check_checkpoint
from sgdsim.engine.configure import configure
from sgdsim.engine.control_variate import controlled, couple_run
from sgdsim.engine.ensemble import run_ensemble
from sgdsim.engine.one_pass import Execution
from sgdsim.engine.passes import Configuration
from sgdsim.engine.stopping import check_target
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
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    progress: bool | None = None,
    passes: int | str | None = None,
    target_stderr: float | Mapping[str, float] | None = None,
    control_variate: bool = False,
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
        devices: None for every device, a number (the first so many of each host), or a list of devices.
        checkpoint: a folder, or `ss.Checkpoint(...)`: state is saved there every two seconds, after Ctrl-C and at the
            end, and the same call goes on from it, to the same bits. A folder belongs to one run.
        progress: True or False; None shows a bar on a terminal or notebook after two seconds.
        passes: chains run in so many passes, one after the other, each needing a part of the memory; "auto" takes the
            fewest that fit. The numbers stay the same, bit for bit. None is one pass.
        target_stderr: stop before `steps` once the relative standard error of the trace of the covariance is below
            it; or a mapping from quantities to such errors, all of which must be met. Looked at when the measured
            stretch is 1/32, 1/16, ... 1/2 of the whole, with a margin: see the page on the engine.
        control_variate: run a linear companion of known covariance on the same random numbers beside every chain, and
            subtract what it is off by: the standard errors of mean and covariance shrink by a factor of 2 to 20, the
            time doubles. For SGD on `Quadratic`, `LinearRegression` and `DatasetRegression`; `result.control_gain` says
            how many times fewer chains are needed. The covariance of the companion is theory of its own: for a test
            of theory against simulation alone leave it off.

    Returns:
        A `Result`; diverged chains are counted there and leave the statistics at the step they diverge.

    Raises:
        ValueError: an argument is outside its range, the run does not fit into memory, or the checkpoint is of
            another run (what differs is named): before anything is compiled.
        ImportError: `checkpoint` is given and orbax-checkpoint is not installed.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
        >>> result = ss.simulate(problem, ss.SGD(0.3), batch_size=8, chains=500, steps=300, burn_in=100)
        >>> result.status, result.covariance.shape
        ('ok', (2, 2))
    """
    run = configure(
        problem, optimizer, chains=chains, steps=steps, burn_in=burn_in, seed=seed, statistics=statistics,
        initial=initial, record=record, dtype=dtype,
    )
    size, mode = check_sampling(problem, batch_size, sampling)
    simulated: Any = problem
    if control_variate:
        simulated, run = couple_run(problem, run, size, mode)
    kernel = make_kernel(simulated, size, mode, run.dtype)
    optimizers = [] if run.optimizer is None else [resolve(run.optimizer, simulated, size)]
    execution = Execution(devices, progress, check_checkpoint(checkpoint), passes, check_target(target_stderr, run),
                          {"optimizer": optimizer, "batch_size": size, "sampling": mode})
    ensemble = run_ensemble(simulated, [kernel], optimizers, [Configuration(0, 0)], run, execution)
    origin = provenance(problem, optimizer, size, mode, kernel, run, ensemble) | {"control_variate": control_variate}
    result = assemble(ensemble.measured[0], run, ensemble, origin)
    return controlled(result, ensemble, run, simulated, size, mode) if control_variate else result
