"""Sharpness in the maximum norm: how much the loss can rise when every parameter moves a little."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim.problems.base import Problem

Climb = tuple[jax.Array, jax.Array, jax.Array]  # the move, the best move seen, how much that raises the loss

_CANCELS = 1e-6  # below this share of the loss a difference of two losses keeps fewer than ten digits


@own_settings
def linf_sharpness(problem: Problem, w: ArrayLike | jax.Array, radius: float, *, steps: int = 20) -> np.ndarray:
    r"""The largest rise of the loss in a cube around w, by projected ascent.

    $$\max_{\|\delta\|_\infty \le \rho} L(w + \delta) - L(w) = \rho \|\nabla L\|_1 + O(\rho^2).$$

    The ascent starts in the corner $\rho\,\mathrm{sgn}(\nabla L)$, where the linear part is largest, moves by signs of
    the gradient with a step that falls from 2 rho to 0, is projected onto the cube, and the best point seen counts. It
    finds a local maximum, so that the value is a lower bound; it is never below that of the first corner.

    Args:
        problem: any problem; its `loss` and `gradient` take (D, ...) arrays.
        w: points, shape (D,) or (D, ...).
        radius: rho > 0, the same for all parameters (not adaptive).
        steps: of the ascent; 0 takes the first corner.

    Returns:
        Float64, the shape of `w` without its first axis. Rises below a millionth of the loss, where a difference of two
        losses would cancel, are integrals of the gradient along the move (Gauss, four nodes).

    Raises:
        ValueError: an argument is outside its range, or the first axis of `w` is not D.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Quadratic(hessian=[2.0, 1.0], example_noise_covariance=[0.0, 0.0])
        >>> round(float(ss.estimators.linf_sharpness(problem, [1.0, -1.0], radius=0.1)), 4)  # 0.3 + 0.015
        0.315

    Source: Cattaneo and Shigida, section 3.3 and figures 2, 3.
    """
    rho = _checks.positive("radius", radius, "try 0.01")
    rounds = _checks.integer("steps", steps, low=0)
    point = w if isinstance(w, jax.Array) else _checks.finite_array("w", w)
    if point.ndim == 0 or point.shape[0] != problem.dimension:
        raise _checks.error("w", w, f"of shape ({problem.dimension}, ...) (got shape {point.shape})",
                            "the parameter axis comes first")
    with jax.enable_x64(True):
        point = jnp.asarray(point, jnp.float64)
        move, rise = best_move(problem, point, rho, rounds)
        small = np.abs(rise) < _CANCELS * np.abs(problem.loss(point))
        return np.where(small, _along(problem, point, move), rise) if small.any() else np.asarray(rise)


@jax.jit
def _along(problem: Problem, w: jax.Array, move: jax.Array) -> jax.Array:
    nodes, weights = np.polynomial.legendre.leggauss(4)
    slopes = [jnp.sum(problem.gradient(w + (1 + x) / 2 * move) * move, axis=0) for x in nodes]
    return sum((weight / 2 * slope for weight, slope in zip(weights, slopes, strict=True)), jnp.zeros(()))


def rise_in_cube(problem: Problem, w: jax.Array, rho: float | jax.Array, steps: int) -> jax.Array:
    """The same for traced arguments, unchecked, as a difference of losses in the dtype of `w`."""
    return best_move(problem, w, rho, steps)[1]


@partial(jax.jit, static_argnames="steps")
def best_move(problem: Problem, w: jax.Array, rho: float | jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """The best move seen, and by how much it raises the loss."""
    start = problem.loss(w)

    def climb(k: jax.Array, carry: Climb) -> Climb:
        move, best, rise = carry
        stride = 2 * rho * (1 - k / (steps + 1))
        move = jnp.clip(move + stride * jnp.sign(problem.gradient(w + move)), -rho, rho)
        now = problem.loss(w + move) - start
        return move, jnp.where(now > rise, move, best), jnp.maximum(rise, now)

    # The first stride reaches a corner from the centre.
    _, best, rise = jax.lax.fori_loop(
        0, steps + 1, climb, (jnp.zeros_like(w), jnp.zeros_like(w), jnp.full_like(start, -jnp.inf)))
    return best, rise
