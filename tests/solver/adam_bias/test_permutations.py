"""Permutation averages against the enumeration of every order, from the definition of the correction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.adam_bias.second_order import adam_main, adam_second_order, noise_terms
from sgdsim.solver.adam_bias.weight_sums import finite_sums

N = 6
EVERY_ORDER = np.array(list(itertools.permutations(range(N))))
B1, B2, EPS = 0.6, 0.85, 0.05


def momentum_correction(g, h, beta):
    """Corr_n = sum_k beta^k H_{n-k} sum_{s=n-k}^{n-1} F_s, for g (orders, n + 1, D) and h (orders, n + 1, D, D)."""
    n = g.shape[1] - 1
    f = [sum(beta ** (s - k) * g[:, k] for k in range(s + 1)) for s in range(n)]
    return sum(beta**k * np.einsum("oij,oj->oi", h[:, n - k], sum(f[n - k : n])) for k in range(1, n + 1))


def adam_correction(g, h, b1, b2, eps):
    """L/R - M P/R^3 of equation (11), sum by sum."""
    n = g.shape[1] - 1

    def weights(b, t):
        return [b ** (t - k) * (1 - b) / (1 - b ** (t + 1)) for k in range(t + 1)]

    def moments(t):
        m = sum(a * g[:, k] for k, a in enumerate(weights(b1, t)))
        return m, np.sqrt(sum(a * g[:, k] ** 2 for k, a in enumerate(weights(b2, t))) + eps)

    u = [m / r for m, r in map(moments, range(n))]
    turned = [np.einsum("oij,oj->oi", h[:, k], sum(u[k:n])) for k in range(n)]
    mu, nu = weights(b1, n), weights(b2, n)
    m, r = moments(n)
    left = sum(mu[k] * turned[k] for k in range(n))
    pull = sum(nu[k] * g[:, k] * turned[k] for k in range(n))
    return left / r - m * pull / r**3


def batches(values, b):
    """Means over the batches of every order, (orders, n + 1, ...)."""
    return values[EVERY_ORDER.reshape(len(EVERY_ORDER), N // b, b)].mean(axis=2)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(N, 2)) + np.array([0.8, 0.4]), rng.normal(size=N) + 1
    w = np.array([-1.0, 2.5])
    return ss.DatasetRegression(x, y), w, x * (x @ w - y)[:, None], np.einsum("pi,pj->pij", x, x)


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("precondition", [None, [[1.0, 0.2], [-0.1, 0.5]]])
def test_momentum_is_exact(b, precondition, data):
    problem, w, g, h = data
    p = np.eye(2) if precondition is None else np.array(precondition)
    truth = (momentum_correction(batches(g @ p.T, b), batches(p @ h, b), 0.7)).mean(axis=0)
    found = ss.solver.adam_bias.permutation_average(problem, ss.SGD(0.1, 0.7, precondition), w, batch_size=b)
    assert found.method == "exact"
    np.testing.assert_allclose(found.correction, truth, rtol=1e-12)


@pytest.mark.parametrize("b", [1, 2])
def test_momentum_coefficients(b, data):
    _, _, g, h = data
    mean, curvature = g.mean(axis=0), h.mean(axis=0)
    found = ss.solver.adam_bias.momentum_permutation_coefficients(0.7, b, N // b - 1)
    noise = np.einsum("pij,pj->i", h, g) / N - curvature @ mean  # half the gradient of tr Sigma
    truth = momentum_correction(batches(g, b), batches(h, b), 0.7).mean(axis=0)
    np.testing.assert_allclose(2 * found.full_batch * curvature @ mean + 2 * found.noise * noise, truth, rtol=1e-12)


def test_momentum_reference_numbers():
    found = ss.solver.adam_bias.momentum_permutation_coefficients
    assert found(0.9, 4, 100) == pytest.approx((449.7597518613, 4.8194163555), rel=2e-11)
    assert found(0.9, 4, 1000) == pytest.approx((450.0, 5.8101160971), rel=2e-11)
    assert found(0.9, 4) == pytest.approx((450.0, 5.9210526316), rel=2e-11)
    limit = found(0.9, 4).noise
    gaps = [limit - found(0.9, 4, n).noise for n in (1000, 2000)]
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.01), "the noise coefficient converges like 1/n"


@pytest.fixture(scope="module")
def noisy():
    """g, Hessian and the noise of both for six examples."""
    rng = np.random.default_rng(8)
    h, turn = rng.normal(size=(N, 2)), rng.normal(size=(N, 2, 2))
    turn = turn + turn.transpose(0, 2, 1)
    return (np.array([0.7, -0.4]), np.array([[1.0, 0.3], [0.3, 0.6]]), h - h.mean(axis=0), turn - turn.mean(axis=0))


def enumerated(noisy, b, s):
    g, hessian, h, turn = noisy
    return adam_correction(batches(g + s * h, b), batches(hessian + s * turn, b), B1, B2, EPS).mean(axis=0)


def second_difference(noisy, b):
    """The s^2 coefficient of the enumerated average, by Richardson extrapolation."""
    zero = enumerated(noisy, b, 0.0)
    d = [(enumerated(noisy, b, s) + enumerated(noisy, b, -s) - 2 * zero) / (2 * s**2) for s in (0.04, 0.02, 0.01)]
    d = [(4 * d[i + 1] - d[i]) / 3 for i in range(2)]
    return zero, (16 * d[1] - d[0]) / 15


@pytest.mark.parametrize("b", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_adam_second_order(b, noisy):
    g, hessian, h, turn = noisy
    sums = finite_sums(B1, B2, N // b - 1)
    zero, two = second_difference(noisy, b)
    steady = adam_second_order(g, hessian, 0 * h, 0 * turn, b=b, sums=sums, eps=EPS)
    np.testing.assert_allclose(steady, zero, rtol=1e-12)
    found = adam_second_order(g, hessian, h, turn, b=b, sums=sums, eps=EPS) - steady
    np.testing.assert_allclose(found, two, rtol=1e-7)
    published = (N // b - 1) / (N - 1) * noise_terms(g, hessian, h, turn, sums=sums, eps=EPS).sum(axis=0)
    assert np.abs(published / two - 1).min() > 0.02, "the published prefactor is off at finite n (docs/errata.md)"


def test_adam_second_order_of_a_problem(data):
    """The same through a data set, where the noise is small."""
    _, w, _, _ = data
    rng = np.random.default_rng(2)
    x = np.array([1.0, 0.5]) + 0.02 * rng.normal(size=(N, 2))
    y = -2 + 0.02 * rng.normal(size=N)
    problem = ss.DatasetRegression(x, y)
    g, h = x * (x @ w - y)[:, None], np.einsum("pi,pj->pij", x, x)
    truth = adam_correction(batches(g, 2), batches(h, 2), B1, B2, EPS).mean(axis=0)
    found = ss.solver.adam_bias.permutation_average(
        problem, ss.Adam(0.1, B1, B2, eps=0.0, eps_root=EPS), w, batch_size=2, method="second_order")
    zeroth = adam_second_order(
        g.mean(axis=0), h.mean(axis=0), 0 * g, 0 * h, b=2, sums=finite_sums(B1, B2, 2), eps=EPS)
    noise = truth - zeroth
    assert np.abs(noise).min() > 1e-6
    np.testing.assert_allclose(found.correction - zeroth, noise, rtol=0.05)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_monte_carlo(name, data, assert_within_sigma):
    problem, w, g, h = data
    if name == "sgd":
        optimizer, truth = ss.SGD(0.1, 0.7), momentum_correction(batches(g, 2), batches(h, 2), 0.7)
    else:
        optimizer = ss.Adam(0.1, B1, B2, eps=0.0, eps_root=EPS)
        truth = adam_correction(batches(g, 2), batches(h, 2), B1, B2, EPS)
    found = ss.solver.adam_bias.permutation_average(
        problem, optimizer, w, batch_size=2, method="monte_carlo", permutations=20_000, seed=1)
    assert_within_sigma(found.correction, truth.mean(axis=0), found.stderr)
    with pytest.raises(AssertionError, match="beyond"):
        assert_within_sigma(found.correction, 1.05 * truth.mean(axis=0), found.stderr)
    # the standard error is that of the population of orders
    np.testing.assert_allclose(found.stderr, truth.std(axis=0) / np.sqrt(20_000), rtol=0.05)


def nearly_alike(noise):
    rng = np.random.default_rng(0)
    x = np.array([1.0, 0.7]) * (1 + 0.1 * rng.normal(size=(12, 2)))
    return ss.DatasetRegression(x, -2 + noise * rng.normal(size=12))


@pytest.mark.filterwarnings("ignore:second order")
@pytest.mark.parametrize("noise", [1.5, 2.0, 3.0])
def test_second_order_says_how_wrong_it_is(noise):
    average = ss.solver.adam_bias.permutation_average
    found, exact = (average(nearly_alike(noise), ss.Adam(0.1, 0.8, 0.9, eps=0.0), [0.5, 0.2], batch_size=2, method=m,
                            permutations=2048) for m in ("second_order", "monte_carlo"))
    assert np.all(np.abs(found.correction - exact.correction) < found.truncation + 5 * exact.stderr)
    assert np.all(found.truncation < 20 * np.abs(found.correction - exact.correction) + 5 * exact.stderr)
    assert not np.any(exact.truncation)


def test_second_order_ends():
    average = ss.solver.adam_bias.permutation_average
    adam = ss.Adam(0.1, 0.8, 0.9, eps=0.0)
    with pytest.warns(UserWarning, match="noise ratio of"):
        average(nearly_alike(3.0), adam, [0.5, 0.2], batch_size=2, method="second_order")
    with pytest.raises(ValueError, match=r"method is .*noise ratio of 1 .*monte_carlo"):
        average(nearly_alike(12.0), adam, [0.5, 0.2], batch_size=2, method="second_order")


@pytest.mark.parametrize("method", ["second_order", "monte_carlo"])
def test_a_dead_parameter(method):
    dead = ss.DatasetRegression([[1.0, 0.0], [2.0, 0.0], [0.5, 0.0], [1.5, 0.0]], [1.0, 1.0, 0.0, 2.0])
    with pytest.raises(ValueError, match=r"no gradient in any example .here parameter 1.*eps"):
        ss.solver.adam_bias.permutation_average(dead, ss.Adam(0.1, eps=0.0), [2.0, 1.0], batch_size=2, method=method)


def main_direction(g, b1, b2, eps):
    """M / R of equation (11) at the last step."""
    n = g.shape[1] - 1
    mu, nu = ([b ** (n - k) * (1 - b) / (1 - b ** (n + 1)) for k in range(n + 1)] for b in (b1, b2))
    root = np.sqrt(sum(a * g[:, k] ** 2 for k, a in enumerate(nu)) + eps)
    return sum(a * g[:, k] for k, a in enumerate(mu)) / root


def test_the_main_term_of_adam(noisy):
    g, _, h, _ = noisy
    sums = finite_sums(B1, B2, 2)
    zero = main_direction(batches(g + 0 * h, 2), B1, B2, EPS).mean(axis=0)
    np.testing.assert_allclose(adam_main(g, 0 * h, b=2, sums=sums, eps=EPS), zero, rtol=1e-12)
    d = [(sum(main_direction(batches(g + s * h, 2), B1, B2, EPS).mean(axis=0) for s in (e, -e)) - 2 * zero) / (2 * e**2)
         for e in (0.02, 0.01)]
    np.testing.assert_allclose(adam_main(g, h, b=2, sums=sums, eps=EPS) - zero, (4 * d[1] - d[0]) / 3, rtol=1e-5)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_later_epochs(epochs):
    """Every order of three examples in every epoch, from the definitions."""
    rng = np.random.default_rng(6)
    x, y, w, beta = rng.normal(size=(3, 2)), rng.normal(size=3), np.array([1.0, -0.5]), 0.8
    g, h = x * (x @ w - y)[:, None], np.einsum("pi,pj->pij", x, x)
    one = list(itertools.permutations(range(3)))
    orders = np.array([sum(order, ()) for order in itertools.product(one, repeat=epochs)])
    problem, length = ss.DatasetRegression(x, y), 3 * epochs
    found = ss.solver.adam_bias.permutation_average(problem, ss.SGD(0.1, beta), w, batch_size=1, epochs=epochs)
    truth = momentum_correction(g[orders], h[orders], beta).mean(axis=0)
    np.testing.assert_allclose(found.correction, truth, rtol=1e-12)
    main = sum(beta ** (length - 1 - k) * g[orders][:, k] for k in range(length)).mean(axis=0)
    np.testing.assert_allclose(found.main, main, rtol=1e-12)


def test_monte_carlo_of_two_epochs(data, assert_within_sigma):
    problem, w, _, _ = data
    average = ss.solver.adam_bias.permutation_average
    exact, drawn = (average(problem, ss.SGD(0.1, 0.7), w, batch_size=2, epochs=2, method=m, permutations=20_000)
                    for m in ("exact", "monte_carlo"))
    assert_within_sigma(drawn.correction, exact.correction, drawn.stderr, comparisons=4)
    assert_within_sigma(drawn.main, exact.main, drawn.main_stderr, comparisons=4)
    with pytest.raises(AssertionError, match="beyond"):
        assert_within_sigma(drawn.correction, 1.03 * exact.correction, drawn.stderr, comparisons=4)


def test_the_terms_of_table_1():
    """Equations (7) and (8) as printed, Sigma differentiated by differences; and their sum at finite n."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(8, 2)) + 1
    y, w, b, b1, b2 = 0.3 * rng.normal(size=8), np.array([1.0, 2.0]), 4, 0.8, 0.9

    def covariance(v):
        g = x * (x @ v - y)[:, None]
        return np.cov(g.T, bias=True)

    slope = np.stack([(covariance(w + e) - covariance(w - e)) / 2e-4 for e in 1e-4 * np.eye(2)])  # d_i Sigma
    sigma, g, turn = covariance(w), x.T @ (x @ w - y) / 8, x.T @ x / 8
    c = ss.solver.adam_bias.adam_noise_coefficients(b1, b2)
    sign, norm = np.sign(g), turn @ np.sign(g)
    full = (b1 / (1 - b1) - b2 / (1 - b2)) * norm
    printed = np.array([
        [c.c1 * norm[j] * sigma[j, j] / g[j] ** 2 for j in range(2)],
        [c.c2 * sum(sign[i] * turn[i, j] * sigma[i, i] / g[i] ** 2 for i in range(2)) for j in range(2)],
        [c.c3 / g[j] * sum(sign[i] * slope[i, j, j] for i in range(2)) for j in range(2)],
        [c.c4 * sum(slope[j, i, i] / abs(g[i]) for i in range(2)) for j in range(2)],
        [c.c5 / g[j] * sum(turn[i, j] * sigma[i, j] / abs(g[i]) for i in range(2)) for j in range(2)],
    ]) / b
    problem, adam = ss.DatasetRegression(x, y), ss.Adam(0.1, b1, b2, eps=0.0)
    terms = ss.solver.adam_bias.adam_bias_terms(problem, w, adam, batch_size=b)
    np.testing.assert_allclose(terms.full_batch, full, rtol=1e-12)
    np.testing.assert_allclose(terms.noise, printed, rtol=1e-7)
    np.testing.assert_allclose(terms.noise_ratio, np.diag(sigma) / (b * g**2), rtol=1e-12)
    assert not terms.anticorrelation.any()
    with pytest.warns(UserWarning, match="noise ratio"):
        whole = ss.solver.adam_bias.permutation_average(problem, adam, w, batch_size=b, method="second_order")
    finite = ss.solver.adam_bias.adam_bias_terms(problem, w, adam, batch_size=b, n=1)
    np.testing.assert_allclose(finite.correction, whole.correction, rtol=1e-12)
    assert np.abs(finite.anticorrelation).min() > 1e-3
