"""Validate what a user asks of a run, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim.engine.schedule import default_thin
from sgdsim.optimizers import Optimizer, check_optimizer
from sgdsim.problems import DeepLinear, Problem, TwoLayerLinear
from sgdsim.statistics import GradientNoise, LargestDeviations, Losses, Moments, ProductMoments, Statistic

# Beyond it the D x D sums of every group would outgrow the chains themselves.
_FULL_COVARIANCE = 256


class Run(NamedTuple):
    """A validated request."""

    chains: int
    steps: int
    burn_in: int
    thin: int
    seed: int
    dtype: np.dtype
    statistics: tuple[Statistic, ...]
    record: list[int]
    initial: np.ndarray  # (D,) or (chains, D)
    optimizer: Optimizer | None  # None where `transform` is given
    transform: Any  # an optax transformation


def configure(
    problem: Problem,
    optimizer: Any,
    *,
    chains: Any,
    steps: Any,
    burn_in: Any,
    seed: Any,
    statistics: Sequence[Statistic] | None,
    initial: Any,
    record: Any,
    dtype: Any,
) -> Run:
    """Check every argument that does not depend on the batch size."""
    if not isinstance(problem, Problem):
        raise _checks.error("problem", problem, "a sgdsim problem", "try ss.LinearRegression(covariance=[1.0])")
    chains = _checks.integer("chains", chains)
    steps = _checks.integer("steps", steps, high=2**31 - 2)
    burn_in = _checks.integer("burn_in", burn_in, low=0, high=steps - 1,
                              remedy=f"leave steps to measure: burn_in={steps // 5} of steps={steps}")
    known, transform = check_optimizer(optimizer, problem.dimension)
    if statistics is not None and not isinstance(statistics, Sequence):
        raise _checks.error("statistics", statistics, "a list of statistics, or None for the default",
                            "try statistics=[ss.statistics.Moments()], or () to measure nothing")
    chosen = default_statistics(problem) if statistics is None else tuple(statistics)
    for statistic in chosen:
        if not all(hasattr(statistic, name) for name in ("init", "update", "collect", "merge", "finalize")):
            raise _checks.error("statistics", statistic, "statistics with init, update, collect, merge, finalize",
                                "try ss.statistics.Moments()")
    return Run(
        chains=chains,
        steps=steps,
        burn_in=burn_in,
        thin=default_thin(steps - burn_in, problem.dimension, getattr(problem, "loss_examples", 0)),
        seed=_checks.integer("seed", seed, low=0, high=2**32 - 1, remedy="try seed=0"),
        dtype=_check_dtype(dtype),
        statistics=chosen,
        record=_check_record(record, steps),
        initial=_check_initial(initial, problem, chains),
        optimizer=known,
        transform=transform,
    )


def default_statistics(problem: Problem) -> tuple[Statistic, ...]:
    """Full covariances up to 256 parameters, variances alone beyond; losses, gradient noise and the tail.

    A linear network's product settles where its weights do not: it is measured too.
    """
    product: tuple[Statistic, ...] = ()
    if isinstance(problem, TwoLayerLinear | DeepLinear) and problem.target.size <= _FULL_COVARIANCE:
        product = (ProductMoments(problem),)
    if problem.dimension <= _FULL_COVARIANCE:
        return Moments(), Losses(), GradientNoise(), LargestDeviations(), *product
    return Moments(full=False), Losses(), LargestDeviations(), *product


def _check_dtype(dtype: Any) -> np.dtype:
    if dtype is None:
        return np.dtype(jnp.result_type(float))
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    return np.dtype(_checks.choice("dtype", name, ("float32", "float64")))


def _check_record(record: Any, steps: int) -> list[int]:
    if record is None:
        return []
    steps_wanted = _checks.sequence("record", record)
    if np.ndim(record) == 0:
        every = _checks.integer("record", record, high=steps, remedy="record every so many steps, or list steps")
        return list(range(0, steps, every))
    return sorted({_checks.integer("record", step, low=0, high=steps - 1) for step in steps_wanted})


def _check_initial(initial: Any, problem: Problem, chains: int) -> np.ndarray:
    if initial is None:
        return np.asarray(problem.default_start, dtype=np.float64)
    start = _checks.finite_array("initial", initial)
    shapes = ((problem.dimension,), (chains, problem.dimension))
    if start.shape not in shapes:
        raise _checks.error("initial", initial, f"of shape {shapes[0]} or {shapes[1]} (got {start.shape})",
                            "give one point for all chains, or one row per chain")
    return start
