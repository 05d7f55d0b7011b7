"""Fits of exact variance curves with known noise: does the band cover, are the coefficients right, what is refused."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

import sgdsim as ss
from sgdsim.statistics.non_negative import NonNegative
from sgdsim.statistics.weighted_least_squares import weighted_least_squares, whiten, whitener

N = 442
DYADIC = [2, 4, 8, 16, 32, 64, 128, 256]
NINETEEN = sorted({*DYADIC, *range(40, 441, 40)})
TWELVE = [2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 440]
# Var(g_1) of a 2 x 2 two-layer network in 1/b (theory sheet, section 3, N2): not of one sign.
NETWORK = np.array([8.81578832817, 6.53566801739, -4.62441891289, 4.84765428448, -4.66371536064, 3.75412245941])


def regression_curve(b, step):
    """Var(g_t) of SGD on a fixed random data set, subsets without replacement, by the recursion for Cov(w_t)."""
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.standard_normal((N, 5)) @ np.diag([1.4, 1.2, 1, 0.7, 0.3]), np.ones(N)])
    residual = rng.standard_normal(N)
    residual -= x @ np.linalg.lstsq(x, residual, rcond=None)[0]
    hessian, m = x.T @ x / N, np.linspace(2, -1, 6)
    c = ((N - np.asarray(b)) / (np.asarray(b) * (N - 1)))[:, None, None]
    v = np.zeros((len(b), 6, 6))
    for t in range(step + 1):
        z = x * (x @ m)[:, None] - hessian @ m - residual[:, None] * x
        q = np.einsum("ni,bij,nj->bn", x, v, x, optimize=True)
        noise = np.einsum("ni,bn,nj->bij", x, q, x, optimize=True) / N - hessian @ v @ hessian + z.T @ z / N
        variance = c[:, 0, 0] * np.trace(noise, axis1=1, axis2=2) + np.trace(hessian @ v @ hessian, axis1=1, axis2=2)
        move = np.eye(6) - hessian / (2 * (t + 1))
        v, m = move @ v @ move + c * noise / (2 * (t + 1)) ** 2, move @ m
    return variance


def network_curve(b):
    return (NETWORK / np.asarray(b)[:, None] ** np.arange(1, 7)).sum(axis=1)


def coverage(exact, sizes, grid, errors, replications, seed, **options):
    """Share of replications whose 95% band holds the exact curve, at each point of `grid`."""
    rng = np.random.default_rng(seed)
    f, truth = exact(sizes), exact(grid)
    stderr = np.geomspace(*errors, len(sizes)) * f
    hits = np.zeros(len(grid))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # once in ten thousand a good fit looks poor
        for _ in range(replications):
            fit = ss.fit_polynomial(sizes, f + stderr * rng.standard_normal(len(f)), stderr, **options)
            low, high = fit.band(grid)
            hits += (low <= truth) & (truth <= high)
    return hits / replications


SUBSETS = {"basis": "c_b", "n_examples": N}
CASES = {
    "t = 10": (lambda b: regression_curve(b, 10), NINETEEN, (0.05, 0.005), SUBSETS),
    "t = 40": (lambda b: regression_curve(b, 40), TWELVE, (0.02, 0.02), SUBSETS),
    "t = 40, precise": (lambda b: regression_curve(b, 40), NINETEEN, (0.003, 0.001), SUBSETS),
    "network, 1/b": (network_curve, [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256], (0.02, 0.005), {}),
    "network, few and vague": (network_curve, [2, 4, 8, 16, 32, 64, 128, 256], (0.05, 0.05), {}),
    "t = 10, non-negative": (lambda b: regression_curve(b, 10), NINETEEN, (0.05, 0.005),
                             {**SUBSETS, "non_negative": True}),
}
GRID = np.array([2, 3, 5, 8, 13, 20, 35, 60, 100, 180, 300, 420])


def assert_covers(hits, replications, points):
    """Pointwise 93 to 97%, two-sided: the binomial error at those ends is allowed for, 1e-4 in the whole family."""
    k = stats.norm.isf(1e-4 / 2 / points)
    assert hits.min() >= 0.93 - k * math.sqrt(0.93 * 0.07 / replications), hits
    assert hits.max() <= min(0.97 + k * math.sqrt(0.97 * 0.03 / replications), 1.0), hits
    # Over the points too: their mean has no more than the error of one.
    assert 0.93 <= hits.mean() <= 0.97, hits


@pytest.mark.parametrize("name", ["t = 10", "network, 1/b"])
def test_the_band_covers(name):
    exact, sizes, errors, options = CASES[name]
    hits = coverage(exact, sizes, GRID, errors, 150, 3, **options)
    k = stats.norm.isf(1e-4 / 2 / 2)
    assert abs(hits.mean() - 0.95) <= k * math.sqrt(0.95 * 0.05 / 150), hits


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_band_covers_93_to_97_percent_at_every_batch_size(name):
    exact, sizes, errors, options = CASES[name]
    assert_covers(coverage(exact, sizes, GRID, errors, 400, 11, **options), 400, len(CASES) * len(GRID))


def test_the_degree_that_aicc_prefers_would_not_cover():
    """What the extra degree is for: a fixed degree that is a little too low."""
    exact, sizes, _, options = CASES["t = 40, precise"]
    hits = coverage(exact, sizes, GRID, (0.003, 0.001), 100, 5, degree=3, **options)
    with pytest.raises(AssertionError):
        assert_covers(hits, 100, len(GRID))


def test_too_narrow_a_band_would_be_noticed(monkeypatch):
    """Errors half as large again as they are said to be."""
    exact, sizes, errors, options = CASES["t = 10"]
    fit_polynomial = ss.fit_polynomial
    monkeypatch.setattr(ss, "fit_polynomial", lambda b, y, stderr, **o: fit_polynomial(b, y, stderr / 1.5, **o))
    hits = coverage(exact, sizes, GRID, errors, 150, 3, **options)
    assert abs(hits.mean() - 0.95) > stats.norm.isf(1e-4 / 2 / 2) * math.sqrt(0.95 * 0.05 / 150)


def test_an_exact_polynomial_comes_back():
    b = np.array([1, 2, 3, 5, 9, 20, 60])
    f = network_curve(b)
    fit = ss.fit_polynomial(b, f, 1e-9 * f, degree=6)
    np.testing.assert_allclose(fit.coefficients, NETWORK, rtol=1e-4)
    np.testing.assert_allclose(fit(b), f, rtol=1e-12)
    np.testing.assert_allclose(fit(np.array([[4], [7.5]])), network_curve(np.array([4, 7.5]))[:, None], rtol=1e-7)
    assert (fit.degree, fit.selected_degree, fit.degrees_of_freedom) == (6, 6, 1)
    assert np.ndim(fit(4)) == 0 and np.ndim(fit.band(4)[0]) == 0


def test_errors_are_those_of_textbook_weighted_least_squares(rng):
    b, x = np.array(DYADIC), 1 / np.array(DYADIC)
    a = x[:, None] ** np.arange(1, 4)
    stderr = np.geomspace(0.05, 0.001, len(b))
    fit = ss.fit_polynomial(b, 3 * x + x**2, stderr, degree=3)
    covariance = np.linalg.inv(a.T @ np.diag(1 / stderr**2) @ a)
    np.testing.assert_allclose(fit.stderr, np.sqrt(np.diagonal(covariance)), rtol=1e-8)
    low, high = fit.band(10, level=0.9)
    row = 0.1 ** np.arange(1, 4)
    np.testing.assert_allclose((high - low) / 2, 1.6448536 * np.sqrt(row @ covariance @ row), rtol=1e-6)
    correlated = np.diag(stderr**2) + 0.3 * np.outer(stderr, stderr)
    joint = ss.fit_polynomial(b, 3 * x + x**2, degree=3, covariance=correlated)
    exact = np.linalg.inv(a.T @ np.linalg.inv(correlated) @ a)
    np.testing.assert_allclose(joint.stderr, np.sqrt(np.diagonal(exact)), rtol=1e-8)
    same = ss.fit_polynomial(b, 3 * x + x**2, degree=3, covariance=np.diag(stderr**2))
    np.testing.assert_allclose(same.stderr, fit.stderr, rtol=1e-10)


def test_the_parameters_of_a_whitened_fit_are_the_minimum(rng):
    a, y = rng.standard_normal((9, 3)), rng.standard_normal(9)
    root = rng.standard_normal((9, 9))
    w = whitener(root @ root.T)
    found = weighted_least_squares(whiten(w, a), whiten(w, y))
    gradient = a.T @ np.linalg.solve(root @ root.T, a @ found.coefficients - y)
    np.testing.assert_allclose(gradient, 0, atol=1e-8)
    np.testing.assert_allclose(found.chi_square, (y - a @ found.coefficients)
                               @ np.linalg.solve(root @ root.T, y - a @ found.coefficients), rtol=1e-8)


def test_non_negative_limits_are_the_ends_of_the_profile(rng):
    """Against a scan: the constrained minimum of chi-square on a fine grid of values of a single coefficient."""
    a = np.abs(rng.standard_normal((8, 2))) + 0.1
    y = a @ [0.05, 1.0] + 0.5 * rng.standard_normal(8)
    fit = NonNegative(a, y)
    first = np.linspace(0, 4, 400_001)
    rest = np.maximum(0, a[:, 1] @ (y[:, None] - a[:, :1] * first) / (a[:, 1] @ a[:, 1]))
    chi_square = sum((row[0] * first + row[1] * rest - target) ** 2 for row, target in zip(a, y, strict=True))
    inside = first[chi_square <= chi_square.min() + 1.96**2]
    np.testing.assert_allclose(fit.limits(np.array([1.0, 0.0]), 1.96), [inside[0], inside[-1]], atol=3e-5)
    np.testing.assert_allclose(fit.chi_square, chi_square.min(), rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"non_negative": True}])
def test_unidentified_coefficients_are_not_reported(options):
    f = regression_curve(TWELVE, 10)
    fit = ss.fit_polynomial(TWELVE, f, 0.02 * f, **SUBSETS, **options)
    assert fit.identified[0] and not fit.identified[-1]
    np.testing.assert_array_equal(np.isnan(fit.coefficients), ~fit.identified)
    value, error = fit.coefficient(1)
    assert abs(value) > 1.9 * error > 0
    with pytest.raises(ValueError, match=rf"k is {fit.degree}.*identified coefficient \(beta_1"):
        fit.coefficient(fit.degree)
    assert "not identified" in fit.table() and "beta_k" in fit.table()


def test_an_identified_coefficient_is_covered():
    """beta_1 of the network curve, among replications that identify it: its 95% interval."""
    b = np.array([1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256])
    f, rng, hits = network_curve(b), np.random.default_rng(8), []
    for _ in range(200):
        fit = ss.fit_polynomial(b, f * (1 + 0.005 * rng.standard_normal(len(b))), 0.005 * f)
        if fit.identified[0]:
            value, error = fit.coefficient(1)
            hits.append(abs(value - NETWORK[0]) <= 1.96 * error)
    assert len(hits) > 190
    assert abs(np.mean(hits) - 0.95) <= stats.norm.isf(1e-4 / 2) * math.sqrt(0.95 * 0.05 / len(hits))


@pytest.mark.parametrize("non_negative", [False, True])
def test_the_wrong_basis_warns_and_names_the_right_one(non_negative):
    f = regression_curve(NINETEEN, 10)
    with pytest.warns(UserWarning, match=r"chi-square.*use basis='c_b'"):
        ss.fit_polynomial(NINETEEN, f, 0.02 * f, n_examples=N, non_negative=non_negative)
    with pytest.warns(UserWarning, match="if the batches are subsets without replacement"):
        ss.fit_polynomial(NINETEEN, f, 0.01 * f, non_negative=non_negative)
    ss.fit_polynomial(NINETEEN, f, 0.02 * f, **SUBSETS, non_negative=non_negative)  # warnings are errors here
    g = network_curve(NINETEEN)
    with pytest.warns(UserWarning, match="use basis='1/b'"):
        ss.fit_polynomial(NINETEEN, g, 0.002 * g, **SUBSETS)


def test_too_low_a_degree_warns_too():
    f = regression_curve(NINETEEN, 10)
    with pytest.warns(UserWarning, match="too low a degree"):
        ss.fit_polynomial(NINETEEN, f, 0.01 * f, degree=1, **SUBSETS)


@pytest.mark.parametrize(("coefficients", "b0"), [
    ([1.0, 2.0], 1.0),  # increasing in x all the way
    ([4.0, -3.0], 1.5),  # slope 4 - 6 x: x = 2/3
    ([-1.0, 2.0], math.inf),  # rises with b at the largest b
    ([3.0, -9.0, 8.0], 4.0),  # slope 3 (1 - 4 x)(1 - 2 x): the first turn counts
])  # fmt: skip
def test_where_it_starts_to_decrease(coefficients, b0):
    b = np.array([1, 2, 4, 8, 16, 64])
    f = (np.array(coefficients) / b[:, None] ** np.arange(1, len(coefficients) + 1)).sum(axis=1)
    assert ss.fit_polynomial(b, f, np.full(6, 1e-6), degree=len(coefficients)).b0 == pytest.approx(b0, rel=1e-4)


def test_b0_in_the_other_basis():
    b = np.array([1, 2, 4, 8, 12, 16])
    c = (20 - b) / (b * 19)
    fit = ss.fit_polynomial(b, 4 * c - 3 * c**2, np.full(6, 1e-6), degree=2, basis="c_b", n_examples=20)
    c0 = (20 - fit.b0) / (fit.b0 * 19)
    assert c0 == pytest.approx(2 / 3, rel=1e-4)


def test_common_errors_need_their_covariance():
    """Errors that all batch sizes share: without their covariance chi-square is far too small."""
    rng = np.random.default_rng(4)
    b = np.array([1, 2, 4, 8, 16, 32])
    f = 2 / b + 1 / b**2
    stderr = 0.05 * f
    correlation = 0.95 * np.ones((6, 6)) + 0.05 * np.eye(6)
    covariance = correlation * np.outer(stderr, stderr)
    root, joint, apart = np.linalg.cholesky(covariance), [], []
    for _ in range(200):
        y = f + root @ rng.standard_normal(6)
        joint.append(ss.fit_polynomial(b, y, degree=2, covariance=covariance).chi_square)
        apart.append(ss.fit_polynomial(b, y, stderr, degree=2).chi_square)
    assert abs(np.mean(joint) - 4) < 4.1 * math.sqrt(2 * 4 / 200)
    assert np.mean(apart) < 1
