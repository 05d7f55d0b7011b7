"""The covariance of every problem's minibatch gradient, against every batch that can be drawn, one by one.

Fresh Gaussian numbers take the three values of Gauss-Hermite quadrature, which have the first five moments: gradients
are of the second degree in them, so that covariances are exact. Label noise of a data set is +-sigma.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver import gradient_covariance
from sgdsim.solver.laws.table import LAWS

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(4, 2)), RNG.normal(size=4)
A, B = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.2, 0.1], [0.1, 0.3]])
SIGMA = 0.6
BATCH = 2


@dataclasses.dataclass
class Case:
    """A problem; the loss of one example of row i under fresh numbers z; which values z takes, with which chances."""

    problem: object
    loss: Callable  # (w, i, z) -> loss of one example
    fresh: int  # how many fresh numbers an example has
    rows: int = 1
    signs: bool = False  # whether fresh numbers are +-1, not Gaussian
    w: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self):
        self.w = self.problem.default_start + 0.3 * np.random.default_rng(1).normal(size=self.problem.dimension)

    def values(self):
        one = [(-1.0, 0.5), (1.0, 0.5)] if self.signs else [(-np.sqrt(3), 1 / 6), (0.0, 2 / 3), (np.sqrt(3), 1 / 6)]
        drawn = list(itertools.product(one, repeat=self.fresh))
        return np.array([[z for z, _ in d] for d in drawn]), np.array([np.prod([p for _, p in d]) for d in drawn])


def gaussian(w, _, z):
    """Clean inputs, a teacher (1, 2), noise on inputs and label."""
    x = jnp.linalg.cholesky(A) @ z[:2]
    return 0.5 * ((x + jnp.linalg.cholesky(B) @ z[2:4]) @ w - x @ jnp.array([1.0, 2.0]) - SIGMA * z[4]) ** 2


TEACHERS = [np.array([[1.0, 0.5], [0.0, 1.0]]), np.array([[2.0, -1.0]])]
DEEP = [np.array([[1.0, 0.5]]), np.array([[0.7]]), np.array([[0.5], [-1.0]])]


def linear_network(teachers):
    ends = np.cumsum([t.size for t in teachers])

    def loss(w, _, z):
        student, target = z[: teachers[0].shape[1]], z[: teachers[0].shape[1]]
        for teacher, end in zip(teachers, ends, strict=True):
            student = w[end - teacher.size : end].reshape(teacher.shape) @ student
            target = teacher @ target
        return 0.5 * jnp.sum((student - target - SIGMA * z[teachers[0].shape[1] :]) ** 2)

    return loss


def cycling(w, i, _):
    x, y, z1, z2, z3, z4 = w
    f = [(1 - y) * z1 - 1, (1 - y) * z1 + 1, (1 + y) * z2 - 1, (1 + y) * z2 + 1, (1 - x) * z3 - 1, (1 - x) * z3 + 1,
         (1 + x) * z4 - 1, (1 + x) * z4 + 1, (1 - x) * z1, (1 + x) * z2, (1 + y) * z3, (1 - y) * z4, x**2 + y**2 - 1]
    return 0.5 * jnp.stack(f)[i] ** 2


def logistic(w, x, y):
    return jnp.log1p(jnp.exp(-y * (x @ w)))


MEASUREMENTS = RNG.normal(size=(4, 2, 2))
TARGETS = RNG.normal(size=(4, 2))
MODULE = nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(2)])
NETWORK = ss.FlaxNetwork(MODULE, X, TARGETS, weight_decay=0.3, label_noise=SIGMA)
LABELS = np.array([0, 1, 1, 0])
CLASSIFIER = ss.FlaxNetwork(MODULE, X, LABELS, "cross_entropy")


def predict(w, i):
    return MODULE.apply({"params": NETWORK.unflatten(w)}, jnp.asarray(X)[i][None])[0]


CASES = {
    "Quadratic": Case(ss.Quadratic(A, 2 * B), lambda w, i, z: 0.5 * w @ A @ w + w @ jnp.linalg.cholesky(2 * B) @ z, 2),
    "LinearRegression": Case(ss.LinearRegression(A, [1.0, 2.0], SIGMA, B, weight_decay=0.1), gaussian, 5),
    "DatasetRegression": Case(
        ss.DatasetRegression(X, Y, weight_decay=0.3, label_noise=SIGMA),
        lambda w, i, z: 0.5 * (jnp.asarray(X)[i] @ w - jnp.asarray(Y)[i] - SIGMA * z[0]) ** 2, 1, 4, True),
    "TwoLayerLinear": Case(ss.TwoLayerLinear(*TEACHERS, label_noise=SIGMA), linear_network(TEACHERS), 3),
    "DeepLinear": Case(ss.DeepLinear(DEEP, label_noise=SIGMA), linear_network(DEEP), 4),
    "Ellipse": Case(
        ss.Ellipse(2.0, 1.0, label_noise=SIGMA),
        lambda w, i, z: 0.5 * ((w[0] + w[1]) ** 2 / 8 + (w[0] - w[1]) ** 2 / 2 - 1 - SIGMA * z[0]) ** 2, 1, 1, True),
    "CyclingToy": Case(ss.CyclingToy(), cycling, 0, 13),
    "DiagonalNetwork": Case(
        ss.DiagonalNetwork(X, Y, SIGMA),
        lambda w, i, z: 0.5 * (jnp.asarray(X)[i] @ (w[:2] ** 2 - w[2:] ** 2) - jnp.asarray(Y)[i] - SIGMA * z[0]) ** 2,
        1, 4, True),
    "MatrixFactorization": Case(
        ss.MatrixFactorization(MEASUREMENTS, Y, SIGMA),
        lambda w, i, z: 0.5 * (jnp.sum(jnp.asarray(MEASUREMENTS)[i] * (w[4:].reshape(2, 2) @ w[:4].reshape(2, 2)))
                               - jnp.asarray(Y)[i] - SIGMA * z[0]) ** 2, 1, 4, True),
    "FlaxNetwork": Case(
        NETWORK, lambda w, i, z: 0.5 * jnp.sum((predict(w, i) - jnp.asarray(TARGETS)[i] - SIGMA * z) ** 2), 2, 4, True),
    "FlaxNetwork, classes": Case(
        CLASSIFIER, lambda w, i, z: -jax.nn.log_softmax(predict(w, i))[jnp.asarray(LABELS)[i]], 0, 4),
    "FromLoss": Case(
        ss.FromLoss(logistic, X, np.sign(Y), start=[0.5, -1.0], weight_decay=0.2),
        lambda w, i, z: logistic(w, jnp.asarray(X)[i], jnp.asarray(np.sign(Y))[i]), 0, 4),
}


def enumerated(case, mode):
    """The covariance over all batches of two."""
    z, chance = case.values()
    with jax.enable_x64(True):
        slope = jax.grad(case.loss)
        each = jax.vmap(jax.vmap(slope, (None, None, 0)), (None, 0, None))
        g = np.asarray(each(jnp.asarray(case.w), jnp.arange(case.rows), jnp.asarray(z)))  # (rows, fresh, D)
    drawn = itertools.combinations if mode == "without_replacement" else lambda n, b: itertools.product(n, repeat=b)
    means, weights = [], []
    for i, j in drawn(range(case.rows), BATCH):
        means.append(((g[i][:, None] + g[j]) / BATCH).reshape(-1, g.shape[-1]))
        weights.append(np.outer(chance, chance).ravel())
    means, weights = np.concatenate(means), np.concatenate(weights)
    return np.cov(means.T, aweights=weights, ddof=0)


@pytest.mark.parametrize("name", CASES)
def test_enumerates_every_batch(name):
    case = CASES[name]
    finite = case.problem.n_examples is not None
    for mode in ("with_replacement", "without_replacement") if finite else ("online",):
        exact = enumerated(case, mode)
        found = gradient_covariance(case.problem, case.w, BATCH, mode)
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-12 * np.abs(exact).max())


def test_every_row_of_the_table_is_tested():
    tested = {kind for case in CASES.values() for kind in type(case.problem).__mro__}
    assert set(LAWS) <= tested
    public = {value for value in vars(ss).values() if isinstance(value, type) and hasattr(value, "example_gradient")}
    assert public == {type(case.problem) for case in CASES.values()}


def test_label_noise_is_not_thinned():
    problem = ss.DatasetRegression(X, Y, label_noise=0.5)
    got = gradient_covariance(problem, [0.4, -1.0], 4, "without_replacement")
    np.testing.assert_allclose(got, 0.25 * X.T @ X / 4 / 4, rtol=1e-12)


def test_quadratic_and_diagonals():
    w = np.array([0.4, -1.0])
    problem = ss.Quadratic([1.0, 2.0], [3.0, 4.0])
    np.testing.assert_array_equal(gradient_covariance(problem, w, 2), np.diag([1.5, 2.0]))
    dense = ss.LinearRegression(np.diag([1.0, 0.5]), label_noise=0.5)
    diagonal = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
    np.testing.assert_array_equal(gradient_covariance(dense, w, 2), gradient_covariance(diagonal, w, 2))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ValueError, {"batch_size": 0}, "batch_size is 0"),
        (ValueError, {"batch_size": 2.5}, "whole number"),
        (ValueError, {"batch_size": 6, "sampling": "without_replacement"}, "from 1 to 4"),
        (ValueError, {"batch_size": 2, "sampling": "online"}, "sampling is 'online'"),
        (NotImplementedError, {"batch_size": 2, "sampling": "epochs"}, "epochs"),
    ],
)
def test_refusals(kind, arguments, message):
    with pytest.raises(kind, match=message):
        gradient_covariance(ss.DatasetRegression(X, Y), [0.4, -1.0], **arguments)


def test_unknown_problem_is_named():
    with pytest.raises(NotImplementedError, match="dict"):
        gradient_covariance({}, [0.4, -1.0], 1)
