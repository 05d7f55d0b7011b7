"""The tail index by quadrature, against the sheet's numbers and against computations that share nothing with it."""

import math
import pickle
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from sgdsim.optimizers import SGD
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver import predict
from sgdsim.solver.tails import kesten_tail_index
from sgdsim.solver.tails import quadrature as rule
from sgdsim.solver.tails.isotropic import isotropic_index

# (a lambda, S): exact, published, continuous; stationary.md section 10
TABLE = {
    (0.2, 1): (8.30259407233, 9, 11),
    (0.2, 8): (59.73092193383, 72, 81),
    (1.0, 1): (1.09082647307, 1, 3),
    (1.0, 2): (2, 2, 5),
    (1.0, 8): (6.20230076604, 8, 17),
    (1.8, 1): (0.27009384086684, 1 / 9, 2.111),
    (1.8, 8): (1.31322748438, 8 / 9, 9.889),
}
MORE = {(0.9, 1): 1.29361784948, (0.6, 1): 2.30169467904, (0.6, 2): 4.23999683596}
ISOTROPIC = {(0.5, 4, 5): 7.746190, (0.3, 2, 10): 2.576324, (0.2, 1, 5): 5.733532}


def even_moment(x, s, d, k):
    """E[((1 - x q)^2 + x^2 q p)^k] by expanding in moments of chi-square, exactly up to rounding."""

    def moment(n, order):  # E of a power of a chi-square variable
        return math.prod(n + 2 * i for i in range(order))

    total = 0.0
    for j in range(k + 1):
        for i in range(2 * j + 1):
            order = i + k - j
            total += (math.comb(k, j) * math.comb(2 * j, i) * (-x) ** i * x ** (2 * (k - j))
                      * moment(s, order) * moment(d - 1, k - j))
    return total


def test_the_sheet():
    keys = np.array(list(TABLE))
    exact, published, continuous = np.array(list(TABLE.values())).T
    np.testing.assert_allclose(kesten_tail_index(*keys.T), exact, rtol=1e-10)
    np.testing.assert_allclose(kesten_tail_index(*keys.T, approximation="published"), published, rtol=1e-12)
    np.testing.assert_allclose(kesten_tail_index(*keys.T, approximation="continuous"), continuous, atol=5e-4)
    # the printed formula is right at one point only
    assert np.sum(np.abs(published / exact - 1) < 1e-3) == 1
    for key, value in MORE.items():
        assert kesten_tail_index(*key) == pytest.approx(value, rel=1e-10)
    for key, value in ISOTROPIC.items():
        assert kesten_tail_index(*key) == pytest.approx(value, rel=2e-7)


@pytest.mark.parametrize("s", [1, 3, 40, 1000, 100_000])
@pytest.mark.parametrize("d", [1, 2, 7, 10_000])
def test_two_at_the_mean_square_limit(s, d):
    assert kesten_tail_index(2 * s / (s + d + 1), s, d) == pytest.approx(2, rel=1e-8)


@pytest.mark.parametrize("power", [4, 6, 8])
@pytest.mark.parametrize(("s", "d"), [(1, 1), (8, 1), (2, 3), (30, 2), (6, 40)])
def test_even_moments_in_closed_form(power, s, d):
    limit = brentq(lambda x: even_moment(x / s, s, d, power // 2) - 1, 1e-3 * s / (s + d), 2 * s / (s + d + 1),
                   xtol=1e-15, rtol=1e-14)
    assert kesten_tail_index(limit, s, d) == pytest.approx(power, rel=1e-8)
    # a root that is 1% off is seen
    assert abs(kesten_tail_index(1.01 * limit, s, d) / power - 1) > 1e-3


@pytest.mark.parametrize(("x", "s"), [(1.7, 2), (0.7, 5), (2.3, 1), (1.2, 30)])
def test_adaptive_quadrature(x, s):
    k = kesten_tail_index(x, s)
    norm = math.lgamma(s / 2) + s / 2 * math.log(2)

    def value(r):  # q = r^2
        gap = abs(1 - x / s * r * r)
        return 2 * math.exp((s - 1) * math.log(r) - r * r / 2 - norm) * gap**k if gap and r else 0.0

    cusp = math.sqrt(s / x)
    cuts = sorted([0, cusp, math.sqrt(s), 2 * math.sqrt(s) + cusp, 40 + 3 * math.sqrt(s)])
    total = sum(quad(value, a, b, epsabs=1e-12, epsrel=1e-12, limit=400)[0] for a, b in pairwise(cuts))
    assert total == pytest.approx(1, abs=1e-9)


def test_monte_carlo_in_several_dimensions(rng, assert_within_sigma):
    """Batches drawn row by row."""
    for x, s, d in [(0.8, 3, 2), (0.5, 2, 4), (1.2, 6, 3)]:
        k = kesten_tail_index(x, s, d)
        batch = rng.standard_normal((400_000, s, d))
        v = np.zeros((400_000, d))
        v[:, 0] = 1
        v -= x / s * np.einsum("nsd,ns->nd", batch, batch[:, :, 0])
        value = np.linalg.norm(v, axis=1) ** k
        error = value.std() / np.sqrt(len(value))
        assert_within_sigma(value.mean(), 1.0, error, 3)
        wrong = np.linalg.norm(v, axis=1) ** (1.08 * k)
        with pytest.raises(AssertionError):
            assert_within_sigma(wrong.mean(), 1.0, wrong.std() / np.sqrt(len(value)), 3)


@pytest.mark.slow
def test_finer_quadrature_changes_nothing(rng, monkeypatch):
    x, s = 10 ** rng.uniform(-3, 0.3, 60), np.floor(10 ** rng.uniform(0, 4.5, 60))
    d = np.where(np.arange(60) < 50, 1, np.floor(10 ** rng.uniform(0.4, 3, 60)))
    plain = kesten_tail_index(x, s, d)
    step = rule.step_nodes
    monkeypatch.setattr("sgdsim.solver.tails.isotropic.step_nodes",
                        lambda cases, power, level: step(cases, power, level + 1))
    np.testing.assert_allclose(plain, kesten_tail_index(x, s, d), rtol=1e-8)
    assert plain.max() > 500
    alone = [kesten_tail_index(*setting) for setting in zip(x[45:55], s[45:55], d[45:55], strict=True)]
    np.testing.assert_allclose(plain[45:55], alone, rtol=1e-12)


@pytest.mark.parametrize("size", [10**3, 10**5, 10**7])
def test_large_batches_just_below_twice_the_curvature(size):
    """At a lambda = 2 the step is -1 + d with E d = 0: the index is 1, whatever S, though E|M|^k - 1 is about 4/S."""
    assert kesten_tail_index(2.0, size) == pytest.approx(1, rel=2e-9)


def test_the_range():
    # The Lyapunov exponent crosses zero near 2.42125 at S = 1: E ln|1 - x z^2| in closed form has no simpler root.
    near = kesten_tail_index([2.4, 2.42, 2.4212, 2.4213, 3.0, 1e6], 1)
    assert np.all(np.diff(near[:4]) < 0) and 0 < near[2] < 1e-3
    assert np.all(near[3:] == 0)
    assert kesten_tail_index(1e-4, 1) == pytest.approx(0.8976e4 * 2, rel=1e-2)
    assert np.isfinite(kesten_tail_index(1e-3, 100_000))
    table = kesten_tail_index(np.array([[0.5], [1.0]]), [1, 2, 3], 2)
    assert table.shape == (2, 3) and isinstance(kesten_tail_index(0.5, 1), float)
    assert table[1, 2] == kesten_tail_index(1.0, 3, 2)


def test_weight_decay_shifts_the_centre():
    """1-D: E|c - x q|^kappa = 1, c of either sign, against moments of order two."""
    one = np.ones(1)
    for c in (0.7, 0.2, -0.5):
        # c^2 - 2 c x + 3 x^2 = 1 at S = 1
        x = (2 * c + math.sqrt(4 * c * c - 12 * (c * c - 1))) / 6
        assert isotropic_index(x * one, one, one, c * one)[0] == pytest.approx(2, rel=1e-10)
    law = predict(LinearRegression([1.0], weight_decay=0.5), SGD(0.4), batch_size=2)

    def value(r):  # q = r^2 at S = 2
        return r * math.exp(-r * r / 2) * abs(0.8 - 0.2 * r * r) ** float(law.tail_index)

    assert quad(value, 0, 15, points=[2.0], epsabs=1e-13, limit=500)[0] == pytest.approx(1, abs=1e-8)


def test_prediction_knows_its_tail():
    law = predict(LinearRegression([1.0], label_noise=1.0), SGD(0.6), batch_size=1)
    law = pickle.loads(pickle.dumps(law))
    assert law.tail_index.value == pytest.approx(2.30169467904, rel=1e-10) and law.tail_index.stderr == 0
    turned = predict(LinearRegression([2.0, 0.5], label_noise=1.0), SGD(0.2, 0.0, [0.5, 2.0]), batch_size=3)
    assert turned.tail_index.value == pytest.approx(kesten_tail_index(0.2, 3, 2), rel=1e-9)
    assert predict(Quadratic([1.0], [1.0]), SGD(0.6, 0.5), batch_size=1).tail_index.value == np.inf


@pytest.mark.parametrize(("rate", "says"), [(1.8, "tail index 0.2701"), (2.5, "no stationary law exists")])
def test_past_the_mean_square_limit(rate, says):
    with pytest.raises(ValueError, match=f"below 0.666667.*{says}"):
        predict(LinearRegression([1.0], label_noise=1.0), SGD(rate), batch_size=1)


def test_past_the_limit_on_data():
    problem = DatasetRegression(np.array([[0.5], [1.0], [2.0]]), np.array([1.0, 0.0, 1.0]))
    steps = [np.mean([(0.5, 1.0, 2.0)[i] ** 2 for i in rows]) for rows in product(range(3), repeat=2)]
    rate = 1.0
    exact = brentq(lambda k: np.mean(np.abs(1 - rate * np.array(steps)) ** k) - 1, 0.05, 5)
    assert exact < 2
    with pytest.raises(ValueError, match=r"tail index \d") as error:
        predict(problem, SGD(rate), batch_size=2)
    assert f"tail index {exact:.4g})" in str(error.value)
