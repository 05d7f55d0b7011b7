import numpy as np
import pytest

from sgdsim.optimizers import SGD
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver import predict, stability

A = np.array([[1.0, 0.3], [0.3, 0.5]])


@pytest.mark.parametrize(("dimension", "b", "a"), [(1, 1, 1.0), (5, 4, 0.7), (15, 2, 2.0)])
def test_isotropic(dimension, b, a):
    limits = stability(LinearRegression([a] * dimension), SGD(0.1), batch_size=b)
    assert limits.max_learning_rate == pytest.approx(2 * b / (b + dimension + 1) / a, rel=1e-11)
    assert limits.deterministic == pytest.approx(2 / a, rel=1e-13)
    assert limits.stable == (limits.max_learning_rate > 0.1)


@pytest.mark.parametrize("mu", [0.0, 0.6])
def test_damped_newton(mu):
    b, dimension = 4, 2
    limit = stability(LinearRegression(A), SGD(0.1, mu, np.linalg.inv(A)), batch_size=b).max_learning_rate
    g = 2 * (1 - mu) - ((1 - mu) / (1 + mu) + 1 / b) * limit
    assert g * b == pytest.approx(limit * dimension, rel=1e-11)


def test_scalar_rate_in_general():
    mu, b = 0.5, 3
    limit = stability(LinearRegression(A), SGD(0.1, mu), batch_size=b).max_learning_rate
    gap = 2 * (1 - mu) * np.eye(2) - ((1 - mu) / (1 + mu) + 1 / b) * limit * A
    assert limit / b * np.trace(A @ np.linalg.inv(gap)) == pytest.approx(1, rel=1e-11)


def test_additive_noise_leaves_the_deterministic_limit():
    limits = stability(Quadratic([2.0, 1.0], [1.0, 1.0]), SGD(5.0, 0.9), batch_size=1)
    assert limits.max_learning_rate == limits.deterministic == pytest.approx(1.9)
    assert not limits.stable and limits.learning_rate == 5.0


def test_rotating_preconditioner_and_ascent():
    turn = np.array([[1.0, -2.0], [2.0, 1.0]])  # eigenvalues 1 +- 2i
    mu = 0.3
    limit = stability(Quadratic([1.0, 1.0], [1.0, 1.0]), SGD(1.0, mu, turn), batch_size=1).deterministic
    step = np.block([[np.eye(2) - limit * turn, -mu * limit * turn], [np.eye(2), mu * np.eye(2)]])
    assert np.abs(np.linalg.eigvals(step)).max() == pytest.approx(1, abs=1e-12)
    assert stability(Quadratic([1.0], [1.0]), SGD(1.0, 0.0, [-1.0]), batch_size=1).max_learning_rate == 0


@pytest.mark.parametrize("p", [None, [[1.0, 0.8], [-0.3, 0.5]]])
@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_data_set_against_the_spectrum_of_the_enumerated_recursion(oracles, p, sampling):

    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2))
    mu, b = 0.4, 2
    limit = stability(DatasetRegression(x, x[:, 0]), SGD(0.1, mu, p), batch_size=b, sampling=sampling).max_learning_rate
    rate = limit * (np.eye(2) if p is None else np.array(p))
    listed = oracles.batches(5, b, sampling)
    square = np.zeros((16, 16))
    for i in listed:
        h = x[list(i)].T @ x[list(i)] / b
        step = np.block([[np.eye(2) - rate @ h, -mu * rate], [h, mu * np.eye(2)]])
        square += np.kron(step, step) / len(listed)
    assert np.abs(np.linalg.eigvals(square)).max() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("delta", [1.0, 1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_curvature_that_decay_nearly_cancels(delta, batch_size):
    """x ~ N(0, 1), H = delta: (1 - l delta)^2 + 2 l^2 / b < 1 up to 2 delta / (delta^2 + 2 / b), not to 2 / delta."""
    problem = LinearRegression([1.0], [1.0], weight_decay=-1 + delta)
    delta = float(1 + problem.weight_decay)  # as rounded
    exact = 2 * delta / (delta**2 + 2 / batch_size)
    found = stability(problem, SGD(1e-3 * exact), batch_size=batch_size)
    assert found.max_learning_rate == pytest.approx(exact, rel=1e-9)
    assert predict(problem, SGD(1e-3 * exact), batch_size=batch_size).max_learning_rate == found.max_learning_rate
    with pytest.raises(ValueError, match=r"below .*where the second moment stops existing"):
        predict(problem, SGD(1.01 * exact), batch_size=batch_size)
