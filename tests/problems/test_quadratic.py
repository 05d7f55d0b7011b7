"""Quadratic held against its definition."""

from __future__ import annotations

import numpy as np

import sgdsim as ss

H = np.array([[2.0, 0.5], [0.5, 1.0]])
C = np.array([[1.0, -0.4], [-0.4, 0.5]])


def test_loss_and_gradient_by_hand():
    problem = ss.Quadratic(H, C, minimum=[1.0, -1.0])
    w = np.array([2.0, 1.0])
    d = w - [1.0, -1.0]
    assert problem.loss(w) == problem.test_loss(w) == 0.5 * d @ H @ d
    np.testing.assert_allclose(problem.gradient(w), H @ d, rtol=1e-15)


def test_example_gradients_have_the_mean_and_covariance_of_one_example(rng, assert_within_sigma):
    problem, n = ss.Quadratic(H, C), 50_000
    w = np.array([0.3, 0.7])
    examples = rng.multivariate_normal(np.zeros(2), C, size=n)
    gradients = np.array([problem.example_gradient(w, example) for example in examples])
    assert_within_sigma(gradients.mean(axis=0), problem.gradient(w), gradients.std(axis=0) / np.sqrt(n), 5)
    d = gradients - problem.gradient(w)
    products = (d[:, :, None] * d[:, None, :]).reshape(n, 4)[:, [0, 1, 3]]
    assert_within_sigma(products.mean(axis=0), C.ravel()[[0, 1, 3]], products.std(axis=0) / np.sqrt(n), 5)


def test_a_nearly_symmetric_matrix_is_made_exactly_symmetric():
    problem = ss.Quadratic(H + 1e-12 * np.array([[0.0, 1.0], [0.0, 0.0]]), C)
    np.testing.assert_array_equal(problem.hessian(), problem.hessian().T)
