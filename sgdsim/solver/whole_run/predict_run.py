"""`predict_run`: mean, covariance and losses at every step of a run, schedules included."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim.optimizers import SGD, Optimizer
from sgdsim.optimizers.base import rate_at
from sgdsim.problems import BatchSizes, DatasetRegression, Problem, check_batch_sizes
from sgdsim.solver.whole_run.diagonal import diagonal_law, diagonal_losses, is_diagonal, move_diagonal, pairs_of
from sgdsim.solver.whole_run.epochs.run import epoch_run
from sgdsim.solver.whole_run.expected_losses import expected_losses
from sgdsim.solver.whole_run.gradient_law import LinearProblem, gradient_law, linear_problem
from sgdsim.solver.whole_run.linear_optimizer import Clock, LinearOptimizer, as_sgd, described, read_optimizer
from sgdsim.solver.whole_run.motion import move
from sgdsim.solver.whole_run.recorded import recorded_steps
from sgdsim.solver.whole_run.run_prediction import RunPrediction

FULL = 256  # parameters up to which whole covariances are kept
_LARGEST = 1500  # parameters up to which a D x D matrix is carried along


@own_settings
def predict_run(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: BatchSizes,
    steps: int,
    initial: ArrayLike | None = None,
    sampling: str | None = None,
    record: int | Sequence[int] | None = None,
) -> RunPrediction:
    r"""The exact law of SGD, or of any linear optimizer, at each step of a run.

    With z = (w, s) the parameters and what the optimizer remembers, $z' = A_t z + B_t g + c_t$ and F = A + B H,

    $$m' = F_t m + c_t - B_t H w^*, \qquad P' = F_t P F_t^\top + B_t \big( C_0(m_w) + C_1(P_{ww}) \big) B_t^\top,$$

    with $C_0(m)$ the covariance of the batch gradient at the mean (away from the minimum of a data set the noise is
    another one) and C_1 what the spread adds. From 257 parameters on, D numbers a step are enough where inputs, decay
    and optimizer are diagonal.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        optimizer: SGD, DampedNewton, NaturalGradient with a Fisher matrix, or any optax transformation that is linear
            in gradient, state and parameters. Rates and momentum may be schedules.
        batch_size: a number, one for each step, or a function of the step.
        steps: optimizer steps.
        initial: one point (D,), or one for each chain (chains, D); None is the problem's default start.
        sampling: as for `predict`; "epochs" too, for data sets of moderate size.
        record: steps to keep (a list, or every so many), `steps` being the state after the last one; None keeps about a
            hundred.

    Returns:
        A `RunPrediction`, one entry a recorded step. Past the limit it grows, as the run does.

    Raises:
        ValueError: an argument is out of range.
        NotImplementedError: no theory for this problem or optimizer (what is not linear is named).

    Examples:
        >>> import optax
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
        >>> annealed = ss.SGD(optax.cosine_decay_schedule(0.4, 100))
        >>> run = ss.predict_run(problem, annealed, batch_size=4, steps=100, initial=[2.0, -1.0], record=[0, 100])
        >>> round(float(run.test_loss[0]), 3)
        2.25
    """
    problem = linear_problem(problem)
    steps = _checks.integer("steps", steps, high=2**31 - 2)
    sizes, mode = check_batch_sizes(problem, batch_size, steps, sampling)
    sizes = np.broadcast_to(sizes, steps)
    kept = recorded_steps(record, steps)
    linear = read_optimizer(optimizer, problem, int(sizes[0]))
    rate = optimizer.learning_rate if isinstance(optimizer, Optimizer) else np.nan
    diagonal = is_diagonal(problem) and linear.kind != "mixed" and problem.dimension > FULL
    if not diagonal and problem.dimension > _LARGEST:
        raise _checks.error("dimension", problem.dimension, f"at most {_LARGEST} for matrices that are not diagonal",
                            "give covariance and weight_decay as diagonals, or simulate")
    mean, spread = _start(problem, initial, diagonal)
    with jax.enable_x64(True):
        first = jnp.zeros((linear.blocks, problem.dimension)).at[1:].set(_memory(linear, mean)).at[0].set(mean)
        joint = _joint(linear, mean, spread)
        if mode == "epochs":
            means, spreads, error = epoch_run(cast(DatasetRegression, problem), linear, int(sizes[0]), steps,
                                              np.asarray(first), np.asarray(joint))
            means, spreads = means[kept], spreads[kept]
            losses = [expected_losses(problem, m, p) for m, p in zip(means, spreads, strict=True)]
            train, test = np.array(losses, np.float64).T
        else:
            found = _series(problem, optimizer, linear, sizes, kept, first, joint, mode, diagonal)
            (means, spreads, train, test), error = found, 0.0
        rates = np.array([float(rate_at(rate, jnp.asarray(t))) for t in kept])
    full = spreads.ndim == 3
    return RunPrediction(
        step=kept,
        mean=means,
        variance=np.diagonal(spreads, axis1=1, axis2=2) if full else spreads,
        covariances=spreads if full and problem.dimension <= FULL else None,
        train_loss=train,
        test_loss=test,
        learning_rate=rates,
        batch_size=sizes[np.minimum(kept, steps - 1)],
        configuration={
            "problem": repr(problem),
            "optimizer": repr(optimizer) if isinstance(optimizer, Optimizer) else "optax transformation",
            "sampling": mode,
            "steps": steps,
        },
        reference="whole-run.md section 4" if mode == "epochs" else "whole-run.md section 1",
        theory_error=error,
    )


def _series(
    problem: LinearProblem, optimizer: Optimizer | optax.GradientTransformation, linear: LinearOptimizer,
    sizes: np.ndarray, kept: np.ndarray, first: Array, spread: Array, mode: str, diagonal: bool,
) -> tuple[np.ndarray, ...]:
    """Mean, covariance or variance, and losses at the recorded steps, with independent batches."""
    begin: tuple[PyTree, PyTree]
    if diagonal:
        begin = tuple(first), tuple(spread[i, :, j] for i, j in pairs_of(linear.blocks))
    else:
        begin = first, spread
    known = as_sgd(optimizer, problem, int(sizes[0]))
    described_by, tried = (known, None) if isinstance(known, SGD) else (None, _Static(linear))
    series = _run(problem, described_by, linear.clock, jnp.asarray(sizes, float), jnp.asarray(kept), *begin,
                  tried=tried, sampling=mode, diagonal=diagonal)
    return tuple(map(np.asarray, series))


_Carried = tuple[Clock, PyTree, PyTree]


class _Static:
    """An optimizer as a static argument, equal only to itself."""

    def __init__(self, linear: LinearOptimizer):
        self.linear = linear


@functools.partial(jax.jit, static_argnames=("tried", "sampling", "diagonal"))
def _run(
    problem: LinearProblem, optimizer: SGD | None, clock: Clock, sizes: Array, kept: Array, mean: PyTree, p: PyTree, *,
    tried: _Static | None, sampling: str, diagonal: bool,
) -> tuple[Array, ...]:
    """The law at the recorded steps; a described optimizer comes as numbers, so that another rate compiles nothing."""
    linear = tried.linear if tried is not None else described(optimizer, problem)  # type: ignore[arg-type]

    def step(t: Array, carry: _Carried) -> _Carried:
        clock, mean, p = carry
        affine, clock = linear.at(clock)
        if diagonal:
            return clock, *move_diagonal(affine, diagonal_law(problem, sizes[t]), mean, p)
        return clock, *move(affine, gradient_law(problem, sizes[t], sampling), mean, p)

    def stretch(carry: _Carried, ends: Array) -> tuple[_Carried, tuple[Array, ...]]:
        clock, mean, p = jax.lax.fori_loop(ends[0], ends[1], step, carry)
        if diagonal:
            seen, losses = p[0], diagonal_losses(problem, mean[0], p[0])
        else:
            full = p[0, :, 0]
            seen = full if len(full) <= FULL else jnp.diag(full)
            losses = expected_losses(problem, mean[0], full)
        return (clock, mean, p), (mean[0], seen, *losses)

    ends = jnp.stack([jnp.concatenate([jnp.zeros(1, kept.dtype), kept[:-1]]), kept], axis=1)
    return jax.lax.scan(stretch, (clock, mean, p), ends)[1]


def _memory(linear: LinearOptimizer, mean: np.ndarray | Array) -> Array:
    """What the optimizer remembers before its first step, shape (k - 1, D)."""
    leaves = [leaf for leaf in jax.tree.leaves(linear.transform.init(jnp.asarray(mean)))
              if jnp.shape(leaf) == mean.shape and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.stack(leaves) if leaves else jnp.zeros((0, len(mean)))


def _joint(linear: LinearOptimizer, mean: np.ndarray, spread: np.ndarray) -> Array:
    """Covariance of (w, s) before the first step, (k, D, k, D), or (k, D, k) of variances: s may begin at w itself."""
    same = jnp.ones(mean.shape)
    follows = jax.jvp(lambda w: _memory(linear, w), (jnp.asarray(mean),), (same,))[1]
    u = jnp.concatenate([same[None], follows])
    if spread.ndim == 1:
        return jnp.einsum("id,d,jd->idj", u, spread, u)
    return jnp.einsum("id,de,je->idje", u, spread, u)


def _start(problem: LinearProblem, initial: ArrayLike | None, diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance, or variances, of the chains before the first step."""
    d = problem.dimension
    point = np.asarray(problem.default_start) if initial is None else _checks.finite_array("initial", initial)
    if point.shape == (d,):
        return point, np.zeros(d) if diagonal else np.zeros((d, d))
    if point.ndim != 2 or point.shape[1] != d or len(point) == 0:
        raise _checks.error("initial", initial, f"of shape ({d},) or (chains, {d}) (got {point.shape})",
                            "give one point for all chains, or one row a chain")
    centred = point - point.mean(axis=0)
    if diagonal:
        return point.mean(axis=0), np.mean(centred**2, axis=0)
    return point.mean(axis=0), centred.T @ centred / len(point)
