"""The adaptive family by its update rule, written out; what optax has is in tests/contracts/test_optimizers.py."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss

D = 4
BLOCKS = [[0, 3], [1], [2]]
RATE, B1, B2, EPS, ROOT = 0.05, 0.8, 0.9, 1e-3, 1e-2


def ours(optimizer, gradients):
    """Parameters after all updates, from 0, in double precision."""
    with jax.enable_x64(True):
        transformation = optimizer.as_optax()
        w = jnp.zeros(gradients.shape[1:])
        state = transformation.init(w)
        for g in gradients:
            update, state = transformation.update(jnp.asarray(g), state, w)
            w = w + update
        return np.asarray(w)


def by_hand(gradients, average, scale, b1=B1, correct=True):
    m, v, w = (np.zeros(gradients.shape[1:]) for _ in range(3))
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, B2 * v + (1 - B2) * average(g**2)
        fade = (1 - b1**t, 1 - B2**t) if correct else (1.0, 1.0)
        w = w - RATE * m / fade[0] * scale(v / fade[1])
    return w


def block_mean(squares):
    out = np.empty_like(squares)
    for block in BLOCKS:
        out[block] = squares[block].mean(axis=0)
    return out


def layer_mean(squares):
    return np.concatenate([np.broadcast_to(x.mean(axis=0), x.shape) for x in (squares[:3], squares[3:])])


def overall(squares):
    return np.broadcast_to(squares.mean(axis=0), squares.shape)


def of_rank_one(v):
    """Row sums times column sums over the sum, of a 2 x 2 matrix; the published algorithm keeps only the sums."""
    rows = np.stack([v[0] + v[1], v[2] + v[3]])
    columns = np.stack([v[0] + v[2], v[1] + v[3]])
    return np.stack([rows[0] * columns[0], rows[0] * columns[1], rows[1] * columns[0], rows[1] * columns[1]]) / v.sum(0)


def mirrored(squares):
    return (squares + squares[::-1]) / 2


def same(squares):
    return squares


def root(v):
    return 1 / (np.sqrt(v + ROOT) + EPS)


MOMENTS = {"b1": B1, "b2": B2, "eps": EPS, "eps_root": ROOT}
RULES = {
    "adam": (lambda **k: ss.Adam(RATE, **MOMENTS, **k), same, root),
    "adam-e": (lambda **k: ss.AdamE(RATE, exponent=0.3, **MOMENTS, **k), same, lambda v: 1 / ((v + ROOT) ** 0.3 + EPS)),
    "adam-e-0": (lambda **k: ss.AdamE(RATE, exponent=0, **MOMENTS, **k), same, lambda v: 1 / (1 + EPS)),
    "adam-mini": (lambda **k: ss.AdamMini(RATE, BLOCKS, **MOMENTS, **k), block_mean, root),
    "adalayer": (lambda **k: ss.Adalayer(RATE, [3, 1], **MOMENTS, **k), layer_mean, root),
    "ada-sgd": (lambda **k: ss.AdaSGD(RATE, **MOMENTS, **k), overall, root),
    "adafactor": (lambda **k: ss.Adafactor(RATE, [(2, 2)], **MOMENTS, **k), same, lambda v: root(of_rank_one(v))),
    "general": (
        lambda **k: ss.AdaptiveGradient(RATE, V=mirrored, S=lambda v: 1 / (1 + v), b1=B1, b2=B2, **k),
        mirrored,
        lambda v: 1 / (1 + v),
    ),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("correct", [True, False])
def test_the_update_rule(name, correct, rng):
    make, average, scale = RULES[name]
    gradients = rng.normal(size=(20, D, 5)) * np.array([1.0, 3.0, 0.3, 1.0])[:, None]
    measured = ours(make(bias_correction=correct), gradients)
    np.testing.assert_allclose(measured, by_hand(gradients, average, scale, correct=correct), rtol=1e-12)
    # the same comparison sees a beta_1 that is off by 1%
    assert np.abs(measured / by_hand(gradients, average, scale, 1.01 * B1, correct) - 1).max() > 1e-3


@pytest.mark.parametrize("make", [lambda: ss.AdamMini(0.1, BLOCKS), lambda: ss.Adalayer(0.1, [3, 1])])
def test_blocks_average_over_parameters_and_never_over_chains(make, rng):
    gradients = rng.normal(size=(10, D, 6))
    together = ours(make(), gradients)
    for chain in range(6):
        np.testing.assert_allclose(together[:, chain], ours(make(), gradients[:, :, chain]), rtol=1e-13)


def test_exponent_zero_is_sgd_with_averaged_gradients(rng):
    gradients = rng.normal(size=(30, D))
    adam_e = ours(ss.AdamE(RATE, b1=B1, b2=B2, eps=0.5, exponent=0.0, bias_correction=False), gradients)
    np.testing.assert_allclose(adam_e, ours(ss.SGD(RATE * (1 - B1) / 1.5, B1), gradients), rtol=1e-12)


def test_a_small_exponent_is_nearly_sgd(rng):
    gradients = rng.normal(size=(30, D))
    sgd = ours(ss.SGD(RATE * (1 - B1), B1), gradients)
    far = [np.abs(ours(ss.AdamE(RATE, B1, B2, 0.0, x, bias_correction=False), gradients) - sgd).max()
           for x in (0.02, 0.01, 0.005)]  # fmt: skip
    np.testing.assert_allclose([far[0] / far[1], far[1] / far[2]], 2, rtol=0.1)


def test_rmsprop_carries_no_first_moment():
    state = ss.RMSProp(0.1).as_optax().init(jnp.ones(3))
    assert state.m is None and len(jax.tree.leaves(state)) == 2


@pytest.mark.slow
def test_a_sweep_over_rates_keeps_blocks():
    problem = ss.LinearRegression([1.0, 0.5, 0.2], label_noise=0.5)
    grid = ss.sweep(problem, ss.AdamMini(0.1, [[0, 2], [1]]), batch_size=4, learning_rate=[0.01, 0.02],
                    chains=64, steps=20, burn_in=5)
    assert grid.covariance.shape == (1, 2, 3, 3) and np.isfinite(grid.covariance).all()


def test_blocks_must_fit_the_problem():
    problem = ss.LinearRegression([1.0, 0.5])
    for optimizer in (ss.AdamMini(0.1, [[0, 2], [1]]), ss.Adalayer(0.1, [2, 1]), ss.Adafactor(0.1, [(2, 2)])):
        with pytest.raises(ValueError, match="of 2 parameters in all"):
            ss.simulate(problem, optimizer, batch_size=2, chains=64, steps=5)


def test_what_is_not_elementwise_has_no_theory_that_needs_it():
    problem, sensing = ss.LinearRegression([1.0, 0.5, 0.2, 0.1], label_noise=0.5), ss.Ellipse(a=2.0, b=1.0)
    manifold = ss.solver.manifold
    with pytest.raises(NotImplementedError, match="factored"):
        ss.predict(problem, ss.Adafactor(0.01, [(2, 2)]), batch_size=2)
    one_row = ss.Adafactor(0.01, [(1, 2)], b2=0.999)  # of rank one already
    with pytest.raises(NotImplementedError, match="factored"):
        manifold.slow_fixed_point(sensing, one_row, sensing.point(1.0))
    with pytest.raises(NotImplementedError, match="second_moment"):
        manifold.sharpness(sensing, sensing.point(1.0), one_row)
    path, adam = (manifold.slow_ode(sensing, o, sensing.point(1.0), [0.1]) for o in (one_row, ss.Adam(0.01)))
    np.testing.assert_allclose(path.positions, adam.positions, rtol=1e-6)


def test_adafactor_of_tiny_gradients_is_of_rank_one_too():
    """In float32, of gradients of 1e-17; a matrix that never had one stays where it is."""
    v = np.array([[1.0, 2.0], [3.0, 6.0]], np.float32).ravel() * 1e-34
    factored = ss.Adafactor(RATE, [(2, 2)], eps=0.0).S(v)
    np.testing.assert_allclose(factored, 1 / np.sqrt(v), rtol=1e-5)
    np.testing.assert_array_equal(ss.Adafactor(RATE, [(2, 2)], eps=0.5).S(np.zeros(4, np.float32)), 2.0)
