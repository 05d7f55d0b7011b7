"""Hessians and contracted third derivatives of any loss, by automatic differentiation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import Vector

Loss = Callable[[Any, Any], Any]  # (problem, w) -> loss
_TOGETHER = 64  # Hessian columns side by side


@dataclasses.dataclass(frozen=True)
class _Given:
    """A function of w alone; equal for the same function, so that it is compiled once."""

    function: Callable[[Any], Any]

    def __call__(self, problem: Any, w: Any) -> Any:
        """The loss at w."""
        return self.function(w)


def _loss_of(problem: Any, w: Any) -> Any:
    return problem.loss(w)


def read_loss(problem: Any) -> tuple[Loss, Any]:
    """The loss of a problem, or a function of w, as a function of (problem, w); and the problem.

    Raises:
        ValueError: it is neither.
    """
    if hasattr(problem, "loss"):
        return _loss_of, problem
    if callable(problem):
        return _Given(problem), None
    raise _checks.error("problem", type(problem).__name__, "a sgdsim problem or a function w -> loss",
                        "pass ss.FlaxNetwork(...), or a function that JAX can differentiate")


def point(argument: str, w: Any, problem: Any) -> Vector:
    """A finite vector w, of the problem's dimension where it has one.

    Raises:
        ValueError: the shape is wrong, or an entry is not finite.
    """
    if problem is not None:
        return _checks.vector(argument, w, problem.dimension)
    array = _checks.finite_array(argument, w)
    if array.ndim != 1 or array.size == 0:
        raise _checks.error(argument, w, f"a vector (got shape {array.shape})", "give one number for each parameter")
    return array


def hessian(loss: Loss, problem: Any, w: Any) -> Any:
    """H, shape (D, D), column by column; traceable."""
    return _weighted_columns(loss, problem, w)


def third(loss: Loss, problem: Any, w: Any, s: Any) -> Any:
    r"""$$\nabla^3 L[S]_k = \sum_{ij} \partial_i \partial_j \partial_k L \, S_{ij}$$, shape (D,); traceable."""
    return jax.grad(lambda v: jnp.sum(s * _weighted_columns(loss, problem, v)))(w)


def _weighted_columns(loss: Loss, problem: Any, w: Any) -> Any:
    slope = jax.grad(partial(loss, problem))
    return jax.lax.map(lambda e: jax.jvp(slope, (w,), (e,))[1], jnp.eye(len(w)), batch_size=_TOGETHER)


@partial(jax.jit, static_argnums=0)
def slope_and_hessian(loss: Loss, problem: Any, w: Any) -> tuple[Any, Any]:
    """Gradient and Hessian of the loss."""
    return jax.grad(partial(loss, problem))(w), hessian(loss, problem, w)


_third = jax.jit(third, static_argnums=0)


def potential_gradient(problem: Any, w: Any, covariance: Any) -> Vector:
    r"""The mean slope that a chain fluctuating around w feels beyond that at w, to second order.

    $$\tfrac12 \nabla^3 L[S]_k = \tfrac12 \sum_{ij} \partial_i\partial_j\partial_k L(w)\, S_{ij} .$$

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times.
        w: the point, shape (D,).
        covariance: S of the fluctuations, D x D or a length-D diagonal.

    Returns:
        Shape (D,), in double precision.

    Raises:
        ValueError: a shape does not fit, or S is not symmetric.

    Examples:
        >>> from sgdsim.solver import potential_gradient
        >>> potential_gradient(lambda w: w[0] ** 2 * w[1], [1.0, 2.0], [0.5, 0.0]).tolist()
        [0.0, 0.5]

    Source: Damian, Ma and Lee, section 5.3, with the factor 1/2 that is missing there (see the errata).
    """
    loss, known = read_loss(problem)
    start = point("w", w, known)
    s = _checks.symmetric("covariance", covariance, len(start))
    with jax.enable_x64(True):
        return np.asarray(0.5 * _third(loss, known, jnp.asarray(start), jnp.asarray(s if s.ndim == 2 else np.diag(s))))
