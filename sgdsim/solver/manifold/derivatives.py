"""Gradient, Hessian and third derivatives of any loss, by automatic differentiation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.problems.base import Problem

Loss = Callable[[Array], Array]
_TOGETHER = 64  # columns side by side


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LossFunction:
    """A function of w alone; equal for the same function, so that it is compiled once."""

    function: Loss

    def loss(self, w: Array) -> Array:
        """The function at w."""
        return self.function(w)


Landscape: TypeAlias = Problem | LossFunction


def read_landscape(problem: Problem | Loss) -> Landscape:
    """A problem as it is, or a function of w.

    Raises:
        ValueError: it is neither.
    """
    if not callable(problem) and hasattr(problem, "loss"):
        return problem
    if callable(problem):
        return LossFunction(problem)
    raise _checks.error("problem", type(problem).__name__, "a sgdsim problem or a function w -> loss",
                        "pass ss.FlaxNetwork(...), or a function that JAX can differentiate")


def read_point(argument: str, w: ArrayLike, landscape: Landscape) -> Vector:
    """A finite vector w, of the problem's dimension where it has one.

    Raises:
        ValueError: the shape is wrong, or an entry is not finite.
    """
    if not isinstance(landscape, LossFunction):
        return _checks.vector(argument, w, landscape.dimension)
    array = _checks.finite_array(argument, w)
    if array.ndim != 1 or array.size == 0:
        raise _checks.error(argument, w, f"a vector (got shape {array.shape})", "give one number for each parameter")
    return array


def hessian(loss: Loss, w: Array) -> Array:
    """H at w (D,), symmetric, shape (D, D): column by column; traceable."""
    slope = jax.grad(loss)
    columns = jax.lax.map(lambda e: jax.jvp(slope, (w,), (e,))[1], jnp.eye(len(w), dtype=w.dtype), batch_size=_TOGETHER)
    return (columns + columns.T) / 2


def third(loss: Loss, w: Array, first: Array, second: Array) -> Array:
    r"""$$\nabla^3 L[a_k, b_k]$$ for the columns a_k of `first` and b_k of `second` (D, K), shape (D, K); traceable."""
    slope = jax.grad(loss)

    def along(pair: tuple[Array, Array]) -> Array:
        a, b = pair
        return jax.jvp(lambda x: jax.jvp(slope, (x,), (a,))[1], (w,), (b,))[1]

    return jax.lax.map(along, (first.T, second.T), batch_size=_TOGETHER).T


def third_against(loss: Loss, w: Array, s: Array) -> Array:
    r"""$$\nabla^3 L[S]_k = \sum_{ij} \partial_i \partial_j \partial_k L \, S_{ij}$$, shape (D,); traceable."""
    return third(loss, w, jnp.eye(len(w), dtype=w.dtype), s).sum(axis=1)


def expand(loss: Loss, w: Array) -> tuple[Array, Array, Array]:
    """L, its gradient and its Hessian at w (D,); traceable."""
    return loss(w), jax.grad(loss)(w), hessian(loss, w)


def potential_gradient(problem: Problem | Loss, w: ArrayLike, covariance: ArrayLike) -> Vector:
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
        >>> from sgdsim.solver.manifold import potential_gradient
        >>> potential_gradient(lambda w: w[0] ** 2 * w[1], [1.0, 2.0], [0.5, 0.0]).tolist()
        [0.0, 0.5]

    Source: Damian, Ma and Lee, section 5.3, with the factor 1/2 that is missing there (see the errata).
    """
    landscape = read_landscape(problem)
    point = read_point("w", w, landscape)
    s = _checks.symmetric("covariance", covariance, len(point))
    with jax.enable_x64(True):
        return np.asarray(_pull(landscape, jnp.asarray(point), jnp.asarray(s if s.ndim == 2 else np.diag(s))))


@jax.jit
def _pull(landscape: Landscape, w: Array, s: Array) -> Array:
    return 0.5 * third_against(landscape.loss, w, s)
