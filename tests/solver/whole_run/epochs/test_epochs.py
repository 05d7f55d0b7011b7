import itertools

import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.solver.whole_run.epochs import permutations
from sgdsim.solver.whole_run.epochs.law import epoch_law
from sgdsim.solver.whole_run.linear_optimizer import cycle, read_linear

X = np.array([[0, 0.3], [-0.27, -0.89], [-0.45, -0.99], [0.06, 1.34], [-0.49, -0.62], [0.49, 0.36]])
Y = np.array([0.11, -0.93, -0.03, 0.7, -1.34, -0.46])
DATA = ss.DatasetRegression(X, Y)
UPPER = ([0, 0, 1], [0, 1, 1])
SHEET = {  # boundary: mean - w*, covariance; averaged over positions; closed form at the boundary
    (0.1, 0.0): ([2.789617254e-3, -2.404496885e-3], [8.069874253e-6, 8.886688431e-6, 3.256167716e-5],
                 [1.87534712e-4, 2.42977695e-4, 4.02849517e-4], [4.077091982e-6, 1.053171640e-5, 2.899510823e-5]),
    (0.3, 0.0): ([7.502060286e-3, -7.210469148e-3], [2.53313416e-4, 3.02139853e-4, 1.102353593e-3],
                 [1.795749323e-3, 2.197581647e-3, 3.923841866e-3], [1.31242660e-4, 3.45804424e-4, 9.62060952e-4]),
    (0.05, 0.8): ([1.811438577e-3, -1.513027638e-3], [1.27655163e-4, 1.61318159e-4, 3.32269527e-4],
                  [1.60987216e-4, 2.06228090e-4, 4.05042171e-4], [1.23235256e-4, 1.62788696e-4, 3.28536627e-4]),
}


@pytest.mark.parametrize("setting", SHEET)
def test_the_sheet(setting):
    rate, mu = setting
    mean, boundary, averaged, additive = SHEET[setting]
    law = ss.predict(DATA, ss.SGD(rate, mu), batch_size=2, sampling="epochs")
    at, covariance = law.at_position(0)
    np.testing.assert_allclose(at - DATA.minimum, mean, rtol=0, atol=6e-13)
    np.testing.assert_allclose(covariance[UPPER], boundary, rtol=1e-8)
    np.testing.assert_allclose(law.covariance[UPPER], averaged, rtol=1e-8)
    assert law.theory_error == 0
    closed = ss.predict(DATA, ss.SGD(rate, mu), batch_size=2, sampling="epochs", approximation="additive")
    np.testing.assert_allclose(closed.at_position(0)[1][UPPER], additive, rtol=1e-8)


@pytest.mark.slow
def test_sampled_shuffles_agree_with_all_of_them(monkeypatch):
    data = ss.DatasetRegression(X, Y, weight_decay=0.05, label_noise=0.1)
    step = cycle(read_linear(optax.sgd(0.05, momentum=0.8), 2))[0][0]
    exact = epoch_law(data, step, 4)  # the last batch is smaller
    assert exact.error == 0
    monkeypatch.setattr(permutations, "_ALL", 1)
    sampled = epoch_law(data, step, 4)
    scale = np.sqrt(np.diag(exact.covariance.mean(axis=0)))
    off = np.abs(sampled.covariance.mean(axis=0) - exact.covariance.mean(axis=0)) / np.outer(scale, scale)
    assert 0 < sampled.error < 0.01
    assert off.max() < 5 * sampled.error


def test_additive_noise_is_the_limit_of_small_rates():
    """The closed form knows nothing of how noise varies: what it is off by shrinks with the rate."""
    off = []
    for rate in (0.02, 0.01):
        exact, closed = (ss.predict(DATA, ss.SGD(rate, 0.8), batch_size=2, sampling="epochs", approximation=name)
                         for name in ("exact", "additive"))
        off.append(np.abs(closed.covariance / exact.covariance - 1).max())
    assert off[1] < 0.6 * off[0] < 0.1


def test_a_run_of_one_pass_is_the_average_over_all_shuffles():
    """From the update rule alone, shuffle by shuffle, with a schedule and a smaller last batch."""
    rates, start, b = (0.3, 0.2, 0.1), np.array([1.0, -0.5]), 4
    after = []
    for order in itertools.permutations(range(6)):
        w, m, at = start, np.zeros(2), []
        for rate, batch in zip(rates, (order[:b], order[b:]), strict=False):
            x, y = X[list(batch)], Y[list(batch)]
            m = 0.5 * m + x.T @ (x @ w - y) / len(batch)
            w = w - rate * m
            at.append(w)
        after.append(at)
    after = np.array(after)
    run = ss.predict_run(DATA, ss.SGD(lambda t: 0.3 - 0.1 * t, 0.5), batch_size=b, steps=2, initial=start,
                         sampling="epochs", record=[0, 1, 2])
    np.testing.assert_allclose(run.mean[1:], after.mean(axis=0), rtol=1e-6)
    for t in (0, 1):
        np.testing.assert_allclose(run.covariance[t + 1], np.cov(after[:, t].T, bias=True), rtol=1e-5)


def test_a_long_run_settles_at_the_boundary():
    run = ss.predict_run(DATA, ss.SGD(0.3), batch_size=2, steps=1500, sampling="epochs", record=[1500])
    mean, covariance = ss.predict(DATA, ss.SGD(0.3), batch_size=2, sampling="epochs").at_position(0)
    np.testing.assert_allclose(run.mean[0], mean, rtol=1e-9)
    np.testing.assert_allclose(run.covariance[0], covariance, rtol=1e-9)


BAD = {
    "population": (ss.LinearRegression([1.0]), ss.SGD(0.1), {}, ValueError, "sampling is 'epochs'"),
    "adam": (DATA, ss.Adam(0.1), {}, NotImplementedError, "epochs"),
    "batch": (DATA, ss.SGD(0.1), {"batch_size": 7}, ValueError, "batch_size is 7"),
    "approximation": (DATA, ss.SGD(0.1), {"approximation": "hessian"}, ValueError, "approximation is 'hessian'"),
    "limit": (DATA, ss.SGD(9.0), {}, ValueError, "learning_rate is"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    problem, optimizer, change, kind, match = BAD[name]
    with pytest.raises(kind, match=match):
        ss.predict(problem, optimizer, **({"batch_size": 2, "sampling": "epochs"} | change))


def test_positions():
    law = ss.predict(DATA, ss.SGD(0.1), batch_size=2, sampling="epochs")
    with pytest.raises(ValueError, match="position is 3"):
        law.at_position(3)
    with pytest.raises(ValueError, match="sampling is 'with_replacement'"):
        ss.predict(DATA, ss.SGD(0.1), batch_size=2).at_position(0)


def in_units(units, momentum, examples, ask):
    """What is asked of columns measured in other units, back in units of 1."""
    rng, units = np.random.default_rng(3), np.array(units)
    problem = ss.DatasetRegression(rng.normal(size=(examples, 2)) * units, rng.normal(size=examples))
    found = ask(problem, ss.SGD(0.05, momentum, preconditioner=1 / units**2))
    return found.covariance * np.outer(units, units), found.theory_error


@pytest.mark.parametrize("units", [(1e8, 1e8), (1e-9, 1e-9), (1e6, 1.0), (1.0, 1e-9)])
@pytest.mark.parametrize(("momentum", "examples", "approximation"), [
    (0.0, 6, "exact"), (0.8, 6, "exact"), (0.0, 20, "exact"), (0.8, 6, "additive")])  # fmt: skip
def test_columns_in_any_units(units, momentum, examples, approximation):
    """Six examples are enumerated, of twenty shuffles are sampled. In units of 1e8 they were ten times too much."""
    def ask(problem, optimizer):
        return ss.predict(problem, optimizer, batch_size=3, sampling="epochs", approximation=approximation)

    known, found = (in_units(u, momentum, examples, ask) for u in ((1.0, 1.0), units))
    np.testing.assert_allclose(found[0], known[0], rtol=1e-9)
    assert found[1] == pytest.approx(known[1], rel=1e-6) and (examples == 6) == (found[1] == 0)


def test_the_error_of_a_run_in_any_units():
    def ask(problem, optimizer):
        return ss.predict_run(problem, optimizer, batch_size=3, steps=20, sampling="epochs")

    known, found = (in_units(u, 0.0, 20, ask) for u in ((1.0, 1.0), (1e8, 1.0)))
    np.testing.assert_allclose(found[0], known[0], rtol=1e-9)
    assert 0 < found[1] == pytest.approx(known[1], rel=1e-6)


@pytest.mark.parametrize("examples", [6, 20])
def test_examples_that_are_all_fitted_leave_nothing(examples):
    x = np.random.default_rng(4).normal(size=(examples, 2))
    law = ss.predict(ss.DatasetRegression(x, x @ [1.0, 2.0]), ss.SGD(0.05), batch_size=3, sampling="epochs")
    assert np.abs(law.covariance).max() < 1e-28 and law.theory_error < 1e-3
