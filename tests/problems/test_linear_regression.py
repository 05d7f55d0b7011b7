"""LinearRegression held against its definition, example by example."""

from __future__ import annotations

import numpy as np
import pytest

import sgdsim as ss

A = np.array([[1.0, 0.3], [0.3, 0.5]])
B = np.array([[0.2, -0.1], [-0.1, 0.4]])
GAMMA = np.array([[0.1, 0.2], [0.2, -0.15]])
U = np.array([1.5, -1.0])
W = np.array([0.4, 0.8])
N = 200_000

CASES = {
    "label noise": (0.5, None, 0.0),
    "input noise": (0.0, B, 0.0),
    "input noise, diagonal": (0.3, np.array([0.2, 0.4]), 0.0),
    "weight decay, negative": (0.0, None, -0.2),
    "weight decay, diagonal": (0.0, None, np.array([0.3, -0.1])),
    "everything": (0.7, B, GAMMA),
}


def draw(rng, sigma, input_noise):
    """N examples straight from the definition: clean x, seen x, y."""
    x = rng.multivariate_normal(np.zeros(2), A, size=N)
    y = x @ U + sigma * rng.normal(size=N)
    if input_noise is None:
        return x, x, y
    b = np.diag(input_noise) if input_noise.ndim == 1 else input_noise
    return x, x + rng.multivariate_normal(np.zeros(2), b, size=N), y


def stderr(samples):
    return samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


@pytest.mark.parametrize("case", CASES)
def test_loss_gradient_and_test_loss_are_expectations_over_the_definition(case, rng, assert_within_sigma):
    sigma, input_noise, decay = CASES[case]
    problem = ss.LinearRegression(A, U, sigma, input_noise, decay)
    x, seen, y = draw(rng, sigma, input_noise)
    gamma = np.asarray(decay)
    gamma = gamma * np.eye(2) if gamma.ndim == 0 else np.diag(gamma) if gamma.ndim == 1 else gamma
    r = seen @ W - y
    losses = 0.5 * r**2 + 0.5 * W @ gamma @ W
    gradients = seen * r[:, None] + gamma @ W
    tests = 0.5 * (x @ (W - U)) ** 2
    m = 5 * len(CASES)
    assert_within_sigma(losses.mean(), problem.loss(W), stderr(losses), m)
    assert_within_sigma(gradients.mean(axis=0), problem.gradient(W), stderr(gradients), m)
    assert_within_sigma(tests.mean(), problem.test_loss(W), stderr(tests), m)
    curvature = (seen[:, :, None] * seen[:, None, :] + gamma).reshape(N, -1)[:, [0, 1, 3]]
    assert_within_sigma(curvature.mean(axis=0), problem.hessian(W).ravel()[[0, 1, 3]], stderr(curvature), m)


def test_the_gradient_test_has_the_power_to_see_three_per_cent(rng, assert_within_sigma):
    problem = ss.LinearRegression(A, U, 0.5, B)
    _, seen, y = draw(rng, 0.5, B)
    gradients = seen * (seen @ W - y)[:, None]
    with pytest.raises(AssertionError, match=r"\|z\|"):
        assert_within_sigma(gradients.mean(axis=0), 1.03 * problem.gradient(W), stderr(gradients))


def test_example_gradient_is_the_definition():
    problem = ss.LinearRegression(A, U, 0.5, B, GAMMA)
    x, y = np.array([0.3, -1.2]), 0.8
    np.testing.assert_allclose(problem.example_gradient(W, (x, y)), x * (x @ W - y) + GAMMA @ W, rtol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_the_equivalent_noiseless_input_problem_has_the_same_joint_moments(case, rng, assert_within_sigma):
    """K, teacher and residual variance describe (seen x, residual) completely: it is jointly Gaussian."""
    sigma, input_noise, _ = CASES[case]
    problem = ss.LinearRegression(A, U, sigma, input_noise)
    _, seen, y = draw(rng, sigma, input_noise)
    r = seen @ problem.effective_teacher - y
    uncorrelated = seen * r[:, None]
    if problem.residual_variance == 0:
        np.testing.assert_allclose(r, 0.0, atol=1e-12)
        return
    assert_within_sigma(uncorrelated.mean(axis=0), 0.0, stderr(uncorrelated), 3 * len(CASES))
    assert_within_sigma((r**2).mean(), problem.residual_variance, stderr(r**2), 3 * len(CASES))


def test_the_sheet_s_minimum_with_input_noise_and_with_weight_decay():
    np.testing.assert_allclose(
        ss.LinearRegression(A, U, input_noise=B).minimum, np.linalg.solve(A + B, A @ U), rtol=1e-13
    )
    np.testing.assert_allclose(
        ss.LinearRegression(A, U, weight_decay=GAMMA).minimum, np.linalg.solve(A + GAMMA, A @ U), rtol=1e-13
    )


def test_diagonals_mean_the_same_as_matrices():
    short = ss.LinearRegression([1.0, 0.5], U, 0.3, [0.1, 0.2], [0.3, -0.1])
    full = ss.LinearRegression(np.diag([1.0, 0.5]), U, 0.3, np.diag([0.1, 0.2]), np.diag([0.3, -0.1]))
    for name in ("loss", "test_loss", "gradient", "hessian"):
        np.testing.assert_allclose(getattr(short, name)(W), getattr(full, name)(W), rtol=1e-14)
    np.testing.assert_allclose(short.minimum, full.minimum, rtol=1e-13)


def test_a_singular_covariance_is_allowed():
    problem = ss.LinearRegression([1.0, 0.0], [2.0, 3.0], input_noise=[0.5, 0.0])
    np.testing.assert_allclose(problem.gradient(problem.minimum), 0.0, atol=1e-14)
    assert np.isfinite(problem.residual_variance)
