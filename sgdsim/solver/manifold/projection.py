"""The preconditioned gradient flow that ends on a manifold of minima, and the derivative of where it ends."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._types import Matrix, Vector
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.derivatives import Loss, read_landscape, read_point
from sgdsim.solver.manifold.minimum import FLAT, Minima, local, polish, root_of, settle

_CLOSE = 1e-6  # of |w|: from here on Newton's steps are those of the flow, to its square
_STILL = 1e-10  # of |w| times the largest curvature: a gradient that leaves flat directions flat
_DOUBLINGS = 60
_ROUNDING = 1e-12  # of the largest curvature, on the manifold


@own_settings
def flow_to_minimum(
    problem: Problem | Loss, initial: ArrayLike, preconditioner: ArrayLike | None = None
) -> Vector:
    r"""Where the preconditioned gradient flow ends.

    $$\Phi_S(x) = \lim_{t \to \infty} w(t), \qquad \dot w = -S \nabla L(w), \quad w(0) = x .$$

    Args:
        problem: a problem with a manifold of minima, or a function w -> loss that JAX can differentiate twice.
        initial: x, shape (D,).
        preconditioner: S, a diagonal (D,) or a symmetric positive definite matrix; None is the identity.

    Returns:
        The minimum, shape (D,), with a gradient that is zero to rounding.

    Raises:
        ValueError: an argument does not fit.
        NotConverged: the flow finds no minimum.

    Examples:
        >>> import sgdsim as ss
        >>> w = ss.solver.manifold.flow_to_minimum(ss.Ellipse(a=2.0, b=1.0), [1.0, 1.0])
        >>> w.round(6).tolist()
        [1.414214, 1.414214]

    Source: "Slow dynamics of Adam" (paper 004), definition 4.1.
    """
    landscape = read_landscape(problem)
    w = read_point("initial", initial, landscape)
    root = root_of(len(w), preconditioner)
    s = root @ root.T

    def velocity(t: float, point: Vector) -> Vector:
        return -s @ local(landscape, point)[1]

    def turning(t: float, point: Vector) -> Matrix:
        return -s @ local(landscape, point)[2]

    _, slope, hessian = local(landscape, w)
    start, steepest = float(np.linalg.norm(w)), float(np.linalg.eigvalsh(root.T @ hessian @ root)[-1])
    span = 1.0 / steepest if steepest > 0 else 1.0
    for _ in range(_DOUBLINGS):
        _, slope, hessian = local(landscape, w)
        here = Minima.at(hessian, root)
        size, steepest = max(start, float(np.linalg.norm(w))) or 1.0, float(np.abs(hessian).max())
        still = np.linalg.norm(slope) <= _STILL * size * steepest
        near = np.linalg.norm(here.inverse @ slope) <= _CLOSE * size
        if here.rank and still and near and np.linalg.eigvalsh(hessian)[0] > -FLAT * steepest:
            return polish(landscape, w, root, here.rank)[0]
        moved = scipy.integrate.solve_ivp(velocity, (0.0, span), w, method="LSODA", jac=turning, rtol=1e-11,
                                          atol=1e-13 * size)
        if not moved.success or not np.isfinite(moved.y[:, -1]).all():
            break
        w, span = moved.y[:, -1], 2 * span
    left = float(np.linalg.norm(slope))
    raise _checks.NotConverged(f"the gradient flow reached no minimum, but a gradient of norm {left:.3g}: start closer",
                               reached=w)


@own_settings
def tangent_projection(
    problem: Problem | Loss, w: ArrayLike, preconditioner: ArrayLike | None = None
) -> Matrix:
    r"""The derivative of `flow_to_minimum` at a minimum: the projection on the tangent space along S H.

    $$\partial\Phi_S = I - S J^\top (J S J^\top)^{-1} J = I - R (R^\top H R)^+ R^\top H, \qquad S = R R^\top,$$

    J the Jacobian of the residuals. It keeps tangent vectors, sends S times the range of H to 0, and is orthogonal in
    the inner product x' S^-1 y. Nothing is differentiated through the flow.

    Args:
        problem: a problem with a manifold of minima, or a function w -> loss.
        w: one of them, shape (D,).
        preconditioner: S, as for `flow_to_minimum`.

    Returns:
        The matrix, shape (D, D).

    Raises:
        ValueError: w is no minimum, or an argument does not fit.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)  # at its tip the tangent is (1, -1)
        >>> ss.solver.manifold.tangent_projection(problem, problem.minimum, [1.0, 3.0]).round(6).tolist()
        [[0.75, -0.25], [-0.75, 0.25]]

    Source: "Slow dynamics of Adam" (paper 004), definition 4.2; sheet C2.
    """
    landscape = read_landscape(problem)
    point = read_point("w", w, landscape)
    here = settle(landscape, "w", point, root_of(len(point), preconditioner), interpolating=False)[1]
    # On the manifold curvature is known to rounding, so that slow directions count that a path need not tell from flat.
    values = np.linalg.eigvalsh(here.root.T @ here.hessian @ here.root)
    return Minima.at(here.hessian, here.root, int(np.sum(values > _ROUNDING * values[-1]))).projection
