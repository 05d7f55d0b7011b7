import numpy as np
import pytest
from scipy import stats

from sgdsim.statistics import GradientNoise, Losses, Moments, grouped_mean
from sgdsim.statistics.base import Measurement
from sgdsim.statistics.moments import CentralMoments, merge

GROUPS, MEMBERS, D = 5, 40, 3


def measure(statistic, params, centre, alive=None):
    """Feed (times, D, members, groups) to a statistic and collect it about `centre`."""
    sums = statistic.init(D, GROUPS, np.float32)
    weight = np.ones(params.shape[2:], np.float32) if alive is None else alive.astype(np.float32)
    for at in params:
        sums = statistic.update(sums, Measurement(at, None, weight, centre, None))
    wide = type(sums)(*(np.asarray(x, np.float64) for x in sums))
    return statistic.collect(wide, np.tile(np.asarray(centre, np.float64), (GROUPS, 1)))


def sample(rng, times=7):
    x = rng.normal(size=(times, D, MEMBERS, GROUPS)) ** 3 + np.arange(D)[:, None, None]
    return x.astype(np.float32)


def pooled(params):
    """All draws as rows."""
    return np.moveaxis(params, 1, -1).reshape(-1, D).astype(np.float64)


@pytest.mark.parametrize("centre", [np.zeros(D, np.float32), np.array([0.2, 0.9, 2.1], np.float32)])
def test_moments_equal_those_of_the_pooled_draws(rng, centre):
    params = sample(rng)
    numbers = Moments().finalize(measure(Moments(), params, centre))
    rows = pooled(params)
    np.testing.assert_allclose(numbers["mean"][0], rows.mean(axis=0), rtol=2e-6)
    # unbiased: the covariance of the fitted mean, from the scatter of the groups, is given back
    group_means = params.astype(np.float64).mean(axis=(0, 2)).T
    back = np.cov(group_means.T) / GROUPS
    np.testing.assert_allclose(numbers["covariance"][0], np.cov(rows.T, bias=True) + back, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(numbers["kurtosis"][0], stats.kurtosis(rows, fisher=False), rtol=2e-5)


def test_two_stretches_merge_into_the_whole(rng):
    first, second = sample(rng, 3), sample(rng, 11) + 5
    apart = Moments().merge(
        measure(Moments(), first, np.full(D, 0.5, np.float32)), measure(Moments(), second, np.full(D, 6, np.float32))
    )
    whole = measure(Moments(), np.concatenate([first, second]), np.full(D, 5, np.float32))
    for a, b in zip(apart, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2)


def test_an_empty_group_merges_as_nothing(rng):
    full = measure(Moments(), sample(rng), np.zeros(D, np.float32))
    empty = CentralMoments(*(np.zeros_like(x) for x in full))
    for joined in (merge(full, empty), merge(empty, full)):
        for a, b in zip(joined, full, strict=True):
            np.testing.assert_allclose(a, b)


def test_dead_chains_do_not_count(rng):
    params = sample(rng)
    alive = rng.random((MEMBERS, GROUPS)) < 0.7
    poisoned = np.where(alive, params, np.nan)
    numbers = Moments().finalize(measure(Moments(), poisoned, np.zeros(D, np.float32), alive))
    kept = np.moveaxis(params, 1, -1)[:, alive].reshape(-1, D)
    np.testing.assert_allclose(numbers["mean"][0], kept.mean(axis=0), rtol=1e-5)


def test_variances_alone_equal_the_diagonal(rng):
    params, zero = sample(rng), np.zeros(D, np.float32)
    full = Moments().finalize(measure(Moments(), params, zero))["covariance"]
    diagonal = Moments(full=False).finalize(measure(Moments(full=False), params, zero))["variance"]
    for a, b in zip(full, diagonal, strict=True):
        np.testing.assert_allclose(np.diag(a), b, rtol=1e-6)


def test_standard_errors_are_those_of_independent_groups(rng):
    """Over many replications the spread of the estimate is what the standard error says."""
    spread, claimed = [], []
    for _ in range(400):
        values, counts = rng.exponential(size=(64,)), rng.integers(1, 5, 64)
        mean, stderr = grouped_mean(values, counts)
        spread.append(mean)
        claimed.append(stderr)
    # relative error of a standard deviation over 400 replications is 1 / sqrt(800) = 3.5%
    assert abs(np.sqrt(np.mean(np.square(claimed))) / np.std(spread) - 1) < 4 * 0.05


def test_one_group_has_no_standard_error():
    mean, stderr = grouped_mean(np.array([[1.0, 2.0]]), np.array([3.0]))
    np.testing.assert_array_equal(mean, [1.0, 2.0])
    assert np.isinf(stderr).all()


def test_no_group_has_no_mean():
    mean, stderr = grouped_mean(np.zeros((2, 3)), np.zeros(2))
    assert np.isnan(mean).all() and np.isinf(stderr).all()


def test_losses_and_noise_are_plain_averages(rng):
    class Bowl:
        def loss(self, w):
            return (w**2).sum(axis=0)

        def test_loss(self, w):
            return 2 * (w**2).sum(axis=0)

        def gradient(self, w):
            return 3 * w

    params = rng.normal(size=(D, MEMBERS, GROUPS)).astype(np.float32)
    noise = rng.normal(size=params.shape).astype(np.float32)
    at = Measurement(params, 3 * params + noise, np.ones((MEMBERS, GROUPS), np.float32), None, Bowl())
    losses = Losses()
    sums = losses.update(losses.init(D, GROUPS, np.float32), at)
    numbers = losses.finalize(type(sums)(*(np.asarray(x, np.float64) for x in sums)))
    np.testing.assert_allclose(numbers["train_loss"][0], (params**2).sum(axis=0).mean(), rtol=1e-5)
    np.testing.assert_allclose(numbers["test_loss"][0], 2 * (params**2).sum(axis=0).mean(), rtol=1e-5)
    gradient_noise = GradientNoise()
    sums = gradient_noise.update(gradient_noise.init(D, GROUPS, np.float32), at)
    value, _ = gradient_noise.finalize(type(sums)(*(np.asarray(x, np.float64) for x in sums)))["noise_covariance"]
    rows = noise.reshape(D, -1)
    np.testing.assert_allclose(value, rows @ rows.T / rows.shape[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-15, 1e-10, 1.0, 1e10, 1e15])
def test_fourth_powers_hold_at_every_scale(rng, scale):
    """In single precision the fourth power of 1e-10 is 0, and that of 1e10 infinite."""
    params = rng.normal(size=(7, D, MEMBERS, GROUPS)).astype(np.float32)
    centre = np.zeros(D, np.float32)
    plain = Moments().finalize(measure(Moments(), params, centre))["kurtosis"]
    scaled = Moments().finalize(measure(Moments(), params * np.float32(scale), centre))["kurtosis"]
    np.testing.assert_allclose(scaled, plain, rtol=1e-5)
