"""The Hessian of a loss in two parts: what the slopes of the predictions make, and the rest."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.problems import DatasetRegression, FlaxNetwork
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.network_losses import find_loss
from sgdsim.problems.parts.residuals import Residuals
from sgdsim.solver.manifold.derivatives import hessian

_TOGETHER = 64  # examples side by side


class GaussNewton(NamedTuple):
    """H = G + E.

    Attributes:
        gauss_newton: G, positive semi-definite for a convex loss, shape (D, D).
        rest: E, what the curvature of the predictions adds, and weight decay, shape (D, D); without decay it is 0
            where every example is fitted.
    """

    gauss_newton: Matrix
    rest: Matrix


def gauss_newton(problem: Problem, w: ArrayLike) -> GaussNewton:
    r"""The Gauss-Newton matrix of a loss of predictions, and what is left of the Hessian.

    $$\nabla^2 L = G + E, \qquad G = \frac1n \sum_i \nabla f_i\, \ell''(f_i)\, \nabla f_i^\top, \qquad
      E = \frac1n \sum_i \ell'(f_i)\, \nabla^2 f_i + \Gamma .$$

    Label noise of standard deviation sigma on the squared error has the covariance sigma^2 G per example.

    Args:
        problem: a `FlaxNetwork` of any loss and number of outputs, a `DatasetRegression`, or one made of residuals
            (`DiagonalNetwork`, `MatrixFactorization`, `Ellipse`, `CyclingToy`).
        w: the point, shape (D,).

    Returns:
        `GaussNewton`, in double precision; unpacks as G, E.

    Raises:
        ValueError: the shape of w is wrong.
        NotImplementedError: the problem has no predictions.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DiagonalNetwork([[1.0]], teacher=[1.0])
        >>> g, e = ss.solver.manifold.gauss_newton(problem, [1.0, 1.0])  # f = u^2 - v^2 - 1 = -1
        >>> g.tolist(), e.tolist()
        ([[4.0, -4.0], [-4.0, 4.0]], [[-2.0, 0.0], [0.0, 2.0]])

    Source: Damian, Ma and Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", section 2.
    """
    point = _checks.vector("w", w, problem.dimension)
    with jax.enable_x64(True):
        if isinstance(problem, FlaxNetwork):
            g, h = map(np.asarray, _of_network(problem, jnp.asarray(point)))
        elif isinstance(problem, Residuals | DatasetRegression):
            slopes = problem.features if isinstance(problem, DatasetRegression) else problem.jacobian(point)
            g, h = slopes.T @ slopes / len(slopes), np.asarray(problem.hessian(point))
        else:
            raise NotImplementedError(f"{type(problem).__name__} has no predictions with a loss of their own; "
                                      "FlaxNetwork, DatasetRegression and problems made of residuals have")
    return GaussNewton(g, h - g)


@jax.jit
def _of_network(problem: FlaxNetwork, w: Array) -> tuple[Array, Array]:
    loss = find_loss(problem.loss_name)

    def example(xy: tuple[Array, Array]) -> Array:
        def outputs(v: Array) -> Array:
            return problem.network.predict(v, xy[0][None])[0]

        f = outputs(w)
        slopes = jax.jacrev(outputs)(w).reshape(-1, len(w))
        bend = jax.hessian(loss)(f, xy[1]).reshape(len(slopes), len(slopes))
        return slopes.T @ bend @ slopes

    data = jnp.asarray(problem.features), jnp.asarray(problem.targets)
    return jax.lax.map(example, data, batch_size=_TOGETHER).mean(axis=0), hessian(problem.loss, w)
