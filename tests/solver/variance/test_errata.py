"""What docs/errata.md says of "The Impact of the Mini-batch Size on the Variance of Gradients", item by item."""

import itertools

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver import gradient_variance, gradient_variance_polynomial
from sgdsim.solver.variance import epoch_gradient_variance


def halving(t):
    return 1 / (2 * (t + 1))


def polynomials(case, step, quantity="gradient", rate=0.1):
    return gradient_variance_polynomial(case[0], ss.SGD(rate), step=step, initial=case[1], quantity=quantity)


def subset_gradients(x, y, w, b):
    return np.array([x[list(s)].T @ (x[list(s)] @ w - y[list(s)]) / b
                     for s in itertools.combinations(range(len(y)), b)])  # fmt: skip


def test_01_theorem_4_leaves_out_the_weights_that_the_batch_shares(networks, assert_within_sigma):
    """Its expression (1/b) Var(one example's gradient) is the truth less (1 - 1/b) Var(Q)."""
    (problem, (w1, w2)), b, runs, groups = networks.square, 4, 60_000, 100
    rng = np.random.default_rng(3)
    first, second = np.tile(w1, (runs, 1, 1)).astype(float), np.tile(w2, (runs, 1, 1)).astype(float)
    for _ in range(2):
        x = rng.normal(size=(runs, b, 2))
        hidden = np.einsum("rij,rbj->rbi", first, x)
        residual = np.einsum("rij,rbj->rbi", second, hidden) - x @ problem.target.T
        g1 = np.einsum("rbi,rbj->rij", np.einsum("rki,rbk->rbi", second, residual), x) / b
        g2 = np.einsum("rbi,rbj->rij", residual, hidden) / b
        first, second = first - 0.1 * g1, second - 0.1 * g2
    exact, full = polynomials(networks.square, 1), polynomials(networks.square, 1, "full_gradient")
    for g, right, conditional in zip((g1, g2), exact, full, strict=True):
        each = g.reshape(groups, -1, 4).var(axis=1, ddof=1).sum(axis=1)
        mean, stderr = each.mean(), each.std(ddof=1) / np.sqrt(groups)
        printed = right(b) - (1 - 1 / b) * conditional(b)
        assert_within_sigma(mean, right(b), stderr, comparisons=2)
        assert (mean - printed) / stderr > 7
    assert exact.inner(b) == pytest.approx(2.55546806, rel=1e-8)
    assert exact.inner(b) - 0.75 * full.inner(b) == pytest.approx(2.29397087, rel=1e-8)


def test_02_the_first_degree_bound_of_theorem_4_is_too_small(networks):
    for t, degree in ((2, 23), (3, 76)):
        pair = polynomials(networks.scalar, t)
        assert pair.inner.degree == pair.outer.degree == degree and pair.inner.exact[-1] > 0
        assert 2 * 3**t < degree <= 2 * 3 ** (t + 1)


def test_03_the_last_sum_of_theorem_4_needs_another_index(networks):
    """At t = 0 gamma_0 = gamma'_0 = ||Q||^2 and nothing else: the printed sum is 0, the shifted one is right."""
    problem, (w1, w2) = networks.square
    q = np.transpose(w2) @ (np.array(w2) @ w1 - problem.target)
    gamma, primed, p = np.array([np.sum(q**2), 0.0]), np.array([np.sum(q**2), 0.0]), 2
    printed = sum((p + 1) * gamma[k] - primed[k] for k in (1,))
    shifted = (p + 2) * gamma[0] - primed[0]
    assert printed == 0.0
    assert shifted == pytest.approx(polynomials(networks.square, 0).inner.coefficients[1]) == pytest.approx(19.21875)


def test_04_lemma_2_lacks_a_sign_and_a_half(rng):
    x, y, w, alpha, b, n = rng.normal(size=(5, 2)), rng.normal(size=5), np.array([1.0, -0.5]), 0.3, 2, 5
    matrices = rng.normal(size=(n, 2, 2))

    def gradients(w):
        return x * (x @ w - y)[:, None]

    def norm(coefficients, w):
        return np.sum(np.einsum("nij,nj->i", coefficients, gradients(w)) ** 2)

    a = np.einsum("nij,nj,nk->ik", matrices, x, x)
    left = np.mean([norm(matrices, w - alpha * g) for g in subset_gradients(x, y, w, b)])
    first = norm(matrices - alpha / n * a, w)
    c, g = (n - b) / (b * (n - 1)), gradients(w) @ a.T
    pairs = {sign: sum(np.sum((g[k] + sign * g[l]) ** 2) for k in range(n) for l in range(n) if k != l)
             for sign in (1, -1)}  # fmt: skip
    main_text = first + alpha**2 * c / n**2 * pairs[1]
    appendix = first + alpha**2 * c / n**2 * pairs[-1]
    corrected = first + alpha**2 * c / (2 * n**2) * pairs[-1]
    assert corrected == pytest.approx(left, rel=1e-13)
    assert abs(main_text / left - 1) > 0.01 and abs(appendix / left - 1) > 0.01


def test_05_lemma_1_is_about_A_times_the_gradient(rng):
    x, y, w, b, n = rng.normal(size=(5, 2)), rng.normal(size=5), np.array([1.0, -0.5]), 2, 5
    a = rng.normal(size=(2, 2))
    truth = np.sum(np.var(subset_gradients(x, y, w, b) @ a.T, axis=0))
    each, c = x * (x @ w - y)[:, None], (n - b) / (b * (n - 1))

    def lemma(each):
        return c * (np.mean(np.sum(each**2, axis=1)) - np.sum(each.mean(axis=0) ** 2))

    assert lemma(each @ a.T) == pytest.approx(truth, rel=1e-13)
    assert abs(lemma(each) / truth - 1) > 0.05  # as printed, without A


def test_06_digits_in_base_b_are_no_constants():
    """Of the pairs (i, j) of examples b(b-1) differ: digits (b-1, 0), so "coefficients" that grow with b."""
    digits = {b: divmod(b * (b - 1), b) for b in (2, 3, 10)}
    assert digits == {2: (1, 0), 3: (2, 0), 10: (9, 0)}
    # falling factorials do it: b(b-1)/b^2 = 1 - s, one degree less than the d = 2 of lemma 3
    assert all(b * (b - 1) / b**2 == pytest.approx(1 - 1 / b) for b in digits)


def test_07_theorem_3_is_loose_by_t_plus_1(networks):
    """Its bound (3^{t+1} - 1) d / 2 for the degree of E||g||^2, d = 2; the q of its proof exceeds the q it claims."""
    for t in range(4):
        assert (3 ** (t + 1) - 1) - polynomials(networks.scalar, t).inner.degree == t + 1
    t, d, other = 1, 2, 4
    q_of_proof = d + 3 * (other + (3**t - 1) // 2 * (3 * d + other))
    claimed = ((3 ** (t + 2) - 1) * d + (3 ** (t + 1) - 1) * other) // 2
    assert q_of_proof > claimed
    # theorem 3 for t itself, applied to at most 3d + d' factors, gives the claim exactly
    assert d + (3 ** (t + 1) - 1) // 2 * (3 * d + other) == claimed


def test_08_the_first_coefficient_can_vanish_while_the_variance_does_not():
    """T = 0, w1 = 1, alpha = 1: after one step w2(z) = w2 (1 - z), and q = w2(z)^2 w1(z) has a double zero at z = 1."""
    problem = ss.TwoLayerLinear([[0.0]], [[0.0]])
    pair = gradient_variance_polynomial(problem, ss.SGD(1.0), step=1, initial=([[1.0]], [[0.5]]))
    assert pair.inner.exact[1] == 0 and float(pair.inner.exact[2]) == 9 / 32
    assert pair.inner(10) > 0 and pair.inner.is_decreasing()


def test_09_degree_six_is_not_t_plus_one(diabetes):
    full, six = (
        gradient_variance_polynomial(diabetes, ss.SGD(halving), step=10, initial=np.ones(11), order=order,
                                     sampling="without_replacement")
        for order in (None, 6)
    )  # fmt: skip
    assert full.degree == 11 and 1 - six(2) / full(2) == pytest.approx(0.007, abs=0.0005)


def test_10_there_are_20_batch_sizes_not_21():
    powers = {2**k for k in range(1, 20) if 2 <= 2**k <= 500}
    multiples = set(range(40, 501, 40))
    assert len(powers | multiples) == 20


def test_11_the_two_variances_are_not_proportional(diabetes):
    sizes = list(range(1, 442))
    exact = gradient_variance(diabetes, ss.SGD(halving), batch_size=sizes, steps=11, initial=np.ones(11),
                              sampling="without_replacement")  # fmt: skip
    assert (exact.full_gradient[0] == 0).all() and (exact.gradient[0] > 0).all()
    ratio = exact.gradient[10] * np.array(sizes) / exact.full_gradient[10]
    assert ratio.max() / ratio.min() == pytest.approx(115.58, rel=1e-4)


def test_12_smaller_batches_do_not_lower_the_expected_loss(diabetes):
    exact = gradient_variance(diabetes, ss.SGD(halving), batch_size=[1, 2, 40, 440], steps=11, initial=np.ones(11),
                              sampling="without_replacement")  # fmt: skip
    np.testing.assert_allclose(exact.loss[10], [73.60504451, 9.6144267, 0.4368511, 0.34147385], rtol=1e-7)
    # in a two-layer network either happens
    case = ss.TwoLayerLinear([[1.0]], [[-3.0]]), ([[-0.5]], [[0.25]])
    loss = polynomials(case, 1, "loss", rate=0.2).inner
    np.testing.assert_allclose(loss([1, 2, 4, 8, 100]), [3.5093, 3.4759, 3.4909, 3.5046, 3.5203], atol=5e-5)
    assert not loss.is_decreasing()


def test_13_the_variance_need_not_fall_with_time(diabetes):
    exact = gradient_variance(diabetes, ss.SGD(halving), batch_size=[2, 40, 440], steps=2, initial=np.ones(11),
                              sampling="without_replacement")  # fmt: skip
    assert (exact.gradient[1] > 2 * exact.gradient[0]).all()
    assert np.linalg.eigvalsh(diabetes.hessian())[-1] == pytest.approx(4.02, abs=0.005)


def test_15_a_simulation_at_small_batches_sees_the_typical_run_only(networks):
    """One unit in every layer, t = 3, b = 2: moments are carried by runs that no simulation meets."""
    exact = polynomials(networks.scalar, 3).inner
    assert exact(2) == pytest.approx(6.8503062663e16, rel=1e-10)
    rng, runs, rate = np.random.default_rng(0), 200_000, 0.1
    w1, w2 = np.ones(runs), np.full(runs, 0.5)
    for _ in range(4):
        z = rng.chisquare(2, runs) / 2
        e = w2 * w1 - 2.0
        g1, g2 = w2 * e * z, w1 * e * z
        w1, w2 = w1 - rate * g1, w2 - rate * g2
    each = g1.reshape(100, -1).var(axis=1, ddof=1)
    assert each.mean() < 1 and each.std() / 10 < 0.01
    # at b = 100 the same simulation is right
    w1, w2 = np.ones(runs), np.full(runs, 0.5)
    for _ in range(4):
        z, e = rng.chisquare(100, runs) / 100, w2 * w1 - 2.0
        g1, g2 = w2 * e * z, w1 * e * z
        w1, w2 = w1 - rate * g1, w2 - rate * g2
    each = g1.reshape(100, -1).var(axis=1, ddof=1)
    assert abs(each.mean() - exact(100)) < 4 * each.std(ddof=1) / 10


def test_16_corollary_1_fails_when_data_are_passed_in_epochs():
    """b = 2 has just begun its second pass and b = 3 is in the middle of its first at t = 3 of n = 6."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 2))
    problem = ss.DatasetRegression(x, x @ [1.0, -1.0] + rng.normal(size=6))
    setting = {"batch_size": [2, 3], "steps": 4, "initial": [1.0, 1.0]}
    fresh = gradient_variance(problem, ss.SGD(0.2), sampling="without_replacement", **setting)
    assert fresh.gradient[3, 0] > fresh.gradient[3, 1]
    for reshuffle, values in ((True, [0.35431, 0.51941]), (False, [0.37396, 0.47314])):
        exact = epoch_gradient_variance(problem, ss.SGD(0.2), reshuffle=reshuffle, **setting)
        np.testing.assert_allclose(exact.gradient[3], values, atol=5e-6)


def test_16_also_with_twelve_examples():
    rng = np.random.default_rng(18)
    x = rng.normal(size=(12, 2))
    problem = ss.DatasetRegression(x, x @ [1.0, -1.0] + rng.normal(size=12))
    exact = epoch_gradient_variance(problem, ss.SGD(0.2), batch_size=[2, 3], steps=7, initial=[1.0, 1.0])
    np.testing.assert_allclose(exact.gradient[6], [0.47728322, 0.63128033], rtol=1e-7)
