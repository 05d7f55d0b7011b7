"""`ss.gradient_variance` against `ss.solver`: they share the description of the problem and nothing else.

tests/engine/test_gradient_variance.py holds the simulation against recursions written out there; here it is held
against the solver, through `ss.compare`, where a truth that is 5% off must be noticed.
"""

import dataclasses

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.comparisons.comparison import AGREE, DISAGREE, UNDERPOWERED

RNG = np.random.default_rng(5)
FEATURES = np.column_stack([RNG.normal(size=(30, 2)), np.ones(30)])
TARGETS = FEATURES @ [1.0, -0.5, 0.2] + RNG.normal(size=30)
DATA = ss.DatasetRegression(FEATURES, TARGETS)
DECAYED = ss.DatasetRegression(FEATURES, TARGETS, weight_decay=0.3, label_noise=0.5)


def falling(t):
    return 0.2 / (t + 1)


CASES = {
    "data": (DATA, falling, [3.0, 1.0, -1.0], "with_replacement"),
    "data, subsets": (DATA, 0.1, [3.0, 1.0, -1.0], "without_replacement"),
    "data, decay and label noise": (DECAYED, falling, [3.0, 1.0, -1.0], "with_replacement"),
    "online, input noise": (
        ss.LinearRegression([1.0, 0.5], [1.0, 2.0], label_noise=0.3, input_noise=[0.2, 0.1]), 0.1, [2.0, -1.0], None,
    ),
    "online, matrix decay": (
        ss.LinearRegression([[1.0, 0.3], [0.3, 0.5]], label_noise=0.5, weight_decay=[[0.4, -0.2], [-0.2, 0.1]]),
        falling, [2.0, -1.0], None,
    ),
    "bowl": (ss.Quadratic([[1.0, 0.3], [0.3, 0.5]], [[1.0, 0.2], [0.2, 2.0]], [1.0, 2.0]), 0.3, [0.0, 0.0], None),
}  # fmt: skip


SLOW = ("data", "data, decay and label noise")  # subsets with a constant rate cover the same code


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES])
def test_quadratic_losses(name):
    problem, rate, start, sampling = CASES[name]
    setting = {"batch_size": [10, 20], "steps": 4, "initial": start, "sampling": sampling}
    simulated = ss.gradient_variance(problem, ss.SGD(rate), chains=48_000, seed=3, **setting)
    exact = ss.solver.gradient_variance(problem, ss.SGD(rate), **setting)
    assert {row.verdict for row in ss.compare(simulated, exact).rows} == {AGREE}
    for field in ("gradient", "full_gradient", "loss"):
        for factor in (0.95, 1.05):
            wrong = dataclasses.replace(exact, **{field: getattr(exact, field) * factor})
            assert ss.compare(simulated, wrong).disagrees, (field, factor)


def test_shuffled_passes():
    problem = ss.DatasetRegression(FEATURES[:6], TARGETS[:6])
    setting = {"batch_size": [2, 4], "steps": 5, "initial": [1.0, 1.0, 0.0]}
    simulated = ss.gradient_variance(problem, ss.SGD(0.1), chains=20_000, sampling="epochs", **setting)
    exact = ss.solver.variance.epoch_gradient_variance(problem, ss.SGD(0.1), **setting)
    assert ss.compare(simulated, exact).agrees
    for factor in (0.95, 1.05):
        assert ss.compare(simulated, dataclasses.replace(exact, gradient=factor * exact.gradient)).disagrees
    # subsets drawn afresh have other variances
    fresh = ss.solver.gradient_variance(problem, ss.SGD(0.1), sampling="without_replacement", **setting)
    assert ss.compare(simulated, fresh).disagrees


@pytest.mark.parametrize("label_noise", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_two_layers(label_noise):
    problem = ss.TwoLayerLinear([[0.5, 1.0], [0.0, 0.3]], [[1.0, 0.0]], label_noise)
    start = ([[1.0, 0.0], [0.0, -1.0]], [[1.0, 0.5]])
    simulated = ss.gradient_variance(problem, ss.SGD(0.1), batch_size=[8, 40], steps=2, chains=8000,
                                     initial=problem.flatten(*start))  # fmt: skip
    for t in (0, 1):
        exact = ss.solver.gradient_variance_polynomial(problem, ss.SGD(0.1), step=t, initial=start)
        assert ss.compare(simulated, exact, step=t).agrees
        for part in exact._fields:
            near = getattr(exact, part)
            wrong = exact._replace(**{part: dataclasses.replace(near, coefficients=1.05 * near.coefficients)})
            assert ss.compare(simulated, wrong, step=t).disagrees


@pytest.mark.parametrize("step", [1, 2, 3])
def test_one_unit_in_every_layer(step):
    problem, start = ss.TwoLayerLinear([[1.0]], [[2.0]]), ([[1.0]], [[0.5]])
    simulated = ss.gradient_variance(problem, ss.SGD(0.1), batch_size=[10, 100], steps=4, chains=8000,
                                     initial=problem.flatten(*start), seed=8)  # fmt: skip
    exact = ss.solver.gradient_variance_polynomial(problem, ss.SGD(0.1), step=step, initial=start)
    verdicts = [row.verdict for row in ss.compare(simulated, exact, step=step).rows]
    assert AGREE in verdicts and set(verdicts) <= {AGREE, UNDERPOWERED}
    off = exact.inner
    wrong = exact._replace(inner=dataclasses.replace(off, exact=tuple(c * 105 / 100 for c in off.exact)))
    assert DISAGREE in [row.verdict for row in ss.compare(simulated, wrong, step=step).rows]
