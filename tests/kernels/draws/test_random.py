"""The generator against its published answers and JAX's own; the normals against their law."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sgdsim.kernels.draws import random

# Known answers of Random123 1.09 for threefry2x32 with 20 rounds: counter, key, words.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]
MANY = 2**22


@pytest.fixture(scope="module")
def sample():
    draw = jax.jit(lambda key: random.normals(key, (4, MANY // 4), np.float32))
    return np.asarray(draw(jax.random.key(7)), np.float64)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    as_words = lambda pair: tuple(jnp.uint32(word) for word in pair)  # noqa: E731
    assert tuple(int(word) for word in random.threefry(as_words(key), as_words(counter))) == words


def test_it_is_the_hash_that_jax_splits_keys_with():
    """`split` hashes the counters (0, i): ours never have 0 in the first word."""
    key = jax.random.key(3)
    data = jax.random.key_data(key)
    x, y = random.threefry((data[0], data[1]), (jnp.zeros(5, jnp.uint32), jnp.arange(5, dtype=jnp.uint32)))
    np.testing.assert_array_equal(jax.random.key_data(jax.random.split(key, 5)), jnp.stack([x, y], axis=1))
    ours = set(np.asarray(random.bits(key, (64,))).tolist())
    theirs = set(np.asarray(jax.random.key_data(jax.random.split(key, 64))).ravel().tolist())
    assert len(ours) == 64 and not ours & theirs


@pytest.mark.parametrize("shape", [(1,), (2, 3), (3, 4), (3, 5), (12, 7), (3, 5, 6)])
def test_shapes_and_repetition(shape):
    key = jax.random.key(0)
    words = np.asarray(random.bits(key, shape))
    assert words.shape == shape and words.dtype == np.uint32 and len(np.unique(words)) == words.size
    np.testing.assert_array_equal(words, random.bits(key, shape))
    z = random.normals(key, shape, np.float32)
    assert z.shape == shape and z.dtype == np.float32 and np.isfinite(z).all()
    with jax.enable_x64(True):
        assert random.normals(key, shape, np.float64).dtype == np.float64


def test_every_bit_is_a_fair_coin_and_independent_of_its_neighbours():
    words = np.asarray(jax.jit(lambda key: random.bits(key, (2, 2**19)))(jax.random.key(1)))
    flips = np.unpackbits(words.view(np.uint8).reshape(*words.shape, 4), axis=-1).astype(np.int8) * 2 - 1
    n = words.size
    ones = flips.reshape(-1, 32).sum(axis=0) / np.sqrt(n)
    across = (flips[0] * flips[1]).sum(axis=0) / np.sqrt(n / 2)  # the two words of a counter
    along = (flips[0, 1:] * flips[0, :-1]).sum(axis=0) / np.sqrt(n / 2 - 1)  # neighbouring counters
    z = np.abs(np.concatenate([ones, across, along]))
    assert z.max() < stats.norm.isf(1e-4 / 2 / z.size)


def test_exponentials_and_circle_are_accurate():
    rng = np.random.default_rng(0)
    middle, anywhere = 2**31 + np.arange(-256, 256), rng.integers(0, 2**32, 10**5)
    words = np.concatenate([np.arange(512), middle, anywhere]).astype(np.uint32)
    u = (words.astype(np.float64) + 0.5) / 2**32
    # Rounding to float32: of u, and of a number that is up to 46.
    allowed = 2 * 6e-8 + 4e-7 * (1 - 2 * np.log(u)) / 2
    assert (np.abs(np.asarray(random.minus_two_log(jnp.asarray(words)), np.float64) + 2 * np.log(u)) < allowed).all()
    ends = random.minus_two_log(jnp.asarray([0, 2**32 - 1], jnp.uint32))
    assert abs(float(ends[0]) - 2 * 33 * np.log(2)) < 1e-5 and float(ends[1]) == 0.0
    x, y = random.box_muller(jnp.full(len(words), 2**31, jnp.uint32), jnp.asarray(words))
    angle, radius = 2 * np.pi * (words / 2**32 - 1 / 8), np.sqrt(2 * np.log(2))
    np.testing.assert_allclose(x, radius * np.cos(angle), atol=4e-7)
    np.testing.assert_allclose(y, radius * np.sin(angle), atol=4e-7)


def test_normals_follow_the_normal_law(sample):
    z = sample.ravel()
    assert stats.kstest(z, "norm").pvalue > 1e-4
    assert not stats.kstest(1.005 * z, "norm").pvalue > 1e-4
    moments = [(z.mean(), 0, 1), (np.mean(z**2), 1, 2), (np.mean(z**3), 0, 15), (np.mean(z**4), 3, 96),
               (np.mean(z**6), 15, 10170)]  # fmt: skip
    for value, truth, variance in moments:
        assert abs(value - truth) < stats.norm.isf(1e-4 / 2 / len(moments)) * np.sqrt(variance / z.size)
    for reach in (3.0, 4.0, 4.5):  # Poisson counts in both tails
        expected = z.size * stats.norm.sf(reach)
        for count in ((z > reach).sum(), (z < -reach).sum()):
            assert 1e-4 / 12 < stats.poisson.cdf(count, expected) < 1 - 1e-4 / 12


def test_the_two_of_a_pair_are_independent(sample):
    """In radius too: the correlation of squares would see a wrong angle."""
    first, second = sample[:2], sample[2:]
    for f in (lambda x: x, np.square, np.abs):
        a, b = f(first).ravel(), f(second).ravel()
        for other in (b, np.roll(a, 1), np.roll(b, 1)):
            assert abs(np.corrcoef(a, other)[0, 1]) * np.sqrt(a.size) < stats.norm.isf(1e-4 / 2 / 9)


def test_too_many_at_a_time_are_refused():
    with pytest.raises(NotImplementedError, match="smaller blocks"):
        jax.eval_shape(lambda key: random.bits(key, (2**17, 2**17)), jax.random.key(0))
