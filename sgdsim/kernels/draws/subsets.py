"""Uniformly random indices of examples, drawn for a whole block of chains at once (chains last)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from sgdsim.kernels.draws import random


def _below(bits: jax.Array, span: jax.Array | int) -> jax.Array:
    """floor(bits * span / 2^32) from uint32 words: uniform on 0..span-1 up to span / 2^32 in probability.

    The high word of a product costs a few multiplications that vectorise; remainders and `randint`'s
    second word do not pay for an error of 1e-7 at span = 442.
    """
    span = jnp.asarray(span, jnp.uint32)
    half = jnp.uint32(0xFFFF)
    high, low, span_high, span_low = bits >> 16, bits & half, span >> 16, span & half
    cross, crossed = low * span_high, high * span_low
    carry = ((low * span_low) >> 16) + (cross & half) + (crossed & half)
    return (high * span_high + (cross >> 16) + (crossed >> 16) + (carry >> 16)).astype(jnp.int32)


def with_replacement(key: jax.Array, n: int, batch_size: int, chains: int) -> jax.Array:
    """Independent indices below n, shape (batch_size, chains)."""
    return _below(random.bits(key, (batch_size, chains)), n)


def floyd_subset(key: jax.Array, n: int, batch_size: int, chains: int) -> jax.Array:
    """Distinct indices below n, shape (batch_size, chains): every subset equally likely.

    Floyd's method: for j = n-b, ..., n-1 pick an index from 0..j, or j itself if that one is taken. The
    order within a column is not random. Costs b^2 comparisons that vectorise over chains and never looks
    at all n; for b > n/2 draw the n-b excluded examples instead.
    """
    last = jnp.arange(n - batch_size, n, dtype=jnp.int32)
    bits = random.bits(key, (batch_size, chains))
    proposals = _below(bits, last[:, None] + 1)

    def pick(i: jax.Array, picks: jax.Array) -> jax.Array:
        taken = (picks == proposals[i]).any(axis=0)
        return picks.at[i].set(jnp.where(taken, last[i], proposals[i]))

    return jax.lax.fori_loop(0, batch_size, pick, jnp.full((batch_size, chains), -1, jnp.int32))


class EpochState(NamedTuple):
    """Where every chain of a block stands in its shuffled pass."""

    order: jax.Array
    """The n examples in the order of this pass as far as it is known, for each chain, shape (n, chains)."""
    position: jax.Array
    """How many examples of this pass have been used, the same for all chains."""


def start_epochs(n: int, chains: int) -> EpochState:
    """The state before the first pass."""
    return EpochState(jax.lax.broadcasted_iota(jnp.int32, (n, chains), 0), jnp.zeros((), jnp.int32))


def start_passes(key: jax.Array, n: int, chains: int, shuffle: bool) -> EpochState:
    """The state before the first pass: orders are drawn batch by batch, or, without `shuffle`, once for all passes."""
    fresh = start_epochs(n, chains)
    return fresh if shuffle else next_batch(key, fresh, n)[2]


def every_row(key: jax.Array, n: int, batch_size: int, chains: int) -> jax.Array:
    """All n examples, shape (n, chains)."""
    return jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32)[:, None], (n, chains))


def next_batch(
    key: jax.Array, state: EpochState, batch_size: int, *, shuffle: bool = True
) -> tuple[jax.Array, jax.Array, EpochState]:
    """The next batch of every chain's shuffled pass: indices (b, chains), which rows count (b,), the new state.

    An epoch has ceil(n/b) steps and uses each example exactly once: its last batch holds the n mod b
    examples that remain (PyTorch's `drop_last=False`), beside rows that do not count. Every chain has its
    own order, and a new one in every pass. The shuffle is Fisher and Yates's, made only as far as this
    batch needs: sorting n random keys at the start of a pass costs several times as much. Without `shuffle`
    passes keep the order of the state, and so their batches.
    """
    n, chains = state.order.shape
    bits = random.bits(key, (batch_size, chains))
    column = jnp.arange(chains)

    def swap(i: jax.Array, order: jax.Array) -> jax.Array:
        here = state.position + i
        other = here + _below(bits[i], n - here)
        rows = jnp.stack([jnp.full_like(other, here), other])
        values = order.at[rows, column].get(mode="promise_in_bounds")
        # One scatter for both rows happens in place; two updates copy all of `order`.
        return order.at[rows, column].set(values[::-1], mode="promise_in_bounds")

    count = jnp.minimum(batch_size, n - state.position)
    order = jax.lax.fori_loop(0, count, swap, state.order) if shuffle else state.order
    start = jnp.minimum(state.position, n - batch_size)
    index = jax.lax.dynamic_slice_in_dim(order, start, batch_size)
    counts = start + jnp.arange(batch_size) >= state.position
    after = state.position + count
    return index, counts, EpochState(order, jnp.where(after == n, 0, after))


def bernoulli(key: jax.Array, n: int, batch_size: int, chains: int, dtype: DTypeLike) -> jax.Array:
    """What each example weighs in the mean of a batch that each joins with chance b/n, (n, chains).

    A batch that none joins is one example, uniformly drawn: the mean gradient stays unbiased.
    """
    first, second = jax.random.split(key)
    joins = _below(random.bits(first, (n, chains)), n) < batch_size
    alone = with_replacement(second, n, 1, chains) == jnp.arange(n)[:, None]
    joins |= alone & ~joins.any(axis=0)
    return joins / joins.sum(axis=0).astype(dtype)
