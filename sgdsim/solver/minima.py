"""A manifold of minima: its curvature, the preconditioned gradient flow that ends on it, and the flow's derivative."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from sgdsim import _checks
from sgdsim._types import Matrix, Vector, as_matrix
from sgdsim.problems import DeepLinear, TwoLayerLinear

ON = 1e-10  # of the loss a point may have above the manifold, relative to 1 + |w|^2 times the largest curvature
_FLAT = 1e-8  # of the largest curvature: directions below it are tangent
_CLOSE = 1e-6  # of 1 + |w|: from here on Newton's steps are those of the flow, to its square
_STILL = 1e-10  # of 1 + |w| times the largest curvature: a gradient that leaves flat directions flat
_POLISH = 8
_DOUBLINGS = 60


@jax.jit
def derivatives(problem: Any, w: Any) -> tuple[Any, Any, Any]:
    """L, its gradient and its Hessian at w (D,), all by automatic differentiation of `problem.loss`."""
    slope = jax.grad(problem.loss)
    columns = jax.vmap(lambda e: jax.jvp(slope, (w,), (e,))[1])(jnp.eye(len(w), dtype=w.dtype))
    return problem.loss(w), slope(w), (columns + columns.T) / 2


@jax.jit
def third_derivatives(problem: Any, w: Any, directions: Any) -> Any:
    """Column k is the gradient of d' H d for the fixed column d = d_k of `directions` (D, K), shape (D, K)."""

    def along(d: Any) -> Any:
        return jax.jvp(lambda x: jax.jvp(jax.grad(problem.loss), (x,), (d,))[1], (w,), (d,))[1]

    return jax.vmap(along, in_axes=1, out_axes=1)(directions)


@jax.jit
def geometry(problem: Any, w: Any, directions: Any) -> tuple[Any, Any, Any]:
    """The gradient, the Hessian and the third derivatives in one call."""
    _, slope, hessian = derivatives(problem, w)
    return slope, hessian, third_derivatives(problem, w, directions)


@dataclasses.dataclass(frozen=True, eq=False)
class Minima:
    """The minima around a point, seen in a metric.

    With S = R R' every statement about the flow -S grad L is one about -grad in the coordinates R^-1 w.

    Attributes:
        hessian: H, shape (D, D).
        values: all eigenvalues of R'HR, ascending, those of tangent directions set to 0, shape (D,).
        vectors: their eigenvectors as columns, shape (D, D).
        root: R, shape (D, D).
    """

    hessian: Matrix
    values: Vector
    vectors: Matrix
    root: Matrix

    @classmethod
    def at(cls, hessian: Matrix, root: Matrix, rank: int | None = None) -> Self:
        """From H and R; the `rank` of H is counted where it is None."""
        values, vectors = np.linalg.eigh(root.T @ hessian @ root)
        if rank is None:
            rank = int(np.sum(values > _FLAT * max(values[-1], 0)))
        return cls(hessian, np.where(np.arange(len(values)) < len(values) - rank, 0.0, values), vectors, root)

    @property
    def rank(self) -> int:
        """Number of directions with curvature."""
        return int(np.sum(self.values != 0))

    @property
    def inverse(self) -> Matrix:
        """N = R (R'HR)^+ R': N grad L leads to the manifold along the flow, to first order."""
        inside = self.values != 0
        lift = self.root @ self.vectors[:, inside]
        return (lift / self.values[inside]) @ lift.T

    @property
    def projection(self) -> Matrix:
        """I - N H, the derivative of the flow's projection at a point of the manifold."""
        return np.eye(len(self.hessian)) - self.inverse @ self.hessian


def floor_of(problem: Any) -> float:
    """The part of `problem.loss` that is fresh label noise: sigma^2 / 2 for each output."""
    outputs = problem.shapes[-1][0] if isinstance(problem, TwoLayerLinear | DeepLinear) else 1
    return 0.5 * outputs * float(np.asarray(getattr(problem, "label_noise", 0.0))) ** 2


def root_of(problem: Any, preconditioner: Any) -> Matrix:
    """R with S = R R', for a diagonal or a symmetric positive definite S; None is the identity.

    Raises:
        ValueError: S is not symmetric and positive definite, or of another dimension.
    """
    if preconditioner is None:
        return np.eye(problem.dimension)
    s = as_matrix(_checks.symmetric("preconditioner", preconditioner, problem.dimension), problem.dimension)
    values, vectors = np.linalg.eigh(s)
    if values[0] <= 0:
        raise _checks.error("preconditioner", preconditioner,
                            f"positive definite (smallest eigenvalue {values[0]:.3g})",
                            "along other directions the flow does not go down")
    return np.diag(np.sqrt(np.diag(s))) if not np.any(s - np.diag(np.diag(s))) else vectors * np.sqrt(values)


def local(problem: Any, w: Vector) -> tuple[float, Vector, Matrix]:
    """L above the label noise, grad L and H at w, on the host in float64."""
    with jax.enable_x64(True):
        level, slope, hessian = derivatives(problem, w)
    return float(level) - floor_of(problem), np.asarray(slope), np.asarray(hessian)


def polish(problem: Any, w: Vector, root: Matrix, rank: int) -> tuple[Vector, Minima]:
    """Newton's steps onto the manifold from a point close to it, and the manifold there."""
    for _ in range(_POLISH):
        _, slope, hessian = local(problem, w)
        here = Minima.at(hessian, root, rank)
        step = here.inverse @ slope
        w = w - step
        if np.linalg.norm(step) <= 1e-13 * (1 + np.linalg.norm(w)):
            break
    return w, here


def settle(problem: Any, argument: str, initial: Any, root: Matrix, interpolating: bool) -> tuple[Vector, Minima]:
    """A given point of the manifold, freed of its rounding errors.

    Raises:
        ValueError: it is not on the manifold, or the minima do not interpolate where they must.
    """
    w = _checks.vector(argument, initial, problem.dimension)
    level, slope, hessian = local(problem, w)
    here = Minima.at(hessian, root)
    gain = 0.5 * float(slope @ here.inverse @ slope)
    scale = ON * (1 + float(w @ w)) * float(np.abs(hessian).max())
    if here.rank == 0 or not gain <= scale or np.linalg.eigvalsh(hessian)[0] < -_FLAT * np.abs(hessian).max():
        raise _checks.error(argument, initial, f"on the manifold of minima (a loss of {level:.3g} is left there, "
                            f"gradient norm {np.linalg.norm(slope):.3g})",
                            "pass sgdsim.solver.flow_to_minimum(problem, initial)")
    if interpolating and level - gain > scale:
        raise _checks.error("problem", problem, f"one whose minima fit every example (a loss of {level:.3g} is left)",
                            "with residuals left the noise is not that of the labels alone: use solver.slow_sde")
    return polish(problem, w, root, here.rank)


def flow_to_minimum(problem: Any, initial: Any, preconditioner: Any = None) -> Vector:
    r"""Where the preconditioned gradient flow ends.

    $$\Phi_S(x) = \lim_{t \to \infty} w(t), \qquad \dot w = -S \nabla L(w), \quad w(0) = x .$$

    Args:
        problem: a problem with a manifold of minima.
        initial: x, shape (D,).
        preconditioner: S, a diagonal (D,) or a symmetric positive definite matrix; None is the identity.

    Returns:
        The minimum, shape (D,), with a gradient that is zero to rounding.

    Raises:
        ValueError: an argument does not fit, or the flow finds no minimum.

    Examples:
        >>> import sgdsim as ss
        >>> w = ss.solver.flow_to_minimum(ss.Ellipse(a=2.0, b=1.0), [1.0, 1.0])
        >>> w.round(6).tolist()
        [1.414214, 1.414214]

    Source: "Slow dynamics of Adam" (paper 004), definition 4.1.
    """
    root = root_of(problem, preconditioner)
    w = _checks.vector("initial", initial, problem.dimension)
    s = root @ root.T

    def velocity(t: float, point: Any) -> Any:
        return -s @ local(problem, point)[1]

    def turning(t: float, point: Any) -> Any:
        return -s @ local(problem, point)[2]

    _, slope, hessian = local(problem, w)
    span = 1.0 / max(float(np.linalg.eigvalsh(root.T @ hessian @ root)[-1]), 1e-12)
    for _ in range(_DOUBLINGS):
        _, slope, hessian = local(problem, w)
        here = Minima.at(hessian, root)
        size, steepest = 1 + np.linalg.norm(w), float(np.abs(hessian).max())
        still = np.linalg.norm(slope) <= _STILL * size * steepest
        near = np.linalg.norm(here.inverse @ slope) <= _CLOSE * size
        if here.rank and still and near and np.linalg.eigvalsh(hessian)[0] > -_FLAT * steepest:
            return polish(problem, w, root, here.rank)[0]
        moved = solve_ivp(velocity, (0.0, span), w, method="LSODA", jac=turning, rtol=1e-11, atol=1e-13)
        if not moved.success or not np.isfinite(moved.y[:, -1]).all():
            break
        w, span = moved.y[:, -1], 2 * span
    raise _checks.error("initial", initial, "a point from which the gradient flow reaches a minimum",
                        f"it stops at a gradient of norm {np.linalg.norm(slope):.3g}: start closer to a minimum")


def tangent_projection(problem: Any, w: Any, preconditioner: Any = None) -> Matrix:
    r"""The derivative of `flow_to_minimum` at a minimum: the projection on the tangent space along S H.

    $$\partial\Phi_S = I - S J^\top (J S J^\top)^{-1} J = I - R (R^\top H R)^+ R^\top H, \qquad S = R R^\top,$$

    J the Jacobian of the residuals. It keeps tangent vectors, sends S times the range of H to 0, and is orthogonal in
    the inner product x' S^-1 y. Nothing is differentiated through the flow.

    Args:
        problem: a problem with a manifold of minima.
        w: one of them, shape (D,).
        preconditioner: S, as for `flow_to_minimum`.

    Returns:
        The matrix, shape (D, D).

    Raises:
        ValueError: w is no minimum, or an argument does not fit.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)  # at its tip the tangent is (1, -1)
        >>> ss.solver.tangent_projection(problem, problem.minimum, [1.0, 3.0]).round(6).tolist()
        [[0.75, -0.25], [-0.75, 0.25]]

    Source: "Slow dynamics of Adam" (paper 004), definition 4.2; sheet C2.
    """
    return settle(problem, "w", w, root_of(problem, preconditioner), interpolating=False)[1].projection
