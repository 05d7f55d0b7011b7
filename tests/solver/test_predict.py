import jax
import numpy as np
import optax
import pytest

from sgdsim.optimizers import SGD, Adam, NaturalGradient
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver import predict
from sgdsim.solver.stationary import stationary_covariance

A = np.array([[1.0, 0.3], [0.3, 0.5]])
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(5, 2)), RNG.normal(size=5)
SKEW = np.array([[1.0, 0.6], [-0.2, 0.5]])
DEFECTIVE = np.array([[1.0, 0.7], [0.0, 1.0]])


def test_the_sheet():
    problem = LinearRegression(A, label_noise=0.5)
    law = predict(problem, SGD(0.2, 0.5), batch_size=4)
    np.testing.assert_allclose(law.covariance.ravel()[[0, 1, 3]],
                               [0.015480526502, 0.000575382401, 0.014521555834], atol=6e-13)
    np.testing.assert_allclose(law.noise_covariance.ravel()[[0, 1, 3]],
                               [0.072554807457, 0.022271956775, 0.035434879498], atol=6e-13)
    law = predict(problem, SGD(1.0, 0.5, [[0.2, 0.05], [0.05, 0.1]]), batch_size=4)
    np.testing.assert_allclose(law.covariance.ravel()[[0, 1, 3]],
                               [0.01579483386, 0.004300314467, 0.007276935749], atol=6e-12)
    law = predict(LinearRegression([1.0, 0.5], label_noise=0.5), SGD(1.5), batch_size=50)
    np.testing.assert_allclose(np.diag(law.covariance), [0.017269506852, 0.006572200988], atol=6e-13)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
@pytest.mark.parametrize("mu", [0.0, 0.5])
@pytest.mark.parametrize("p", [None, SKEW, DEFECTIVE])
def test_data_set_against_every_batch(oracles, sampling, mu, p):
    gamma, sigma, rate = np.array([[0.2, 0.05], [0.05, 0.1]]), 0.3, 0.15
    mean, covariance = oracles.recursion(X, Y, rate * (np.eye(2) if p is None else p), mu, 2, sampling, gamma, sigma)
    problem = DatasetRegression(X, Y, weight_decay=gamma, label_noise=sigma)
    law = predict(problem, SGD(rate, mu, p), batch_size=2, sampling=sampling)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(law.covariance, covariance, rtol=1e-10)
    root = np.linalg.cholesky(covariance)
    points = mean[:, None] + np.sqrt(2) * np.hstack([root, -root])  # the same mean and covariance
    assert law.train_loss == pytest.approx(problem.loss(points).mean(), rel=1e-10)
    assert law.test_loss == pytest.approx(problem.test_loss(points).mean(), rel=1e-10)
    other = predict(problem, SGD(1.03 * rate, mu, p), batch_size=2, sampling=sampling)
    assert np.abs(other.covariance / covariance - 1).max() > 0.01


@pytest.mark.parametrize("p", [None, RNG.normal(size=(3, 3)) * 0.2 + np.eye(3)])
@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_rank_deficient_data(oracles, p, mu):
    x = np.array([[1.0, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]])  # one-hot columns and an intercept
    y = np.array([1.0, 2.0, 0.0, -0.5])
    mean, covariance = oracles.recursion(x, y, 0.3 * (np.eye(3) if p is None else p), mu, 2, "with_replacement")
    law = predict(DatasetRegression(x, y), SGD(0.3, mu, p), batch_size=2)
    np.testing.assert_allclose(law.mean, mean, atol=1e-10)
    np.testing.assert_allclose(law.covariance, covariance, atol=1e-10 * np.abs(covariance).max())


def test_fewer_examples_than_parameters_interpolates():
    law = predict(DatasetRegression(X.T, np.array([1.0, -1.0])), SGD(0.1), batch_size=1)
    assert np.abs(law.covariance).max() < 1e-25
    assert law.train_loss == pytest.approx(0, abs=1e-25)


def test_full_batch_has_no_noise():
    law = predict(DatasetRegression(X, Y), SGD(0.1, 0.5), batch_size=5, sampling="without_replacement")
    assert not law.covariance.any() and not law.noise_covariance.any()
    assert law.test_loss == pytest.approx(0, abs=1e-25)


def test_input_noise_decay_and_label_noise_at_once(oracles):
    noise, gamma, u = np.array([[0.2, 0.1], [0.1, 0.3]]), -0.1, np.array([1.0, -2.0])
    problem = LinearRegression(A, u, label_noise=0.5, input_noise=noise, weight_decay=gamma)
    law = predict(problem, SGD(0.2, 0.5, SKEW), batch_size=3)
    k = A + noise
    best = np.linalg.solve(k, A @ u)
    d = np.linalg.solve(k + gamma * np.eye(2), A @ u) - best
    c = oracles.gaussian_gradient_covariance(k, law.covariance + np.outer(d, d), 0.25 + u @ A @ (u - best), 3)
    # the noise of a batch at weights d: its part from the spread of the full gradient is not noise
    np.testing.assert_allclose(law.noise_covariance, c, rtol=1e-12)
    sigma = stationary_covariance(k + gamma * np.eye(2), c, 0.2 * SKEW, 0.5)
    np.testing.assert_allclose(law.covariance, sigma, rtol=1e-11)


def test_krylov_and_dense_agree(monkeypatch):
    problem = LinearRegression(np.linspace(0.2, 1, 8), np.ones(8), label_noise=0.3, weight_decay=0.1)
    for share in (0.5, 0.999):
        limit = predict(problem, SGD(0.01, 0.3), batch_size=4).max_learning_rate
        dense = predict(problem, SGD(share * limit, 0.3), batch_size=4)
        with monkeypatch.context() as patch:
            patch.setattr("sgdsim.solver.stationary.generalized_lyapunov._DENSE", 1)
            krylov = predict(problem, SGD(share * limit, 0.3), batch_size=4)
        np.testing.assert_allclose(krylov.covariance, dense.covariance, rtol=1e-10, atol=1e-16)
        assert krylov.max_learning_rate == pytest.approx(dense.max_learning_rate, rel=1e-11)
        assert krylov.spectral_radius == pytest.approx(dense.spectral_radius, abs=1e-9)


def test_spectral_radius_of_the_second_moment():
    law = predict(LinearRegression([1.0], label_noise=1.0), SGD(0.3), batch_size=2)
    assert law.spectral_radius == pytest.approx(1 - 2 * 0.3 + 0.3**2 * (1 + 2 / 2), abs=1e-9)
    h = 0.4  # with momentum: the enumerated step matrices
    law = predict(DatasetRegression([[1.0], [2.0]], [0.0, 1.0]), SGD(0.1, h), batch_size=1)
    steps = [np.array([[1 - 0.1 * a, -0.1 * h], [a, h]]) for a in (1.0, 4.0)]
    spectrum = np.abs(np.linalg.eigvals(sum(np.kron(s, s) for s in steps) / 2)).max()
    assert law.spectral_radius == pytest.approx(spectrum, abs=1e-8)


def test_double_precision_whatever_the_default():
    assert jax.numpy.ones(1).dtype == np.float32
    law = predict(Quadratic([1.0], [2.0], [5.0]), SGD(0.3), batch_size=2)
    assert law.covariance.dtype == law.mean.dtype == np.float64
    assert law.covariance[0, 0] == pytest.approx(0.3 / 1.7, rel=1e-14)
    assert law.mean[0] == 5.0


def test_approximations_on_data_take_the_residual():
    problem = DatasetRegression(X, Y, label_noise=0.2)
    f = 3 / 8  # (5-2)/(2*4)
    strength = f * 2 * float(problem.least_loss) + 0.04 / 2
    law = predict(problem, SGD(0.1, 0.5, SKEW @ SKEW.T), batch_size=2, sampling="without_replacement",
                  approximation="continuous")
    np.testing.assert_allclose(law.covariance, strength * 0.1 * SKEW @ SKEW.T / 2 / 0.5, rtol=1e-11)
    law = predict(problem, SGD(0.1, 0.5, SKEW), batch_size=2, sampling="without_replacement", approximation="hessian")
    np.testing.assert_allclose(law.noise_covariance, strength * X.T @ X / 5, rtol=1e-12)
    expected = stationary_covariance(X.T @ X / 5, law.noise_covariance, 0.1 * SKEW, 0.5)
    np.testing.assert_allclose(law.covariance, expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("kind", "optimizer", "arguments", "message"),
    [
        (ValueError, SGD(0.9), {"batch_size": 1}, "learning_rate is 0.9.*below 0.5, where"),
        (ValueError, SGD(0.1), {"batch_size": 1.0}, "batch_size"),
        (ValueError, SGD(0.1), {"batch_size": 1, "sampling": "with_replacement"}, "sampling"),
        (ValueError, SGD(0.1), {"batch_size": 1, "approximation": "exakt"}, "did you mean 'exact'"),
        (ValueError, SGD(0.1, 0.0, [1.0]), {"batch_size": 1}, "preconditioner"),
        (ValueError, SGD(0.1, 0.0, [1.0, 0.0]), {"batch_size": 1}, "invertible"),
        (NotImplementedError, SGD(lambda step: 0.1), {"batch_size": 1}, "constant rate"),
        (NotImplementedError, Adam(lambda step: 0.1), {"batch_size": 1}, "constant rate"),
        (NotImplementedError, optax.adam(0.1), {"batch_size": 1}, "scale_by_adam"),
        (ValueError, "sgd", {"batch_size": 1}, "optimizer"),
    ],
)
def test_refusals(kind, optimizer, arguments, message):
    with pytest.raises(kind, match=message):
        predict(LinearRegression([1.0, 1.0], label_noise=0.5), optimizer, **arguments)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (LinearRegression([1.0, 0.5], weight_decay=-0.7), "no minimum"),
        (LinearRegression([1.0, 0.5], [1.0, 1.0], weight_decay=[0.0, -0.5]), "has a minimum"),
        (LinearRegression([1.0, 0.5], weight_decay=[0.0, -0.5], label_noise=1.0), "random walk"),
        (Quadratic([1.0, 0.0], [1.0, 1.0]), "random walk"),
        (Quadratic([0.0], [0.0]), "flat"),
    ],
)
def test_no_stationary_law(problem, message):
    with pytest.raises(ValueError, match=message):
        predict(problem, SGD(0.1), batch_size=1)


def test_a_covariance_with_correlations_beyond_1_is_refused():
    """Curvatures 1 and 1e-308 in a metric that mixes them: the variances underflow beside their covariance."""
    tilted = NaturalGradient(1.0, fisher=[[1.0, 1.0], [1.0, 5.0]])
    with pytest.raises(ValueError, match="double precision resolves its covariance"):
        predict(Quadratic([1.0, 1e-308], [1.0, 1.0], [1.0, 1.0]), tilted, batch_size=1, approximation="continuous")
    resolved = predict(Quadratic([1.0, 1e-8], [1.0, 1.0], [1.0, 1.0]), tilted, batch_size=1, approximation="continuous")
    spread = np.sqrt(np.diag(resolved.covariance))
    assert abs(resolved.covariance[0, 1]) <= spread[0] * spread[1]
