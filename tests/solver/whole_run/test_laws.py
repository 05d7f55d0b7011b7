import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.solver.whole_run import predict_run, run_law, stationary_law
from sgdsim.solver.whole_run.diagonal import diagonal_law, stationary_diagonal
from sgdsim.solver.whole_run.linear_optimizer import cycle, read_linear

D = 50
K = np.arange(1, D + 1) ** -1.5
RNG = np.random.default_rng(2)
WIDE = ss.LinearRegression(K, RNG.normal(size=D), label_noise=0.3, input_noise=0.1 * K, weight_decay=0.01)
DENSE = ss.LinearRegression(np.diag(K), WIDE.teacher, label_noise=0.3, input_noise=np.diag(0.1 * K), weight_decay=0.01)
FEATURES, TARGETS = RNG.normal(size=(9, 2)), RNG.normal(size=9)
DATA = ss.DatasetRegression(FEATURES, TARGETS, weight_decay=0.1)
OPTIMIZERS = {
    "sgd": ss.SGD(0.2), "momentum": ss.SGD(0.1, 0.7),
    "diagonal": ss.SGD(0.1, 0.7, [1.0, 0.5]), "matrix": ss.SGD(0.1, 0.7, [[1.0, 0.5], [0.2, 0.6]]),
}
PROBLEMS = {
    "gaussian": (ss.LinearRegression([[1.0, 0.2], [0.2, 0.5]], label_noise=0.5), None),
    "decay": (ss.LinearRegression([1.0, 0.5], [1.0, 2.0], label_noise=0.5, weight_decay=0.1), None),
    "subsets": (DATA, "without_replacement"),
    "bowl": (ss.Quadratic([1.0, 0.5], [1.0, 2.0], [0.3, 0.1]), None),
}


@pytest.mark.parametrize(("problem", "optimizer"), [
    ("gaussian", "sgd"), ("gaussian", "momentum"), ("gaussian", "matrix"), ("decay", "diagonal"),
    ("subsets", "momentum"),
    ("bowl", "matrix"),
])
def test_predict_says_the_same(problem, optimizer):
    (problem, sampling), optimizer = PROBLEMS[problem], OPTIMIZERS[optimizer]
    with jax.enable_x64(True):
        law = jax.jit(lambda o, b: stationary_law(problem, o, batch_size=b, sampling=sampling))(optimizer, 4.0)
    other = ss.predict(problem, optimizer, batch_size=4, sampling=sampling)
    np.testing.assert_allclose(law.mean, other.mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(law.variance, np.diag(other.covariance), rtol=1e-10)
    assert float(law.train_loss) == pytest.approx(other.train_loss, rel=1e-10)
    assert float(law.test_loss) == pytest.approx(other.test_loss, rel=1e-10)


@pytest.mark.slow
def test_diagonal_and_dense_runs_agree_to_twelve_digits():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.2, 50, 300, 0.01)
    with jax.enable_x64(True):
        law = run_law(WIDE, ss.SGD(schedule, 0.8), batch_size=4.0, steps=300)
    run = predict_run(DENSE, ss.SGD(schedule, 0.8), batch_size=4, steps=300, record=[2, 10, 100, 300])
    for name in ("mean", "variance", "train_loss", "test_loss"):
        dense = getattr(run, name)
        np.testing.assert_allclose(getattr(law, name)[run.step], dense, rtol=1e-12, atol=1e-12 * np.abs(dense).max())
    # and so do the laws they settle in
    with jax.enable_x64(True):
        settled = stationary_law(WIDE, ss.SGD(0.2, 0.8), batch_size=4.0)
    other = ss.predict(DENSE, ss.SGD(0.2, 0.8), batch_size=4)
    np.testing.assert_allclose(settled.variance, np.diag(other.covariance), rtol=1e-11)


THREE_VECTORS = optax.chain(optax.ema(0.9), optax.trace(0.5), optax.scale(-0.05))


@pytest.mark.parametrize("make", [lambda: optax.sgd(0.1, momentum=0.8, nesterov=True),
                                  pytest.param(lambda: THREE_VECTORS, marks=pytest.mark.slow)])
def test_diagonal_law_of_any_optimizer(make):
    steps, _ = cycle(read_linear(make(), D))
    with jax.enable_x64(True):
        state = stationary_diagonal(jax.tree.map(jnp.asarray, steps[0]), diagonal_law(WIDE, 4))
    other = ss.predict(DENSE, make(), batch_size=4)
    assert bool(state.settles)
    np.testing.assert_allclose(state.covariance[0, 0], np.diag(other.covariance), rtol=1e-9)
    np.testing.assert_allclose(state.noise, np.diag(other.noise_covariance), rtol=1e-9)


@pytest.mark.parametrize("problem", [ss.LinearRegression([1.0, 0.2], label_noise=0.5),
                                     ss.LinearRegression(np.diag([1.0, 0.2]), label_noise=0.5), DATA])
def test_nan_past_the_limit(problem):
    limit = ss.predict(problem, ss.SGD(0.1), batch_size=4).max_learning_rate
    shares = np.array([0.5, 0.99, 0.9999, 1.0001, 1.01, 1.5, 3.0])
    with jax.enable_x64(True):
        def loss(rate):
            return stationary_law(problem, changed(ss.SGD(0.1), learning_rate=rate), batch_size=4.0).test_loss

        losses = jax.jit(jax.vmap(loss))(jnp.asarray(shares * limit))
    np.testing.assert_array_equal(np.isnan(losses), shares > 1)


def changed(optimizer, **values):
    for name, value in values.items():
        object.__setattr__(optimizer, name, value)
    return optimizer


def stationary_losses(rate, momentum, b, noise, scale):
    problem = dataclasses.replace(PROBLEMS["gaussian"][0])
    problem = changed(problem, label_noise=noise, covariance=scale * jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    optimizer = changed(ss.SGD(0.1, 0.5), learning_rate=rate, momentum=momentum)
    return stationary_law(problem, optimizer, batch_size=b).test_loss


def annealed_loss(peak, momentum, b, noise, scale):
    problem = dataclasses.replace(PROBLEMS["decay"][0])
    problem = changed(problem, label_noise=noise, covariance=scale * jnp.array([1.0, 0.5]))
    optimizer = changed(ss.SGD(0.1, 0.5), learning_rate=lambda t: peak * (1 - t / 30), momentum=momentum)
    return run_law(problem, optimizer, batch_size=b, steps=30, initial=[2.0, -1.0]).test_loss[-1]


@pytest.mark.parametrize("loss", [pytest.param(stationary_losses, marks=pytest.mark.slow), annealed_loss])
def test_gradients_against_finite_differences(loss):
    point = np.array([0.1, 0.5, 4.0, 0.5, 1.0])
    with jax.enable_x64(True):
        value = jax.jit(lambda x: loss(*x))
        gradient = np.asarray(jax.grad(lambda x: loss(*x))(jnp.asarray(point)))
        for i in range(5):
            h = 1e-5 * point[i] * np.eye(5)[i]
            slope = float(value(point + h) - value(point - h)) / (2e-5 * point[i])
            assert gradient[i] == pytest.approx(slope, rel=1e-6)
    assert np.abs(gradient).min() > 1e-6


AS_USERS = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}  # not as in conftest.py
TURN = np.linalg.qr(RNG.normal(size=(10, 10)))[0]


WIDE_DATA = ss.DatasetRegression(RNG.normal(size=(100, 10)), RNG.normal(size=100))


@pytest.mark.slow  # beside one other program: .07, .6, .39 and .8 s
@pytest.mark.parametrize(("problem", "momentum", "high", "allowed"), [
    (ss.LinearRegression(np.arange(1, 11) / 10, label_noise=0.5), 0.5, 0.3, 1.0),
    (ss.LinearRegression(TURN * (np.arange(1, 11) / 10) @ TURN.T, label_noise=0.5), 0.5, 0.3, 1.0),
    (WIDE_DATA, None, 0.02, 1.0),
    (WIDE_DATA, 0.5, 0.02, 1.5),
])
def test_ten_thousand_pairs(problem, momentum, high, allowed):
    def loss(rate, b):
        return stationary_law(problem, ss.SGD(rate, momentum), batch_size=b).test_loss

    with jax.enable_x64(True):
        every = jax.jit(jax.vmap(loss), compiler_options=AS_USERS)
        rates, sizes = jnp.linspace(high / 30, high, 10_000), jnp.linspace(1, 64, 10_000)
        every(rates, sizes).block_until_ready()
        begun = time.perf_counter()
        losses = np.asarray(every(rates, sizes))
        seconds = time.perf_counter() - begun
    assert seconds < allowed, seconds
    first = ss.predict(problem, ss.SGD(high / 30, momentum), batch_size=1).test_loss
    last = ss.predict(problem, ss.SGD(high, momentum), batch_size=64).test_loss
    assert losses[0] == pytest.approx(first, rel=1e-9) and losses[-1] == pytest.approx(last, rel=1e-9)
    assert abs(first / last - 1) > 0.005


def test_an_optimizer_is_built_inside_what_jax_traces():
    """A user writes `ss.SGD(rate, momentum)` in the function that is differentiated and vectorised."""
    problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)

    def loss(rate, momentum, b):
        return ss.solver.stationary_law(problem, ss.SGD(rate, momentum), batch_size=b).test_loss

    rates, momenta, sizes = np.array([0.1, 0.2]), np.array([0.3, 0.9]), np.array([2.0, 8.0])
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(loss))(rates, momenta, sizes)
        slope = jax.grad(loss)(0.1, 0.3, 2.0)
    for value, rate, mu, b in zip(found, rates, momenta, sizes, strict=True):
        theory = ss.predict(problem, ss.SGD(rate, mu), batch_size=int(b))
        assert float(value) == pytest.approx(theory.test_loss, rel=1e-12)
    ends = [ss.predict(problem, ss.SGD(0.1 + e, 0.3), batch_size=2).test_loss for e in (-1e-5, 1e-5)]
    assert float(slope) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6)
