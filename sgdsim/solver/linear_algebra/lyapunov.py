"""The discrete Lyapunov equation by doubling: only matrix products, batched, differentiable."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax import lax
from jaxtyping import Array
from numpy.typing import ArrayLike, DTypeLike

from sgdsim import _checks

_CHUNK = 70_000  # entries: smaller chunks fight over the GIL, larger ones leave the cache
_SMALL = 64  # up to this size, batched products in NumPy's BLAS take half as long as in XLA


State = tuple[Array, Array, int]  # a power of A, X, how many doublings (a tracer)


def spectral_radius(a: ArrayLike) -> float:
    """The largest |eigenvalue| of a square matrix, or of a stack (..., D, D) of them.

    Examples:
        >>> from sgdsim.solver.linear_algebra import spectral_radius
        >>> spectral_radius([[0.5, 0.0], [0.0, -0.25]])
        0.5
    """
    return float(np.abs(np.linalg.eigvals(np.asarray(a))).max(initial=0.0))


def discrete_lyapunov(a: ArrayLike, q: ArrayLike) -> Any:
    r"""Solve the discrete Lyapunov equation of a stable A, by squaring.

    $$X = A X A^\dagger + Q: \qquad X \leftarrow X + A X A^\dagger, \quad A \leftarrow A^2.$$

    Concrete inputs are solved in double precision whatever JAX's default and come back as NumPy arrays;
    under `jit`, `vmap` and `grad` the dtype is the tracer's, and an unstable A gives NaN instead of an error.

    Args:
        a: A, shape (..., D, D), spectral radius below 1.
        q: Q, shape (..., D, D), not necessarily symmetric; leading axes broadcast against those of `a`.

    Raises:
        ValueError: shapes do not match, an entry is not finite, or a concrete A has spectral radius >= 1.

    Examples:
        >>> from sgdsim.solver.linear_algebra import discrete_lyapunov
        >>> float(discrete_lyapunov([[0.5]], [[3.0]])[0, 0])
        4.0
    """
    if isinstance(a, jax.core.Tracer) or isinstance(q, jax.core.Tracer):
        return _solve(jnp.asarray(a), jnp.asarray(q))
    a, q = _concrete("a", a), _concrete("q", q)
    if a.shape[-1] != q.shape[-1]:
        raise _checks.error("q", q, f"of shape (..., {a.shape[-1]}, {a.shape[-1]}) (got shape {q.shape})",
                            "a and q must have the same size")
    if a.shape[-1] <= _SMALL:
        x = _solve_small(a, q)
    else:
        with jax.enable_x64(True):
            x = np.asarray(_compiled(jnp.asarray(a), jnp.asarray(q)))
    failed = np.isnan(x).any(axis=(-2, -1))
    if failed.any():
        x = _balanced(a, q, x, failed)
        failed = ~np.isfinite(x).all(axis=(-2, -1))
    if failed.any():
        radius = spectral_radius(np.broadcast_to(a, x.shape)[failed])
        if radius < 1:
            raise _checks.error("a", a, "such that its solution is finite in double precision",
                                "choose units in which parameters are of like size")
        raise ValueError(
            f"a has spectral radius {radius:.12g}, but it must be below 1: no stationary covariance exists; "
            "lower the learning rate (or scale a down)"
        )
    return x


def _balanced(a: np.ndarray, q: np.ndarray, x: np.ndarray, failed: np.ndarray) -> np.ndarray:
    """Solve once more where powers of A overflow in the units given: T^-1 A T with a diagonal T has small entries."""
    x, matrices, sources = x.copy(), np.broadcast_to(a, x.shape), np.broadcast_to(q, x.shape)
    for index in np.argwhere(failed):
        where = tuple(index)
        with np.errstate(all="ignore"):  # SciPy casts the units to integers, unused
            balanced, (units, _) = scipy.linalg.matrix_balance(matrices[where], permute=False, separate=True)
            scales = np.outer(units, units)
            x[where] = _solve_small(balanced, sources[where] / scales) * scales
    return x


def _concrete(name: str, value: ArrayLike) -> np.ndarray:
    complex_valued = np.dtype(getattr(value, "dtype", float)).kind == "c"
    array = np.asarray(value) if complex_valued else _checks.real_array(name, value)
    array = array.astype(np.complex128 if np.iscomplexobj(array) else np.float64, copy=False)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise _checks.error(name, value, f"of shape (..., D, D) (got shape {array.shape})", "check its shape")
    if not np.isfinite(array).all():
        raise _checks.error(name, value, "finite", "look for a division by zero upstream")
    return array


def _solve_small(a: np.ndarray, q: np.ndarray) -> np.ndarray:
    shape, size = np.broadcast_shapes(a.shape, q.shape), a.shape[-1]
    x = np.array(np.broadcast_to(q, shape), dtype=np.result_type(a, q), order="C")
    stacks = [np.broadcast_to(a, shape).astype(x.dtype, copy=False), x]
    stacks = [y.reshape(math.prod(shape[:-2]), size, size) for y in stacks]
    cores = os.cpu_count() or 1
    if x.size <= _CHUNK:
        _doubling_in_place(*stacks)
    else:
        count = cores * math.ceil(x.size / (_CHUNK * cores))
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(_doubling_in_place, *(np.array_split(y, count) for y in stacks)))
    return x


def _doubling_in_place(a: np.ndarray, x: np.ndarray) -> None:
    """Turn `x`, a stack of Q, into the solutions; see `_doubling`."""
    small, huge, last = _limits(x.dtype)
    # The transposed power, for BLAS multiplies fastest with its left factor transposed.
    power, work, term = a.mT.copy(), np.empty_like(x), np.empty_like(x)
    with np.errstate(all="ignore"):
        for _ in range(last + 1):
            np.matmul(power.mT, x, out=work)
            x += np.matmul(work, power.conj(), out=term)
            entries = power.reshape(len(a), a.shape[-1] ** 2)
            norm = np.vecdot(entries, entries).real
            if not ((norm > small) & (norm < huge)).any():
                break
            power, work = np.matmul(power, power, out=work), power
    x[~(norm <= small)] = np.nan


def _limits(dtype: DTypeLike) -> tuple[float, float, int]:
    """Where |A|^2 has converged and where it has diverged, and the largest number of doublings."""
    limits = jnp.finfo(dtype)
    # 1 - spectral radius below about 1e-13 is no distance from 1
    return float(limits.eps) ** 0.5, float(limits.max) ** 0.4, int(np.log2(1 / limits.eps)) - 4


def _solve(a: Array, q: Array) -> Array:
    dtype = jnp.result_type(a, q, jnp.float32)
    shape = jnp.broadcast_shapes(a.shape, q.shape)
    a, q = jnp.broadcast_to(a, shape).astype(dtype), jnp.broadcast_to(q, shape).astype(dtype)
    # An implicit derivative: the tangent and the cotangent are Lyapunov solutions too.
    return lax.custom_linear_solve(
        partial(_residual, a),
        q,
        solve=lambda _, b: _doubling(a, b),
        transpose_solve=lambda _, b: _doubling(a.mT, b),
    )


_compiled = jax.jit(_solve)


def _product(a: Array, b: Array) -> Array:
    # GPUs default float32 products to TF32: three digits.
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _residual(a: Array, x: Array) -> Array:
    return x - _product(_product(a, x), a.conj().mT)


def _doubling(a: Array, q: Array) -> Array:
    small, huge, last = _limits(a.dtype)

    def size(power: Array) -> Array:
        return jnp.sum(jnp.abs(power) ** 2, axis=(-2, -1))

    def add(power: Array, x: Array) -> Array:
        return x + _product(_product(power, x), power.conj().mT)

    def going(state: State) -> Array:
        power, _, count = state
        return jnp.any((size(power) > small) & (size(power) < huge)) & (count < last)

    def double(state: State) -> State:
        power, x, count = state
        return _product(power, power), add(power, x), count + 1

    power, x, _ = lax.while_loop(going, double, (a, q, 0))
    # What is left out after one more addition is A^2 X A^2', of relative size below |A|^4 <= eps.
    return jnp.where((size(power) <= small)[..., None, None], add(power, x), jnp.nan)
