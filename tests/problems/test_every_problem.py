"""What every problem promises, in one table: its own derivatives, its minimum, its pytree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss

A = np.array([[1.0, 0.3, 0.1], [0.3, 0.5, 0.0], [0.1, 0.0, 0.8]])
B = np.array([[0.2, -0.1, 0.0], [-0.1, 0.4, 0.1], [0.0, 0.1, 0.3]])
GAMMA = np.array([[0.1, 0.05, 0.0], [0.05, -0.2, 0.0], [0.0, 0.0, 0.3]])  # indefinite, A + GAMMA is not
U = np.array([1.0, -2.0, 0.5])
data = np.random.default_rng(7)
X = data.normal(size=(23, 3)) @ np.linalg.cholesky(A).T + 0.3
Y = X @ U + data.standard_t(4, size=23)

TABLE = {
    "quadratic": lambda: ss.Quadratic(A, B, minimum=U),
    "quadratic-diagonal": lambda: ss.Quadratic([1.0, 0.5, 0.2], [1.0, 2.0, 0.0]),
    "linear": lambda: ss.LinearRegression(A, U, 0.5),
    "linear-diagonal": lambda: ss.LinearRegression([1.0, 0.5, 0.1], U, 0.5, input_noise=[0.1, 0.0, 0.2]),
    "linear-mixed": lambda: ss.LinearRegression([1.0, 0.5, 0.1], U, input_noise=B, weight_decay=[0.1, 0.0, 0.2]),
    "linear-all": lambda: ss.LinearRegression(A, U, 0.5, B, GAMMA),
    "linear-negative-decay": lambda: ss.LinearRegression(A, U, weight_decay=-0.1),
    "dataset": lambda: ss.DatasetRegression(X, Y),
    "dataset-all": lambda: ss.DatasetRegression(X, Y, GAMMA, 0.7),
    "two-layer": lambda: ss.TwoLayerLinear(B, A[:2], label_noise=0.3),
    "deep": lambda: ss.DeepLinear([X[:2], B[:, :2], A, Y[None, :3]]),
    "diagonal": lambda: ss.DiagonalNetwork(X[:2], label_noise=0.5, teacher=U),
    "diagonal-targets": lambda: ss.DiagonalNetwork(X, Y, noise="gaussian"),
    "matrix": lambda: ss.MatrixFactorization(X[:6].reshape(3, 2, 3), label_noise=0.5, teacher=B[:2], depth=3),
    "matrix-targets": lambda: ss.MatrixFactorization(X[:6].reshape(6, 1, 3), Y[:6], width=2, noise="sign"),
    "ellipse": lambda: ss.Ellipse(2.0, 0.7, noise="gaussian"),
    "cycling": ss.CyclingToy,
}
N_EXAMPLES = {"dataset": 23, "dataset-all": 23, "diagonal": 2, "diagonal-targets": 23, "matrix": 3,
              "matrix-targets": 6, "cycling": 13}
every_problem = pytest.mark.parametrize("name", TABLE)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@every_problem
def test_gradient_and_hessian_are_the_derivatives_of_the_loss(name, rng):
    problem = TABLE[name]()
    w = jnp.asarray(rng.normal(size=problem.dimension))
    np.testing.assert_allclose(problem.gradient(w), jax.jit(jax.grad(problem.loss))(w), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(problem.hessian(w), jax.jit(jax.hessian(problem.loss))(w), rtol=1e-12, atol=1e-13)


@every_problem
def test_the_gradient_is_zero_at_the_minimum_and_the_loss_is_least(name, rng):
    problem = TABLE[name]()
    np.testing.assert_allclose(problem.gradient(problem.minimum), 0.0, atol=1e-13)
    around = problem.minimum[:, None] + 0.1 * rng.normal(size=(problem.dimension, 50))
    assert (problem.loss(around) > problem.loss(problem.minimum)).all()


@every_problem
def test_chains_behind_the_parameter_axis_do_not_mix(name, rng):
    problem = TABLE[name]()
    w = rng.normal(size=(problem.dimension, 4))
    for function in (problem.loss, problem.test_loss, problem.gradient):
        together = function(w)
        for chain in range(4):
            np.testing.assert_allclose(together[..., chain], function(w[:, chain]), rtol=1e-12)


@every_problem
def test_it_is_frozen_and_a_pytree(name):
    problem = TABLE[name]()
    leaves, structure = jax.tree.flatten(problem)
    again = jax.tree.unflatten(structure, leaves)
    w = np.full(problem.dimension, 0.7)
    assert again.loss(w) == problem.loss(w)
    assert jax.jit(lambda p, x: p.loss(x))(problem, w) == pytest.approx(float(problem.loss(w)), rel=1e-14)
    assert all(isinstance(leaf, np.ndarray | np.generic) and leaf.dtype == np.float64 for leaf in leaves)
    with pytest.raises(AttributeError):
        problem.minimum = np.zeros(problem.dimension)


@every_problem
def test_a_change_of_numbers_does_not_recompile(name):
    problem, traced = TABLE[name](), []

    @jax.jit
    def loss(p, w):
        traced.append(1)
        return p.loss(w)

    w = np.ones(problem.dimension)
    loss(problem, w)
    loss(jax.tree.map(lambda leaf: np.asarray(leaf * 1.5), problem), w)
    assert len(traced) == 1


@every_problem
def test_it_offers_what_the_protocol_says(name):
    problem = TABLE[name]()
    assert isinstance(problem, ss.problems.Problem)
    assert np.shape(problem.default_start) == np.shape(problem.minimum) == (problem.dimension,)
    assert problem.n_examples == N_EXAMPLES.get(name)


def test_default_starts():
    np.testing.assert_array_equal(ss.Quadratic(A, B, minimum=U).default_start, U)
    np.testing.assert_array_equal(ss.LinearRegression(A, U).default_start, np.zeros(3))
    np.testing.assert_array_equal(ss.DatasetRegression(X, Y).default_start, np.zeros(3))


def test_input_arrays_are_not_aliased():
    """Changing an array after the fact must not change the problem made from it."""
    covariance, targets = A.copy(), Y.copy()
    linear, dataset = ss.LinearRegression(covariance), ss.DatasetRegression(X, targets)
    covariance[:], targets[:] = 0.0, 0.0
    np.testing.assert_array_equal(linear.covariance, A)
    np.testing.assert_array_equal(dataset.targets, Y)
