"""Networks against theory: a linear network has the exact law of least squares; gradient noise is exact everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.experiments.framework.networks import find_minimum
from sgdsim.experiments.minibatch_noise.general_minima import regression
from sgdsim.solver import gradient_covariance
from sgdsim.solver.stationary import covariance_near_minimum
from sgdsim.statistics import GradientNoise, Moments

RNG = np.random.default_rng(21)
X = RNG.standard_t(6, size=(25, 2))
Y = X @ [1.0, -0.5] + RNG.normal(size=25)


def distinct(matrix):
    return np.asarray(matrix)[np.triu_indices(len(matrix))]


def test_a_linear_network_has_the_exact_stationary_law(assert_within_sigma):
    problem = ss.FlaxNetwork(nn.Dense(1, use_bias=False), X, Y, weight_decay=0.1)
    optimizer = ss.SGD(0.1, momentum=0.4)
    theory = ss.predict(ss.DatasetRegression(X, Y, weight_decay=0.1), optimizer, batch_size=5,
                        sampling="without_replacement")
    result = ss.simulate(problem, optimizer, batch_size=5, chains=4000, steps=300, burn_in=150, seed=1,
                         sampling="without_replacement", progress=False)
    for name in ("mean", "covariance", "noise_covariance", "train_loss"):
        found, error = (np.atleast_1d(getattr(result, name + end)) for end in ("", "_stderr"))
        truth = np.atleast_1d(getattr(theory, name))
        if found.ndim == 2:
            found, error, truth = distinct(found), distinct(error), distinct(truth)
        assert_within_sigma(found, truth, error, comparisons=9)
    with pytest.raises(AssertionError):
        assert_within_sigma(np.diag(result.covariance), 1.05 * np.diag(theory.covariance),
                            np.diag(result.covariance_stderr), comparisons=9)


@pytest.mark.slow
def test_gradient_noise_of_chains_that_stay_is_the_exact_one(assert_within_sigma):
    labels = (X[:, 0] > 0).astype(int)
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(2)]), X, labels, "cross_entropy")
    result = ss.simulate(problem, ss.SGD(1e-12), batch_size=4, chains=2000, steps=40, seed=2,
                         statistics=[GradientNoise()], progress=False)
    exact = gradient_covariance(problem, problem.default_start, 4)
    found, error = distinct(result.noise_covariance), distinct(result.noise_covariance_stderr)
    assert_within_sigma(found, distinct(exact), error)
    with pytest.raises(AssertionError):
        assert_within_sigma(found, 1.05 * distinct(exact), error)


@pytest.mark.slow
def test_fluctuations_around_a_minimum_follow_corollary_3(assert_within_sigma):
    """Residuals of one size: the noise is that of Theorem 5 up to 5%, and what is left over is O(1/S^2)."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 2))
    y = np.tanh(x @ rng.normal(size=(2, 2))) @ [1.0, -1.5] + 0.05 * rng.choice([-1.0, 1.0], size=1500)
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(1)]), x, y, weight_decay=1e-3)
    w = find_minimum(problem, problem.default_start)
    optimizer = ss.SGD(0.1)
    law = covariance_near_minimum(problem, optimizer, w, batch_size=32)
    values, vectors = np.linalg.eigh(problem.hessian(w))
    stiff = vectors[:, values > 0.5]
    result = ss.simulate(problem, optimizer, batch_size=32, chains=4096, steps=200, seed=5, initial=w,
                         statistics=[Moments()], burn_in=199, progress=False)
    moved = (result.final - w) @ stiff
    ratio = moved.var(axis=0, ddof=1) / np.diag(stiff.T @ law @ stiff)
    stderr = ((moved - moved.mean(axis=0)) ** 2).std(axis=0) / np.sqrt(len(moved)) / moved.var(axis=0)
    assert_within_sigma(ratio, np.ones_like(ratio), np.hypot(stderr, 0.05))
    assert (np.abs(ratio - 1.5) > 4 * np.hypot(stderr, 0.05)).all()


def test_the_minima_of_the_experiment_do_not_hang_on_the_last_digits():
    """A GPU and a newer JAX start 1e-7 elsewhere; from random weights that led to another minimum, or to none."""
    point = regression("growing with |x|²", 400)
    elsewhere = point.w + 0.05 * np.random.default_rng(0).standard_normal(len(point.w))
    np.testing.assert_allclose(find_minimum(point.problem, elsewhere), point.w, rtol=0, atol=1e-6)
    assert np.linalg.eigvalsh(np.asarray(point.problem.hessian(point.w)))[0] > 1e-5
