"""Coordinates in which the slow dynamics along the minima is followed: the parameters, or logarithms of their sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Self

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.problems import DiagonalNetwork
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.minimum import ON, Minima, local, polish, settle
from sgdsim.solver.manifold.slow_setting import SlowSetting, bends_at

Move = Callable[[Vector], Vector]
_SEEN = 1e-6  # square root of the share of a weight in all from which on it helps to fit the examples


@dataclasses.dataclass(frozen=True, eq=False)
class Ambient:
    """The parameters themselves, of any problem."""

    problem: Problem
    start: Vector
    here: Minima

    @classmethod
    def at(cls, problem: Problem, initial: ArrayLike) -> Self:
        """At a minimum.

        Raises:
            ValueError: `initial` is none, or the minima do not fit every example.
        """
        return cls(problem, *settle(problem, "initial", initial, np.eye(problem.dimension), interpolating=True))

    @property
    def size(self) -> float:
        """Of the start."""
        return float(np.abs(self.start).max())

    def steepest(self, setting: SlowSetting, scale: Vector) -> float:
        """From all eigenvalues."""
        return float(Minima.at(self.here.hessian, setting.root(scale), self.here.rank).values[-1])

    def look(self, setting: SlowSetting, z: Vector, alpha: float, pull: float) -> tuple[Vector, Move]:
        """By automatic differentiation, third derivatives included."""
        slope, hessian, bends = bends_at(setting, z)

        def move(scale: Vector) -> Vector:
            root = setting.root(scale)
            inverse = Minima.at(hessian, root, self.here.rank).inverse
            drift = root @ (root.T @ (bends @ scale))
            return -alpha / 4 * (drift - inverse @ (hessian @ drift)) - pull * (inverse @ slope)

        return np.diag(hessian), move

    def point(self, setting: SlowSetting, z: Vector, scale: Vector) -> tuple[Vector, float]:
        """By Newton's steps."""
        return polish(self.problem, z, setting.root(scale), self.here.rank)[0], local(self.problem, z)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class LogSizes:
    r"""Logarithms p of the sizes of u and v of a `DiagonalNetwork`, where dying weights are not stiff.

    With w = A' x + ..., A an orthonormal basis of the rows of X, the minima are $A (e^{2p_u} - e^{2p_v})$ = const, and

    $$\dot p = -2 S (\alpha c S \pm A^\top \mu), \qquad
      \mu = \arg\min_\mu \sum_i e^{2 p_i} S_i \bigl(\alpha c_i S_i \pm (A^\top \mu)_i\bigr)^2,$$

    c the mean squares of the features, + for u and - for v: what the label noise pulls at a weight, less what keeps
    the examples fitted.
    """

    problem: DiagonalNetwork
    start: Vector
    signs: Vector
    basis: Matrix
    curvature: Vector
    metric: Vector

    @classmethod
    def at(cls, problem: DiagonalNetwork, initial: ArrayLike, metric: Vector) -> Self:
        """At a minimum.

        Raises:
            ValueError: `initial` is none, or the minima do not fit every example.
        """
        w = _checks.vector("initial", initial, problem.dimension)
        curvature = np.tile(np.mean(problem.features**2, axis=0), 2)
        _, sizes, rows = np.linalg.svd(problem.features, full_matrices=False)
        basis = rows[sizes > len(w) * np.finfo(float).eps * sizes[0]]
        chart = cls(problem, np.log(np.where(w == 0, 1.0, np.abs(w))), np.sign(w), basis, curvature, metric)
        size = float(w @ w)
        left = basis @ (problem.effective(w) - problem.best)
        if not size or float(left @ left) > ON * size**2:
            raise _checks.error("initial", initial, f"on the manifold of minima (a loss of {problem.data_loss(w):.3g} "
                                "is left there)", "pass sgdsim.solver.manifold.flow_to_minimum(problem, initial)")
        if problem.least_loss > ON * size**2 * curvature.max():
            raise _checks.error("problem", problem, "one whose minima fit every example (a loss of "
                                f"{problem.least_loss:.3g} is left)",
                                "with residuals left the noise is not that of the labels alone: use manifold.slow_sde")
        return dataclasses.replace(chart, start=chart._back(chart.start, metric))

    @property
    def size(self) -> float:
        """Of the start; 1 is a change of a weight by a factor e."""
        return max(1.0, float(np.abs(self.start).max()))

    def steepest(self, setting: SlowSetting, scale: Vector) -> float:
        """Of (4/n) X (u^2 S + v^2 S) X'."""
        x = self.problem.features
        lift = x * np.sqrt(np.add(*np.split(self._parameters(self.start) ** 2 * self.metric * scale, 2)))
        return 4 / len(x) * float(np.linalg.norm(lift, 2)) ** 2

    def look(self, setting: SlowSetting, z: Vector, alpha: float, pull: float) -> tuple[Vector, Move]:
        """From the formulas above."""

        def move(scale: Vector) -> Vector:
            s = self.metric * scale
            force = alpha * self.curvature * s
            return -2 * s * (self.signs != 0) * (force + self._hold(z, s, force, pull))

        return 4 * self.curvature * self._parameters(z) ** 2, move

    def point(self, setting: SlowSetting, z: Vector, scale: Vector) -> tuple[Vector, float]:
        """Along the flow of the loss, Newton's steps."""
        w = self._parameters(z)
        return self._parameters(self._back(z, self.metric * scale)), float(self.problem.data_loss(w))

    def _parameters(self, z: Vector) -> Vector:
        return self.signs * np.exp(z)

    def _back(self, z: Vector, s: Vector) -> Vector:
        for _ in range(4):
            z = z - 2 * s * (self.signs != 0) * self._hold(z, s, np.zeros(len(z)), 1.0)
        return z

    def _hold(self, z: Vector, s: Vector, force: Vector, pull: float) -> Vector:
        """+-A' mu: against a force along u and v, and towards the minima at the rate `pull`."""
        half = len(z) // 2
        weight = np.exp(2 * z) * s * (self.signs != 0)
        both = weight[:half] + weight[half:]
        root = np.sqrt(both)
        target = -(weight * force)[:half] + (weight * force)[half:]
        # Weights below 1e-12 of all hold nothing: their directions are let go, smoothly.
        identity, total = np.eye(len(self.basis)), both.sum()
        q, r = np.linalg.qr(np.vstack([root[:, None] * self.basis.T, _SEEN * np.sqrt(total) * identity]))
        solution = q[:half].T @ np.divide(target, root, out=np.zeros(half), where=root > 0)
        mu = scipy.linalg.solve_triangular(r, solution, check_finite=False)
        if pull:  # more are let go: residuals are known to rounding only
            off = self.basis @ (self.problem.effective(self._parameters(z)) - self.problem.best)
            mu += pull / 4 * np.linalg.solve((self.basis * both) @ self.basis.T + _SEEN * total * identity, off)
        held = self.basis.T @ mu
        return np.concatenate([held, -held])


def chart_of(problem: Problem, setting: SlowSetting, initial: ArrayLike) -> Ambient | LogSizes:
    """Logarithms where the parameters of a diagonal network have a diagonal S, else the parameters."""
    root = setting.constant
    sizes = np.ones(problem.dimension) if root is None else np.diag(root)
    if isinstance(problem, DiagonalNetwork) and (root is None or not np.any(root - np.diag(sizes))):
        return LogSizes.at(problem, initial, sizes**2)
    return Ambient.at(problem, initial)
