"""Damped Newton and the natural gradient: the matrix equations against closed forms, recursions and each other."""

import closed_forms
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver import predict, stability

A = np.array([[1.0, 0.3], [0.3, 0.5]])
NOISY = ss.LinearRegression(A, label_noise=0.5)
RNG = np.random.default_rng(4)
FEATURES = RNG.standard_t(5, size=(5, 2))
TARGETS = RNG.normal(size=5)


@pytest.mark.parametrize("momentum", [0.0, 0.4])
@pytest.mark.parametrize(("rate", "b"), [(0.05, 1), (0.5, 4), (1.2, 20)])
def test_damped_newton_is_its_closed_form(rate, b, momentum):
    law = predict(NOISY, ss.DampedNewton(rate, momentum), batch_size=b)
    expected = closed_forms.damped_newton_law(A, rate, b, 0.5, momentum)
    np.testing.assert_allclose(law.covariance, expected, rtol=1e-10)
    # stable iff g b > lambda D, solved for lambda
    limit = 2 * (1 - momentum) / ((1 - momentum) / (1 + momentum) + 3 / b)
    assert law.max_learning_rate == pytest.approx(limit, rel=1e-10)
    assert stability(NOISY, ss.DampedNewton(rate, momentum), batch_size=b).max_learning_rate == pytest.approx(limit)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_damped_newton_on_data_against_every_batch(momentum, oracles):
    problem = ss.DatasetRegression(FEATURES, TARGETS)
    matrix = 0.3 * np.linalg.inv(FEATURES.T @ FEATURES / 5)
    mean, covariance = oracles.recursion(FEATURES, TARGETS, matrix, momentum, 3, "without_replacement")
    law = predict(problem, ss.DampedNewton(0.3, momentum), batch_size=3, sampling="without_replacement")
    np.testing.assert_allclose(law.covariance, covariance, rtol=1e-8)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-8)


def test_damped_newton_past_the_limit_is_refused():
    with pytest.raises(ValueError, match=r"below 0\.571429"):  # 2 / (1 + (1 + D) / S)
        predict(ss.LinearRegression(np.eye(4), label_noise=1.0), ss.DampedNewton(0.6), batch_size=2)


@pytest.mark.parametrize("momentum", [0.0, 0.4])
@pytest.mark.parametrize("b", [1, 4, 64])
@pytest.mark.parametrize("rate", [1e-3, 0.2, 2.0, 100.0])
def test_natural_gradient_is_its_closed_form(rate, b, momentum):
    """The fixed point of the general equations against the formula of the theory sheet, at every learning rate."""
    law = predict(NOISY, ss.NaturalGradient(rate, momentum), batch_size=b)
    expected = closed_forms.natural_gradient_law(A, rate, b, 0.5, momentum)
    np.testing.assert_allclose(law.covariance, expected, rtol=1e-9)
    assert law.max_learning_rate == np.inf
    # perturbed by 3% the formula is seen to be wrong
    assert np.abs(law.covariance / (1.03 * expected) - 1).min() > 0.02


def test_the_closed_form_solves_the_scalar_fixed_point():
    """Damped Newton at the rate lambda / ((1+D) x + sigma^2) leaves the x that was put in."""
    for rate in (0.1, 3.0, 50.0):
        x = closed_forms.natural_gradient_law(np.eye(3), rate, 8, 0.5, 0.4)[0, 0]
        again = closed_forms.damped_newton_law(np.eye(3), rate / (4 * x + 0.25), 8, 0.5, 0.4)[0, 0]
        assert again == pytest.approx(x, rel=1e-10)


def test_without_noise_the_law_is_the_limit_of_small_noise():
    limit = closed_forms.natural_gradient_law(A, 0.5, 8, 0.0)
    np.testing.assert_allclose(closed_forms.natural_gradient_law(A, 0.5, 8, 1e-6), limit, rtol=1e-9)
    np.testing.assert_allclose(limit, 0.5 * (1 / 3 + 1 / 8) / 2 * np.linalg.inv(A), rtol=1e-12)


DATA = ss.DatasetRegression(RNG.standard_t(5, size=(25, 4)), RNG.normal(size=25), weight_decay=0.1)
GENERAL = {
    "data": (DATA, 5, "with_replacement", 0.0),
    "data, subsets, momentum": (DATA, 7, "without_replacement", 0.5),
    "input noise": (ss.LinearRegression(A, [1.0, 2.0], input_noise=[0.3, 0.1], label_noise=0.3), 4, None, 0.3),
    "weight decay": (ss.LinearRegression(A, [1.0, -1.0], weight_decay=[[0.4, -0.2], [-0.2, 0.1]]), 4, None, 0.0),
    "bowl": (ss.Quadratic(A, [[1.0, 0.2], [0.2, 2.0]]), 4, None, 0.2),
}


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize("rate", [0.1, 1.5])
def test_the_self_consistent_fisher_is_the_noise_it_leads_to(name, rate):
    """SGD with the preconditioner (S C)^-1, a separate route, has the gradient covariance C."""
    problem, b, sampling, momentum = GENERAL[name]
    law = predict(problem, ss.NaturalGradient(rate, momentum), batch_size=b, sampling=sampling)
    sgd = ss.SGD(rate, momentum, np.linalg.inv(b * law.noise_covariance))
    again = predict(problem, sgd, batch_size=b, sampling=sampling)
    for quantity in ("noise_covariance", "covariance"):
        found, expected = getattr(again, quantity), getattr(law, quantity)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
    fisher = ss.NaturalGradient(rate, momentum, fisher=law.noise_covariance)
    assert predict(problem, fisher, batch_size=b, sampling=sampling).test_loss == pytest.approx(law.test_loss)


@pytest.mark.slow
def test_many_parameters_by_krylov_iteration():
    problem = ss.DatasetRegression(RNG.normal(size=(60, 14)), RNG.normal(size=60))
    law = predict(problem, ss.NaturalGradient(0.5), batch_size=8)
    again = predict(problem, ss.SGD(0.5, preconditioner=np.linalg.inv(8 * law.noise_covariance)), batch_size=8)
    np.testing.assert_allclose(again.noise_covariance, law.noise_covariance, rtol=1e-8, atol=1e-10)


def test_additive_noise_has_a_limit():
    """C does not grow, so the steps do not shrink: L H has eigenvalues below 2(1+mu) / lambda."""
    problem = ss.Quadratic([1.0, 0.5], [2.0, 0.5])  # S C = noise covariance: L H = lambda diag(.5, 1)
    assert predict(problem, ss.NaturalGradient(0.5, 0.4), batch_size=8).max_learning_rate == pytest.approx(2.8)
    limits = stability(problem, ss.NaturalGradient(5.0, 0.4), batch_size=8)
    assert not limits.stable and limits.max_learning_rate == limits.deterministic == pytest.approx(2.8)
    with pytest.raises(ValueError, match=r"learning_rate .* below 2\.8"):
        predict(problem, ss.NaturalGradient(5.0, 0.4), batch_size=8)


def test_growing_noise_has_none():
    limits = stability(NOISY, ss.NaturalGradient(1e3), batch_size=8)
    assert limits.stable and limits.max_learning_rate == limits.deterministic == np.inf


@pytest.mark.parametrize("problem", [ss.LinearRegression(A), ss.DatasetRegression(FEATURES[:1], TARGETS[:1])])
def test_no_noise_has_no_natural_gradient(problem):
    with pytest.raises(ValueError, match=r"fisher .* singular"):
        predict(problem, ss.NaturalGradient(0.1), batch_size=4)


def test_the_estimating_ensemble_is_stable_with_memory_and_not_without():
    radius = closed_forms.natural_gradient_ensemble_radius
    assert radius(2, 0.5, 64, 0.5, 0.0) < 1 < radius(2, 2.0, 64, 0.5, 0.0)
    assert all(radius(d, rate, b, 0.5, 0.9) < 1
               for d in (1, 2, 10, 100) for rate in np.geomspace(1e-3, 1e4, 15) for b in (1, 8, 64, 4096))  # fmt: skip


def mean_field(dimension, rate, b, sigma, memory, x, c, steps):
    """Second moments of infinitely many chains, from the update rule."""
    for _ in range(steps):
        c = memory * c + (1 - memory) * (sigma**2 + (1 + dimension) * x)
        k = rate / c
        x = (1 - 2 * k + k**2 * (1 + (dimension + 1) / b)) * x + k**2 * sigma**2 / b
    return x, c


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_the_radius_is_that_of_the_mean_field_recursion(memory):
    setting = (3, 0.4, 8, 0.5, memory)
    x = closed_forms.natural_gradient_law(np.eye(3), 0.4, 8, 0.5)[0, 0]
    fixed = np.array([x, 0.25 + 4 * x])
    np.testing.assert_allclose(mean_field(*setting, *fixed, 100), fixed, rtol=1e-12)
    jacobian = np.array([
        np.subtract(mean_field(*setting, *(fixed + h), 1), mean_field(*setting, *(fixed - h), 1)) / 2e-6
        for h in 1e-6 * np.eye(2)
    ])
    radius = closed_forms.natural_gradient_ensemble_radius(*setting)
    assert np.abs(np.linalg.eigvals(jacobian)).max() == pytest.approx(radius, rel=1e-6)
