import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim import predict_run

RNG = np.random.default_rng(8)
X = RNG.exponential(size=(6, 2)) ** 1.5
SKEWED = ss.DatasetRegression(X, X @ [1.0, -0.5] + 0.3 * X[:, 0] ** 2, weight_decay=[[0.2, 0.05], [0.05, 0.1]],
                              label_noise=0.2)
GAUSSIAN = ss.LinearRegression([[1.0, 0.2], [0.2, 0.5]], label_noise=0.5)


def halving(t):
    return 0.06 * 0.9**t


def by_enumeration(problem, rates, momenta, sizes, start, sampling):
    """E w and Cov w after each step, by all batches of all steps: from the update rule alone."""
    n, d = problem.features.shape
    gamma, sigma = np.asarray(problem.weight_decay), float(problem.label_noise)
    z = np.concatenate([start, np.zeros(d), [1.0]])
    moments = [np.outer(z, z)]
    for rate, mu, b in zip(rates, momenta, sizes, strict=True):
        choose = itertools.product if sampling == "with_replacement" else None
        listed = list(choose(range(n), repeat=b) if choose else itertools.combinations(range(n), b))
        after = 0
        enter = np.vstack([-rate * np.eye(d), np.eye(d), np.zeros((1, d))])
        for batch in map(list, listed):
            x, y = problem.features[batch], problem.targets[batch]
            m = np.hstack([x.T @ x / b + gamma, mu * np.eye(d), -(x.T @ y / b)[:, None]])
            step = np.vstack([np.eye(d, 2 * d + 1) - rate * m, m, np.eye(1, 2 * d + 1, 2 * d)])
            noise = enter @ (sigma**2 * x.T @ x / b**2) @ enter.T
            after = after + (step @ moments[-1] @ step.T + noise) / len(listed)
        moments.append(after)
    moments = np.array(moments)
    means = moments[:, :d, -1]
    return means, moments[:, :d, :d] - means[:, :, None] * means[:, None, :]


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_every_batch_of_every_step(sampling):
    steps, start = 12, [1.5, -1.0]
    sizes = [1, 2, 3, 1] * 3
    momentum = lambda t: 0.5 + 0.02 * t  # noqa: E731
    transform = optax.chain(ss_trace(momentum), optax.scale_by_learning_rate(halving))
    run = predict_run(SKEWED, transform, batch_size=sizes, steps=steps, initial=start, sampling=sampling,
                      record=list(range(13)))
    rates, momenta = [halving(t) for t in range(steps)], [momentum(t) for t in range(steps)]
    means, covariances = by_enumeration(SKEWED, rates, momenta, sizes, np.array(start), sampling)
    np.testing.assert_allclose(run.mean, means, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(run.covariance, covariances, rtol=1e-10, atol=1e-13)
    for t in (0, 5, 12):
        root = np.linalg.cholesky(covariances[t] + 1e-300 * np.eye(2)) if t else np.zeros((2, 2))
        points = means[t][:, None] + np.sqrt(2) * np.hstack([root, -root])
        assert run.train_loss[t] == pytest.approx(SKEWED.loss(points).mean(), rel=1e-10)
        assert run.test_loss[t] == pytest.approx(SKEWED.test_loss(points).mean(), rel=1e-10)


def ss_trace(momentum):
    """Heavy ball whose momentum is a schedule."""
    def init(w):
        return jnp.zeros_like(w), jnp.zeros((), jnp.int32)

    def update(g, state, w=None):
        m = momentum(state[1]) * state[0] + g
        return m, (m, state[1] + 1)

    return optax.GradientTransformation(init, update)


def test_the_noise_on_the_way_is_not_that_at_the_minimum():
    """Without the term that is linear in the mean, the expected loss of skewed data is off."""
    run = predict_run(SKEWED, ss.SGD(0.05), batch_size=1, steps=20, initial=[1.5, -1.0], record=[20])
    d = SKEWED.dimension
    x, r = SKEWED.features, SKEWED.features @ SKEWED.minimum - SKEWED.targets
    hessian, f = SKEWED.hessian(), np.eye(d) - 0.05 * SKEWED.hessian()
    m, second = np.array([1.5, -1.0]) - SKEWED.minimum, None
    second = np.outer(m, m)
    gram, bar = x.T @ x / len(x), x.T @ r / len(x)
    for _ in range(20):
        square = np.einsum("i,id,ie->de", r**2 + np.einsum("id,de,ie->i", x, second, x), x, x) / len(x)
        noise = square - gram @ second @ gram - np.outer(bar, bar) + 0.04 * gram
        second, m = f @ second @ f.T + 0.05**2 * noise, f @ m
    without = float(SKEWED.loss(SKEWED.minimum)) + np.sum(hessian * second) / 2
    assert abs(without - run.train_loss[0]) > 0.03 * (run.train_loss[0] - float(SKEWED.loss(SKEWED.minimum)))


def test_the_sheet():
    schedule = lambda t: 0.4 * (1 + jnp.cos(jnp.pi * t / 100)) / 2  # noqa: E731
    run = predict_run(GAUSSIAN, ss.SGD(schedule), batch_size=4, steps=100, initial=[2.0, -1.0],
                      record=[0, 1, 10, 50, 100])
    np.testing.assert_allclose(run.test_loss, [1.85, 0.97237, 0.033318479861, 0.006220798295, 0.001526484027],
                               atol=6e-13)
    np.testing.assert_allclose(run.learning_rate[[0, 3]], [0.4, 0.2], rtol=1e-6)
    assert run.step.tolist() == [0, 1, 10, 50, 100] and run.batch_size.tolist() == [4] * 5


def test_a_long_run_settles():
    run = predict_run(GAUSSIAN, ss.SGD(0.2, 0.5), batch_size=4, steps=2000, record=[2000])
    law = ss.predict(GAUSSIAN, ss.SGD(0.2, 0.5), batch_size=4)
    np.testing.assert_allclose(run.covariance[0], law.covariance, rtol=1e-11)


def test_chains_may_start_apart():
    start = RNG.normal(size=(50, 2))
    run = predict_run(GAUSSIAN, ss.SGD(0.2), batch_size=4, steps=3, initial=start, record=1)
    np.testing.assert_allclose(run.mean[0], start.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(run.covariance[0], np.cov(start.T, bias=True), rtol=1e-12)
    assert run.step.tolist() == [0, 1, 2]


NETWORK = ss.TwoLayerLinear([[1.0]], [[1.0]], label_noise=0.3)
BAD = {
    "batch sizes": ({"batch_size": [1, 2]}, ValueError, r"batch_size is \[1, 2\], but .* one number, or as many"),
    "batch size": ({"batch_size": lambda t: 3 - t}, ValueError, "batch_size is 0"),
    "half a batch": ({"batch_size": lambda t: 1.5}, ValueError, "batch_size is 1.5"),
    "steps": ({"steps": 0}, ValueError, "steps is 0"),
    "record": ({"record": [11]}, ValueError, "record is 11"),
    "initial": ({"initial": [1.0]}, ValueError, "initial is"),
    "optimizer": ({"optimizer": optax.adam(0.1)}, NotImplementedError, "scale_by_adam"),
    "problem": ({"problem": NETWORK}, NotImplementedError, "TwoLayerLinear"),
    "sampling": ({"sampling": "epochs"}, ValueError, "sampling is 'epochs'"),
    "epochs": ({"problem": SKEWED, "sampling": "epochs", "batch_size": [2, 3] * 5}, ValueError, "one number"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    change, kind, match = BAD[name]
    asked = {"problem": GAUSSIAN, "optimizer": ss.SGD(0.1), "batch_size": 2, "steps": 10} | change
    with pytest.raises(kind, match=match):
        predict_run(asked.pop("problem"), asked.pop("optimizer"), **asked)


def test_many_parameters_have_variances_alone():
    run = predict_run(ss.LinearRegression(np.ones(300), label_noise=1.0), ss.SGD(0.001), batch_size=1, steps=5)
    assert run.variance.shape == (6, 300)
    with pytest.raises(ValueError, match=r"at most 256 .*variance"):
        _ = run.covariance
