import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sgdsim.kernels.draws.subsets import (
    _below,
    bernoulli,
    floyd_subset,
    next_batch,
    start_epochs,
    start_passes,
    with_replacement,
)

CHAINS = 60_000
LEVEL = 1e-4


def uniform(counts):
    """Whether equal probabilities explain the counts (a chi-square test)."""
    return stats.chisquare(counts).pvalue > LEVEL


def subset_counts(picks, n):
    """How often each subset of its size occurs among the columns."""
    codes = (1 << np.asarray(picks, np.int64)).sum(axis=0)
    subsets = [sum(1 << i for i in s) for s in itertools.combinations(range(n), len(picks))]
    counts = np.array([(codes == code).sum() for code in subsets])
    assert counts.sum() == picks.shape[1]  # nothing else occurs: no duplicates, all in range
    return counts


@pytest.mark.parametrize("span", [1, 2, 3, 442, 65_535, 65_536, 65_537, 1_000_003, 2**31 - 1])
def test_scaling_of_words_is_the_exact_high_word(span):
    words = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32)
    words[:4] = 0, 1, 2**32 - 1, 2**31
    expected = (words.astype(np.uint64) * np.uint64(span)) >> np.uint64(32)
    assert (np.asarray(_below(jnp.asarray(words), span)) == expected).all()


def test_with_replacement_is_uniform_and_independent():
    picks = np.asarray(with_replacement(jax.random.key(0), 5, 2, CHAINS))
    assert picks.shape == (2, CHAINS) and picks.dtype == np.int32
    assert uniform(np.bincount(5 * picks[0] + picks[1], minlength=25))


@pytest.mark.parametrize(("n", "b"), [(5, 1), (5, 2), (6, 3), (6, 4), (6, 5)])
def test_every_subset_is_equally_likely(n, b):
    picks = np.asarray(jax.jit(floyd_subset, static_argnums=(1, 2, 3))(jax.random.key(n), n, b, CHAINS))
    assert picks.shape == (b, CHAINS)
    assert uniform(subset_counts(picks, n))


def test_a_subset_of_everything_is_everything():
    assert (np.sort(np.asarray(floyd_subset(jax.random.key(0), 4, 4, 9)), axis=0) == np.arange(4)[:, None]).all()


def test_the_uniformity_test_notices_unequal_subsets():
    # Two draws with replacement, a duplicate repaired by the next index: the classical mistake.
    first, second = np.asarray(with_replacement(jax.random.key(1), 5, 2, CHAINS))
    second = np.where(first == second, (second + 1) % 5, second)
    assert not uniform(subset_counts(np.stack([first, second]), 5))


def test_larger_subsets_have_no_duplicates_and_equal_inclusion():
    n, b, chains = 200, 60, 5_000
    picks = np.asarray(floyd_subset(jax.random.key(3), n, b, chains))
    assert (np.diff(np.sort(picks, axis=0), axis=0) > 0).all()
    included = np.bincount(picks.ravel(), minlength=n)
    p = b / n
    z = (included - chains * p) / np.sqrt(chains * p * (1 - p))
    assert np.abs(z).max() < stats.norm.isf(LEVEL / 2 / n)


def batches(n, b, chains, steps, seed=0):
    """Indices that count, one array (count, chains) a step."""
    step = jax.jit(next_batch, static_argnums=2)
    state, out = start_epochs(n, chains), []
    for i in range(steps):
        index, counts, state = step(jax.random.fold_in(jax.random.key(seed), i), state, b)
        assert index.shape == (b, chains) and counts.shape == (b,)
        out.append(np.asarray(index)[np.asarray(counts)])
    return out


@pytest.mark.parametrize(("n", "b"), [(10, 3), (10, 5), (7, 4), (9, 1), (5, 5), (33, 32)])
def test_an_epoch_uses_each_example_once(n, b):
    steps = -(-n // b)
    drawn = batches(n, b, 50, 3 * steps)
    for epoch in range(3):
        part = drawn[epoch * steps : (epoch + 1) * steps]
        assert [len(batch) for batch in part[:-1]] == [b] * (steps - 1)
        assert (np.sort(np.concatenate(part), axis=0) == np.arange(n)[:, None]).all()


def test_epoch_orders_are_uniform_in_every_pass_and_independent_between_passes():
    orders = list(itertools.permutations(range(4)))
    drawn = batches(4, 3, CHAINS, 4)
    numbers = [
        np.array([orders.index(tuple(column)) for column in np.concatenate(part).T])
        for part in (drawn[:2], drawn[2:])
    ]
    for number in numbers:
        assert uniform(np.bincount(number, minlength=24))
    assert uniform(np.bincount(24 * numbers[0] + numbers[1], minlength=24 * 24))


def test_epochs_work_inside_scan():
    def step(state, key):
        index, counts, state = next_batch(key, state, 4)
        return state, jnp.where(counts[:, None], index, -1)

    _, index = jax.lax.scan(step, start_epochs(10, 3), jax.random.split(jax.random.key(0), 3))
    used = np.asarray(index).reshape(12, 3)
    assert (np.sort(used, axis=0)[2:] == np.arange(10)[:, None]).all()


def test_a_cycle_repeats_its_batches_and_its_orders_are_uniform():
    state, seen = start_passes(jax.random.key(4), 4, CHAINS, shuffle=False), []
    for _ in range(4):
        index, counts, state = next_batch(jax.random.key(0), state, 3, shuffle=False)
        seen.append(np.asarray(index)[np.asarray(counts)])
    np.testing.assert_array_equal(seen[0], seen[2])
    np.testing.assert_array_equal(seen[1], seen[3])
    orders = list(itertools.permutations(range(4)))
    assert uniform(np.bincount([orders.index(tuple(c)) for c in np.concatenate(seen[:2]).T.tolist()], minlength=24))


def test_each_joins_with_its_chance_and_no_batch_is_empty():
    """All 2^3 batches; the empty one is shared among the three of one example."""
    n, b, chains = 3, 1, 10 * CHAINS
    weight = np.asarray(bernoulli(jax.random.key(5), n, b, chains, np.float32))
    joins = weight > 0
    np.testing.assert_allclose(weight.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(weight, joins / joins.sum(axis=0), rtol=1e-6)
    counts = np.bincount((1 << np.arange(n)) @ joins, minlength=8)
    size = np.array([bin(code).count("1") for code in range(8)])
    chance = (b / n) ** size * (1 - b / n) ** (n - size)
    chance[size == 1] += chance[0] / n
    assert counts[0] == 0 and stats.chisquare(counts[1:], chains * chance[1:]).pvalue > LEVEL
    chance[size == 1] *= 1.03
    assert stats.chisquare(counts[1:], chains * chance[1:] / chance[1:].sum()).pvalue < LEVEL
