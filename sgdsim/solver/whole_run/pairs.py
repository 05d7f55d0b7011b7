"""The response to noise when all parameters are treated alike: one small equation for each pair of curvatures."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.motion import act, kick

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
    flat = jnp.moveaxis(pair_equations(one, other, growth), (0, 1), (-2, -1))
    right = jnp.moveaxis(source.reshape(k * k, *source.shape[2:]), 0, -1)
    right = jnp.broadcast_to(right, flat.shape[:-1])
    solved = right / flat[..., 0] if k == 1 else jnp.linalg.solve(flat, right[..., None])[..., 0]
    return jnp.moveaxis(solved, -1, 0).reshape(k, k, *solved.shape[:-1])


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
    k = step.a.shape[0]
    flat = is_flat(step, curvatures)
    f = modes(step, jnp.where(flat, 1.0, curvatures))
    x = jnp.moveaxis(pair_weights(f, f, jnp.eye(k)[..., None], growth), -1, 0)
    return jnp.all(flat | (jnp.linalg.eigvalsh((x + x.mT) / 2)[:, 0] > 0))


def is_flat(step: Affine, curvatures: Array) -> Array:
    """Modes that nothing moves: no curvature, and no pull of the optimizer's own."""
    k = step.a.shape[0]
    free = jnp.linalg.det(step.a - jnp.eye(k).at[0, 0].set(0.0))
    return (jnp.abs(curvatures) <= _FLAT * jnp.abs(curvatures).max()) & (jnp.abs(free) <= _FLAT)


def pair_response(step: Affine, hessian: Array, growth: float | Array = 1.0) -> Callable[[Array], Array]:
    """R of one step: noise (1, D, D) to the covariance of z (1, k, D, k, D).

    Solved in the eigenvectors of H; differentiated as the equation it solves, so that equal eigenvalues do no harm.
    """
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(hessian))
    fixed = jax.tree.map(jax.lax.stop_gradient, step)
    flat = is_flat(fixed, values)
    f = modes(fixed, jnp.where(flat, 1.0, values))
    equations = jnp.moveaxis(pair_equations(f[..., :, None], f[..., None, :], growth), (0, 1), (-2, -1))
    inverse = jnp.where((flat[:, None] | flat)[..., None, None], 0.0, jnp.linalg.inv(equations))
    k, d = step.a.shape[0], len(hessian)

    def solve(q: Array, transposed: bool) -> Array:
        inside = jnp.einsum("da,idje,eb->ijab", vectors, q, vectors).reshape(k * k, d, d)
        solved = jnp.einsum("abvu,uab->vab" if not transposed else "abuv,uab->vab", inverse, inside)
        return jnp.einsum("da,ijab,eb->idje", vectors, solved.reshape(k, k, d, d), vectors)

    def residual(p: Array) -> Array:
        half = jnp.transpose(act(step, hessian, p), (2, 3, 0, 1))
        return growth * p - jnp.transpose(act(step, hessian, half), (2, 3, 0, 1))

    def respond(noises: Array) -> Array:
        q = kick(step, (noises[0] + noises[0].T) / 2)
        p = jax.lax.custom_linear_solve(residual, q, lambda _, y: solve(y, False), lambda _, y: solve(y, True))
        return p[None]

    return respond
