"""Polynomials of quadratic losses: coefficients against known numbers, values against the recursion."""

from fractions import Fraction

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver import gradient_variance, gradient_variance_polynomial
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.variance import VariancePolynomial
from sgdsim.solver.variance.bernstein import non_negative

SIZES = [1, 2, 3, 5, 10, 20, 40, 100, 200, 400, 441]


def halving(t):
    return 1 / (2 * (t + 1))


def test_the_toy_coefficients(toy):
    g, full = (
        gradient_variance_polynomial(toy, ss.SGD(0.25), step=3, initial=[1.0, -1.0], quantity=name)
        for name in ("gradient", "full_gradient")
    )
    np.testing.assert_allclose(
        g.coefficients, [0, 7.79078679026, 5.37314264274, 7.98442873543, 6.24001647808], rtol=1e-11
    )
    np.testing.assert_allclose(full.coefficients[:4], [0, 2.39363134643, 2.31999120595, 5.07643152166], rtol=1e-11)
    assert (g.degree, full.degree) == (4, 3)
    subsets = gradient_variance_polynomial(toy, ss.SGD(0.25), step=3, sampling="without_replacement")
    assert (g.variable, subsets.variable) == ("1/b", "c_b")


def test_the_coefficients_do_not_depend_on_how_batches_are_drawn(toy):
    one, other = (
        gradient_variance_polynomial(toy, ss.SGD(0.25), step=3, initial=[1.0, -1.0], sampling=mode)
        for mode in ("with_replacement", "without_replacement")
    )
    np.testing.assert_array_equal(one.coefficients, other.coefficients)
    assert other(6) == 0.0 and one(6) > 1


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_values_are_those_of_every_sequence_of_batches(sampling, rng, sequences):
    problem, how = ss.DatasetRegression(rng.normal(size=(4, 2)), rng.normal(size=4), 0.1), {"initial": [1.0, 0.5]}
    polynomials = [
        [gradient_variance_polynomial(problem, ss.SGD(0.4), step=t, sampling=sampling, quantity=name, **how)
         for name in ("gradient", "full_gradient", "loss")] for t in range(3)
    ]  # fmt: skip
    for b in (1, 2):
        counted = sequences(problem, [0.4] * 3, [1.0, 0.5], b, sampling)
        values = [[polynomial(b) for polynomial in row] for row in polynomials]
        np.testing.assert_allclose(values, counted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("step", [10, 40, 1000])
def test_it_is_stable_and_truncation_costs_what_the_bound_says(step, diabetes):
    exact = gradient_variance(diabetes, ss.SGD(halving), batch_size=SIZES, steps=step + 1, initial=np.ones(11),
                              sampling="without_replacement").gradient[-1]  # fmt: skip
    for order in (40, None):
        polynomial = gradient_variance_polynomial(diabetes, ss.SGD(halving), step=step, initial=np.ones(11),
                                                  order=order, sampling="without_replacement")  # fmt: skip
        np.testing.assert_allclose(polynomial(SIZES), exact, rtol=1e-12)
    rough = gradient_variance_polynomial(diabetes, ss.SGD(halving), step=step, initial=np.ones(11), order=6,
                                         sampling="without_replacement")  # fmt: skip
    error, bound = exact - rough(SIZES), rough.truncation_bound(SIZES)
    assert (error <= bound + 1e-13 * exact).all() and (error[:3] > 1e-6 * exact[:3]).all()
    # sharp where the recursion was run, and at b = 440 nothing is lost
    assert error[0] == pytest.approx(bound[0], rel=1e-9) and bound[-1] < 1e-15 * exact[-1]
    np.testing.assert_allclose(rough.coefficients, polynomial.coefficients[:7], rtol=1e-13)
    assert rough.truncation_bound(442) == 0 and (polynomial.truncation_bound(SIZES) == 0).all()


def test_degree_six_is_an_approximation_that_costs_under_one_per_cent(diabetes):
    """The paper fits degree 6 at t = 10, where the degree is 11."""
    full, six = (
        gradient_variance_polynomial(diabetes, ss.SGD(halving), step=10, initial=np.ones(11), order=order,
                                     sampling="without_replacement")
        for order in (None, 6)
    )  # fmt: skip
    assert full.degree == 11
    assert 0.005 < 1 - six(2) / full(2) < 0.009


def test_every_coefficient_is_non_negative_and_so_nothing_rises_with_b(diabetes):
    for step in (1, 7, 60):
        for name in ("gradient", "full_gradient", "loss"):
            how = {"step": step, "initial": np.ones(11), "quantity": name}
            polynomial = gradient_variance_polynomial(diabetes, ss.SGD(halving), **how)
            assert (polynomial.coefficients >= 0).all() and polynomial.is_decreasing()
            values = polynomial(np.arange(1, 443))
            assert (np.diff(values) <= 0).all()


def test_a_negative_coefficient_is_not_accepted():
    from sgdsim.solver.variance.expansion import cleaned

    assert (cleaned(np.array([1.0, -1e-15]), first=0) == [1.0, 0.0]).all()
    with pytest.raises(ArithmeticError, match="negative"):
        cleaned(np.array([1.0, -1e-6]), first=0)


@pytest.mark.parametrize("t", range(13))
def test_the_degree_is_t_plus_one(t, toy):
    how = {"step": t, "initial": [1.0, -1.0]}
    assert gradient_variance_polynomial(toy, ss.SGD(0.25), **how).degree == t + 1
    assert gradient_variance_polynomial(toy, ss.SGD(0.25), quantity="full_gradient", **how).degree == t


def test_the_degree_can_be_lower():
    """x = +-1: one example's curvature is the average one, so noise never multiplies noise."""
    signs = ss.DatasetRegression([[1.0], [-1.0], [1.0]], [1.0, 2.0, 0.5])
    assert [gradient_variance_polynomial(signs, ss.SGD(0.3), step=t, initial=[2.0]).degree for t in range(6)] == [1] * 6


def test_online_and_quadratic():
    problem = ss.LinearRegression([[1.0, 0.3], [0.3, 0.5]], [1.0, -1.0], 0.5, [0.1, 0.2], [[0.1, 0.05], [0.05, 0.2]])
    for case, degree in ((problem, 5), (ss.Quadratic([1.0, 0.5], [[1.0, 0.2], [0.2, 2.0]]), 1)):
        sizes = [1, 2, 9, 1000]
        exact = gradient_variance(case, ss.SGD(halving), batch_size=sizes, steps=5, initial=[1.0, 2.0])
        polynomial = gradient_variance_polynomial(case, ss.SGD(halving), step=4, initial=[1.0, 2.0])
        np.testing.assert_allclose(polynomial(sizes), exact.gradient[-1], rtol=1e-13)
        assert polynomial.degree == degree and polynomial.coefficients[0] == 0
    reference = gradient_variance_polynomial(
        ss.LinearRegression([2.0, 1.0, 0.5], label_noise=0.5), ss.SGD(0.1), step=2, initial=[1.0, -1.0, 2.0]
    )
    np.testing.assert_allclose(reference.coefficients, [0, 15.7700914063, 2.8476859375, 0.168715625], rtol=1e-11)


def test_label_noise_without_replacement_has_a_constant(rng):
    """Fresh noise is not thinned by drawing without replacement: even b = n leaves sigma^2 tr(C) / n."""
    x, y = rng.normal(size=(5, 2)), rng.normal(size=5)
    problem = ss.DatasetRegression(x, y, label_noise=0.6)
    start = gradient_variance_polynomial(problem, ss.SGD(0.1), step=0, sampling="without_replacement")
    assert start(5) == pytest.approx(0.36 * np.trace(x.T @ x / 5) / 5, rel=1e-13)
    later = gradient_variance_polynomial(problem, ss.SGD(0.1), step=3, sampling="without_replacement")
    exact = gradient_variance(problem, ss.SGD(0.1), batch_size=[1, 2, 5], steps=4, sampling="without_replacement")
    np.testing.assert_allclose(later([1, 2, 5]), exact.gradient[-1], rtol=1e-13)
    assert later.is_decreasing() and later.coefficients[0] > 0


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_the_derivative_is_that_of_the_value(sampling, toy):
    polynomial = gradient_variance_polynomial(toy, ss.SGD(0.25), step=3, initial=[1.0, -1.0], sampling=sampling)
    b, h = np.array([1.5, 2.0, 4.5]), 1e-6
    np.testing.assert_allclose(polynomial.derivative(b), (polynomial(b + h) - polynomial(b - h)) / (2 * h), rtol=1e-7)
    assert isinstance(polynomial(2), float) and polynomial([[2, 3]]).shape == (1, 2)


def test_a_rise_is_found_wherever_it_is():
    def decreasing(*coefficients):
        return VariancePolynomial(np.array([0.0, *coefficients]), NoiseFactor()).is_decreasing()

    assert decreasing(1.0, 2.0) and decreasing(1.0, -0.4)
    assert not decreasing(1.0, -0.6)  # the derivative 1 - 1.2 x changes sign at b = 1.2
    assert not decreasing(-1e-9, 1.0)  # only beyond b = 1e9
    assert decreasing(0.0, 1.0)
    # 1 - 3.96 x + 4 x^2 has no root, 1 - 4.04 x + 4 x^2 two, close together in the middle
    assert decreasing(1.0, -1.98, 4 / 3) and not decreasing(1.0, -2.02, 4 / 3)
    with pytest.raises(ss.NotConverged, match="touches zero"):
        non_negative([Fraction(1), Fraction(-6), Fraction(9)])  # (1 - 3x)^2: the root is never a midpoint


def test_only_batch_sizes_that_exist(toy):
    without = gradient_variance_polynomial(toy, ss.SGD(0.25), step=1, sampling="without_replacement")
    for b in (0, 0.5, 7, [2, 7], np.nan, []):
        with pytest.raises(ValueError, match="b is"):
            without(b)
    with pytest.raises(ValueError, match="b is"):
        without.derivative(0)


def test_too_steep_is_refused(toy):
    with pytest.raises(ValueError, match=r"learning_rate.*lower it"):
        gradient_variance_polynomial(toy, ss.SGD(50.0), step=200)


def test_a_matrix_that_streams_gives_the_same_coefficients(rng):
    wide = ss.DatasetRegression(rng.normal(size=(8, 7)), rng.normal(size=8), 0.2)  # p^2 > 4 n
    exact = gradient_variance(wide, ss.SGD(0.1), batch_size=[1, 4], steps=6, sampling="without_replacement")
    polynomial = gradient_variance_polynomial(wide, ss.SGD(0.1), step=5, sampling="without_replacement")
    np.testing.assert_allclose(polynomial([1, 4]), exact.gradient[-1], rtol=1e-12)
    assert polynomial.degree == 6


def test_epochs_are_refused_by_name(toy):
    with pytest.raises(NotImplementedError, match="epoch_gradient_variance"):
        gradient_variance_polynomial(toy, ss.SGD(0.1), step=1, sampling="epochs")


@pytest.mark.parametrize("decay", [0.0, -1.0, -6.0])
@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_the_loss_where_decay_is_negative(decay, sampling, oracles):
    """Its constant may be negative, and past the curvature of the data it may rise with b: both as enumerated."""
    x, y, start, rate = np.array([1.0, 2.0, 1.0]), np.array([0.5, 0.0, -1.0]), 1.0, 0.1
    problem = ss.DatasetRegression(x[:, None], y, weight_decay=decay)
    polynomial = ss.solver.gradient_variance_polynomial(
        problem, ss.SGD(rate), step=2, initial=[start], sampling=sampling, quantity="loss")
    for b in (1, 2, 3):
        batches, losses = [list(rows) for rows in oracles.batches(3, b, sampling)], []
        for first in batches:
            w = start - rate * (np.mean(x[first] * (x[first] * start - y[first])) + decay * start)
            for second in batches:
                v = w - rate * (np.mean(x[second] * (x[second] * w - y[second])) + decay * w)
                losses.append(0.5 * np.mean((x * v - y) ** 2) + 0.5 * decay * v**2)
        assert polynomial(b) == pytest.approx(np.mean(losses), rel=1e-12)
    assert polynomial.is_decreasing() == (decay > -2.0)
    if decay < -2.0:
        with pytest.raises(ValueError, match=r"order is 1, .*negative eigenvalue"):
            ss.solver.gradient_variance_polynomial(problem, ss.SGD(rate), step=2, initial=[start], quantity="loss",
                                                   order=1)
