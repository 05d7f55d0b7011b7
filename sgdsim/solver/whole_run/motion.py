"""One step of the mean and the covariance of z = (w, s_1, ..., s_{k-1}) under a linear optimizer."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from sgdsim.solver.whole_run.gradient_law import GradientLaw
from sgdsim.solver.whole_run.linear_optimizer import Affine


def act(step: Affine, hessian: Array, z: Array) -> Array:
    """F z with F = A + B H P_w, for z of shape (k, D, ...); a length-D diagonal serves as H too."""
    g = jnp.tensordot(hessian, z[0], 1) if hessian.ndim == 2 else (z[0].T * hessian).T
    if step.a.ndim == 4:
        moved = jnp.tensordot(step.a, z, 2) + jnp.tensordot(step.b, g, 1)
    else:
        moved = _each(step.a, z) + _each(step.b[:, None], g[None])
    return moved.at[0].add(z[0])


def _each(a: Array, z: Array) -> Array:
    """sum_j a_ij z_j, with a_ij a number or one number a parameter; written out, for k is small and D may be large."""
    wide = a.reshape(a.shape + (1,) * (z.ndim + 1 - a.ndim))
    return sum(wide[:, j] * z[j] for j in range(a.shape[1]))  # type: ignore[return-value]


def enter(step: Affine, g: Array) -> Array:
    """B g, shape (k, D, columns), for g of shape (D, columns)."""
    return jnp.tensordot(step.b, g, 1) if step.b.ndim == 3 else step.b.reshape(len(step.b), -1, 1) * g


def kick(step: Affine, noise: Array) -> Array:
    """B C B', shape (k, D, k, D)."""
    b = step.b
    if b.ndim == 3:
        return jnp.einsum("iad,de,jbe->iajb", b, noise, b)
    b = b[:, None] if b.ndim == 1 else b
    return b[:, :, None, None] * noise[None, :, None, :] * b


def both_sides(step: Affine, hessian: Array, p: Array) -> Array:
    """F P F', for symmetric P of shape (k, D, k, D)."""
    return act(step, hessian, jnp.transpose(act(step, hessian, p), (2, 3, 0, 1)))


def move_mean(step: Affine, hessian: Array, pull: Array, mean: Array) -> Array:
    """F m + c - B h, shape (k, D)."""
    drift = act(step, hessian, mean) + step.c.reshape(mean.shape[0], -1)
    pushed = jnp.tensordot(step.b, pull, 1) if step.b.ndim == 3 else step.b.reshape(len(mean), -1) * pull
    return drift - pushed


def move(step: Affine, law: GradientLaw, mean: Array, p: Array) -> tuple[Array, Array]:
    r"""$$m' = F m + c - B h, \qquad P' = F P F^\top + B (C_0(m_w) + C_1(P_{ww})) B^\top.$$"""
    noise = law.additive(mean[0]) + law.linear(p[0, :, 0])
    return move_mean(step, law.hessian, law.pull, mean), both_sides(step, law.hessian, p) + kick(step, noise)


def transition(step: Affine, hessian: Array) -> Array:
    """F as a matrix (k D, k D)."""
    k, d = step.a.shape[0], len(hessian)
    eye = jnp.eye(k * d).reshape(k, d, k * d)
    return act(step, hessian, eye).reshape(k * d, k * d)
