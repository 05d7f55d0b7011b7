"""A manifold of minima: its curvature in a metric, and Newton's steps onto it."""

from __future__ import annotations

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector, as_matrix
from sgdsim.solver.laws.table import LAWS, law_of
from sgdsim.solver.manifold.derivatives import Landscape, LossFunction, expand, read_point

ON = 1e-10  # of the loss a point may have above the manifold, relative to |w|^2 times the largest curvature
_RETURN = 20.0  # times faster than a path moves, what integration errors put off the manifold decays
FLAT = 1e-8  # of the largest curvature: directions below it are tangent
_POLISH = 8


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
            rank = int(np.sum(values > FLAT * max(values[-1], 0)))
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


def spectrum(hessian: Array, root: Array, rank: int) -> tuple[Array, Array, Array]:
    """What `Minima` holds, traceable: eigenvalues of R'HR, 1 over them, both 0 for tangent directions; eigenvectors."""
    values, vectors = jnp.linalg.eigh(root.T @ hessian @ root)
    curved = jnp.arange(len(values)) >= len(values) - rank
    values = jnp.where(curved, values, 0.0)
    return values, jnp.where(curved, 1 / jnp.where(curved, values, 1.0), 0.0), vectors


def path_size(size: float, velocity: Vector, span: float) -> float:
    """What errors of a path are relative to: the size of its start; of a start at 0, how far it would go."""
    return size or float(np.abs(velocity).max()) * span or 1.0


def return_rate(size: float, velocity: Vector, span: float) -> float:
    """At which what integration errors put off the manifold decays: well above that of the path itself."""
    return _RETURN * max(1 / span, float(np.abs(velocity).max()) / size)


def floor_of(landscape: Landscape) -> float:
    """The part of the loss that is fresh label noise, where the law of the problem is known."""
    if isinstance(landscape, LossFunction) or not isinstance(landscape, tuple(LAWS)):
        return 0.0
    return law_of(landscape).noise_floor


def root_of(dimension: int, preconditioner: ArrayLike | None) -> Matrix:
    """R with S = R R', for a diagonal or a symmetric positive definite S; None is the identity.

    Raises:
        ValueError: S is not symmetric and positive definite, or of another dimension.
    """
    if preconditioner is None:
        return np.eye(dimension)
    s = as_matrix(_checks.symmetric("preconditioner", preconditioner, dimension), dimension)
    values, vectors = np.linalg.eigh(s)
    if values[0] <= 0:
        raise _checks.error("preconditioner", preconditioner,
                            f"positive definite (smallest eigenvalue {values[0]:.3g})",
                            "along other directions the flow does not go down")
    return np.diag(np.sqrt(np.diag(s))) if not np.any(s - np.diag(np.diag(s))) else vectors * np.sqrt(values)


@jax.jit
def _expand(landscape: Landscape, w: Array) -> tuple[Array, Array, Array]:
    return expand(landscape.loss, w)


def local(landscape: Landscape, w: Vector) -> tuple[float, Vector, Matrix]:
    """L above the label noise, grad L and H at w, on the host in float64."""
    with jax.enable_x64(True):
        level, slope, hessian = _expand(landscape, jnp.asarray(w))
    return float(level) - floor_of(landscape), np.asarray(slope), np.asarray(hessian)


def polish(landscape: Landscape, w: Vector, root: Matrix, rank: int | None = None) -> tuple[Vector, Minima]:
    """Newton's steps onto the manifold from a point close to it, and the manifold there.

    Off the manifold tangent directions are curved too: where the rank is None it is counted again after every step.
    """
    for _ in range(_POLISH):
        _, slope, hessian = local(landscape, w)
        here = Minima.at(hessian, root, rank)
        step = here.inverse @ slope
        w = w - step
        if np.linalg.norm(step) <= 1e-13 * np.linalg.norm(w):
            break
    return w, here


def settle(
    landscape: Landscape, argument: str, initial: ArrayLike, root: Matrix, interpolating: bool
) -> tuple[Vector, Minima]:
    """A given point of the manifold, freed of its rounding errors.

    Raises:
        ValueError: it is not on the manifold, or the minima do not interpolate where they must.
    """
    w = read_point(argument, initial, landscape)
    level, slope, hessian = local(landscape, w)
    here = Minima.at(hessian, root)
    gain = 0.5 * float(slope @ here.inverse @ slope)
    scale = ON * (float(w @ w) or 1.0) * float(np.abs(hessian).max())
    near = here.rank > 0 and gain <= scale
    settled, here = polish(landscape, w, root) if near else (w, here)
    if not near or np.linalg.eigvalsh(here.hessian)[0] < -FLAT * np.abs(here.hessian).max():
        raise _checks.error(argument, initial, f"on the manifold of minima (a loss of {level:.3g} is left there, "
                            f"gradient norm {np.linalg.norm(slope):.3g})",
                            "pass sgdsim.solver.manifold.flow_to_minimum(problem, initial)")
    if interpolating and level - gain > scale:
        raise _checks.error("problem", landscape, f"one whose minima fit every example (a loss of {level:.3g} is left)",
                            "with residuals left the noise is not that of the labels alone: use manifold.slow_sde")
    return settled, here
