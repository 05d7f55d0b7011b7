import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sgdsim.kernels import dataset
from sgdsim.kernels.dataset import dataset_kernel
from sgdsim.problems import DatasetRegression

RNG = np.random.default_rng(7)
N, D = 6, 2
X, Y = RNG.normal(size=(N, D)) + 0.3, RNG.normal(size=N)
W = np.array([0.8, -0.5])
GAMMA = np.array([[0.3, 0.1], [0.1, -0.2]])
CHAINS = 400_000
LEVEL = 1e-4


def problem(noise=0.0, decay=0.0, x=X, y=Y):
    return DatasetRegression(x, y, weight_decay=decay, label_noise=noise)


def draws(p, b, sampling, dtype=np.float32, steps=1, chains=CHAINS, seed=0):
    """Gradients at W, shape (steps, D, chains)."""
    with jax.enable_x64(dtype is np.float64):
        kernel = dataset_kernel(p, b, sampling, dtype)
        w = jnp.tile(jnp.asarray(W, dtype)[:, None], (1, chains))

        @jax.jit
        def run(kernel, key):
            def step(state, i):
                gradient, state = kernel.draw(jax.random.fold_in(key, i), w, state)
                return state, gradient

            return jax.lax.scan(step, kernel.init(key, chains), jnp.arange(steps))[1]

        gradients = run(kernel, jax.random.key(seed))
        assert gradients.dtype == dtype
        return np.asarray(gradients, np.float64)


def enumerated(p, b, replace):
    """Mean and covariance of the minibatch gradient over all batches, label noise added in closed form."""
    pick = itertools.product(range(N), repeat=b) if replace else itertools.combinations(range(N), b)
    each = X * (X @ W - Y)[:, None]
    outer = X[:, :, None] * X[:, None, :]
    means, noise, gradients = [], 0, []
    for rows in map(list, pick):
        gradients.append(each[rows].mean(axis=0))
        means.append(outer[rows].sum(axis=0) / b**2)
    noise = np.mean(means, axis=0) * float(p.label_noise) ** 2
    gradients = np.array(gradients)
    decay = np.asarray(p.weight_decay) @ W if np.ndim(p.weight_decay) else float(p.weight_decay) * W
    return gradients.mean(axis=0) + decay, np.cov(gradients.T, bias=True) + noise


def agrees(g, mean, covariance):
    """Mean and covariance within k standard errors, two-sided, k from the number of comparisons."""
    k = stats.norm.isf(LEVEL / 2 / (D + D * D))
    n = g.shape[1]
    d = g - mean[:, None]
    products = d[:, None] * d[None]
    mean_z = d.mean(axis=-1) / (d.std(axis=-1) / np.sqrt(n))
    cov_z = (products.mean(axis=-1) - covariance) / (products.std(axis=-1) / np.sqrt(n))
    return np.abs(mean_z).max() < k and np.abs(cov_z).max() < k


CASES = [
    pytest.param(sampling, b, noise, decay, id=f"{sampling}-{b}-{noise}-{np.ndim(decay)}")
    for sampling, b in [
        ("with_replacement", 1), ("with_replacement", 3),
        ("without_replacement", 2), ("without_replacement", 4), ("epochs", 4),
    ]
    for noise, decay in [(0.0, 0.0), (0.7, GAMMA)]
]


@pytest.mark.parametrize(("sampling", "b", "noise", "decay"), CASES)
def test_moments_against_enumeration(sampling, b, noise, decay):
    p = problem(noise, decay)
    g = draws(p, b, sampling)[0]
    mean, covariance = enumerated(p, b, sampling == "with_replacement")
    assert agrees(g, mean, covariance)
    assert not agrees(g, 1.05 * mean, covariance)
    assert not agrees(g, mean, 1.05 * covariance)
    assert not agrees(g, mean, covariance / 1.05)


@pytest.mark.parametrize("wide", [False, True])
def test_batches_of_random_sizes_against_enumeration(wide, monkeypatch):
    """Every example joins with chance b/n, and one uniformly drawn where none does; all 2^n batches."""
    if wide:
        monkeypatch.setattr(sys.modules["sgdsim.kernels.examples"], "_NARROW", 1)
    p, b = problem(0.7, GAMMA), 2
    each, outer = X * (X @ W - Y)[:, None], X[:, :, None] * X[:, None, :]
    mean, second = 0, 0
    for size in range(1, N + 1):
        batches = list(itertools.combinations(range(N), size))
        chance = (b / N) ** size * (1 - b / N) ** (N - size) + (size == 1) * (1 - b / N) ** N / N
        for rows in map(list, batches):
            g = each[rows].mean(axis=0)
            mean = mean + chance * g
            second = second + chance * (np.outer(g, g) + 0.49 * outer[rows].sum(axis=0) / size**2)
    assert np.allclose(mean, each.mean(axis=0))
    g, covariance = draws(p, b, "bernoulli")[0], second - np.outer(mean, mean)
    assert agrees(g, p.gradient(W), covariance) and not agrees(g, p.gradient(W), 1.03 * covariance)


def test_a_cycle_has_the_batches_of_a_pass_for_ever():
    g = draws(problem(), 4, "cyclic", steps=4, chains=30)
    np.testing.assert_array_equal(g[:2], g[2:])
    whole = (4 * g[0] + 2 * g[1]) / N
    np.testing.assert_allclose(whole, np.tile(problem().gradient(W)[:, None], 30), atol=1e-6)
    assert len(np.unique(g[0].round(4), axis=1).T) > 5


def test_signs_of_labels_on_all_examples():
    p = DatasetRegression(X[:2], Y[:2], label_noise=0.7, noise="sign")
    g = draws(p, 2, "without_replacement", chains=2000)[0]
    signs = np.array(list(itertools.product((-1, 1), repeat=2)))
    distance = np.abs(g.T[:, None] - (p.gradient(W) - 0.7 * signs @ X[:2] / 2)).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-5
    assert np.abs(np.bincount(distance.argmin(axis=1), minlength=4) - 500).max() < 4 * np.sqrt(2000 * 3 / 16)


def test_the_last_batch_of_an_epoch_is_the_mean_of_what_remains():
    p = problem(0.7, GAMMA)
    g = draws(p, 4, "epochs", steps=4)
    for last in (1, 3):
        assert agrees(g[last], *enumerated(p, 2, replace=False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("b", [1, 2, 4, 5])
def test_the_batches_of_an_epoch_add_up_to_the_full_gradient(b, dtype):
    p = problem(decay=0.4)
    steps = -(-N // b)
    sizes = np.array([b] * (N // b) + [N % b] * (N % b > 0))
    g = draws(p, b, "epochs", dtype, steps=2 * steps, chains=20).reshape(2, steps, D, 20)
    mean = np.einsum("s,esdc->edc", sizes / N, g)
    expected = np.broadcast_to(p.gradient(W)[:, None], mean.shape)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sampling", ["without_replacement", "epochs"])
def test_all_examples_give_the_full_gradient(sampling, dtype):
    p = problem(decay=GAMMA)
    g = draws(p, N, sampling, dtype, chains=5)[0]
    np.testing.assert_allclose(g, np.tile(p.gradient(W)[:, None], 5), rtol=0, atol=8 * np.finfo(dtype).eps)


def test_all_examples_with_label_noise():
    p = problem(noise=0.7)
    g = draws(p, N, "without_replacement")[0]
    assert agrees(g, p.gradient(W), 0.49 * X.T @ X / N**2)
    assert not agrees(g, p.gradient(W), 1.05 * 0.49 * X.T @ X / N**2)


@pytest.mark.parametrize("b", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_draw_without_replacement_is_the_mean_of_some_subset(b, dtype):
    g = draws(problem(), b, "without_replacement", dtype, chains=500)[0]
    each = X * (X @ W - Y)[:, None]
    possible = np.array([each[list(rows)].mean(axis=0) for rows in itertools.combinations(range(N), b)])
    distance = np.abs(g.T[:, None] - possible[None]).max(axis=-1)
    assert distance.min(axis=1).max() < 40 * np.finfo(dtype).eps
    assert len(set(distance.argmin(axis=1))) == len(possible)


def picked(monkeypatch):
    """Record the indices a kernel draws."""
    seen = []
    original = dataset.subsets.with_replacement

    def record(*args):
        seen.append(original(*args))
        return seen[-1]

    monkeypatch.setattr(dataset.subsets, "with_replacement", record)
    return seen


@pytest.mark.parametrize("b", [1, 8, 9, 100])
def test_slices_cover_every_row_of_the_batch_once(b, monkeypatch):
    seen = picked(monkeypatch)
    x, y = RNG.normal(size=(50, 3)), RNG.normal(size=50)
    w = RNG.normal(size=(3, 7))
    with jax.enable_x64(True):
        kernel = dataset_kernel(problem(x=x, y=y), b, "with_replacement", np.float64)
        g, _ = kernel.draw(jax.random.key(b), jnp.asarray(w), ())
    rows = np.asarray(seen[0])
    residual = np.einsum("bcd,dc->bc", x[rows], w) - y[rows]
    np.testing.assert_allclose(g, np.einsum("bcd,bc->dc", x[rows], residual) / b, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_many_features_take_the_same_steps_as_few(monkeypatch):
    """Wide tables are gathered row by row, chain by chain on a CPU; the sum is the same to rounding."""
    import sgdsim.kernels.examples as module

    rng = np.random.default_rng(3)
    problem = DatasetRegression(rng.normal(size=(30, 5)), rng.normal(size=30), label_noise=0.2)
    params, key = rng.normal(size=(5, 16)).astype(np.float32), jax.random.key(0)
    for sampling in ("with_replacement", "epochs"):  # 30 is no multiple of 20: the last batch is smaller
        monkeypatch.setattr(module, "_NARROW", 16)
        few, many = dataset_kernel(problem, 20, sampling, np.float32), None
        monkeypatch.setattr(module, "_NARROW", 2)
        many = dataset_kernel(problem, 20, sampling, np.float32)
        assert type(few.examples) is not type(many.examples)
        state = few.init(key, 16)
        for _ in range(2):
            expected, later = few.draw(key, params, state)
            found, state = many.draw(key, params, state)
            np.testing.assert_allclose(expected, found, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(*(jax.tree.leaves(x)[-1] if x else 0 for x in (state, later)))
    index, noise, weight = rng.integers(0, 30, (20, 16)), rng.normal(size=(20, 16)), rng.normal(size=20)
    both = (f(params, index, noise.astype("f4"), weight.astype("f4"))
            for f in (many.examples.chain_by_chain, many.examples.all_chains))
    np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-5)
