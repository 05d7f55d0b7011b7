"""`simulate`: one problem, one optimizer, one batch size, thousands to millions of chains."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import jax
import optax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim._specs import own_settings
from sgdsim.engine.checkpoints.checkpoint import Checkpoint
from sgdsim.engine.control_variate import controlled
from sgdsim.engine.plan.grid import one_point
from sgdsim.engine.plan.plan_run import plan_run
from sgdsim.engine.run.assemble import assemble
from sgdsim.engine.run.loop import run
from sgdsim.optimizers import Optimizer
from sgdsim.problems import BatchSizes, Problem
from sgdsim.results import Result, RunState
from sgdsim.statistics import Statistic


@own_settings
def simulate(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: BatchSizes,
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
    control_variate: bool = False,
    keep_groups: bool | None = None,
    initial_state: RunState | optax.OptState | None = None,
    keep_state: bool = False,
) -> Result:
    """Run independent training runs and measure where they settle.

    Args:
        problem: what is learned.
        optimizer: a sgdsim optimizer, or any optax transformation (one copy for each chain).
        batch_size: examples in a minibatch; for Gaussian problems it costs nothing. A list (one for each step) or a
            function of the step is a schedule.
        chains: independent runs.
        steps: optimizer steps of every chain.
        burn_in: steps before measuring starts; take several relaxation times 1/(learning rate x curvature).
        seed: 0 to 2^32 - 1; the same seed gives the same bits, on any number of devices.
        sampling: "online" for a population; for a data set "with_replacement" (the default), "without_replacement" (a
            fresh subset each step), "epochs" (shuffled passes), "cyclic" (passes in one random order, another in each
            chain: the same batches for ever) or "bernoulli" (every example joins with chance b/n).
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
        keep_groups: whether to keep what `result.derive` needs of 64 independent groups of chains: their totals, then
            every quantity without each of them. None is yes where that takes at most 64 MiB.
        initial_state: `state` of a run of equally many chains: weights, optimizer and sampling go on from there, and
            with the same seed the run is to the last bit the one that never stopped. Or a state of the
            optimizer alone, as its `as_optax().init` makes it for one chain, for all chains. `record`,
            `burn_in` and schedules of batch sizes count from the first step of this call.
        keep_state: whether `result.state` is kept: weights, optimizer (m, v, count of Adam) and sampling of every
            chain.

    Returns:
        A `Result`; diverged chains are counted there and leave the statistics at the step they diverge.

    Raises:
        ValueError: an argument is outside its range, the run does not fit into memory, or the checkpoint is of
            another run (what differs is named): before anything is compiled.

    Warns:
        NotSettled: curvature and learning rate say that more than a tenth of the variance of the slowest direction will
            be missing on average. Not where nothing is measured or `record` follows the run.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
        >>> result = ss.simulate(problem, ss.SGD(0.3), batch_size=8, chains=500, steps=300, burn_in=100)
        >>> result.status, result.covariance.shape
        ('ok', (2, 2))
    """
    grid = one_point(problem, optimizer, batch_size, sampling)
    plan = plan_run(
        problem, optimizer, grid, chains=chains, steps=steps, burn_in=burn_in, seed=seed, statistics=statistics,
        initial=initial, record=record, dtype=dtype, devices=devices, checkpoint=checkpoint, progress=progress,
        passes=passes, target_stderr=target_stderr, control_variate=control_variate,
        initial_state=initial_state, keep_state=keep_state,
    )
    ensemble = run(plan)
    result = assemble(ensemble, 0, keep_groups)
    return controlled(result, ensemble, keep_groups) if control_variate else result
