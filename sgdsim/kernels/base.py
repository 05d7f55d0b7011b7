"""What a kernel offers: one minibatch-mean gradient for every chain of a block at once."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import numpy as np

from sgdsim.kernels import random


class Kernel(Protocol):
    """A compiled sampling law of the minibatch-mean gradient, as a frozen pytree.

    Parameters and gradients have shape (D, chains); one key makes the draws of the whole block.
    """

    def init(self, key: jax.Array, chains: int) -> Any:
        """What the sampler remembers between steps; () if nothing."""
        ...

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """The minibatch-mean gradient at `params`, weight decay included, and the new sampler state."""
        ...


def normals(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normals, drawn once: without the barrier XLA recomputes them in every consumer it fuses."""
    return jax.lax.optimization_barrier(random.normals(key, shape, dtype))


def square_root(covariance: Any) -> np.ndarray:
    """F with F F' = covariance: the root of a diagonal, else the symmetric root (singular allowed)."""
    covariance = np.asarray(covariance, dtype=np.float64)
    if covariance.ndim == 1:
        return np.sqrt(np.maximum(covariance, 0.0))
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def none_if_zero(operator: Any) -> Any:
    """None for an operator that does nothing, so that its arithmetic is never compiled."""
    return operator if np.any(operator) else None
