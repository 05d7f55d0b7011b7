"""Assertions for tests: they fail when they should, and say what would decide."""

import dataclasses
import re

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.results import Quantity
from sgdsim.testing import assert_agrees, assert_disagrees

PROBLEM = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
LAW = ss.predict(PROBLEM, ss.SGD(0.1), batch_size=4)
TRACE = "trace(covariance)"
EXACT = {TRACE: np.trace(LAW.covariance)}


@pytest.fixture(scope="module")
def result():
    return ss.simulate(PROBLEM, ss.SGD(0.1), batch_size=4, chains=2000, steps=400, burn_in=100)


def test_a_right_theory_agrees_and_a_wrong_one_does_not(result):
    assert_agrees(result, LAW)
    assert_agrees(result, EXACT, error_rate=1e-2)
    wrong = {TRACE: 1.05 * EXACT[TRACE]}
    assert_disagrees(result, wrong)
    assert_agrees(result, wrong, theory_error=0.06)
    with pytest.raises(AssertionError, match=r"does not agree\n(.|\n)*disagree\n2000 chains were enough to decide"):
        assert_agrees(result, wrong)
    with pytest.raises(AssertionError, match=r"does not disagree\n(.|\n)*agree\nwere the difference as large"):
        assert_disagrees(result, EXACT)


def test_the_number_of_chains_that_would_decide_decides(result):
    """Errors shrink with the root of the chains."""
    value = EXACT[TRACE]

    def run(chains):
        error = 0.5 * value * np.sqrt(100 / chains)
        return dataclasses.replace(result, chains=chains, quantities={"size": Quantity(value, error)})

    for check in (assert_agrees, assert_disagrees):
        with pytest.raises(AssertionError, match="underpowered") as failed:
            check(run(100), {"size": value * 1.001})
        needed = int(re.search(r"about ([\d,]+) chains would decide", str(failed.value))[1].replace(",", ""))
        assert 2500 <= needed <= 3000
    assert_agrees(run(needed), {"size": value * 1.001})
    with pytest.raises(AssertionError, match="underpowered"):
        assert_agrees(run(2400), {"size": value * 1.001})


def test_out_of_regime_is_no_agreement(result):
    with pytest.raises(AssertionError, match="small rates only"):
        assert_agrees(result, EXACT, regime="small rates only")
    with pytest.raises(AssertionError, match="more chains alone would not decide"):
        assert_disagrees(result, {TRACE: 9.0}, regime="small rates only")


def test_sweeps_and_variances_of_the_gradient():
    grid = ss.sweep(PROBLEM, ss.SGD(0.1), batch_size=4, learning_rate=[0.05, 0.1], chains=1000, steps=300, burn_in=100)
    assert_agrees(grid, ss.predict)
    assert_disagrees(grid, lambda learning_rate: {TRACE: 9.0 * learning_rate})
    setting = {"batch_size": [8, 32], "steps": 3, "initial": [1.0, -1.0]}
    assert_agrees(ss.gradient_variance(PROBLEM, ss.SGD(0.1), chains=8000, **setting),
                  ss.solver.gradient_variance(PROBLEM, ss.SGD(0.1), **setting))


def test_one_theory_at_a_time(result):
    with pytest.raises(ValueError, match="several theories"):
        assert_agrees(result, {"a": EXACT, "b": EXACT})
