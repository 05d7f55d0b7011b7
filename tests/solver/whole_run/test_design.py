"""The designed schedule: exact, better than the usual ones, and what simulation of it and of them says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.whole_run import schedules
from sgdsim.solver.whole_run.design import _planner, _scored

PROBLEM = ss.LinearRegression([1.0, 0.3, 0.05], teacher=[1.0, -1.0, 2.0], label_noise=0.6)
STEPS = 80


@pytest.fixture(scope="module")
def found():
    return ss.design(PROBLEM, steps=STEPS, batch_size=4)


def test_it_beats_the_usual_schedules_by_what_it_says(found):
    assert found.converged
    assert list(found.others) == ["constant", "cosine", "linear"]
    for name, each in found.schedules.items():
        again = ss.predict_run(PROBLEM, each.optimizer, batch_size=each.batch_size, steps=STEPS, record=[STEPS])
        assert each.test_loss == pytest.approx(float(again.test_loss[0]), rel=1e-9)
        assert name == "designed" or each.test_loss > 1.05 * found.test_loss


def test_the_peaks_of_the_others_are_their_best(found):
    """On a grid of peaks, looked at one by one, none is better."""
    for each in found.others.values():
        for factor in (0.5, 0.8, 0.95, 1.05, 1.25, 2.0):
            rates = factor * np.asarray(each.optimizer.learning_rate.values)
            other = ss.predict_run(PROBLEM, ss.SGD(rates), batch_size=4, steps=STEPS, record=[STEPS])
            assert other.test_loss[0] > each.test_loss


def test_no_knot_is_better_elsewhere(found):
    """A local minimum: moving any part of the schedule by 20 % up or down loses."""
    rates = np.asarray(found.optimizer.learning_rate.values)
    places = schedules.knots(12)
    for knot in range(12):
        bump = np.interp((np.arange(STEPS) + 0.5) / STEPS, places, np.eye(12)[knot])
        for sign in (-0.2, 0.2):
            moved = ss.SGD(rates * np.exp(sign * bump))
            other = ss.predict_run(PROBLEM, moved, batch_size=4, steps=STEPS, record=[STEPS])
            assert other.test_loss[0] > found.test_loss * (1 - 1e-6)


def test_simulation_of_the_winner_and_the_runners_up(found, assert_within_sigma):
    simulated, stderr = [], []
    for each in found.schedules.values():
        result = ss.simulate(PROBLEM, each.optimizer, batch_size=4, chains=60_000, steps=STEPS + 1, record=[STEPS],
                             seed=1, progress=False)
        simulated.append(result.record["test_loss"][0])
        stderr.append(result.record["test_loss_stderr"][0])
    expected = np.array([each.test_loss for each in found.schedules.values()])
    assert_within_sigma(np.array(simulated), expected, np.array(stderr), 4)
    for i in range(4):
        with pytest.raises(AssertionError):
            assert_within_sigma(simulated[i], 1.03 * expected[i], stderr[i], 4)
    assert np.argmin(simulated) == 0


@pytest.fixture(scope="module")
def budget():
    return ss.design(PROBLEM, steps=STEPS, examples=320, optimizer=ss.SGD(1.0, momentum=0.5))


def test_batch_sizes_keep_the_budget_and_gain(found, budget):
    assert sum(budget.batch_size) == 320 and min(budget.batch_size) >= 1
    assert all(each.batch_size == 4 for each in budget.others.values())
    assert budget.test_loss < 1.001 * found.test_loss
    assert 0 < float(budget.optimizer.momentum) < 1


def test_a_gradient_is_that_of_the_loss():
    """What the descent follows against finite differences of `predict_run`."""
    x = np.log(np.linspace(0.4, 0.1, 12))

    def loss(x):
        rates = np.exp(np.interp((np.arange(STEPS) + 0.5) / STEPS, schedules.knots(12), x))
        run = ss.predict_run(PROBLEM, ss.SGD(rates), batch_size=4, steps=STEPS, record=[0, STEPS])
        return np.log(run.test_loss[1] / run.test_loss[0])

    with jax.enable_x64(True):
        plan = _planner(schedules.families(STEPS)["designed"], ss.SGD(1.0), STEPS, 4.0, 0)
        here, back = jax.vjp(plan, jnp.asarray(x))
        value, slope = _scored(PROBLEM, ss.SGD(1.0), STEPS, np.zeros(3))(here)
        gradient = np.asarray(back(slope)[0])
    assert float(value) == pytest.approx(loss(x), rel=1e-10)
    for i in (0, 5, 11):
        e = 1e-5 * np.eye(12)[i]
        assert gradient[i] == pytest.approx((loss(x + e) - loss(x - e)) / 2e-5, rel=1e-5, abs=1e-8)


def test_whole_sizes_keep_their_sum():
    size = np.asarray(schedules.sizes(np.array([0.0, 1.0, 2.0, -1.0, 0.3, 3.0]), 57, 5.5))
    rounded = schedules.whole(size)
    assert size.min() >= 1 and min(rounded) >= 1
    assert sum(rounded) == int(57 * 5.5)
    assert np.abs(np.cumsum(size) - np.cumsum(rounded)).max() <= 1.0


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_a_problem_without_noise_in_any_units(scale):
    """One example: a step of rate 1 / x^2 ends at the minimum, and there is no logarithm of its loss."""
    problem = ss.DatasetRegression([[scale]], [1.0])
    found = ss.design(problem, steps=3, batch_size=1)
    for each in found.schedules.values():
        rates = np.asarray(each.optimizer.learning_rate.values)
        assert np.isfinite(rates).all() and (rates > 0).all()
        assert abs(each.test_loss) < 1e-6 * float(problem.test_loss(problem.default_start))


@pytest.mark.slow
def test_batches_without_replacement(assert_within_sigma):
    """Their noise is less: other rates are best, batches end at the size of the data, and simulation agrees."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(12, 2))
    data = ss.DatasetRegression(x, x @ [1.0, -1.0] + rng.normal(size=12))
    drawn = ss.design(data, steps=20, batch_size=8)
    found = ss.design(data, steps=20, batch_size=8, sampling="without_replacement")
    assert found.test_loss < 0.8 * drawn.test_loss and found.configuration["sampling"] == "without_replacement"
    swapped = ss.predict_run(data, drawn.optimizer, batch_size=8, steps=20, sampling="without_replacement", record=[20])
    assert found.test_loss < 0.99 * swapped.test_loss[0]
    result = ss.simulate(data, found.optimizer, batch_size=8, chains=40_000, steps=21, record=[20], seed=2,
                         sampling="without_replacement", progress=False)
    simulated, stderr = result.record["test_loss"][0], result.record["test_loss_stderr"][0]
    assert_within_sigma(simulated, found.test_loss, stderr, 2)
    with pytest.raises(AssertionError):
        assert_within_sigma(simulated, 1.03 * found.test_loss, stderr, 2)
    free = ss.design(data, steps=20, examples=160, sampling="without_replacement")
    assert max(free.batch_size) <= 12 and sum(free.batch_size) <= 160 and free.test_loss < found.test_loss


@pytest.mark.slow
def test_preconditioner_and_nesterov_stay():
    given = ss.SGD(1.0, 0.5, preconditioner=[1.0, 2.0, 4.0], nesterov=True)
    found = ss.design(PROBLEM, steps=20, batch_size=4, optimizer=given)
    assert found.optimizer.nesterov and list(found.optimizer.preconditioner) == [1.0, 2.0, 4.0]
    assert dataclasses.is_dataclass(found) and "designed" in repr(found)
