import numpy as np
import pytest

from sgdsim.engine.plan.blocks import plan_blocks
from sgdsim.engine.plan.devices import check_dtype
from sgdsim.engine.plan.schedule import default_thin, last_look, plan_segments, thin_across


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("dimension", [1, 10, 1000])
@pytest.mark.parametrize("chains", [1, 2, 3, 63, 64, 65, 1000, 10_000, 123_457, 1_000_000])
def test_every_chain_has_a_place_and_a_group(chains, dimension, backend):
    blocks = plan_blocks(chains, dimension, backend)
    assert blocks.valid.sum() == chains
    assert np.ptp(blocks.valid) <= 1
    assert blocks.valid.max() <= blocks.size < blocks.valid.max() + blocks.groups
    assert blocks.size % blocks.groups == 0
    assert chains == 1 or blocks.number % 2 == 0
    assert blocks.groups <= blocks.valid.min(), "a group without a chain"
    if chains >= 128:
        assert blocks.number * blocks.groups >= 64


@pytest.mark.parametrize(
    ("steps", "burn_in", "record"),
    [(1, 0, []), (7, 3, [0, 3, 6]), (1000, 0, []), (1003, 17, [0, 1, 2, 500, 1002]), (50_000, 49_999, [3])],
)
@pytest.mark.parametrize("numbers", [10, 10**7, 10**10])
def test_segments_cover_every_step_once(steps, burn_in, record, numbers):
    thin = default_thin(steps - burn_in, 10)
    plan = list(plan_segments(steps, burn_in, thin, True, record, numbers))
    at = 0
    for segment in plan:
        assert segment.start == at and segment.rounds > 0 and segment.inner > 0
        assert segment.record or not (segment.measure and segment.start < burn_in)
        at = segment.stop
    assert at == steps
    assert [s.start for s in plan if s.record] == record
    assert all(s.rounds == s.inner == 1 for s in plan if s.record)
    ends = [s.stop for s in plan if s.snapshot]
    assert ends == sorted({burn_in + (steps - burn_in) * k // 8 for k in range(1, 9)} - {burn_in})


@pytest.mark.parametrize(("steps", "burn_in", "record", "periods"), [
    (3000, 1000, [], [10]),
    (3000, 1000, list(range(0, 3000, 10)), [10]),  # the record takes nothing away
    (500, 101, [150, 151, 200], [4, 6]),
    (3000, 1000, [7], [45]),
    (57, 0, [], [10]),
])
@pytest.mark.parametrize("numbers", [10, 10**7])
def test_all_places_of_a_period_are_measured_as_often(steps, burn_in, record, periods, numbers):
    thin = thin_across(default_thin(steps - burn_in, 10), periods)
    until = last_look(steps, burn_in, thin, periods)
    plan = list(plan_segments(steps, burn_in, thin, True, record, numbers, until=until))
    assert [s.start for s in plan] == [0, *(s.stop for s in plan[:-1])] and plan[-1].stop == steps
    counted = [s.start + r * s.inner for s in plan if s.measure and s.counts for r in range(s.rounds)]
    assert counted == list(range(burn_in, until, thin)), "as far apart across the ends of stretches as within"
    assert [s.start for s in plan if s.record] == record
    for period in periods:
        places = np.bincount(np.array(counted) % period, minlength=period)
        assert np.ptp(places) == 0 and places.sum() > 0.5 * (steps - burn_in) / thin
    ends = [s.stop for s in plan if s.snapshot]
    assert ends == sorted({burn_in + (steps - burn_in) * k // 8 for k in range(1, 9)} - {burn_in})


def test_longer_periods_than_there_are_looks_are_met_evenly():
    thin = thin_across(10, [225])
    assert thin == 11 and last_look(3000, 1000, thin, [225]) == 3000
    plan = plan_segments(3000, 1000, thin, True, [], 10, until=3000)
    counted = np.array([s.start + r * s.inner for s in plan if s.measure for r in range(s.rounds)])
    assert len(set(counted % 225)) == len(counted)
    assert [thin_across(t, None) for t in (1, 2, 4, 5, 10, 60)] == [1, 3, 7, 7, 11, 61]


def test_measurements_are_thinned_but_never_to_a_few():
    assert default_thin(100_000, 2) == 10
    assert default_thin(100_000, 100) == 60
    assert default_thin(500, 50) == 5 and default_thin(500, 100) == 10
    assert default_thin(3, 2) == 1
    plan = list(plan_segments(5000, 1000, 10, True, [], 10))
    assert sum(s.rounds for s in plan if s.measure) == 400
    halves = [sum(s.rounds for s in plan if s.measure and s.half == h) for h in (0, 1)]
    assert halves == [200, 200]


def test_double_precision_is_refused_where_the_compiler_refuses_it():
    for platform, dtype in (("tpu", np.float32), ("cpu", np.float64), ("gpu", np.float64)):
        check_dtype(platform, np.dtype(dtype))
    with pytest.raises(ValueError, match=r"dtype is 'float64'.*'float32' on a TPU"):
        check_dtype("tpu", np.dtype(np.float64))
