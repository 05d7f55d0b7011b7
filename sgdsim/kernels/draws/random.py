r"""Random bits and normals for a whole block of chains: the same generator as JAX's, without its waste.

`jax.random.bits` hashes a counter with Threefry-2x32, 20 rounds, and folds the two words that it gets into one; on a
CPU it also keeps the rounds in a loop. Here both words are used and the rounds are written out. Normals come in pairs,

$$z = \sqrt{-2 \log u} \, (\cos 2 \pi v, \sin 2 \pi v),$$

(Box and Muller 1958) with polynomials for the logarithm and the circle: half a logarithm a number, where the inverse
error function takes a whole one and two polynomials.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The counter's first word; JAX's own uses of a key have 0 there, so that no two of them ever meet.
_OURS = 0x5D9D517
_PARITY = 0x1BD11BDA
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_WORD = 2.0**32


def bits(key: jax.Array, shape: tuple[int, ...], axis: int | None = None) -> jax.Array:
    """Uniform uint32 words; the two of a pair are half of `axis` apart."""
    return _joined(_words, key, shape, axis)


def normals(key: jax.Array, shape: tuple[int, ...], dtype: Any, axis: int | None = None) -> jax.Array:
    """Standard normals, in float32 up to 6.76 on either side; the two of a pair are half of `axis` apart."""
    if dtype != np.float32:
        return jax.random.normal(key, shape, dtype)
    return _joined(lambda key, half: box_muller(*_words(key, half)), key, shape, axis)


def threefry(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw 2011): two words from two, under a key of two."""
    keys = (*key, key[0] ^ key[1] ^ np.uint32(_PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _joined(
    pair: Callable[..., tuple[jax.Array, jax.Array]], key: jax.Array, shape: tuple[int, ...], axis: int | None
) -> jax.Array:
    """Both halves of what `pair` draws, cut along `axis`; None is the last axis (chains) if it is even.

    Along an earlier axis, or fused with what follows, the join is scalar code on a CPU: up to ten times the time. Where
    `axis` is given the halves are drawn once, and whoever reads them joins them.
    """
    if axis is not None:
        half = (*shape[:axis], -(-shape[axis] // 2), *shape[axis + 1 :])
        both = jnp.concatenate(jax.lax.optimization_barrier(pair(key, half)), axis=axis)
        return jax.lax.slice_in_dim(both, 0, shape[axis], axis=axis)
    if axis is None:
        axis = next((i for i in reversed(range(len(shape))) if shape[i] % 2 == 0), len(shape) - 1)
    half = (*shape[:axis], -(-shape[axis] // 2), *shape[axis + 1 :])
    both = jax.lax.optimization_barrier(jnp.concatenate(pair(key, half), axis=axis))
    return jax.lax.slice_in_dim(both, 0, shape[axis], axis=axis)


def _words(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Two words for each element."""
    if np.prod(shape, dtype=np.float64) >= _WORD:
        raise NotImplementedError(f"2^32 pairs of random words at a time, not {shape}: use smaller blocks")
    data = jax.random.key_data(key)
    index, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        index = index + np.uint32(stride) * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        stride *= shape[axis]
    return threefry((data[0], data[-1]), (jnp.full(shape, _OURS, jnp.uint32), index))


def _fit(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int) -> np.ndarray:
    """Powers, lowest first, of the polynomial through Chebyshev's nodes."""
    series = np.polynomial.Chebyshev.interpolate(function, degree, domain=[low, high])
    return series.convert(kind=np.polynomial.Polynomial, domain=[-1, 1]).coef.astype(np.float32)


# log(1 + t) / t for 1 + t from sqrt(1/2) to sqrt(2); sin(2 pi f) / f and cos(2 pi f) in f^2 for |f| <= 1/8.
_LOG = _fit(lambda t: np.log1p(t) / t, np.sqrt(0.5) - 1, np.sqrt(2.0) - 1, 9)
_SINE = _fit(lambda q: np.sin(2 * np.pi * np.sqrt(q)) / np.sqrt(q), 0, 1 / 64, 4)
_COSINE = _fit(lambda q: np.cos(2 * np.pi * np.sqrt(q)), 0, 1 / 64, 4)
_SQRT_HALF = np.float32(np.sqrt(0.5)).view(np.int32)


def _polynomial(powers: np.ndarray, x: jax.Array) -> jax.Array:
    value = jnp.full_like(x, powers[-1])
    for power in powers[-2::-1]:
        value = value * x + power
    return value


def box_muller(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two float32 normals from two words."""
    radius = jnp.sqrt(minus_two_log(first))
    # The top two bits choose a quarter of the circle, the rest an angle of at most an eighth of it to either side.
    rest = (second & np.uint32(2**30 - 1)).astype(jnp.int32)
    f = rest.astype(jnp.float32) * np.float32(1 / _WORD) - np.float32(1 / 8)
    sine, cosine = f * _polynomial(_SINE, f * f), _polynomial(_COSINE, f * f)
    across = (second & np.uint32(2**30)) != 0
    x, y = jnp.where(across, sine, cosine), jnp.where(across, cosine, sine)
    # In the second and third quarters the cosine is negative, in the third and fourth the sine.
    return _signed(radius * x, second ^ (second << 1)), _signed(radius * y, second)


def _signed(x: jax.Array, word: jax.Array) -> jax.Array:
    """`x`, its sign turned where the top bit of `word` is set."""
    turned = jax.lax.bitcast_convert_type(x, jnp.uint32) ^ (word & np.uint32(2**31))
    return jax.lax.bitcast_convert_type(turned, jnp.float32)


def uniform(word: jax.Array, dtype: Any = np.float32) -> jax.Array:
    """In (0, 1], from all bits of the word, not the mantissa's only: in float32 logs then end at 22.9, not at 15.9."""
    return (word.astype(dtype) + 0.5) * 2.0 ** -np.iinfo(word.dtype).bits


def minus_two_log(word: jax.Array) -> jax.Array:
    """-2 log u of u = (word + 1/2) / 2^32, float32: exponential numbers of mean 2."""
    u = word.astype(jnp.float32) + np.float32(0.5)
    as_int = jax.lax.bitcast_convert_type(u, jnp.int32)
    exponent = (as_int - _SQRT_HALF) >> 23
    t = jax.lax.bitcast_convert_type(as_int - (exponent << 23), jnp.float32) - 1
    log = t * _polynomial(_LOG, t) + (exponent - 32).astype(jnp.float32) * np.float32(np.log(2))
    return jnp.maximum(-2 * log, 0)
