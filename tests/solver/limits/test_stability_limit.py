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
from sgdsim.solver import stability
from sgdsim.solver.limits import stability_limit
from sgdsim.solver.tails import kesten_tail_index

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


def test_data_by_enumeration(assert_within_sigma):
    problem = DatasetRegression(ROWS[:, None], np.ones(3))
    found = stability_limit(problem, SGD(0.1), batch_size=[1, 2], chains=256, steps=300)
    exact = []
    for b, low in zip((1, 2), found.max_learning_rate, strict=True):
        h = np.array([np.mean(ROWS[list(rows)] ** 2) for rows in product(range(3), repeat=b)])
        exponent = lambda rate, h=h: np.mean(np.log(np.abs(1 - rate * h)))  # noqa: E731
        grid = np.linspace(low, 4.013 * low, 400)
        first = next(i for i, rate in enumerate(grid) if exponent(rate) > 0)
        exact.append(brentq(exponent, grid[first - 1], grid[first]))
    assert_within_sigma(found.almost_sure, exact, found.almost_sure_stderr)


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
