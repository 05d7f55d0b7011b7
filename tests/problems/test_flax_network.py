"""Networks: derivatives against automatic differentiation and by hand, layout of parameters, starts, linen and nnx."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import sgdsim as ss
from sgdsim.problems import Problem

data = np.random.default_rng(3)
X = data.normal(size=(11, 3))
Y = data.normal(size=(11, 2))
LABELS = data.integers(0, 2, size=11)


class Net(nnx.Module):
    def __init__(self, width, *, rngs):
        self.first = nnx.Linear(3, width, rngs=rngs)
        self.second = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))


def make_net(rngs):
    return Net(4, rngs=rngs)


def linen_net(width=4, outputs=2):
    return nn.Sequential([nn.Dense(width), nn.tanh, nn.Dense(outputs)])


def huber(prediction, target):
    return jnp.sum(jnp.sqrt(1 + (prediction - target) ** 2) - 1)


TABLE = {
    "linen mse": lambda: ss.FlaxNetwork(linen_net(), X, Y),
    "linen cross-entropy": lambda: ss.FlaxNetwork(linen_net(), X, LABELS, "cross_entropy", weight_decay=-0.1),
    "linen function": lambda: ss.FlaxNetwork(linen_net(), X, Y, huber, weight_decay=0.2),
    "nnx instance": lambda: ss.FlaxNetwork(Net(4, rngs=nnx.Rngs(5)), X, Y),
    "nnx constructor": lambda: ss.FlaxNetwork(make_net, X, LABELS, "cross_entropy", weight_decay=0.3),
}
every = pytest.mark.parametrize("name", TABLE)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def by_hand(problem, w):
    """Loss of a two-layer tanh network from its definition, in NumPy."""
    leaves = dict(jax.tree_util.tree_flatten_with_path(problem.unflatten(w))[0])
    kernels = sorted((str(path), np.asarray(leaf)) for path, leaf in leaves.items())
    (b1, w1), (b2, w2) = ([v for k, v in kernels if layer in k] for layer in _layers(kernels))
    out = np.tanh(X @ w1 + b1) @ w2 + b2
    targets = np.asarray(problem.targets)
    if problem.loss_name == "cross_entropy":
        probability = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
        data_loss = -np.log(probability[np.arange(len(out)), targets]).mean()
    elif problem.loss_name == "mse":
        data_loss = 0.5 * ((out - targets) ** 2).sum(axis=1).mean()
    else:
        data_loss = (np.sqrt(1 + (out - targets) ** 2) - 1).sum(axis=1).mean()
    return data_loss + 0.5 * problem.weight_decay * (w @ w)


def _layers(kernels):
    names = " ".join(k for k, _ in kernels)
    return ("first", "second") if "first" in names else ("layers_0", "layers_2")


@every
def test_loss_from_its_definition_and_derivatives_of_it(name, rng):
    problem = TABLE[name]()
    assert isinstance(problem, Problem) and problem.minimum is None
    assert (problem.dimension, problem.n_examples) == (4 * 3 + 4 + 2 * 4 + 2, 11)
    w = rng.normal(size=problem.dimension)
    assert float(problem.loss(w)) == pytest.approx(by_hand(problem, w), rel=1e-12)
    step = 1e-5 * np.eye(problem.dimension)
    slope = [(by_hand(problem, w + e) - by_hand(problem, w - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(problem.gradient(w), slope, atol=1e-8)
    each = jax.vmap(lambda x, y: problem.example_gradient(w, (x, y)))(X, problem.targets)
    np.testing.assert_allclose(problem.gradient(w), each.mean(axis=0), rtol=1e-11, atol=1e-13)


def test_hessian_is_the_derivative_of_the_gradient(rng):
    problem = TABLE["linen cross-entropy"]()
    w = rng.normal(size=problem.dimension)
    np.testing.assert_allclose(problem.hessian(w), jax.hessian(problem.loss)(w), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="w is None"):
        problem.hessian()


def test_chains_behind_the_parameter_axis_do_not_mix(rng):
    problem = TABLE["linen mse"]()
    w = rng.normal(size=(problem.dimension, 2, 3))
    for function in (problem.loss, problem.test_loss, problem.gradient, lambda v: problem.predict(v, X)):
        together = np.asarray(function(w))
        for i, j in np.ndindex(2, 3):
            np.testing.assert_allclose(together[..., i, j], function(w[:, i, j]), rtol=1e-12, atol=1e-14)


def test_many_chains_are_taken_a_few_at_a_time(rng):
    problem = TABLE["linen mse"]()
    assert problem.slice_chains(10**9) == 1 < problem.slice_chains(1)
    w = rng.normal(size=(problem.dimension, 1500))
    assert problem.slice_chains(problem.n_examples) < 1500
    np.testing.assert_allclose(problem.loss(w)[-3:], problem.loss(w[:, -3:]), rtol=1e-12)


def test_starts_are_the_modules_own_and_differ_by_chain_and_seed():
    problem = TABLE["linen mse"]()
    starts = problem.random_start(seed=0, chains=3)
    np.testing.assert_array_equal(starts[0], problem.default_start)
    np.testing.assert_array_equal(problem.random_start(seed=0, chains=2), starts[:2])
    assert len({tuple(row) for row in np.vstack([starts, problem.random_start(seed=1, chains=3)])}) == 6
    key = jax.random.fold_in(jax.random.key(np.uint32(0)), np.uint32(2))
    expected = linen_net().init(key, X[:1].astype(np.float32))["params"]
    found = problem.unflatten(starts[2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, expected)


def test_starts_of_nnx():
    given = ss.FlaxNetwork(Net(4, rngs=nnx.Rngs(5)), X, Y)
    np.testing.assert_array_equal(given.unflatten(given.default_start)["first"]["kernel"].get_value(),
                                  Net(4, rngs=nnx.Rngs(5)).first.kernel.get_value())
    made = TABLE["nnx constructor"]().random_start(seed=0, chains=2)
    assert made.shape == (2, 26) and (made[0] != made[1]).any()
    with pytest.raises(ValueError, match="lambda rngs"):
        given.random_start(seed=0, chains=2)


def test_equal_modules_are_one_compilation():
    traced = []

    @jax.jit
    def loss(problem, w):
        traced.append(1)
        return problem.loss(w)

    for name in ("linen cross-entropy", "nnx constructor"):
        before, w = len(traced), np.ones(26)
        problem = TABLE[name]()
        loss(problem, w), loss(TABLE[name](), 2 * w)
        leaves, tree = jax.tree.flatten(problem)
        other = jax.tree.unflatten(tree, [leaf + 0 if leaf.dtype == np.int32 else 1.1 * leaf for leaf in leaves])
        loss(other, w)
        assert len(traced) == before + 1


def test_held_out_examples():
    problem = ss.FlaxNetwork(linen_net(), X, Y, weight_decay=0.5, test_features=X[:2] + 1, test_targets=Y[:2])
    w = problem.default_start
    alone = ss.FlaxNetwork(linen_net(), X[:2] + 1, Y[:2])
    assert float(problem.test_loss(w)) == pytest.approx(float(alone.loss(w)), rel=1e-12)
    without = ss.FlaxNetwork(linen_net(), X, Y, weight_decay=0.5)
    assert float(without.test_loss(w)) == pytest.approx(float(without.loss(w)) - 0.25 * float(w @ w), rel=1e-12)


def test_one_output_takes_a_flat_list_of_targets():
    problem = ss.FlaxNetwork(nn.Dense(1), X, X[:, 0])
    assert problem.targets.shape == (11, 1)


def test_the_representation_names_everything_but_the_numbers():
    text = repr(TABLE["linen cross-entropy"]())
    assert "Sequential" in text and "26 parameters" in text and "cross_entropy" in text and "-0.1" in text
    assert text != repr(ss.FlaxNetwork(linen_net(), X + 1e-9, LABELS, "cross_entropy", weight_decay=-0.1))


class Deep(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))


def linear(rngs):
    return nnx.Linear(2, 1, rngs=rngs)


@pytest.mark.parametrize(
    "module",
    [nn.Dense(1), nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)]), Deep(width=4), linear, linear(nnx.Rngs(0)),
     nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros_init())],
    ids=["layer", "layers", "own class", "constructor", "nnx instance", "own initialiser"],
)  # fmt: skip
def test_a_network_survives_pickling(module):
    x = np.random.default_rng(0).normal(size=(6, 2))
    problem = ss.FlaxNetwork(module, x, x[:, 0], "mse")
    again = pickle.loads(pickle.dumps(problem))
    w = np.linspace(-1.0, 1.0, problem.dimension)
    np.testing.assert_array_equal(again.loss(w), problem.loss(w))
    np.testing.assert_array_equal(again.default_start, problem.default_start)
    assert again.network == problem.network or not problem.network.linen
