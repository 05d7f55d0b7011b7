"""Least squares, on the host or inside a transformation of JAX."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from sgdsim._types import ArrayT, Vector, matmul


def least_squares(matrix: ArrayT, values: ArrayT) -> ArrayT:
    """The vector of least norm that minimises |matrix x - values|; JAX can differentiate it.

    On the host columns are brought to one scale first, so that a small one is not taken for rounding of a large one.
    """
    if isinstance(matrix, np.ndarray) and isinstance(values, np.ndarray):
        return _equilibrated(matrix, values)
    return matmul(jnp.linalg.pinv(matrix), values)


def _equilibrated(matrix: np.ndarray, values: Vector) -> Vector:
    size = np.abs(matrix).max(axis=0)
    scale = np.exp2(np.round(np.log2(np.where(size > 0, size, 1.0))))  # powers of two change no digit
    u, s, vt = np.linalg.svd(matrix / scale, full_matrices=len(matrix) < len(scale))
    rank = int(np.sum(s > max(matrix.shape) * np.finfo(float).eps * s.max(initial=0.0)))
    x = vt[:rank].T @ ((u[:, :rank].T @ values) / s[:rank]) / scale
    if rank < len(scale):  # the least norm is that of the columns as they came
        flat = np.linalg.qr(vt[rank:].T / scale[:, None] * scale.min())[0]
        x = x - flat @ (flat.T @ x)
    return x


def solve_symmetric(matrix: ArrayT, values: ArrayT) -> ArrayT:
    """The least-norm solution of a symmetric system, whose unknowns may be of very different scale."""
    if not isinstance(matrix, np.ndarray) or not isinstance(values, np.ndarray) or np.diag(matrix).min() <= 0:
        return least_squares(matrix, values)
    scale = np.exp2(np.round(np.log2(np.sqrt(np.diag(matrix)))))
    scaled = matrix / np.outer(scale, scale)
    if np.linalg.matrix_rank(scaled) < len(scale):
        return least_squares(matrix, values)
    return np.linalg.solve(scaled, values / scale) / scale
