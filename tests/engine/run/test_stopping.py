import numpy as np
import pytest

import sgdsim as ss
from sgdsim.engine.run import stopping

BOWL = ss.Quadratic(hessian=[1.0], example_noise_covariance=[1.0])
RATE = 0.5
VARIANCE = RATE**2 / (1 - (1 - RATE) ** 2)  # 1/3: the stationary variance of this bowl
RUN = {"batch_size": 1, "chains": 128, "steps": 12_800, "burn_in": 0, "statistics": [ss.statistics.Moments()]}
# An exact draw from the stationary law: no transient to settle.
START = np.random.default_rng(5).normal(size=(128, 1)) * np.sqrt(VARIANCE)


def run(target, **rest):
    return ss.simulate(BOWL, ss.SGD(RATE), **RUN | {"initial": START} | rest, target_stderr=target)


@pytest.mark.cpu
def test_it_stops_early_and_says_so():
    result = run(0.03)
    how = result.provenance
    assert result.status == "ok" and how["stopped"] == "target_stderr reached"
    assert how["target_stderr"] == {"covariance": 0.03}
    assert how["steps_done"] in [12_800 >> k for k in range(1, 5)]
    assert result.covariance_stderr[0, 0] / result.covariance[0, 0] < 0.03
    assert abs(result.covariance[0, 0] / VARIANCE - 1) < 4 * 0.03
    assert np.isfinite(result.rhat).all(), "both halves of what was measured are there"
    # The chains are those of a run of just so many steps.
    plain = run(None, steps=how["steps_done"])
    np.testing.assert_array_equal(result.final, plain.final)


def test_a_smaller_target_takes_longer_and_one_out_of_reach_all_steps():
    loose, tight, never = (run(target).provenance for target in (0.05, 0.015, 1e-6))
    assert loose["steps_done"] < tight["steps_done"] < never["steps_done"] == 12_800
    assert tight["stopped"] == "target_stderr reached" and never["stopped"] == "all steps"
    assert loose["relative_stderr"]["covariance"] < 0.05
    assert 1e-6 < never["relative_stderr"]["covariance"] < tight["relative_stderr"]["covariance"]


def test_every_quantity_of_a_mapping_must_be_met():
    both = {"covariance": 0.5, "kurtosis": 0.01}
    result = run(both)
    assert result.provenance["steps_done"] > run({"covariance": 0.5}).provenance["steps_done"]
    assert result.kurtosis_stderr[0] / result.kurtosis[0] < 0.01


def test_a_transient_is_not_taken_for_precision():
    """128 equal starts far away agree with each other very well, and slowly move on."""
    result = ss.simulate(BOWL, ss.SGD(1e-5), **RUN | {"initial": [1.0]}, target_stderr=0.5)
    assert result.provenance["stopped"] == "all steps" and result.rhat.max() > 1.05


def test_a_stopped_run_is_at_its_end_for_a_checkpoint_too(tmp_path):
    first = run(0.03, checkpoint=tmp_path)
    again = run(0.03, checkpoint=tmp_path)
    assert again.provenance["resumed_from_step"] == again.provenance["steps_done"] == first.provenance["steps_done"]
    assert again.provenance["stopped"] == "target_stderr reached"
    np.testing.assert_array_equal(first.covariance, again.covariance)
    np.testing.assert_array_equal(first.rhat, again.rhat)


def test_the_error_of_a_trace_counts_what_its_parts_share(rng):
    """The jackknife against the plain formula for a mean over groups."""
    from sgdsim.statistics.losses import LossSums

    values = rng.normal(size=64) + 10
    totals = [LossSums(np.full(64, 5.0), values * 5, values * 5)]
    found = stopping.relative_errors([ss.statistics.Losses()], totals, ["test_loss"])["test_loss"]
    np.testing.assert_allclose(found, values.std(ddof=1) / 8 / values.mean(), rtol=1e-9)


@pytest.mark.parametrize(("statistic", "names"), [
    (ss.statistics.Moments(), ["mean", "covariance", "kurtosis"]),
    (ss.statistics.Moments(full=False), ["mean", "variance", "kurtosis"]),
    (ss.statistics.Losses(), ["train_loss", "test_loss"]),
    (ss.statistics.GradientNoise(), ["noise_covariance"]),
    (ss.statistics.LargestDeviations(), []),
    (ss.statistics.ProductMoments(ss.TwoLayerLinear([[1.0]], [[1.0]])), ["product_mean", "product_covariance"]),
], ids=repr)
def test_what_is_measured_can_be_a_target_and_nothing_else(statistic, names):
    how = {"batch_size": 1, "chains": 4, "steps": 10, "initial": np.zeros(2), "statistics": [statistic]}
    problem = ss.Quadratic(hessian=[1.0, 1.0], example_noise_covariance=[1.0, 1.0])
    for name in names:
        assert ss.simulate(problem, ss.SGD(RATE), **how, target_stderr={name: 0.1}).provenance["target_stderr"] == {
            name: 0.1
        }
    with pytest.raises(ValueError, match=r"target_stderr is .*ess"):
        ss.simulate(problem, ss.SGD(RATE), **how, target_stderr={"ess": 0.1})


def _replicas(count):
    """z-scores and relative errors of runs that stop themselves, each with its own seed and start."""
    z, errors, steps = [], [], []
    for seed in range(count):
        start = np.random.default_rng(seed).normal(size=(128, 1)) * np.sqrt(VARIANCE)
        result = run(0.0125, seed=seed, initial=start, devices=1)
        value = result.covariance[0, 0]
        z.append((value - VARIANCE) / result.covariance_stderr[0, 0])
        errors.append(value / VARIANCE - 1)
        steps.append(result.provenance["steps_done"])
    return np.array(z), np.array(errors), np.array(steps)


@pytest.mark.slow
def test_intervals_cover_after_stopping_and_errors_keep_their_promise():
    count = 400
    z, errors, steps = _replicas(count)
    assert len(set(steps)) > 1, "the moment of stopping must be random for this to test anything"
    assert steps.max() < RUN["steps"]
    for level, k in ((0.6827, 1.0), (0.95, 1.96)):
        covered = (np.abs(z) < k).mean()
        assert abs(covered - level) < 3.9 * np.sqrt(level * (1 - level) / count), (level, covered)
        # intervals a fifth too short are found out
        short = (np.abs(z) < 0.7 * k).mean()
        assert abs(short - level) > 3.9 * np.sqrt(level * (1 - level) / count)
    # The promise: the true relative standard error is below the target (a mean square has error sqrt(2/count)).
    assert np.sqrt((errors**2).mean()) < 0.0125 * (1 + 3.9 / np.sqrt(2 * count))
