"""The whole run in shuffled epochs: every pass of every chain has a shuffle of its own."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.problems import DatasetRegression
from sgdsim.solver.whole_run.epochs.law import motion_of, pass_moments
from sgdsim.solver.whole_run.epochs.permutations import shuffles
from sgdsim.solver.whole_run.linear_optimizer import LinearOptimizer

_GROUPS = 8
_MOST = 1024  # passes of a sample

_each = jax.jit(jax.vmap(pass_moments, in_axes=(None, 0, None, None, 0)))


def epoch_run(
    problem: DatasetRegression,
    linear: LinearOptimizer,
    batch_size: int,
    steps: int,
    mean: np.ndarray,
    spread: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (steps + 1, D) and covariance of w before each step and after the last, and their relative standard error.

    A pass begins with the second moment that the average over all shuffles (or over those of a sample, in eight groups)
    leaves behind: shuffles of different passes are independent.

    Args:
        problem: the data set.
        linear: the optimizer.
        batch_size: b.
        steps: how many.
        mean: of (w, s) at the start, shape (k, D).
        spread: covariance of (w, s) at the start, (k, D, k, D).
    """
    k, d = mean.shape
    dealt = shuffles(len(problem.features), batch_size, 3 * (k * d + 1) ** 2)
    rows = dealt.rows if dealt.exact else dealt.rows[: min(_MOST, len(dealt.rows))]
    groups = jnp.asarray(rows[None] if dealt.exact else rows.reshape(_GROUPS, -1, *rows.shape[1:]))
    weights = jnp.asarray(dealt.weights)
    passes = -(-steps // len(weights))
    every = functools.partial(jax.lax.scan, lambda clock, _: linear.at(clock)[::-1], length=passes * len(weights))
    _, affine = jax.jit(lambda clock: every(clock, None))(linear.clock)
    motion = motion_of(problem, jax.tree.map(lambda leaf: leaf[0], affine))
    z = np.concatenate([(mean - np.vstack([problem.minimum, np.zeros((k - 1, d))])).ravel(), [1.0]])
    start = np.outer(z, z)
    start[:-1, :-1] += spread.reshape(k * d, k * d)
    boundary, seen = jnp.broadcast_to(jnp.asarray(start), (len(groups), *start.shape)), []
    for epoch in range(passes):
        now = jax.tree.map(lambda leaf, e=epoch: leaf[e * len(weights) : (e + 1) * len(weights)], affine)
        moments = _each(motion, groups, weights, now, boundary)
        boundary = moments[:, -1]
        seen.append(np.asarray(moments[:, :-1]))
    found = np.concatenate([*seen, np.asarray(boundary)[:, None]], axis=1)[:, : steps + 1]
    means = found[:, :, :d, -1]
    covariances = found[:, :, :d, :d] - means[..., :, None] * means[..., None, :]
    middle = covariances.mean(axis=0)
    error = 0.0
    if len(groups) > 1:
        scale = np.sqrt(np.einsum("tii->ti", middle))
        scale = np.maximum(scale, 1e-6 * scale.max(axis=0))  # of each parameter in its own units
        size = scale[:, :, None] * scale[:, None, :]
        each = covariances.std(axis=0, ddof=1) / np.sqrt(len(groups))
        error = float((each / np.where(size > 0, size, np.inf)).max())
    return problem.minimum + means.mean(axis=0), middle, error
