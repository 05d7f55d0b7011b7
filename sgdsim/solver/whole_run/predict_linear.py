"""`predict` for every optimizer that is linear in gradient, state and parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.optimizers import Optimizer
from sgdsim.optimizers.base import constant
from sgdsim.problems import Problem, check_sampling
from sgdsim.solver.correlations import Process
from sgdsim.solver.linear_algebra.graded import graded_eigh, own_scales
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.whole_run.bisection import largest
from sgdsim.solver.whole_run.expected_losses import expected_losses
from sgdsim.solver.whole_run.gradient_law import LinearProblem, commutes, gradient_law, linear_problem
from sgdsim.solver.whole_run.linear_optimizer import Affine, cycle, read_optimizer
from sgdsim.solver.whole_run.pairs import is_flat
from sgdsim.solver.whole_run.process import process_of
from sgdsim.solver.whole_run.stationary import StationaryState, stationary_state

_FLAT = 1e-13


@functools.partial(jax.jit, static_argnames="sampling")
def _solve(
    problem: LinearProblem, steps: Sequence[Affine], batch_size: float, factor: float, growth: float,
    resting: tuple[Array, Array] | None, *, sampling: str,
) -> StationaryState:
    law = gradient_law(problem, batch_size, sampling)
    scaled = [Affine(*(leaf.at[0].multiply(factor) for leaf in map(jnp.asarray, step))) for step in steps]
    return stationary_state(scaled, law, growth, resting, commutes(problem))


def predict_linear(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: int,
    sampling: str | None,
    approximation: str,
) -> Prediction:
    """The stationary law under the names of `predict`, averaged over the period where there is one (`MultiSteps`).

    `max_learning_rate` is that of an optimizer with a rate; of an optax transformation, the factor by which its updates
    may be multiplied.

    Raises:
        ValueError: as for `predict`.
        NotImplementedError: as for `predict`; the optimizer is not linear, or changes for ever.
    """
    _checks.choice("approximation", approximation, ("exact",))
    problem = linear_problem(problem)
    size, mode = check_sampling(problem, batch_size, sampling)
    factor_of(problem, mode)
    steps, late, solve = _prepare(problem, optimizer, size, mode)
    state = solve()
    rate = constant(optimizer.learning_rate) if isinstance(optimizer, Optimizer) else 1.0
    limit = functools.cache(lambda: rate * largest(lambda x: bool(solve(factor=x).settles)))
    if not state.settles:
        what = ("learning_rate", rate) if isinstance(optimizer, Optimizer) else ("the factor of all updates", 1.0)
        raise _checks.error(*what, f"below {limit():.6g}, where the second moment stops existing",
                            "lower it, or raise batch_size; a direction that nothing pulls back never settles")
    mean, covariance = pooled(state)
    train_loss, test_loss = expected_losses(problem, mean, covariance)
    return Prediction(
        mean=mean,
        covariance=covariance,
        noise_covariance=state.noise.mean(axis=0),
        train_loss=float(train_loss),
        test_loss=float(test_loss),
        max_learning_rate=limit,
        spectral_radius=lambda: 1 / largest(lambda x: bool(solve(growth=1 / x).settles)),
        approximation=approximation,
        regime="exact: the optimizer is linear" + (", in the limit of many steps" if late else ""),
        reference="whole-run.md section 1",
        configuration={
            "problem": repr(problem),
            "optimizer": repr(optimizer) if isinstance(optimizer, Optimizer) else "optax transformation",
            "batch_size": size,
            "sampling": mode,
        },
        process=lambda: process_of(problem, steps, state, size, mode),
    )


def linear_process(
    problem: Problem, optimizer: Optimizer | optax.GradientTransformation, batch_size: int, sampling: str
) -> Process:
    """The stationary process of a linear optimizer whose second moments are known to settle."""
    problem = linear_problem(problem)
    steps, _, solve = _prepare(problem, optimizer, batch_size, sampling)
    return process_of(problem, steps, solve(), batch_size, sampling)


def settle_linear(
    problem: Problem, steps: Sequence[Affine], batch_size: int, sampling: str
) -> StationaryState:
    """Where these steps settle, as NumPy arrays; `settles` says whether they do."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, _solve(linear_problem(problem), steps, float(batch_size), 1.0, 1.0, None,
                                                sampling=sampling))


class _Solve(Protocol):
    def __call__(self, factor: float = 1.0, growth: float = 1.0) -> StationaryState: ...


def _prepare(
    problem: LinearProblem, optimizer: Optimizer | optax.GradientTransformation, batch_size: int, sampling: str
) -> tuple[list[Affine], bool, _Solve]:
    """The steps of one period, whether they are a limit, and the state that they settle in."""
    steps, late = cycle(read_optimizer(optimizer, problem, batch_size))
    resting = _resting(problem, steps)

    def solve(factor: float = 1.0, growth: float = 1.0) -> StationaryState:
        with jax.enable_x64(True):
            found = _solve(problem, steps, float(batch_size), factor, growth, resting, sampling=sampling)
            return jax.tree.map(np.asarray, found)

    return steps, late, solve


def _resting(problem: LinearProblem, steps: Sequence[Affine]) -> tuple[np.ndarray, np.ndarray] | None:
    """Directions that neither the loss nor the optimizer moves, where there are any, and the start.

    Raises:
        ValueError: there are some, and the optimizer does not treat all parameters alike.
    """
    hessian = np.asarray(problem.hessian())
    values, vectors = graded_eigh(hessian)
    with jax.enable_x64(True):
        flat = np.abs(values) <= _FLAT * own_scales(hessian, values, vectors)
        if not flat.any():
            return None
        if len(steps) > 1 or steps[0].a.ndim > 2:
            raise _checks.error("hessian", values[0], "positive definite for this optimizer",
                                "it has directions without curvature: add weight decay, or use ss.SGD")
        if not np.asarray(is_flat(steps[0], jnp.asarray(values))).any():
            return None
    return vectors[:, flat] @ vectors[:, flat].T, np.asarray(problem.default_start)


def pooled(state: StationaryState) -> tuple[Vector, np.ndarray]:
    """Mean and covariance of w over the period."""
    means, covariances = np.asarray(state.mean[:, 0]), np.asarray(state.covariance[:, 0, :, 0])
    spread = means - means.mean(axis=0)
    return means.mean(axis=0), covariances.mean(axis=0) + spread.T @ spread / len(means)
