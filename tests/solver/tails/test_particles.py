"""The tail index by particles, against quadrature, enumeration and the exact mean-square limit."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.optimize import brentq

import sgdsim as ss
from sgdsim.optimizers import SGD
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver import predict, stability
from sgdsim.solver.tails import kesten_tail_index, tail_index_by_particles

SMALL = {"particles": 256, "steps": 60}
ROWS = np.array([0.3, 0.5, 0.9, 1.2, 1.6, 2.0])
RNG = np.random.default_rng(5)
TABLE = RNG.standard_t(6, size=(20, 2))


def enumerated(rate, b, sampling):
    """E|1 - rate h|^kappa = 1 over all batches of a data set of one feature."""
    batches = product(range(6), repeat=b) if sampling == "with_replacement" else combinations(range(6), b)
    h = np.array([np.mean(ROWS[list(rows)] ** 2) for rows in batches])
    return brentq(lambda k: np.log(np.mean(np.abs(1 - rate * h) ** k)), 0.05, 200)


def test_isotropic_against_quadrature(assert_within_sigma):
    settings = [(0.6, 4, 5), (1.4, 8, 2), (1.0, 1, 1)]
    found = [
        tail_index_by_particles(LinearRegression([1.0] * d), SGD(x), batch_size=s, seed=3, **SMALL)
        for x, s, d in settings
    ]
    exact = kesten_tail_index(*np.array(settings).T)
    index, stderr = np.array([(e.value, e.stderr) for e in found]).T
    assert np.all(stderr < 0.02 * exact)
    assert_within_sigma(index, exact, stderr)
    with pytest.raises(AssertionError):
        assert_within_sigma(index, 1.05 * exact, stderr)


def test_data_against_enumeration(assert_within_sigma):
    problem = DatasetRegression(ROWS[:, None], np.ones(6))
    settings = [(0.6, 2, "with_replacement"), (0.9, 2, "without_replacement")]
    found = [tail_index_by_particles(problem, SGD(r), batch_size=b, sampling=m, seed=1, **SMALL)
             for r, b, m in settings]
    exact = [enumerated(*s) for s in settings]
    assert_within_sigma([e.value for e in found], exact, [e.stderr for e in found])


CASES = {
    "anisotropic": (LinearRegression([[1.0, 0.3], [0.3, 0.4]], label_noise=1.0), 0.0, None, 3, None),
    "momentum": (LinearRegression([1.0, 0.4]), 0.6, None, 3, None),
    "matrix rate": (LinearRegression([1.0, 0.4]), 0.3, [[1.0, 0.2], [-0.1, 0.8]], 4, None),
    "decay and input noise": (
        LinearRegression([1.0, 0.4], input_noise=[0.1, 0.3], weight_decay=0.2), 0.0, None, 2, None,
    ),
    "data": (DatasetRegression(TABLE, TABLE @ [1.0, 2.0]), 0.0, None, 3, "with_replacement"),
    "data, subsets": (DatasetRegression(TABLE, TABLE @ [1.0, 2.0]), 0.4, None, 3, "without_replacement"),
}


@pytest.mark.parametrize("name", CASES)
def test_two_at_the_mean_square_limit(name, assert_within_sigma):
    problem, mu, p, b, sampling = CASES[name]
    limit = stability(problem, SGD(0.1, mu, p), batch_size=b, sampling=sampling).max_learning_rate
    found = tail_index_by_particles(problem, SGD(limit, mu, p), batch_size=b, sampling=sampling, seed=2, **SMALL)
    assert found.stderr < 0.06
    assert_within_sigma(found.value, 2.0, found.stderr, len(CASES))
    below = tail_index_by_particles(problem, SGD(0.9 * limit, mu, p), batch_size=b, sampling=sampling, seed=2, **SMALL)
    assert below.value - 2 > 5 * below.stderr


@pytest.mark.slow
def test_the_error_bars_are_calibrated():
    scores = []
    for (x, s, d), seed in product([(0.6, 4, 5), (1.8, 8, 1), (0.5, 2, 3)], range(20)):
        found = tail_index_by_particles(LinearRegression([1.0] * d), SGD(x), batch_size=s, seed=seed, **SMALL)
        scores.append((found.value - kesten_tail_index(x, s, d)) / found.stderr)
    # standard normal up to 60 draws: the mean within 4 errors, the spread by chi-square at 1e-4
    assert abs(np.mean(scores)) < 4 / np.sqrt(60)
    assert 0.65 < np.std(scores) < 1.4


def test_exact_answers_are_marked_so():
    problem = DatasetRegression(ROWS[:, None], np.ones(6))
    calm = tail_index_by_particles(problem, SGD(0.4), batch_size=2)  # 0.4 * 4 <= 2: no step expands
    assert (calm.value, calm.stderr, calm.method) == (np.inf, 0, "no step expands")
    bowl = tail_index_by_particles(Quadratic([1.0], [1.0]), SGD(0.5), batch_size=1)
    assert (bowl.value, bowl.method) == (np.inf, "additive noise")
    assert tail_index_by_particles(Quadratic([1.0], [1.0]), SGD(2.5), batch_size=1).value == 0
    whole = tail_index_by_particles(problem, SGD(0.5), batch_size=6, sampling="without_replacement")
    assert whole.value == np.inf and whole.stderr == 0


def test_no_law_and_no_trust():
    gone = tail_index_by_particles(LinearRegression([1.0, 0.5]), SGD(4.0), batch_size=1, **SMALL)
    assert gone.value == 0 and gone.lyapunov > 0
    problem = LinearRegression([1.0, 0.5])
    with pytest.raises(ss.NotConverged, match="beyond 400") as far:
        tail_index_by_particles(problem, SGD(0.05), batch_size=16, **SMALL)
    assert far.value.reached.value > 400 and far.value.reached.lyapunov < 0
    known = predict(problem, SGD(0.05), batch_size=16).tail_index
    assert np.isnan(known.value) and (known.low, known.high) == (2, np.inf)  # a second moment exists, no more is known


def test_steps_that_end_at_the_minimum_exactly(assert_within_sigma):
    """Rows 1 and 2 at rate 1: half of the steps multiply by 0, half by -3; 3^kappa = 2."""
    found = tail_index_by_particles(DatasetRegression([[1.0], [2.0]], [1.0, -1.0]), SGD(1.0), batch_size=1, seed=1)
    assert_within_sigma(found.value, np.log(2) / np.log(3), found.stderr)
    assert found.stderr < 0.01 * found.value and found.lyapunov == -np.inf
