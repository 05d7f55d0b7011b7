"""Linear networks: Bartlett's factor and the kernels against batches that are really drawn, in NumPy."""

import jax
import numpy as np
import optax
import pytest
from scipy import stats

import sgdsim as ss
from sgdsim._types import cast
from sgdsim.kernels.linear_network import bartlett_kernel, direct_kernel, linear_network_kernel, multiply

DRAWS = 20_000
RNG = np.random.default_rng(5)
W1, W2 = [[1.0, 0.5, -0.3], [-0.5, 1.0, 0.2]], [[0.5, -1.0], [1.0, 0.5]]
PROBLEMS = {
    "two layers": ss.TwoLayerLinear(W1, W2),
    "noisy": ss.TwoLayerLinear(W1, W2, label_noise=0.8),
    "wide output": ss.TwoLayerLinear([[1.0, -0.5]], [[0.5], [1.0], [-1.0], [0.3]]),
    "three layers": ss.DeepLinear([W1, W2, [[1.0, -1.0]]], label_noise=0.3),
    "one layer": ss.DeepLinear([W1]),
    "scalar": ss.TwoLayerLinear([[1.0]], [[2.0]]),
}
POINTS = {name: RNG.standard_normal(problem.dimension) for name, problem in PROBLEMS.items()}


def draws_of(kernel, point, seed):
    params = np.tile(np.asarray(point, np.float32)[:, None], (1, DRAWS))
    gradient, _ = jax.jit(lambda k: cast(kernel, np.float32).draw(k, params, ()))(jax.random.key(seed))
    return np.asarray(gradient, np.float64)


def draws_by_definition(problem, point, batch_size, rng):
    """Batch means of example gradients, by backpropagation one layer at a time."""
    layers, ends = [], np.cumsum([0, *(rows * columns for rows, columns in problem.shapes)])
    for (rows, columns), start in zip(problem.shapes, ends, strict=False):
        layers.append(np.asarray(point)[start : start + rows * columns].reshape(rows, columns))
    x = rng.standard_normal((DRAWS, batch_size, layers[0].shape[1]))
    activations = [x]
    for layer in layers:
        activations.append(activations[-1] @ layer.T)
    target = x
    for teacher in problem.layers:
        target = target @ teacher.T
    delta = activations[-1] - target - problem.label_noise * rng.standard_normal(target.shape)
    gradients = []
    for layer, below in zip(layers[::-1], activations[-2::-1], strict=True):
        gradients.insert(0, np.einsum("nbi,nbj->nij", delta, below).reshape(DRAWS, -1) / batch_size)
        delta = delta @ layer
    return np.concatenate(gradients, axis=1).T


def assert_same_law(a, b, comparisons):
    """Kolmogorov-Smirnov on random directions, the two ends and the norm, means and second moments by z."""
    directions = np.random.default_rng(0).standard_normal((4, len(a)))
    views = [lambda g, d=d: d @ g for d in directions] + [lambda g: (g**2).sum(axis=0), lambda g: g[0] * g[-1]]
    for view in views:
        assert stats.ks_2samp(view(a), view(b)).pvalue > 1e-4 / comparisons / len(views)
    threshold = stats.norm.isf(1e-4 / 2 / comparisons / (len(a) * (len(a) + 1)))
    for x, y in ((a, b), (a[:, None] * a, b[:, None] * b)):
        error = np.sqrt((x.var(axis=-1) + y.var(axis=-1)) / DRAWS)
        assert (np.abs(x.mean(axis=-1) - y.mean(axis=-1)) <= threshold * error).all()


@pytest.mark.parametrize(("name", "batch_size"), [("two layers", 2), ("two layers", 14), ("noisy", 1), ("noisy", 3),
                                                  ("noisy", 5), ("three layers", 2), ("three layers", 14)])
def test_the_bartlett_kernel_has_the_law_of_real_batches(name, batch_size, rng):
    problem, point = PROBLEMS[name], POINTS[name]
    ours = draws_of(bartlett_kernel(problem, batch_size, np.float32), point, 1)
    assert_same_law(ours, draws_by_definition(problem, point, batch_size, rng), comparisons=40)


@pytest.mark.parametrize(("name", "batch_size"), [("wide output", 20), ("one layer", 4), ("scalar", 3)])
def test_so_it_has_for_other_shapes(name, batch_size, rng):
    problem, point = PROBLEMS[name], POINTS[name]
    ours = draws_of(bartlett_kernel(problem, batch_size, np.float32), point, 2)
    assert_same_law(ours, draws_by_definition(problem, point, batch_size, rng), comparisons=40)


@pytest.mark.parametrize(("name", "batch_size"), [("two layers", 2), ("noisy", 7)])
def test_the_direct_kernel_too(name, batch_size, rng):
    problem, point = PROBLEMS[name], POINTS[name]
    ours = draws_of(direct_kernel(problem, batch_size), point, 3)
    assert_same_law(ours, draws_by_definition(problem, point, batch_size, rng), comparisons=40)


def test_the_comparison_would_see_a_wrong_law(rng):
    problem, point = PROBLEMS["noisy"], POINTS["noisy"]
    ours = draws_of(bartlett_kernel(problem, 5, np.float32), point, 4)
    truth = draws_by_definition(problem, point, 5, rng)
    full = np.asarray(problem.gradient(point))[:, None]
    with pytest.raises(AssertionError):
        assert_same_law(full + 1.08 * (ours - full), truth, comparisons=40)
    with pytest.raises(AssertionError):  # the label noise forgotten
        assert_same_law(draws_of(bartlett_kernel(PROBLEMS["two layers"], 5, np.float32), point, 4), truth, 40)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 9, 40])
def test_the_wishart_matrix_has_its_second_moment(batch_size, assert_within_sigma):
    """E[S N S] = N + (N' + tr(N) I) / b for S = L L' / b and any N; p = 4, so b < p is among them."""
    p, draws = 4, 100_000
    factor = bartlett_kernel(ss.DeepLinear([np.eye(p)]), batch_size, np.float32).factor
    factor = np.asarray(jax.jit(lambda key: factor.draw(key, draws, np.float32))(jax.random.key(7)), np.float64)
    assert factor.shape == (p, min(batch_size, p), draws)
    s = np.einsum("ikn,jkn->nij", factor, factor) / batch_size
    given = np.arange(16.0).reshape(p, p) / 8 - 1
    product = s @ given @ s
    exact = given + (given.T + np.trace(given) * np.eye(p)) / batch_size
    error = product.std(axis=0) / np.sqrt(draws)
    assert_within_sigma(product.mean(axis=0), exact, error, 6 * 32)
    assert_within_sigma(s.mean(axis=0), np.eye(p), s.std(axis=0) / np.sqrt(draws), 6 * 32)
    for wrong in (given + 1.25 * (exact - given), exact - given.T / batch_size):  # a term too large, or forgotten
        if batch_size < 40:
            with pytest.raises(AssertionError):
                assert_within_sigma(product.mean(axis=0), wrong, error, 6 * 32)


def test_few_examples_are_drawn_and_many_are_not():
    problem = ss.DeepLinear([np.eye(6)])
    columns = {b: linear_network_kernel(problem, b, "online", np.float32).factor for b in (1, 3, 4, 6, 1000)}
    assert [type(factor).__name__ for factor in columns.values()] == ["DirectFactor"] * 2 + ["BartlettFactor"] * 3
    assert columns[1000].columns == columns[6].columns == 6


def test_batch_sizes_beyond_the_inputs_share_one_program():
    problem = ss.DeepLinear([np.eye(3)])
    kernels = [linear_network_kernel(problem, b, "online", np.float32) for b in (14, 50, 1000)]
    structures = {(jax.tree.structure(k), tuple(np.shape(leaf) for leaf in jax.tree.leaves(k))) for k in kernels}
    assert len(structures) == 1


@pytest.mark.parametrize("inner", [3, 16, 17])
def test_products_of_chains(inner, rng):
    a, b = rng.standard_normal((2, inner, 7)).astype("f"), rng.standard_normal((inner, 3, 7)).astype("f")
    exact = np.einsum("ijc,jkc->ikc", a, b)
    np.testing.assert_allclose(multiply(a, b), exact, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(multiply(a[..., 0], b[..., 0]), exact[..., 0], rtol=2e-5, atol=2e-5)


def test_wide_layers_give_the_same_law_as_narrow_ones(rng):
    """17 hidden units go chain by chain, with the same draws: padding a narrow network with zeros changes nothing."""
    narrow = ss.TwoLayerLinear(np.ones((2, 3)), np.ones((2, 2)), label_noise=0.5)
    wide = ss.TwoLayerLinear(np.ones((17, 3)), np.ones((2, 17)) * 2 / 17, label_noise=0.5)
    inner, outer = rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    point = narrow.flatten(inner, outer)
    padded = wide.flatten(np.vstack([inner, np.zeros((15, 3))]), np.hstack([outer, np.zeros((2, 15))]))
    few = draws_of(bartlett_kernel(narrow, 5, np.float32), point, 3)
    many = draws_of(bartlett_kernel(wide, 5, np.float32), padded, 3)
    np.testing.assert_allclose(wide.unflatten(many)[0][:2], narrow.unflatten(few)[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(wide.unflatten(many)[1][:, :2], narrow.unflatten(few)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [ss.Adam(0.01), pytest.param(optax.lion(0.01), marks=pytest.mark.slow)])
def test_simulate_runs_it_with_any_optimizer(optimizer):
    problem = ss.TwoLayerLinear(W1, W2)
    result = ss.simulate(problem, optimizer, batch_size=8, chains=64, steps=200, burn_in=150)
    start = float(problem.test_loss(problem.default_start))
    assert result.status == "ok" and result.test_loss < 0.2 * start
