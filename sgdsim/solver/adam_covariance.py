"""The stationary law of Adam and its relatives: a preconditioner made by the noise that it leads to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import Adalayer, Adam, AdamE, AdamMini, AdaptiveGradient, RMSProp, check_optimizer
from sgdsim.solver.adam_correction import Correction, MovingAverage, Scaling, first_correction, fresh_fluctuation
from sgdsim.solver.dynamics import Dynamics
from sgdsim.solver.fixed_point import fixed_point
from sgdsim.solver.noise import AveragedNoise, averaged_noise, check_theory
from sgdsim.solver.noise_cumulants import Cumulants, cumulants
from sgdsim.solver.stationary import Feedback

AdaptiveOptimizer = AdaptiveGradient | Adam | RMSProp | AdamE | AdamMini | Adalayer

_CORRECTED = 12  # parameters: the first correction takes D Lyapunov equations of size 2D and D(D+1)/2 for the noise
_SINGULAR = 1e-13  # curvatures and noise below this share of the largest are rounding


class AdaptiveLaw(NamedTuple):
    """Where an adaptive optimizer settles.

    Attributes:
        covariance: Sigma, shape (D, D).
        mean_shift: E w less the minimum, shape (D,).
        second_moment: E v, shape (D,).
        preconditioner: S(E v), shape (D,).
        fluctuation: covariance of v_i / E v_i, shape (D, D).
        noise_covariance: averaged covariance of the batch-mean gradient, shape (D, D).
        corrected: whether the first correction in 1 - beta_2 is included.
        error: estimate of what is left out, relative.
    """

    covariance: Matrix
    mean_shift: Vector
    second_moment: Vector
    preconditioner: Vector
    fluctuation: Matrix
    noise_covariance: Matrix
    corrected: bool
    error: float


@dataclasses.dataclass(frozen=True, eq=False)
class AdaptiveSetting:
    """What the equations for v and Sigma need.

    Attributes:
        hessian: H, shape (D, D).
        noise: averaged gradient noise.
        averaging: the matrix of V, shape (D, D).
        optimizer: the optimizer.
        batch_size: b.
        sampling: the sampling mode.
    """

    hessian: Matrix
    noise: AveragedNoise
    averaging: Matrix
    optimizer: Any
    batch_size: int
    sampling: str

    @property
    def rate(self) -> float:
        """The learning rate lambda."""
        return float(self.optimizer.learning_rate)

    @property
    def b1(self) -> float:
        """The decay beta_1."""
        return float(self.optimizer.b1)

    @property
    def b2(self) -> float:
        """The decay beta_2."""
        return float(self.optimizer.b2)

    def feedback(self, preconditioner: Vector) -> Feedback:
        """The equation for Sigma at a constant preconditioner: an average of gradients is heavy ball."""
        dynamics = Dynamics.around(self.hessian, preconditioner, self.b1)
        return Feedback(dynamics, self.noise.restrict(dynamics.basis))

    def sigma(self, preconditioner: Vector) -> Matrix | None:
        """Sigma at a constant preconditioner; None where the second moment does not exist.

        An average with rate lambda moves like heavy ball with rate lambda (1 - beta_1).
        """
        feedback = self.feedback(preconditioner)
        rate = self.rate * (1 - self.b1)
        if not feedback.settles(rate):
            return None
        basis = feedback.dynamics.basis
        return basis @ feedback.solve(rate) @ basis.T

    def law(self, v: Vector, corrected: bool) -> AdaptiveLaw | None:
        """The law if E v were `v`, with the E v that it would lead to."""
        scaling = scaling_at(self.optimizer.S, v)
        sigma = self.sigma(scaling.value)
        if sigma is None:
            return None
        known = cumulants(self.noise, sigma, self.batch_size, self.sampling)
        if corrected:
            motion = MovingAverage(self.hessian, scaling.value, self.rate, self.b1, self.noise)
            change = first_correction(motion, scaling, self.averaging, v, self.b2, sigma, known)
            if change is None or np.linalg.eigvalsh(sigma + change.covariance)[0] <= 0:
                return None
        else:
            c = self.noise.additive + self.noise.linear(sigma)
            fresh = fresh_fluctuation(self.hessian @ sigma @ self.hessian + c, self.averaging, v, self.b2, known)
            change = Correction(np.zeros_like(sigma), np.zeros_like(v), fresh)
        error = neglected(scaling, change, v, self.b2, sigma, known, corrected)
        sigma = sigma + change.covariance
        c = self.noise.additive + self.noise.linear(sigma)
        pull = self.hessian @ change.mean
        second = self.averaging @ (np.diag(self.hessian @ sigma @ self.hessian + c) + pull**2)
        return AdaptiveLaw(sigma, change.mean, second, scaling.value, change.fluctuation, c, corrected, error)


def scaling_at(S: Callable[[Any], Any], v: Vector) -> Scaling:
    """S and its logarithmic derivatives at v, in double precision."""

    def slope(x: Any) -> Any:
        return jax.jvp(S, (x,), (x,))

    with jax.enable_x64(True):
        (value, first), (_, twice) = jax.jvp(slope, (v,), (v,))
        value, first, twice = (np.asarray(x, np.float64) for x in (value, first, twice))
    return Scaling(value, first / value, (twice - first) / value)


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


def adaptive_setting(problem: Any, optimizer: Any, batch_size: Any, sampling: str | None) -> AdaptiveSetting:
    """Check the request.

    Raises:
        ValueError: an argument is out of range, the Hessian is not positive definite, or a parameter has no noise.
        NotImplementedError: there is no theory for the problem, the optimizer, the schedule or the sampling.
    """
    b, mode = check_theory(problem, batch_size, sampling)
    check_optimizer(optimizer, problem.dimension)
    if not isinstance(optimizer, AdaptiveOptimizer):
        raise NotImplementedError(f"no adaptive preconditioner in {type(optimizer).__name__}: use predict")
    if callable(optimizer.learning_rate):
        raise NotImplementedError(
            "learning_rate is a schedule, but a stationary law needs a constant rate; pass its final value"
        )
    hessian = np.asarray(problem.hessian(), np.float64)
    values = np.linalg.eigvalsh(hessian)
    if values[0] <= _SINGULAR * np.abs(values).max():
        raise _checks.error("hessian", values[0], "positive definite (this is its smallest eigenvalue)",
                            "a fluctuating preconditioner wanders along flat directions: add weight decay")
    noise = averaged_noise(problem, problem.minimum, b, mode)
    with jax.enable_x64(True):
        averaging = np.asarray(optimizer.V(np.eye(len(hessian))), np.float64)
    strength = averaging @ np.diag(noise.additive)
    if strength.min() <= _SINGULAR * max(float(strength.max()), 1e-300):
        raise _checks.error("noise_covariance", strength.min(), "positive for every parameter",
                            "the step of a parameter without gradient noise is not determined by noise: use SGD")
    return AdaptiveSetting(hessian, noise, averaging, optimizer, b, mode)


def adaptive_law(
    problem: Any,
    optimizer: Any,
    *,
    batch_size: int,
    sampling: str | None = None,
    corrected: bool | None = None,
) -> AdaptiveLaw:
    r"""Where Adam and its relatives settle, by a self-consistent preconditioner.

    In mean field v does not fluctuate, $v = V(\mathrm{diag}(H \Sigma H + C(\Sigma)))$, and Sigma is that of SGD with
    momentum and preconditioner $D = \mathrm{diag}\,S(v)$, exactly: linear equation and noise as in `predict`.
    The first correction in 1 - beta_2 follows how fluctuations of v, of relative size $R \simeq (1-\beta_2)
    (\kappa_4 - 1)/2$, correlate with the weights, with the gradient and with each other.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression with a positive definite Hessian.
        optimizer: Adam, RMSProp, AdamE, AdamMini, Adalayer or AdaptiveGradient with a constant learning rate;
            bias correction does not matter, for it fades.
        batch_size: b >= 1.
        sampling: as for `predict`.
        corrected: whether to include the first correction; None means up to 12 parameters.

    Returns:
        An `AdaptiveLaw`; its `error` is an estimate from the size of the neglected terms, not a bound.

    Raises:
        ValueError: an argument is out of range, the Hessian is singular, or a parameter has no gradient noise.
        NotImplementedError: there is no theory for this problem, optimizer, schedule or sampling.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Quadratic(hessian=[1.0], noise_covariance=[1.0])
        >>> law = ss.solver.adaptive_law(problem, ss.Adam(0.1, b1=0.0, b2=0.99), batch_size=1)
        >>> round(float(law.covariance[0, 0]), 4), round(law.error, 5)
        (0.0511, 0.00023)
    """
    setting = adaptive_setting(problem, optimizer, batch_size, sampling)
    if corrected is None:
        corrected = len(setting.hessian) <= _CORRECTED
    return settle(setting, corrected)


def settle(setting: AdaptiveSetting, corrected: bool) -> AdaptiveLaw:
    """The law whose E v is the one it leads to."""

    def search(corrected: bool, start: Vector) -> AdaptiveLaw | None:
        try:
            return fixed_point(
                lambda x: setting.law(np.exp(x), corrected),
                lambda law: np.log(law.second_moment),
                np.log(start),
                climb=not corrected,
            )
        except ValueError:  # a matrix overflows or is singular on the way: double precision does not reach so far
            return None

    law = search(False, setting.averaging @ np.diag(setting.noise.additive))
    if law is None:
        raise _checks.error("learning_rate", setting.rate, "small enough to find a self-consistent preconditioner",
                            "far beyond the theory's regime: lower it, raise batch_size, or simulate")
    if not corrected:
        return law
    return search(True, law.second_moment) or law._replace(error=np.inf)
