"""Exponents, claims in words, polynomials: right ones hold, wrong ones fail, at the promised rates."""

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.comparisons.claims import monotone, one_sided, straight
from sgdsim.comparisons.line import Line
from sgdsim.estimators.jackknife import Jackknife

PROBLEM = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
TRACE = "trace(covariance)"
RUN = {"chains": 2000, "steps": 400, "burn_in": 150}


@pytest.fixture(scope="module")
def rates():
    return ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=16, learning_rate=[0.1, 0.2, 0.4, 0.8], **RUN)


@pytest.fixture(scope="module")
def sizes():
    return ss.sweep(PROBLEM, ss.SGD(0.2), batch_size=[4, 6, 8, 16, 32], **RUN)


def power_law(exponent, bend=0.0, places=5, groups=64, seed=0, noise=0.01):
    """ln y at several places, errors common to all beside some of their own."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, places)
    errors = noise * (rng.normal(size=(groups, 1)) + 0.5 * rng.normal(size=(groups, places))) / np.sqrt(groups)
    y = exponent * x + bend * x**2 + errors.sum(axis=0)
    errors = errors - errors.mean(axis=0)
    return Line("x", x, Jackknife(y, np.zeros(places), errors), "")


def test_exponents_of_theory_are_found(rates):
    """Between neighbours, where theory has no single one."""
    exact = np.array([np.trace(ss.predict(PROBLEM, ss.SGD(r), batch_size=16).covariance)
                      for r in rates.axes["learning_rate"]])
    truth = np.diff(np.log(exact)) / np.log(2)
    found = ss.scaling(rates, TRACE, claimed=1.0)
    low, high = found.local.interval
    assert ((low < truth) & (truth < high)).all() and (found.local.stderr < 0.02).all()
    assert not found.single and found.comparison.rows[0].verdict == "out of regime"
    assert "no single power law, local exponents from 1." in repr(found) and "claimed exponent 1" in found.table()
    assert ss.scaling(rates, lambda covariance: np.trace(covariance)).exponent.value == found.exponent.value  # noqa: PLW0108


def test_a_claimed_exponent(sizes):
    """The noise of the gradient of a quadratic is 1/b exactly."""
    quadratic = ss.Quadratic([1.0, 0.5], example_noise_covariance=[1.0, 1.0])
    grid = ss.sweep(quadratic, ss.SGD(0.1), batch_size=[1, 2, 4, 8], **RUN)
    how = {"over": "batch_size", "derived": {"noise": lambda noise_covariance: np.trace(noise_covariance)}}  # noqa: PLW0108
    right = ss.scaling(grid, "noise", claimed=-1.0, **how)
    assert right.single and right.comparison.agrees and abs(right.exponent.value + 1) < 4 * right.exponent.stderr
    assert ss.scaling(grid, "noise", claimed=-1.05, **how).comparison.rows[0].verdict == "disagree"
    assert ss.scaling(sizes, TRACE, claimed=-1.0).comparison.rows[0].verdict == "out of regime"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda grid: ss.scaling(grid, TRACE, over="momentum"), "'batch_size', 'learning_rate'"),
        (lambda grid: ss.scaling(grid, "variance"), "one number"),
        (lambda grid: ss.scaling(grid, lambda covariance: -covariance[0, 0]), "positive, to have an exponent"),
        (lambda grid: ss.scaling(grid, "nothing"), "'nothing', but it must be one of what was measured"),
        (lambda grid: ss.scaling(grid, TRACE, over="batch_size"), "several values of batch_size only"),
        (lambda grid: ss.claim(grid, "test_loss is nice"), "a claim that can be tested"),
        (lambda grid: ss.claim(grid, "test_loss < 1e"), "a number"),
        (lambda grid: ss.claim(grid, "test_loss decreases in batch_size"), "several values of batch_size"),
        (lambda grid: ss.claim(grid, "variance is linear in learning_rate"), "one number"),
        (lambda grid: ss.claim(3, "x > 1"), "a Result, a SweepResult or a PolynomialFit"),
        (lambda grid: ss.fit_polynomial(grid, TRACE), "over batch sizes alone"),
    ],
)  # fmt: skip
def test_refusals(rates, call, said):
    with pytest.raises(ValueError, match=said):
        call(rates)


def verdicts(report):
    return [row.verdict for row in report.rows]


def test_claims_in_words(rates, sizes):
    assert ss.claim(rates, f"{TRACE} increases in learning_rate").agrees
    assert ss.claim(rates, f"{TRACE} decreases in learning_rate").disagrees
    assert ss.claim(sizes, "variance decreases in batch_size").agrees
    assert ss.claim(rates, f"{TRACE} is linear in learning_rate").disagrees
    assert ss.claim(rates, "train_loss > 0.125").agrees and len(ss.claim(rates, "train_loss > 0.125").rows) == 4
    result = rates.sel(learning_rate=0.8)
    assert ss.claim(result, "train_loss < 0.125").disagrees
    assert verdicts(ss.claim(result, "covariance[0,1] > 0")) == ["underpowered"]
    assert ss.claim(result, "size < 0.1", derived={"size": lambda test_loss, train_loss: test_loss / train_loss}).agrees


def test_a_line_is_a_line():
    quadratic = ss.Quadratic([1.0], example_noise_covariance=[1.0])
    grid = ss.sweep(quadratic, ss.SGD(0.1), batch_size=4, learning_rate=[0.2, 0.4, 0.6, 0.8], **RUN)
    derived = {"linear": lambda variance: 1 / variance[0]}  # = 4 (2 / rate - 1)
    assert ss.claim(grid, "linear is linear in learning_rate", derived=derived).disagrees
    exact = {"ratio": lambda variance: variance[0] / (1 + variance[0] * 4)}  # = rate / 8
    assert ss.claim(grid, "ratio is proportional to learning_rate", derived=exact).agrees
    assert ss.claim(grid, "ratio is linear in learning_rate", derived=exact).agrees


@pytest.mark.parametrize("kind", ["single", "linear", "falls"])
def test_false_alarms_are_as_rare_as_promised(kind):
    """A right claim meets "disagree" in a tenth of the cases at most, one that is only just true is not shown."""
    wrong = {"agree": 0, "disagree": 0}
    for seed in range(600):
        line = power_law(0.0 if kind == "falls" else 1.0, seed=seed)
        row = monotone("x", line, -1.0, 0.1) if kind == "falls" else straight("x", line, (0, 1), 0.1)
        for verdict in wrong:
            wrong[verdict] += row.verdict == verdict
    assert wrong["disagree"] / 600 < 0.1 + 4 * np.sqrt(0.09 / 600)
    if kind == "falls":  # of 4 steps none goes anywhere: all must seem to fall
        assert wrong["agree"] / 600 < 0.1


def test_a_bend_of_the_size_of_the_errors_is_seen():
    assert straight("x", power_law(1.0, bend=0.03), (0, 1), 0.01).verdict == "disagree"
    assert monotone("x", power_law(-0.1), -1.0, 0.01).verdict == "agree"
    assert monotone("x", power_law(-0.1, bend=0.2), -1.0, 0.01).verdict == "disagree"


def test_one_sided_families():
    """All must be on the right side to agree; one on the wrong side is enough to disagree."""
    def said(values):
        return one_sided("x", np.array(values), 1.0, 0.0, above=True, error_rate=0.01).verdict

    assert said([3.0, 9.0]) == "agree" and said([2.0, 9.0]) == "underpowered" and said([-3.0, 9.0]) == "disagree"
    assert said([-2.5]) == "disagree" and said([-2.5] + 50 * [9.0]) == "underpowered"
    row = one_sided("x", 1.0, 0.1, 2.0, above=False, error_rate=0.01)
    assert (row.verdict, row.z, row.relative_error) == ("agree", pytest.approx(-10), -0.5)


def test_polynomials_of_any_quantity(sizes):
    """The noise at a rate so small that the covariance is a small part of it: a/b + c/b^2."""
    fit = ss.fit_polynomial(sizes, "trace(noise_covariance)", degree=3)
    exact = [np.trace(ss.predict(PROBLEM, ss.SGD(0.2), batch_size=b).noise_covariance) for b in (5, 12, 24)]
    low, high = fit.band([5, 12, 24], level=0.999)
    assert ((low < exact) & (exact < high)).all() and fit.basis == "1/b"
    assert ss.claim(fit, "coefficient of 1/b^2 is zero").disagrees
    assert verdicts(ss.claim(fit, "coefficient of 1/b^3 is zero")) != ["disagree"]
    with pytest.raises(ValueError, match="about a coefficient of 1/b"):
        ss.claim(fit, "coefficient of 1/b^9 is zero")


def test_a_polynomial_of_one_term():
    quadratic = ss.Quadratic([1.0], example_noise_covariance=[1.0])
    grid = ss.sweep(quadratic, ss.SGD(0.1), batch_size=[1, 2, 4, 8], chains=20_000, steps=250, burn_in=100)
    fit = ss.fit_polynomial(grid, "noise_covariance[0,0]", degree=2)
    assert abs(fit.solution.coefficients[0] - 1) < 4 * fit.stderr[0]
    assert ss.claim(fit, "coefficient of 1/b^2 is zero").agrees
    assert ss.claim(fit, "coefficient of 1/b is zero").disagrees


def test_a_quantity_with_a_floor_needs_a_constant(sizes):
    """The training loss is half the label noise and what the chains add: without beta_0 no polynomial is near it."""
    with pytest.warns(UserWarning, match="does not vanish as b grows"):
        without = ss.fit_polynomial(sizes, "train_loss")
    assert without.misses and verdicts(ss.claim(without, "coefficient of 1/b is zero")) == ["out of regime"]
    fit = ss.fit_polynomial(sizes, "train_loss", constant=True)
    exact = [ss.predict(PROBLEM, ss.SGD(0.2), batch_size=b).train_loss for b in (5, 12, 24)]
    low, high = fit.band([5, 12, 24], level=0.999)
    assert not fit.misses and ((low < exact) & (exact < high)).all() and (high - low < 0.01 * np.array(exact)).all()
    floor, stderr = fit.coefficient(0)
    assert abs(floor - PROBLEM.label_noise**2 / 2) < 4 * stderr < 0.01 * floor
    assert ss.claim(fit, "coefficient of 1/b is zero").disagrees


def test_claims_over_the_reciprocal():
    """Additive noise: the covariance is 1/b times a number, and not linear in b."""
    quadratic = ss.Quadratic([1.0], example_noise_covariance=[1.0])
    grid = ss.sweep(quadratic, ss.SGD(0.1), batch_size=[1, 2, 4, 8], chains=20_000, steps=250, burn_in=100)
    assert ss.claim(grid, "covariance[0,0] is proportional to 1/batch_size").agrees
    assert ss.claim(grid, "covariance[0,0] increases in 1/batch_size").agrees
    assert ss.claim(grid, "covariance[0,0] is linear in batch_size").disagrees
    assert ss.claim(grid, "covariance[0,0] is proportional to batch_size").disagrees
