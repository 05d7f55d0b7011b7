"""Chi-square variables with b degrees of freedom: all that a Gaussian batch of b residuals leaves behind."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from sgdsim._specs import spec, static
from sgdsim.kernels.draws import random

# From here on the quantile function is smooth enough for one polynomial; below, sums are as cheap.
QUANTILE_FROM = 12
# The lowest degree with relative errors below 1e-6 in q as well as in sqrt(q) at b = 12, the worst case.
_DEGREE = 12
# Normals are clamped here: a probability of 1.3e-12 on either side. float32 normals end at 6.8.
_REACH = 7.0
# The accuracy is promised up to here; beyond it the fit may be looser, the tail being so rare.
_PROMISED = 6.0
_NODES = 128


@spec
class ChiSquareExact:
    """Sums of squared normals, two at a time as -2 log u; a normal of the caller completes an odd b."""

    degrees: int = static()

    def draw(self, key: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One pair (q, sqrt q) for each standard normal in `z`, in its dtype; an even b leaves `z` unused."""
        if self.degrees == 1:
            return self.from_uniforms((), z)
        shape = (self.degrees // 2, *z.shape)
        axis = 0 if z.ndim > 1 else None
        words = random.bits(key, shape, axis) if z.dtype.itemsize == 4 else jax.random.bits(key, shape, jnp.uint64)
        return self.from_uniforms(random.uniform(words, z.dtype), z)

    def from_uniforms(self, uniforms: Any, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The same from b // 2 uniform numbers in (0, 1] for each normal, a sequence or stacked in front."""
        q = z * z if self.degrees % 2 else jnp.zeros_like(z)
        if self.degrees > 1:
            product = uniforms[0]
            for factor in uniforms[1:]:
                product = product * factor
            # Five factors of 2^-33 underflow in float32: once in 1e31 draws, but an infinity would kill the chain.
            q = q - 2 * jnp.log(jnp.maximum(product, jnp.finfo(z.dtype).tiny))
        return q, jnp.sqrt(q)


@spec
class ChiSquareQuantile:
    """The quantile function applied to a normal: sqrt(q) as a polynomial in z, lowest power first."""

    coefficients: Any

    def from_normal(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One pair (q, sqrt q) for each standard normal in `z`, increasing in it."""
        z = jnp.clip(z, -_REACH, _REACH)
        root = self.coefficients[_DEGREE]
        for power in reversed(range(_DEGREE)):
            root = root * z + self.coefficients[power]
        return root * root, root

    def draw(self, key: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The same as `from_normal`: no further randomness is needed."""
        del key
        return self.from_normal(z)


def chi_square_sampler(degrees: int, dtype: Any = np.float64) -> ChiSquareExact | ChiSquareQuantile:
    """The sampler of q ~ chi^2 with `degrees` degrees of freedom: `.draw(key, z)` gives (q, sqrt q).

    Samplers for `degrees` >= 12 differ in the values of one array only, so they share a compiled program.
    """
    if degrees < QUANTILE_FROM:
        return ChiSquareExact(degrees)
    return ChiSquareQuantile(_fit(degrees).astype(dtype))


def chi_square_quantile(degrees: int, z: Any) -> np.ndarray:
    """The chi-square quantile at the normal probability of `z`, from the nearer tail, in float64."""
    shape, z = degrees / 2, np.asarray(z, dtype=np.float64)
    tail = scipy.special.ndtr(-np.abs(z))
    return 2 * np.where(z < 0, scipy.special.gammaincinv(shape, tail), scipy.special.gammainccinv(shape, tail))


@lru_cache(maxsize=4096)
def _fit(degrees: int) -> np.ndarray:
    """Powers of z, lowest first, least squares in the relative error of sqrt(q) on Chebyshev nodes."""
    t = np.cos((np.arange(_NODES) + 0.5) * np.pi / _NODES)
    z = _REACH * t
    root = np.sqrt(chi_square_quantile(degrees, z))
    weight = np.exp(-6 * np.maximum(np.abs(z) - _PROMISED, 0)) / root
    basis = np.polynomial.chebyshev.chebvander(t, _DEGREE)
    chebyshev = np.linalg.lstsq(basis * weight[:, None], root * weight, rcond=None)[0]
    powers = np.polynomial.chebyshev.cheb2poly(chebyshev) / _REACH ** np.arange(_DEGREE + 1)
    powers.flags.writeable = False  # the cache hands the same array to everyone
    return powers
