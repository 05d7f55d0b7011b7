"""Where a stationary law ceases to exist, against quadrature by hand, enumeration and isotropic settings."""

import math
import pickle
import sys
from itertools import product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from sgdsim.optimizers import SGD
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver import predict, stability
from sgdsim.solver.limits import stability_limit
from sgdsim.solver.tails import kesten_tail_index, tail_index_by_particles

ROWS = np.array([0.5, 1.0, 2.0])


def test_one_dimension_by_adaptive_quadrature():
    limits = stability_limit(LinearRegression([2.0], label_noise=1.0), SGD(0.1), batch_size=[1, 4, 50])
    np.testing.assert_allclose(limits.max_learning_rate, [2 * s / (s + 2) / 2 for s in (1, 4, 50)], rtol=1e-11)
    assert np.all(limits.almost_sure_stderr == 0)
    for s, rate in zip((1, 4, 50), limits.almost_sure, strict=True):
        x, norm = 2 * rate / s, math.lgamma(s / 2) + s / 2 * math.log(2)
        cusp = math.sqrt(1 / x)

        def value(r, x=x, s=s, norm=norm):
            return 2 * math.exp((s - 1) * math.log(r) - r * r / 2 - norm) * math.log(abs(1 - x * r * r))

        pieces = ((0, cusp), (cusp, 2 * cusp), (2 * cusp, 25))
        total = sum(quad(value, *piece, epsabs=1e-11, limit=400)[0] for piece in pieces)
        assert total == pytest.approx(0, abs=1e-8)
        assert kesten_tail_index(2 * rate * 0.999, s) > 0 == kesten_tail_index(2 * rate * 1.001, s)


def test_chains_agree_with_quadrature(assert_within_sigma, monkeypatch):
    problem, sizes = LinearRegression([1.0, 1.0, 1.0]), [1, 6]
    exact = stability_limit(problem, SGD(0.1), batch_size=sizes)
    monkeypatch.setattr(sys.modules["sgdsim.solver.limits.stability_limit"], "isotropic_step", lambda setting: None)
    found = stability_limit(problem, SGD(0.1), batch_size=sizes, chains=128, steps=200)
    assert_within_sigma(found.almost_sure, exact.almost_sure, found.almost_sure_stderr)
    with pytest.raises(AssertionError):
        assert_within_sigma(found.almost_sure, 1.06 * exact.almost_sure, found.almost_sure_stderr)


def test_one_direction_of_a_data_set_is_exact():
    """Every batch written out here; the paper-and-pencil case |1 - h||1 - 3h| = 1 has the root 4/3."""
    problem = DatasetRegression(ROWS[:, None], np.ones(3))
    found = stability_limit(problem, SGD(0.1), batch_size=[1, 2, 5])
    assert np.all(found.almost_sure_stderr == 0)
    for b, low, rate in zip((1, 2, 5), found.max_learning_rate, found.almost_sure, strict=True):
        h = np.array([np.mean(ROWS[list(rows)] ** 2) for rows in product(range(3), repeat=b)])
        exponent = lambda rate, h=h: np.mean(np.log(np.abs(1 - rate * h)))  # noqa: E731
        grid = np.linspace(low, 4.013 * low, 4000)
        first = next(i for i, rate in enumerate(grid) if exponent(rate) > 0)
        assert rate == pytest.approx(brentq(exponent, grid[first - 1], grid[first], xtol=1e-14), rel=1e-12)
    pair = DatasetRegression(np.sqrt([[1.0], [3.0]]), np.ones(2))
    assert stability_limit(pair, SGD(0.1), batch_size=1).almost_sure[0] == pytest.approx(4 / 3, rel=1e-12)
    subset = stability_limit(DatasetRegression(np.sqrt([[1.0], [3.0], [5.0]]), np.ones(3)), SGD(0.1), batch_size=2,
                             sampling="without_replacement").almost_sure[0]  # sums 4, 6, 8
    assert np.prod(np.abs(1 - subset * np.array([2.0, 3.0, 4.0]))) == pytest.approx(1, abs=1e-9)


def test_tail_index_of_one_direction_is_exact():
    """E |1 - rate k|^kappa = 1 over batches of two, and with weight decay; particles see the same."""
    problem = DatasetRegression(ROWS[:, None], np.ones(3), weight_decay=0.1)
    law = predict(problem, SGD(0.55), batch_size=2)
    h = np.array([np.mean(ROWS[list(rows)] ** 2) for rows in product(range(3), repeat=2)]) + 0.1
    assert law.tail_index.stderr == 0 < law.tail_index.value < 50
    assert np.mean(np.abs(1 - 0.55 * h) ** law.tail_index.value) == pytest.approx(1, abs=1e-10)
    assert np.mean(np.abs(1 - 0.55 * h) ** (1.03 * law.tail_index.value)) != pytest.approx(1, abs=1e-3)
    seen = tail_index_by_particles(problem, SGD(0.55), batch_size=2)
    assert abs(seen.value - law.tail_index.value) < 4 * seen.stderr


def test_two_directions_by_chains(assert_within_sigma):
    """Rows along two axes: a product of independent scalars each, the slower of which decides."""
    rows = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.3], [0.0, 0.4]])
    found = stability_limit(DatasetRegression(rows, np.ones(4)), SGD(0.1), batch_size=1, chains=256, steps=300)
    assert_within_sigma(found.almost_sure[0], 1.25, found.almost_sure_stderr[0])  # |1 - h||1 - 4h| = 1
    with pytest.raises(AssertionError):
        assert_within_sigma(found.almost_sure[0], 1.03 * 1.25, found.almost_sure_stderr[0])


def test_order_and_laziness():
    limits = stability(LinearRegression([1.0, 0.3]), SGD(0.1, 0.5), batch_size=2)
    assert "_almost_sure" not in vars(limits)
    limits = pickle.loads(pickle.dumps(limits))
    assert limits.max_learning_rate < limits.almost_sure and limits.almost_sure_stderr > 0
    bowl = stability(Quadratic([1.0], [1.0]), SGD(0.1), batch_size=2)
    assert bowl.almost_sure == bowl.max_learning_rate == bowl.deterministic
    whole = stability_limit(DatasetRegression(ROWS[:, None], np.ones(3)), SGD(0.1), batch_size=3,
                            sampling="without_replacement")
    assert whole.almost_sure[0] == whole.max_learning_rate[0]
