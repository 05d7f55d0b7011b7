"""Adam and its relatives: the self-consistent preconditioner against simulation, over rates, decays and batches."""

import itertools

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.experiments.framework.measure import settling_steps

A = np.array([[1.0, 0.3, 0.1], [0.3, 0.5, -0.2], [0.1, -0.2, 0.7]])
NOISE = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, 0.3], [0.0, 0.3, 0.4]])
BOWL = ss.Quadratic(A, NOISE, [1.0, 0.0, -1.0])
LABELS = ss.LinearRegression(A, [1.0, -1.0, 0.5], label_noise=0.5)
RNG = np.random.default_rng(5)
FEATURES = np.column_stack([RNG.standard_t(5, size=(25, 2)), np.ones(25)])
DATA = ss.DatasetRegression(FEATURES, FEATURES @ [1.0, -0.5, 0.2] + RNG.exponential(size=25))
DECAYED = ss.LinearRegression(A, [1.0, -1.0, 0.5], label_noise=0.5, weight_decay=0.3)

CASES = {
    "bowl": (BOWL, ss.Adam(0.1, 0.9, 0.95), 1),
    "labels": (LABELS, ss.Adam(0.05, 0.0, 0.98), 2),
    "data, skewed": (DATA, ss.Adam(0.1, 0.5, 0.98), 2),
    "decay": (DECAYED, ss.RMSProp(0.06, b2=0.98), 4),
    "mini": (BOWL, ss.AdamMini(0.1, [[0, 1], [2]], b2=0.95), 4),
    "adam-e, eps": (LABELS, ss.AdamE(0.1, exponent=0.25, b2=0.95, eps=0.05), 4),
    "eps_root": (LABELS, ss.RMSProp(0.1, b2=0.95, eps=0.0, eps_root=0.01), 8),
}
FAST = ("bowl", "labels", "data, skewed")


def held(problem, optimizer, b, chains=4096, steps=600, seed=2):
    theory = ss.predict(problem, optimizer, batch_size=b)
    burn_in = settling_steps(theory)
    result = ss.simulate(problem, optimizer, batch_size=b, chains=chains, steps=burn_in + steps, burn_in=burn_in,
                         initial=problem.minimum, seed=seed)
    return result, theory


def check(result, theory, assert_within_sigma, comparisons):
    report = ss.compare(result, theory, error_rate=1e-4 / comparisons * 5)
    assert report.agrees, report.table()
    predicted = np.diag(theory.covariance)
    # the same comparison sees a prediction that is 5% off by more than the error it states
    with pytest.raises(AssertionError):
        assert_within_sigma(np.diag(result.covariance), (1.05 + theory.theory_error) * predicted,
                            np.diag(result.covariance_stderr), comparisons)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CASES])
def test_simulation_agrees_within_the_stated_error(name, assert_within_sigma):
    result, theory = held(*CASES[name])
    assert theory.theory_error < 0.02
    check(result, theory, assert_within_sigma, 3 * len(CASES))


def test_skewed_noise_moves_the_mean_as_predicted(assert_within_sigma):
    """With a fixed preconditioner the mean would be the minimum; it is not, by many standard errors."""
    problem, optimizer, b = CASES["data, skewed"]
    result, theory = held(problem, optimizer, b, steps=2000)
    band = theory.theory_error * np.sqrt(np.diag(theory.covariance))
    assert_within_sigma(result.mean, theory.mean, result.mean_stderr + band / 4)
    assert np.abs((result.mean - problem.minimum) / result.mean_stderr).max() > 8


def test_compare_says_out_of_regime():
    result, theory = held(LABELS, ss.Adam(0.05, 0.0, 0.6), 1, chains=512, steps=50)
    report = ss.compare(result, theory)
    assert {row.verdict for row in report.rows} == {"out of regime"}
    assert "regime" in report.regime


GRID = list(itertools.product((0.02, 0.1), (0.0, 0.9), (0.9, 0.99), (1, 16)))


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "b1", "b2", "b"), GRID)
@pytest.mark.parametrize("problem", [BOWL, LABELS], ids=["bowl", "labels"])
def test_grid(problem, rate, b1, b2, b, assert_within_sigma):
    optimizer = ss.Adam(rate, b1, b2)
    result, theory = held(problem, optimizer, b, chains=8192, steps=1500)
    if theory.out_of_regime:
        assert b2 == 0.9 and problem is LABELS
        return
    check(result, theory, assert_within_sigma, 3 * 2 * len(GRID))
