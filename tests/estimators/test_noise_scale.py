"""The simple noise scale: unbiased parts, an interval that covers, exact values."""

from __future__ import annotations

import flax.linen as nn
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.estimators.noise_scale import from_deviations

noise_scale = ss.estimators.simple_noise_scale


def estimates(gradient_mean, deviation, examples, repeats, seed):
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        g = gradient_mean + deviation * rng.standard_normal((examples, len(gradient_mean)))
        centre = g.mean(axis=0)
        yield from_deviations(np.sum((g - centre) ** 2, axis=1), (g - centre) @ centre, float(centre @ centre), 0.95)


def test_a_data_set_is_exact(rng):
    x, y, w = rng.normal(size=(50, 3)), rng.normal(size=50), np.array([0.5, -1.0, 2.0])
    g = x * (x @ w - y)[:, None]
    found = noise_scale(ss.DatasetRegression(x, y), w)
    trace = np.trace(np.cov(g.T, bias=True))
    assert found.value == pytest.approx(trace / np.sum(g.mean(axis=0) ** 2), rel=1e-12)
    assert (found.stderr, found.low, found.high, found.examples) == (0, found.value, found.value, 50)


def test_the_parts_are_unbiased(assert_within_sigma):
    mean, deviation = np.array([0.3, -0.2]), np.array([1.0, 2.0])
    found = np.array([(e.trace, e.squared_norm) for e in estimates(mean, deviation, 5, 4000, seed=1)])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert_within_sigma(found.mean(axis=0), [5.0, 0.13], error)
    with pytest.raises(AssertionError, match="beyond"):  # |g|^2 of the plain mean is 0.13 + 5/5
        assert_within_sigma(found.mean(axis=0), [5.0, 1.13], error)


@pytest.mark.parametrize(("size", "mean"), [pytest.param(60, 0.8, marks=pytest.mark.slow), (60, 0.25)])
def test_the_interval_covers(size, mean, assert_within_sigma):
    """Also at mean = 0.25, where the estimated gradient is often lost in noise and the interval unbounded."""
    g, repeats = np.full(4, mean), 2000
    found = list(estimates(g, np.ones(4), size, repeats, seed=2))
    truth = 4 / (g @ g)
    share = np.mean([e.low <= truth <= e.high for e in found])
    # one per cent is allowed for what the normal approximation leaves at 60 examples
    assert abs(share - 0.95) < 0.01 + 3.5 * np.sqrt(0.95 * 0.05 / repeats)
    wrong = np.mean([e.low <= truth * 2 <= e.high for e in found if np.isfinite(e.high)] or [0])
    assert wrong < share
    unbounded = np.mean([np.isinf(e.high) for e in found])
    assert unbounded == 0 if mean == 0.8 else unbounded > 0.2


def test_population_problems(assert_within_sigma):
    quadratic = ss.Quadratic([1.0, 2.0], [1.0, 0.3])
    found = noise_scale(quadratic, [0.3, 0.2], examples=20_000, seed=3)
    assert_within_sigma(found.value, 1.3 / 0.25, found.stderr)
    a, d = np.diag([1.0, 0.5, 0.25]), np.array([-0.5, 1.2, -0.4])
    linear = ss.LinearRegression([1.0, 0.5, 0.25], teacher=[1.0, -1.0, 0.5], label_noise=0.5)
    # Gaussian inputs: Cov(x r) = A (sigma^2 + d'Ad) + A d d'A
    truth = (np.trace(a) * (0.25 + d @ a @ d) + d @ a @ a @ d) / (d @ a @ a @ d)
    found = noise_scale(linear, linear.teacher + d, examples=20_000, seed=4)
    assert_within_sigma(found.value, truth, found.stderr)
    with pytest.raises(AssertionError, match="beyond"):
        assert_within_sigma(found.value, 1.1 * truth, found.stderr)


def test_a_network_whole_and_drawn(assert_within_sigma):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(40, 2))
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(1)]), x, x[:, 0] * x[:, 1], "mse")
    whole = noise_scale(problem, problem.default_start)
    drawn = noise_scale(problem, problem.default_start, examples=4000, seed=5)
    assert_within_sigma(drawn.value, whole.value, drawn.stderr)
    sample = noise_scale(problem, problem.default_start, examples=(problem.features, problem.targets))
    assert sample.low < whole.value < sample.high and sample.value > whole.value  # n - 1, and a smaller |g|^2


def test_fresh_label_noise_counts(assert_within_sigma, rng):
    x = rng.normal(size=(30, 2))
    problem, w = ss.DatasetRegression(x, x[:, 0], label_noise=0.7), np.array([0.2, 0.5])
    g = x * (x @ w - x[:, 0])[:, None]
    trace = np.trace(np.cov(g.T, bias=True)) + 0.49 * np.mean(np.sum(x**2, axis=1))
    found = noise_scale(problem, w, examples=30_000)
    assert_within_sigma(found.value, trace / np.sum(g.mean(axis=0) ** 2), found.stderr)


def test_two_batch_sizes(assert_within_sigma):
    rng = np.random.default_rng(7)
    mean, pairs = np.array([0.6, -0.3, 0.4]), 4000
    small = mean + rng.standard_normal((pairs, 3)) / np.sqrt(2)
    large = mean + rng.standard_normal((pairs, 3)) / np.sqrt(32)
    found = ss.estimators.batch_noise_scale(np.sum(small**2, axis=1), np.sum(large**2, axis=1), batch_size=(2, 32))
    assert_within_sigma(found.value, 3 / (mean @ mean), found.stderr)
    assert found.low < found.value < found.high


def test_no_gradient_no_bound():
    found = noise_scale(ss.Quadratic([1.0], [1.0]), [0.0], examples=100, seed=1)
    assert np.isinf(found.high) and found.trace > 0


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e6])
def test_examples_that_nearly_agree_keep_their_digits(size):
    """Gradients g + small d_i: the trace is that of the d_i, whatever g is."""
    rng = np.random.default_rng(4)
    small = 1e-9 * rng.normal(size=50)
    problem = ss.DatasetRegression(np.ones((50, 1)), -size * (1 + small))  # at w = 0 example i has size (1 + d_i)
    deviations = small - small.mean()
    exact = ss.estimators.simple_noise_scale(problem, [0.0])
    np.testing.assert_allclose(exact.value, np.mean(deviations**2) / (1 + small.mean()) ** 2, rtol=1e-5)
    drawn = ss.estimators.simple_noise_scale(problem, [0.0], examples=(problem.features, problem.targets))
    np.testing.assert_allclose(drawn.trace, size**2 * np.var(small, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(drawn.squared_norm, size**2, rtol=1e-6)


def test_leaving_one_out_is_what_the_jackknife_says():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    problem, w = ss.DatasetRegression(x, y), np.array([0.3, -1.0, 0.5])
    g = x * (x @ w - y)[:, None]

    def both(g):
        m, mean = len(g), g.mean(axis=0)
        trace = np.sum((g - mean) ** 2) / (m - 1)
        return np.array([trace, mean @ mean - trace / m])

    left = np.array([both(np.delete(g, i, axis=0)) for i in range(12)]).T
    covariance = 11**2 / 12 * np.cov(left)
    trace, squared = both(g)
    value = trace / squared
    error = np.sqrt(covariance[0, 0] - 2 * value * covariance[0, 1] + value**2 * covariance[1, 1]) / squared
    found = ss.estimators.simple_noise_scale(problem, w, examples=(x, y))
    np.testing.assert_allclose([found.trace, found.squared_norm, found.stderr], [trace, squared, error], rtol=1e-10)


@pytest.mark.parametrize(
    ("small", "large"),
    [([3.0, 3.1, 2.9], [0.1, 0.11, 0.1]),  # a squared norm that is significantly negative
     ([1.0, 1.01, 0.99], [2.0, 2.01, 2.0]),  # a trace that is
     ([3.0, 3.2, 2.8], [1.5, 1.4, 1.6]), ([3.0, 9.0, 0.0], [1.5, 0.0, 4.0])],
)  # fmt: skip
def test_intervals_are_never_upside_down_and_hold_the_value(small, large):
    found = ss.estimators.batch_noise_scale(small, large, batch_size=(1, 4))
    assert 0 <= found.low <= found.value <= found.high


def test_norms_and_sizes_are_checked():
    estimate = ss.estimators.batch_noise_scale
    with pytest.raises(ValueError, match=r"large_norms is -1.*0 or positive"):
        estimate([3.0, 3.0, 3.0], [1.0, -1.0, 1.0], batch_size=(1, 4))
    with pytest.raises(ValueError, match=r"batch_size is \(1, 2, 4\).*two sizes"):
        estimate([3.0, 3.0, 3.0], [1.0, 1.0, 1.0], batch_size=(1, 2, 4))
