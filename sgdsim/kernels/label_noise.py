"""Fresh label noise: one draw for each example, or the mean of a batch at the price of one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sgdsim._specs import spec, static
from sgdsim._types import AnyArray
from sgdsim.kernels.base import normals
from sgdsim.kernels.draws import random

_WORD = 32


@spec
class FreshNoise:
    """Independent noise of standard deviation `std`: +-std with equal chances ("sign") or normal ("gaussian")."""

    std: Any
    law: str = static()

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """One number for each example."""
        if self.law == "gaussian":
            return self.std * normals(key, shape, dtype)
        return jnp.where(random.bits(key, shape) >> (_WORD - 1) == 1, self.std, -self.std)


@spec
class LabelFlips:
    """What `FlaxNetwork.relabel` takes: with probability `flip` another label, each of the others alike."""

    flip: AnyArray | float
    classes: int = static()
    signs: bool = static()

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """How many classes further on, 0 without a flip; of two labels +-1 a sign."""
        first, second = jax.random.split(key)
        flips = jax.random.bernoulli(first, self.flip, shape)
        if self.signs:
            return jnp.where(flips, -1, 1).astype(dtype)
        return jnp.where(flips, jax.random.randint(second, shape, 1, self.classes), 0)


@spec
class SignMean:
    """The mean of b signs, exactly: b random bits are counted, 32 in an instruction."""

    std: Any
    masks: Any  # which bits of each word count
    batch_size: Any

    def draw(self, key: jax.Array, chains: int, dtype: DTypeLike) -> jax.Array:
        """One mean for each chain."""
        words = random.bits(key, (len(self.masks), chains)) & jnp.asarray(self.masks)[:, None]
        heads = jax.lax.population_count(words).astype(jnp.int32).sum(axis=0)
        return self.std * ((2 * heads).astype(dtype) / self.batch_size - 1)


@spec
class GaussianMean:
    """The mean of b normal numbers: one normal number, `std` already divided by sqrt(b)."""

    std: Any

    def draw(self, key: jax.Array, chains: int, dtype: DTypeLike) -> jax.Array:
        """One mean for each chain."""
        return self.std * normals(key, (chains,), dtype)


@spec
class DirectMean:
    """The mean of b draws, each of them made: what the others are held against."""

    each: FreshNoise
    batch_size: int = static()

    def draw(self, key: jax.Array, chains: int, dtype: DTypeLike) -> jax.Array:
        """One mean for each chain."""
        return self.each.draw(key, (self.batch_size, chains), dtype).mean(axis=0)


MeanNoise = SignMean | GaussianMean | DirectMean


def mean_noise(label_noise: float, law: str, batch_size: int) -> SignMean | GaussianMean:
    """The law of the mean of a batch's label noise, compressed."""
    std = np.float64(label_noise)
    if law == "gaussian":
        return GaussianMean(np.float64(std / np.sqrt(batch_size)))
    full, rest = divmod(batch_size, _WORD)
    masks = [2**_WORD - 1] * full + [2**rest - 1] * (rest > 0)
    return SignMean(std, np.array(masks, np.uint32), np.float64(batch_size))
