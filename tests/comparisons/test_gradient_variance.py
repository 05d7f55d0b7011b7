"""Verdicts on simulated variances: right ones agree, wrong ones do not, rare events are announced."""

import dataclasses

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.comparisons.comparison import AGREE, DISAGREE, OUT, UNDERPOWERED

SETTING = {"batch_size": [16, 32], "steps": 3, "initial": [1.0, -1.0]}
PROBLEM = ss.LinearRegression([2.0, 1.0], label_noise=0.5)
POLYNOMIAL = ss.solver.gradient_variance_polynomial(PROBLEM, ss.SGD(0.1), step=2, initial=SETTING["initial"])
SCALAR, SCALAR_START = ss.TwoLayerLinear([[1.0]], [[2.0]]), ([[1.0]], [[0.5]])


@pytest.fixture(scope="module")
def simulated():
    return ss.gradient_variance(PROBLEM, ss.SGD(0.1), chains=8000, **SETTING)


@pytest.fixture(scope="module")
def exact():
    return ss.solver.gradient_variance(PROBLEM, ss.SGD(0.1), **SETTING)


@pytest.fixture(scope="module")
def scalar():
    return ss.gradient_variance(SCALAR, ss.SGD(0.1), batch_size=[2, 4, 10, 100], steps=4, chains=4000,
                                initial=SCALAR.flatten(*SCALAR_START))


def polynomials(step, quantity="gradient"):
    how = {"step": step, "initial": SCALAR_START, "quantity": quantity}
    return ss.solver.gradient_variance_polynomial(SCALAR, ss.SGD(0.1), **how)


def verdicts(*args, **options):
    return [row.verdict for row in ss.compare(*args, **options).rows]


def test_exact_tables_agree(simulated, exact):
    report = ss.compare(simulated, exact)
    assert report.agrees and [row.entries for row in report.rows] == [6, 6, 6]
    assert report.entries["gradient"].shape == (3, 2)
    assert report.table() == ss.compare_gradient_variance(simulated, exact).table()


@pytest.mark.parametrize("name", ["gradient", "full_gradient", "loss"])
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_wrong_table_disagrees_in_that_quantity_only(simulated, exact, name, factor):
    wrong = dataclasses.replace(exact, **{name: getattr(exact, name) * [[1.0], [1.0], [factor]]})
    rows = {row.quantity.split("[")[0]: row for row in ss.compare(simulated, wrong).rows}
    assert {key: row.verdict for key, row in rows.items()} == {
        key: DISAGREE if key == name else AGREE for key in ("gradient", "full_gradient", "loss")
    }
    assert "[t=2,b=" in rows[name].quantity


def test_the_exact_first_row_is_judged_by_rounding(simulated, exact):
    wrong = dataclasses.replace(exact, gradient=exact.gradient * [[1.001], [1.0], [1.0]])
    assert verdicts(simulated, wrong)[0] == DISAGREE


def test_more_batch_sizes_and_steps_in_another_order_are_no_harm(simulated):
    more = ss.solver.gradient_variance(PROBLEM, ss.SGD(0.1), **{**SETTING, "batch_size": [32, 1, 16], "steps": 5})
    assert ss.compare(simulated, more).agrees


def test_polynomials_of_one_step(simulated):
    assert verdicts(simulated, POLYNOMIAL, step=2) == [AGREE]
    assert verdicts(simulated, POLYNOMIAL, step=1) == [DISAGREE]
    how = {"step": 2, "initial": SETTING["initial"], "quantity": "loss"}
    loss = ss.solver.gradient_variance_polynomial(PROBLEM, ss.SGD(0.1), **how)
    assert verdicts(simulated, loss, step=2, quantity="loss") == [AGREE]


def test_a_false_alarm_is_as_rare_as_promised(simulated, exact):
    """Normal errors around the truth; 400 trials at 10%: at most 60 by a chance below 0.1%."""
    rng, error, runs = np.random.default_rng(0), 0.02, 4000
    alarms = 0
    for _ in range(400):
        noisy = {name: getattr(exact, name) * (1 + error * rng.standard_normal((3, 2)))
                 for name in ("gradient", "full_gradient", "loss")}
        errors = {f"{name}_stderr": error * np.abs(getattr(exact, name)) for name in noisy}
        fake = dataclasses.replace(simulated, **noisy, **errors, chains=runs, runs_left=np.full((3, 2), runs),
                                   effective_runs=dict.fromkeys(simulated.effective_runs, np.full((3, 2), 1000.0)))
        alarms += ss.compare(fake, exact, error_rate=0.1).disagrees
    assert 15 < alarms < 60


def test_rare_events_are_announced(scalar):
    """Exact 6.9e16 against less than 1: out of regime, and said aloud."""
    with pytest.warns(UserWarning, match=r"rare events.*t = 3, b = 2: exact 6.85e\+16, simulated 0\.6") as caught:
        report = ss.compare(scalar, polynomials(3), step=3)
    assert len(caught) == 1
    judged, rare = [[row for row in report.rows if row.verdict == verdict] for verdict in (AGREE, OUT)]
    assert [row.quantity.split("[")[0] for row in judged] == ["gradient W1", "gradient W2"]
    assert [row.entries for row in judged] == [2, 2]  # b = 10 and 100
    assert rare[0].quantity == "gradient W1[t=3,b=2]" and rare[0].predicted > 1e16 and "2 of 4 entries" in rare[0].note
    assert not report.disagrees and not report.agrees and "typical run" in report.regime


def test_where_no_event_is_rare_nothing_is_said(scalar):
    for quantity, tables in (("gradient", 2), ("loss", 1)):
        rows = ss.compare(scalar, polynomials(1, quantity), step=1, quantity=quantity).rows
        judged = [row for row in rows if row.verdict == AGREE]
        assert len(judged) == tables and all(row.entries >= 3 for row in judged)
        # b = 2 has heavy tails already: a few runs carry the error
        assert all(row.verdict == UNDERPOWERED and "b=2]" in row.quantity for row in rows if row not in judged)
    # heavier still: the full gradient is a product of two moved weights
    report = ss.compare(scalar, polynomials(1, "full_gradient"), step=1, quantity="full_gradient")
    assert not report.disagrees


def test_too_few_runs_are_underpowered(exact):
    few = ss.gradient_variance(PROBLEM, ss.SGD(0.1), chains=40, **SETTING)
    assert UNDERPOWERED in verdicts(few, exact) and not ss.compare(few, exact).disagrees


def test_heavy_tails_are_not_called_disagreement(simulated, exact):
    """One run in effect: an error that looks small cannot be believed."""
    heavy = dataclasses.replace(simulated, gradient=1.5 * simulated.gradient,
                                effective_runs={name: runs * [[1.0], [0.001], [0.001]]
                                                for name, runs in simulated.effective_runs.items()})
    report = ss.compare(heavy, exact)
    assert {row.verdict for row in report.rows if row.quantity[:10] == "gradient[t" and "t=0" not in row.quantity} == {
        UNDERPOWERED
    }
    assert any("heavy tails" in row.note for row in report.rows)


def test_diverged_runs_and_other_optimizers_are_out_of_regime(simulated, exact):
    left = simulated.runs_left.copy()
    left[2, 0] -= 1
    report = ss.compare(dataclasses.replace(simulated, runs_left=left), exact)
    assert [row.verdict for row in report.rows] == [AGREE, OUT] * 3 and report.rows[1].entries == 1
    momentum = ss.gradient_variance(PROBLEM, ss.SGD(0.1, momentum=0.5), chains=8, **SETTING)
    report = ss.compare(momentum, exact)
    assert {row.verdict for row in report.rows} == {OUT} and "plain SGD" in report.regime
    assert len(report.rows) == 3 and report.table().count("plain SGD") == report.regime.count("plain SGD") == 1


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        (lambda e: dataclasses.replace(e, batch_sizes=(16, 64)), {}, r"batch sizes \[16, 32\]"),
        (lambda e: dataclasses.replace(e, gradient=e.gradient[:2]), {}, "3 steps"),
        (lambda e: e, {"step": 1}, "None for a table"),
        (lambda e: e, {"error_rate": 1.5}, "error_rate"),
        (lambda e: POLYNOMIAL, {}, "step"),
        (lambda e: POLYNOMIAL, {"step": 3}, "step"),
        (lambda e: POLYNOMIAL, {"step": 1, "quantity": "los"}, "quantity"),
        (lambda e: polynomials(1), {"step": 1}, "of 2 layers"),
        (lambda e: ss.solver.gradient_variance_polynomial(
            ss.DatasetRegression(np.eye(2), [1.0, 0.0]), ss.SGD(0.1), step=1, sampling="without_replacement"),
         {"step": 1}, "c_b"),
        (lambda e: "exact", {}, "prediction"),
    ],
)  # fmt: skip
def test_predictions_that_do_not_belong(simulated, exact, change, options, why):
    with pytest.raises(ValueError, match=why):
        ss.compare(simulated, change(exact), **options)


def test_a_formula_of_ones_own():
    """At step 0 every run is at the same weights; the rest by exact theory."""
    problem, setting = ss.LinearRegression([2.0, 1.0], label_noise=0.5), {"batch_size": [8, 32], "steps": 3}
    measured = ss.gradient_variance(problem, ss.SGD(0.1), chains=8000, initial=[1.0, -1.0], **setting)
    exact = ss.solver.gradient_variance(problem, ss.SGD(0.1), initial=[1.0, -1.0], **setting)
    assert ss.compare(measured, {"gradient": exact.gradient, "loss": exact.loss}).agrees
    assert ss.compare(measured, {"gradient": 1.05 * exact.gradient}).disagrees
    with pytest.raises(ValueError, match="of shape"):
        ss.compare(measured, {"gradient": exact.gradient[:1]})
    with pytest.raises(ValueError, match="prediction"):
        ss.compare(measured, {"mean": exact.gradient})
