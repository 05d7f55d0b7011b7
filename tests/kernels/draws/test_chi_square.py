import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sgdsim.kernels.draws import random
from sgdsim.kernels.draws.chi_square import (
    QUANTILE_FROM,
    ChiSquareExact,
    ChiSquareQuantile,
    chi_square_sampler,
)

FAST = sorted({*range(12, 33), *np.unique(np.geomspace(33, 4096, 39).astype(int)), 5000, 100_000, 1_000_000})
EVERY = range(12, 4097)
BOUNDS = {np.float64: 1e-6, np.float32: 3e-6}
GRID = np.linspace(-5.999, 5.999, 211)
DRAWS = 1_000_000
GOODNESS = (1, 2, 3, 7, 12, 64, 1000)


def polynomials(batch_sizes, z, dtype):
    """Sqrt(q) of every batch size, one vectorised call, shape (batch sizes, z)."""
    coefficients = np.stack([chi_square_sampler(int(b), dtype).coefficients for b in batch_sizes])
    with jax.enable_x64(dtype is np.float64):
        sampler = ChiSquareQuantile(jnp.asarray(coefficients).T[:, :, None])
        q, root = sampler.from_normal(jnp.asarray(z, dtype)[None])
        assert q.dtype == root.dtype == dtype
        return np.asarray(q, np.float64), np.asarray(root, np.float64)


def exact(batch_sizes, z):
    b = np.asarray(list(batch_sizes), dtype=np.float64)[:, None]
    z = np.asarray(z, dtype=np.float64)
    tail = stats.norm.sf(np.abs(z))
    return np.where(z < 0, stats.chi2.ppf(tail, b), stats.chi2.isf(tail, b))


def largest_errors(batch_sizes, dtype):
    z = GRID.astype(dtype)
    truth = exact(batch_sizes, z)
    q, root = polynomials(batch_sizes, z, dtype)
    return np.abs(q / truth - 1).max(), np.abs(root / np.sqrt(truth) - 1).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [pytest.param(EVERY, marks=pytest.mark.slow), FAST], ids=["every", "beyond"])
def test_quantile_is_accurate(sizes, dtype):
    q_error, root_error = largest_errors(sizes, dtype)
    assert root_error <= BOUNDS[dtype]
    assert q_error <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantile_is_finite_positive_and_monotone_in_the_far_tails(dtype):
    z = np.linspace(-8.5, 8.5, 341)
    q, root = polynomials(FAST, z, dtype)
    assert np.isfinite(q).all()
    assert (root > 0).all()
    assert (np.diff(root) >= 0).all()
    assert (np.diff(root[:, np.abs(z) < 7]) > 0).all()


def test_far_tail_is_still_close():
    z = np.array([-6.9, 6.9])
    _, root = polynomials(FAST, z, np.float64)
    np.testing.assert_allclose(root, np.sqrt(exact(FAST, z)), rtol=1e-4)


def test_samplers_of_all_large_batches_share_one_program():
    first, second = (jax.tree.flatten(chi_square_sampler(b)) for b in (12, 4096))
    assert first[1] == second[1]
    assert [leaf.shape for leaf in first[0]] == [leaf.shape for leaf in second[0]]


def draw(b, dtype, count=DRAWS, seed=0):
    key, normal_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), b))
    with jax.enable_x64(dtype is np.float64):
        sampler = chi_square_sampler(b, dtype)
        assert isinstance(sampler, ChiSquareExact) == (b < QUANTILE_FROM)
        q, root = jax.jit(sampler.draw)(key, jax.random.normal(normal_key, (count,), dtype))
        assert q.dtype == root.dtype == dtype
    q, root = np.asarray(q, np.float64), np.asarray(root, np.float64)
    np.testing.assert_allclose(root**2, q, rtol=1e-6)
    return q


def fits(q, b):
    """Kolmogorov-Smirnov, mean and variance, two-sided, at one in a thousand over all the comparisons."""
    level = 1e-3 / (3 * len(GOODNESS))
    k = stats.norm.isf(level / 2)
    mean_z = (q.mean() - b) / np.sqrt(2 * b / len(q))
    # Var of (q-b)^2: the fourth central moment 12 b (b+4) less (2b)^2
    variance_z = (np.mean((q - b) ** 2) - 2 * b) / np.sqrt((8 * b * b + 48 * b) / len(q))
    return stats.kstest(q, stats.chi2(b).cdf).pvalue > level and abs(mean_z) < k and abs(variance_z) < k


@pytest.mark.parametrize("b", GOODNESS)
def test_draws_follow_the_chi_square_law(b):
    assert fits(draw(b, np.float32), b)


@pytest.mark.parametrize("b", [b if b == 2 else pytest.param(b, marks=pytest.mark.slow) for b in GOODNESS])
def test_the_goodness_of_fit_notices_a_wrong_scale(b):
    q = draw(b, np.float32)
    assert not fits(1.03 * q, b)
    assert not fits(q / 1.03, b)


@pytest.mark.parametrize("b", [2, 3, 12])
def test_float64_draws_follow_the_chi_square_law(b):
    assert fits(draw(b, np.float64, count=200_000), b)


@pytest.mark.parametrize("b", range(2, 12))
@pytest.mark.parametrize("word", [0, 2**32 - 1])
def test_extreme_random_words_give_finite_draws(b, word, monkeypatch):
    monkeypatch.setattr(random, "bits", lambda key, shape, axis=None: jnp.full(shape, word, jnp.uint32))
    q, root = chi_square_sampler(b, np.float32).draw(jax.random.key(0), jnp.zeros((1,), jnp.float32))
    assert np.isfinite(q).all() and np.isfinite(root).all()
    assert (q >= 0).all()
    assert float(q[0]) > 40 if word == 0 else float(q[0]) < 1e-6


def test_works_inside_scan_and_map():
    sampler = chi_square_sampler(5, np.float32)

    @jax.jit
    def total(key):
        def step(carry, i):
            k = jax.random.fold_in(key, i)
            return carry + sampler.draw(k, jax.random.normal(k, (3,)))[0], None

        return jax.lax.map(lambda j: jax.lax.scan(step, jnp.zeros(3) + j, jnp.arange(4))[0], jnp.arange(2.0))

    assert np.isfinite(total(jax.random.key(1))).all()
