import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver.stationary.adaptive_decay import decoupled_law
from sgdsim.solver.stationary.adaptive_law import adaptive_setting

PROBLEM = ss.LinearRegression([1.0, 0.6, 0.3], [1.0, -1.0, 2.0], label_noise=0.6)
SHEET = {  # rate, b1, gamma, b: the mean in mean field, and by how much its trace of Sigma exceeds that of 2,000 chains
    (0.02, 0.9, 0.3, 8): ([0.93364602, -0.91646959, 1.74327698], 1.0090),
    (0.01, 0.0, 0.1, 8): ([0.97870646, -0.9727596, 1.92286634], 1.0031),
    (0.05, 0.9, 1.0, 32): ([0.7892754, -0.75723244, 0.95121852], 1.0176),
}


def adamw(rate, b1, gamma):
    return ss.AdamW(rate, b1, 0.999, weight_decay=gamma)


@pytest.mark.parametrize("setting", SHEET)
def test_the_sheet(setting):
    rate, b1, gamma, b = setting
    mean, ratio = SHEET[setting]
    field = ss.predict(PROBLEM, adamw(rate, b1, gamma), batch_size=b, approximation="mean_field")
    np.testing.assert_allclose(field.mean, mean, rtol=0, atol=6e-9)
    law = ss.predict(PROBLEM, adamw(rate, b1, gamma), batch_size=b)
    # the correction is what the mean field is off by, and the stated errors cover what is left
    assert np.trace(field.covariance) / np.trace(law.covariance) == pytest.approx(ratio, abs=0.004)
    assert law.theory_error < 0.005
    assert 0.5 * (ratio - 1) < field.theory_error < 0.1


def test_without_decay_it_is_adam():
    tiny = ss.predict(PROBLEM, adamw(0.02, 0.9, 1e-9), batch_size=8, approximation="mean_field")
    adam = ss.predict(PROBLEM, ss.Adam(0.02), batch_size=8, approximation="mean_field")
    np.testing.assert_allclose(tiny.covariance, adam.covariance, rtol=1e-6, atol=1e-15)
    none = ss.predict(PROBLEM, ss.AdamW(0.02, weight_decay=0.0), batch_size=8)
    np.testing.assert_array_equal(none.covariance, ss.predict(PROBLEM, ss.Adam(0.02), batch_size=8).covariance)


def test_a_preconditioner_that_does_not_adapt_is_the_linear_theory():
    """At exponent 0 the step is that of an EMA with decoupled decay: nothing is approximate."""
    import optax

    optimizer = ss.AdamE(0.1, b1=0.6, exponent=0.0, eps=0.0, weight_decay=0.3)
    linear = optax.chain(optax.ema(0.6), optax.add_decayed_weights(0.3), optax.scale(-0.1))
    law, other = ss.predict(PROBLEM, optimizer, batch_size=4), ss.predict(PROBLEM, linear, batch_size=4)
    np.testing.assert_allclose(law.mean, other.mean, rtol=1e-9)
    np.testing.assert_allclose(law.covariance, other.covariance, rtol=1e-9)


CASES = {
    "adamw": (PROBLEM, adamw(0.02, 0.9, 0.3), 8),
    "blocks": (PROBLEM, ss.AdamMini(0.03, [[0, 1], [2]], b2=0.99, weight_decay=0.2), 16),
    "rmsprop": (PROBLEM, ss.RMSProp(0.01, b2=0.995, weight_decay=0.3), 8),
    "strong decay": (ss.LinearRegression([1.0], [1.0], label_noise=0.5),
                     ss.AdamW(0.02, 0.0, 0.998, weight_decay=2.0), 4),
}


SLOW = {"blocks", "rmsprop", "strong decay"}


@pytest.mark.parametrize("decay", [0.3, 2.0])
def test_the_fluctuation_of_v_where_the_weights_stand_still(decay):
    """Cov(g_i^2, g_j^2) of one example by quadrature, mean gradient and skewness included; small steps hardly move."""
    a, teacher, sigma, b2 = np.array([1.0, 0.4]), np.array([1.0, -2.0]), 0.5, 0.5
    problem = ss.LinearRegression(a, teacher, label_noise=sigma)
    setting = adaptive_setting(problem, ss.AdamW(1e-5, 0.0, b2, weight_decay=decay), 1, None)
    law = decoupled_law(problem, setting, False)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    grid = np.array(list(itertools.product(nodes, repeat=3)))
    weight = np.prod(list(itertools.product(weights / weights.sum(), repeat=3)), axis=1)
    x = grid[:, :2] * np.sqrt(a)
    squares = (x * (x @ law.mean_shift - sigma * grid[:, 2])[:, None]) ** 2
    mean = weight @ squares
    expected = (squares * weight[:, None]).T @ squares / np.outer(mean, mean) - 1
    np.testing.assert_allclose(law.second_moment, mean, rtol=1e-4)
    np.testing.assert_allclose(law.fluctuation, (1 - b2) / (1 + b2) * expected, rtol=1e-3)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES])
def test_simulation_agrees_within_the_stated_error(name):
    problem, optimizer, b = CASES[name]
    law = ss.predict(problem, optimizer, batch_size=b)
    result = ss.simulate(problem, optimizer, batch_size=b, chains=2000, steps=6000, burn_in=3000, initial=law.mean,
                         seed=4)
    report = ss.compare(result, law)
    assert not report.disagrees, report.table()
    ratio = np.trace(result.covariance) / np.trace(law.covariance)
    stderr = np.sqrt(np.sum(np.diag(result.covariance_stderr) ** 2)) / np.trace(law.covariance)
    assert abs(ratio - 1) < law.theory_error + 4 * stderr < 0.03


def slow(optimizer):
    return ss.solver.manifold.slow_ode(ss.Ellipse(2.0, 1.0), optimizer, [2.0, 0.0], times=[1.0])


BAD = {
    "adaptive_law": (lambda: ss.solver.stationary.adaptive_law(PROBLEM, adamw(0.1, 0.9, 0.1), batch_size=4),
                     NotImplementedError, "weight_decay"),
    "schedule": (lambda: ss.predict(PROBLEM, ss.AdamW(lambda t: 0.1 / (1.0 + jnp.sqrt(t))), batch_size=4),
                 NotImplementedError, "constant rate"),
    "slow dynamics": (lambda: slow(ss.AdamE(0.1, weight_decay=0.1)), NotImplementedError, "weight_decay"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    ask, kind, match = BAD[name]
    with pytest.raises(kind, match=match):
        ask()
