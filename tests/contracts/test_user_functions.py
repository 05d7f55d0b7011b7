"""Functions and transformations of users that cannot run are refused before anything is compiled, by name."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.engine.plan.request import check_request

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


LATE = {
    "nan": lambda t: jnp.where(t < 7, 0.1, jnp.nan),
    "negative": lambda t: jnp.where(t < 7, 0.1, -0.1),
    "infinite": lambda t: 0.1 / jnp.abs(t - 7.0),
}


@pytest.mark.parametrize("name", LATE)
def test_schedules_that_go_wrong_late(name):
    problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
    with pytest.raises(ValueError, match=r"learning_rate is .*at every step.*this one is 7"):
        ss.simulate(problem, ss.SGD(LATE[name]), batch_size=4, chains=4, steps=10)
    assert ss.simulate(problem, ss.SGD(LATE[name]), batch_size=4, chains=4, steps=7).status == "ok"


@pytest.mark.parametrize("schedule", [lambda: 0.1, lambda t: 1 / t, lambda t: [0.1][t], lambda t: None])
def test_functions_that_the_exact_theory_cannot_call(schedule):
    problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
    with pytest.raises(ValueError, match="learning_rate"):
        ss.solver.gradient_variance(problem, ss.SGD(schedule), batch_size=[2], steps=3)
    with pytest.raises(ValueError, match="batch_size"):
        ss.simulate(problem, ss.SGD(0.1), batch_size=schedule, chains=4, steps=10)


LOSSES = {
    "logarithm": lambda w, x, y: jnp.log(x @ w),
    "root": lambda w, x, y: jnp.sqrt(x @ w - 1),
    "one example": lambda w, x, y: y / (y - 2.0) + x @ w,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_that_are_not_finite_at_the_start(name):
    with pytest.raises(ValueError, match=r"example_loss is .* finite where chains start \(example"):
        ss.FromLoss(LOSSES[name], np.eye(3), [1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="weight_decay is nan"):
        ss.FromLoss(lambda w, x, y: x @ w - y, np.eye(3), np.ones(3), np.zeros(3), weight_decay=math.nan)


def stateless(update):
    return optax.GradientTransformation(lambda params: jnp.zeros(()), update)


TRANSFORMATIONS = {
    "growing state": (lambda: stateless(lambda g, s, p=None: (-0.1 * g, (s, s))), "gradient alone"),
    "complex": (lambda: stateless(lambda g, s, p=None: (-0.1j * g, s)), "gradient alone"),
    "two arguments": (lambda: stateless(lambda g, s: (-0.1 * g, s)), "gradient alone"),
    "polyak": (optax.polyak_sgd, "gradient alone"),
    "lbfgs": (optax.lbfgs, "gradient alone"),
    "plateau": (lambda: optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()), "gradient alone"),
    "lookahead": (lambda: optax.lookahead(optax.sgd(0.1), 5, 0.5), "gradient alone .*pass ss.lookahead"),
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
    with pytest.raises(ValueError, match=f"optimizer is .*{remedy}"):
        ss.predict(ss.LinearRegression([1.0, 0.5], label_noise=0.5), make(), batch_size=4)
    with pytest.raises(ValueError, match=f"optimizer is .*{remedy}"):
        ss.predict_run(ss.LinearRegression([1.0, 0.5], label_noise=0.5), make(), batch_size=4, steps=10)


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


NEAR = 1 - 1e-8
DECAYS = [
    ("b2", ss.Adam(0.1, b2=NEAR)), ("b1", ss.Adam(0.1, b1=NEAR)), ("b2", ss.AdamW(0.1, b2=NEAR)),
    ("b1", ss.AdamW(0.1, b1=NEAR)), ("b2", ss.AdamE(0.1, b2=NEAR)), ("b2", ss.AdamMini(0.1, [[0]], b2=NEAR)),
    ("b2", ss.RMSProp(0.1, b2=NEAR)), ("b2", ss.AdaptiveGradient(0.1, b2=NEAR)),
    ("b1", ss.AdaptiveGradient(0.1, b1=NEAR)),
    ("b2", ss.AdaSGD(0.1, b2=NEAR)), ("momentum", ss.SGD(0.1, momentum=NEAR)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "optimizer"), DECAYS)
def test_decays_that_round_to_one(name, optimizer):
    with pytest.raises(ValueError, match=f"{name} is .* below 1 in float32.*float64"):
        ss.simulate(ss.LinearRegression([1.0], label_noise=1.0), optimizer, batch_size=1, chains=4, steps=10)


@pytest.mark.parametrize("transform", [optax.adam(0.1, b2=NEAR), optax.lamb(0.1, b1=NEAR)])
def test_decays_of_optax_that_round_to_one(transform):
    """Its steps would be 0, or no numbers."""
    with pytest.raises(ValueError, match=r"a decay of .* below 1 in float32.*float64"):
        ss.simulate(ss.LinearRegression([1.0], label_noise=1.0), transform, batch_size=1, chains=4, steps=10)
    check_request(ss.LinearRegression([1.0]), transform, chains=4, steps=10, dtype="float64")


def test_decays_of_a_sweep_that_round_to_one():
    with pytest.raises(ValueError, match=r"b2 is .* below 1 in float32.*float64"):
        ss.sweep(ss.LinearRegression([1.0], label_noise=1.0), ss.Adam(0.1), b2=[0.9, 1 - 1e-8], batch_size=1,
                 chains=64, steps=10)


NUMBERS = {
    "if": lambda problem, w: 1.0 if w[0] > 0 else 0.0,
    "one argument": lambda w: w[0],
    "none": lambda problem, w: None,
    "vector": lambda problem, w: w**2,
    "complex": lambda problem, w: 1j * w[0],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_to_average(name):
    with pytest.raises(ValueError, match=r"functions\['a'\] is .* but it must be a function"):
        ss.simulate(ss.LinearRegression([1.0, 0.5], label_noise=0.5), ss.SGD(0.1), batch_size=4, chains=4, steps=10,
                    statistics=[ss.statistics.Average({"a": NUMBERS[name]})])


SCALINGS = {"none": lambda v: None, "if": lambda v: v if v[0, 0] > 0 else -v, "shorter": lambda v: v[:1],
            "math": math.sqrt}


@pytest.mark.parametrize("function", ["V", "S"])
@pytest.mark.parametrize("name", SCALINGS)
def test_scalings_of_an_adaptive_optimizer(name, function):
    with pytest.raises(ValueError, match=f"{function} is .* but it must be a function that"):
        ss.simulate(ss.LinearRegression([1.0, 0.5], label_noise=0.5),
                    ss.AdaptiveGradient(0.1, **{function: SCALINGS[name]}), batch_size=4, chains=4, steps=10)


def test_a_statistic_that_is_a_class():
    with pytest.raises(ValueError, match=r"statistics is <class .*try ss.statistics.Moments\(\)"):
        ss.simulate(ss.LinearRegression([1.0]), ss.SGD(0.1), batch_size=4, chains=4, steps=10,
                    statistics=[ss.statistics.Moments])


@pytest.mark.parametrize("build", [
    lambda x: ss.DatasetRegression(x * np.ones((3, 1)), np.ones(3)),
    lambda x: ss.LinearRegression([1.0, x], label_noise=0.5),
    lambda x: ss.LinearRegression([1.0], label_noise=x),
    lambda x: ss.Quadratic([1.0], [x], [1.0]),
])
def test_a_problem_is_built_outside_what_jax_traces(build):
    def loss(problem):
        return ss.solver.stationary_law(problem, ss.SGD(0.1), batch_size=2.0).test_loss

    with jax.enable_x64(True):
        with pytest.raises(ValueError, match=r"what JAX traces.*jax.grad\(lambda p"):
            jax.grad(lambda x: loss(build(x)))(0.7)
        found = jax.grad(loss)(build(0.7))
    assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(found))
