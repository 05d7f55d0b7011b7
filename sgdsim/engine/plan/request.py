"""Validate what a user asks of a run, before anything is compiled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.engine.plan.schedule import default_thin
from sgdsim.optimizers import Optimizer, check_optimizer, check_schedules
from sgdsim.optimizers.base import AdaptiveOptimizer
from sgdsim.problems import Problem
from sgdsim.problems.parts.linear_layers import LinearLayers
from sgdsim.problems.parts.traced import traced
from sgdsim.statistics import Average, GradientNoise, LargestDeviations, Losses, Moments, ProductMoments, Statistic

# Beyond it the D x D sums of every group would outgrow the chains themselves.
_FULL_COVARIANCE = 256


class Request(NamedTuple):
    """What was asked for, validated."""

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
    transform: optax.GradientTransformation | None

    @property
    def dimension(self) -> int:
        """Number of parameters of a chain."""
        return self.initial.shape[-1]


def check_request(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    chains: int,
    steps: int,
    burn_in: int = 0,
    seed: int = 0,
    statistics: Sequence[Statistic] | None = (),
    initial: ArrayLike | None = None,
    record: int | Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
) -> Request:
    """Check every argument that does not depend on the batch size."""
    if not isinstance(problem, Problem):
        raise _checks.error("problem", problem, "a sgdsim problem", "try ss.LinearRegression(covariance=[1.0])")
    chains = _checks.integer("chains", chains)
    steps = _checks.integer("steps", steps, high=2**31 - 2)
    burn_in = _checks.integer("burn_in", burn_in, low=0, high=steps - 1,
                              remedy=f"leave steps to measure: burn_in={steps // 5} of steps={steps}")
    known, transform = check_optimizer(optimizer, problem.dimension)
    check_schedules(known, steps)
    precision = _check_dtype(dtype)
    check_decays(known, precision)
    if transform is not None and precision == np.float32:
        _check_powers(transform, problem.dimension)
    _check_scaling(known, problem.dimension)
    return Request(
        chains=chains,
        steps=steps,
        burn_in=burn_in,
        thin=default_thin(steps - burn_in, problem.dimension, getattr(problem, "loss_examples", 0)),
        statistics=default_statistics(problem) if statistics is None else _check_statistics(statistics, problem),
        seed=_checks.integer("seed", seed, low=0, high=2**32 - 1, remedy="try seed=0"),
        dtype=precision,
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
    if isinstance(problem, LinearLayers) and problem.target.size <= _FULL_COVARIANCE:
        product = (ProductMoments(problem),)
    if problem.dimension <= _FULL_COVARIANCE:
        return Moments(), Losses(), GradientNoise(), LargestDeviations(), *product
    return Moments(full=False), Losses(), LargestDeviations(), *product


def _check_statistics(statistics: Sequence[Statistic], problem: Problem) -> tuple[Statistic, ...]:
    if not isinstance(statistics, Sequence):
        raise _checks.error("statistics", statistics, "a list of statistics, or None for the default",
                            "try statistics=[ss.statistics.Moments()], or () to measure nothing")
    for statistic in statistics:
        offered = all(hasattr(statistic, name) for name in ("init", "update", "collect", "merge", "finalize"))
        if isinstance(statistic, type) or not offered:
            raise _checks.error("statistics", statistic, "statistics with init, update, collect, merge, finalize",
                                "try ss.statistics.Moments()")
        if isinstance(statistic, Average):
            statistic.check(problem)
    return tuple(statistics)


def _check_scaling(optimizer: Optimizer | None, dimension: int) -> None:
    """Functions of a user's adaptive optimizer keep the shape of what they are given."""
    if not isinstance(optimizer, AdaptiveOptimizer):
        return
    for name in ("V", "S"):
        given = jax.ShapeDtypeStruct((dimension, 1), jnp.float32)
        made = traced(name, getattr(optimizer, name), given, wanted="a function", remedy="write it with jax.numpy")
        if getattr(made, "shape", None) != given.shape:
            raise _checks.error(name, getattr(optimizer, name), f"a function that keeps the shape {given.shape} "
                                f"(got {made})", "it works within each chain, which are on the last axis")


def check_decays(optimizer: Optimizer | None, dtype: np.dtype) -> None:
    """Averages that forget nothing in this precision divide 0 by 0 where they are corrected for their start."""
    for name in ("b1", "b2", "momentum"):
        decay = getattr(optimizer, name, None)
        if decay is not None and not callable(decay) and np.any(np.asarray(decay).astype(dtype) >= 1):
            raise _checks.error(name, np.asarray(decay).max(), f"below 1 in {dtype.name}, to which it is rounded",
                                'pass dtype="float64"')


def _check_powers(transform: optax.GradientTransformation, dimension: int) -> None:
    """The same of an optax transformation, whose decays are constants of its program: 1 - decay^t is 0."""
    w = jax.ShapeDtypeStruct((dimension,), jnp.float32)
    program = str(jax.make_jaxpr(lambda w: transform.update(w, transform.init(w), w)[0])(w))
    for base in re.findall(r"= pow ([\d.]+):", program):
        if np.float32(base) == 1:
            raise _checks.error("optimizer", f"an optax transformation with a decay of {base}",
                                "one whose decays are below 1 in float32, to which they are rounded",
                                'pass dtype="float64"')


def _check_dtype(dtype: DTypeLike | None) -> np.dtype:
    if dtype is None:
        return np.dtype(jnp.result_type(float))
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    return np.dtype(_checks.choice("dtype", name, ("float32", "float64")))


def _check_record(record: int | Sequence[int] | None, steps: int) -> list[int]:
    if record is None:
        return []
    steps_wanted = _checks.sequence("record", record)
    if np.ndim(record) == 0:
        every = _checks.integer("record", record, high=steps, remedy="record every so many steps, or list steps")
        return list(range(0, steps, every))
    return sorted({_checks.integer("record", step, low=0, high=steps - 1) for step in steps_wanted})


def _check_initial(initial: ArrayLike | None, problem: Problem, chains: int) -> np.ndarray:
    if initial is None:
        return np.asarray(problem.default_start, dtype=np.float64)
    start = _checks.finite_array("initial", initial)
    shapes = ((problem.dimension,), (chains, problem.dimension))
    if start.shape not in shapes:
        raise _checks.error("initial", initial, f"of shape {shapes[0]} or {shapes[1]} (got {start.shape})",
                            "give one point for all chains, or one row per chain")
    return start
