"""Fits of exact variance curves with known noise: does the band cover, are the coefficients right, what is refused."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

import sgdsim as ss
from sgdsim.estimators import polynomial_fit
from sgdsim.estimators.bounded_bias import bounded_bias_least_squares
from sgdsim.estimators.non_negative import NonNegative
from sgdsim.estimators.weighted_least_squares import weighted_least_squares, whiten, whitener

N = 442
DYADIC = [2, 4, 8, 16, 32, 64, 128, 256]
NINETEEN = sorted({*DYADIC, *range(40, 441, 40)})
TWELVE = [2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 440]
# Var(g_1) of a 2 x 2 two-layer network in 1/b (theory sheet, section 3, N2): not of one sign.
NETWORK = np.array([8.81578832817, 6.53566801739, -4.62441891289, 4.84765428448, -4.66371536064, 3.75412245941])
# Its second layer, and a network of one unit a layer: neither was used to choose the rule.
SECOND_LAYER = np.array([10.0566330547, 4.97441090679, -2.97737038994, 2.80720643902, -2.67715340996, 2.50257094574])
ONE_UNIT = np.array([18402381 / 128e5, -17639577 / 64e6, -82539 / 16e6, 717579 / 32e5, 493533 / 4e6, 2187 / 1e5])


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


def network_curve(b, coefficients=NETWORK):
    return (coefficients / np.asarray(b)[:, None] ** np.arange(1, 7)).sum(axis=1)


SUBSETS = {"basis": "c_b", "n_examples": N}
FROM_ONE = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256]
CASES = {
    "t = 3": (lambda b: regression_curve(b, 3), NINETEEN, (0.05, 0.05), SUBSETS),
    "t = 10": (lambda b: regression_curve(b, 10), NINETEEN, (0.05, 0.005), SUBSETS),
    "t = 40": (lambda b: regression_curve(b, 40), TWELVE, (0.02, 0.02), SUBSETS),
    "t = 40, precise": (lambda b: regression_curve(b, 40), DYADIC, (0.003, 0.001), SUBSETS),
    "network": (network_curve, FROM_ONE, (0.02, 0.005), {}),
    "network, 1%": (network_curve, [1, 2, 4, 8, 16, 32, 64, 128], (0.008, 0.008), {}),
    "network, few and vague": (network_curve, DYADIC, (0.05, 0.05), {}),
    "its second layer": (lambda b: network_curve(b, SECOND_LAYER), FROM_ONE, (0.01, 0.01), {}),
    "one unit": (lambda b: network_curve(b, ONE_UNIT), [1, 2, 4, 8, 16, 32, 64, 128], (0.001, 0.05), {}),
}


def between(sizes, points=24):
    """Whole and other numbers from the smallest to the largest batch size."""
    b = np.geomspace(min(sizes), max(sizes), points)
    return np.where(np.arange(points) % 2, b, b.round())


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


def linear_coverage(exact, sizes, grid, errors, **options):
    """The same without noise, if the curve is linear in the data: a normal law, whose slopes differences give."""
    f, truth = exact(sizes), exact(grid)
    stderr = np.geomspace(*errors, len(sizes)) * f
    fit = ss.fit_polynomial(sizes, f, stderr, **options)
    moved = [ss.fit_polynomial(sizes, f + 1e-3 * step, stderr, **options)(grid) for step in np.diag(stderr)]
    noise, bias = np.linalg.norm(moved - fit(grid), axis=0) / 1e-3, fit(grid) - truth
    half = np.subtract(*fit.band(grid)[::-1]) / 2
    return stats.norm.cdf((half - bias) / noise) - stats.norm.cdf((-half - bias) / noise)


def assert_covers(hits, replications, points, highest=0.97):
    """Pointwise 93 to 97%, two-sided: the binomial error at those ends is allowed for, 1% in the whole family."""
    k = stats.norm.isf(0.01 / 2 / points)
    assert hits.min() >= 0.93 - k * math.sqrt(0.93 * 0.07 / replications), hits
    assert hits.max() <= highest + k * math.sqrt(highest * (1 - highest) / replications), hits


def preferred_and_two_more(design, target, rows, sizes):
    """The rule before this one."""
    aicc = polynomial_fit._candidates(design, target, target, False)
    degree = min(aicc, key=lambda row: row[2])[0] + 2
    return weighted_least_squares(design[:, : min(degree, len(target))], target)


@pytest.mark.parametrize("name", CASES)
def test_the_band_covers_between_all_batch_sizes(name):
    exact, sizes, errors, options = CASES[name]
    hits = linear_coverage(exact, sizes, between(sizes, 40), errors, **options)
    assert hits.min() > 0.945 and hits.max() < 0.962, hits


@pytest.mark.parametrize(("sizes", "errors"), [
    *(([2, 8, 32, 128, 400], error) for error in (1e-3, 0.01, 0.2)), *((DYADIC, error) for error in (1e-5, 0.01, 0.2)),
    *((NINETEEN, error) for error in (1e-5, 0.2)),
])  # fmt: skip
def test_it_does_so_from_five_batch_sizes_on(sizes, errors):
    """With errors of 0.1% or more; eight do for 0.001%."""
    for exact, options in ((lambda b: regression_curve(b, 10), SUBSETS), (network_curve, {})):
        hits = linear_coverage(exact, sizes, between(sizes, 40), (errors, errors), **options)
        assert hits.min() > 0.945 and hits.max() < 0.962, hits


SHARP = ("network, 1%", np.array([1.1, 1.3, 2.0, 8.0]), 1500)


def sharp():
    name, grid, replications = SHARP
    exact, sizes, errors, options = CASES[name]
    return coverage(exact, sizes, grid, errors, replications, 21, **options), replications, len(grid)


def test_the_band_covers_where_a_chosen_degree_does_not():
    assert_covers(*sharp())


def test_the_degree_that_aicc_prefers_plus_two_would_be_noticed(monkeypatch):
    monkeypatch.setattr(polynomial_fit, "bounded_bias_least_squares", preferred_and_two_more)
    with pytest.raises(AssertionError):
        assert_covers(*sharp())


@pytest.mark.parametrize("factor", [2 / 3, 4 / 3])
def test_errors_off_by_a_third_would_be_noticed(monkeypatch, factor):
    fit_polynomial = ss.fit_polynomial
    monkeypatch.setattr(ss, "fit_polynomial", lambda b, y, stderr, **o: fit_polynomial(b, y, factor * stderr, **o))
    monkeypatch.setitem(globals(), "SHARP", (*SHARP[:2], 500))
    with pytest.raises(AssertionError):
        assert_covers(*sharp())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_band_covers_93_to_97_percent_at_every_batch_size(name):
    exact, sizes, errors, options = CASES[name]
    grid = between(sizes)
    assert_covers(coverage(exact, sizes, grid, errors, 4000, 11, **options), 4000, len(CASES) * len(grid))


@pytest.mark.slow
def test_the_non_negative_band_covers_93_to_97_5_percent():
    """A coefficient at its bound can be missed on one side only: 97.5%, which no band of this kind avoids."""
    for step, sizes, errors in ((3, NINETEEN, (0.05, 0.005)), (10, TWELVE, (0.02, 0.02)), (40, DYADIC, (0.003, 0.001))):
        grid = np.array([3, 7, 20, 150, 250])
        hits = coverage(lambda b, step=step: regression_curve(b, step), sizes, grid, errors, 1000, 11,
                        non_negative=True, **SUBSETS)
        assert_covers(hits, 1000, 3 * len(grid), highest=0.975)


@pytest.mark.parametrize("sizes", [[2, 16, 128], [8, 24, 80, 240]])
@pytest.mark.parametrize("options", [{}, {"non_negative": True}])
def test_three_batch_sizes_leave_a_wide_band_not_a_wrong_one(sizes, options):
    """A polynomial of degree 3 is off by 30 errors between them: nothing then bounds the bias but what is assumed."""
    grid = between(sizes, 5)
    hits = coverage(lambda b: regression_curve(b, 10), sizes, grid, (0.001, 0.001), 40, 6, **SUBSETS, **options)
    k = stats.norm.isf(0.01 / 2 / (4 * len(grid)))
    assert hits.min() >= 0.95 - k * math.sqrt(0.95 * 0.05 / 40), hits
    if not options and len(sizes) == 3:
        textbook = coverage(lambda b: regression_curve(b, 10), sizes, grid, (0.001, 0.001), 40, 6, degree=3, **SUBSETS)
        assert textbook.min() < 0.1


def test_the_error_is_that_of_noise_and_of_coefficients_of_the_assumed_size(rng):
    """Both drawn: the mean square of the miss, for any combinations; and chi-square of noise alone."""
    sizes, repeats = np.array([3.0, 1.0, 1.0, 0.5, 0.2, 0.1]), 1000
    for m in (4, 9):
        design, rows = rng.standard_normal((m, 6)), rng.standard_normal((5, 6))
        miss, chi_square = [], []
        for _ in range(repeats):
            beta, noise = sizes * rng.standard_normal(6), rng.standard_normal(m)
            fit = bounded_bias_least_squares(design, design @ beta + noise, rows, sizes)
            miss.append(rows @ (fit.coefficients - beta))
            chi_square.append(bounded_bias_least_squares(design, noise, rows, sizes).chi_square)
        ratio = np.square(miss).mean(axis=0) / fit.error(rows) ** 2
        assert (np.abs(ratio - 1) < 4.5 * math.sqrt(2 / repeats)).all()
        assert abs(np.mean(chi_square) - (m - fit.parameters)) < 4.5 * np.std(chi_square) / math.sqrt(repeats)


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


def test_the_non_negative_curve_is_smooth_and_within_its_band(rng):
    """Four batch sizes: the least chi-square alone would put its remainder into the highest power."""
    sizes = np.array([8, 24, 80, 240])
    f, b = regression_curve(sizes, 10), between(sizes)
    for _ in range(10):
        fit = ss.fit_polynomial(sizes, f * (1 + 0.03 * rng.standard_normal(4)), 0.03 * f, non_negative=True, **SUBSETS)
        low, high = fit.band(b)
        assert (low < fit(b)).all() and (fit(b) < high).all()
    design, target = np.abs(rng.standard_normal((5, 7))), rng.standard_normal(5) + 2
    s = np.geomspace(2, 0.1, 7)
    beta = NonNegative(design, target, s).coefficients
    slope = design.T @ (design @ beta - target) + beta / s**2  # 0, or upwards at the bound
    assert (beta >= 0).all() and (slope > -1e-9).all() and np.abs(slope * beta).max() < 1e-9
    assert NonNegative(design, target, s).chi_square == NonNegative(design, target).chi_square


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


@pytest.mark.parametrize("floor", [0.0, -3.0, 1e3])
def test_a_constant_is_one_more_coefficient(rng, floor):
    """The band covers, the constant is found, and adding to all data adds to beta_0 alone."""
    b = np.array([1, 2, 3, 4, 6, 8, 16, 32, 64, 128.0])
    exact = network_curve(b)
    errors = 0.01 * exact
    y = exact + errors * rng.standard_normal((400, len(b)))
    between = np.array([1.5, 5, 20, 100])
    inside, found = np.zeros(len(between)), []
    for row in y:
        fit = ss.fit_polynomial(b, row + floor, errors, constant=True)
        low, high = fit.band(between)
        inside += (low <= network_curve(between) + floor) & (network_curve(between) + floor <= high)
        found.append((fit.solution.coefficients[0] - floor) / fit.stderr[0])
    k = stats.norm.isf(1e-4 / 2 / len(between))
    assert (np.abs(inside / 400 - 0.955) < 0.015 + k * math.sqrt(0.955 * 0.045 / 400)).all(), inside / 400
    assert abs(np.mean(found)) < 0.3 + k / math.sqrt(400)


def test_a_constant_and_a_chosen_degree():
    b = np.array([1, 2, 4, 8, 16.0])
    fit = ss.fit_polynomial(b, 5 + 3 / b + 2 / b**2, 1e-6 / b, degree=2, constant=True)
    assert fit.coefficients == pytest.approx([5, 3, 2]) and fit.degree == 2 and fit.b0 == 1
    assert fit.coefficient(0)[0] == pytest.approx(5) and "    0  " in fit.table()
    with pytest.raises(ValueError, match="constant is True"):
        ss.fit_polynomial(b, 5 + 3 / b, 1e-6 / b, non_negative=True, constant=True)


def test_a_curve_that_cannot_reach_the_data_says_so():
    """Four sizes leave no degree of freedom, but terms far larger than assumed would have to reach the data."""
    b = np.array([2, 4, 8, 16])
    with pytest.warns(UserWarning, match="misses the data"):
        fit = ss.fit_polynomial(b, 0.125 + 0.01 / b, 1e-5 / b)
    assert fit.misses and not ss.fit_polynomial(b, 0.01 / b, 1e-5 / b).misses
