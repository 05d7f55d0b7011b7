"""The stationary covariance in closed form for Gaussian inputs whose covariance commutes with the Hessian."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sgdsim.solver.whole_run.gradient_law import GaussianLaw
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.motion import both_sides, kick
from sgdsim.solver.whole_run.pairs import is_flat, is_stable, modes, pair_equations


def gaussian_covariance(
    step: Affine, law: GaussianLaw, source: Array, growth: float | Array = 1.0
) -> tuple[Array, Array]:
    r"""P with $r P = F P F^\top + B C_1(P_{ww}) B^\top + Q$ for an optimizer that treats parameters alike.

    In the eigenvectors of K every pair (i, j) of modes stands by itself, with $k_i k_j / b$ times its own covariance as
    noise, but for the trace that all diagonal ones share: a matrix of small blocks less one of rank one. Differentiated
    as the equation it solves, so that equal eigenvalues do no harm.

    Args:
        step: of the optimizer.
        law: of the gradient; K and H must commute.
        source: Q, shape (k, D, k, D).
        growth: r.

    Returns:
        P, shape (k, D, k, D), and whether second moments exist.
    """
    fixed, held = jax.tree.map(jax.lax.stop_gradient, (step, law))
    inputs, vectors = jnp.linalg.eigh(held.second_moment)
    curvatures = jnp.einsum("di,de,ei->i", vectors, held.hessian, vectors)
    flat = is_flat(fixed, curvatures)
    f = modes(fixed, jnp.where(flat, 1.0, curvatures))
    k, d = step.a.shape[0], len(inputs)
    enters = jnp.outer(fixed.b, fixed.b).ravel() / held.batch_size
    own = jnp.zeros((k * k, k * k)).at[:, 0].set(enters)[..., None, None] * (inputs[:, None] * inputs)
    blocks = jnp.moveaxis(pair_equations(f[..., :, None], f[..., None, :], growth) - own, (0, 1), (-2, -1))
    blocks = jnp.where((flat[:, None] | flat)[..., None, None], 0.0, jnp.linalg.inv(blocks))
    diagonal = jnp.arange(d)
    from_trace = jnp.zeros((k * k, d, d)).at[:, diagonal, diagonal].set(enters[:, None] * inputs)
    to_trace = jnp.zeros((k * k, d, d)).at[0, diagonal, diagonal].set(inputs)

    def solve(q: Array, transposed: bool) -> Array:
        each = "abvu,uab->vab" if not transposed else "abuv,uab->vab"
        u, v = (from_trace, to_trace) if not transposed else (to_trace, from_trace)
        inside = jnp.einsum("da,idje,eb->ijab", vectors, q, vectors).reshape(k * k, d, d)
        direct, fed = (jnp.einsum(each, blocks, x) for x in (inside, u))
        solved = direct + fed * jnp.sum(v * direct) / (1 - jnp.sum(v * fed))
        return jnp.einsum("da,ijab,eb->idje", vectors, solved.reshape(k, k, d, d), vectors)

    def residual(p: Array) -> Array:
        return growth * p - both_sides(step, law.hessian, p) - kick(step, law.linear(p[0, :, 0]))

    found = jax.lax.custom_linear_solve(residual, source, lambda _, y: solve(y, False), lambda _, y: solve(y, True))
    share = jnp.einsum("avu,ua->va", blocks[diagonal, diagonal], from_trace[:, diagonal, diagonal])[0]
    settles = is_stable(fixed, curvatures, growth) & jnp.all(share >= 0) & (jnp.sum(inputs * share) < 1)
    return found, settles
