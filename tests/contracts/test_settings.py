"""The library runs under every setting with which JAX lets users check their own code."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss

SETTINGS = {
    "jax_numpy_dtype_promotion": ("strict", "standard"),
    "jax_numpy_rank_promotion": ("raise", "allow"),
    "jax_transfer_guard": ("disallow", "allow"),
}
X = np.random.default_rng(0).normal(size=(12, 2))
Y = X @ [1.0, 2.0] + np.random.default_rng(1).normal(size=12)
RUN = {"batch_size": 4, "chains": 4, "steps": 200, "burn_in": 100, "seed": 0}


def linear():
    return ss.LinearRegression([1.0, 0.5], label_noise=0.5)


def data():
    return ss.DatasetRegression(X, Y)


def network():
    return ss.FlaxNetwork(nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(1)]), X, Y)


def own_loss():
    return ss.FromLoss(lambda w, x, y: 0.5 * (w @ x - y) ** 2, X, Y, [0.0, 0.0])


ENTRIES = {
    "linear": lambda: ss.compare(ss.simulate(linear(), ss.SGD(0.2), **RUN), ss.predict(
        linear(), ss.SGD(0.2), batch_size=4)),
    "data": lambda: ss.simulate(data(), ss.SGD(0.2, momentum=0.5), **RUN),
    "quadratic": lambda: ss.simulate(ss.Quadratic([1.0, 0.5], [1.0, 1.0]), ss.SGD([0.3, 0.2]), **RUN),
    "network": lambda: ss.simulate(network(), ss.Adam(0.01), **RUN),
    "own_loss": lambda: ss.simulate(own_loss(), ss.SGD(lambda t: 1 / (t + 5)), **RUN),
    "optax": lambda: ss.simulate(linear(), optax.sgd(0.2, momentum=0.5), **RUN),
    "predict_natural": lambda: ss.predict(linear(), ss.NaturalGradient(0.2), batch_size=4),
    "sweep": lambda: ss.sweep(linear(), ss.SGD(0.2), learning_rate=[0.1, 0.2], **RUN | {"burn_in": 150}),
    "predict_adam": lambda: ss.predict(linear(), ss.Adam(0.01), batch_size=4),
    "predict_run": lambda: ss.predict_run(data(), ss.SGD(0.05), batch_size=4, steps=10),
    "gradient_variance": lambda: ss.compare_gradient_variance(
        ss.gradient_variance(data(), ss.SGD(0.05), batch_size=[2, 4], steps=3, chains=8),
        ss.solver.gradient_variance(data(), ss.SGD(0.05), batch_size=[2, 4], steps=3)),
    "flow": lambda: ss.solver.manifold.flow_to_minimum(ss.Ellipse(a=2.0, b=1.0), [1.0, 1.0]),
    "sharpness": lambda: ss.estimators.linf_sharpness(data(), [1.0, -1.0], radius=0.1),
}


@pytest.fixture(params=SETTINGS)
def setting(request):
    strict, usual = SETTINGS[request.param]
    jax.config.update(request.param, strict)
    yield request.param
    jax.config.update(request.param, usual)


@pytest.mark.filterwarnings("ignore::sgdsim.NotSettled")
@pytest.mark.parametrize("entry", [pytest.param(e, marks=pytest.mark.slow) if e in ("network", "sweep") else e
                                   for e in ENTRIES])
def test_runs_under(setting, entry):
    ENTRIES[entry]()


def test_settings_are_strict(setting):
    """Else the test above could not fail."""
    broken = {
        "jax_numpy_dtype_promotion": lambda: jnp.add(jnp.float32(1), jnp.int32(1)),
        "jax_numpy_rank_promotion": lambda: jnp.ones((2, 2)) + jnp.ones(2),
        "jax_transfer_guard": lambda: jax.jit(lambda x: x)(np.ones(3)),
    }
    with pytest.raises(Exception, match=r"promotion|transfer|broadcast"):
        broken[setting]()
