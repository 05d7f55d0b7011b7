import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.statistics import Autocovariance, IterateAverage, Measurement, ParameterEMA

D, CHAINS, GROUPS, STEPS = 2, 8, 4, 9
PATH = np.random.default_rng(1).normal(size=(STEPS, D, CHAINS))


def measured(statistic, at=range(STEPS)):
    """Of a path known in full, in double precision."""
    with jax.enable_x64(True):
        memory = statistic.begin(jnp.asarray(PATH[0]))
        sums = statistic.init(D, GROUPS, np.float64)
        centre = np.array([0.3, -0.2])
        for t, params in enumerate(PATH):
            memory = statistic.remember(memory, jnp.asarray(params))
            if t in at:
                counted = jnp.ones((CHAINS // GROUPS, GROUPS))
                now = Measurement(jnp.asarray(params).reshape(D, -1, GROUPS), None, counted, jnp.asarray(centre), None,
                                  memory)
                sums = statistic.update(sums, now)
        host = jax.tree.map(np.asarray, sums)
    return statistic.finalize(statistic.collect(host, np.tile(centre, (GROUPS, 1))))


def test_autocovariances_are_sums_over_the_path():
    found = measured(Autocovariance([0, 3]))
    for h in (0, 3):
        x, y = PATH[h:], PATH[: STEPS - h]
        x, y = x - x.mean(axis=(0, 2))[:, None], y - y.mean(axis=(0, 2))[:, None]
        direct = np.einsum("tdc,tec->de", x, y) / (len(x) * CHAINS)
        np.testing.assert_allclose(found[f"autocovariance_{h}"][0], direct, rtol=1e-12)


def test_averages_of_stretches():
    found = measured(IterateAverage(4), at=(3, 8))
    means = np.concatenate([PATH[:4].mean(axis=0), PATH[4:8].mean(axis=0)], axis=1)
    np.testing.assert_allclose(found["average_4_mean"][0], means.mean(axis=1), rtol=1e-12)


def test_exponential_average():
    found, a = measured(ParameterEMA(0.7), at=(8,)), PATH[0]
    for params in PATH:
        a = 0.7 * a + 0.3 * params
    np.testing.assert_allclose(found["ema_0.7_mean"][0], a.mean(axis=1), rtol=1e-12)


def test_simulation_agrees_with_theory(assert_within_sigma):
    problem, optimizer = ss.LinearRegression([[1.0, 0.3], [0.3, 0.5]], label_noise=0.5), ss.SGD(0.15, 0.6)
    chosen = [ss.statistics.Moments(), Autocovariance([0, 7]), IterateAverage(30), ParameterEMA(0.8)]
    result = ss.simulate(problem, optimizer, batch_size=4, chains=8000, steps=560, burn_in=200, seed=2,
                         statistics=chosen)
    theory = ss.predict(problem, optimizer, batch_size=4)
    expected = {
        "autocovariance_0": theory.covariance,
        "autocovariance_7": theory.autocovariance([7])[0],
        "average_30_covariance": theory.averaged(30).covariance,
        "ema_0.8_covariance": theory.ema(0.8).covariance,
    }
    for name, law in expected.items():
        value, stderr = result.quantities[name]
        assert_within_sigma(value, law, stderr, 16)
    value, stderr = result.quantities["average_30_covariance"]
    with pytest.raises(AssertionError):
        assert_within_sigma(np.diag(value), 1.03 * np.diag(expected["average_30_covariance"]), np.diag(stderr), 16)
    report = ss.compare(result, theory)
    assert report.agrees and {"autocovariance_7", "ema_0.8_covariance"} <= set(report.entries), report.table()


BAD = {
    "lag": (lambda: Autocovariance([-1]), "lags is -1"),
    "lags": (lambda: Autocovariance([]), "lags is"),
    "steps": (lambda: IterateAverage(0), "steps is 0"),
    "decay": (lambda: ParameterEMA(1.0), "decay is 1.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    make, match = BAD[name]
    with pytest.raises(ValueError, match=match):
        make()
