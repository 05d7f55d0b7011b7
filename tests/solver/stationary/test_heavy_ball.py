import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.solver.stationary import stationary_covariance


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.95])
def test_solves_the_generalised_equation(mu):
    rng = np.random.default_rng(0)
    h, c = (x @ x.T for x in rng.normal(size=(2, 3, 3)))
    el = 0.02 * (np.eye(3) + 0.5 * rng.normal(size=(3, 3)))  # neither symmetric nor commuting
    s = stationary_covariance(h, c, el, mu)
    m = el @ h
    left = (1 - mu) * (m @ s + s @ m.T) - (1 + mu**2) / (1 - mu**2) * m @ s @ m.T
    left += mu / (1 - mu**2) * (m @ m @ s + s @ m.T @ m.T)
    np.testing.assert_allclose(left, el @ c @ el.T, rtol=0, atol=1e-12 * np.abs(left).max())
    wrong = left + 0.03 * (1 - mu) * (m @ s + s @ m.T)
    assert np.abs(wrong - el @ c @ el.T).max() > 1e-3 * np.abs(left).max()


def test_critical_damping():
    mu, h = 0.25, 2.0
    rate = (1 - np.sqrt(mu)) ** 2 / h  # both roots equal sqrt(mu)
    s = stationary_covariance(h * np.eye(1), np.eye(1), rate * np.eye(1), mu)[0, 0]
    np.testing.assert_allclose(s, rate * (1 + mu) / ((1 - mu) * h * (2 * (1 + mu) - rate * h)), rtol=1e-13)


def test_unstable_is_refused_and_traced_gradients_exist():
    with pytest.raises(ValueError, match="spectral radius"):
        stationary_covariance(np.eye(2), np.eye(2), 2.5 * np.eye(2))

    def spread(rate, mu):
        return stationary_covariance(jnp.eye(1), jnp.eye(1), rate * jnp.eye(1), mu)[0, 0]

    with jax.enable_x64(True):
        d_rate, d_mu = jax.grad(spread, (0, 1))(0.3, 0.5)
        h = 1e-6
        np.testing.assert_allclose(d_rate, (spread(0.3 + h, 0.5) - spread(0.3 - h, 0.5)) / (2 * h), rtol=1e-6)
        np.testing.assert_allclose(d_mu, (spread(0.3, 0.5 + h) - spread(0.3, 0.5 - h)) / (2 * h), rtol=1e-6)
