import numpy as np
import pytest
from scipy import stats

import sgdsim as ss
from sgdsim.estimators import hill, tail_index
from sgdsim.estimators.pareto_fit import fit_pareto, profile_interval
from sgdsim.solver.tails import kesten_tail_index

N = 30_000


def student(dof):
    return lambda rng, runs: rng.standard_t(dof, size=(runs, N))


def pareto(index):
    return lambda rng, runs: (1 - rng.random((runs, N))) ** (-1 / index)


def recursion(step_curvature, batch):
    """w <- (1 - x q) w + x sqrt(q) z, x = a lambda / S, q chi-square of S degrees: independent chains, 80 steps."""

    def draw(rng, runs):
        w = np.zeros((runs, N), np.float32)
        x = np.float32(step_curvature / batch)
        for _ in range(80):
            q = sum(rng.standard_normal(w.shape, dtype=np.float32) ** 2 for _ in range(batch))
            w = (1 - x * q) * w + x * np.sqrt(q) * rng.standard_normal(w.shape, dtype=np.float32)
        return w.astype(np.float64)

    return draw


CASES = {
    "t(2)": (student(2), 2.0),
    "t(3)": (student(3), 3.0),
    "t(5)": (student(5), 5.0),
    "Pareto(2)": (pareto(2), 2.0),
    "Pareto(5)": (pareto(5), 5.0),
    "recursion(.9, 1)": (recursion(0.9, 1), kesten_tail_index(0.9, 1)),
    "recursion(.6, 1)": (recursion(0.6, 1), kesten_tail_index(0.6, 1)),
    "recursion(.6, 2)": (recursion(0.6, 2), kesten_tail_index(0.6, 2)),
}


def coverage(draw, index, runs, seed, **options):
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(0, runs, 20):
        for x in draw(rng, 20):
            found = tail_index(x, **options)
            inside += found.low <= index <= found.high
    return inside / runs


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_intervals_cover(name):
    """400 intervals of 95%: the standard error of their coverage is 1.1%, so 93 to 97% is 1.8 of them either way."""
    seed = 100 + list(CASES).index(name)
    assert 0.93 <= coverage(*CASES[name], runs=400, seed=seed) <= 0.97


@pytest.mark.parametrize("name", ["t(3)", "Pareto(2)"])
def test_intervals_cover_in_short(name):
    runs = 100
    low, high = stats.binom.interval(1 - 2e-3, runs, 0.95)
    assert low <= runs * coverage(*CASES[name], runs=runs, seed=3) <= high


def test_coverage_notices_a_wrong_index():
    draw, index = CASES["Pareto(2)"]
    runs = 100
    low = stats.binom.interval(1 - 2e-3, runs, 0.95)[0]
    assert runs * coverage(draw, 1.2 * index, runs=runs, seed=3) < low


@pytest.mark.slow
def test_the_naive_interval_covers_two_thirds():
    """Hill at k = sqrt(n) on |t(5)|, gamma +- 1.96 gamma / sqrt(k): 66%, as is said of it."""
    rng, k, inside, runs = np.random.default_rng(5), int(np.sqrt(N)), 0, 1000
    for _ in range(runs // 20):
        for x in student(5)(rng, 20):
            gamma = 1 / hill(x, k)
            inside += abs(gamma - 1 / 5) <= 1.96 * gamma / np.sqrt(k)
    assert abs(inside / runs - 0.66) < 3 * np.sqrt(0.66 * 0.34 / runs)


@pytest.mark.parametrize("method", ["hill", "moment", "ml"])
@pytest.mark.parametrize("index", [0.3, 1.0, 2.5])
def test_pareto_quantiles(method, index):
    quantiles = ((np.arange(200_000) + 0.5) / 200_000) ** (-1 / index)
    found = tail_index(quantiles, method=method)
    assert found.value == pytest.approx(index, rel=0.03)
    assert found.low < index < found.high and found.method == method


@pytest.mark.parametrize("method", ["hill", "moment", "ml"])
def test_scale_and_order_do_not_matter(rng, method):
    x = rng.standard_t(3, size=5_000)
    first, again = tail_index(x, method=method), tail_index(-1e9 * rng.permutation(x), method=method)
    assert again.threshold == pytest.approx(1e9 * first.threshold)
    for name in ("value", "stderr", "low", "high"):
        assert getattr(again, name) == pytest.approx(getattr(first, name), rel=1e-6)
    assert again.exceedances == first.exceedances


def test_the_largest_with_their_total_are_enough(rng):
    x = np.sort(np.abs(rng.standard_t(2, size=N)))
    assert tail_index(x[-2_000:], total=N) == tail_index(x)


def test_the_standard_error_of_pure_pareto_is_hills(rng):
    """alpha / sqrt(k) at the second-order law's optimum: the extended law has twice the variance (tau = alpha)."""
    x = rng.pareto(2.0, size=50_000) + 1
    found = tail_index(x, confidence=0.9)
    assert found.stderr == pytest.approx(found.value * np.log(found.high / found.low) / (2 * 1.6448536), rel=1e-6)
    hills = found.value / np.sqrt(found.exceedances)
    assert hills < found.stderr < 4 * hills


def test_higher_confidence_is_wider(rng):
    x = rng.standard_t(3, size=5_000)
    narrow, wide = tail_index(x, confidence=0.5), tail_index(x, confidence=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_gaussian_has_no_power_law(rng):
    assert tail_index(rng.standard_normal(N)).high > 20


def test_a_body_of_another_law_raises_the_threshold(rng):
    """Three in a thousand from a heavy law, the rest Gaussian: the tail must not be sought inside the Gaussian."""
    x = np.where(rng.random(300_000) < 0.003, 4 * rng.standard_t(2, 300_000), rng.standard_normal(300_000))
    found = tail_index(x)
    assert found.exceedances < 0.8 * 300_000**0.6
    assert found.low < 2 < found.high


def test_copies_in_a_group_widen_the_interval(rng):
    """Every sample three times, slightly moved: a third of the information, so sqrt(3) times the width."""
    x = np.abs(rng.standard_t(3, size=10_000))
    copies = np.repeat(x, 3) * (1 + 1e-7 * rng.standard_normal(30_000))
    groups = np.repeat(np.arange(10_000) % 64, 3)
    blind, aware = tail_index(copies), tail_index(copies, groups=groups)
    ratio = np.log(aware.high / aware.low) / np.log(blind.high / blind.low)
    assert aware.value == blind.value
    assert abs(ratio - np.sqrt(3)) < 4 * np.sqrt(3) / np.sqrt(2 * 63)


def test_pareto_fit_is_at_the_maximum(rng):
    z = stats.genpareto.rvs(0.4, scale=3.0, size=2_000, random_state=rng)
    fit = fit_pareto(z)
    shape, _, scale = stats.genpareto.fit(z, floc=0)
    assert (fit.shape, fit.scale) == (pytest.approx(shape, abs=1e-3), pytest.approx(scale, rel=1e-3))
    here = stats.genpareto.logpdf(z, fit.shape, scale=fit.scale).sum()
    assert fit.log_likelihood(z) == pytest.approx(here)
    assert here >= stats.genpareto.logpdf(z, shape, scale=scale).sum() - 1e-9
    np.testing.assert_allclose(fit.influence.sum(axis=1), 0, atol=1e-10)
    assert np.linalg.inv(fit.information)[0, 0] == pytest.approx((1 + shape) ** 2 / 2_000, rel=0.1)
    # The second Bartlett identity, in units where the information is 1: four standard errors of three entries.
    standard = np.linalg.cholesky(fit.information).T @ fit.influence
    products = standard[:, None] * standard
    stderr = np.sqrt(z.size) * products.std(axis=-1)
    assert (np.abs(products.sum(axis=-1) - np.eye(2)) < 4 * stderr).all() and stderr.max() < 0.15
    low, high = profile_interval(z, fit, 1.92)
    assert low < fit.shape < high
    for end in (low, high):
        best = max(stats.genpareto.logpdf(z, end, scale=s).sum() for s in np.geomspace(2.5, 3.6, 400))
        assert best == pytest.approx(here - 1.92, abs=1e-3)


def test_a_light_tail_fits_the_exponential_law():
    z = np.arange(1.0, 400.0)  # uniform: lighter than exponential
    fit = fit_pareto(z)
    assert (fit.shape, fit.scale) == (0.0, z.mean())
    assert fit.log_likelihood(z) == pytest.approx(stats.expon.logpdf(z, scale=z.mean()).sum())
    assert profile_interval(z, fit, 1.92)[0] == 0.0


def test_hill():
    x = np.array([8.0, 4.0, 2.0, *np.linspace(0.1, 1, 300)])
    assert hill(x, 3) == pytest.approx(1 / np.mean(np.log([8, 4, 2])))
    assert ss.estimators.hill is hill


@pytest.mark.parametrize("clip", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("method", ["hill", "ml", "moment"])
def test_ties_at_the_top_are_refused(clip, method, rng):
    """Clipped samples: few repeat another, but these are all of the tail."""
    samples = np.minimum(rng.pareto(2.0, 20_000), np.quantile(rng.pareto(2.0, 20_000), 1 - clip / 100))
    with pytest.raises(ValueError, match=r"distinct \(.*of the largest repeat another"):
        tail_index(samples, method=method)
    with pytest.raises(ValueError, match="of the largest repeat"):
        hill(samples, 30)
