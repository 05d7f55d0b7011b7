"""Adam by its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import sgdsim as ss


def test_adam_follows_its_definition(rng):
    rate, b1, b2, eps = 0.05, 0.8, 0.9, 1e-3
    gradients = rng.normal(size=(25, 2))
    m, v, w = np.zeros(2), np.zeros(2), np.zeros(2)
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    with jax.enable_x64(True):
        transformation = ss.Adam(rate, b1, b2, eps).as_optax()
        x = jnp.zeros(2)
        state = transformation.init(x)
        for g in gradients:
            update, state = transformation.update(jnp.asarray(g), state, x)
            x = x + update
    np.testing.assert_allclose(x, w, rtol=1e-12)


def test_the_first_step_has_the_size_of_the_learning_rate():
    transformation = ss.Adam(0.1).as_optax()
    g = jnp.array([1e-3, -50.0])
    update, _ = transformation.update(g, transformation.init(g), g)
    np.testing.assert_allclose(update, [-0.1, 0.1], rtol=1e-4)


def test_a_long_run_keeps_its_bias_correction_finite():
    """At a million updates 1 - b^t is 1 in every dtype; nothing overflows."""
    transformation = ss.Adam(0.1).as_optax()
    g = jnp.ones(1)
    state = transformation.init(g)._replace(m=g, v=g, count=jnp.array(10**6, jnp.int32))
    update, _ = transformation.update(g, state, g)
    np.testing.assert_allclose(update, [-0.1], rtol=1e-4)
