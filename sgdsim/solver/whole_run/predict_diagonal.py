"""`predict` for many parameters where everything is diagonal: D numbers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import SGD, Optimizer
from sgdsim.optimizers.base import constant
from sgdsim.problems import Problem, check_sampling
from sgdsim.solver.laws.table import stationary_law_of
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.whole_run.bisection import largest
from sgdsim.solver.whole_run.diagonal import (
    DiagonalState,
    diagonal_law,
    diagonal_losses,
    is_diagonal,
    stationary_diagonal,
)
from sgdsim.solver.whole_run.gradient_law import LinearProblem, linear_problem
from sgdsim.solver.whole_run.linear_optimizer import Affine, cycle, read_optimizer

WIDE = 256  # parameters up to which full covariances are computed
_STORED = 4096  # parameters up to which a D x D matrix is written out


def is_wide(problem: Problem, optimizer: object) -> bool:
    """Whether there are more than 256 parameters, each on its own in problem and optimizer."""
    if problem.dimension <= WIDE or not isinstance(problem, LinearProblem) or not is_diagonal(problem):
        return False
    if problem.dimension <= _STORED and np.any(getattr(problem, "weight_decay", 0)):
        return False  # the bias correlates parameters: covariances by the dense route
    return isinstance(optimizer, SGD) and (optimizer.preconditioner is None or optimizer.preconditioner.ndim == 1)


@jax.jit
def _solve(problem: LinearProblem, step: Affine, batch_size: float, factor: float, growth: float) -> DiagonalState:
    scaled = Affine(*(jnp.asarray(leaf).at[0].multiply(factor) for leaf in step))
    return stationary_diagonal(scaled, diagonal_law(problem, batch_size), growth)


def predict_diagonal(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: int,
    sampling: str | None,
    approximation: str,
) -> Prediction:
    """The law of `stationary_diagonal` under the names of `predict`: variances, and covariances up to 4,096 parameters.

    Raises:
        ValueError: as for `predict`.
        NotImplementedError: as for `predict`.
    """
    _checks.choice("approximation", approximation, ("exact",))
    problem = linear_problem(problem)
    size, mode = check_sampling(problem, batch_size, sampling)
    law = stationary_law_of(problem)
    assert isinstance(optimizer, SGD), "see `is_wide`"
    if callable(optimizer.learning_rate) or callable(optimizer.momentum):
        raise NotImplementedError(
            "learning_rate is a schedule, but a stationary law needs a constant rate; pass its final value"
        )
    (step,), _ = cycle(read_optimizer(optimizer, problem, size))

    def solve(factor: float = 1.0, growth: float = 1.0) -> DiagonalState:
        with jax.enable_x64(True):
            return _solve(problem, step, float(size), factor, growth)

    state, rate = solve(), constant(optimizer.learning_rate)
    limit = functools.cache(lambda: rate * largest(lambda x: bool(solve(factor=x).settles)))
    if not state.settles:
        raise _checks.error("learning_rate", rate, f"below {limit():.6g}, where the second moment stops existing",
                            "lower it, or raise batch_size; a direction that nothing pulls back never settles")
    mean, variance = np.asarray(state.mean[0]), np.asarray(state.covariance[0, 0])
    train_loss, test_loss = diagonal_losses(problem, mean, variance)
    regime, reference = law.exact
    return Prediction(
        mean=mean,
        covariance=functools.partial(_matrix, variance, problem),
        noise_covariance=functools.partial(_matrix, np.asarray(state.noise), problem),
        variances=variance,
        train_loss=float(train_loss),
        test_loss=float(test_loss),
        max_learning_rate=limit,
        spectral_radius=lambda: 1 / largest(lambda x: bool(solve(growth=1 / x).settles)),
        approximation=approximation,
        regime=regime,
        reference=f"{reference}; whole-run.md section 2",
        configuration={
            "problem": repr(problem),
            "optimizer": repr(optimizer),
            "batch_size": size,
            "sampling": mode,
        },
    )


def _matrix(diagonal: Vector, problem: Problem) -> Matrix:
    """The D x D matrix of variances, where nothing correlates two parameters and it is not too large to write out.

    Raises:
        AttributeError: it is.
    """
    d = problem.dimension
    if d > _STORED or np.any(getattr(problem, "weight_decay", 0)):
        raise AttributeError(f"{d} x {d} covariances were not computed, only variances: read .variance")
    return np.diag(diagonal)
