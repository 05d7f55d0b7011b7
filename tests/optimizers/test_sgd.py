"""SGD in closed form, written out by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss


def run(optimizer, gradients):
    transformation = optimizer.as_optax()
    w = jnp.zeros(gradients.shape[1:])
    state = transformation.init(w)
    for gradient in gradients:
        update, state = transformation.update(gradient, state, w)
        w = w + update
    return np.asarray(w)


def test_heavy_ball_with_a_matrix_learning_rate_follows_its_definition(rng):
    mu, rate, p = 0.6, 0.2, rng.normal(size=(3, 3))
    gradients = rng.normal(size=(30, 3))
    m, w = np.zeros(3), np.zeros(3)
    for gradient in gradients:
        m = mu * m + gradient
        w = w - rate * p @ m
    with jax.enable_x64(True):
        np.testing.assert_allclose(run(ss.SGD(rate, mu, p), jnp.asarray(gradients)), w, rtol=1e-12)


def test_momentum_is_heavy_ball_and_not_an_average():
    """A constant gradient g ends in steps of lambda g / (1 - mu); the averaged form would take lambda g."""
    gradients = jnp.ones((200, 1))
    far, near = run(ss.SGD(0.1, 0.5), gradients), run(ss.SGD(0.1, 0.5), gradients[:199])
    assert far - near == pytest.approx(-0.1 / (1 - 0.5), rel=1e-5)


def test_zero_momentum_carries_no_momentum_array():
    state = ss.SGD(0.1).as_optax().init(jnp.ones(4))
    assert state.momentum is None


def test_a_schedule_sees_steps_zero_one_two():
    seen = [float(x) for x in np.diff(np.concatenate([[0.0], np.array([
        run(ss.SGD(lambda step: 1.0 + step), jnp.ones((n, 1)))[0] for n in (1, 2, 3)])]))]  # fmt: skip
    assert seen == [-1.0, -2.0, -3.0]


def test_momentum_in_a_schedule_stores_gradients_not_steps():
    """Heavy ball with a changing rate: w <- w - lambda_t m, the same as optax, unlike storing lambda_t g in m."""
    rates = [1.0, 0.1]
    w = run(ss.SGD(lambda step: jnp.where(step == 0, rates[0], rates[1]), 0.5), jnp.ones((2, 1)))
    assert w[0] == pytest.approx(-(rates[0] * 1.0 + rates[1] * 1.5), rel=1e-6)
