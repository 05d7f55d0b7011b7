"""The stationary covariance when the noise depends on it: Sigma = S(C0) + S(C1(Sigma))."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.solver.noise.averaged import AveragedNoise
from sgdsim.solver.stationary.dynamics import Dynamics, Response

_DENSE = 12  # up to this dimension the D(D+1)/2 equations are solved as a matrix
_CLEAR = 0.9  # a radius below it, known to three digits, is below 1
_ENOUGH = 1e-14  # relative residual that is aimed at
_ACCEPTED = 1e-8  # that is good enough


class GeneralizedLyapunov:
    r"""The positive map M = S C1: how a covariance, through the noise it makes, reproduces itself.

    The second moment settles iff rho(T) < 1 and rho(M) < 1, and then (I - M) Sigma = S(C0).
    Symmetric matrices up to D = 12 are written in an orthonormal basis and solved densely, larger ones by
    GMRES and Arnoldi iteration with O(D^3) products.
    """

    def __init__(self, dynamics: Dynamics, noise: AveragedNoise):
        self.dynamics = dynamics
        self.noise = noise
        self.rank = len(dynamics.curvatures)
        self.silent = not np.any(noise.linear(np.eye(self.rank)))

    @cached_property
    def _images(self) -> np.ndarray:
        """C1 of each basis matrix, shape (D(D+1)/2, D, D)."""
        return self.noise.linear(self._matrices(np.eye(self.rank * (self.rank + 1) // 2)))

    @cached_property
    def _upper(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        i, j = np.triu_indices(self.rank)
        return i, j, np.where(i == j, 1.0, np.sqrt(2.0))

    def _coordinates(self, matrices: np.ndarray) -> np.ndarray:
        i, j, norm = self._upper
        return matrices[..., i, j] * norm

    def _matrices(self, coordinates: np.ndarray) -> np.ndarray:
        i, j, norm = self._upper
        out = np.zeros((*coordinates.shape[:-1], self.rank, self.rank))
        out[..., i, j] = out[..., j, i] = coordinates / norm
        return out

    def _dense(self, respond: Response) -> Matrix:
        return self._coordinates(respond(self._images)).T

    def _operator(self, respond: Response) -> scipy.sparse.linalg.LinearOperator:
        size = self.rank * (self.rank + 1) // 2
        return scipy.sparse.linalg.LinearOperator(
            (size, size),
            matvec=lambda x: self._coordinates(respond(self.noise.linear(self._matrices(np.ravel(x))))),
            dtype=np.float64,
        )

    def settles(self, rate: float) -> bool:
        """Whether second moments exist at learning rate `rate`: rho(T) < 1 and rho(M) < 1."""
        if rate >= self.dynamics.descent_limit():
            return False
        # Far from the limit a rough radius decides, at a fraction of the cost for many parameters.
        return (self.rank > _DENSE and self.radius(rate, tolerance=1e-3) < _CLEAR) or self.radius(rate) < 1

    def radius(self, rate: float, growth: float = 1.0, tolerance: float = 1e-13) -> float:
        """rho(M) at learning rate `rate`, for second moments scaled by 1/growth a step.

        Raises:
            NotConverged: many parameters, and the iteration does not settle.
        """
        if self.silent:
            return 0.0
        respond = self.dynamics.response(rate, growth)
        if self.rank <= _DENSE:
            return float(np.abs(np.linalg.eigvals(self._dense(respond))).max())
        # A positive map has its spectral radius among its eigenvalues (Krein-Rutman): the rightmost one.
        start = self._coordinates(respond(self.noise.linear(np.eye(self.rank))))
        linalg = scipy.sparse.linalg
        try:
            rightmost = linalg.eigs(self._operator(respond), k=1, which="LR", v0=start, ncv=10, tol=tolerance,
                                    return_eigenvectors=False)
        except linalg.ArpackNoConvergence as failed:
            raise _checks.NotConverged(f"no spectral radius of the noise's feedback at learning rate {rate:g}: "
                                       "Arnoldi's iteration does not settle", failed.eigenvalues) from failed
        return float(rightmost[0].real)

    def solve(self, rate: float) -> Matrix:
        """Sigma, for a learning rate at which rho(M) < 1.

        Raises:
            NotConverged: many parameters, and the iteration does not settle.
        """
        respond = self.dynamics.response(rate)
        direct = respond(self.noise.additive)
        if self.silent or not direct.any():
            return direct
        target = self._coordinates(direct)
        if self.rank <= _DENSE:
            return self._matrices(np.linalg.solve(np.eye(len(target)) - self._dense(respond), target))
        feedback, linalg = self._operator(respond), scipy.sparse.linalg
        operator = linalg.LinearOperator(feedback.shape, matvec=lambda x: x - feedback.matvec(x), dtype=np.float64)
        solution, residual = np.zeros_like(target), target
        for _ in range(3):  # the later rounds refine
            left = _ENOUGH * np.linalg.norm(target) / max(float(np.linalg.norm(residual)), 1e-300)
            if left >= 1:
                break
            change, _ = linalg.gmres(operator, residual, rtol=max(1e-13, left), restart=_restart(target), maxiter=20)
            solution += change
            residual = target - operator.matvec(solution)
        missed = float(np.linalg.norm(residual) / np.linalg.norm(target))
        if missed > _ACCEPTED:
            raise _checks.NotConverged(f"no covariance at learning rate {rate:g}: GMRES leaves {missed:.1e} of the "
                                       "equation; lower the rate", self._matrices(solution))
        return self._matrices(solution)

    def limit(self) -> float:
        r"""The smallest learning rate at which the second moment stops existing: rho(M) = 1, or rho(T) = 1."""
        top = self.dynamics.descent_limit()
        if self.silent or top == 0:
            return top
        for share in (1e-3, 0.03, 0.25, 0.5, 0.75, 0.95, 1 - 1e-9):
            if self.radius(share * top) >= 1:
                low = 1e-6 * share * top
                while self.radius(low) >= 1:  # rho(M) falls like lambda: curvatures may be small beside the noise's
                    low *= 1e-6
                # lambda / rho is close to linear in lambda, which makes the root quick to find
                return float(scipy.optimize.brentq(lambda x: x / self.radius(x) - x, low, share * top,
                                                   xtol=1e-15 * low, rtol=1e-14))
        return top

    def second_moment_radius(self, rate: float) -> float:
        """Spectral radius of the second-moment recursion: the growth r at which rho(M) = 1, or rho(T)^2."""
        floor = self.dynamics.step_radius(rate) ** 2
        low = floor + 1e-6 * (1 - floor)
        if self.silent or self.radius(rate, low) <= 1:
            return floor
        return float(scipy.optimize.brentq(lambda r: 1 / self.radius(rate, r) - 1, low, 1.0, xtol=1e-10))


def _restart(target: np.ndarray) -> int:
    """How many directions GMRES keeps: 100, or as many as fit into half a gigabyte."""
    return int(np.clip(2**26 // max(len(target), 1), 20, 100))
