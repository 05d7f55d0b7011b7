"""Linear networks: Wick sums against fractions, Gauss quadrature and sampling; the tangent recursion."""

import itertools
import time
from fractions import Fraction as F

import numpy as np
import pytest
from scipy import special

import sgdsim as ss
from sgdsim.solver import gradient_variance_polynomial
from sgdsim.solver.variance import layer_gradient_variance, leading_variance_coefficient
from sgdsim.solver.variance.two_layer import _Words
from sgdsim.solver.variance.wick import Factor, mean_of_traces, variance_of

# theory sheet, section 3: s^1 ... s^6 at t = 1, and the coefficient at t = 0
REFERENCE = {
    "square": ((19.21875, 19.21875),
               (8.81578832817, 6.53566801739, -4.62441891289, 4.84765428448, -4.66371536064, 3.75412245941),
               (10.0566330547, 4.97441090679, -2.97737038994, 2.80720643902, -2.67715340996, 2.50257094574)),
    "wide": ((27.8125, 21.4375),
             (12.6118881664, 9.63318269278, -7.1836333905, 8.34432162781, -8.2147479668, 6.43791234375),
             (11.5527748601, 5.57278127838, -3.08309616638, 3.58096739502, -3.45776168457, 3.18677145996)),
}  # fmt: skip


def at(case, step, quantity="gradient", rate=0.1):
    problem, initial = case
    return gradient_variance_polynomial(problem, ss.SGD(rate), step=step, initial=initial, quantity=quantity)


@pytest.mark.parametrize("name", REFERENCE)
def test_the_known_coefficients_of_matrices(name, networks):
    case, (start, inner, outer) = getattr(networks, name), REFERENCE[name]
    zero, one = at(case, 0), at(case, 1)
    assert (zero.inner.coefficients.tolist(), zero.outer.coefficients.tolist()) == ([0.0, start[0]], [0.0, start[1]])
    np.testing.assert_allclose(one.inner.coefficients[1:], inner, rtol=5e-12)
    np.testing.assert_allclose(one.outer.coefficients[1:], outer, rtol=5e-12)
    assert one.inner.coefficients[0] == one.outer.coefficients[0] == 0
    assert one.inner.degree == one.outer.degree == 6
    assert one.inner.is_decreasing() and one.outer.is_decreasing()


def test_the_known_fractions_of_one_unit_in_every_layer(networks):
    zero, one, two, three = (at(networks.scalar, t) for t in range(4))
    assert (zero.inner.exact, zero.outer.exact) == ((0, F(9, 8)), (0, F(9, 2)))
    assert one.inner.exact == (0, F(18402381, 12800000), F(-17639577, 64000000), F(-82539, 16000000),
                               F(717579, 3200000), F(493533, 4000000), F(2187, 100000))  # fmt: skip
    assert one.outer.exact == (0, F(202054437, 51200000), F(-46081377, 256000000), F(9898281, 64000000),
                               F(1662363, 12800000), F(668493, 16000000), F(2187, 400000))  # fmt: skip
    np.testing.assert_allclose(two.inner([1, 2, 4, 10]),
                               [203.176877525, 0.680366089012, 0.345963781767, 0.142919718], rtol=2e-11)  # fmt: skip
    np.testing.assert_allclose(
        three.inner([1, 2, 4, 10, 100]),
        [4.3974077615e36, 6.8503062663e16, 0.330368707808, 0.127722277528, 0.013004132037], rtol=1e-10,
    )  # fmt: skip


def test_degrees_are_1_6_23_76_and_all_decrease(networks):
    """3^{t+1} - t - 2, attained, above the printed 2 x 3^t from t = 2 on."""
    for t, degree in enumerate((1, 6, 23, 76)):
        pair = at(networks.scalar, t)
        assert pair.inner.degree == pair.outer.degree == 3 ** (t + 1) - t - 2 == degree
        assert pair.inner.exact[-1] > 0 and pair.inner.exact[0] == pair.outer.exact[0] == 0
        assert pair.inner.is_decreasing() and pair.outer.is_decreasing()
        values = pair.inner(np.arange(1, 201))
        assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("quantity", ["gradient", "full_gradient", "loss"])
@pytest.mark.parametrize("step", [0, 1])
def test_wick_sums_are_the_fractions_for_one_unit(quantity, step, networks):
    problem, initial = networks.scalar
    exact = at(networks.scalar, step, quantity)
    words = _Words(problem, tuple(np.array(layer) for layer in initial), 0.1 if step else None)
    for values, fractions in zip(words.coefficients(quantity), (exact.inner.exact, exact.outer.exact), strict=True):
        full = np.zeros(max(len(values), len(fractions)))
        full[: len(fractions)] = [float(value) for value in fractions]
        padded = np.zeros_like(full)
        padded[: len(values)] = values
        np.testing.assert_allclose(padded, full, rtol=1e-12, atol=1e-15)


def bartlett_nodes(b, nodes=5):
    """Gauss nodes of the 2 x 2 Bartlett factor at any real b > 1: Sigma and weights, exact to high degree."""
    def chi_square(freedom):
        x, w = special.roots_genlaguerre(nodes, freedom / 2 - 1)
        return 2 * x, w / w.sum()

    (x, u), (y, v) = chi_square(b), chi_square(b - 1)
    z, t = special.roots_hermitenorm(2 * nodes)
    for (a, wa), (c, wc), (n, wn) in itertools.product(
        zip(x, u, strict=True), zip(y, v, strict=True), zip(z, t / t.sum(), strict=True)
    ):
        lower = np.array([[np.sqrt(a), 0.0], [n, np.sqrt(c)]])
        yield lower @ lower.T / b, wa * wc * wn


@pytest.mark.parametrize("b", [1.5, 2.0, 3.0, 100.0])
@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_one_step_of_two_inputs_against_gauss_quadrature(b, hidden):
    rng = np.random.default_rng(hidden)
    problem = ss.TwoLayerLinear(rng.normal(size=(hidden, 2)), rng.normal(size=(2, hidden)))
    w1, w2, rate = rng.normal(size=(hidden, 2)) / 2, rng.normal(size=(2, hidden)) / 2, 0.15
    e = w2 @ w1 - problem.target
    moments = {name: 0.0 for name in ("q", "qq", "r", "rr", "ew", "loss")}
    for sigma, weight in bartlett_nodes(b):
        v1, v2 = w1 - rate * w2.T @ e @ sigma, w2 - rate * e @ sigma @ w1.T
        error = v2 @ v1 - problem.target
        q, r = v2.T @ error, error @ v1.T
        parts = {"q": q, "qq": np.sum(q**2), "r": r, "rr": np.sum(r**2),
                 "ew": np.sum(error**2) * np.sum(v1**2), "loss": np.sum(error**2) / 2}  # fmt: skip
        moments = {name: moments[name] + weight * part for name, part in parts.items()}
    var_q = moments["qq"] - np.sum(moments["q"] ** 2)
    var_r = moments["rr"] - np.sum(moments["r"] ** 2)
    case = problem, (w1, w2)
    exact, full, loss = (at(case, 1, name, rate) for name in ("gradient", "full_gradient", "loss"))
    assert exact.inner(b) == pytest.approx(3 / b * moments["qq"] + var_q, rel=1e-11)
    assert exact.outer(b) == pytest.approx((moments["rr"] + moments["ew"]) / b + var_r, rel=1e-11)
    assert (full.inner(b), full.outer(b)) == (pytest.approx(var_q, rel=1e-10), pytest.approx(var_r, rel=1e-10))
    assert loss.inner(b) == loss.outer(b) == pytest.approx(moments["loss"], rel=1e-12)


def per_sample_gradients(problem, w1, w2, b, rng):
    """Batch gradients of many runs, example by example: w1 (runs, p1, p), w2 (runs, p2, p1)."""
    runs, _, inputs = w1.shape
    x = rng.normal(size=(runs, b, inputs))
    y = x @ problem.target.T + float(problem.label_noise) * rng.normal(size=(runs, b, len(problem.target)))
    hidden = np.einsum("rij,rbj->rbi", w1, x)
    residual = np.einsum("rij,rbj->rbi", w2, hidden) - y
    back = np.einsum("rki,rbk->rbi", w2, residual)
    return np.einsum("rbi,rbj->rij", back, x) / b, np.einsum("rbi,rbj->rij", residual, hidden) / b


def grouped_variance(values, groups=100):
    """Sum of the sample variances in each group: mean and standard error."""
    each = values.reshape(groups, len(values) // groups, -1).var(axis=1, ddof=1).sum(axis=1)
    return each.mean(), each.std(ddof=1) / np.sqrt(groups)


@pytest.mark.parametrize("noise", [0.0, 0.8])
def test_one_step_against_plain_sgd(noise, assert_within_sigma):
    """p = 3, 4 hidden, 2 outputs, b = 2 < p: every example drawn, label noise included."""
    rng = np.random.default_rng(5)
    problem = ss.TwoLayerLinear(rng.normal(size=(4, 3)), rng.normal(size=(2, 4)), noise)
    w1, w2, rate, b, runs = rng.normal(size=(4, 3)) / 2, rng.normal(size=(2, 4)) / 2, 0.05, 2, 60_000
    many = np.tile(w1, (runs, 1, 1)), np.tile(w2, (runs, 1, 1))
    for t in range(2):
        exact = at((problem, (w1, w2)), t, rate=rate)
        gradients = per_sample_gradients(problem, *many, b, rng)
        for polynomial, gradient in zip(exact, gradients, strict=True):
            mean, stderr = grouped_variance(gradient)
            assert_within_sigma(mean, polynomial(b), stderr, comparisons=4)
            with pytest.raises(AssertionError):  # 10 % more is noticed
                assert_within_sigma(mean, 1.1 * polynomial(b), stderr, comparisons=4)
        many = tuple(w - rate * g for w, g in zip(many, gradients, strict=True))


def test_a_case_takes_less_than_two_seconds():
    rng = np.random.default_rng(0)
    problem = ss.TwoLayerLinear(rng.normal(size=(6, 5)), rng.normal(size=(4, 6)))

    def once():
        begin = time.perf_counter()
        gradient_variance_polynomial(problem, ss.SGD(0.1), step=1)
        return time.perf_counter() - begin

    assert min(once() for _ in range(3)) < 2.0


def test_moments_of_a_wishart_matrix():
    """E[S N S] = N + s (N' + tr(N) I) and E tr(S)^2 = p^2 + 2 p s, p = 3."""
    rng = np.random.default_rng(1)
    n, one = rng.normal(size=(3, 3)), np.eye(3)
    sigma, fixed = Factor(0 * one, one, one), Factor(n)
    np.testing.assert_allclose(mean_of_traces([sigma, fixed, sigma]), [np.trace(n), 4 * np.trace(n), 0], atol=1e-14)
    np.testing.assert_allclose(mean_of_traces([sigma], [sigma]), [9, 6, 0], atol=1e-14)
    # var(S) = E||S||^2 - ||I||^2 = s (p + p^2)
    np.testing.assert_allclose(variance_of([sigma]), [0, 12, 0], atol=1e-14)
    assert mean_of_traces([fixed], [fixed])[0] == pytest.approx(np.trace(n) ** 2)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_variance_given_the_weights_against_single_examples(depth, rng, assert_within_sigma):
    sizes = (3, 4, 2, 3)[: depth + 1]
    problem = ss.DeepLinear([rng.normal(size=(m, n)) for n, m in itertools.pairwise(sizes)], 0.6)
    w = rng.normal(size=problem.dimension)
    exact = layer_gradient_variance(problem, w)
    examples = [(x, problem.target @ x + 0.6 * e) for x, e in zip(
        rng.normal(size=(40_000, 3)), rng.normal(size=(40_000, sizes[-1])), strict=True)]  # fmt: skip
    x, y = (np.array(part) for part in zip(*examples, strict=True))
    chain = [*problem.unflatten(w)]
    below, above = [x], [np.eye(sizes[-1])]
    for layer in chain:
        below.append(below[-1] @ layer.T)
    for layer in reversed(chain[1:]):
        above.append(above[-1] @ layer)
    residual = below[-1] - y
    for l in range(depth):
        each = np.einsum("ni,nj->nij", residual @ above[depth - 1 - l], below[l])
        mean, stderr = grouped_variance(each)
        assert_within_sigma(mean, exact[l], stderr, comparisons=depth)
    chains = np.stack([w, 2 * w], axis=1)
    np.testing.assert_allclose(layer_gradient_variance(problem, chains)[:, 0], exact, rtol=1e-13)


def test_the_first_coefficient_at_any_time(networks):
    """Against Wick sums (t <= 1), fractions (t <= 3) and nested quadrature at t = 2 (theory sheet)."""
    noisy = ss.TwoLayerLinear([[0.5, 1.0, -1.0], [0.2, 0.0, 0.3]], [[1.0, 0.5], [0.0, 1.0]], 0.7)
    start = [[1.0, 0.0, 0.5], [0.0, -1.0, 0.5]], [[1.0, 0.5], [-0.5, 0.2]]
    cases = [(networks.square, 2), (networks.wide, 2), (networks.scalar, 4), ((noisy, start), 2)]
    for case, steps in cases:
        for t in range(steps):
            pair = at(case, t)
            first = leading_variance_coefficient(case[0], ss.SGD(0.1), step=t, initial=case[1])
            np.testing.assert_allclose(first, [p.coefficients[1] for p in pair], rtol=1e-13)
    problem, initial = networks.square
    np.testing.assert_allclose(leading_variance_coefficient(problem, ss.SGD(0.1), step=2, initial=initial),
                               [4.54573143963, 5.93337129212], rtol=2e-12)  # fmt: skip


def test_the_first_coefficient_of_a_deep_network():
    """One unit in three layers: k_l(w) + 2 (dq_l/dz)^2 at z = 1, the derivative by differences."""
    problem, w, rate = ss.DeepLinear([[[1.0]], [[1.0]], [[1.5]]]), np.array([0.5, 1.2, 0.8]), 0.6

    def full_gradient(w):
        e = w.prod() - 1.5
        return e * w.prod() / w

    def after(z):
        return full_gradient(w - rate * z * full_gradient(w))

    slope = (after(1 + 1e-5) - after(1 - 1e-5)) / 2e-5
    exact = leading_variance_coefficient(problem, ss.SGD(rate), step=1, initial=w)
    np.testing.assert_allclose(exact, 2 * after(1.0) ** 2 + 2 * slope**2, rtol=1e-8)
    start = leading_variance_coefficient(problem, ss.SGD(rate), step=0, initial=w)
    np.testing.assert_allclose(start, 2 * full_gradient(w) ** 2)
    assert np.abs(exact / (2 * after(1.0) ** 2) - 1).max() > 0.1  # the comparison sees the second term


def test_large_batches_approach_the_first_coefficient(networks):
    for case in (networks.square, networks.wide):
        pair, first = at(case, 1), leading_variance_coefficient(case[0], ss.SGD(0.1), step=1, initial=case[1])
        for polynomial, limit in zip(pair, first, strict=True):
            assert 1e6 * polynomial(1e6) == pytest.approx(limit, rel=1e-5)


def test_for_quadratic_losses_it_is_the_first_of_all_coefficients(toy):
    for sampling in ("with_replacement", "without_replacement"):
        whole = gradient_variance_polynomial(toy, ss.SGD(0.25), step=5, sampling=sampling)
        first = leading_variance_coefficient(toy, ss.SGD(0.25), step=5, sampling=sampling)
        assert first.shape == (1,) and first[0] == whole.coefficients[1]


def test_a_float_stands_for_its_shortest_decimal(networks):
    problem, initial = networks.scalar
    as_float = gradient_variance_polynomial(problem, ss.SGD(lambda t: 0.1), step=2, initial=initial)
    as_fraction = gradient_variance_polynomial(problem, ss.SGD(lambda t: F(1, 10)), step=2, initial=initial)
    assert as_float.inner.exact == as_fraction.inner.exact
    other = gradient_variance_polynomial(problem, ss.SGD(lambda t: F(1, 10) + F(1, 10**6)), step=2, initial=initial)
    assert other.inner.exact != as_fraction.inner.exact


def test_the_start_may_be_a_vector_or_the_default(networks):
    problem, initial = networks.wide
    flat = at((problem, problem.flatten(*initial)), 1)
    np.testing.assert_array_equal(flat.inner.coefficients, at(networks.wide, 1).inner.coefficients)
    default = gradient_variance_polynomial(problem, ss.SGD(0.1), step=0)
    np.testing.assert_allclose([p.coefficients[1] for p in default],
                               layer_gradient_variance(problem, problem.default_start), rtol=1e-13)  # fmt: skip


def test_what_has_no_exact_polynomial_is_refused_by_name(networks):
    with pytest.raises(NotImplementedError, match=r"step 2.*leading_variance_coefficient"):
        at(networks.square, 2)
    with pytest.raises(NotImplementedError, match="step 4"):
        at(networks.scalar, 4)
    with pytest.raises(NotImplementedError, match="DeepLinear"):
        gradient_variance_polynomial(ss.DeepLinear([[[1.0]], [[1.0]], [[1.0]]]), ss.SGD(0.1), step=0)
    with pytest.raises(NotImplementedError, match="Quadratic"):
        layer_gradient_variance(ss.Quadratic([1.0], [1.0]), [1.0])
    rng = np.random.default_rng(0)
    large = ss.TwoLayerLinear(rng.normal(size=(50, 50)), rng.normal(size=(50, 50)))
    with pytest.raises(ValueError, match=r"2000 parameters.*5000"):
        leading_variance_coefficient(large, ss.SGD(0.1), step=0)
