import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss

K = [[1.0, 0.2], [0.2, 0.5]]
PROBLEM = ss.LinearRegression(K, label_noise=0.5)
RNG = np.random.default_rng(5)
X = RNG.standard_t(5, size=(12, 3))
DATA = ss.DatasetRegression(X, X @ [1.0, -1.0, 0.5] + RNG.standard_t(4, size=12), weight_decay=0.1, label_noise=0.3)
FLAT = ss.DatasetRegression([[1.0, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]], [1.0, 2.0, 0.0, -0.5])
NETWORK = ss.TwoLayerLinear([[1.0]], [[1.0]], label_noise=0.3)
RATES = jnp.array([0.1, 0.2, 0.1])
UPPER = ([0, 0, 1], [0, 1, 1])


def test_the_sheet():
    law = ss.predict(PROBLEM, optax.sgd(0.1, momentum=0.8, nesterov=True), batch_size=4)
    np.testing.assert_allclose(law.covariance[UPPER], [0.015540524751, -0.000232663819, 0.016122184298], atol=6e-13)
    assert law.spectral_radius == pytest.approx(0.780924, abs=6e-7)
    np.testing.assert_allclose(ss.predict(PROBLEM, optax.sgd(0.3), batch_size=4).covariance[UPPER],
                               [0.012400510844, 0.000513124587, 0.011117699377], atol=6e-13)
    np.testing.assert_allclose(ss.predict(PROBLEM, optax.sgd(0.05, momentum=0.9), batch_size=4).covariance[UPPER],
                               [0.018798358206, 0.000295632300, 0.018059277456], atol=6e-13)


SAME = {
    "sgd": (PROBLEM, lambda: optax.sgd(0.3), ss.SGD(0.3), None),
    "average": (PROBLEM, lambda: optax.chain(optax.ema(0.9), optax.scale(-0.3)), ss.SGD(0.03, 0.9), None),
    "critical": (ss.LinearRegression([1.0, 0.3], label_noise=1.0), lambda: optax.sgd(0.04, momentum=0.64),
                 ss.SGD(0.04, 0.64), None),
    "rates": (PROBLEM, lambda: optax.scale_by_learning_rate(np.array([0.3, 0.2])), ss.SGD(1.0, 0.0, [0.3, 0.2]), None),
    "matrix": (PROBLEM, lambda: ss.SGD(0.3, 0.5, [[1.0, 0.7], [0.0, 1.0]]).as_optax(),
               ss.SGD(0.3, 0.5, [[1.0, 0.7], [0.0, 1.0]]), None),
    "data": (DATA, lambda: optax.sgd(0.05, momentum=0.5), ss.SGD(0.05, 0.5), "with_replacement"),
    "subsets": (DATA, lambda: optax.sgd(0.05, momentum=0.5), ss.SGD(0.05, 0.5), "without_replacement"),
    "flat": (FLAT, lambda: optax.sgd(0.3, momentum=0.3), ss.SGD(0.3, 0.3), None),
    "bowl": (ss.Quadratic(K, [[1.0, 0.2], [0.2, 2.0]], [1.0, 2.0]), lambda: optax.sgd(0.3), ss.SGD(0.3), None),
}


@pytest.mark.parametrize("name", SAME)
def test_the_modal_route_says_the_same(name):
    problem, make, described, sampling = SAME[name]
    law = ss.predict(problem, make(), batch_size=2, sampling=sampling)
    other = ss.predict(problem, described, batch_size=2, sampling=sampling)
    for quantity in ("mean", "covariance", "noise_covariance", "train_loss", "test_loss"):
        one, two = (np.asarray(getattr(x, quantity)) for x in (law, other))
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-10 * max(np.abs(two).max(), 1e-3))
    rate = 1.0 if name == "rates" else float(described.learning_rate)
    assert law.max_learning_rate * rate == pytest.approx(other.max_learning_rate, rel=1e-7)
    assert law.spectral_radius == pytest.approx(other.spectral_radius, rel=1e-7)


@pytest.mark.slow
def test_gradients_accumulated_over_k_steps_are_a_batch_of_k_times_as_many():
    accumulate = optax.MultiSteps(optax.sgd(0.3, momentum=0.5), 4).gradient_transformation()
    law, other = ss.predict(PROBLEM, accumulate, batch_size=2), ss.predict(PROBLEM, ss.SGD(0.3, 0.5), batch_size=8)
    np.testing.assert_allclose(law.covariance, other.covariance, rtol=1e-6)  # it accumulates in single precision


def test_decoupled_decay_against_every_batch():
    """Second moments of the augmented state, one step for each example: from the update rule alone."""
    rate, mu, decay = 0.05, 0.6, 0.3
    optimizer = optax.chain(optax.trace(mu), optax.add_decayed_weights(decay), optax.scale(-rate))
    plain = ss.DatasetRegression(DATA.features, DATA.targets)
    d = 3
    steps = []
    for x, y in zip(plain.features, plain.targets, strict=True):
        gradient = np.hstack([np.outer(x, x), np.zeros((d, d)), -(x * y)[:, None]])
        m = np.hstack([np.zeros((d, d)), mu * np.eye(d), np.zeros((d, 1))]) + gradient
        w = np.eye(d, 2 * d + 1) - rate * (m + decay * np.eye(d, 2 * d + 1))
        steps.append(np.vstack([w, m, np.eye(1, 2 * d + 1, 2 * d)]))
    steps = np.array(steps)
    moments = np.zeros((2 * d + 1, 2 * d + 1))
    moments[-1, -1] = 1
    for _ in range(20_000):
        before, moments = moments, (steps @ moments @ steps.mT).mean(axis=0)
        if np.abs(moments - before).max() < 1e-16:
            break
    law = ss.predict(plain, optimizer, batch_size=1)
    np.testing.assert_allclose(law.mean, moments[:d, -1], rtol=1e-10)
    np.testing.assert_allclose(law.covariance, moments[:d, :d] - np.outer(law.mean, law.mean), rtol=1e-8, atol=1e-12)
    assert np.abs(law.mean - plain.minimum).max() > 0.05, "the decay hardly moved the mean"


def test_beyond_the_limit():
    with pytest.raises(ValueError, match=r"factor of all updates is 1.0, but it must be below 0.644"):
        ss.predict(PROBLEM, optax.sgd(1.9), batch_size=4)


BAD = {
    "schedule": (PROBLEM, lambda: optax.sgd(lambda t: 0.1 + 0.01 * jnp.sin(t)), {}, NotImplementedError, "predict_run"),
    "approximation": (PROBLEM, lambda: optax.sgd(0.1), {"approximation": "hessian"}, ValueError, "approximation"),
    "flat": (FLAT, lambda: optax.scale_by_learning_rate(RATES), {}, ValueError, "positive definite"),
    "network": (NETWORK, lambda: optax.sgd(0.1), {}, NotImplementedError, "linear networks"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    problem, make, options, kind, match = BAD[name]
    with pytest.raises(kind, match=match):
        ss.predict(problem, make(), batch_size=2, **options)
