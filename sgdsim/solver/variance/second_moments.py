"""The first two moments of SGD on a quadratic loss, in the eigenbasis of its Hessian."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from sgdsim._types import Vector


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
    """

    curvatures: Vector
    basis: Any
    origin: Vector
    drift: Vector
    rows: np.ndarray
    columns: np.ndarray
    respond: Callable[[Any], Any]
    inject: Callable[[Any], Any]
    additive: Any

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Where V_jj is kept, j = 1, ..., p."""
        return np.flatnonzero(self.rows == self.columns)

    def decay(self, rate: float) -> Any:
        """(1 - alpha k_i)(1 - alpha k_j) for every entry kept."""
        shrink = 1 - rate * self.curvatures
        return shrink[self.rows] * shrink[self.columns]

    def enter(self, w: Vector) -> Vector:
        """The deviation d of a point."""
        return w - self.origin if self.basis is None else self.basis.T @ (w - self.origin)

    def leave(self, d: Any) -> Any:
        """Points (p, steps) of deviations d (steps, p)."""
        return self.origin[:, None] + (d.T if self.basis is None else self.basis @ d.T)

    def step(self, d: Vector, rate: float) -> Vector:
        """The mean after one step."""
        return d - rate * (self.curvatures * d + self.drift)

    def traces(self, v: Any, noise: Any) -> tuple[Any, Any, Any]:
        """tr(K V K) + tr(noise), tr(K V K) and tr(K V)/2 along the last axis."""
        across = v[..., self.diagonal]
        full = across @ self.curvatures**2
        return full + noise[..., self.diagonal].sum(axis=-1), full, 0.5 * across @ self.curvatures


def axes(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns when only the diagonal of V is needed."""
    return np.arange(dimension), np.arange(dimension)


def square(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all of V."""
    i, j = np.indices((dimension, dimension))
    return i.ravel(), j.ravel()
