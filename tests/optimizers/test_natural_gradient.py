import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.optimizers import resolve

A = np.array([[1.0, 0.3], [0.3, 0.5]])
FISHER = np.array([[0.5, -0.1], [-0.1, 0.2]])
PROBLEM = ss.LinearRegression(A, [1.0, -1.0], label_noise=0.5)
CHAINS, B = 40, 8


def draws(rng, steps=15):
    """Points and gradients at them; the true gradient plus noise."""
    w = rng.normal(size=(steps, 2, CHAINS))
    noise = rng.normal(size=(steps, 2, CHAINS)) * np.array([1.0, 3.0])[:, None]
    return w, np.stack([PROBLEM.gradient(x) for x in w]) + noise, noise


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("fisher", [FISHER, np.array([0.5, 2.0])], ids=["matrix", "diagonal"])
def test_with_a_given_fisher_it_is_sgd_in_whitened_coordinates(momentum, fisher, rng):
    c = np.diag(fisher) if fisher.ndim == 1 else fisher
    root = np.linalg.inv(np.linalg.cholesky(B * c)).T
    with jax.enable_x64(True):
        gradients = jnp.asarray(rng.normal(size=(30, 2, 7)))
        both = []
        for t, g in ((ss.NaturalGradient(0.3, momentum, fisher, batch_size=B).as_optax(), gradients),
                     (optax.sgd(0.3, momentum=momentum or None), jnp.einsum("ji,tjc->tic", root, gradients))):
            w = jnp.zeros_like(gradients[0])
            state = t.init(w)
            for x in g:
                update, state = t.update(x, state, w)
                w = w + update
            both.append(w)
    np.testing.assert_allclose(both[0], np.einsum("ij,jc->ic", root, both[1]), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("memory", [0.0, 0.9])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_estimate_follows_its_rule(memory, momentum, rng):
    w, gradients, noise = draws(rng)
    average, weight, m = np.zeros((2, 2)), 0.0, 0.0
    with jax.enable_x64(True):
        t = ss.NaturalGradient(0.3, momentum, memory=memory, batch_size=B).as_optax(PROBLEM)
        state = t.init(jnp.asarray(w[0]))
        for x, g, xi in zip(w, gradients, noise, strict=True):
            update, state = t.update(jnp.asarray(g), state, jnp.asarray(x))
            average = memory * average + (1 - memory) * xi @ xi.T / CHAINS
            weight = memory * weight + 1 - memory
            m = momentum * m + g
            np.testing.assert_allclose(update, -0.3 / B * np.linalg.solve(average / weight, m), rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, -1e25])
def test_a_diverged_chain_does_not_poison_the_others(bad, rng):
    w, gradients, _ = (x.astype(np.float32) for x in draws(rng))
    w[:, 1, 3], gradients[:, 1, 3] = bad, bad
    alive = np.arange(CHAINS) != 3
    t = ss.NaturalGradient(0.3, memory=0.5, batch_size=B).as_optax(PROBLEM)
    few = t.init(jnp.asarray(w[0][:, alive]))
    all_ = t.init(jnp.asarray(w[0]))
    for x, g in zip(w, gradients, strict=True):
        expected, few = t.update(jnp.asarray(g[:, alive]), few, jnp.asarray(x[:, alive]))
        found, all_ = t.update(jnp.asarray(g), all_, jnp.asarray(x))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found[:, alive], expected, rtol=2e-4)


def test_an_overflowing_estimate_is_not_taken_in(rng):
    """Chains on their way to infinity square to more than float32 holds: the last good estimate stays."""
    w, gradients, _ = (np.tile(x.astype(np.float32), 50) for x in draws(rng, 2))
    t = ss.NaturalGradient(0.3, memory=0.5, batch_size=B).as_optax(PROBLEM)
    _, state = t.update(jnp.asarray(gradients[0]), t.init(jnp.asarray(w[0])), jnp.asarray(w[0]))
    huge = np.full_like(gradients[1], 9e17)  # its square times the 2,000 chains is past 3.4e38
    update, later = t.update(jnp.asarray(huge), state, jnp.asarray(w[1]))
    np.testing.assert_array_equal(later.fisher, state.fisher)
    assert np.isfinite(update).all()


def test_with_s_times_c_the_batch_size_cancels():
    """S C is the covariance of one example's gradient: a Fisher matrix of S examples has C = F / S."""
    steps = [resolve(ss.NaturalGradient(0.1, fisher=FISHER / s), PROBLEM, s).preconditioner for s in (1, 8, 64)]
    np.testing.assert_allclose(steps, [np.linalg.inv(FISHER)] * 3, rtol=1e-12)


@pytest.mark.slow
def test_one_compilation_for_a_sweep_and_the_same_numbers_on_any_number_of_devices(compilations):
    settings = {"batch_size": 8, "chains": 256, "steps": 20, "burn_in": 10}
    ss.sweep(PROBLEM, ss.NaturalGradient(0.1), learning_rate=[0.1, 0.2], **settings)
    before = compilations()
    two = ss.sweep(PROBLEM, ss.NaturalGradient(0.1), learning_rate=[0.3, 0.4], devices=2, **settings)
    assert compilations() == before
    one = ss.sweep(PROBLEM, ss.NaturalGradient(0.1), learning_rate=[0.3, 0.4], devices=1, **settings)
    np.testing.assert_array_equal(one.covariance, two.covariance)
    assert one.covariance[0, 0, 0, 0] != one.covariance[0, 1, 0, 0]


@pytest.mark.parametrize(("make", "says"), [
    (lambda: ss.NaturalGradient(0.0), "learning_rate"),
    (lambda: ss.NaturalGradient(0.1, -0.1), "momentum"),
    (lambda: ss.NaturalGradient(0.1, memory=1.0), "memory"),
    (lambda: ss.NaturalGradient(0.1, batch_size=2.5), "batch_size"),
    (lambda: ss.NaturalGradient(0.1, fisher=[[1.0, 0.2], [0.1, 1.0]]), "fisher"),
    (lambda: ss.NaturalGradient(0.1, fisher=[[1.0, 1.0], [1.0, 1.0]]), "positive definite"),
    (lambda: ss.NaturalGradient(0.1, fisher=[1.0, -1.0]), "fisher"),
    (lambda: ss.NaturalGradient(0.1, fisher=np.ones((2, 3))), "fisher"),
    (lambda: ss.NaturalGradient(0.1).as_optax(PROBLEM), "batch_size"),
    (lambda: ss.NaturalGradient(0.1, batch_size=4).as_optax(), "problem"),
    (lambda: resolve(ss.NaturalGradient(0.1, batch_size=4), PROBLEM, 8), "batch_size"),
    (lambda: ss.NaturalGradient(0.1, batch_size=4).as_optax(PROBLEM).init(jnp.zeros((2, 3))), "chains"),
    (lambda: ss.NaturalGradient(0.1, batch_size=4).as_optax(PROBLEM).init(jnp.zeros(2)), "chains"),
    (lambda: ss.simulate(PROBLEM, ss.NaturalGradient(0.1, fisher=[1.0]), batch_size=2, chains=64, steps=2), "fisher"),
])  # fmt: skip
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says):
        make()
