"""Adam's noise coefficients and sharpness coefficient against sums and samples from their definitions."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.adam_bias.weight_sums import finite_sums, limit_sums

TABLE = {
    (0.9, 0.9): (8.0277008310, 0, -4.3878116343, 0, 0),
    (0.9, 0.95): (23.1665271221, 4.9602122016, -9.3473135907, -2.3267718368e-3, -8.1615996735e-2),
    (0.9, 0.99): (143.7289416224, 45.1472961136, -49.2037530622, -9.8270201806e-3, -1.8686152946e-1),
    (0.9, 0.999): (1493.9693153979, 495.2382980390, -499.1342064146, -1.2787417129e-2, -2.1973026685e-1),
    (0.99, 0.999): (1448.7205522837, 450.1435886278, -499.2072602700, -9.2638488462e-4, -2.0287968000e-1),
    (0.5, 0.9): (12.5796112726, 4.0956937799, -4.2378150683, -5.1036682616e-2, -8.4613447494e-2),
}
coefficients = ss.solver.adam_bias.adam_noise_coefficients
sharpness = ss.solver.adam_bias.adam_sharpness_coefficient
thresholds = ss.solver.adam_bias.adam_thresholds
monotonicity = ss.solver.adam_bias.adam_monotonicity


@pytest.mark.parametrize("betas", TABLE)
def test_reference_numbers(betas):
    np.testing.assert_allclose(coefficients(*betas), TABLE[betas], rtol=1e-10, atol=6e-11)


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.5, 0.9), (0.3, 0.2), (0.0, 0.95), (0.8, 0.0)])
def test_published_closed_forms(betas):
    """Equation (13) as it is printed; our limits are assembled from A, B, T_3, D and E."""
    b1, b2 = betas
    found = coefficients(b1, b2)
    if b1:
        c1 = (
            (1 - b1**2) / (b1 * (1 - b1 * b2)) + (1 - b1) ** 2 / (b1 * (1 - b1 * b2) ** 2)
            + 3 * (1 + b1) / (2 * (1 - b1) * (1 + b2)) - 2 / (b1 * (1 - b1)) + 3 / (2 - 2 * b2)
            + 3 / (1 + b2) ** 2 - 2
        )  # fmt: skip
        assert found.c1 == pytest.approx(c1, rel=1e-11, abs=1e-11)
    c2 = (b1 - b2) * (b1 * b2**2 - b1 * b2 + b1 + b2**2 - 2 * b2)
    c2 /= (1 - b1) * (1 - b2) * (1 + b2) * (1 - b1 * b2)
    c4 = -((b1 - b2) ** 2) / (2 * (1 + b1) * (1 + b2) * (1 - b1 * b2))
    c5 = b2 * (b2 - b1) * (2 * b2 - 3 * b1 - 1) / ((1 + b1) * (1 + b2) ** 2 * (1 - b1 * b2))
    s = b2 / (1 - b2)
    c3 = (-2 * b1 * b2 * (1 - b1) * (1 - b2) / (1 - b1 * b2) ** 2 - s + 3 * b2**2 / (1 + b2) ** 2) / 2
    np.testing.assert_allclose(found[1:], (c2, c3, c4, c5), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("betas", [(0.7, 0.9), (0.0, 0.6), (0.95, 0.5), (0.4, 0.0)])
def test_finite_sums_are_sums(betas):
    b1, b2 = betas
    n = 7

    def weights(b):
        table = np.zeros((n + 1, n + 1))
        for t in range(n + 1):
            for k in range(t + 1):
                table[t, k] = (b ** (t - k)) * (1 - b) / (1 - b ** (t + 1))
        return table

    mu, nu = weights(b1), weights(b2)
    lags = n - np.arange(n + 1)
    truth = {
        "drift_M": mu[n] @ lags, "drift_N": nu[n] @ lags, "NN": nu[n] @ nu[n], "MN": mu[n] @ nu[n],
        "drift_MN": (mu[n] * nu[n]) @ lags, "drift_NN": (nu[n] ** 2) @ lags,
    }  # fmt: skip
    large = {"M": mu, "N": nu}
    for name in ("M_nn", "M_mn", "N_nn", "N_mn", "M_Nm", "M_Nn", "N_Mm", "N_Mn", "N_Nm", "N_Nn"):
        first, pair = name.split("_")
        total = 0.0
        for step in range(n):
            for k in range(step + 1):
                for p in range(step + 1):
                    left = large[pair[0]][n, p] if pair[0] in large else large[pair[0].upper()][step, p]
                    total += large[first][n, k] * left * large[pair[1].upper()][step, p]
        truth[name] = total
    for name in ("Mm", "Mn", "Nm", "Nn"):
        truth[name] = sum(
            large[name[0]][n, k] * large[name[1].upper()][step, k] for step in range(n) for k in range(step + 1))
    found = finite_sums(b1, b2, n)._asdict()
    assert found.keys() == truth.keys()
    for name, value in truth.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-15), name


def test_limits_are_limits():
    far, limit = finite_sums(0.9, 0.95, 800), limit_sums(0.9, 0.95)
    np.testing.assert_allclose(far, limit, rtol=1e-13)
    np.testing.assert_allclose(coefficients(0.9, 0.95, n=800), coefficients(0.9, 0.95), rtol=1e-12)
    gap = max(abs(a - b) for a, b in zip(coefficients(0.9, 0.95, n=50), coefficients(0.9, 0.95), strict=True))
    assert 0.1 < gap < 20, "n = 50 is not yet the limit"


def test_epsilon_is_a_perturbation():
    c = [np.array(coefficients(0.9, 0.99, eps=eps)) for eps in (0.0, 1e-6, 2e-6)]
    assert np.abs(c[1] - c[0]).max() == pytest.approx(2.9e-4, rel=0.02)
    np.testing.assert_allclose((c[2] - c[0]) / (c[1] - c[0]), 2, rtol=1e-3)


@pytest.mark.parametrize(("betas", "expected"), [
    ((0.9, 0.999), (-492.6980966408, 4.6038067185, 999.2076134370)),
    ((0.9, 0.95), (-2.9683151691, 4.0633696618, 18.1267393237)),
])
def test_second_order_reference(betas, expected):
    with pytest.warns(UserWarning, match="second order"):
        found = [sharpness(*betas, noise) for noise in (0.25, 0.5, 1.0)]
    np.testing.assert_allclose(found, expected, rtol=2e-10)


def test_second_order_is_silent_where_it_holds():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = sharpness(0.9, 0.99, 0.05)
    assert small == pytest.approx(-90 + 0.05 * (143.7289416224 + 45.1472961136), rel=1e-11)
    assert abs(small / sharpness(0.9, 0.99, 0.05, "resummed") - 1) < 0.01


def test_resummed_reference():
    found = [sharpness(0.9, 0.99, noise, "resummed") for noise in (0.05, 0.25, 0.5, 1, 4)]
    np.testing.assert_allclose(found, [-81.225, -56.160, -38.000, -20.250, -2.160], atol=5.1e-4)
    assert sharpness(0.9, 0.999, 109, "resummed") < 0 < sharpness(0.9, 0.999, 111, "resummed")


def test_every_order_agrees_without_noise():
    values = [sharpness(0.9, 0.99, 0.0, order) for order in ("second", "resummed", "corrected", "monte_carlo")]
    np.testing.assert_allclose(values, 9 - 99, rtol=1e-5)


def brute_force_correction(b1, b2, noise, n, samples, seed):
    """Corr_n of equation (11) in one dimension with Hessian 1, every sum written out; g_k = 1 + noise."""
    rng = np.random.default_rng(seed)
    g = 1 + np.sqrt(noise) * rng.standard_normal((samples, n + 1))
    mu = np.tril(b1 ** np.maximum(np.subtract.outer(np.arange(n + 1), np.arange(n + 1)), 0))
    nu = np.tril(b2 ** np.maximum(np.subtract.outer(np.arange(n + 1), np.arange(n + 1)), 0))
    mu, nu = mu / mu.sum(axis=1, keepdims=True), nu / nu.sum(axis=1, keepdims=True)
    m, r = g @ mu.T, np.sqrt(g**2 @ nu.T)
    u = (m / r)[:, :n]
    travelled = np.cumsum(u[:, ::-1], axis=1)[:, ::-1]
    left, pull = travelled @ mu[n, :n], (g[:, :n] * travelled) @ nu[n, :n]
    values = left / r[:, n] - m[:, n] * pull / r[:, n] ** 3
    return values.mean(), values.std(ddof=1) / np.sqrt(samples)


@pytest.mark.parametrize(("b1", "b2", "noise"), [(0.5, 0.9, 0.5), (0.8, 0.9, 2.0)])
def test_monte_carlo_is_the_exact_average(b1, b2, noise, assert_within_sigma):
    truth, error = brute_force_correction(b1, b2, noise, n=150, samples=20_000, seed=3)
    found = sharpness(b1, b2, noise, "monte_carlo", seed=1)
    assert_within_sigma(found, truth, np.hypot(found.stderr, error))
    with pytest.raises(AssertionError, match="beyond"):
        assert_within_sigma(found, 1.05 * truth, np.hypot(found.stderr, error))


def test_monte_carlo_error_bar(assert_within_sigma):
    """Twenty seeds scatter by the standard error that each of them states."""
    found = [sharpness(0.5, 0.9, 1.0, "monte_carlo", chains=64, seed=seed) for seed in range(20)]
    scatter, stated = np.std(found, ddof=1), np.mean([one.stderr for one in found])
    assert_within_sigma(np.log(scatter / stated), 0, 1 / np.sqrt(2 * 19))


@pytest.mark.parametrize(("noise", "exact", "allowed"), [(0.25, -56.129, 0.1), (1, -20.269, 0.1), (4, -2.270, 0.1)])
def test_monte_carlo_reference(noise, exact, allowed):
    """An earlier independent computation, standard errors below 0.1."""
    found = sharpness(0.9, 0.99, noise, "monte_carlo")
    assert abs(found - exact) < 4 * np.hypot(allowed, found.stderr)


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_the_first_correction_is_right(noise, assert_within_sigma):
    """At beta_1 = 0.5, beta_2 = 0.995 what is left of order 1 - beta_2 is below the standard error."""
    found = sharpness(0.5, 0.995, noise, "monte_carlo", chains=2048, seed=2)
    assert_within_sigma(found, sharpness(0.5, 0.995, noise, "corrected"), found.stderr, comparisons=3)
    if noise == 4.0:
        assert abs(found - sharpness(0.5, 0.995, noise, "resummed")) > 5 * found.stderr


def test_the_exact_average_does_not_reverse():
    """It falls in beta_2 and rises in beta_1 where the second order says the opposite."""
    for noise in (1.0, 4.0):
        in_b2 = [sharpness(0.9, b2, noise, "monte_carlo", chains=256) for b2 in (0.9, 0.95, 0.98, 0.99)]
        assert all(a - b > 5 * np.hypot(a.stderr, b.stderr) for a, b in itertools.pairwise(in_b2))
        in_b1 = [sharpness(b1, 0.99, noise, "monte_carlo", chains=256) for b1 in (0.5, 0.8, 0.9, 0.95)]
        assert all(b - a > 5 * np.hypot(a.stderr, b.stderr) for a, b in itertools.pairwise(in_b1))
        with pytest.warns(UserWarning):
            assert np.all(np.diff([sharpness(0.9, b2, noise) for b2 in (0.9, 0.95, 0.98, 0.99)]) > 0)


def test_thresholds():
    found = thresholds(b1=0.9)
    assert found.start == pytest.approx(6859 / 13497, rel=1e-12)
    assert found.smallest == pytest.approx(0.494536633253, abs=1e-12)
    assert found.at == pytest.approx(0.95066203, abs=5e-9)
    assert (found.largest, found.limit) == (found.start, 0.5)
    other = thresholds(b2=0.999)
    assert other.start == other.smallest == pytest.approx(2053460214271 / 2062434398111, rel=1e-11)
    assert other.largest == other.limit == pytest.approx(1999 / 1996, rel=1e-14)


@pytest.mark.parametrize(("low", "high"), [(0.49, 0.51), (0.494, 0.5082)])
def test_thresholds_are_where_monotonicity_changes(low, high):
    """Differences of the coefficient itself: falling in beta_2 below, rising above."""
    grid = np.linspace(0.9, 0.999, 60)
    with pytest.warns(UserWarning):
        below, above = ([float(sharpness(0.9, b2, noise)) for b2 in grid] for noise in (low, high))
    assert np.all(np.diff(below) < 0) and np.all(np.diff(above) > 0)


def test_small_terms_are_small_and_one_is_not():
    """Lemma F.1's suprema, and C_3, which no lemma covers."""
    in_b2 = np.array([coefficients(0.9, b2) for b2 in np.append(np.linspace(0.9, 0.9999, 4000), 0.9)])
    in_b1 = np.array([coefficients(b1, 0.999) for b1 in np.linspace(0.9, 0.99999, 4000) if abs(b1 - 0.999) > 1e-6])
    assert np.abs(in_b2[:, 3] / in_b2[:, 0]).max() == pytest.approx(1.194e-4, rel=1e-3)
    assert np.abs(in_b2[:, 4] / in_b2[:, 0]).max() == pytest.approx(3.526e-3, rel=1e-3)
    assert np.abs(in_b1[:, 3] / in_b1[:, 1]).max() == pytest.approx(2.582e-5, rel=1e-3)
    assert np.abs(in_b1[:, 4] / in_b1[:, 1]).max() == pytest.approx(4.699e-4, rel=1e-3)
    assert np.abs(in_b2[:, 2] / in_b2[:, 0]).max() == pytest.approx(0.547, abs=1e-3)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_thresholds_close_to_one(gap):
    """As beta goes to 1 at fixed (1 - beta_2) / (1 - beta_1) thresholds go to their limits in proportion to the gap."""
    found = ss.solver.adam_bias.adam_thresholds(b1=1 - gap)
    near = ss.solver.adam_bias.adam_thresholds(b1=0.99)
    assert (found.start - 0.5) / gap == pytest.approx((near.start - 0.5) / 0.01, rel=0.05, abs=2e-16 / gap)
    assert (found.smallest - 0.5) / gap == pytest.approx((near.smallest - 0.5) / 0.01, rel=0.05, abs=2e-16 / gap)
    assert (1 - found.at) / gap == pytest.approx((1 - near.at) / 0.01, rel=0.01)
    other = ss.solver.adam_bias.adam_thresholds(b2=1 - gap)
    assert other.start - 1 == pytest.approx(-4.5 * gap, rel=0.05)
    assert other.limit - 1 == pytest.approx(1.5 * gap, rel=0.05)


@pytest.mark.parametrize(("b1", "b2", "low", "high"), [
    (0.9, 0.99, 0.0, 0.01), (0.5, 0.99, 0.0, 0.01), (0.0, 0.99, 0.0, 0.01), (0.9, 0.9, 0.05, 0.11)])
def test_second_order_at_the_largest_noise(b1, b2, low, high):
    """The digits that docs/theory/adam-bias.md claims, at the end of the domain."""
    exact = ss.solver.adam_bias.adam_sharpness_coefficient(b1, b2, 0.05, "monte_carlo", chains=128)
    second = ss.solver.adam_bias.adam_sharpness_coefficient(b1, b2, 0.05)
    assert 4 * exact.stderr < 0.005 * abs(exact) or b1 == b2
    assert low < abs(second / exact - 1) < high


def test_proposition_g_1():
    """The roots of the paper's own rational function, in each of its four cases."""

    def f(x):
        p1 = np.polyval([39753, -175145, 233419, 17703, -294872, 239758, -60600], x)
        return -((x + 1) ** 3) * (9 * x - 10) ** 3 / p1

    for noise, turns, hows in [(0.49, 0, ["falls"]), (0.497, 2, ["falls", "rises", "falls"]),
                               (0.505, 1, ["falls", "rises"]), (0.51, 0, ["rises"])]:
        found = monotonicity(noise, b1=0.9, low=0.9)
        assert [how for _, _, how in found.intervals] == hows
        assert len(found.turns) == turns
        np.testing.assert_allclose([f(turn) for turn in found.turns], noise, rtol=1e-9)
    assert found.intervals == ((0.9, 1.0, "rises"),)


def test_proposition_g_2():
    def f(x):
        p1 = np.polyval([2001994001001, -6011966022994, 6017956024997, -2007984005000], x)
        return 1999 * (999 * x - 1000) ** 3 / p1

    for noise, hows in [(0.995, ["rises"]), (0.9995, ["falls", "rises"]), (1.002, ["falls"])]:
        found = monotonicity(noise, b2=0.999, low=0.9)
        assert [how for _, _, how in found.intervals] == hows
        np.testing.assert_allclose([f(turn) for turn in found.turns], noise, rtol=1e-6)


@pytest.mark.parametrize("fixed", [{"b1": 0.0}, {"b1": 0.5}, {"b1": 0.97}, {"b2": 0.3}, {"b2": 0.8}])
@pytest.mark.parametrize("noise", [0.2, 0.6, 2.0])
@pytest.mark.filterwarnings("ignore:second order")
def test_monotonicity_is_that_of_the_coefficient(fixed, noise):
    """Differences of the coefficient on both sides of every turn, and inside every interval."""
    found = monotonicity(noise, **fixed)
    for low, high, how in found.intervals:
        betas = low + (high - low) * np.array([1e-3, 0.3, 0.6, 0.99])
        values = [float(sharpness(**{"b1": beta, "b2": beta, **fixed}, noise_ratio=noise)) for beta in betas]
        assert np.all(np.diff(values) > 0) if how == "rises" else np.all(np.diff(values) < 0)
