"""The companion: known in law, on the same random numbers, and unbiased."""

from __future__ import annotations

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.engine.control_variate import companion_covariance

A = np.array([[1.0, 0.3], [0.3, 0.5]])
rng = np.random.default_rng(5)
X = rng.normal(size=(60, 2))
Y = X @ [1.0, -1.0] + rng.normal(size=60)
PROBLEMS = {
    "gaussian": (ss.LinearRegression(A, [1.0, 2.0], 0.5, input_noise=[0.1, 0.2], weight_decay=0.1), None),
    "with_replacement": (ss.DatasetRegression(X, Y, label_noise=0.3), "with_replacement"),
    "without_replacement": (ss.DatasetRegression(X, Y, weight_decay=0.1), "without_replacement"),
}
HOW = {"batch_size": 8, "chains": 2_048, "steps": 400, "burn_in": 150}


@pytest.mark.parametrize(
    "name", ["gaussian", *(pytest.param(f"{how}_replacement", marks=pytest.mark.slow) for how in ("with", "without"))]
)
def test_errors_shrink_and_the_answer_stays_right(name, assert_within_sigma):
    problem, sampling = PROBLEMS[name]
    optimizer = ss.SGD(0.1, momentum=0.5)
    theory = ss.predict(problem, optimizer, batch_size=8, sampling=sampling)
    plain = ss.simulate(problem, optimizer, sampling=sampling, **HOW)
    result = ss.simulate(problem, optimizer, sampling=sampling, control_variate=True, **HOW)
    assert result.mean.shape == (2,) and result.final.shape == (2_048, 2) and result.rhat.shape == (2,)
    assert_within_sigma(result.mean, theory.mean, result.mean_stderr)
    assert_within_sigma(result.covariance, theory.covariance, result.covariance_stderr)
    assert_within_sigma(result.test_loss, theory.test_loss, result.test_loss_stderr)
    with pytest.raises(AssertionError, match="beyond"):
        assert_within_sigma(1.02 * result.covariance, theory.covariance, result.covariance_stderr)
    assert (result.covariance_stderr < 0.7 * plain.covariance_stderr).all() and result.control_gain > 2


@pytest.mark.slow
def test_it_is_unbiased_and_its_errors_are_right():
    """Over 200 seeds and few groups, where a coefficient fitted to its own group would show."""
    problem, z = ss.LinearRegression([1.0, 0.5], label_noise=0.5), []
    truth = ss.predict(problem, ss.SGD(0.3), batch_size=4).covariance
    for seed in range(200):
        result = ss.simulate(problem, ss.SGD(0.3), batch_size=4, chains=128, steps=150, burn_in=60, seed=seed,
                             control_variate=True)  # fmt: skip
        z.append((result.covariance - truth)[np.diag_indices(2)] / result.covariance_stderr[np.diag_indices(2)])
    z = np.array(z)
    assert np.abs(z.mean(axis=0)).max() < 3.5 / np.sqrt(len(z)) * 1.2
    assert 0.8 < z.std() < 1.25


def test_the_companion_is_known_from_the_first_step_on():
    """Its covariance after t steps, under a schedule, momentum and a matrix learning rate, by direct iteration."""
    problem = PROBLEMS["gaussian"][0]
    single = ss.SGD(lambda t: 0.2 / (1 + t), 0.5, np.array([[1.0, 0.2], [0.0, 0.7]]))
    found = companion_covariance(problem, single, 8, "online", [0, 3, 7])
    x = ss.solver.gradient_covariance(problem, problem.minimum, 8)  # by the solver's own route
    h, p, none = problem.hessian(), np.asarray(single.preconditioner), np.zeros((2, 2))
    paths, speeds, position = [], [], []  # what the noise of every step has become
    for t in range(8):
        position.append(sum((path @ x @ path.T for path in paths), none))
        speeds = [0.5 * speed + h @ path for speed, path in zip(speeds, paths, strict=True)] + [np.eye(2)]
        paths = [path - 0.2 / (1 + t) * p @ speed for path, speed in zip([*paths, none], speeds, strict=True)]
    np.testing.assert_allclose(found, (position[0] + position[3] + position[7]) / 3, rtol=1e-12)


@pytest.mark.slow
def test_a_statistic_that_looks_back_sees_the_problem_alone():
    how = {"batch_size": 8, "chains": 64, "steps": 60, "burn_in": 20,
           "statistics": [ss.statistics.Moments(), ss.statistics.Autocovariance([3])]}  # fmt: skip
    alone, coupled = (ss.simulate(PROBLEMS["gaussian"][0], ss.SGD(0.1), control_variate=both, **how)
                      for both in (False, True))  # fmt: skip
    assert alone.autocovariance_3.shape == (2, 2)
    np.testing.assert_allclose(coupled.autocovariance_3, alone.autocovariance_3, rtol=1e-4)


@pytest.mark.parametrize(
    ("problem", "optimizer", "options", "why"),
    [
        (PROBLEMS["gaussian"][0], ss.Adam(0.1), {}, "SGD"),
        (PROBLEMS["with_replacement"][0], ss.SGD(0.1), {"sampling": "epochs"}, "epochs"),
        (ss.Ellipse(2.0, 1.0), ss.SGD(0.1), {}, "Ellipse"),
        (PROBLEMS["gaussian"][0], ss.SGD(0.1), {"statistics": (ss.statistics.Losses(),)}, "Moments"),
    ],
)
def test_where_there_is_no_companion(problem, optimizer, options, why):
    with pytest.raises(ValueError, match=why):
        ss.simulate(problem, optimizer, batch_size=2, chains=8, steps=10, control_variate=True, **options)
