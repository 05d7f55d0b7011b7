"""D numbers instead of D x D: problems and optimizers that are diagonal in the same coordinates."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim.problems import LinearRegression, Quadratic
from sgdsim.solver.whole_run.expected_losses import AnyArray
from sgdsim.solver.whole_run.gradient_law import LinearProblem
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.pairs import modes, pair_weights

Rows = tuple[Array, ...]  # of k vectors, or of their pairs i <= j


class DiagonalLaw(NamedTuple):
    r"""Gaussian inputs of covariance diag(k), or fixed noise: the variance of each entry of the gradient.

    $$C_{ii} = \tfrac1b \big( k_i^2 E_i + k_i (\textstyle\sum_j k_j E_j + s^2) \big) + c_i, \qquad
      E = \mathrm{diag}\,\Sigma + (w-u)^2.$$

    Attributes:
        hessian: diagonal of H, shape (D,).
        pull: h = H w*, shape (D,).
        second_moment: k.
        teacher: u.
        residual_variance: s^2.
        batch_size: b.
        fixed: c, noise that depends on nothing.
    """

    hessian: Array
    pull: Array
    second_moment: Array
    teacher: Array
    residual_variance: Array
    batch_size: Array
    fixed: Array

    def noise(self, mean: Array, variance: Array) -> Array:
        """C_ii, shape (D,)."""
        k, e = self.second_moment, variance + (mean - self.teacher) ** 2
        return k * (k * e + jnp.sum(k * e) + self.residual_variance) / self.batch_size + self.fixed


def is_diagonal(problem: LinearProblem) -> bool:
    """Whether every matrix of the problem was given as a number or a diagonal."""
    if isinstance(problem, Quadratic):
        return problem.hessian_operator.ndim == problem.example_noise_covariance.ndim == 1
    if not isinstance(problem, LinearRegression):
        return False
    return problem.input_second_moment.ndim == 1 and problem.weight_decay.ndim < 2


def diagonal_law(problem: LinearProblem, batch_size: ArrayLike) -> DiagonalLaw:
    """The law of the batch-mean gradient, D numbers at a time."""
    b, zero = jnp.asarray(batch_size, float), jnp.zeros(problem.dimension)
    pull = -jnp.asarray(problem.gradient(zero))
    if isinstance(problem, Quadratic):
        return DiagonalLaw(jnp.asarray(problem.hessian_operator), pull, zero, zero, jnp.zeros(()), b,
                           jnp.asarray(problem.example_noise_covariance) / b)
    assert isinstance(problem, LinearRegression), "see `is_diagonal`"
    k = jnp.asarray(problem.input_second_moment)
    return DiagonalLaw(k + problem.weight_decay, pull, k, jnp.asarray(problem.effective_teacher),
                       jnp.asarray(problem.residual_variance), b, zero)


def diagonal_losses(problem: LinearProblem, mean: AnyArray, variance: AnyArray) -> tuple[AnyArray, AnyArray]:
    """E of the training and of the test loss."""
    if isinstance(problem, Quadratic):
        loss = problem.loss(mean) + (problem.hessian_operator * variance).sum() / 2
        return loss, loss
    assert isinstance(problem, LinearRegression), "see `is_diagonal`"
    train = problem.loss(mean) + ((problem.input_second_moment + problem.weight_decay) * variance).sum() / 2
    return train, problem.test_loss(mean) + (problem.covariance * variance).sum() / 2


def move_diagonal(step: Affine, law: DiagonalLaw, mean: Rows, p: Rows) -> tuple[Rows, Rows]:
    """One step of the k means and of the k (k + 1) / 2 covariances of every parameter's vectors, each of shape (D,).

    Vector by vector: XLA makes one pass over memory of all of it.
    """
    k = len(mean)
    at = {pair: row for pair, row in zip(pairs_of(k), p, strict=True)}
    at |= {(j, i): row for (i, j), row in at.items()}
    noise = law.noise(mean[0], at[0, 0])
    f = [[step.a[i, j] + (float(i == 0) + step.b[i] * law.hessian if j == 0 else 0.0) for j in range(k)]
         for i in range(k)]
    moved = [sum(f[i][j] * mean[j] for j in range(k)) + step.c[i] - step.b[i] * law.pull for i in range(k)]
    half = [[sum(f[i][j] * at[j, m] for j in range(k)) for m in range(k)] for i in range(k)]
    spread = [sum(half[i][m] * f[j][m] for m in range(k)) + step.b[i] * step.b[j] * noise for i, j in pairs_of(k)]
    return tuple(moved), tuple(spread)


def pairs_of(k: int) -> list[tuple[int, int]]:
    """The pairs i <= j of k vectors."""
    return [(i, j) for i in range(k) for j in range(i, k)]


class DiagonalState(NamedTuple):
    """The settled law of every parameter's vectors.

    Attributes:
        mean: (k, D).
        covariance: of the vectors of each parameter, (k, k, D).
        noise: C_ii, (D,).
        settles: whether second moments exist.
    """

    mean: Array
    covariance: Array
    noise: Array
    settles: Array


def stationary_diagonal(step: Affine, law: DiagonalLaw, growth: float | Array = 1.0) -> DiagonalState:
    r"""The stationary law, explicitly. With S_i the variance under unit noise, s_i = S_i k_i / b, d = E w - u,

    $$E_i = \frac{d_i^2 + S_i c_i + s_i (T + s^2)}{1 - s_i k_i}, \qquad T = \sum_j k_j E_j,$$

    so T is a quotient of two sums; it settles iff the motion does, s_i k_i < 1 and A = sum k_i s_i / (1 - s_i k_i) < 1.
    With `growth` r second moments are scaled by 1/r a step.
    """
    f = modes(step, law.hessian)
    b = step.b[:, None] if step.b.ndim == 1 else step.b
    c = step.c[:, None] if step.c.ndim == 1 else step.c
    mean = -_solve(f, jnp.broadcast_to(c - b * law.pull, f.shape[1:]))
    shrunk = f / jnp.sqrt(growth) + (1 / jnp.sqrt(growth) - 1) * jnp.eye(len(f))[..., None]
    unit = pair_weights(shrunk, shrunk, b[:, None] * b / growth)
    d, k = mean[0] - law.teacher, law.second_moment
    s = unit[0, 0] * k / law.batch_size
    share = 1 / (1 - s * k)
    own = (d**2 + unit[0, 0] * law.fixed) * share
    feedback = jnp.sum(k * s * share)
    total = (jnp.sum(k * own) + feedback * law.residual_variance) / (1 - feedback)
    e = own + s * share * (total + law.residual_variance)
    noise = k * (k * e + total + law.residual_variance) / law.batch_size + law.fixed
    settles = _stable(shrunk) & jnp.all(s * k < 1) & (feedback < 1)
    return DiagonalState(mean, unit * noise, noise, settles)


def _solve(f: Array, right: Array) -> Array:
    """F_i^{-1} y_i for each parameter."""
    if len(f) == 1:
        return right / f[0]
    if len(f) == 2:
        top = f[1, 1] * right[0] - f[0, 1] * right[1]
        low = f[0, 0] * right[1] - f[1, 0] * right[0]
        return jnp.stack([top, low]) / (f[0, 0] * f[1, 1] - f[0, 1] * f[1, 0])
    return jnp.linalg.solve(jnp.moveaxis(f, -1, 0), right.T[..., None])[..., 0].T


def _stable(f: Array) -> Array:
    """Whether the spectral radius of I + F_i is below 1 for every parameter."""
    if len(f) == 1:
        return jnp.all((f[0, 0] < 0) & (f[0, 0] > -2))
    if len(f) == 2:  # Jury's criterion: |trace| < 1 + det < 2
        trace, det = f[0, 0] + f[1, 1], f[0, 0] * f[1, 1] - f[0, 1] * f[1, 0]  # of F - I
        return jnp.all((det > 0) & (4 + 2 * trace + det > 0) & (det + trace < 0))
    x = jnp.moveaxis(pair_weights(f, f, jnp.eye(len(f))[..., None]), -1, 0)
    return jnp.linalg.eigvalsh((x + x.mT) / 2).min() > 0
