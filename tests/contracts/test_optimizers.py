"""One table of optimizers, one list of promises: a new optimizer is tested by adding a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss

D = 3
DIAGONAL = np.array([0.5, 1.0, 2.0])
MATRIX = np.array([[0.5, 0.1, 0.0], [-0.2, 1.0, 0.3], [0.0, 0.1, 2.0]])  # not symmetric

SYMMETRIC = np.array([[1.0, 0.2, 0.0], [0.2, 1.0, 0.3], [0.0, 0.3, 2.0]])


def decaying(step):
    return 0.2 / (1.0 + 0.1 * step)


def linear(operator):
    """An optax transformation that multiplies the update by a diagonal or a matrix."""
    product = jnp.matmul if operator.ndim == 2 else jnp.multiply
    return optax.stateless(lambda g, _: product(jnp.asarray(operator, g.dtype), g))


# name: (ours, optax's own)
TABLE = {
    "sgd": (lambda: ss.SGD(0.1), lambda: optax.sgd(0.1)),
    "sgd-momentum": (lambda: ss.SGD(0.1, momentum=0.9), lambda: optax.sgd(0.1, momentum=0.9)),
    "sgd-schedule": (lambda: ss.SGD(decaying), lambda: optax.sgd(decaying)),
    "sgd-schedule-momentum": (lambda: ss.SGD(decaying, 0.7), lambda: optax.sgd(decaying, momentum=0.7)),
    "sgd-nesterov": (lambda: ss.SGD(0.1, 0.9, nesterov=True), lambda: optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "sgd-nesterov-diagonal": (lambda: ss.SGD(0.1, 0.9, DIAGONAL, nesterov=True),
                              lambda: optax.chain(linear(DIAGONAL), optax.sgd(0.1, momentum=0.9, nesterov=True))),
    "sgd-listed": (lambda: ss.SGD([0.3, 0.2, 0.1]), lambda: optax.sgd(lambda t: jnp.array([0.3, 0.2, 0.1])[t])),
    "sgd-diagonal": (lambda: ss.SGD(0.1, preconditioner=DIAGONAL),
                     lambda: optax.chain(linear(DIAGONAL), optax.sgd(0.1))),
    "sgd-diagonal-momentum": (lambda: ss.SGD(0.1, 0.9, DIAGONAL),
                              lambda: optax.chain(optax.trace(0.9), linear(DIAGONAL), optax.scale(-0.1))),
    "sgd-matrix": (lambda: ss.SGD(0.1, preconditioner=MATRIX), lambda: optax.chain(linear(MATRIX), optax.sgd(0.1))),
    "sgd-matrix-momentum": (lambda: ss.SGD(0.1, 0.9, MATRIX),
                            lambda: optax.chain(optax.trace(0.9), linear(MATRIX), optax.scale(-0.1))),
    "natural-gradient": (lambda: ss.NaturalGradient(0.1, fisher=SYMMETRIC, batch_size=2),
                         lambda: optax.chain(linear(np.linalg.inv(SYMMETRIC) / 2), optax.sgd(0.1))),
    "natural-gradient-momentum": (lambda: ss.NaturalGradient(0.1, 0.9, DIAGONAL, batch_size=2),
                                  lambda: optax.chain(optax.trace(0.9), linear(0.5 / DIAGONAL), optax.scale(-0.1))),
    "adam": (lambda: ss.Adam(0.01), lambda: optax.adam(0.01)),
    "adam-settings": (lambda: ss.Adam(0.01, b1=0.8, b2=0.95, eps=1e-3),
                      lambda: optax.adam(0.01, b1=0.8, b2=0.95, eps=1e-3)),
    "adam-no-memory": (lambda: ss.Adam(0.01, b1=0.0, b2=0.5), lambda: optax.adam(0.01, b1=0.0, b2=0.5)),
    "adam-schedule": (lambda: ss.Adam(decaying), lambda: optax.adam(decaying)),
    "adam-eps-root": (lambda: ss.Adam(0.01, eps=0.0, eps_root=1e-2), lambda: optax.adam(0.01, eps=0.0, eps_root=1e-2)),
    "adam-both-eps": (lambda: ss.Adam(0.01, eps=0.1, eps_root=0.2), lambda: optax.adam(0.01, eps=0.1, eps_root=0.2)),
    "adamw": (lambda: ss.AdamW(0.01, weight_decay=0.1), lambda: optax.adamw(0.01, weight_decay=0.1)),
    "adamw-schedule": (lambda: ss.AdamW(decaying, weight_decay=0.1), lambda: optax.adamw(decaying, weight_decay=0.1)),
    "adamw-nothing": (lambda: ss.AdamW(0.01, weight_decay=0.0), lambda: optax.adam(0.01)),
    "adam-mini-decay": (lambda: ss.AdamMini(0.01, [[2], [0], [1]], weight_decay=0.2),
                        lambda: optax.adamw(0.01, weight_decay=0.2)),
    "rmsprop": (lambda: ss.RMSProp(0.01), lambda: optax.rmsprop(0.01, decay=0.99, eps_in_sqrt=False)),
    "rmsprop-eps-root": (lambda: ss.RMSProp(0.01, b2=0.9, eps=0.0, eps_root=1e-3),
                         lambda: optax.rmsprop(0.01, decay=0.9, eps=1e-3)),
    "rmsprop-corrected": (lambda: ss.RMSProp(0.01, b2=0.9, bias_correction=True),
                          lambda: optax.rmsprop(0.01, decay=0.9, eps_in_sqrt=False, bias_correction=True)),
    "rmsprop-schedule": (lambda: ss.RMSProp(decaying), lambda: optax.rmsprop(decaying, decay=0.99, eps_in_sqrt=False)),
    "adam-e-half": (lambda: ss.AdamE(0.01, exponent=0.5), lambda: optax.adam(0.01)),
    "adam-mini-single": (lambda: ss.AdamMini(0.01, [[2], [0], [1]]), lambda: optax.adam(0.01)),
    "adalayer-single": (lambda: ss.Adalayer(0.01, [1, 1, 1], eps_root=0.1), lambda: optax.adam(0.01, eps_root=0.1)),
    "adafactor-vector": (lambda: ss.Adafactor(0.01, [(3,)]), lambda: optax.adam(0.01, b1=0.0)),
    "ada-sgd": (lambda: ss.AdaSGD(0.01), lambda: ss.AdamMini(0.01, [[0, 1, 2]]).as_optax()),
    "adaptive": (lambda: ss.AdaptiveGradient(0.01, b1=0.9, b2=0.99, bias_correction=True),
                 lambda: optax.adam(0.01, b1=0.9, b2=0.99, eps=0.0)),
    "adaptive-rms": (lambda: ss.AdaptiveGradient(0.01, S=lambda v: 1 / (jnp.sqrt(v) + 1e-3), b2=0.9),
                     lambda: optax.rmsprop(0.01, decay=0.9, eps=1e-3, eps_in_sqrt=False)),
}  # fmt: skip
every_optimizer = pytest.mark.parametrize("name", TABLE)


def trajectory(transformation, gradients):
    """Parameters after each update, from 1."""
    start = jnp.ones(gradients.shape[1:], gradients.dtype)

    def step(carry, gradient):
        w, state = carry
        update, state = transformation.update(gradient, state, w)
        assert update.dtype == gradient.dtype and update.shape == gradient.shape
        w = optax.apply_updates(w, update)
        return (w, state), w

    return jax.jit(lambda g: jax.lax.scan(step, (start, transformation.init(start)), g)[1])(gradients)


@every_optimizer
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-5), ("float64", 1e-12)])
def test_a_hundred_steps_equal_those_of_optax(name, dtype, rtol, rng):
    ours, theirs = (make() for make in TABLE[name])
    with jax.enable_x64(dtype == "float64"):
        gradients = jnp.asarray(rng.normal(size=(100, D)), dtype)
        mine, reference = (np.asarray(trajectory(t, gradients)) for t in (ours.as_optax(), theirs))
    assert mine.dtype == np.dtype(dtype)
    assert np.ptp(reference) > 0.1, "the optimizer hardly moved: the comparison would be empty"
    np.testing.assert_allclose(mine, reference, rtol=rtol, atol=rtol)


def described(tree):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)


@every_optimizer
def test_the_state_keeps_its_dtypes_and_shapes(name):
    transformation = TABLE[name][0]().as_optax()
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            w = jnp.ones(D, dtype)
            state = transformation.init(w)
            _, later = transformation.update(w, state, w)
            assert described(later) == described(state)
            floats = {x.dtype.name for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)}
            assert floats <= {dtype}


@every_optimizer
def test_one_call_over_all_chains_equals_one_call_for_each(name, rng):
    chains = 5
    with jax.enable_x64(True):
        transformation = TABLE[name][0]().as_optax()
        gradients = jnp.asarray(rng.normal(size=(20, D, chains)))
        together = trajectory(transformation, gradients)
        apart = jax.vmap(lambda g: trajectory(transformation, g), in_axes=2, out_axes=2)(gradients)
    np.testing.assert_allclose(together, apart, rtol=1e-13, atol=1e-13)


@every_optimizer
def test_it_is_a_frozen_pytree_and_survives_a_round_trip(name, rng):
    optimizer = TABLE[name][0]()
    leaves, structure = jax.tree.flatten(optimizer)
    again = jax.tree.unflatten(structure, leaves)
    gradients = jnp.asarray(rng.normal(size=(5, D)), jnp.float32)
    np.testing.assert_array_equal(
        trajectory(optimizer.as_optax(), gradients), trajectory(again.as_optax(), gradients)
    )
    assert jax.tree.structure(again) == structure
    with pytest.raises(AttributeError):
        optimizer.learning_rate = 1.0


@pytest.mark.parametrize(
    "make",
    [
        ss.SGD,
        lambda rate: ss.SGD(rate, momentum=0.5 + rate),
        lambda rate: ss.SGD(rate, 0.9, MATRIX * rate),
        lambda rate: ss.Adam(rate, b1=0.9 - rate, b2=0.99 - rate, eps=rate),
        lambda rate: ss.Adam(rate, eps_root=rate),
        lambda rate: ss.RMSProp(rate, b2=0.99 - rate, eps=rate),
        lambda rate: ss.AdamE(rate, b1=0.9 - rate, exponent=rate),
        lambda rate: ss.AdamMini(rate, [[0, 2], [1]], b2=0.99 - rate),
        lambda rate: ss.Adalayer(rate, [2, 1], eps=rate),
        lambda rate: ss.AdaptiveGradient(rate, b1=rate, b2=0.99 - rate),
    ],
    ids=["sgd", "momentum", "matrix", "adam", "eps-root", "rmsprop", "adam-e", "adam-mini", "adalayer", "adaptive"],
)
def test_changing_a_hyperparameter_does_not_recompile(make):
    traced = []

    @jax.jit
    def one_step(optimizer, w):
        traced.append(1)
        transformation = optimizer.as_optax()
        update, _ = transformation.update(w, transformation.init(w), w)
        return w + update

    w = jnp.ones(D)
    ends = [float(one_step(make(rate), w)[0]) for rate in (0.1, 0.2, 0.3)]
    assert len(traced) == 1
    assert len(set(ends)) == 3, "the hyperparameter had no effect"


@every_optimizer
def test_it_says_what_it_is(name):
    optimizer = TABLE[name][0]()
    assert isinstance(optimizer, ss.optimizers.Optimizer)
    assert type(optimizer).__name__ in repr(optimizer)
