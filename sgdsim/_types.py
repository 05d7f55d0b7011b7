"""Array aliases, the `spec` decorator that makes frozen pytrees, and dtype helpers."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

Vector = Float[np.ndarray, "D"]
Matrix = Float[np.ndarray, "D D"]
# Chains sit on the last axis, so that arithmetic over them vectorises: parameters are (D, chains).
Params = Float[Array, "D *chains"]
Schedule = Callable[[Any], Any]

T = TypeVar("T")


def is_array(value: Any) -> bool:
    """Whether `value` is a NumPy or JAX array (tracers included)."""
    return isinstance(value, np.ndarray | np.generic | jax.Array)


def _is_leaf(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(_is_leaf(item) for item in value)
    return is_array(value) or getattr(type(value), "_is_spec", False)


def summary(value: Any) -> str:
    """One short line for `value`; large arrays show their shape and a digest of their content."""
    if isinstance(value, np.ndarray | np.generic):
        if value.size <= 16:
            return repr(value.tolist())
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:12]
        return f"<{'x'.join(map(str, value.shape))} array {digest}>"
    if isinstance(value, jax.Array):
        return f"<{'x'.join(map(str, value.shape))} array>"
    return getattr(value, "__name__", None) or repr(value)


@dataclass_transform(frozen_default=True, eq_default=False)
def spec(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that is a pytree: array fields are leaves, every other field is static.

    `__post_init__` validates what a user hands in; JAX rebuilds instances without running it.
    """
    own = vars(cls)
    cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    names = tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]

    def flatten_with_keys(self):
        values = [(name, getattr(self, name)) for name in names]
        dynamic = [(name, value) for name, value in values if _is_leaf(value)]
        static = tuple((name, value) for name, value in values if not _is_leaf(value))
        keyed = tuple((jax.tree_util.GetAttrKey(name), value) for name, value in dynamic)
        return keyed, (tuple(name for name, _ in dynamic), static)

    def unflatten(aux, children):
        instance = object.__new__(cls)
        for name, value in (*zip(aux[0], children, strict=True), *aux[1]):
            object.__setattr__(instance, name, value)
        return instance

    shown = [name for name in inspect.signature(cls).parameters if name in names]

    def describe(self):
        return f"{cls.__name__}({', '.join(f'{name}={summary(getattr(self, name))}' for name in shown)})"

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    if "__repr__" not in own:
        cls.__repr__ = describe  # type: ignore[method-assign]
    cls._is_spec = True  # type: ignore[attr-defined]
    return cls


def cast(tree: T, dtype: Any) -> T:
    """`tree` with every floating-point leaf as a NumPy array of `dtype`."""

    def convert(leaf: Any) -> Any:
        return np.asarray(leaf, dtype) if np.issubdtype(leaf.dtype, np.floating) else leaf

    return jax.tree.map(convert, tree)


def set_field(instance: Any, **values: Any) -> None:
    """Normalise fields of a frozen spec inside its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def as_matrix(operator: ArrayLike, dimension: int) -> Any:
    """The D x D matrix of `operator`: a scalar times I, a length-D diagonal, or a matrix already."""
    array: Any = operator if is_array(operator) else np.asarray(operator)
    backend = jnp if isinstance(array, jax.Array) else np
    if array.ndim == 0:
        return array * backend.eye(dimension)
    return backend.diag(array) if array.ndim == 1 else array


def apply(operator: Any, x: Any) -> Any:
    """`operator @ x` along the first axis of `x` (D, ...); a scalar or length-D diagonal costs O(D)."""
    if operator.ndim == 0:
        return operator * x
    if operator.ndim == 1:
        return operator.reshape(operator.shape + (1,) * (x.ndim - 1)) * x
    if isinstance(x, np.ndarray) and isinstance(operator, np.ndarray):
        return np.tensordot(operator, x, axes=1)
    # GPUs default float32 products to TF32: three digits.
    return jnp.tensordot(operator, x, axes=1, precision=jax.lax.Precision.HIGHEST)


def inner(x: Any, y: Any) -> Any:
    """The inner product of `x` and `y` over the first axis."""
    return total(x * y)


def total(x: Any) -> Any:
    """The sum of `x` over the first axis."""
    if isinstance(x, np.ndarray | np.generic):
        return x.sum(axis=0)
    # XLA's CPU reduction over a leading axis is scalar code; a product with ones is not.
    return jnp.tensordot(jnp.ones(x.shape[:1], x.dtype), x, axes=1, precision=jax.lax.Precision.HIGHEST)
