import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.statistics import LargestDeviations
from sgdsim.statistics.base import Measurement
from sgdsim.statistics.largest import TailSums, joint_tail

GROUPS, MEMBERS, D = 5, 30, 3
CENTRE = np.array([1.0, -2.0, 0.5], np.float32)


class Bowl:
    minimum = CENTRE


def measure(statistic, params, alive=None, problem=Bowl):
    """Feed (times, D, members, groups) to a statistic."""
    sums = statistic.init(D, GROUPS, np.float32)
    weight = np.ones(params.shape[2:], np.float32) if alive is None else alive.astype(np.float32)
    update = jax.jit(lambda sums, at: statistic.update(sums, Measurement(at, None, weight, None, problem)))
    for at in params:
        sums = update(sums, at)
    return TailSums(*(np.asarray(x, np.float64) for x in sums))


def by_group(params, keep):
    """The same by sorting everything."""
    deviations = np.linalg.norm(params.astype(np.float64) - CENTRE[:, None, None], axis=1)
    rows = np.moveaxis(deviations, 2, 0).reshape(GROUPS, -1)
    return -np.sort(-rows, axis=1)[:, :keep]


@pytest.mark.parametrize("keep", [1, 16, 100])
def test_it_keeps_the_largest(rng, keep):
    params = rng.standard_t(2, size=(9, D, MEMBERS, GROUPS)).astype(np.float32)
    totals = measure(LargestDeviations(keep=keep), params)
    np.testing.assert_allclose(totals.largest, by_group(params, keep), rtol=1e-6)
    np.testing.assert_array_equal(totals.seen, 9 * MEMBERS)


def test_two_stretches_merge_into_the_whole(rng):
    params = rng.standard_t(2, size=(9, D, MEMBERS, GROUPS)).astype(np.float32)
    statistic = LargestDeviations(keep=20)
    joined = statistic.merge(measure(statistic, params[:4]), measure(statistic, params[4:]))
    for a, b in zip(joined, measure(statistic, params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_joint_tail_is_complete(rng):
    params = rng.standard_t(2, size=(9, D, MEMBERS, GROUPS)).astype(np.float32)
    tail = joint_tail(measure(LargestDeviations(keep=20), params))
    everything = np.sort(by_group(params, 9 * MEMBERS).ravel())[::-1]
    np.testing.assert_allclose(tail.deviations, everything[: len(tail.deviations)], rtol=1e-6)
    assert 20 <= len(tail.deviations) < 20 * GROUPS and tail.seen == 9 * MEMBERS * GROUPS
    for g in range(GROUPS):
        mine = tail.deviations[tail.group == g]
        np.testing.assert_allclose(mine, by_group(params, 20)[g, : len(mine)], rtol=1e-6)


def test_fewer_than_room_for_are_all_there(rng):
    params = rng.normal(size=(2, D, MEMBERS, GROUPS)).astype(np.float32)
    tail = joint_tail(measure(LargestDeviations(keep=100), params))
    np.testing.assert_allclose(tail.deviations, np.sort(by_group(params, 60).ravel())[::-1], rtol=1e-6)


def test_dead_chains_do_not_count(rng):
    params = rng.normal(size=(4, D, MEMBERS, GROUPS)).astype(np.float32)
    alive = rng.random((MEMBERS, GROUPS)) < 0.7
    totals = measure(LargestDeviations(keep=1000), np.where(alive, params, np.nan), alive)
    kept = joint_tail(totals).deviations
    deviations = np.linalg.norm(params - CENTRE[:, None, None], axis=1)[:, alive]
    np.testing.assert_allclose(kept, np.sort(deviations.ravel())[::-1], rtol=1e-6)
    assert totals.seen.sum() == 4 * alive.sum()


def test_a_problem_without_a_known_minimum_starts_somewhere(rng):
    class Network:
        minimum = None
        default_start = CENTRE

    params = rng.normal(size=(2, D, MEMBERS, GROUPS)).astype(np.float32)
    one, other = (measure(LargestDeviations(keep=10), params, problem=p) for p in (Bowl, Network))
    np.testing.assert_array_equal(one.largest, other.largest)


def run(rate=0.3, **options):
    problem = ss.LinearRegression([1.0, 0.5], teacher=[1.0, 2.0], label_noise=1.0)
    settings = {"batch_size": 1, "chains": 1_000, "steps": 150, "burn_in": 50, "seed": 3, **options}
    return ss.simulate(problem, ss.SGD(rate), progress=False, **settings)


@pytest.mark.cpu
def test_a_run_keeps_the_largest_over_chains_and_steps():
    """Steps 50 to 149 one by one, as time series of one step each, hold the maximum that the tail begins with."""
    result = run()
    starts = [run(steps=t + 1, burn_in=t).tail[0] for t in (50, 75, 149)]
    assert result.tail[0] >= max(starts)
    assert np.all(np.diff(result.tail) <= 0) and result.tail_seen == 100 * 1_000
    assert len(result.tail) == len(result.tail_group) >= 128
    last = run(steps=150, burn_in=149).tail  # measured before the last step is taken
    before = np.linalg.norm(run(steps=149, burn_in=148).final - [1.0, 2.0], axis=1)
    np.testing.assert_allclose(last, np.sort(before)[::-1][: len(last)], rtol=1e-5)


@pytest.mark.cpu
def test_devices_do_not_matter():
    one, two = run(devices=1), run(devices=2)
    np.testing.assert_array_equal(one.tail, two.tail)
    np.testing.assert_array_equal(one.tail_group, two.tail_group)


def test_recorded_steps_leave_the_tail_alone():
    result = run(record=10)
    assert "tail" not in result.record and result.tail_seen == 90 * 1_000


def test_a_result_estimates_its_tail_index():
    result = run()
    found = result.tail_index()
    assert found.low < found.value < found.high and found.method == "hill"
    assert found == ss.estimators.tail_index(result.tail, groups=result.tail_group, total=int(result.tail_seen))
    assert result.tail_index(method="moment", confidence=0.5).confidence == 0.5


def test_a_saved_result_has_the_same_tail_index(tmp_path):
    pytest.importorskip("h5netcdf")
    result = run()
    again = ss.load(result.save(tmp_path / "result.nc"))
    np.testing.assert_array_equal(again.tail, result.tail)
    np.testing.assert_array_equal(again.tail_group, result.tail_group)
    assert again.tail_seen == result.tail_seen and again.tail_index() == result.tail_index()


def test_without_a_tail_there_is_no_index():
    with pytest.raises(ValueError, match="LargestDeviations"):
        run(statistics=[ss.statistics.Moments()]).tail_index()


def test_diverged_chains_are_no_tail():
    result = run(rate=30.0)
    assert result.diverged
    with pytest.raises(ValueError, match="diverged"):
        result.tail_index()
