"""Covariance of the minibatch gradient around the full gradient, averaged over chains and steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim._specs import spec
from sgdsim.statistics.base import Measurement, add, grouped_mean


class NoiseSums(NamedTuple):
    """Sums by group: the count (G,) and the products of noise components (G, D, D)."""

    count: Any
    products: Any


@spec
class GradientNoise:
    r"""$$C = E\,[(g - \nabla L(w))(g - \nabla L(w))^\top]$$, from the gradients that drive the chains."""

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> NoiseSums:
        """Zero sums."""
        return NoiseSums(jnp.zeros((groups,), dtype), jnp.zeros((groups, dimension, dimension), dtype))

    def update(self, sums: NoiseSums, at: Measurement) -> NoiseSums:
        """Add one step."""
        noise = at.masked(at.gradient - at.problem.gradient(at.params))
        products = jnp.einsum("dmg,emg->gde", noise, noise, precision=jax.lax.Precision.HIGHEST)
        return NoiseSums(sums.count + at.weight.sum(axis=0), sums.products + products)

    def collect(self, sums: NoiseSums, centre: np.ndarray) -> NoiseSums:
        """Plain sums need no centre."""
        return sums

    def merge(self, a: NoiseSums, b: NoiseSums) -> NoiseSums:
        """Join two stretches of steps."""
        return add(a, b)

    def finalize(self, totals: NoiseSums) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """C, shape (D, D); the noise has mean zero by construction, so nothing is subtracted."""
        n = np.maximum(totals.count, 1)[:, None, None]
        return {"noise_covariance": grouped_mean(totals.products / n, totals.count)}
