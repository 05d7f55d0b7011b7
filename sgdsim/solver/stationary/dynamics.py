"""The noiseless motion of SGD around a minimum, in the coordinates where it is simplest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Self

import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, as_matrix
from sgdsim.solver.linear_algebra.graded import graded_eigh
from sgdsim.solver.stationary.heavy_ball import companion

Response = Callable[[np.ndarray], np.ndarray]

_RANK = 1e-13  # eigenvalues of H below this share of the largest are rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Dynamics:
    r"""Heavy-ball descent restricted to the range of the Hessian, where alone anything moves.

    With H = V diag(h) V' and v = V'(w - w*), the coordinates v obey the same recursion with V'LV for L; the rest
    of w follows them,

    $$w - w_0 = W (v - v_0), \qquad W = P V (V^\top P V)^{-1}.$$

    Attributes:
        basis: V, orthonormal eigenvectors of the non-zero eigenvalues, shape (D, rank).
        curvatures: h > 0, shape (rank,).
        preconditioner: V'PV, shape (rank, rank).
        lift: W, shape (D, rank).
        momentum: mu.
    """

    basis: np.ndarray
    curvatures: np.ndarray
    preconditioner: Matrix
    lift: np.ndarray
    momentum: float

    @classmethod
    def around(cls, hessian: Matrix, preconditioner: np.ndarray | None, momentum: float) -> Self:
        """Restrict to the range of `hessian`; a `preconditioner` of None is the identity.

        Raises:
            ValueError: the Hessian has a negative eigenvalue, or is 0, or V'PV is singular.
        """
        values, vectors = graded_eigh(hessian)
        scale = np.abs(values).max()
        if values[0] < -_RANK * scale:
            raise _checks.error("hessian", values[0], "without negative eigenvalues: this loss has no minimum",
                                "use a weight decay that is less negative")
        if scale == 0:
            raise _checks.error("hessian", 0, "non-zero: this loss is flat", "check the covariance or the features")
        # How small a curvature may be is told by the scales of its own parameters.
        own = np.square(vectors).T @ np.abs(np.diag(hessian)) if values[0] > 0 else scale
        kept = values > _RANK * own
        basis = vectors[:, kept]
        if preconditioner is None:
            return cls(basis, values[kept], np.eye(basis.shape[1]), basis, momentum)
        p = as_matrix(preconditioner, len(values))
        inside = basis.T @ p @ basis
        units = np.sqrt(np.abs(np.diag(inside)))
        units[units == 0] = 1.0
        if np.linalg.matrix_rank(inside / np.outer(units, units)) < len(inside):
            raise _checks.error("preconditioner", preconditioner, "invertible on the range of the Hessian",
                                "a direction that is never updated has no stationary law")
        lift = basis if kept.all() else p @ basis @ np.linalg.inv(inside)
        return cls(basis, values[kept], inside, lift, momentum)

    @cached_property
    def diagonal(self) -> bool:
        """Whether V'PV is diagonal: then the coordinates v are the modes, and matrices of 1000 x 1000 cost little."""
        p = self.preconditioner
        return not np.any(p - np.diag(np.diag(p)))

    @cached_property
    def modes(self) -> tuple[np.ndarray, np.ndarray]:
        r"""Eigenvalues theta and eigenvectors U of h^{1/2} V'PV h^{1/2}, which is similar to PH."""
        if self.diagonal:
            return self.curvatures * np.diag(self.preconditioner), np.eye(len(self.curvatures))
        root = np.sqrt(self.curvatures)
        p = root[:, None] * self.preconditioner * root
        if np.allclose(p, p.T, rtol=0, atol=1e-14 * np.abs(p).max()):
            values, vectors = np.linalg.eigh((p + p.T) / 2)
        else:
            values, vectors = np.linalg.eig(p)
        return values, vectors

    def descent_limit(self) -> float:
        r"""The learning rate at which full-batch descent stops converging; 0 if it never does.

        Schur's criterion for z^2 - (1 + mu - lambda theta) z + mu, for every eigenvalue theta of PH:

        $$\lambda < \frac{2(1+\mu)\,\mathrm{Re}\,\theta}
            {(\mathrm{Re}\,\theta)^2 + (\mathrm{Im}\,\theta)^2 (1+\mu)^2 / (1-\mu)^2}.$$
        """
        theta, mu = self.modes[0], self.momentum
        width = theta.real**2 + (theta.imag * (1 + mu) / (1 - mu)) ** 2
        with np.errstate(divide="ignore"):  # a square that underflows: of its eigenvalue there is no limit
            return max(0.0, float(np.min(2 * (1 + mu) * theta.real / width)))

    def step_radius(self, rate: float) -> float:
        """Spectral radius of the noiseless step at learning rate `rate`."""
        middle = (1 + self.momentum - rate * self.modes[0].astype(complex)) / 2
        root = np.sqrt(middle**2 - self.momentum)
        return float(np.abs([middle + root, middle - root]).max())

    def response(self, rate: float, growth: float = 1.0) -> Response:
        """The map S from gradient noise C to the covariance of v, (..., rank, rank) to the same.

        With `growth` r it solves r X = T X T' + G C G' for the state; S is its block of v.
        """
        if self.diagonal:
            return _diagonal_response(self, rate, growth)
        if self.frame is None:
            return _doubling_response(self, rate, growth)
        return _modal_response(*self.frame, self.modes[0], self.momentum, rate, growth)

    @cached_property
    def frame(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Q = h^{-1/2} U and Q^{-1} V'PV; None where the modes are (nearly) defective."""
        u, root = self.modes[1], np.sqrt(self.curvatures)
        if np.linalg.cond(u) > 1e3:
            return None
        return u / root[:, None], np.linalg.solve(u, root[:, None] * self.preconditioner)


def _diagonal_response(dynamics: Dynamics, rate: float, growth: float) -> Response:
    """S entry by entry, where P and H are diagonal in the same coordinates."""
    theta, p = dynamics.modes[0], rate * np.diag(dynamics.preconditioner)
    weight = np.outer(p, p) * _pair_weight(rate * theta[:, None], rate * theta, dynamics.momentum, growth)

    def respond(noise: np.ndarray) -> np.ndarray:
        sigma = weight * noise
        return (sigma + np.swapaxes(sigma, -1, -2)) / 2

    return respond


def _modal_response(
    q: np.ndarray, entry: np.ndarray, theta: np.ndarray, mu: float, rate: float, growth: float
) -> Response:
    """S entry by entry in the eigenvectors of LH, where equation [3] is diagonal."""
    weight = rate**2 * _pair_weight(rate * theta[:, None], rate * theta.conj(), mu, growth)

    def respond(noise: np.ndarray) -> np.ndarray:
        sigma = np.real(q @ (weight * (entry @ noise @ entry.conj().T)) @ q.conj().T)
        return (sigma + np.swapaxes(sigma, -1, -2)) / 2

    return respond


def _pair_weight(s: np.ndarray, t: np.ndarray, mu: float, growth: float) -> np.ndarray:
    r"""Covariance of two heavy-ball modes of curvatures s, t under unit noise common to both.

    With unit growth it is equation [3] for eigenvalues, arranged so that nothing cancels:

    $$1 / \Big((1-\mu)(s+t) - \tfrac{1-\mu}{1+\mu} st + \tfrac{\mu}{1-\mu^2} (s-t)^2 \Big).$$

    Otherwise it is the sum over k of x^{k+1} times both impulse responses, x = 1/growth.
    """
    if growth == 1:
        return 1 / ((1 - mu) * (s + t) - (1 - mu) / (1 + mu) * s * t + mu * (s - t) ** 2 / (1 - mu**2))
    x, c, e = 1 / growth, 1 + mu - s, 1 + mu - t
    below = 1 - c * e * x + mu * (c**2 + e**2 - 2 * mu) * x**2 - mu**2 * c * e * x**3 + mu**4 * x**4
    return x * (1 - mu**2 * x**2) / below


def _doubling_response(dynamics: Dynamics, rate: float, growth: float) -> Response:
    """S by doubling with remembered powers, for preconditioners whose modes are (nearly) defective."""
    step, entry = companion(np.diag(dynamics.curvatures), rate * dynamics.preconditioner, dynamics.momentum)
    power, entry = step / np.sqrt(growth), entry / np.sqrt(growth)
    powers: list[np.ndarray] = []
    while np.sum(power**2) > np.finfo(float).eps and len(powers) < 48:
        powers.append(power)
        power = power @ power
    rank = len(dynamics.curvatures)

    def respond(noise: np.ndarray) -> np.ndarray:
        x = entry @ noise @ entry.T
        for a in powers:
            x = x + a @ x @ a.T
        sigma = x[..., :rank, :rank]
        return (sigma + np.swapaxes(sigma, -1, -2)) / 2

    return respond
