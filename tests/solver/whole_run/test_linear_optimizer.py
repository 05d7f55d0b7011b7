import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sgdsim.solver.whole_run.linear_optimizer import cycle, read_linear

RATES, TWIST = jnp.array([0.1, 0.2, 0.3]), jnp.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 2]])
KINDS = {
    "sgd": (lambda: optax.sgd(0.1), "alike", 1),
    "momentum": (lambda: optax.sgd(0.1, momentum=0.9), "alike", 2),
    "nesterov": (lambda: optax.sgd(0.1, momentum=0.9, nesterov=True), "alike", 2),
    "average": (lambda: optax.chain(optax.ema(0.9), optax.scale(-0.1)), "alike", 2),
    "decay": (lambda: optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale(-0.1)), "alike", 2),
    "hyperparameters": (lambda: optax.inject_hyperparams(optax.sgd)(learning_rate=0.3), "alike", 1),
    "rates": (lambda: optax.chain(optax.trace(0.5), optax.scale_by_learning_rate(RATES)), "apart", 2),
    "equal rates": (lambda: optax.scale_by_learning_rate(jnp.array([0.1, 0.1, 0.1])), "apart", 1),
    "matrix": (lambda: optax.stateless(lambda g, _: -0.1 * TWIST @ g), "mixed", 1),
    "centred": (lambda: optax.chain(optax.centralize(), optax.sgd(0.1)), "alike", 1),
}


@pytest.mark.parametrize("name", KINDS)
def test_steps_are_those_of_the_transformation(name):
    make, kind, blocks = KINDS[name]
    transform = make()
    found = read_linear(transform, 3)
    assert (found.kind, found.blocks) == (kind, blocks)
    steps, late = cycle(found)
    assert len(steps) == 1 and late == (name == "average")
    if late:
        return
    a, b, c = steps[0]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        w, state = jnp.asarray(rng.normal(size=3)), transform.init(jnp.zeros(3))
        z = np.zeros((blocks, 3))
        z[0] = w
        for g in rng.normal(size=(4, 3)):
            update, state = transform.update(jnp.asarray(g), state, w)
            w = w + update
            if kind == "alike":
                moved = a @ z + np.outer(b, g) + c[:, None]
            elif kind == "apart":
                moved = np.einsum("ijd,jd->id", a, z) + b * g + c
            else:
                moved = np.tensordot(a, z, 2) + b @ g + c
            moved[0] += z[0]
            z = moved
            np.testing.assert_allclose(z[0], w, rtol=1e-12)


def test_a_bias_correction_counts_by_its_limit():
    (step,), late = cycle(read_linear(optax.chain(optax.ema(0.9, debias=True), optax.scale(-0.1)), 2))
    assert late
    np.testing.assert_allclose(step.b, [-0.01, 0.1], rtol=1e-9)


def test_accumulation_is_periodic():
    accumulate = optax.MultiSteps(optax.sgd(0.3), 3, accumulator_dtype=jnp.float64).gradient_transformation()
    with jax.enable_x64(True):
        steps, _ = cycle(read_linear(accumulate, 2))
    assert [float(step.b[0]) for step in steps[:2]] == [0, 0]
    np.testing.assert_allclose(steps[2].b[0], -0.1, rtol=1e-12)


REFUSED = {
    "scale_by_adam": lambda: optax.adam(0.1),
    "clip_by_global_norm": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    "scale_by_lion": lambda: optax.lion(0.1),
    "scale_by_sign": lambda: optax.sign_sgd(0.1),
    "clip": lambda: optax.chain(optax.trace(0.9), optax.masked(optax.clip(1.0), True), optax.scale(-0.1)),
    "scale_by_rms": lambda: optax.MultiSteps(optax.rmsprop(0.3), 2).gradient_transformation(),
    "lookahead": lambda: optax.lookahead(optax.sgd(0.1), 5, 0.5),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linear_is_named(name):
    with pytest.raises(NotImplementedError, match=rf"transformation with {name}\b"):
        read_linear(REFUSED[name](), 2)


def test_a_schedule_without_an_end_has_no_stationary_law():
    with pytest.raises(NotImplementedError, match=r"goes on changing.*predict_run"):
        cycle(read_linear(optax.sgd(lambda t: 0.1 * (1.1 + jnp.sin(t))), 2))
