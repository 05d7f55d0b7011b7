"""Sharpness in the maximum norm: how much the loss can rise when every parameter moves a little."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks


def linf_sharpness(problem: Any, w: Any, radius: float, *, steps: int = 20) -> Any:
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
        Shape of `w` without its first axis, in the dtype of `w`.

    Raises:
        ValueError: an argument is outside its range, or the first axis of `w` is not D.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Quadratic(hessian=[2.0, 1.0], noise_covariance=[0.0, 0.0])
        >>> round(float(ss.statistics.linf_sharpness(problem, [1.0, -1.0], radius=0.1)), 4)  # 0.3 + 0.015
        0.315

    Source: Cattaneo and Shigida, section 3.3 and figures 2, 3.
    """
    rho = _checks.positive("radius", radius, "try 0.01")
    rounds = _checks.integer("steps", steps, low=0)
    point = w if isinstance(w, jax.Array) else _checks.finite_array("w", w)
    if point.ndim == 0 or point.shape[0] != problem.dimension:
        raise _checks.error("w", w, f"of shape ({problem.dimension}, ...) (got shape {point.shape})",
                            "the parameter axis comes first")
    point = jnp.asarray(point)
    return np.asarray(rise_in_cube(problem, point, jnp.asarray(rho, point.dtype), rounds))


@partial(jax.jit, static_argnames="steps")
def rise_in_cube(problem: Any, w: Any, rho: Any, steps: int) -> Any:
    """The same for traced arguments, unchecked."""
    start = problem.loss(w)

    def climb(k: Any, carry: Any) -> Any:
        move, best = carry
        stride = 2 * rho * (1 - k / (steps + 1))
        move = jnp.clip(move + stride * jnp.sign(problem.gradient(w + move)), -rho, rho)
        return move, jnp.maximum(best, problem.loss(w + move) - start)

    # The first stride reaches a corner from the centre.
    return jax.lax.fori_loop(0, steps + 1, climb, (jnp.zeros_like(w), jnp.full_like(start, -jnp.inf)))[1]
