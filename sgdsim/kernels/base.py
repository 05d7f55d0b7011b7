"""What a kernel offers: one minibatch-mean gradient for every chain of a block at once."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim._types import AnyArray, ArrayT
from sgdsim.kernels.draws import random


class Kernel(Protocol):
    """A compiled sampling law of the minibatch-mean gradient, as a frozen pytree.

    Parameters and gradients have shape (D, chains); one key makes the draws of the whole block.
    """

    def init(self, key: jax.Array, chains: int) -> PyTree:
        """What the sampler remembers between steps; () if nothing."""
        ...

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """The minibatch-mean gradient at `params`, weight decay included, and the new sampler state."""
        ...


def normals(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Standard normals, drawn once: without the barrier XLA recomputes them in every consumer it fuses."""
    return jax.lax.optimization_barrier(random.normals(key, shape, dtype))


def normal_rows(key: jax.Array, number: int, like: jax.Array) -> jax.Array:
    """`number` standard normals for each chain, (number, *chains), chains laid out as in `like` (D, *chains).

    Where chains have two axes (see `folded_steps`) the pairs are cut along the first: nothing moves then.
    """
    shape = (number, *like.shape[1:])
    return random.normals(key, shape, like.dtype, axis=0) if like.ndim > 2 else normals(key, shape, like.dtype)


def column(vector: ArrayT, like: AnyArray) -> ArrayT:
    """A vector (D,) to be added to `like` (D, *chains)."""
    return vector.reshape(-1, *(1,) * (like.ndim - 1))


def square_root(covariance: ArrayLike) -> np.ndarray:
    """F with F F' = covariance: the root of a diagonal, else the symmetric root (singular allowed)."""
    covariance = np.asarray(covariance, dtype=np.float64)
    if covariance.ndim == 1:
        return np.sqrt(np.maximum(covariance, 0.0))
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def none_if_zero(operator: Any) -> Any:
    """None for an operator that does nothing, so that its arithmetic is never compiled."""
    return operator if np.any(operator) else None
