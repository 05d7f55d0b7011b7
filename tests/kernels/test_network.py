"""The network kernel: every mode of sampling against enumeration, and what survives a run."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.kernels.network import batch_gradients, network_kernel

data = np.random.default_rng(8)
X, LABELS = data.normal(size=(5, 2)), np.array([0, 1, 1, 0, 1])


def network(**rest):
    return ss.FlaxNetwork(nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(2)]), X, LABELS, "cross_entropy", **rest)


@jax.jit
def example_gradients(problem, w):
    return jax.vmap(lambda x, y: problem.example_gradient(w, (x, y)))(jnp.asarray(X), problem.targets)


draw = jax.jit(lambda kernel, key, w, state: kernel.draw(key, w, state))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_a_batch_is_the_mean_of_its_examples(rng):
    problem = network(weight_decay=0.3)
    w = rng.normal(size=(problem.dimension, 4))
    index = rng.integers(0, 5, size=(3, 4))
    found = jax.jit(batch_gradients)(problem, w, index)
    for chain in range(4):
        g = np.asarray(example_gradients(problem, w[:, chain]))
        np.testing.assert_allclose(found[:, chain], g[index[:, chain]].mean(axis=0), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("sampling", "repeats"), [("with_replacement", True), ("without_replacement", False)])
def test_draws_are_the_batches_of_their_mode(sampling, repeats, rng):
    """Every draw is the mean gradient of one of the possible batches, and all of them turn up equally often."""
    problem = network()
    w = rng.normal(size=problem.dimension)
    g = np.asarray(example_gradients(problem, w))
    pairs = list(itertools.product(range(5), repeat=2) if repeats else itertools.permutations(range(5), 2))
    kernel = network_kernel(problem, 2, sampling, np.float64)
    chains = 3000
    draws, _ = draw(kernel, jax.random.key(1), np.repeat(w[:, None], chains, axis=1), ())
    possible = np.unique(np.round([sorted(pair) for pair in pairs]), axis=0).astype(int)
    means = g[possible].mean(axis=1)
    distance = np.abs(np.asarray(draws).T[:, None] - means).max(axis=2)
    assert distance.min(axis=1).max() < 1e-12
    counts = np.bincount(distance.argmin(axis=1), minlength=len(means))
    share = np.array([1 + repeats * (i != j) for i, j in possible]) / (25 if repeats else 10)
    expected = chains * share
    assert np.abs((counts - expected) / np.sqrt(expected * (1 - share))).max() < 4.2  # 1e-4 among 15


def test_an_epoch_uses_every_example_once(rng):
    problem = network(weight_decay=0.3)
    w = rng.normal(size=(problem.dimension, 3))
    kernel = network_kernel(problem, 2, "epochs", np.float64)
    state, total = kernel.init(jax.random.key(0), 3), 0.0
    for step, size in enumerate((2, 2, 1)):
        g, state = draw(kernel, jax.random.key(step), w, state)
        total = total + size * np.asarray(g)
    np.testing.assert_allclose(total / 5, problem.gradient(w), rtol=1e-10, atol=1e-13)


def test_the_full_batch_draws_nothing():
    for sampling in ("without_replacement", "epochs"):
        kernel = network_kernel(network(), 5, sampling, np.float64)
        w = np.ones((kernel.problem.dimension, 2))
        np.testing.assert_allclose(draw(kernel, jax.random.key(0), w, ())[0], kernel.problem.gradient(w), rtol=1e-10,
                                   atol=1e-13)


def test_simulate_trains_from_own_starts_and_compiles_once(compilations):
    problem = network(weight_decay=0.01)
    how = {"batch_size": 2, "chains": 64, "steps": 60, "progress": False}
    start = problem.random_start(seed=4, chains=64)
    result = ss.simulate(problem, ss.SGD(0.5), initial=start, **how)
    assert result.status == "ok" and result.covariance.shape == (12, 12) and np.isfinite(result.rhat).all()
    assert result.train_loss < float(problem.loss(start.T).mean())
    other = network(weight_decay=-0.02)
    before = compilations()
    ss.simulate(other, ss.SGD(0.4), initial=start, **how)
    assert compilations() == before


def test_large_networks_keep_variances_only_and_take_any_optimizer():
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(80), nn.tanh, nn.Dense(2)]), X, LABELS, "cross_entropy")
    result = ss.simulate(problem, optax.adabelief(1e-2), batch_size=2, chains=8, steps=30, progress=False)
    assert problem.dimension > 256 and getattr(result, "covariance", None) is None and result.noise_covariance is None
    assert result.variance.shape == (problem.dimension,) and result.status == "ok"


def test_divergence_is_counted():
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(1)]), X, X[:, 0], weight_decay=-3.0)
    result = ss.simulate(problem, ss.SGD(5.0), batch_size=2, chains=8, steps=60, statistics=(), progress=False)
    assert result.status == "diverged" and result.diverged == 8


def test_no_prediction():
    with pytest.raises(NotImplementedError, match="FlaxNetwork"):
        ss.predict(network(), ss.SGD(0.1), batch_size=2)
