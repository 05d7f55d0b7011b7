"""What follows from a stationary process z' = F z + noise: autocovariances, spectra, averages of iterates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.problems import Problem

_ENOUGH = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Averaged:
    """An average of iterates.

    Attributes:
        mean: of the average, shape (D,).
        covariance: of the average, shape (D, D).
        train_loss: expected loss at the average.
        test_loss: expected excess loss there.
        limit: of the number of iterates times the covariance as it grows, (D, D); None for an exponential average.
    """

    mean: Vector
    covariance: Matrix
    train_loss: float
    test_loss: float
    limit: Matrix | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Process:
    r"""A stationary linear process: $E[z_{t+h} z_t^\top] = F^h M$ exactly, multiplicative noise or not.

    Attributes:
        problem: what is learned.
        mean: E w, shape (D,).
        step: F, shape (k D, k D); w is the first D entries of z.
        state: M, the covariance of z, same shape.
        second_moment_map: M -> F M F' + B C1(M_ww) B', how a covariance of z moves by one step.
    """

    problem: Problem
    mean: Vector
    step: Matrix
    state: Matrix
    second_moment_map: Callable[[Matrix], Matrix]

    @cached_property
    def _sum(self) -> Matrix:
        """Sum over h >= 0 of F^h M; directions that never move have no variance."""
        units = np.sqrt(np.diag(self.state))
        units[units == 0] = 1.0
        still = np.eye(len(self.step)) - self.step
        scaled = still / units[:, None] * units
        if np.linalg.matrix_rank(scaled) == len(scaled):
            return units[:, None] * np.linalg.solve(scaled, self.state / units[:, None])
        return np.linalg.lstsq(still, self.state, rcond=None)[0]

    def _of_w(self, whole: np.ndarray) -> np.ndarray:
        d = len(self.mean)
        return whole[..., :d, :d]

    def autocovariance(self, lags: int | Sequence[int]) -> np.ndarray:
        """Cov(w_{t+h}, w_t) for each lag h, shape (lags, D, D)."""
        wanted = [_checks.integer("lags", h, low=0) for h in _checks.sequence("lags", lags)]
        return np.stack([self._of_w(np.linalg.matrix_power(self.step, h) @ self.state) for h in wanted])

    def autocorrelation_time(self) -> Vector:
        """1 + 2 times the sum of all autocorrelations, shape (D,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.diag(self._of_w(2 * self._sum - self.state)) / np.diag(self._of_w(self.state))

    def loss_autocorrelation_time(self) -> float:
        """The same of the training loss, with the fourth moments of a Gaussian."""
        d, hessian = len(self.mean), np.asarray(self.problem.hessian())
        source = self.state[:, :d] @ hessian @ self.state[:d]  # Cov(z z', loss)
        shape = source.shape

        def left(flat: np.ndarray) -> np.ndarray:
            x = flat.reshape(shape)
            return (x - self.second_moment_map(x)).ravel()

        sparse = scipy.sparse.linalg
        operator = sparse.LinearOperator((source.size, source.size), matvec=left, dtype=np.float64)
        whole = sparse.gmres(operator, source.ravel(), rtol=_ENOUGH, restart=100, maxiter=20)[0].reshape(shape)
        now = np.sum(hessian * self._of_w(source))
        return float(2 * np.sum(hessian * self._of_w(whole)) / now - 1) if now > 0 else np.nan

    def spectrum(self, frequencies: ArrayLike) -> np.ndarray:
        """Sum over all lags h of Cov(w_{t+h}, w_t) e^{-i omega h}, (frequencies, D, D)."""
        omega = _checks.finite_array("frequencies", frequencies).reshape(-1, 1, 1)
        turned = np.eye(len(self.step)) - self.step * np.exp(-1j * omega)
        half = np.linalg.solve(turned, self.state.astype(complex)[None])
        return self._of_w(half + half.conj().mT - self.state)

    def averaged(self, steps: int) -> Averaged:
        """The mean of so many successive iterates."""
        count = _checks.integer("steps", steps)
        # S_n = sum over h < n of F^h, W_n = sum over j <= n of S_j: joined by halves, so that nothing cancels
        eye = np.eye(len(self.step))
        power, total, double, done = eye, np.zeros_like(eye), np.zeros_like(eye), 0
        for bit in f"{count:b}":
            double = double + done * total + power @ double
            total, power, done = total + power @ total, power @ power, 2 * done
            if bit == "1":
                total, power, done = eye + self.step @ total, self.step @ power, done + 1
                double = double + total
        half = double @ self.state
        covariance = self._of_w(half + half.T - count * self.state) / count**2
        return self._at(covariance, self._of_w(self._sum + self._sum.T - self.state))

    def ema(self, decay: float) -> Averaged:
        """The exponential average a' = rho a + (1 - rho) w'."""
        rho = _checks.fraction("decay", decay)
        half = np.linalg.solve(np.eye(len(self.step)) - rho * self.step, self.state)
        return self._at(self._of_w((1 - rho) / (1 + rho) * (half + half.T - self.state)), None)

    def _at(self, covariance: Matrix, limit: Matrix | None) -> Averaged:
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        spread = vectors * np.sqrt(len(values) * np.clip(values, 0, None))
        points = self.mean[:, None] + np.hstack([spread, -spread])  # the same mean and covariance: losses are quadratic
        losses = float(np.mean(self.problem.loss(points))), float(np.mean(self.problem.test_loss(points)))
        return Averaged(self.mean, covariance, *losses, limit)


class Correlated:
    """What a prediction says about correlations in time, where the optimizer is linear."""

    process: Callable[[], Process] | None

    def _process(self) -> Process:
        if self.process is None:
            raise NotImplementedError("no theory of correlations in time here: it is there for linear optimizers, "
                                      "which SGD and its relatives are, with independent batches")
        return self.process()

    def autocovariance(self, lags: int | Sequence[int]) -> np.ndarray:
        r"""Cov(w_{t+h}, w_t) for each lag h: $F^h M$ with M the covariance of parameters and momentum.

        Args:
            lags: whole numbers >= 0.

        Returns:
            Shape (lags, D, D).

        Raises:
            ValueError: a lag is no whole number >= 0.
            NotImplementedError: the optimizer is not linear.
        """
        return self._process().autocovariance(lags)

    def autocorrelation_time(self, of: str = "parameters") -> Vector | float:
        r"""$\tau = 1 + 2 \sum_{h \ge 1} \rho(h)$: T successive values are worth T / tau independent ones.

        Args:
            of: "parameters", shape (D,), exact; or "loss", one number, with fourth moments of a Gaussian.

        Raises:
            ValueError: another name.
            NotImplementedError: the optimizer is not linear.
        """
        if _checks.choice("of", of, ("parameters", "loss")) == "loss":
            return self._process().loss_autocorrelation_time()
        return self._process().autocorrelation_time()

    def spectrum(self, frequencies: ArrayLike) -> np.ndarray:
        r"""The spectral density $\sum_h \mathrm{Cov}(w_{t+h}, w_t) e^{-i \omega h}$.

        Args:
            frequencies: omega in radians a step.

        Returns:
            Complex and Hermitian, shape (frequencies, D, D).

        Raises:
            ValueError: a frequency is not finite.
            NotImplementedError: the optimizer is not linear.
        """
        return self._process().spectrum(frequencies)

    def averaged(self, steps: int) -> Averaged:
        r"""The law of the mean of T successive iterates, $T^{-2} [T M + \sum_{h<T} (T - h) (F^h M + M F^{\top h})]$.

        Its limit, T times the covariance, is $H^{-1} C H^{-1}$ with C the stationary gradient noise.

        Args:
            steps: T >= 1.

        Raises:
            ValueError: `steps` is out of range.
            NotImplementedError: the optimizer is not linear.
        """
        return self._process().averaged(steps)

    def ema(self, decay: float) -> Averaged:
        r"""The law of the exponential average $a \leftarrow \rho a + (1 - \rho) w$.

        Args:
            decay: rho in [0, 1).

        Raises:
            ValueError: `decay` is out of range.
            NotImplementedError: the optimizer is not linear.
        """
        return self._process().ema(decay)
