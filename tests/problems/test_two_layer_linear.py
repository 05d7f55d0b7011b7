"""Linear networks against their definition: examples one by one, and sampling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss

TEACHERS = {
    "two": lambda rng: [rng.normal(size=(4, 3)), rng.normal(size=(2, 4))],
    "three": lambda rng: [rng.normal(size=(4, 3)), rng.normal(size=(5, 4)), rng.normal(size=(2, 5))],
    "one": lambda rng: [rng.normal(size=(2, 3))],
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def problem_of(layers, noise=0.0):
    return ss.TwoLayerLinear(*layers, noise) if len(layers) == 2 else ss.DeepLinear(layers, noise)


@pytest.mark.parametrize("depth", TEACHERS)
def test_the_gradient_of_one_example_is_the_derivative_of_its_squared_error(depth, rng):
    problem = problem_of(TEACHERS[depth](rng), 0.5)
    w, x, y = (jnp.asarray(rng.normal(size=size)) for size in (problem.dimension, 3, 2))

    def error(w):
        out, at = x, 0
        for rows, columns in problem.shapes:
            out = w[at : at + rows * columns].reshape(rows, columns) @ out
            at += rows * columns
        return 0.5 * jnp.sum((out - y) ** 2)

    np.testing.assert_allclose(problem.example_gradient(w, (x, y)), jax.grad(error)(w), rtol=1e-12, atol=1e-13)
    both = jnp.stack([w, -w], axis=1)
    np.testing.assert_allclose(
        problem.example_gradient(both, (x, y)),
        np.stack([problem.example_gradient(v, (x, y)) for v in (w, -w)], axis=1), rtol=1e-12,
    )


def test_loss_and_gradient_are_the_averages_over_examples(rng, assert_within_sigma):
    sigma, draws = 0.7, 40_000
    problem = problem_of(TEACHERS["two"](rng), sigma)
    w = rng.normal(size=problem.dimension)
    inner, outer = problem.unflatten(w)
    x = rng.normal(size=(draws, 3))
    y = x @ problem.target.T + sigma * rng.normal(size=(draws, 2))
    missed = x @ (outer @ inner).T - y
    losses = 0.5 * np.sum(missed**2, axis=1)
    # d/dW1 = (W2' r) x' and d/dW2 = r (W1 x)', written out
    gradients = np.concatenate(
        [np.einsum("ni,nj->nij", missed @ outer, x).reshape(draws, -1),
         np.einsum("ni,nj->nij", missed, x @ inner.T).reshape(draws, -1)], axis=1,
    )  # fmt: skip
    root = np.sqrt(draws)
    assert_within_sigma(losses.mean(), problem.loss(w), losses.std() / root)
    assert_within_sigma(gradients.mean(axis=0), problem.gradient(w), gradients.std(axis=0) / root)
    np.testing.assert_allclose(problem.example_gradient(w, (x[0], y[0])), gradients[0], rtol=1e-12)
    with pytest.raises(AssertionError):  # and it notices a loss that is 5 % off
        assert_within_sigma(losses.mean(), 1.05 * problem.loss(w), losses.std() / root)


def test_both_classes_are_the_same_network(rng):
    inner, outer = TEACHERS["two"](rng)
    two, deep = ss.TwoLayerLinear(inner, outer, 0.2), ss.DeepLinear([inner, outer], 0.2)
    w = rng.normal(size=(two.dimension, 5))
    for name in ("loss", "test_loss", "gradient"):
        np.testing.assert_array_equal(getattr(two, name)(w), getattr(deep, name)(w))
    np.testing.assert_array_equal(two.hessian(w[:, 0]), deep.hessian(w[:, 0]))
    assert two.loss(w[:, 0]) == pytest.approx(two.test_loss(w[:, 0]) + 2 * 0.2**2 / 2, rel=1e-14)


def test_layers_are_stored_row_by_row_inner_first():
    problem = ss.TwoLayerLinear(np.zeros((2, 3)), np.zeros((1, 2)))
    w = np.arange(8.0)
    inner, outer = problem.unflatten(w)
    assert inner.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] and outer.tolist() == [[6.0, 7.0]]
    np.testing.assert_array_equal(problem.flatten(inner, outer), w)
    chains = np.stack([w, 2 * w], axis=1)
    assert [layer.shape for layer in problem.unflatten(chains)] == [(2, 3, 2), (1, 2, 2)]
    np.testing.assert_array_equal(problem.flatten(*problem.unflatten(chains)), chains)


def test_the_start_is_no_saddle_always_the_same_and_of_the_documented_size(rng):
    problem = ss.TwoLayerLinear(rng.normal(size=(60, 50)), rng.normal(size=(40, 60)))
    start = problem.default_start
    np.testing.assert_array_equal(start, problem.default_start)
    inner, outer = problem.unflatten(start)
    # a variance from k normal numbers has the relative standard error sqrt(2/k)
    assert abs(inner.var() * 50 * 9 - 1) < 5 * np.sqrt(2 / 3000)
    assert abs(outer.var() * 60 * 9 - 1) < 5 * np.sqrt(2 / 2400)
    assert np.linalg.norm(problem.gradient(start)) > 1


def test_only_the_product_matters():
    """An invertible matrix passed between the layers changes neither the loss nor that the teacher is a minimum."""
    inner, outer = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[1.0, 1.0]])
    gauge = np.array([[2.0, 1.0], [0.0, 0.5]])
    problem = ss.TwoLayerLinear(inner, outer)
    moved = problem.flatten(gauge @ inner, outer @ np.linalg.inv(gauge))
    assert problem.loss(moved) == pytest.approx(0.0, abs=1e-28)
    assert np.sum(np.linalg.eigvalsh(problem.hessian()) < 1e-12) == 6 - 2  # D = 6, and the map has 2 entries
