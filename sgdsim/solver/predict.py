"""Predict where SGD settles."""

from __future__ import annotations

import warnings
from functools import cached_property, partial
from typing import Any

import numpy as np
import optax
import scipy

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._types import Matrix
from sgdsim.optimizers import AdaptiveOptimizer, Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.laws.law import QuadraticLaw
from sgdsim.solver.laws.linear_layers import LinearNetworks
from sgdsim.solver.laws.table import law_of, stationary_law_of
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.stationary.adaptive_prediction import predict_adaptive
from sgdsim.solver.stationary.linear_network import predict_linear_network
from sgdsim.solver.stationary.linearized import LinearizedSGD, linearize
from sgdsim.solver.tails.tail import beyond, tail_index_of
from sgdsim.solver.whole_run.epochs.predict_epochs import predict_epochs
from sgdsim.solver.whole_run.predict_diagonal import is_wide, predict_diagonal
from sgdsim.solver.whole_run.predict_linear import linear_process, predict_linear

_DISCRETE, _SMALL = "discrete time", "continuous time: small learning rates"
_HESSIAN = "noise proportional to the data Hessian: small fluctuations, not too small batches"
_UNIT = "noise as large as the Hessian of the loss over b, in units in which the loss is a log-likelihood"
_BATCH = "noise as at the minimum: large batches"
_APPROXIMATE = {
    "hessian": (f"{_DISCRETE} with {_HESSIAN}", "stationary.md sections 6 and 9"),
    "continuous": (f"{_SMALL}, with {_HESSIAN}", "stationary.md section 9"),
    "hessian_unit": (f"{_DISCRETE} with {_UNIT}", "table 2, equations [19-21, 27-29, 36-38]"),
    "continuous_unit": (f"{_SMALL}, with {_UNIT}", "table 2, equations [24-26, 31-33]"),
    "large_batch": (f"{_DISCRETE} with {_BATCH}", "equations [22, 30, 35]"),
    "small_rate": (f"{_SMALL}, with {_BATCH}", "stationary.md section 9"),
}
_NOISE = {"hessian": "hessian", "continuous": "hessian", "hessian_unit": "unit", "continuous_unit": "unit",
          "large_batch": "minimum", "small_rate": "minimum"}  # fmt: skip
_DISCRETE_TIME = ("hessian", "hessian_unit", "large_batch")


class BeyondLimit(ValueError):
    """At or past the mean-square limit. What its tail index costs is paid when the message is read, not before."""

    def __init__(self, setting: LinearizedSGD):
        super().__init__(setting)
        self.setting = setting

    @cached_property
    def message(self) -> str:
        """The limit, and what is left beyond it."""
        setting = self.setting
        limit = f"below {setting.limit():.6g}, where the second moment stops existing"
        remedy = "lower it, raise batch_size, or ask sgdsim.solver.limits.stability for the limits"
        left = beyond(tail_index_of(setting, quick=True))
        return f"{_checks.error('learning_rate', setting.rate, limit, remedy)} ({left})"

    def __str__(self) -> str:
        return self.message


@own_settings
def predict(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: int,
    sampling: str | None = None,
    approximation: str = "exact",
) -> Prediction:
    r"""The stationary mean, covariance, gradient noise and losses of SGD, in double precision.

    $$\Sigma = S(C(\Sigma)), \qquad C(\Sigma) = C_0 + C_1(\Sigma),$$

    with S the solution of the generalised Lyapunov equation [3] and C the averaged gradient noise.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression; or a TwoLayerLinear with label noise, see
            `solver.stationary.predict_linear_network`.
        optimizer: an SGD, DampedNewton or NaturalGradient with a constant learning rate; any momentum and
            preconditioner. A natural gradient without a Fisher matrix has the self-consistent one. Or any optax
            transformation that is linear in gradient, state and parameters: see `whole_run.predict_linear`. Or Adam,
            AdamW, RMSProp, AdamE, AdamMini, Adalayer, AdaptiveGradient: see `stationary.adaptive_law`, and its
            `theory_error`.
        batch_size: b >= 1, at most n without replacement.
        sampling: "online" for a population, "with_replacement", "without_replacement" or "epochs" (shuffled passes, see
            `whole_run.epochs.predict_epochs`) for a data set; None means online, or with replacement.
        approximation: "exact"; or, for comparison, discrete time with C = (2 L_0 / b) H_0 ("hessian"), with C = H / b
            ("hessian_unit", the literature's column of table 2), or with C as at the minimum ("large_batch"); or
            continuous time with the same three: "continuous", "continuous_unit", "small_rate". For Adam
            "exact" is the mean field with its first correction, "mean_field" without; for shuffled epochs there is
            "additive", noise as at the minimum.

    Raises:
        ValueError: an argument is out of range, the loss has no minimum, double precision does not resolve the
            covariance, or the learning rate is at or past the mean-square limit (the message gives the limit, and the
            tail index where a law still exists).
        NotImplementedError: no theory for this problem, optimizer, schedule or sampling.
        NotConverged: an iteration does not settle.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0], label_noise=1.0)
        >>> law = ss.predict(problem, ss.SGD(learning_rate=0.3), batch_size=1)
        >>> round(float(law.covariance[0, 0]), 5)
        0.27273
    """
    if isinstance(law_of(problem), LinearNetworks):
        return predict_linear_network(
            problem, optimizer, batch_size=batch_size, sampling=sampling, approximation=approximation
        )
    if isinstance(optimizer, AdaptiveOptimizer):
        return predict_adaptive(
            problem, optimizer, batch_size=batch_size, sampling=sampling, approximation=approximation
        )
    if sampling == "epochs":
        return predict_epochs(problem, optimizer, batch_size=batch_size, approximation=approximation)
    if approximation == "exact" and is_wide(problem, optimizer):
        return predict_diagonal(
            problem, optimizer, batch_size=batch_size, sampling=sampling, approximation=approximation
        )
    if isinstance(optimizer, optax.GradientTransformation) or getattr(optimizer, "nesterov", False):
        return predict_linear(
            problem, optimizer, batch_size=batch_size, sampling=sampling, approximation=approximation
        )
    _checks.choice("approximation", approximation, ("exact", *_APPROXIMATE))
    setting = linearize(problem, optimizer, batch_size, sampling)
    if not setting.feedback.settles(setting.rate):
        raise BeyondLimit(setting)
    law = stationary_law_of(problem)
    regime, reference = _APPROXIMATE.get(approximation, law.exact)
    if not np.any(setting.noise.additive):
        regime += "; no noise at the minimum (it fits every example, or is full-batch): no fluctuation"
    if setting.self_consistent:
        regime += "; Fisher matrix of many chains, at every learning rate (see second-order methods)"
        reference += "; section 8, equations [84-89]"
    exact = approximation == "exact"
    covariance, noise = _exact(setting) if exact else _approximate(setting, law, approximation)
    train_loss = float(problem.loss(setting.mean) + np.sum(problem.hessian() * covariance) / 2)
    test_loss = float(problem.test_loss(setting.mean) + np.sum(law.test_hessian * covariance) / 2)
    if not all(np.isfinite(value).all() for value in (covariance, noise, train_loss, test_loss)):
        raise _checks.error("problem", problem, "such that its law is finite in double precision",
                            "choose units in which curvature, noise and learning rate are of order 1")
    if not _is_covariance(covariance):
        raise _unresolved(problem)
    return Prediction(
        mean=setting.mean,
        covariance=covariance,
        noise_covariance=noise,
        train_loss=train_loss,
        test_loss=test_loss,
        max_learning_rate=setting.limit,
        spectral_radius=partial(setting.feedback.second_moment_radius, setting.rate),
        approximation=approximation,
        regime=regime,
        reference=reference,
        configuration={
            "problem": repr(problem),
            "optimizer": repr(optimizer),
            "batch_size": setting.batch_size,
            "sampling": setting.sampling,
        },
        process=None if setting.self_consistent else partial(
            linear_process, problem, optimizer, setting.batch_size, setting.sampling
        ),
        tail_index=partial(tail_index_of, setting),
    )


def _unresolved(problem: Problem) -> ValueError:
    return _checks.error("problem", problem, "such that double precision resolves its covariance",
                         "choose units in which curvatures are of one order, or leave out the flattest")


def _is_covariance(matrix: Matrix) -> bool:
    """Whether no correlation is beyond 1, but for rounding of the largest variance."""
    variances = np.diag(matrix)
    rounding = 1e-9 * variances.max(initial=0.0)
    bound = np.sqrt(np.maximum(variances, 0))
    return bool((np.abs(matrix) <= (1 + 1e-6) * np.outer(bound, bound) + rounding).all())


def _exact(setting: LinearizedSGD) -> tuple[Matrix, Matrix]:
    """Sigma and C of the linear equation Sigma = S(C0) + S(C1(Sigma))."""
    covariance = setting.embed(setting.feedback.solve(setting.rate))
    return covariance, setting.noise.additive + setting.noise.linear(covariance)


def _approximate(setting: LinearizedSGD, law: QuadraticLaw[Any], approximation: str) -> tuple[Matrix, Matrix]:
    """S(C) with a C that does not depend on Sigma; or (1-mu)(LH Sigma + Sigma HL') = L C L' for small rates."""
    factor = factor_of(law.problem, setting.sampling)
    c = np.asarray({
        "hessian": lambda: law.hessian_noise(setting.mean, setting.batch_size, factor),
        "unit": lambda: factor.of(float(setting.batch_size)) * np.asarray(law.problem.hessian()),
        "minimum": lambda: setting.noise.additive,
    }[_NOISE[approximation]]())
    dynamics = setting.dynamics
    inside = dynamics.basis.T @ c @ dynamics.basis
    if approximation in _DISCRETE_TIME:
        return setting.embed(dynamics.response(setting.rate)(inside)), c
    rate = setting.rate * dynamics.preconditioner
    drift, diffusion = rate * dynamics.curvatures, rate @ inside @ rate.T
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            sigma = scipy.linalg.solve_continuous_lyapunov(drift, diffusion) / (1 - dynamics.momentum)
        except RuntimeWarning as perturbed:  # SciPy has solved another equation
            raise _unresolved(law.problem) from perturbed
    return setting.embed((sigma + sigma.T) / 2), c
