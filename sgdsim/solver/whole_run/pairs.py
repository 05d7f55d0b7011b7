"""The response to noise when all parameters are treated alike: one small equation for each pair of curvatures."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from sgdsim.solver.linear_algebra.eliminate import eliminate, is_positive
from sgdsim.solver.whole_run.linear_optimizer import Affine

_FLAT = 1e-13  # curvatures below this share of the largest are rounding


def modes(step: Affine, curvatures: Array) -> Array:
    """F - I of each curvature, shape (k, k, modes): what would be lost in 1 - lambda h is kept."""
    k = step.a.shape[0]
    a = step.a[..., None] if step.a.ndim == 2 else step.a
    b = step.b[:, None] if step.b.ndim == 1 else step.b
    rest = jnp.eye(k).at[0, 0].set(0.0)[..., None]
    pushed = jnp.zeros((k, k, 1)).at[:, 0].set(1.0) * (b * curvatures)[:, None]
    return a - rest + pushed


def pair_weights(one: Array, other: Array, source: Array, growth: float | Array = 1.0) -> Array:
    r"""X with $r X = F_i X F_j^\top + Q$ for many pairs (i, j) of modes.

    Args:
        one: F_i - I, shape (k, k, ...).
        other: F_j - I, the same shape.
        source: Q, the same shape.
        growth: r.
    """
    k = one.shape[0]
    return eliminate(pair_equations(one, other, growth), source.reshape(k * k, *source.shape[2:])).reshape(
        k, k, *one.shape[2:]
    )


def pair_equations(one: Array, other: Array, growth: float | Array = 1.0) -> Array:
    """The matrix of X -> r X - F_i X F_j' = (r - 1) X - G X - X G' - G X G', G = F - I; shape (k^2, k^2, ...)."""
    k = one.shape[0]
    eye = jnp.eye(k).reshape(k, k, *(1,) * (one.ndim - 2))
    whole = (growth - 1) * _times(eye, eye) - _times(one, eye) - _times(eye, other) - _times(one, other)
    return whole.reshape(k * k, k * k, *whole.shape[4:])


def _times(x: Array, y: Array) -> Array:
    """X_ac Y_bd as the matrix from (c, d) to (a, b)."""
    return x[:, None, :, None] * y[None, :, None, :]


def is_stable(step: Affine, curvatures: Array, growth: float | Array = 1.0) -> Array:
    """Whether rho(F_i)^2 < r for every mode that moves: by Lyapunov, iff r X = F_i X F_i' + I leads to X > 0."""
    flat = is_flat(step, curvatures)
    f = modes(step, jnp.where(flat, 1.0, curvatures))
    x = pair_weights(f, f, jnp.eye(len(f))[..., None], growth)
    return jnp.all(flat | is_positive((x + jnp.swapaxes(x, 0, 1)) / 2))


def is_flat(step: Affine, curvatures: Array) -> Array:
    """Modes that nothing moves: no curvature, and no pull of the optimizer's own."""
    k = step.a.shape[0]
    free = jnp.linalg.det(step.a - jnp.eye(k).at[0, 0].set(0.0))
    return (jnp.abs(curvatures) <= _FLAT * jnp.abs(curvatures).max()) & (jnp.abs(free) <= _FLAT)
