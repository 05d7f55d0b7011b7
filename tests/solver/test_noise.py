import numpy as np
import pytest

import sgdsim.solver.noise as theory
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver import gradient_covariance

RNG = np.random.default_rng(5)
X, Y, W = RNG.normal(size=(5, 2)), RNG.normal(size=5), np.array([0.4, -1.0])


@pytest.mark.parametrize("b", [1, 2, 5])
@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_enumerates_every_batch(oracles, b, sampling):
    r = X @ W - Y
    means = np.array([(X[list(i)] * r[list(i), None]).mean(axis=0) for i in oracles.batches(5, b, sampling)])
    exact = np.cov(means.T, bias=True) if len(means) > 1 else np.zeros((2, 2))
    got = gradient_covariance(DatasetRegression(X, Y, weight_decay=0.3), W, b, sampling)
    np.testing.assert_allclose(got, exact, rtol=1e-12, atol=1e-15)


def test_label_noise_is_not_thinned():
    problem = DatasetRegression(X, Y, label_noise=0.5)
    got = gradient_covariance(problem, W, 5, "without_replacement")
    np.testing.assert_allclose(got, 0.25 * X.T @ X / 5 / 5, rtol=1e-12)


def test_gaussian_inputs_by_isserlis(oracles):
    a, b = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.2, 0.1], [0.1, 0.3]])
    problem = LinearRegression(a, [1.0, 2.0], label_noise=0.5, input_noise=b, weight_decay=0.1)
    d = W - problem.effective_teacher
    exact = oracles.gaussian_gradient_covariance(a + b, np.outer(d, d), float(problem.residual_variance), 3)
    np.testing.assert_allclose(gradient_covariance(problem, W, 3), exact, rtol=1e-12)


@pytest.mark.parametrize("mode", ["with_replacement", "without_replacement"])
def test_averages_over_the_spread(mode):
    problem = DatasetRegression(X, Y, label_noise=0.2)
    noise = theory.averaged_noise(problem, W, 2, mode)
    root = RNG.normal(size=(2, 2))
    points = [W + s * np.sqrt(2) * column for column in root.T for s in (1, -1)]  # covariance root root'
    exact = np.mean([gradient_covariance(problem, p, 2, mode) for p in points], axis=0)
    np.testing.assert_allclose(noise.additive + noise.linear(root @ root.T), exact, rtol=1e-12)
    stack = np.stack([np.eye(2), root @ root.T])
    np.testing.assert_allclose(noise.linear(stack)[1], noise.linear(stack[1]), rtol=1e-13)


def test_quadratic_and_diagonals():
    problem = Quadratic([1.0, 2.0], [3.0, 4.0])
    np.testing.assert_array_equal(gradient_covariance(problem, W, 2), np.diag([1.5, 2.0]))
    dense = LinearRegression(np.diag([1.0, 0.5]), label_noise=0.5)
    diagonal = LinearRegression([1.0, 0.5], label_noise=0.5)
    np.testing.assert_array_equal(gradient_covariance(dense, W, 2), gradient_covariance(diagonal, W, 2))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (ValueError, {"batch_size": 0}, "batch_size is 0"),
        (ValueError, {"batch_size": 2.5}, "whole number"),
        (ValueError, {"batch_size": 6, "sampling": "without_replacement"}, "from 1 to 5"),
        (ValueError, {"batch_size": 2, "sampling": "online"}, "sampling is 'online'"),
        (NotImplementedError, {"batch_size": 2, "sampling": "epochs"}, "epochs"),
    ],
)
def test_refusals(kind, arguments, message):
    with pytest.raises(kind, match=message):
        gradient_covariance(DatasetRegression(X, Y), W, **arguments)


def test_unknown_problem_is_named():
    with pytest.raises(NotImplementedError, match="dict"):
        gradient_covariance({}, W, 1)
