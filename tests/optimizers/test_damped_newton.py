import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.optimizers import resolve

A = np.array([[1.0, 0.3], [0.3, 0.5]])
FEATURES = np.array([[1.0, 0.2], [-0.5, 1.0], [0.3, -2.0], [1.5, 0.4]])
TARGETS = np.array([1.0, -1.0, 0.5, 2.0])
PROBLEMS = {
    "population": (ss.LinearRegression(A, label_noise=0.5), A),
    "decay is left out": (ss.LinearRegression(A, weight_decay=[[0.4, -0.2], [-0.2, 0.1]]), A),
    "input noise is in": (ss.LinearRegression(A, input_noise=[0.2, 0.1]), A + np.diag([0.2, 0.1])),
    "data": (ss.DatasetRegression(FEATURES, TARGETS, weight_decay=0.3), FEATURES.T @ FEATURES / 4),
    "bowl": (ss.Quadratic([2.0, 0.1], [1.0, 1.0]), np.diag([2.0, 0.1])),
}


def run(transformation, gradients):
    """Parameters after each update, from 0."""
    w, out = jnp.zeros(gradients.shape[1:], gradients.dtype), []
    state = transformation.init(w)
    for g in gradients:
        update, state = transformation.update(g, state, w)
        w = w + update
        out.append(w)
    return np.array(out)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_it_is_sgd_in_whitened_coordinates(name, momentum, rng):
    """With w = R v, R R' = A^-1, v moves by optax's SGD on the gradients R' g."""
    problem, a = PROBLEMS[name]
    root = np.linalg.inv(np.linalg.cholesky(a)).T
    with jax.enable_x64(True):
        gradients = jnp.asarray(rng.normal(size=(30, 2, 7)))
        ours = run(ss.DampedNewton(0.3, momentum).as_optax(problem), gradients)
        white = run(optax.sgd(0.3, momentum=momentum or None), jnp.einsum("ji,tjc->tic", root, gradients))
    np.testing.assert_allclose(ours, np.einsum("ij,tjc->tic", root, white), rtol=1e-11, atol=1e-12)


def test_a_full_step_finds_the_minimum_of_a_bowl():
    problem = ss.Quadratic(A, np.zeros((2, 2)), [1.0, -2.0])
    transformation = ss.DampedNewton(1.0).as_optax(problem)
    w = jnp.zeros(2)
    update, _ = transformation.update(problem.gradient(w), transformation.init(w), w)
    np.testing.assert_allclose(w + update, [1.0, -2.0], rtol=1e-5)


def test_where_the_data_are_flat_it_stands_still():
    problem = ss.DatasetRegression([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]], [1.0, 0.0, 2.0])
    sgd = resolve(ss.DampedNewton(0.5), problem, 2)
    np.testing.assert_allclose(sgd.preconditioner, np.linalg.pinv(problem.gram), atol=1e-12)
    np.testing.assert_allclose(sgd.preconditioner @ [1.0, -1.0], 0, atol=1e-12)


def test_it_works_on_a_traced_problem(rng):
    """Inside a compiled function the problem is known to JAX alone."""
    problem = ss.LinearRegression(A)
    g = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)

    @jax.jit
    def step(problem, g):
        t = ss.DampedNewton(0.5).as_optax(problem)
        return t.update(g, t.init(g), g)[0]

    np.testing.assert_allclose(step(problem, g), -0.5 * np.linalg.solve(A, g), rtol=1e-4)


@pytest.mark.slow
def test_one_compilation_for_a_sweep_and_the_same_numbers_on_any_number_of_devices(compilations):
    problem, settings = PROBLEMS["population"][0], {"batch_size": [2, 8], "chains": 128, "steps": 20, "burn_in": 10}
    rates = ([0.1, 0.2], [0.3, 0.4])
    ss.sweep(problem, ss.DampedNewton(0.1), learning_rate=rates[0], **settings)
    before = compilations()
    two = ss.sweep(problem, ss.DampedNewton(0.1), learning_rate=rates[1], devices=2, **settings)
    assert compilations() == before
    one = ss.sweep(problem, ss.DampedNewton(0.1), learning_rate=rates[1], devices=1, **settings)
    np.testing.assert_array_equal(one.covariance, two.covariance)
    assert np.ptp(one.covariance[..., 0, 0]) > 0


@pytest.mark.parametrize(("make", "says"), [
    (lambda: ss.DampedNewton(-1.0), "learning_rate"),
    (lambda: ss.DampedNewton(0.1, 1.0), "momentum"),
    (lambda: ss.DampedNewton(0.1).as_optax(), "problem"),
    (lambda: resolve(ss.DampedNewton(0.1), ss.Quadratic([0.0], [1.0]), 1), "hessian"),
])  # fmt: skip
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says):
        make()
