import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.statistics.base import add, grouped_mean

PROBLEM = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
SMALL = {"batch_size": 16, "chains": 300, "steps": 400, "burn_in": 100}


def same(a, b):
    np.testing.assert_equal(a.quantities, b.quantities)
    for field in dataclasses.fields(a):
        if field.name not in ("provenance", "record", "quantities"):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


@pytest.mark.cpu
def test_the_seed_fixes_every_bit_on_any_number_of_devices():
    assert jax.local_device_count() >= 2
    one = ss.simulate(PROBLEM, ss.SGD(0.3, momentum=0.5), **SMALL, seed=7, devices=1)
    two = ss.simulate(PROBLEM, ss.SGD(0.3, momentum=0.5), **SMALL, seed=7, devices=2)
    same(one, two)
    other = ss.simulate(PROBLEM, ss.SGD(0.3, momentum=0.5), **SMALL, seed=8)
    assert not np.array_equal(one.final, other.final)


def test_chains_are_distinct():
    result = ss.simulate(PROBLEM, ss.SGD(0.3), **SMALL)
    assert len(np.unique(result.final, axis=0)) == SMALL["chains"]


def test_a_new_value_of_anything_compiles_nothing(compilations):
    ss.simulate(PROBLEM, ss.SGD(0.3), **SMALL)
    before = compilations()
    ss.simulate(
        ss.LinearRegression(covariance=[2.0, 0.7], label_noise=0.1, teacher=[1.0, 2.0]), ss.SGD(0.1),
        batch_size=64, chains=300, steps=777, burn_in=33, seed=5,
    )
    assert compilations() == before


@pytest.mark.parametrize(
    "make", [lambda: ss.Adam(0.01), pytest.param(lambda: ss.SGD(0.1, momentum=0.9), marks=pytest.mark.slow)]
)
def test_an_optax_transformation_gives_the_same_chains(make):
    """One copy for each chain, driven by the same gradients."""
    optimizer = make()
    twin = optax.adam(0.01) if isinstance(optimizer, ss.Adam) else optax.sgd(0.1, momentum=0.9)
    ours = ss.simulate(PROBLEM, optimizer, **SMALL, dtype="float64")
    theirs = ss.simulate(PROBLEM, twin, **SMALL, dtype="float64")
    np.testing.assert_allclose(ours.final, theirs.final, rtol=1e-9, atol=1e-12)


def test_a_transformation_that_mixes_parameters_acts_on_each_chain_alone():
    """Clipping by the global norm must see the norm of one chain, not of the ensemble."""
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    result = ss.simulate(PROBLEM, clipped, batch_size=4, chains=50, steps=1, initial=[5.0, 5.0])
    np.testing.assert_allclose(np.linalg.norm(result.final - 5.0, axis=1), 1e-3, rtol=1e-3)


def test_a_schedule_is_followed():
    """Full-batch descent on a noiseless bowl multiplies by 1 - rate(t) at every step."""
    bowl = ss.Quadratic(hessian=[1.0], example_noise_covariance=[0.0])
    result = ss.simulate(bowl, ss.SGD(lambda t: 0.5 / (1 + t)), batch_size=1, chains=2, steps=3, initial=[1.0])
    np.testing.assert_allclose(result.final[:, 0], 0.5 * 0.75 * (1 - 0.5 / 3), rtol=1e-6)


def test_the_record_is_a_time_series_of_the_ensemble(assert_within_sigma):
    """On a bowl the mean decays like (1 - rate h)^t and the variance obeys its own recursion."""
    rate, b, steps = 0.2, 4, [0, 1, 5, 20, 39]
    bowl = ss.Quadratic(hessian=[1.0, 0.5], example_noise_covariance=[1.0, 2.0])
    result = ss.simulate(bowl, ss.SGD(rate), batch_size=b, chains=20_000, steps=40, initial=[1.0, -1.0], record=steps)
    h, c = np.array([1.0, 0.5]), np.array([1.0, 2.0]) / b
    decay = (1 - rate * h) ** np.array(steps)[:, None]
    mean = decay * [1.0, -1.0]
    variance = rate**2 * c * (1 - decay**2) / (1 - (1 - rate * h) ** 2)
    np.testing.assert_array_equal(result.record["step"], steps)
    measured = np.diagonal(result.record["covariance"], axis1=1, axis2=2)
    stderr = np.diagonal(result.record["covariance_stderr"], axis1=1, axis2=2)
    np.testing.assert_allclose(result.record["mean"][0], mean[0], rtol=1e-6)
    assert_within_sigma(result.record["mean"][1:], mean[1:], result.record["mean_stderr"][1:], 16)
    assert_within_sigma(measured[1:], variance[1:], stderr[1:], 16)
    wrong = variance[1:] * 1.05
    with pytest.raises(AssertionError):
        assert_within_sigma(measured[1:], wrong, stderr[1:], 16)


def test_each_chain_may_start_elsewhere():
    start = np.arange(12.0).reshape(6, 2)
    result = ss.simulate(PROBLEM, ss.SGD(1e-6), batch_size=4, chains=6, steps=1, initial=start)
    np.testing.assert_allclose(result.final, start, atol=1e-3)


def test_divergence_is_counted_and_never_a_silent_nan():
    result = ss.simulate(PROBLEM, ss.SGD(5.0), batch_size=4, chains=200, steps=400)
    assert result.status == "diverged" and result.diverged == 200
    mixed = ss.simulate(
        ss.Quadratic([1.0], [1.0]), ss.SGD(0.5), batch_size=1, chains=100, steps=200, burn_in=100,
        initial=np.where(np.arange(100) < 30, 1e30, 0.0)[:, None],
    )
    assert mixed.diverged == 30 and mixed.status == "diverged"
    # the survivors are measured as if the others had never been
    assert abs(mixed.covariance[0, 0] - 1 / 3) < 6 * mixed.covariance_stderr[0, 0]


def test_a_huge_but_bounded_chain_has_not_diverged():
    bowl = ss.Quadratic([1.0], [1.0])
    result = ss.simulate(bowl, ss.SGD(1e-3), batch_size=1, chains=4, steps=1, initial=[9.9e17])
    assert result.diverged == 0
    result = ss.simulate(bowl, ss.SGD(1e-3), batch_size=1, chains=4, steps=1, initial=[1.1e18], dtype="float64")
    assert result.diverged == 4


def test_nothing_measured_and_a_statistic_of_ones_own():
    @ss.spec
    class LargestGradient:
        def init(self, dimension, groups, dtype):
            return jnp.zeros((groups,), dtype)

        def update(self, sums, at):
            return jnp.maximum(sums, at.masked(jnp.abs(at.gradient).max(axis=0)).max(axis=0))

        def collect(self, sums, centre):
            return sums

        def merge(self, a, b):
            return np.maximum(a, b)

        def finalize(self, totals):
            return {"largest_gradient": grouped_mean(totals, np.ones_like(totals))}

    bare = ss.simulate(PROBLEM, ss.SGD(0.3), **SMALL, statistics=())
    assert bare.mean is None and bare.covariance is None and bare.final.shape == (300, 2)
    own = ss.simulate(PROBLEM, ss.SGD(0.3), **SMALL, statistics=[LargestGradient()])
    assert own.quantities["largest_gradient"].value == own.largest_gradient > 0 and own.covariance is None
    assert add(np.ones(2), np.ones(2)).tolist() == [2, 2]


def test_double_precision_leaves_the_default_alone():
    result = ss.simulate(PROBLEM, ss.SGD(0.3), **SMALL, dtype="float64")
    assert result.final.dtype == np.float64
    assert jnp.ones(1).dtype == jnp.float32


def test_interruption_keeps_what_was_measured(monkeypatch):
    from sgdsim.engine.run import loop

    real, calls = loop.advance, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(loop, "advance", interrupted)
    result = ss.simulate(PROBLEM, ss.SGD(0.3), **SMALL)
    assert result.status == "interrupted"
    assert 100 < result.provenance["steps_done"] < 400
    assert np.isfinite(result.covariance).all()


def test_many_parameters_keep_variances_only():
    wide = ss.Quadratic(np.ones(300), np.ones(300))
    result = ss.simulate(wide, ss.SGD(0.5), batch_size=1, chains=64, steps=60, burn_in=30)
    assert result.variance.shape == (300,)
    with pytest.raises(AttributeError, match=r"300 x 300 entries; read .variance"):
        _ = result.covariance


def test_rhat_sees_a_run_that_has_not_settled():
    slow = ss.simulate(PROBLEM, ss.SGD(0.002), batch_size=4, chains=500, steps=300, initial=[3.0, 3.0])
    settled = ss.simulate(PROBLEM, ss.SGD(0.3), batch_size=4, chains=500, steps=1000, burn_in=200)
    assert slow.rhat.min() > 1.05
    assert settled.rhat.max() < 1.02


def test_effective_sample_size_of_independent_draws(assert_within_sigma):
    """With rate 1 on a unit bowl successive steps are independent: every measurement counts fully."""
    result = ss.simulate(ss.Quadratic([1.0], [1.0]), ss.SGD(1.0), batch_size=1, chains=6400, steps=1100, burn_in=100)
    measured = 6400 * 1000 / result.provenance["thin"]
    # the variance of the mean comes from G groups: relative error sqrt(2 / (G - 1))
    groups = result.provenance["groups"]
    assert_within_sigma(result.ess / measured, 1.0, np.sqrt(2 / (groups - 1)))
