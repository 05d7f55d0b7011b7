"""Theorem 5, corollaries 2 and 3: against enumeration, the exact noise of linear models, and printed closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.solver import gradient_covariance
from sgdsim.solver.stationary import covariance_near_minimum, noise_covariance_near_minimum

data = np.random.default_rng(11)


def half_square(w, x, y):
    return 0.5 * (x @ w - y) ** 2


def line(x, y, weight_decay=0.0):
    """Least squares as a loss that nothing is known of."""
    return ss.FromLoss(half_square, x, y, np.zeros(x.shape[1]), weight_decay)


@pytest.fixture(scope="module")
def signs():
    """Least squares whose residuals at the minimum are all of the size 0.3: Theorem 5 is exact there."""
    x = data.normal(size=(40, 3))
    signs = data.choice([-1.0, 1.0], size=20)
    x = np.vstack([x[:20], x[:20]])  # each input twice, with opposite residuals: the minimum stays where it is
    residuals = 0.3 * np.concatenate([signs, -signs])
    w = np.array([1.0, -2.0, 0.5])
    return x, x @ w + residuals, w


MODULE = nn.Sequential((nn.Dense(3), nn.tanh, nn.Dense(2)))


@pytest.mark.slow
def test_a_network_and_its_loss_agree():
    x, y = data.normal(size=(9, 2)), data.integers(0, 2, size=9)
    problem = ss.FlaxNetwork(MODULE, x, y, "cross_entropy", weight_decay=0.2)
    w = problem.random_start(3, 1)[0]

    def cross_entropy(v, features, label):
        logits = MODULE.apply({"params": problem.unflatten(v)}, features[None])[0]
        return -jax.nn.log_softmax(logits)[label]

    own = ss.FromLoss(cross_entropy, x, y, w, weight_decay=0.2)
    np.testing.assert_allclose(noise_covariance_near_minimum(problem, w, batch_size=3),
                               noise_covariance_near_minimum(own, w, batch_size=3, form="fisher"), rtol=1e-9)
    np.testing.assert_allclose(gradient_covariance(problem, w, 3), gradient_covariance(own, w, 3), rtol=1e-9)


def test_theorem_5_is_exact_for_residuals_of_one_size(signs):
    x, y, w = signs
    problem = line(x, y)
    for sampling in ("with_replacement", "without_replacement"):
        law = noise_covariance_near_minimum(problem, w, batch_size=4, sampling=sampling)
        np.testing.assert_allclose(law, gradient_covariance(problem, w, 4, sampling), rtol=1e-10)
    off = noise_covariance_near_minimum(problem, 1.2 * w, batch_size=4)
    assert np.linalg.norm(off - gradient_covariance(problem, 1.2 * w, 4)) > 0.1 * np.linalg.norm(off)


def test_several_outputs_share_the_loss():
    """With k outputs of uncorrelated residuals the law has 2 L_0 / k; the paper's 2 L_0 would be k times too large."""
    n, k = 40_000, 3
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(n, 2)), rng.normal(size=(2, k))
    problem = ss.FlaxNetwork(nn.Dense(k, use_bias=False), x, x @ w + rng.normal(size=(n, k)))
    law = noise_covariance_near_minimum(problem, w.ravel(), batch_size=1)
    exact = gradient_covariance(problem, w.ravel(), 1)
    assert np.linalg.norm(law - exact) < 0.03 * np.linalg.norm(exact)
    assert np.trace(law) / np.trace(exact) == pytest.approx(1, abs=0.02)


def test_cross_entropy_of_a_calibrated_model_is_fishers():
    n = 40_000
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(n, 2)), np.array([[2.0, -1.0, 0.0], [0.5, 0.0, -1.5]])
    labels = (x @ w + rng.gumbel(size=(n, 3))).argmax(axis=1)
    problem = ss.FlaxNetwork(nn.Dense(3, use_bias=False), x, labels, "cross_entropy")
    exact = gradient_covariance(problem, w.ravel(), 1)

    def error(form):
        law = noise_covariance_near_minimum(problem, w.ravel(), batch_size=1, form=form)
        return np.linalg.norm(law - exact) / np.linalg.norm(exact)

    assert error(None) == error("fisher") < 0.03
    assert error("loss") > 0.2  # 2 L_0 is not 1


def test_corollary_2_the_gradient_of_the_data_not_of_the_full_loss():
    """At a minimum with weight decay the full gradient is 0, but the noise lacks the square of gamma w*."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(30, 2))
    gamma = 0.7
    problem = ss.DatasetRegression(x, x @ [1.0, -1.0] + 0.1 * rng.normal(size=30), weight_decay=gamma)
    w = problem.minimum
    law = noise_covariance_near_minimum(line(problem.features, problem.targets), w, batch_size=5)
    loss = 0.5 * np.mean((problem.features @ w - problem.targets) ** 2)
    printed = (2 * loss * problem.gram - gamma**2 * np.outer(w, w)) / 5
    np.testing.assert_allclose(law, printed, rtol=1e-9)
    exact = gradient_covariance(problem, w, 5)
    r2 = (problem.features @ w - problem.targets) ** 2
    spread = (problem.features.T * r2) @ problem.features / 30 / 5
    np.testing.assert_allclose(exact, spread - gamma**2 * np.outer(w, w) / 5, rtol=1e-9)


def test_corollary_2_has_the_wrong_sign_for_gaussian_inputs():
    """Errata: there E[r^2 x x'] = 2 L_0 A + 2 g g', so that the rank-one term is + g g' / S, not - g g' / S."""
    rng = np.random.default_rng(6)
    n, gamma = 100_000, 0.3
    x = rng.normal(size=(n, 2))
    problem = ss.DatasetRegression(x, x @ [1.0, -1.0] + 0.5 * rng.normal(size=n), weight_decay=gamma)
    w = problem.minimum
    law = noise_covariance_near_minimum(line(problem.features, problem.targets), w, batch_size=1)
    exact = gradient_covariance(problem, w, 1)
    rank_one = gamma**2 * np.outer(w, w)

    def error(c):
        return np.linalg.norm(c - exact) / np.linalg.norm(exact)

    assert error(law) == pytest.approx(0.3616, abs=1e-3)
    assert error(law + rank_one) == pytest.approx(0.1795, abs=1e-3)
    assert error(law + 2 * rank_one) < 0.01
    # And so says the exact law of the paper's own section 4.3, with fresh Gaussian inputs.
    fresh = ss.LinearRegression([1.0, 1.0], [1.0, -1.0], weight_decay=gamma)
    v = fresh.minimum
    bias = v - [1.0, -1.0]
    truth = gradient_covariance(fresh, v, 1)
    np.testing.assert_allclose(truth, bias @ bias * np.eye(2) + gamma**2 * np.outer(v, v), rtol=1e-10)


def corollary_3(h0, loss, rate, momentum, batch):
    """The closed form as printed, on the eigenvectors of H_0; P keeps those with curvature."""
    h, v = np.linalg.eigh(h0)
    kept = h > 1e-10 * h.max()
    values = np.where(kept, 2 * loss * rate / (batch * (1 - momentum)) / (2 - rate * h / (1 + momentum)), 0.0)
    return (v * values) @ v.T


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_corollary_3_as_printed(signs, momentum):
    x, y, w = signs
    optimizer = ss.SGD(0.2, momentum=momentum)
    found = covariance_near_minimum(line(x, y), optimizer, w, batch_size=4)
    np.testing.assert_allclose(found, corollary_3(x.T @ x / len(x), 0.045, 0.2, momentum, 4), rtol=1e-9)
    wide = np.hstack([x, x[:, :1]])  # a repeated column: one flat direction
    flat = covariance_near_minimum(line(wide, y), optimizer, [*w, 0.0], batch_size=4)
    np.testing.assert_allclose(flat, corollary_3(wide.T @ wide / len(x), 0.045, 0.2, momentum, 4), rtol=1e-8,
                               atol=1e-14)
    np.testing.assert_allclose(flat @ [1.0, 0.0, 0.0, -1.0], 0.0, atol=1e-12)


def test_interpolation_does_not_fluctuate(signs):
    x, _, w = signs
    found = covariance_near_minimum(line(x, x @ w), ss.SGD(0.2), w, batch_size=4)
    np.testing.assert_allclose(found, 0.0, atol=1e-20)


def test_leading_order_of_the_exact_law(signs):
    """The exact stationary covariance of least squares approaches Corollary 3 as the batch grows."""
    x, y, w = signs
    problem = ss.DatasetRegression(x, y)
    errors = []
    for batch in (4, 16, 64):
        exact = ss.predict(problem, ss.SGD(0.2), batch_size=batch).covariance
        law = covariance_near_minimum(line(x, y), ss.SGD(0.2), w, batch_size=batch)
        errors.append(np.linalg.norm(law - exact) / np.linalg.norm(exact))
    assert errors[0] < 0.15
    assert errors[1] / errors[0] == pytest.approx(1 / 4, rel=0.15)
    assert errors[2] / errors[1] == pytest.approx(1 / 4, rel=0.15)


def test_matrix_learning_rates_and_decay_solve_the_generalised_lyapunov_equation(signs):
    """Equation [3] at mu = 0, with the noise of Corollary 2 [15] put in."""
    x, y, _ = signs
    gamma, a = 0.05, x.T @ x / len(x)
    w = ss.DatasetRegression(x, y, weight_decay=gamma).minimum
    p = np.array([[1.0, 0.2, 0.0], [0.2, 0.5, 0.1], [0.0, 0.1, 0.7]])
    found = covariance_near_minimum(line(x, y, gamma), ss.SGD(0.1, preconditioner=p), w, batch_size=8)
    noise = (np.mean((x @ w - y) ** 2) * a - gamma**2 * np.outer(w, w)) / 8
    rate, h = 0.1 * p, a + gamma * np.eye(3)
    left = rate @ h @ found + found @ h @ rate - rate @ h @ found @ h @ rate
    np.testing.assert_allclose(left, rate @ noise @ rate, rtol=1e-8, atol=1e-12)


def test_what_is_no_minimum_is_refused(signs):
    x, y, w = signs
    problem = line(x, y)
    with pytest.raises(ValueError, match="Newton step"):
        covariance_near_minimum(problem, ss.SGD(0.1), 3 * w, batch_size=4)
    wave = ss.FromLoss(lambda v, z, t: 0.5 * (jnp.cos(z @ v) - t) ** 2, x, y, 0 * w)
    with pytest.raises(ValueError, match="curvature"):
        covariance_near_minimum(wave, ss.SGD(0.1), 0 * w, batch_size=4)
    with pytest.raises(NotImplementedError, match="SGD"):
        covariance_near_minimum(problem, ss.Adam(0.1), w, batch_size=4)
    with pytest.raises(NotImplementedError, match="epochs"):
        noise_covariance_near_minimum(problem, w, batch_size=4, sampling="epochs")
    with pytest.raises(NotImplementedError, match="DatasetRegression"):
        noise_covariance_near_minimum(ss.DatasetRegression(x, y), w, batch_size=4)
