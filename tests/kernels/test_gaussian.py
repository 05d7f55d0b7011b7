"""The one-example law against batches that are really drawn."""

import jax
import numpy as np
import pytest
from scipy import stats

import sgdsim as ss
from sgdsim._types import cast
from sgdsim.kernels.gaussian import compressed_kernel, direct_kernel

DRAWS = 40_000
PROBLEMS = {
    "label noise": ss.LinearRegression([[1.0, 0.3], [0.3, 0.5]], teacher=[1.0, -1.0], label_noise=0.7),
    "noiseless": ss.LinearRegression([1.0, 0.5], teacher=[1.0, -1.0]),
    "input noise": ss.LinearRegression([1.0, 0.5], teacher=[1.0, -1.0], input_noise=[[0.3, 0.1], [0.1, 0.2]]),
    "weight decay": ss.LinearRegression(
        [1.0, 0.5], teacher=[1.0, -1.0], label_noise=0.5, weight_decay=[[0.2, -0.1], [-0.1, -0.3]]
    ),
}
POINT = np.array([0.4, 0.8])


def draws_of(kernel, seed, point=POINT):
    params = np.tile(np.asarray(point, np.float32)[:, None], (1, DRAWS))
    kernel = cast(kernel, np.float32)
    gradient, _ = jax.jit(lambda k: kernel.draw(k, params, ()))(jax.random.key(seed))
    return np.asarray(gradient, np.float64)


def draws_by_definition(problem, batch_size, rng):
    """Batches written from the definition of the problem, in NumPy."""
    root = np.linalg.cholesky(problem.covariance if problem.covariance.ndim == 2 else np.diag(problem.covariance))
    x = rng.normal(size=(DRAWS, batch_size, 2)) @ root.T
    y = x @ problem.teacher + problem.label_noise * rng.normal(size=(DRAWS, batch_size))
    if problem.input_noise is not None:
        x = x + rng.normal(size=x.shape) @ np.linalg.cholesky(problem.input_noise).T
    gradient = np.einsum("nb,nbd->dn", x @ POINT - y, x) / batch_size
    decay = problem.weight_decay
    return gradient + (decay @ POINT if decay.ndim else decay * POINT)[:, None]


def assert_same_law(a, b, comparisons):
    """Two-sample KS on the coordinates, their sum and difference, and the norm; means and second moments by z."""
    threshold = 1e-4 / comparisons
    views = [lambda g: g[0], lambda g: g[1], lambda g: g[0] + g[1], lambda g: g[0] - g[1], lambda g: (g**2).sum(axis=0)]
    for view in views:
        assert stats.ks_2samp(view(a), view(b)).pvalue > threshold / len(views)


@pytest.mark.parametrize("batch_size", [2, 3, 11, 12, 40])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_compressed_kernel_has_the_law_of_real_batches(name, batch_size, rng):
    problem = PROBLEMS[name]
    ours = draws_of(compressed_kernel(problem, batch_size, np.float32), 1)
    assert_same_law(ours, draws_by_definition(problem, batch_size, rng), comparisons=40)


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("name", PROBLEMS)
def test_so_has_the_direct_kernel(name, batch_size, rng):
    problem = PROBLEMS[name]
    ours = draws_of(direct_kernel(problem, batch_size), 2)
    assert_same_law(ours, draws_by_definition(problem, batch_size, rng), comparisons=40)


def test_the_comparison_would_see_a_wrong_law(rng):
    problem = PROBLEMS["label noise"]
    ours = draws_of(compressed_kernel(problem, 12, np.float32), 3)
    full = problem.gradient(POINT)[:, None]
    with pytest.raises(AssertionError):
        assert_same_law(full + 1.05 * (ours - full), draws_by_definition(problem, 12, rng), comparisons=40)


def test_no_residual_no_gradient():
    """At the teacher without noise every residual is zero: the gradient is 0, not 0 / 0."""
    problem = PROBLEMS["noiseless"]
    np.testing.assert_array_equal(draws_of(compressed_kernel(problem, 12, np.float32), 4, problem.teacher), 0.0)


def test_the_mean_is_the_full_gradient(assert_within_sigma):
    for i, problem in enumerate(PROBLEMS.values()):
        gradient = draws_of(compressed_kernel(problem, 5, np.float32), 10 + i)
        stderr = gradient.std(axis=1) / np.sqrt(DRAWS)
        assert_within_sigma(gradient.mean(axis=1), problem.gradient(POINT), stderr, 8)
