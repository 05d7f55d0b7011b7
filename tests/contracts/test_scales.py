"""Units are the user's choice: in others the answers are the same, transformed."""

import numpy as np
import pytest

import sgdsim as ss

X = np.random.default_rng(0).normal(size=(12, 2))
Y = X @ [1.0, 2.0] + np.random.default_rng(1).normal(size=12)
POWERS = [-12, -6, -1, 1, 6, 12]


def answers(units, targets, offset=0.0):
    """What is asked of least squares, back in units of 1; `units` are those of the columns."""
    problem = ss.DatasetRegression(X * units, targets * (Y + offset))
    optimizer = ss.SGD(0.05, preconditioner=1 / units**2)
    limits = ss.solver.stability(problem, optimizer, batch_size=4)
    law = ss.predict(problem, optimizer, batch_size=4)
    return {
        "covariance": law.covariance * np.outer(units, units) / targets**2,
        "limit": limits.max_learning_rate,
        "descent": limits.deterministic,
        "noise scale": ss.estimators.simple_noise_scale(
            ss.DatasetRegression(X * units[0], targets * Y), [0.0, 0.0]).value,
    }


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("which", ["targets", "columns", "first column"])
def test_least_squares(which, power):
    scale = 10.0**power
    units = np.array([1.0 if which == "targets" else scale, scale if which == "columns" else 1.0])
    known, found = answers(np.ones(2), 1.0), answers(units, scale if which == "targets" else 1.0)
    for name, value in known.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("power", POWERS)
def test_variance_of_gradients(power):
    """Plain SGD in units of the inputs: the rate changes by their square, gradients by the unit."""
    scale = 10.0**power

    def of(x, rate):
        found = ss.solver.gradient_variance(ss.DatasetRegression(x, Y), ss.SGD(rate), batch_size=[2, 4], steps=4)
        return found.gradient

    np.testing.assert_allclose(of(scale * X, 0.05 / scale**2) / scale**2, of(X, 0.05), rtol=1e-9)


@pytest.mark.parametrize("power", POWERS)
def test_tails(power):
    scale = 10.0**power
    draws = 1 + np.random.default_rng(0).pareto(2.0, 2000)
    known, found = ss.estimators.tail_index(draws), ss.estimators.tail_index(scale * draws)
    assert found.value == pytest.approx(known.value, rel=1e-9)

    def index(unit):
        problem = ss.LinearRegression([unit**2, unit**2], label_noise=1.0)
        return ss.predict(problem, ss.SGD(0.6 / unit**2), batch_size=4).tail_index.value

    assert index(scale) == pytest.approx(index(1.0), rel=1e-9)


@pytest.mark.parametrize("sigma", [1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3])
def test_natural_gradient_keeps_its_digits_or_says_so(sigma):
    """For sigma^2 << rate the law tends to a limit."""
    problem = ss.LinearRegression([1.0, 0.5], label_noise=sigma)
    try:
        found = ss.predict(problem, ss.NaturalGradient(0.1), batch_size=4).covariance
    except ValueError as refused:
        assert sigma <= 1e-6 and "fisher" in str(refused)
    else:
        np.testing.assert_allclose(np.diag(found), [0.0875 / 3, 0.175 / 3], rtol=2e-5)
