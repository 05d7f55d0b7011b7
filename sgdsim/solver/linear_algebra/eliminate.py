"""Many small linear systems at once: LAPACK, called once for each, takes longer than the arithmetic."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

# Rows are exchanged where the pivot gains so much, not at a tie, which symmetry makes common: XLA may compute the
# condition twice, with roundings that differ, and one row would stand twice.
_CLEARLY = 1.7320508


def eliminate(matrix: Array, right: Array) -> Array:
    """X with A X = Y for every system along the trailing axes, by Gauss with row exchanges.

    Args:
        matrix: A, shape (n, n, ...), n small.
        right: Y, shape (n, ...).

    Returns:
        X, shape (n, ...).
    """
    n, shape = len(matrix), jnp.broadcast_shapes(matrix.shape[2:], right.shape[1:])
    rows = list(jnp.concatenate([jnp.broadcast_to(matrix, (n, n, *shape)),
                                 jnp.broadcast_to(right, (n, *shape))[:, None]], axis=1))
    for p in range(n):
        for r in range(p + 1, n):
            swap = jnp.abs(rows[r][0]) > _CLEARLY * jnp.abs(rows[p][0])
            rows[p], rows[r] = jnp.where(swap, rows[r], rows[p]), jnp.where(swap, rows[p], rows[r])
        pivot = rows[p][1:] / rows[p][0]
        rows = [row[1:] - row[0] * pivot if r != p else pivot for r, row in enumerate(rows)]
    return jnp.stack([row[0] for row in rows])


def is_positive(matrix: Array) -> Array:
    """Whether symmetric matrices, shape (n, n, ...), are positive definite: all pivots are."""
    rest, good = matrix, jnp.ones(matrix.shape[2:], bool)
    while len(rest):
        good &= rest[0, 0] > 0
        rest = rest[1:, 1:] - rest[1:, :1] * rest[:1, 1:] / rest[0, 0]
    return good
