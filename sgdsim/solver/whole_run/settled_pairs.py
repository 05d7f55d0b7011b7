"""The stationary covariance when all parameters are treated alike, pair by pair of the eigenvectors of the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sgdsim.solver.linear_algebra.eliminate import eliminate, is_positive
from sgdsim.solver.whole_run.gradient_law import GaussianLaw, GradientLaw
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.motion import act, both_sides, kick, move_mean
from sgdsim.solver.whole_run.pairs import is_flat, is_stable, modes, pair_equations

DENSE = 100  # up to so many unknowns the equations are solved as a matrix
_ROUNDING = 1e-12
_PORTION = 32  # of points

Linear = Callable[[Array], Array]


def settled_pairs(
    step: Affine, law: GradientLaw, mean: Array | None = None, growth: float | Array = 1.0, commutes: bool = False
) -> tuple[Array, Array, Array]:
    r"""Mean (k, D) and covariance P (k, D, k, D) of z, and whether second moments exist.

    $$m = F m + c - B h, \qquad r P = F P F^\top + B (C_0(m_w) + C_1(P_{ww})) B^\top.$$

    The motion couples only the k^2 entries of a pair (i, j) of modes, and under unit noise has a variance $S_{ij}$ of w
    there. So $x = P_{ww}$ solves $x = S \odot (C_0 + C_1 x)$, and noise adds $C_0 + C_1 x$ times the pair's response to
    the rest. As $S \odot C_1$ is a positive map, moments exist iff the motion is stable and the solution for noise I,
    found beside the other, is positive. Solved in fixed eigenvectors, differentiated as the equations they solve: equal
    eigenvalues do no harm.

    Args:
        step: of the optimizer.
        law: of the gradient.
        mean: where it is known.
        growth: r.
        commutes: whether the covariance of Gaussian inputs commutes with the Hessian: C_1 is then explicit.
    """
    d, k, fixed = len(law.pull), len(step.a), jax.lax.stop_gradient(step)
    parallel = law.second_moment if commutes and isinstance(law, GaussianLaw) else law.hessian
    basis = jnp.linalg.eigh(jax.lax.stop_gradient(parallel))[1]
    law = law.rotated(basis)
    held: GradientLaw = jax.lax.stop_gradient(law)
    explicit = held if commutes and isinstance(held, GaussianLaw) else None
    curvatures = jnp.diag(held.hessian)
    flat = is_flat(fixed, curvatures)
    f = modes(fixed, jnp.where(flat, 1.0, curvatures))
    mean = _mean(step, law, modes(fixed, curvatures)) if mean is None else mean @ basis
    i, j = np.triu_indices(d)
    equations = pair_equations(f[..., i], f[..., j], growth)

    def respond(y: Array, matrix: Array = equations) -> Array:
        return jnp.where(flat[i] | flat[j], 0.0, eliminate(matrix[:, :, None], y))

    enters = jnp.outer(fixed.b, fixed.b).ravel()[:, None, None]
    response = respond(enters)
    variance = response[0, 0]
    shares = _shares(explicit, variance) if explicit else None
    feedback, close = _explicit(shares, variance) if shares else _general(held, variance)

    def fill(pairs: Array) -> Array:
        upper = jnp.zeros((k, k, pairs.shape[1], d, d)).at[..., i, j].set(pairs.reshape(k, k, pairs.shape[1], -1))
        whole = jnp.where(np.tri(d, dtype=bool).T, upper, upper.transpose(1, 0, 2, 4, 3))
        return whole.transpose(2, 0, 3, 1, 4)

    def settle(noises: Array) -> Array:
        at = noises[:, i, j]
        return fill(response * (at + feedback(close(variance * at))))

    def solve(q: Array, transposed: bool) -> Array:
        at = (q + q.transpose(0, 3, 4, 1, 2)).transpose(1, 3, 0, 2, 4).reshape(k * k, -1, d, d)[..., i, j] / 2
        if transposed:
            mirrored = jnp.swapaxes(equations, 0, 1)
            noise = feedback(close(jnp.sum(enters * respond(at, mirrored), axis=0)))
            pairs = respond(at.at[0].add(noise), mirrored)
        else:
            direct = respond(at)
            pairs = direct + response * feedback(close(direct[0]))
        return fill(pairs)

    def residual(p: Array) -> Array:
        return growth * p - both_sides(step, law.hessian, p) - kick(step, law.linear(p[0, :, 0]))

    own = law.additive(mean[0])
    noises = jnp.stack([(own + own.T) / 2, *([] if shares else [jnp.eye(d)])])
    found = jax.lax.custom_root(
        lambda p: jax.vmap(residual)(p) - jax.vmap(lambda c: kick(step, c))(noises),
        jnp.zeros((len(noises), k, d, k, d)), lambda *_: settle(jax.lax.stop_gradient(noises)),
        lambda moved, y: jax.lax.custom_linear_solve(moved, y, lambda _, y: solve(y, False),
                                                     lambda _, y: solve(y, True)),
    )  # fmt: skip
    settles = shares.settles(variance) if shares else _positive(jax.lax.stop_gradient(found[1, 0, :, 0]))
    covariance = jnp.einsum("da,iajb,eb->idje", basis, found[0], basis)
    return mean @ basis.T, covariance, settles & is_stable(fixed, curvatures, growth)


def _mean(step: Affine, law: GradientLaw, f: Array) -> Array:
    """M with (I - F) m = c - B h, in eigenvectors."""
    source = move_mean(step, law.hessian, law.pull, jnp.zeros(f.shape[1:]))
    return jax.lax.custom_linear_solve(
        lambda m: m - act(step, law.hessian, m), source,
        lambda _, y: eliminate(-f, y), lambda _, y: eliminate(-jnp.swapaxes(f, 0, 1), y),
    )  # fmt: skip


def _general(law: GradientLaw, variance: Array) -> tuple[Linear, Linear]:
    """For rows of entries (i, j), i <= j: C_1 x, and the solution of x - S C_1 x = y."""
    d = len(law.pull)
    i, j = np.triu_indices(d)
    place = np.zeros((d, d), int)
    place[i, j] = place[j, i] = np.arange(len(i))

    def feedback(x: Array) -> Array:
        return law.linear(x[place])[i, j]

    if len(i) > DENSE:
        def close(y: Array) -> Array:
            return iterate(lambda x: x - variance * feedback(x), y)

        return jax.vmap(feedback), lambda y: jnp.stack([close(row) for row in y])
    # Transposed, a row for each unit vector; one matrix for all batch sizes.
    matrix = jax.vmap(lambda x: law.spread(x[place])[i, j])(jnp.eye(len(i)))
    return lambda x: law.strength * (x @ matrix), lambda y: _dense(law.strength * variance, matrix.T, y.T).T


@jax.custom_batching.custom_vmap
def _dense(variance: Array, matrix: Array, y: Array) -> Array:
    """X with (I - S A) X = Y. Many of them are solved in portions: large batches of LAPACK hang in jaxlib 0.10 on a
    machine of two cores, each solver waiting for the other's threads.
    """
    return jnp.linalg.solve(jnp.eye(len(y)) - variance[:, None] * matrix, y)


@_dense.def_vmap
def _in_portions(size: int, batched: list[bool], *operands: Array) -> tuple[Array, bool]:
    del size
    many = [x for x, each in zip(operands, batched, strict=True) if each]

    def one(rows: list[Array]) -> Array:
        row = iter(rows)
        return _dense.fun(*(next(row) if each else x for x, each in zip(operands, batched, strict=True)))

    return jax.lax.map(one, many, batch_size=_PORTION), True


def _positive(x: Array) -> Array:
    largest, d = jnp.max(jnp.diag(x)), len(x)
    shifted = x / largest + _ROUNDING * jnp.eye(d)
    many = d * (d + 1) / 2 > DENSE
    good = jnp.isfinite(jnp.linalg.cholesky(shifted)).all() if many else is_positive(shifted)
    return good & (largest > 0)


class _Shares(NamedTuple):
    """C_1 where K is diagonal: every pair by itself, but for the trace that all diagonal ones share."""

    own: Array  # k_i k_j / b
    trace: Array  # k_i at (i, i)
    given: Array  # k_i / b at (i, i)
    fed: Array  # what noise in the trace does to x

    def settles(self, variance: Array) -> Array:
        """Whether I - S C_1 has a positive inverse."""
        return jnp.all(variance * self.own < 1) & (jnp.sum(self.trace * self.fed) < 1)


def _explicit(shares: _Shares, variance: Array) -> tuple[Linear, Linear]:
    """The same as `_general`, in closed form."""
    own, trace, given, fed = shares

    def feedback(x: Array) -> Array:
        return own * x + given * jnp.sum(trace * x, axis=-1, keepdims=True)

    def close(y: Array) -> Array:
        direct = y / (1 - variance * own)
        return direct + fed * jnp.sum(trace * direct, axis=-1, keepdims=True) / (1 - jnp.sum(trace * fed))

    return feedback, close


def _shares(law: GaussianLaw, variance: Array) -> _Shares:
    k = jnp.diag(law.second_moment)
    i, j = np.triu_indices(len(k))
    own, trace = k[i] * k[j] / law.batch_size, jnp.where(i == j, k[i], 0.0)
    given = trace / law.batch_size
    return _Shares(own, trace, given, variance * given / (1 - variance * own))


def iterate(whole: Linear, y: Array) -> Array:
    """X with whole(x) = y by GMRES; the second round refines."""
    x = jnp.zeros_like(y)
    for _ in range(2):
        x = x + jax.scipy.sparse.linalg.gmres(whole, y - whole(x), tol=1e-9, restart=60, maxiter=10)[0]
    return x
