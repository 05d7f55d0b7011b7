"""Array aliases, and what NumPy and JAX arrays have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike, DTypeLike

Vector = Float[np.ndarray, "D"]
Matrix = Float[np.ndarray, "D D"]
# Chains sit on the last axis, so that arithmetic over them vectorises: parameters are (D, chains).
Params = Float[Array, "D *chains"]
Schedule = Callable[[Any], Any]
Scalar = float | np.ndarray | jax.Array  # of no axes

T = TypeVar("T")
# An array of the library it is given: code that is written once for NumPy in float64 and for JAX.
ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)
AnyArray = np.ndarray | jax.Array


def is_array(value: object) -> bool:
    """Whether `value` is a NumPy or JAX array (tracers included)."""
    return isinstance(value, np.ndarray | np.generic | jax.Array)


def backend_of(*arrays: object) -> Any:
    """jax.numpy if one of the arrays is JAX's, else numpy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def cast(tree: T, dtype: DTypeLike) -> T:
    """`tree` with every floating-point leaf as a NumPy array of `dtype`."""

    def convert(leaf: ArrayLike) -> ArrayLike:
        return np.asarray(leaf, dtype) if jnp.issubdtype(jnp.result_type(leaf), np.floating) else leaf

    return jax.tree.map(convert, tree)


def as_matrix(operator: ArrayLike, dimension: int) -> Any:
    """The D x D matrix of `operator`: a scalar times I, a length-D diagonal, or a matrix already."""
    array: Any = operator if is_array(operator) else np.asarray(operator)
    backend = jnp if isinstance(array, jax.Array) else np
    if array.ndim == 0:
        return array * backend.eye(dimension)
    return backend.diag(array) if array.ndim == 1 else array


def apply(operator: AnyArray, x: ArrayT) -> ArrayT:
    """`operator @ x` along the first axis of `x` (D, ...); a scalar or length-D diagonal costs O(D)."""
    made: Any
    if operator.ndim < 2:
        made = operator if operator.ndim == 0 else operator.reshape(operator.shape + (1,) * (x.ndim - 1))
        return made * x
    if isinstance(x, np.ndarray) and isinstance(operator, np.ndarray):
        return np.tensordot(operator, x, axes=1)
    # GPUs default float32 products to TF32: three digits.
    made = jnp.tensordot(operator, x, axes=1, precision=jax.lax.Precision.HIGHEST)
    return made


def matmul(a: AnyArray, b: ArrayT) -> ArrayT:
    """`a @ b`, at full precision on every device."""
    made: Any = b
    if isinstance(a, jax.Array) or isinstance(b, jax.Array):
        made = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        return made
    return a @ made


def inner(x: ArrayT, y: AnyArray) -> ArrayT:
    """The inner product of `x` and `y` over the first axis."""
    product: Any = x * y
    return total(product)


def total(x: ArrayT) -> ArrayT:
    """The sum of `x` over the first axis."""
    if isinstance(x, np.ndarray | np.generic):
        return x.sum(axis=0)
    # XLA's CPU reduction over a leading axis is scalar code; a product with ones is not.
    return jnp.tensordot(jnp.ones(x.shape[:1], x.dtype), x, axes=1, precision=jax.lax.Precision.HIGHEST)
