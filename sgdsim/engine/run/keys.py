"""Random keys in the state of an optax transformation: one for each chain."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")
_WORDS = (2, 4)  # of a raw key: Threefry's, and that of the hardware's generators


def independent_keys(state: T, key: jax.Array) -> T:
    """The state of many chains, made one like the other, with every random key in it drawn afresh for each chain.

    `optax.add_noise` and its like are made with a seed and keep a key in their state: a copy for each chain would draw
    the same noise in all of them. The new keys depend on the old, so that another seed is another run.

    Args:
        state: leaves have the chains on their last axis.
        key: of the block of chains.
    """

    def fresh(leaf: jax.Array) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            made = _mixed(jnp.moveaxis(jax.random.key_data(leaf), -1, 0), key)
            return jax.random.wrap_key_data(jnp.moveaxis(made, 0, -1), impl=jax.random.key_impl(leaf))
        if leaf.dtype == np.uint32 and leaf.ndim == 2 and leaf.shape[0] in _WORDS:
            return _mixed(leaf, key)
        return leaf

    return jax.tree.map(fresh, state)


def _mixed(words: jax.Array, key: jax.Array) -> jax.Array:
    """New words of keys, (words, ..., chains) to the same: from the old ones of the first chain and the block's key."""
    for word in words.reshape(words.shape[0], -1)[:, 0]:
        key = jax.random.fold_in(key, word)
    return jax.random.bits(key, words.shape, np.uint32)
