"""The same laws as pure functions of every number: for `jit`, `vmap` and `grad`, in double precision."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike

from sgdsim.optimizers import SGD, Optimizer
from sgdsim.problems import check_sampling
from sgdsim.solver.whole_run.diagonal import (
    diagonal_law,
    diagonal_losses,
    is_diagonal,
    move_diagonal,
    pairs_of,
    stationary_diagonal,
)
from sgdsim.solver.whole_run.expected_losses import expected_losses
from sgdsim.solver.whole_run.gradient_law import LinearProblem, commutes, gradient_law
from sgdsim.solver.whole_run.linear_optimizer import LinearOptimizer, as_sgd, clock_of, described
from sgdsim.solver.whole_run.motion import move
from sgdsim.solver.whole_run.stationary import stationary_state


class Law(NamedTuple):
    """Of the parameters: stationary, or at each step (then with that axis in front).

    Attributes:
        mean: E w, shape (D,).
        variance: of each parameter, shape (D,).
        covariance: shape (D, D); None where everything is diagonal.
        train_loss: E of the loss being minimised.
        test_loss: E of the excess loss.
    """

    mean: Array
    variance: Array
    covariance: Array | None
    train_loss: Array
    test_loss: Array


def stationary_law(
    problem: LinearProblem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: ArrayLike,
    sampling: str | None = None,
) -> Law:
    """The stationary law as a traceable function of every number in problem and optimizer, and of b (any real number).

    Nothing is checked, and NaN stands where no second moment exists: `predict` is the same with checks. For a problem
    given by diagonals D numbers are computed, else D x D. Trace it with `jax.enable_x64(True)`.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        optimizer: one that is linear, with constant rates.
        batch_size: b > 0.
        sampling: as for `predict`.

    Examples:
        >>> import jax
        >>> import sgdsim as ss
        >>> from sgdsim.solver import stationary_law
        >>> problem = ss.LinearRegression(covariance=[1.0], label_noise=1.0)
        >>> def loss(b):
        ...     return stationary_law(problem, ss.SGD(0.3), batch_size=b).test_loss
        >>> with jax.enable_x64(True):
        ...     round(float(jax.grad(loss)(2.0)), 4)  # a larger batch is better
        -0.0325
    """
    linear = _linear(problem, optimizer)
    step, _ = linear.at(linear.clock)
    if is_diagonal(problem) and linear.kind != "mixed":
        state = stationary_diagonal(step, diagonal_law(problem, batch_size))
        mean, spread = state.mean[0], state.covariance[0, 0]
        law = Law(mean, spread, None, *diagonal_losses(problem, mean, spread))
        return jax.tree.map(lambda x: jnp.where(state.settles, x, jnp.nan), law)
    gradient = gradient_law(problem, batch_size, _mode(problem, sampling))
    settled = stationary_state([step], gradient, commutes=commutes(problem))
    mean, covariance = settled.mean[0, 0], settled.covariance[0, 0, :, 0]
    found = Law(mean, jnp.diag(covariance), covariance, *expected_losses(problem, mean, covariance))
    return jax.tree.map(lambda x: jnp.where(settled.settles, x, jnp.nan), found)


def run_law(
    problem: LinearProblem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: ArrayLike,
    steps: int,
    initial: ArrayLike | None = None,
    sampling: str | None = None,
) -> Law:
    """The law before the first and after every step, as a traceable function of every number.

    Args:
        problem: as for `stationary_law`.
        optimizer: one that is linear; its rate and momentum may be schedules that depend on traced numbers.
        batch_size: b, or one for each step: any real numbers.
        steps: how many (static).
        initial: the point where all chains start, shape (D,); None is the problem's default.
        sampling: as for `predict`.

    Returns:
        A `Law` whose arrays have steps + 1 rows.

    Examples:
        >>> import jax
        >>> import sgdsim as ss
        >>> from sgdsim.solver import run_law
        >>> problem = ss.LinearRegression(covariance=[1.0], label_noise=1.0)
        >>> with jax.enable_x64(True):
        ...     law = run_law(problem, ss.SGD(0.3), batch_size=2.0, steps=10, initial=[1.0])
        >>> law.test_loss.shape
        (11,)
    """
    linear = _linear(problem, optimizer)
    sizes = jnp.broadcast_to(jnp.asarray(batch_size, float), (steps,))
    point = jnp.asarray(problem.default_start if initial is None else initial, float)
    mean = jnp.zeros((linear.blocks, problem.dimension)).at[0].set(point)
    diagonal = is_diagonal(problem) and linear.kind != "mixed"
    mode = _mode(problem, sampling)

    def seen(mean: PyTree, p: PyTree) -> Law:
        if diagonal:
            return Law(mean[0], p[0], None, *diagonal_losses(problem, mean[0], p[0]))
        full = p[0, :, 0]
        return Law(mean[0], jnp.diag(full), full, *expected_losses(problem, mean[0], full))

    def step(carry: tuple[PyTree, ...], b: Array) -> tuple[tuple[PyTree, ...], Law]:
        clock, mean, p = carry
        affine, clock = linear.at(clock)
        if diagonal:
            mean, p = move_diagonal(affine, diagonal_law(problem, b), mean, p)
        else:
            mean, p = move(affine, gradient_law(problem, b, mode), mean, p)
        return (clock, mean, p), seen(mean, p)

    begin: tuple[PyTree, PyTree]
    if diagonal:
        begin = tuple(mean), tuple(jnp.zeros(problem.dimension) for _ in pairs_of(linear.blocks))
    else:
        begin = mean, jnp.zeros((*mean.shape, *mean.shape))
    # gradients keep the state of every step, not the work on it
    _, laws = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), (linear.clock, *begin), sizes)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), seen(*begin), laws)


def _linear(
    problem: LinearProblem, optimizer: Optimizer | optax.GradientTransformation
) -> LinearOptimizer:
    """The optimizer as it treats parameters, by its description alone: nothing can be tried on traced numbers."""
    known = as_sgd(optimizer, problem, 1)
    if isinstance(known, SGD):
        return described(known, problem)
    return LinearOptimizer(known, "mixed", *clock_of(known, problem.dimension), problem.dimension)


def _mode(problem: LinearProblem, sampling: str | None) -> str:
    return check_sampling(problem, 1, sampling)[1]
