"""The first two moments of SGD on a quadratic loss, in the eigenbasis of its Hessian."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Self

import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.solver.linear_algebra.graded import graded_eigh


@dataclasses.dataclass(frozen=True, eq=False)
class SecondMoments:
    r"""Mean and covariance of SGD whose gradient noise is affine in the second moment.

    $$d_{t+1} = d_t - \alpha_t (k d_t + h), \qquad
      V_{t+1} = (I - \alpha_t K) V_t (I - \alpha_t K) + \alpha_t^2 \big( x\,[H(V_t) + G(d_t)] + \tfrac1b C_0 \big).$$

    K = diag(k) is the Hessian of the loss, d the mean's distance from `origin` and x the noise factor: 1/b, or
    c_b without replacement. V is a vector: the entries `rows`, `columns` of the matrix, which hold its diagonal.

    Attributes:
        curvatures: k, (p,).
        basis: eigenvectors of K as columns (p, p), or None for the axes themselves.
        origin: where d is counted from, (p,) in the problem's own coordinates.
        drift: h, the loss's gradient at the origin, (p,).
        rows: row of every entry of V that is kept.
        columns: column of every entry of V that is kept.
        respond: V (B, S) -> H(V) (B, S).
        inject: d (p,) -> G(d) (S,), for the noise of deviation d.
        additive: C_0 (S,), noise that is 1/b whatever the sampling: fresh label noise.
        observed: what the entries kept count in the variance of a gradient (S,); None is its trace.
    """

    curvatures: Vector
    basis: Matrix | None
    origin: Vector
    drift: Vector
    rows: np.ndarray
    columns: np.ndarray
    respond: Callable[[np.ndarray], np.ndarray]
    inject: Callable[[Vector], np.ndarray]
    additive: np.ndarray
    observed: np.ndarray | None = None

    def observe(self, projection: Matrix) -> Self:
        """The same, where variances are those of B times the gradient, B (k, p); V is kept whole."""
        b = projection if self.basis is None else projection @ self.basis
        return dataclasses.replace(self, observed=self._multiplicity * (b.T @ b)[self.rows, self.columns])

    def matrices(self, v: np.ndarray) -> np.ndarray:
        """V (B, S) in the problem's own coordinates (B, p, p); V is kept whole."""
        full = np.zeros((*v.shape[:-1], len(self.curvatures), len(self.curvatures)))
        full[..., self.rows, self.columns] = full[..., self.columns, self.rows] = v
        return full if self.basis is None else self.basis @ full @ self.basis.T

    @cached_property
    def _multiplicity(self) -> np.ndarray:
        """How often an entry stands in the matrix: an off-diagonal one of a triangle twice."""
        triangle = len(self.rows) < len(self.curvatures) ** 2
        return np.where((self.rows != self.columns) & triangle, 2.0, 1.0)

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Where V_jj is kept, j = 1, ..., p."""
        return np.flatnonzero(self.rows == self.columns)

    def decay(self, rate: float) -> np.ndarray:
        """(1 - alpha k_i)(1 - alpha k_j) for every entry kept."""
        shrink = 1 - rate * self.curvatures
        return shrink[self.rows] * shrink[self.columns]

    def enter(self, w: Vector) -> Vector:
        """The deviation d of a point."""
        return w - self.origin if self.basis is None else self.basis.T @ (w - self.origin)

    def leave(self, d: np.ndarray) -> np.ndarray:
        """Points (p, steps) of deviations d (steps, p)."""
        return self.origin[:, None] + (d.T if self.basis is None else self.basis @ d.T)

    def step(self, d: Vector, rate: float) -> Vector:
        """The mean after one step."""
        return d - rate * (self.curvatures * d + self.drift)

    def traces(self, v: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """tr(K V K) + tr(noise), tr(K V K) and tr(K V)/2 along the last axis; the first two as observed."""
        across = v[..., self.diagonal]
        if self.observed is not None:
            full = v @ (self.observed * self.curvatures[self.rows] * self.curvatures[self.columns])
            return full + noise @ self.observed, full, 0.5 * across @ self.curvatures
        full = across @ self.curvatures**2
        return full + noise[..., self.diagonal].sum(axis=-1), full, 0.5 * across @ self.curvatures


def axes(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns when only the diagonal of V is needed."""
    return np.arange(dimension), np.arange(dimension)


def square(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all of V."""
    i, j = np.indices((dimension, dimension))
    return i.ravel(), j.ravel()


def eigenbasis(operator: np.ndarray) -> tuple[Vector, Matrix | None]:
    """Eigenvalues and eigenvectors; None for a diagonal, whose eigenvectors are the axes."""
    if operator.ndim == 1:
        return operator, None
    return graded_eigh(operator)
