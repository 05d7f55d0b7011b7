"""What the fluctuations of an adaptive preconditioner change, to first order in 1 - beta_2."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from sgdsim._types import Matrix, Vector
from sgdsim.solver.linear_algebra.lyapunov import discrete_lyapunov
from sgdsim.solver.noise.averaged import AveragedNoise
from sgdsim.solver.noise.cumulants import Cumulants

_ROUNDS = 200
_SETTLED = 1e-13
_INDEPENDENT = 1e3  # condition number of eigenvectors
_ABSURD = 1.0  # a fluctuation of v by its own size is no small correction


class Scaling(NamedTuple):
    """The preconditioner S(v) and its logarithmic derivatives v S'/S and v^2 S''/S, each of shape (D,)."""

    value: Vector
    slope: Vector
    curvature: Vector


class Correction(NamedTuple):
    """First order in 1 - beta_2.

    Attributes:
        covariance: change of Sigma, shape (D, D).
        mean: change of E w, shape (D,).
        fluctuation: covariance of v_i / E v_i, shape (D, D).
    """

    covariance: Matrix
    mean: Vector
    fluctuation: Matrix


def scaling_at(S: Callable[[Array], Array], v: Vector) -> Scaling:
    """S and its logarithmic derivatives at v, in double precision."""

    def slope(x: Array) -> tuple[Array, Array]:
        return jax.jvp(S, (x,), (x,))

    with jax.enable_x64(True):
        (value, first), (_, twice) = jax.jvp(slope, (v,), (v,))
        value, first, twice = (np.asarray(x, np.float64) for x in (value, first, twice))
    return Scaling(value, first / value, (twice - first) / value)


@dataclasses.dataclass(frozen=True, eq=False)
class MovingAverage:
    r"""One step of (w - w*, m), m an average, at a constant preconditioner D.

    $$A = \begin{pmatrix} I - \lambda(1-\beta_1) D H & -\lambda\beta_1 D \\
        (1-\beta_1) H & \beta_1 I \end{pmatrix}, \qquad
      B = \begin{pmatrix} -\lambda(1-\beta_1) D \\ (1-\beta_1) I \end{pmatrix}.$$
    """

    hessian: Matrix
    preconditioner: Vector
    rate: float
    b1: float
    noise: AveragedNoise

    @cached_property
    def step(self) -> Matrix:
        """A, shape (2D, 2D)."""
        h, eye, kept = self.hessian, np.eye(len(self.hessian)), 1 - self.b1
        push = self.rate * self.preconditioner[:, None]
        return np.block([[eye - kept * push * h, -self.b1 * push * eye], [kept * h, self.b1 * eye]])

    @cached_property
    def entry(self) -> Matrix:
        """B, shape (2D, D)."""
        eye = np.eye(len(self.hessian))
        return (1 - self.b1) * np.vstack([-self.rate * np.diag(self.preconditioner), eye])

    def noisy(self, c: np.ndarray) -> np.ndarray:
        """B C B', for a stack (..., D, D)."""
        return self.entry @ c @ self.entry.T

    @cached_property
    def frame(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Eigenvalues, eigenvectors and their inverse of A; None where they are (nearly) dependent."""
        values, vectors = np.linalg.eig(self.step)
        if np.linalg.cond(vectors) > _INDEPENDENT:
            return None
        return values, vectors, np.linalg.inv(vectors)

    def lyapunov(self, source: np.ndarray, memory: float = 1.0) -> np.ndarray:
        """X = memory A X A' + source, for a stack (..., 2D, 2D)."""
        if self.frame is None:
            return discrete_lyapunov(np.sqrt(memory) * self.step, source)
        values, vectors, inverse = self.frame
        inside = (inverse @ source @ inverse.T) / (1 - memory * values[:, None] * values)
        return np.real(vectors @ inside @ vectors.T)

    @cached_property
    def _loops(self) -> dict[float, Matrix]:
        return {}

    def _loop(self, memory: float) -> Matrix:
        """The matrix of Sigma -> [X = memory (A X A' + B C1(Sigma) B')]_ww, in entries on and above the diagonal."""
        if memory not in self._loops:
            images = self._respond(self._matrices(np.eye(len(self._upper[0]))), memory)
            self._loops[memory] = images[:, *self._upper].T
        return self._loops[memory]

    @cached_property
    def _upper(self) -> tuple[np.ndarray, np.ndarray]:
        return np.triu_indices(len(self.hessian))

    def _matrices(self, entries: np.ndarray) -> np.ndarray:
        d = len(self.hessian)
        out = np.zeros((*entries.shape[:-1], d, d))
        i, j = self._upper
        out[..., i, j] = out[..., j, i] = entries
        return out

    def _respond(self, sigma: np.ndarray, memory: float) -> np.ndarray:
        d = len(self.hessian)
        return self.lyapunov(memory * self.noisy(self.noise.linear(sigma)), memory)[..., :d, :d]

    def settle(self, source: np.ndarray, memory: float = 1.0) -> np.ndarray:
        """X = memory (A X A' + B C1(X_ww) B') + source, for a stack of sources (..., 2D, 2D)."""
        d = len(self.hessian)
        direct = self.lyapunov(source, memory)
        if not np.any(self.noise.linear(np.eye(d))):
            return direct
        i, j = self._upper
        entries = direct[..., i, j]
        # one right-hand side matrix: a stack of right-hand sides would be factorised once each
        fed = np.linalg.solve(np.eye(len(i)) - self._loop(memory), entries.reshape(-1, len(i)).T).T
        sigma = self._matrices(fed.reshape(entries.shape))
        return direct + self.lyapunov(memory * self.noisy(self.noise.linear(sigma)), memory)


def fresh_fluctuation(gradient: Matrix, averaging: Matrix, v: Vector, b2: float, known: Cumulants) -> Matrix:
    r"""R for gradients of covariance G that are independent from step to step: (1-b2)/(1+b2) Cov(q)."""
    weights = averaging / v[:, None]
    pairs = 2 * gradient**2 + np.einsum("kll->kl", known.fourth)
    return (1 - b2) / (1 + b2) * weights @ pairs @ weights.T


def first_correction(
    motion: MovingAverage, scaling: Scaling, averaging: Matrix, v: Vector, b2: float, sigma: Matrix, known: Cumulants
) -> Correction | None:
    r"""The change of the stationary law by the fluctuations $\delta_i = v_i / E v_i - 1$.

    The step is $-\lambda D_i (1 + s_1 \delta_i' + \tfrac12 s_2 \delta_i'^2) m_i'$ with
    $\delta' = \beta_2 \delta + (1-\beta_2) q$, $q = V(g^2)/E v - 1$. With z = (w, m), the moments $E[\delta_i z]$,
    $W_i = E[\delta_i z z^\top]$ and $R_{ij} = E[\delta_i \delta_j]$ obey linear equations to first order, and so does
    the change of $E[z z^\top]$ that they cause. Nothing is assumed of the order of 1 - beta_2 against
    $\lambda D H$ or 1 - beta_1. None where the fluctuations are no small correction or R does not settle.
    """
    h, d, tau = motion.hessian, len(motion.hessian), 1 - b2
    a, b = motion.step, motion.entry
    noise = motion.noise.additive + motion.noise.linear(sigma)
    p = motion.settle(motion.noisy(motion.noise.additive))
    gradient = h @ sigma @ h + noise
    weights = averaging / v[:, None]

    along = a @ p[:, :d] @ h + b @ noise  # E[z' g], shape (2D, D)
    carried = a @ p[:, :d]  # E[A z w']
    skewed = b @ known.third_slope @ carried.T
    square = 2 * along.T[:, :, None] * along.T[:, None, :] + motion.noisy(known.fourth) + skewed + skewed.mT
    square += 2 * carried @ known.variance_curvature @ carried.T
    drive = tau * np.einsum("ij,jab->iab", weights, square)
    first = tau * weights @ (known.third @ b.T + known.variance_slope @ carried.T)
    lag = np.linalg.solve(np.eye(2 * d) - b2 * a, first.T).T  # E[delta_i z]

    r = start = fresh_fluctuation(gradient, averaging, v, b2, known)
    push = motion.rate * motion.preconditioner
    for _ in range(_ROUNDS):
        by_r = np.zeros((d, 2 * d, 2 * d))
        by_r[:, :d] = -(push * scaling.slope * r)[:, :, None] * p[d:]
        by_r = by_r + by_r.mT
        w = motion.settle(drive + by_r, b2)
        felt = np.einsum("ja,iab,jb->ij", h, w[:, :d, :d], h)
        felt += np.einsum("jab,iab->ij", known.variance_curvature, w[:, :d, :d]) + lag[:, :d] @ known.variance_slope.T
        felt = felt @ weights.T
        before, r = r, start + b2 * tau * (felt + felt.T) / (1 - b2**2)
        if not np.diag(r).max() < _ABSURD:
            return None
        if np.abs(r - before).max() <= _SETTLED * np.abs(r).max():
            break
    else:
        return None
    forced = w - by_r  # E[delta_i z z'] before the step was rescaled

    rows = np.zeros((2 * d, 2 * d))
    index = np.arange(d)
    rows[:d] = -push[:, None] * (
        scaling.slope[:, None] * forced[index, d + index] + 0.5 * (scaling.curvature * np.diag(r))[:, None] * p[d:]
    )
    change = rows + rows.T
    scale = push * scaling.slope
    change[:d, :d] += np.outer(scale, scale) * r * p[d:, d:]
    kick = np.concatenate([-push * scaling.slope * lag[index, d + index], np.zeros(d)])
    shift = np.linalg.solve(np.eye(2 * d) - a, kick)
    return Correction(motion.settle(change)[:d, :d], shift[:d], r)


def neglected(
    scaling: Scaling, change: Correction, v: Vector, b2: float, sigma: Matrix, known: Cumulants, corrected: bool
) -> float:
    r"""An estimate of the relative error of Sigma: what the last included order leaves out.

    In mean field it is the first order itself, max R_ii. With the first correction it is $2 \max R_{ii}^2$, twice
    the square of the relative change of Sigma, max R_ii times the share of v that is noise made by the spread of w
    (moments of w with the fourth cumulants of the noise are left out), and $2 (1-\beta_2)$ times the squared share of
    it that varies linearly with w (third moments of w are left out). R counts by how much S varies, 1 for Adam.
    """
    vary = float(np.max(np.maximum(2 * np.abs(scaling.slope), np.sqrt(np.abs(scaling.curvature) / 0.75))))
    r = float(np.max(np.diag(change.fluctuation)))
    if not corrected:
        return vary * r
    slope = np.einsum("ia,ab,ib->i", known.variance_slope, sigma, known.variance_slope)
    spread = float(np.max(np.einsum("iab,ab->i", known.variance_curvature, sigma) / v))
    relative = float(np.max(np.abs(np.diag(change.covariance)) / np.diag(sigma)))
    return vary * (2 * r**2 + r * spread + 2 * (1 - b2) * float(np.max(slope / v**2))) + 2 * relative**2
