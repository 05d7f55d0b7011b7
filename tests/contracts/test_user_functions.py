"""Functions and transformations of users that cannot run are refused before anything is compiled, by name."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss

RATES = np.full(5, 0.1)


def with_if(t):
    return 0.1 if t > 10 else 0.2


SCHEDULES = {
    "if": with_if,
    "numpy": lambda t: 0.1 * np.sqrt(t),
    "index": lambda t: RATES[t],
    "math": lambda t: math.sqrt(t + 1),
    "no_argument": lambda: 0.1,
    "two_arguments": lambda t, s: 0.1,
    "none": lambda t: None,
    "text": lambda t: "fast",
    "vector": lambda t: jnp.ones(3),
    "complex": lambda t: 1j * t,
    "infinite": lambda t: 1 / (2 * t),
    "nan": lambda t: jnp.nan * t,
    "negative": lambda t: -0.1,
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    problem, schedule = ss.LinearRegression([1.0, 0.5], label_noise=0.5), SCHEDULES[name]
    for optimizer in (ss.SGD(schedule), ss.Adam(schedule)):
        with pytest.raises(ValueError, match=r"learning_rate is .* but it must be"):
            ss.simulate(problem, optimizer, batch_size=4, chains=4, steps=10)
    with pytest.raises(ValueError, match=r"learning_rate is .* but it must be"):
        ss.predict_run(problem, ss.SGD(schedule), batch_size=4, steps=10)
    with pytest.raises(ValueError, match=r"momentum is .* but it must be"):
        ss.simulate(problem, ss.SGD(0.1, momentum=schedule), batch_size=4, chains=4, steps=10)


TRANSFORMATIONS = {
    "polyak": (optax.polyak_sgd, "gradient alone"),
    "lbfgs": (optax.lbfgs, "gradient alone"),
    "plateau": (lambda: optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()), "gradient alone"),
    "lookahead": (lambda: optax.lookahead(optax.sgd(0.1), 5, 0.5), "gradient alone"),
    "masked": (lambda: optax.masked(optax.sgd(0.1), [True, False]), "gradient alone"),
    "multi_steps": (lambda: optax.MultiSteps(optax.sgd(0.1), 4), "gradient_transformation"),
    "function": (lambda: optax.sgd, r"call it first: sgd\("),
    "class": (lambda: ss.Adam, r"call it first: Adam\("),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations(name):
    make, remedy = TRANSFORMATIONS[name]
    with pytest.raises(ValueError, match=f"optimizer is .*{remedy}"):
        ss.simulate(ss.LinearRegression([1.0, 0.5], label_noise=0.5), make(), batch_size=4, chains=4, steps=10)


class Tuple(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(1)(x)
        return y, y


MODULES = {
    "tuple": (Tuple(), "one array of real numbers"),
    "complex": (nn.Dense(1, param_dtype=jnp.complex64), "real parameters"),
    "class": (Tuple, "pass an instance"),
    "none": (None, "pass an instance"),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    module, remedy = MODULES[name]
    with pytest.raises(ValueError, match=f"module is .*{remedy}"):
        ss.FlaxNetwork(module, np.ones((4, 2)), np.ones(4))


@pytest.mark.parametrize(("name", "optimizer"), [
    ("b2", ss.Adam(0.1, b2=1 - 1e-8)), ("b1", ss.Adam(0.1, b1=1 - 1e-9)), ("momentum", ss.SGD(0.1, momentum=1 - 1e-9))])
def test_decays_that_round_to_one(name, optimizer):
    with pytest.raises(ValueError, match=f"{name} is .* below 1 in float32.*float64"):
        ss.simulate(ss.LinearRegression([1.0], label_noise=1.0), optimizer, batch_size=1, chains=4, steps=10)
