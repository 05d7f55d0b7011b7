"""Where a linear optimizer settles: mean and covariance of its whole state, with noise that depends on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sgdsim.solver.linear_algebra.lyapunov import discrete_lyapunov
from sgdsim.solver.whole_run.gradient_law import GradientLaw
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.motion import both_sides, kick, move_mean, transition
from sgdsim.solver.whole_run.settled_pairs import DENSE, iterate, settled_pairs

_ROUNDING = 1e-12

_lyapunov = jax.jit(discrete_lyapunov)  # NaN instead of an exception


class StationaryState(NamedTuple):
    """The settled law of z = (w, s_1, ...) at each position of the period.

    Attributes:
        mean: shape (period, k, D).
        covariance: shape (period, k, D, k, D).
        noise: covariance of the gradient, (period, D, D).
        settles: whether second moments exist; the rest means nothing where they do not.
    """

    mean: Array
    covariance: Array
    noise: Array
    settles: Array


def stationary_state(
    steps: Sequence[Affine],
    law: GradientLaw,
    growth: float | Array = 1.0,
    resting: tuple[Array, Array] | None = None,
    commutes: bool = False,
) -> StationaryState:
    r"""The fixed point of one period of steps, its noise included.

    With one step, $P = F P F^\top + B (C_0 + C_1(P_{ww})) B^\top$. The unknowns are the covariances x of w,
    $x = R(C_0 + C_1 x)$ with R the response of the linear motion to noise. Second moments exist iff the motion is
    stable and rho(R C_1) < 1; as R C_1 is a positive map, iff the solution for noise I in place of C_0 is positive
    definite.

    Args:
        steps: one period.
        law: of the gradient.
        growth: r; second moments are scaled by 1/r a step, so that they settle iff the spectral radius is below r.
        resting: projector (D, D) onto directions that nothing moves, and the point (D,) where they stay.
        commutes: whether Hessian and inputs' covariance are known to commute: then there is a closed form.
    """
    if len(steps) == 1 and steps[0].a.ndim == 2:
        known = None if resting is None else stationary_mean(steps, law, resting)[0]
        mean, p, settles = settled_pairs(steps[0], law, known, growth, commutes)
        noise = law.additive(mean[0]) + law.linear(p[0, :, 0])
        return StationaryState(mean[None], p[None], noise[None], settles)
    means = stationary_mean(steps, law, resting)
    d = len(law.pull)
    respond = _response(steps, law, growth)
    i, j = np.triu_indices(d)
    norm = np.where(i == j, 1.0, np.sqrt(2.0))
    place = np.zeros((d, d), int)
    place[i, j] = place[j, i] = np.arange(len(i))

    def coordinates(p: Array) -> Array:
        return (p[:, 0, :, 0][:, i, j] * norm).ravel()

    def matrices(flat: Array) -> Array:
        return (flat.reshape(len(steps), -1) / norm)[:, place]

    def feedback(flat: Array) -> Array:
        return coordinates(respond(jax.vmap(law.linear)(matrices(flat))))

    own = jax.vmap(law.additive)(means[:, 0])
    probe = jnp.broadcast_to(jnp.eye(d), own.shape)
    direct = jnp.stack([coordinates(respond(c)) for c in (own, probe)], axis=1)
    size = len(direct)
    if size <= DENSE:
        loop = jax.vmap(feedback, out_axes=1)(jnp.eye(size))
        solved = jnp.linalg.solve(jnp.eye(size) - loop, direct)
    else:
        solved = jnp.stack([iterate(feedback, y) for y in direct.T], axis=1)
    noise = own + jax.vmap(law.linear)(matrices(solved[:, 0]))
    covariance = respond(noise)
    probed = jnp.linalg.eigvalsh(matrices(solved[:, 1]))
    settles = jnp.isfinite(covariance).all() & (probed.min() >= -_ROUNDING * probed.max()) & (probed.max() > 0)
    return StationaryState(means, covariance, noise, settles)


def stationary_mean(
    steps: Sequence[Affine], law: GradientLaw, resting: tuple[Array, Array] | None = None
) -> Array:
    """The periodic mean, shape (period, k, D)."""
    k, d = steps[0].a.shape[0], len(law.pull)
    begin = jnp.zeros((k, d))
    residual = jnp.eye(k * d) - _period(steps, law)
    if resting is not None:
        begin, residual = begin.at[0].set(resting[0] @ resting[1]), residual.at[:d, :d].add(resting[0])
    end = begin
    for step in steps:
        end = move_mean(step, law.hessian, law.pull, end)
    means = [begin + jnp.linalg.solve(residual, (end - begin).ravel()).reshape(k, d)]
    for step in steps[:-1]:
        means.append(move_mean(step, law.hessian, law.pull, means[-1]))
    return jnp.stack(means)


def _period(steps: Sequence[Affine], law: GradientLaw) -> Array:
    """F_p ... F_1."""
    whole = transition(steps[0], law.hessian)
    for step in steps[1:]:
        whole = transition(step, law.hessian) @ whole
    return whole


def _response(steps: Sequence[Affine], law: GradientLaw, growth: float | Array) -> Callable[[Array], Array]:
    """R: noise covariances at each position (period, D, D) to the covariances of z there."""
    k, d = steps[0].a.shape[0], len(law.pull)
    whole = _period(steps, law) / jnp.sqrt(growth) ** len(steps)

    def after(step: Affine, noise: Array, p: Array) -> Array:
        return (both_sides(step, law.hessian, p) + kick(step, noise)) / growth

    def respond(noises: Array) -> Array:
        p = jnp.zeros((k, d, k, d))
        for step, noise in zip(steps, noises, strict=True):
            p = after(step, noise, p)
        settled = [_lyapunov(whole, p.reshape(k * d, k * d)).reshape(k, d, k, d)]
        for step, noise in zip(steps[:-1], noises[:-1], strict=True):
            settled.append(after(step, noise, settled[-1]))
        return jnp.stack(settled)

    return respond
