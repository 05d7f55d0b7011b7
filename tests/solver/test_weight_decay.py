"""The best weight decay, against second-moment recursions written from the update rule."""

import closed_forms as forms
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import sgdsim as ss
from sgdsim.problems import dataset_regression
from sgdsim.problems.parts.fourth_moments import FourthMoments
from sgdsim.solver import optimal_weight_decay


def recursion(gamma: float, rate: float, batch_size: int, sigma: float, momentum: float) -> float:
    """E (w - 1)^2 / 2 of one-dimensional regression with a = u = 1, from the moments of (w - 1, m, 1)."""
    # m' = mu m + (q + gamma) d + gamma - e, d' = d - rate m'; q = mean of x^2, e = mean of noise times x
    def step(q: float) -> np.ndarray:
        pull = np.array([q + gamma, momentum, gamma])
        return np.array([[1.0, 0.0, 0.0] - rate * pull, pull, [0.0, 0.0, 1.0]])

    mean, slope = step(1.0), step(2.0) - step(1.0)
    second = np.kron(mean, mean) + 2 / batch_size * np.kron(slope, slope)
    kick = np.array([-rate, 1.0, 0.0])
    forcing = sigma**2 / batch_size * np.kron(kick, kick)
    # the last entry is E 1 = 1: drop its own equation
    inner = np.linalg.solve(np.eye(8) - second[:8, :8], second[:8, 8] + forcing[:8])
    return inner[0] / 2


@pytest.mark.parametrize(
    ("rate", "batch_size", "sigma", "momentum", "best"),
    [(0.2, 8, 1.0, 0.0, 0.00639), (0.69, 1, 0.0, 0.0, 0.2494), (0.05, 2, 0.7, 0.8, None), (1.2, 64, 0.3, 0.3, None)],
)
def test_one_dimension_with_noise_and_momentum(rate, batch_size, sigma, momentum, best):
    problem = ss.LinearRegression([1.0], [1.0], label_noise=sigma)
    found = optimal_weight_decay(problem, ss.SGD(rate, momentum), batch_size=batch_size)
    settings = (rate, batch_size, sigma, momentum)
    assert found.test_loss == pytest.approx(recursion(found.weight_decay, *settings), rel=1e-10)
    around = (found.weight_decay - 0.02, found.weight_decay + 0.02)
    true = minimize_scalar(recursion, bounds=around, args=settings, method="bounded", options={"xatol": 1e-10}).x
    assert found.weight_decay == pytest.approx(true, abs=2e-6)
    if best is not None:
        assert found.weight_decay == pytest.approx(best, abs=6e-5 if best > 0.1 else 6e-6)
    if found.without < np.inf:
        assert found.without == pytest.approx(recursion(0.0, *settings), rel=1e-10)
        assert found.test_loss < found.without


def test_corollary_1_needs_three_examples():
    # Figure 5, and the paper's S = 1, which lies between its two limits
    figure = optimal_weight_decay(ss.LinearRegression([4.0], [1.0]), ss.SGD(1.0), batch_size=64)
    assert figure.weight_decay == pytest.approx(-2.5307, abs=1e-4)
    assert figure.without == np.inf
    one = optimal_weight_decay(ss.LinearRegression([1.0], [1.0]), ss.SGD(0.69), batch_size=1)
    assert 2 / 3 < 0.69 < np.sqrt(0.5)
    assert one.weight_decay > 0
    np.testing.assert_allclose(one.stable, (0.13241723, 0.76613349), rtol=1e-7)
    for rate, batch_size in ((1.0, 64), (0.69, 1), (1.1, 3), (1.21, 3), (1.55, 8), (1.9, 8)):
        sign = optimal_weight_decay(ss.LinearRegression([1.0], [1.0]), ss.SGD(rate), batch_size=batch_size).weight_decay
        assert (sign < -1e-6) == forms.negative_decay_helps(1.0, rate, batch_size)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e6, 1e12])
def test_the_best_decay_in_any_units(unit):
    """Where training without decay is unstable the search for a stable one stopped at 1e-5, whatever the units."""
    for rate, batch_size in ((0.69, 1), (1.21, 3)):
        known, found = (optimal_weight_decay(ss.LinearRegression([u], [1.0]), ss.SGD(rate / u), batch_size=batch_size)
                        for u in (1.0, unit))
        np.testing.assert_allclose(np.array(found.stable) / unit, known.stable, rtol=1e-7)
        assert found.weight_decay / unit == pytest.approx(known.weight_decay, rel=1e-5)


def test_several_dimensions_and_data():
    a, u = np.array([[4.0, 0.3], [0.3, 3.6]]), np.array([1.0, -2.0])  # unstable without decay
    best = optimal_weight_decay(ss.LinearRegression(a, u), ss.SGD(1.0), batch_size=100)
    losses = {}
    for gamma in np.linspace(-3.4, -2.2, 241):
        try:
            losses[gamma] = forms.weight_decay_test_loss(a, gamma * np.eye(2), u, 1.0, 100)
        except ValueError:
            continue
    assert len(losses) > 50
    nearest = min(losses, key=losses.get)
    assert best.weight_decay == pytest.approx(nearest, abs=0.005)
    assert losses[nearest] * 0.999 < best.test_loss <= losses[nearest]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4))
    data = ss.DatasetRegression(x, x @ rng.normal(size=4) + rng.normal(size=30), weight_decay=7.0)  # replaced
    found = optimal_weight_decay(data, ss.SGD(0.1), batch_size=2, sampling="without_replacement")
    scan = [ss.predict(ss.DatasetRegression(data.features, data.targets, g), ss.SGD(0.1), batch_size=2,
                       sampling="without_replacement").test_loss for g in np.linspace(-0.1, 0.3, 21)]
    assert found.weight_decay > 0
    assert found.test_loss <= min(scan)
    # a whole batch makes no noise: no decay is best
    full = optimal_weight_decay(data, ss.SGD(0.1), batch_size=30, sampling="without_replacement")
    assert full.weight_decay == pytest.approx(0.0, abs=1e-6)


def test_what_decay_does_not_change_is_worked_out_once(monkeypatch):
    """The moments of the features and the fit without decay: a second for each strength at 20,000 x 30."""
    calls = {"table": 0, "least_squares": 0}

    def counted(name, function):
        def count(*args):
            calls[name] += 1
            return function(*args)

        return count

    monkeypatch.setattr(FourthMoments, "table", counted("table", FourthMoments.table))
    monkeypatch.setattr(dataset_regression, "least_squares", counted("least_squares", dataset_regression.least_squares))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    problem = ss.DatasetRegression(x, x @ [1.0, 0.5, 0.0] + rng.normal(size=60))
    best = ss.solver.optimal_weight_decay(problem, ss.SGD(0.05), batch_size=4)
    assert calls == {"table": 1, "least_squares": 1}
    alone = ss.DatasetRegression(x, problem.targets, weight_decay=best.weight_decay)
    assert best.test_loss == pytest.approx(ss.predict(alone, ss.SGD(0.05), batch_size=4).test_loss, rel=1e-12)
    assert calls == {"table": 2, "least_squares": 2}
