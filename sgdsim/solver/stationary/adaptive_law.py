"""The stationary law of Adam and its relatives: a preconditioner made by the noise that it leads to."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import AdaptiveOptimizer, Optimizer, check_optimizer, mixes_parameters
from sgdsim.optimizers.base import constant
from sgdsim.problems.base import Problem
from sgdsim.problems.sampling import check_sampling
from sgdsim.solver.laws.table import stationary_law_of
from sgdsim.solver.linear_algebra.anderson import fixed_point
from sgdsim.solver.noise.averaged import AveragedNoise
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.stationary.adaptive_correction import (
    Correction,
    MovingAverage,
    first_correction,
    fresh_fluctuation,
    neglected,
    scaling_at,
)
from sgdsim.solver.stationary.dynamics import Dynamics
from sgdsim.solver.stationary.generalized_lyapunov import GeneralizedLyapunov

_CORRECTED = 12  # parameters: the first correction takes D Lyapunov equations of size 2D and D(D+1)/2 for the noise
# no fixed point; or a matrix overflows or is singular on the way: double precision does not reach so far
_BEYOND = (_checks.NotConverged, ValueError)
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
    optimizer: AdaptiveOptimizer
    batch_size: int
    sampling: str

    @property
    def rate(self) -> float:
        """The learning rate lambda."""
        return constant(self.optimizer.learning_rate)

    @property
    def b1(self) -> float:
        """The decay beta_1."""
        return float(self.optimizer.b1 or 0)

    @property
    def b2(self) -> float:
        """The decay beta_2."""
        return float(self.optimizer.b2)

    @property
    def decay(self) -> float:
        """The decoupled weight decay gamma."""
        return float(getattr(self.optimizer, "weight_decay", None) or 0.0)

    def feedback(self, preconditioner: Vector) -> GeneralizedLyapunov:
        """The equation for Sigma at a constant preconditioner: an average of gradients is heavy ball."""
        dynamics = Dynamics.around(self.hessian, preconditioner, self.b1)
        return GeneralizedLyapunov(dynamics, self.noise.restrict(dynamics.basis))

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
        known = self.noise.cumulants(sigma)
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


def adaptive_setting(problem: Problem, optimizer: Optimizer, batch_size: int, sampling: str | None) -> AdaptiveSetting:
    """Check the request.

    Raises:
        ValueError: an argument is out of range, the Hessian is not positive definite, or a parameter has no noise.
        NotImplementedError: there is no theory for the problem, the optimizer, the schedule or the sampling.
    """
    law = stationary_law_of(problem)
    b, mode = check_sampling(problem, batch_size, sampling)
    factor = factor_of(problem, mode)
    check_optimizer(optimizer, problem.dimension)
    if not isinstance(optimizer, AdaptiveOptimizer):
        raise NotImplementedError(f"no adaptive preconditioner in {type(optimizer).__name__}: use predict")
    if mixes_parameters(optimizer):
        raise NotImplementedError("no stationary law of a factored second moment: simulate it instead")
    if callable(optimizer.learning_rate):
        raise NotImplementedError(
            "learning_rate is a schedule, but a stationary law needs a constant rate; pass its final value"
        )
    hessian = np.asarray(problem.hessian(), np.float64)
    values = np.linalg.eigvalsh(hessian)
    if values[0] <= _SINGULAR * np.abs(values).max():
        raise _checks.error("hessian", values[0], "positive definite (this is its smallest eigenvalue)",
                            "a fluctuating preconditioner wanders along flat directions: add weight decay")
    noise = law.averaged_noise(problem.minimum, b, factor)
    with jax.enable_x64(True):
        unit: Any = np.eye(len(hessian))  # of NumPy: the check compiles nothing
        averaging = np.asarray(optimizer.V(unit), np.float64)
    strength = averaging @ np.diag(noise.additive)
    if strength.min() <= _SINGULAR * max(float(strength.max()), 1e-300):
        raise _checks.error("noise_covariance", strength.min(), "positive for every parameter",
                            "the step of a parameter without gradient noise is not determined by noise: use SGD")
    return AdaptiveSetting(hessian, noise, averaging, optimizer, b, mode)


def adaptive_law(
    problem: Problem,
    optimizer: Optimizer,
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
        optimizer: Adam, RMSProp, AdamE, AdamMini, Adalayer, AdaptiveGradient or your own with their attributes (`V`,
            `S`, `b1`, `b2`, `bias_correction`), at a constant rate; bias correction fades, so it does not matter.
        batch_size: b >= 1.
        sampling: as for `predict`.
        corrected: whether to include the first correction; None means up to 12 parameters.

    Returns:
        An `AdaptiveLaw`; its `error` is an estimate from the size of the neglected terms, not a bound.

    Raises:
        ValueError: an argument is out of range, the Hessian is singular, or a parameter has no gradient noise.
        NotConverged: far beyond the regime, where there is no self-consistent preconditioner.
        NotImplementedError: there is no theory for this problem, optimizer, schedule or sampling.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Quadratic(hessian=[1.0], example_noise_covariance=[1.0])
        >>> law = ss.solver.stationary.adaptive_law(problem, ss.Adam(0.1, b1=0.0, b2=0.99), batch_size=1)
        >>> round(float(law.covariance[0, 0]), 4), round(law.error, 5)
        (0.0511, 0.00023)
    """
    setting = adaptive_setting(problem, optimizer, batch_size, sampling)
    if setting.decay:
        raise NotImplementedError("weight_decay is not 0: ask predict, or stationary.decoupled_law")
    if corrected is None:
        corrected = len(setting.hessian) <= _CORRECTED
    return settle(setting, corrected)


def settle(setting: AdaptiveSetting, corrected: bool) -> AdaptiveLaw:
    """The law whose E v is the one it leads to.

    Raises:
        NotConverged: not even the mean field has one.
    """

    def search(corrected: bool, start: Vector) -> AdaptiveLaw:
        return fixed_point(
            lambda x: setting.law(np.exp(x), corrected),
            lambda law: np.log(law.second_moment),
            np.log(start),
            climb=not corrected,
        )

    try:
        law = search(False, setting.averaging @ np.diag(setting.noise.additive))
    except _BEYOND as failed:
        reached = failed.reached if isinstance(failed, _checks.NotConverged) else None
        raise _checks.NotConverged(
            f"no self-consistent preconditioner at learning_rate={setting.rate:g}, far beyond the theory's regime: "
            "lower it, raise batch_size, or simulate", reached
        ) from failed
    if not corrected:
        return law
    try:
        return search(True, law.second_moment)
    except _BEYOND:
        return law._replace(error=np.inf)
