"""Predict where SGD settles."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy.linalg import solve_continuous_lyapunov

from sgdsim import _checks
from sgdsim._types import Matrix, as_matrix
from sgdsim.problems import DatasetRegression, DeepLinear, LinearRegression, Quadratic, TwoLayerLinear
from sgdsim.solver.adam_covariance import AdaptiveOptimizer
from sgdsim.solver.adaptive_prediction import predict_adaptive
from sgdsim.solver.linear_network import predict_linear_network
from sgdsim.solver.noise import GaussianNoise, SubsetNoise
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.setting import Setting, describe
from sgdsim.solver.tail import Tail

_EXACT = {
    Quadratic: ("exact for additive noise", "stationary.md section 2, equation [3]"),
    LinearRegression: ("exact for Gaussian inputs", "stationary.md sections 3 to 5, equations [5, 132, 151] in [3]"),
    DatasetRegression: ("exact for this data set", "stationary.md section 7, equations [99, 108] in [3]"),
}
_APPROXIMATE = {
    "hessian": (
        "discrete time with noise proportional to the data Hessian: small fluctuations, not too small batches",
        "stationary.md sections 6 and 9",
    ),
    "continuous": (
        "continuous time with noise proportional to the data Hessian: small learning rates as well",
        "stationary.md section 9",
    ),
}


class BeyondLimit(ValueError):
    """At or past the mean-square limit. What its tail index costs is paid when the message is read, not before."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.setting = setting

    @cached_property
    def message(self) -> str:
        """The limit, and what is left beyond it."""
        setting = self.setting
        limit = f"below {setting.limit():.6g}, where the second moment stops existing"
        remedy = "lower it, raise batch_size, or ask sgdsim.solver.stability for the limits"
        return f"{_checks.error('learning_rate', setting.rate, limit, remedy)} ({Tail(setting, quick=True).beyond()})"

    def __str__(self) -> str:
        return self.message


def predict(
    problem: Any,
    optimizer: Any,
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
            `solver.predict_linear_network`.
        optimizer: an SGD, DampedNewton or NaturalGradient with a constant learning rate; any momentum and
            preconditioner. A natural gradient without a Fisher matrix has the self-consistent one. Or Adam,
            RMSProp, AdamE, AdamMini, Adalayer, AdaptiveGradient: see `solver.adaptive_law`, and its `theory_error`.
        batch_size: b >= 1, at most n without replacement.
        sampling: "online" for a population, "with_replacement" or "without_replacement" for a data set;
            None means online, or with replacement.
        approximation: "exact"; "hessian" (discrete time, C = (2 L_0 / b) H_0); "continuous" (and small rates:
            lambda sigma^2 / (2b) I). Both only for comparison. For Adam "exact" is the mean field with its
            first correction, "mean_field" without.

    Raises:
        ValueError: an argument is out of range, the loss has no minimum, or the learning rate is at or past
            the mean-square limit (the message gives the limit, and the tail index where a law still exists).
        NotImplementedError: no theory for this problem, optimizer, schedule or sampling.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0], label_noise=1.0)
        >>> law = ss.predict(problem, ss.SGD(learning_rate=0.3), batch_size=1)
        >>> round(float(law.covariance[0, 0]), 5)
        0.27273
    """
    if isinstance(problem, TwoLayerLinear | DeepLinear):
        return predict_linear_network(
            problem, optimizer, batch_size=batch_size, sampling=sampling, approximation=approximation
        )
    if isinstance(optimizer, AdaptiveOptimizer):
        return predict_adaptive(
            problem, optimizer, batch_size=batch_size, sampling=sampling, approximation=approximation
        )
    _checks.choice("approximation", approximation, ("exact", *_APPROXIMATE))
    setting = describe(problem, optimizer, batch_size, sampling)
    if not setting.feedback.settles(setting.rate):
        raise BeyondLimit(setting)
    exact = next(_EXACT[kind] for kind in _EXACT if isinstance(problem, kind))
    regime, reference = _APPROXIMATE.get(approximation, exact)
    if isinstance(setting.noise, SubsetNoise) and not np.any(setting.noise.additive):
        regime += "; no noise at the minimum (it fits every example, or is full-batch): no fluctuation"
    if setting.self_consistent:
        regime += "; Fisher matrix of many chains, at every learning rate (see second-order methods)"
        reference += "; section 8, equations [84-89]"
    covariance, noise = _ROUTES[approximation](problem, setting)
    train_loss = float(problem.loss(setting.mean) + np.sum(problem.hessian() * covariance) / 2)
    test_loss = float(problem.test_loss(setting.mean) + np.sum(_test_hessian(problem) * covariance) / 2)
    if not all(np.isfinite(value).all() for value in (covariance, noise, train_loss, test_loss)):
        raise _checks.error("problem", problem, "such that its law is finite in double precision",
                            "choose units in which curvature, noise and learning rate are of order 1")
    tail = Tail(setting)
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
        tail_index=tail.index,
        tail_index_stderr=tail.stderr,
    )


def _exact(problem: Any, setting: Setting) -> tuple[Matrix, Matrix]:
    """Sigma and C of the linear equation Sigma = S(C0) + S(C1(Sigma))."""
    covariance = setting.embed(setting.feedback.solve(setting.rate))
    return covariance, setting.noise.additive + setting.noise.linear(covariance)


def _hessian(problem: Any, setting: Setting) -> tuple[Matrix, Matrix]:
    """S(C) with C proportional to the data Hessian."""
    noise, inside = _hessian_noise(problem, setting)
    return setting.embed(setting.dynamics.response(setting.rate)(inside)), noise


def _continuous(problem: Any, setting: Setting) -> tuple[Matrix, Matrix]:
    """(1-mu)(LH Sigma + Sigma HL') = L C L', with C proportional to the data Hessian."""
    noise, inside = _hessian_noise(problem, setting)
    dynamics = setting.dynamics
    rate = setting.rate * dynamics.preconditioner
    sigma = solve_continuous_lyapunov(rate * dynamics.curvatures, rate @ inside @ rate.T) / (1 - dynamics.momentum)
    return setting.embed((sigma + sigma.T) / 2), noise


_ROUTES = {"exact": _exact, "hessian": _hessian, "continuous": _continuous}


def _hessian_noise(problem: Any, setting: Setting) -> tuple[Matrix, Matrix]:
    """C = 2 L_0 f H_0, L_0 the data loss at the minimum and H_0 its Hessian (Quadratic: H / b); and V'CV."""
    noise = setting.noise
    if isinstance(noise, GaussianNoise):
        k, d = noise.second_moment, noise.bias
        c = (d @ k @ d + noise.residual_variance) / setting.batch_size * k
    elif isinstance(noise, SubsetNoise):
        c = (noise.factor * np.mean(noise.residuals**2) + noise.label_variance) * noise.gram
    else:
        c = problem.hessian() / setting.batch_size
    return c, setting.dynamics.basis.T @ c @ setting.dynamics.basis


def _test_hessian(problem: Any) -> Matrix:
    if isinstance(problem, LinearRegression):
        return as_matrix(problem.covariance, problem.dimension)
    return problem.gram if isinstance(problem, DatasetRegression) else problem.hessian()
