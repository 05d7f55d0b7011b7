"""A warning before a run that is too short, and none before others."""

import warnings

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.engine.plan.settling import forgetting, missing

SLOW = ss.LinearRegression([1.0, 0.003], label_noise=0.5)
SHORT = {"batch_size": 8, "chains": 64, "steps": 100, "burn_in": 50}


def test_a_run_that_is_too_short_is_announced_before_it_starts():
    with pytest.warns(ss.NotSettled, match=r"too short to settle: 9\d% .*try burn_in=\d+"):
        ss.simulate(SLOW, ss.SGD(0.2), **SHORT)
    with pytest.warns(ss.NotSettled):
        ss.sweep(SLOW, ss.SGD(0.2), **{**SHORT, "batch_size": [4, 8]})
    with pytest.warns(ss.NotSettled, match="41%"), pytest.raises(ValueError, match="chains"):  # before all else
        ss.simulate(SLOW, ss.SGD(0.2), batch_size=8, chains=10**15, steps=1000, burn_in=500)


@pytest.mark.parametrize(
    ("problem", "optimizer", "more"),
    [
        (ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.SGD(0.2), {}),
        (SLOW, ss.SGD(0.2), {"record": 10}),
        (SLOW, ss.SGD(0.2), {"statistics": ()}),
        (SLOW, ss.SGD(0.2, preconditioner=[1.0, 300.0]), {}),
        (SLOW, ss.Adam(0.01), {}),
        (ss.Ellipse(1.0, 0.5), ss.SGD(0.01), {"batch_size": 1}),
    ],
)
def test_no_other_run_is(problem, optimizer, more):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ss.NotSettled)
        ss.simulate(problem, optimizer, **{**SHORT, **more})


@pytest.mark.parametrize("momentum", [None, 0.5, 0.9])
def test_what_is_known_of_the_pace_is_that_of_theory(momentum):
    optimizer = ss.SGD(0.02, momentum)
    law = ss.predict(ss.LinearRegression([1.0, 0.003], label_noise=0.5), optimizer, batch_size=10**6)
    assert forgetting(SLOW, optimizer, 8) == pytest.approx(law.spectral_radius, rel=1e-6)


def test_what_is_missing_is_what_a_run_misses():
    """The variance of a direction grows as 1 - rho^t."""
    t = np.arange(50, 100)
    rho = 0.98
    assert missing(rho, 50, 100) == pytest.approx((rho**t).mean())


def test_a_right_formula_does_not_disagree_before_the_run_has_settled():
    law = ss.predict(SLOW, ss.SGD(0.2), batch_size=8)
    result = ss.simulate(SLOW, ss.SGD(0.2), batch_size=8, chains=2000, steps=1000, burn_in=500)
    [row] = ss.compare(result, {"covariance": law.covariance}).rows
    assert row.verdict == "out of regime" and "not settled" in row.note
