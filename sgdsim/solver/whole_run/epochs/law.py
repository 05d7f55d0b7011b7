"""Where a linear optimizer settles under shuffled epochs: batches of one pass depend on each other."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sgdsim._types import as_matrix
from sgdsim.problems import DatasetRegression
from sgdsim.solver.whole_run.epochs.additive import additive_moments
from sgdsim.solver.whole_run.epochs.fixed_point import EpochMoments, second_moment
from sgdsim.solver.whole_run.epochs.permutations import Shuffles, shuffles
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.motion import act, enter, kick

_GROUPS = 16
_TOGETHER = 64  # passes moved side by side
_ROUNDING = 1e-14  # of a weight, below which a standard deviation is none


class EpochLaw(NamedTuple):
    """The law of w before each batch of a pass, position 0 being the boundary.

    Attributes:
        mean: E w at each position, shape (batches, D).
        covariance: there, shape (batches, D, D).
        error: estimated relative error of the covariance averaged over positions; 0 where it is exact.
        settles: whether second moments exist.
    """

    mean: np.ndarray
    covariance: np.ndarray
    error: float
    settles: bool


class _Motion(NamedTuple):
    """What a batch does to z = (w - w*, s): optimizer, data, penalty and fresh label noise."""

    step: Affine
    features: Array
    residuals: Array  # y - X w*
    decay: Array
    minimum: Array  # w*
    label_variance: Array
    everywhere: Array | None = None  # a Hessian that takes the place of every batch's own

    @property
    def offset(self) -> Array:
        """What the optimizer does at w*, without a gradient, shape (k, D)."""
        d = len(self.minimum)
        resting = jnp.zeros((self.step.a.shape[0], d)).at[0].set(self.minimum)
        return act(self.step, jnp.zeros((d, d)), resting) - resting + self.step.c.reshape(len(resting), -1)


def epoch_law(problem: DatasetRegression, step: Affine, batch_size: int, approximation: str = "exact") -> EpochLaw:
    r"""The stationary law of shuffled passes, averaged over all shuffles or over a sample of them.

    One pass is $z' = P z + q$ with P and q made by the shuffle, so the mean obeys $\mu = E[P] \mu + E[q]$ and the
    second moment $M = E[(P z + q)(P z + q)^\top]$, both linear. Where shuffles are sampled, the same sample is taken
    through the motion with additive noise, whose law is known in closed form (`additive_moments`), and what it is off
    by is subtracted.

    Args:
        problem: the data set.
        step: of the optimizer.
        batch_size: b.
        approximation: "additive" is that closed form alone.
    """
    with jax.enable_x64(True):
        motion = motion_of(problem, step)
        known = additive_moments(problem, step, motion.offset, batch_size)
        if approximation == "additive":
            return _law(problem, known, 0.0)
        k, d = motion.offset.shape
        dealt = shuffles(len(problem.features), batch_size, 3 * (k * d + 1) ** 2)
        if dealt.exact:
            return _law(problem, _moments(motion, dealt), 0.0)
        plain = motion._replace(everywhere=jnp.asarray(problem.hessian()) - motion.decay)

        def controlled(rows: np.ndarray) -> EpochMoments:
            part = dealt._replace(rows=rows)
            found, off = _moments(motion, part), _moments(plain, part)
            mean = known.mean + found.mean - off.mean
            return EpochMoments(mean, known.second + found.second - off.second, found.settles)

        best = controlled(dealt.rows)
        each = [_pooled(controlled(rows)) for rows in np.array_split(dealt.rows, _GROUPS)]
        # What is left where every example is fitted is rounding, of no size to be relative to.
        scale = np.maximum(np.sqrt(np.clip(np.diag(_pooled(best)), 0, None)), _ROUNDING * np.abs(problem.minimum))
        size = np.outer(scale, scale)
        error = np.std(each, axis=0, ddof=1) / np.sqrt(_GROUPS) / np.where(size > 0, size, np.inf)
        return _law(problem, best, float(error.max()))


def _pooled(moments: EpochMoments) -> np.ndarray:
    """Covariance of w over all positions."""
    mean = moments.mean.mean(axis=0)
    return moments.second.mean(axis=0) - np.outer(mean, mean)


def _law(problem: DatasetRegression, moments: EpochMoments, error: float) -> EpochLaw:
    mean = moments.mean
    covariance = moments.second - mean[:, :, None] * mean[:, None, :]
    return EpochLaw(problem.minimum + mean, covariance, error, moments.settles)


def motion_of(problem: DatasetRegression, step: Affine) -> _Motion:
    """The motion around the minimum of a data set."""
    d, minimum = problem.dimension, jnp.asarray(problem.minimum)
    decay = as_matrix(jnp.asarray(problem.weight_decay), d)
    features = jnp.asarray(problem.features)
    residuals = jnp.asarray(problem.targets) - features @ minimum
    return _Motion(Affine(*map(jnp.asarray, step)), features, residuals, decay, minimum,
                   jnp.asarray(problem.label_noise) ** 2)


def _moments(motion: _Motion, dealt: Shuffles) -> EpochMoments:
    """Mean and second moment at every position, averaged over these shuffles."""
    weights = jnp.asarray(dealt.weights)
    rows = jnp.asarray(dealt.rows)
    passes, own = map(np.asarray, _whole_passes(motion, rows, weights))
    k, d = motion.offset.shape
    size = k * d
    p, q = passes[:, :size, :size], passes[:, :size, size]
    units = np.sqrt(np.mean(q**2, axis=0))
    units[units == 0] = 1.0
    still = np.eye(size) - p.mean(axis=0) / units[:, None] * units
    mean = units * np.linalg.solve(still, q.mean(axis=0) / units)
    cross = (p @ mean)[:, :, None] * q[:, None, :]
    source = (own + cross + cross.swapaxes(1, 2) + q[:, :, None] * q[:, None, :]).mean(axis=0)
    boundary, settles = second_moment(p, source)
    whole = np.block([[boundary, mean[:, None]], [mean[None], np.ones((1, 1))]])
    seen = np.asarray(_positions(motion, rows, weights, jnp.asarray(whole)))
    return EpochMoments(seen[:, :d, -1], seen[:, :d, :d], settles)


@jax.jit
def _whole_passes(motion: _Motion, rows: Array, weights: Array) -> tuple[Array, Array]:
    """(P, q) of each pass in homogeneous coordinates, and the covariance that label noise adds to it."""
    k, d = motion.offset.shape
    size = k * d + 1

    def one(batches: Array) -> tuple[Array, Array]:
        def batch(carry: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            moved = [_move(motion, *at, x) for x in (carry[0], carry[1])]
            return (moved[0], _move(motion, *at, moved[1].T).T + _label_noise(motion, *at)), None

        return jax.lax.scan(batch, (jnp.eye(size), jnp.zeros((size, size))), (batches, weights))[0]

    passes, noise = jax.lax.map(one, rows, batch_size=_TOGETHER)
    return passes, noise[:, :-1, :-1]


@jax.jit
def _positions(motion: _Motion, rows: Array, weights: Array, boundary: Array) -> Array:
    """Second moments of (w, s, 1) before each batch, averaged over passes that begin with `boundary`."""
    steps = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(weights), *leaf.shape)), motion.step)
    return pass_moments(motion, rows, weights, steps, boundary)[:-1]


def pass_moments(motion: _Motion, rows: Array, weights: Array, steps: Affine, boundary: Array) -> Array:
    """The same with another step for each batch, and with the moments after the last one."""

    def one(batches: Array) -> Array:
        def batch(m: Array, at: tuple[Array, Array, Affine]) -> tuple[Array, Array]:
            now = motion._replace(step=at[2])
            half = _move(now, at[0], at[1], m)
            after = _move(now, at[0], at[1], half.T).T + _label_noise(now, at[0], at[1])
            return after, after

        return jax.lax.scan(batch, boundary, (batches, weights, steps))[1]

    def add(i: Array, total: Array) -> Array:
        return total + one(rows[i])

    zero = jnp.zeros((rows.shape[1], *boundary.shape))
    return jnp.concatenate([boundary[None], jax.lax.fori_loop(0, len(rows), add, zero) / len(rows)])


def _move(motion: _Motion, batch: Array, weights: Array, columns: Array) -> Array:
    """What a batch makes of columns (z, 1), shape (k D + 1, columns)."""
    k, d = motion.offset.shape
    z, one = columns[:-1].reshape(k, d, -1), columns[-1]
    x, r = motion.features[batch], motion.residuals[batch]
    through = x @ z[0] if motion.everywhere is None else 0.0
    g = x.T @ (weights[:, None] * (through - r[:, None] * one))
    if motion.everywhere is not None:
        g = g + motion.everywhere @ z[0]
    g = g + motion.decay @ (z[0] + motion.minimum[:, None] * one)
    moved = act(motion.step, jnp.zeros((d, d)), z) + enter(motion.step, g) + motion.offset[..., None] * one
    return jnp.concatenate([moved.reshape(k * d, -1), one[None]])


def _label_noise(motion: _Motion, batch: Array, weights: Array) -> Array:
    """sigma^2 B (sum of weight^2 x x') B', in homogeneous coordinates."""
    x, size = motion.features[batch], motion.offset.size
    c = motion.label_variance * (x * weights[:, None] ** 2).T @ x
    return jnp.zeros((size + 1, size + 1)).at[:-1, :-1].set(kick(motion.step, c).reshape(size, size))
