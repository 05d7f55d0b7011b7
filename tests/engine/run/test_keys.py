"""Optax transformations with random state: every chain draws its own noise."""

from __future__ import annotations

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss

STILL = ss.Quadratic([1.0, 2.0, 0.5], [0.0, 0.0, 0.0])  # no noise of its own
RUN = {"batch_size": 1, "steps": 12, "seed": 3}


def own_noise(typed):
    """A user's transformation with a key in its state, of the old kind or the new."""
    def init(params):
        return (jax.random.key(0) if typed else jax.random.PRNGKey(0), jnp.zeros(()))

    def update(updates, state, params=None):
        key, use = jax.random.split(state[0])
        noise = jax.random.normal(use, updates.shape, updates.dtype)
        return -0.1 * (updates + noise), (key, state[1] + 1)

    return optax.GradientTransformation(init, update)


def seeded(make, *arguments, seed):
    """With a seed, or a key where this optax wants one."""
    if "key" in inspect.signature(make).parameters:
        return make(*arguments, key=jax.random.key(seed))
    return make(*arguments, seed=seed)


def noise(eta, seed, gamma=0.55):
    return seeded(optax.add_noise, eta, gamma, seed=seed)


RANDOM = {
    "noisy_sgd": lambda: seeded(optax.noisy_sgd, 0.1, seed=0),
    "add_noise": lambda: optax.chain(noise(0.5, 7), optax.scale(-0.1)),
    "two of them": lambda: optax.chain(noise(0.5, 1), noise(0.1, 2), optax.scale(-0.1)),
    "masked": lambda: optax.chain(optax.masked(noise(0.5, 7), True), optax.scale(-0.1)),
    "old key": lambda: own_noise(False),
    "new key": lambda: own_noise(True),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in ("noisy_sgd", "new key") else pytest.mark.slow)
                                  for name in RANDOM])  # fmt: skip
def test_chains_are_pairwise_independent(name):
    chains = 4096
    result = ss.simulate(STILL, RANDOM[name](), chains=chains, **RUN)
    w = result.final - result.final.mean(axis=0)
    assert len(np.unique(result.final, axis=0)) == chains
    # Correlation of one chain with another, over pairs at any distance: each is a mean of about 4096 x 3 products.
    scaled = w / w.std(axis=0)
    distances = (1, 2, 3, 7, 64, 1024, 2048)  # also from block to block
    found = [np.mean(scaled * np.roll(scaled, d, axis=0)) for d in distances]
    assert np.abs(found).max() < 4.5 / np.sqrt(3 * chains)
    assert np.all(result.ess <= chains * RUN["steps"])


def drawing(at_each_step, of=jax.random.normal):
    """Random numbers from a key that every chain shares, at each step or once."""
    def init(params):
        return jnp.zeros((), jnp.int32) if at_each_step else of(jax.random.key(0), params.shape)

    def update(updates, state, params=None):
        if not at_each_step:
            return -0.1 * updates * state, state
        return -0.1 * (updates + of(jax.random.fold_in(jax.random.key(0), state), updates.shape)), state + 1

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize("of", [jax.random.normal, jax.random.uniform, jax.random.rademacher, jax.random.gumbel])
@pytest.mark.parametrize("at_each_step", [True, False])
def test_randomness_without_a_key_in_the_state_is_refused(at_each_step, of):
    transformation = drawing(at_each_step, lambda key, shape: of(key, shape).astype(jnp.float32))
    with pytest.raises(ValueError, match="optimizer is 'an optax transformation that draws random numbers'"):
        ss.simulate(STILL, transformation, chains=4, **RUN)


def test_the_covariance_is_that_of_independent_noise(assert_within_sigma):
    """Langevin steps with noise of constant variance: w <- (1 - r h) w - r n, Sigma = r s^2 / (h (2 - r h))."""
    rate, scale = 0.1, 0.25
    noisy = optax.chain(noise(scale, 5, gamma=0.0), optax.scale(-rate))  # gamma 0: the variance stays
    result = ss.simulate(STILL, noisy, batch_size=1, chains=2000, steps=1200, burn_in=400, seed=1)
    h = np.array([1.0, 2.0, 0.5])
    exact = rate * scale / (h * (2 - rate * h))
    assert_within_sigma(np.diag(result.covariance), exact, np.diag(result.covariance_stderr))
    with pytest.raises(AssertionError, match="beyond"):
        assert_within_sigma(np.diag(result.covariance), 1.03 * exact, np.diag(result.covariance_stderr))


@pytest.mark.slow
def test_seeds_of_the_run_and_of_the_transformation_both_count():
    def final(seed, own):
        own_noise = seeded(optax.noisy_sgd, 0.1, seed=own)
        return ss.simulate(STILL, own_noise, batch_size=1, chains=64, steps=4, seed=seed).final

    one = final(0, 1)
    np.testing.assert_array_equal(final(0, 1), one)
    assert not np.any(final(1, 1) == one) and not np.any(final(0, 2) == one)


def test_the_list_of_transformations_with_random_state_is_complete():
    """Of all that optax exports and can be made with numbers alone, these keep a key in their state."""
    found = set()
    for name, make in vars(optax).items():
        if not callable(make) or inspect.isclass(make) or name.startswith("_"):
            continue
        try:
            parameters = inspect.signature(make).parameters.values()
            needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = make(**{parameter: 1 if parameter == "seed" else 0.5 for parameter in needed})
                state = made.init(jnp.zeros(3))
        except Exception:  # no transformation that numbers alone can make
            continue
        for leaf in jax.tree.leaves(state):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or leaf.dtype == np.uint32:
                found.add(name)
    assert {"noisy_sgd", "add_noise"} <= found
    for name in found - {"noisy_sgd", "add_noise"}:
        pytest.fail(f"optax.{name} keeps a key too: add it to RANDOM")
