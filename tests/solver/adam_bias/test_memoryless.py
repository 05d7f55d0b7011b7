"""Memory removal against its definition by automatic differentiation, and against the optimizer itself."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss

BATCHES, D = 4, 3
B1, B2 = 0.8, 0.9


@pytest.fixture(scope="module")
def cubic():
    """Four losses with a gradient that is not linear: w -> H_k w - c_k + a_k w^2."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(BATCHES, D, D))
    hessian = np.einsum("kij,klj->kil", root, root) / D + 0.5 * np.eye(D)
    return hessian, rng.normal(size=(BATCHES, D)), 0.2 * rng.normal(size=(BATCHES, D))


def quadratic():
    return ss.Quadratic(np.ones(D), np.zeros(D))


def order_of(seed, steps):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(BATCHES) for _ in range(-(-steps // BATCHES))])[:steps]


def gradients(losses, order):
    hessian, target, bend = losses

    def gradient(w, k):
        batch = jnp.asarray(order)[k]
        return jnp.asarray(hessian)[batch] @ w - jnp.asarray(target)[batch] + jnp.asarray(bend)[batch] * w**2

    return gradient


def momentum_definition(beta):
    """F_t(theta_0, ..., theta_t) as it is written."""

    def f(past, gradient):
        t = len(past) - 1
        return sum(beta ** (t - k) * gradient(past[k], k) for k in range(t + 1))

    return f


def adam_definition(b1, b2, inside, outside):
    def f(past, gradient):
        t = len(past) - 1
        mu = [b1 ** (t - k) * (1 - b1) / (1 - b1 ** (t + 1)) for k in range(t + 1)]
        nu = [b2 ** (t - k) * (1 - b2) / (1 - b2 ** (t + 1)) for k in range(t + 1)]
        g = [gradient(past[k], k) for k in range(t + 1)]
        m = sum(a * x for a, x in zip(mu, g, strict=True))
        v = sum(a * x**2 for a, x in zip(nu, g, strict=True))
        return m / (jnp.sqrt(v + inside) + outside)

    return f


def by_definition(f, gradient, w, t):
    """Main_t and Corr_t: sum_k dF_t/dtheta_{t-k} sum_{s=t-k}^{t-1} F_s, each Jacobian by itself."""
    main = [np.asarray(f([w] * (s + 1), gradient)) for s in range(t + 1)]
    jacobians = jax.jacfwd(lambda past: f(past, gradient))([w] * (t + 1))
    correction = sum(np.asarray(jacobians[t - k]) @ sum(main[t - k : t]) for k in range(1, t + 1))
    return main[t], correction


CASES = {
    "sgd": (lambda: ss.SGD(0.1, momentum=0.7), {}, momentum_definition(0.7)),
    "adam, epsilon inside": (lambda: ss.Adam(0.1, B1, B2, eps=0.0, eps_root=0.1), {}, adam_definition(B1, B2, 0.1, 0)),
    "adam, epsilon outside": (lambda: ss.Adam(0.1, B1, B2, eps=0.2), {}, adam_definition(B1, B2, 0.0, 0.2)),
    "optax": (lambda: optax.adam(1.0, B1, B2, eps=0.0, eps_root=0.1), {"learning_rate": 0.1},
              adam_definition(B1, B2, 0.1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_terms_equal_their_definition(name, cubic):
    make, options, definition = CASES[name]
    t, w = 6, np.array([0.3, -1.2, 0.8])
    gradient = gradients(cubic, order_of(1, t + 1))
    found = ss.solver.adam_bias.memoryless(quadratic(), make(), gradient, **options).terms(w, t)
    with jax.enable_x64(True):
        main, correction = by_definition(definition, gradient, jnp.asarray(w), t)
    np.testing.assert_allclose(found.main, main, rtol=1e-11)
    np.testing.assert_allclose(found.correction, correction, rtol=1e-10)
    assert np.abs(correction).min() > 1e-3, "nothing was tested"


def gradient_of(batch, w):
    hessian, target, bend = batch
    return hessian @ w - target + bend * w**2


def momentum_steps(batches, w, rate):
    m, path = np.zeros(D), [w]
    for batch in batches:
        m = 0.8 * m + gradient_of(batch, path[-1])
        path.append(path[-1] - rate * m)
    return np.array(path)


def adam_steps(batches, w, rate):
    m, v, path = np.zeros(D), np.zeros(D), [w]
    for k, batch in enumerate(batches):
        g = gradient_of(batch, path[-1])
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
        path.append(path[-1] - rate * (m / (1 - B1 ** (k + 1))) / np.sqrt(v / (1 - B2 ** (k + 1)) + 0.1))
    return np.array(path)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_order_of_closeness(name, cubic):
    """Main alone is first order; with Corr the error falls like eta^2 (horizon eta t = 1)."""
    errors = []
    hessian, target, bend = cubic
    for eta in (0.005, 0.0025):
        steps = round(1 / eta)
        order = order_of(0, steps)
        plain = [(hessian[k], target[k], bend[k]) for k in order]
        if name == "sgd":
            optimizer, follow, rate = ss.SGD(0.2 * eta, momentum=0.8), momentum_steps, 0.2 * eta
        else:
            optimizer, follow, rate = ss.Adam(eta, B1, B2, eps=0.0, eps_root=0.1), adam_steps, eta
        form = ss.solver.adam_bias.memoryless(quadratic(), optimizer, gradients(cubic, order))
        truth = follow(plain, np.ones(D), rate)
        np.testing.assert_allclose(form.trajectory(np.ones(D), steps, "memory"), truth, rtol=1e-9)
        paths = [form.trajectory(np.ones(D), steps, kind) for kind in ("main", "corrected")]
        errors.append([np.abs(path - truth).max() for path in paths])
    main, corrected = np.log2(np.array(errors[0]) / np.array(errors[1]))
    assert main == pytest.approx(1, abs=0.12)
    assert corrected == pytest.approx(2, abs=0.25)
    assert errors[1][1] < 0.1 * errors[1][0]


def test_indices_examples_and_a_function_say_the_same(rng):
    x, y = rng.normal(size=(6, 2)), rng.normal(size=6)
    problem = ss.DatasetRegression(x, y, weight_decay=0.1)
    order = np.array([[0, 3], [5, 1], [2, 4], [0, 1]])

    def gradient(w, k):
        rows = jnp.asarray(order)[k]
        a, b = jnp.asarray(x)[rows], jnp.asarray(y)[rows]
        return a.T @ (a @ w - b) / 2 + 0.1 * w

    optimizer, w = ss.Adam(0.01, 0.6, 0.9, eps=1e-3), [0.4, -2.0]
    found = [
        ss.solver.adam_bias.memoryless(problem, optimizer, batches).terms(w, 3)
        for batches in (order, (x[order], y[order]), gradient)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other.main, found[0].main, rtol=1e-12)
        np.testing.assert_allclose(other.correction, found[0].correction, rtol=1e-12)


def test_full_batch_closed_form():
    """One quadratic loss: Corr_t = sum_k beta^k H sum_s (1 - beta^(s+1)) / (1 - beta) g."""
    h, beta, t, w = np.array([2.0, 0.5, 1.0]), 0.6, 9, np.array([1.0, 2.0, -1.0])
    problem = ss.Quadratic(h, np.zeros(3))
    found = ss.solver.adam_bias.memoryless(problem, ss.SGD(0.1, momentum=beta)).terms(w, t)
    weight = sum(beta**k * sum((1 - beta ** (s + 1)) / (1 - beta) for s in range(t - k, t)) for k in range(1, t + 1))
    np.testing.assert_allclose(found.main, (1 - beta ** (t + 1)) / (1 - beta) * h * w, rtol=1e-12)
    np.testing.assert_allclose(found.correction, weight * h**2 * w, rtol=1e-12)


def test_without_memory_there_is_no_correction():
    problem = ss.Quadratic([1.0, 2.0], [0.0, 0.0])
    form = ss.solver.adam_bias.memoryless(problem, ss.SGD(0.1))
    np.testing.assert_array_equal(form.correction([1.0, 1.0], 5), 0)
    np.testing.assert_array_equal(form.trajectory([1.0, 1.0], 4, "main"), form.trajectory([1.0, 1.0], 4, "memory"))


def test_a_network_with_a_dead_input(rng):
    """The weight of an input that is always 0 has no gradient: Adam leaves it, whatever epsilon is."""
    x = rng.normal(size=(8, 2))
    x[:, 1] = 0
    module = nn.Sequential([nn.Dense(3, use_bias=False), nn.tanh, nn.Dense(1, use_bias=False)])
    problem = ss.FlaxNetwork(module, x, np.sin(x[:, 0]), "mse")
    order = rng.permutation(8).reshape(4, 2)
    found = ss.solver.adam_bias.memoryless(problem, ss.Adam(0.01, 0.9, 0.99), order).terms(problem.default_start, 3)
    dead = found.main == 0
    assert dead.sum() == 3 and np.isfinite(found.correction).all()
    assert (found.correction[dead] == 0).all() and (found.correction[~dead] != 0).all()


def test_terms_compile_once(compilations, cubic):
    form = ss.solver.adam_bias.memoryless(
        ss.DatasetRegression(np.eye(3), np.ones(3)), ss.SGD(0.1, momentum=0.5), np.array([[0], [2], [1]]))
    form.terms(np.ones(3), 1)
    before = compilations()
    form.terms(np.zeros(3), 2)
    assert compilations() == before


@pytest.mark.parametrize("rest", [lambda: optax.scale_by_adam(0.9, 0.9, eps=1e-3), lambda: optax.trace(0.9)])
def test_past_parameters_in_the_history_count(rest):
    """Decay before the moments is decay in the loss."""
    x, y, gamma = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 2.0, 0.0], 0.5
    before = optax.chain(optax.add_decayed_weights(gamma), rest(), optax.scale(-1.0))
    found = ss.solver.adam_bias.memoryless(ss.DatasetRegression(x, y), before, learning_rate=1e-3)
    exact = ss.solver.adam_bias.memoryless(ss.DatasetRegression(x, y, weight_decay=gamma),
                                 optax.chain(rest(), optax.scale(-1.0)), learning_rate=1e-3)
    for name in ("main", "correction"):
        np.testing.assert_allclose(getattr(found, name)([0.7, 0.3], 50), getattr(exact, name)([0.7, 0.3], 50),
                                   rtol=1e-9)
