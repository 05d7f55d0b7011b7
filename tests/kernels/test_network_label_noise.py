"""Fresh label noise of a network: mean and covariance of the drawn gradients, in every mode of sampling."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.kernels.network import network_kernel
from sgdsim.solver import gradient_covariance

data = np.random.default_rng(9)
X, Y = data.normal(size=(5, 2)), data.normal(size=(5, 2))


LABELS = {"cross_entropy": np.array([0, 2, 1, 2, 0]), "logistic": np.array([1, -1, -1, 1, 1])}


def flipping(loss, p):
    module = nn.Dense(3 if loss == "cross_entropy" else 1)
    return ss.FlaxNetwork(module, X, LABELS[loss], loss, label_flip=p)


def network(sigma):
    return ss.FlaxNetwork(nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(2)]), X, Y, label_noise=sigma)


draw = jax.jit(lambda kernel, key, w, state: kernel.draw(key, w, state)[0])


@pytest.mark.parametrize(
    ("sampling", "b", "subset"),
    [("with_replacement", 3, "with_replacement"),
     pytest.param("without_replacement", 5, "without_replacement", marks=pytest.mark.slow),
     ("without_replacement", 2, "without_replacement"), ("epochs", 2, "without_replacement")],
)  # fmt: skip
def test_draws_have_the_covariance_of_examples_and_labels(sampling, b, subset, assert_within_sigma):
    """The first batch of a pass is a subset drawn without replacement."""
    problem, chains = network(0.8), 4000
    w = problem.random_start(2, 1)[0]
    kernel = network_kernel(problem, b, sampling, np.float32)
    state = kernel.init(jax.random.key(5), chains)
    g = np.asarray(draw(kernel, jax.random.key(1), np.repeat(w[:, None], chains, axis=1), state), np.float64).T
    exact = gradient_covariance(problem, w, b, subset)
    d = g - np.asarray(problem.gradient(w))
    directions = data.normal(size=(4, len(w)))
    along = d @ directions.T
    truth = np.einsum("ki,ij,kj->k", directions, exact, directions)
    assert_within_sigma(along.mean(axis=0), 0.0, along.std(axis=0) / np.sqrt(chains), comparisons=40)
    square = (along**2).mean(axis=0)
    error = (along**2).std(axis=0) / np.sqrt(chains)
    assert_within_sigma(square, truth, error, comparisons=40)
    labels = truth - np.einsum("ki,ij,kj->k", directions, gradient_covariance(network(0.0), w, b, subset), directions)
    assert labels.min() > 0.2 * truth.min()
    with pytest.raises(AssertionError):
        assert_within_sigma(square, truth + 0.5 * labels, error, comparisons=40)


def test_the_label_noise_of_the_exact_covariance():
    """A linear network is least squares, whose noise is known."""
    linear = ss.FlaxNetwork(nn.Dense(1, use_bias=False), X, Y[:, 0], label_noise=0.7)
    squares = ss.DatasetRegression(X, Y[:, 0], label_noise=0.7)
    for sampling, b in (("with_replacement", 3), ("without_replacement", 4)):
        np.testing.assert_allclose(gradient_covariance(linear, [0.3, -0.2], b, sampling),
                                   gradient_covariance(squares, [0.3, -0.2], b, sampling), rtol=1e-6)
    w = np.array([0.3, -0.2])
    assert float(linear.loss(w)) == pytest.approx(float(squares.loss(w)), rel=1e-6)
    assert "label_noise=0.7" in repr(linear)


def test_signs_are_the_labels_of_algorithm_1():
    """With all examples in the batch the gradient takes one value for each choice of signs, all as often."""
    problem = ss.FlaxNetwork(nn.Dense(1, use_bias=False), X[:2], Y[:2, 0], label_noise=0.7, noise="sign")
    kernel, chains, w = network_kernel(problem, 2, "without_replacement", np.float32), 4000, np.array([0.3, -0.2])
    with jax.default_matmul_precision("highest"):  # as the engine asks for; a GPU's default is three digits
        g = np.asarray(draw(kernel, jax.random.key(1), np.repeat(w[:, None], chains, axis=1), ()))
    signs = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)])
    values = np.asarray(problem.gradient(w)) - 0.7 * signs @ X[:2] / 2
    distance = np.abs(g.T[:, None] - values).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-5
    counts = np.bincount(distance.argmin(axis=1), minlength=4)
    assert np.abs(counts - chains / 4).max() < 4 * np.sqrt(chains * 3 / 16)


@pytest.mark.parametrize(("loss", "sampling"), [("cross_entropy", "with_replacement"), ("logistic", "epochs")])
def test_flips_have_the_mean_and_covariance_of_the_chances(loss, sampling, assert_within_sigma):
    """The gradient written out: of every label with its chance, for the mean and the square; one example at a time."""
    p, chains = 0.3, 160_000
    problem = flipping(loss, p)
    w = problem.random_start(2, 1)[0]
    if loss == "cross_entropy":
        labels = range(3)
        chance = lambda y, label: 1 - p if y == label else p / 2  # noqa: E731
    else:
        labels = (-1, 1)
        chance = lambda y, label: 1 - p if y == label else p  # noqa: E731
    still = flipping(loss, 0.0)
    rows = [(chance(y, label) / 5, np.asarray(still.example_gradient(w, (x, np.asarray(label)))))
            for x, y in zip(X, LABELS[loss], strict=True) for label in labels]
    mean = sum(c * g for c, g in rows)
    second = sum(c * np.outer(g, g) for c, g in rows)
    np.testing.assert_allclose(np.asarray(problem.gradient(w)), mean, atol=1e-6)
    exact = gradient_covariance(problem, w, 1, "with_replacement")
    np.testing.assert_allclose(exact, second - np.outer(mean, mean), atol=1e-6)
    kernel = network_kernel(problem, 1, sampling, np.float32)
    state = kernel.init(jax.random.key(5), chains)
    g = np.asarray(draw(kernel, jax.random.key(1), np.repeat(w[:, None], chains, axis=1), state), np.float64).T
    assert_within_sigma(g.mean(axis=0), mean, g.std(axis=0) / np.sqrt(chains), comparisons=20)
    direction = np.linspace(-1, 1, len(w))
    along, truth = (g - mean) @ direction, direction @ exact @ direction
    square, error = (along**2).mean(), (along**2).std() / np.sqrt(chains)
    assert_within_sigma(square, truth, error)
    with pytest.raises(AssertionError):
        assert_within_sigma(square, 1.03 * truth, error)


def test_two_classes_flip_as_signs_do():
    """Cross-entropy of logits (0, f) is the logistic loss of f."""
    ce = ss.FlaxNetwork(nn.Dense(2), X, (LABELS["logistic"] + 1) // 2, "cross_entropy", label_flip=0.2)
    log = flipping("logistic", 0.2)
    w = np.array([2.0, -0.3, 0.2])  # bias, two weights
    wide = np.concatenate([[0, w[0]], np.stack([np.zeros(2), w[1:]], axis=1).ravel()])
    assert float(ce.loss(wide)) == pytest.approx(float(log.loss(w)), rel=1e-6)
    assert abs(float(log.loss(w)) / float(log.test_loss(w)) - 1) > 0.03
    with pytest.raises(ValueError, match="-1 or 1"):
        ss.FlaxNetwork(nn.Dense(1), X, [0, 1, 0, 1, 1], "logistic")
