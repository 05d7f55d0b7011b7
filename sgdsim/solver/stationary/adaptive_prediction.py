"""`predict` for Adam and its relatives."""

from __future__ import annotations

import numpy as np
import scipy

from sgdsim import _checks
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.stationary.adaptive_correction import scaling_at
from sgdsim.solver.stationary.adaptive_decay import decoupled_law
from sgdsim.solver.stationary.adaptive_law import AdaptiveSetting, adaptive_law, adaptive_setting

WORST = 0.06  # relative error of Sigma beyond which the theory does not speak

_ABOVE = 1e-3  # share of the way from the noiseless rate to 1 within which noise counts as slowing nothing down

_ROUTES = {"exact": None, "mean_field": False}
_NAMES = {True: "first correction", False: "mean field"}


def predict_adaptive(
    problem: Problem, optimizer: Optimizer, *, batch_size: int, sampling: str | None, approximation: str
) -> Prediction:
    """The law of `adaptive_law` under the names of `predict`.

    Raises:
        ValueError: as for `predict`.
        NotImplementedError: as for `predict`.
    """
    _checks.choice("approximation", approximation, _ROUTES)
    setting = adaptive_setting(problem, optimizer, batch_size, sampling)
    corrected = _ROUTES[approximation]
    if setting.decay:
        law = decoupled_law(problem, setting, corrected)
    else:
        law = adaptive_law(problem, optimizer, batch_size=batch_size, sampling=sampling, corrected=corrected)
    mean = problem.minimum + law.mean_shift
    values, vectors = np.linalg.eigh(law.covariance)
    spread = vectors * np.sqrt(len(values) * np.clip(values, 0, None))
    points = mean[:, None] + np.hstack([spread, -spread])  # the same mean and covariance, exact for quadratic losses
    r = float(np.diag(law.fluctuation).max())
    regime = (
        f"small fluctuations of v: relative variance {r:.2g}, estimated relative error {law.error:.2g} "
        f"(at most {WORST:g})"
    )
    return Prediction(
        mean=mean,
        covariance=law.covariance,
        noise_covariance=law.noise_covariance,
        train_loss=float(np.mean(problem.loss(points))),
        test_loss=float(np.mean(problem.test_loss(points))),
        max_learning_rate=lambda: _limit(setting, law.preconditioner, law.second_moment),
        spectral_radius=lambda: _slowest(setting, law.preconditioner),
        approximation=_NAMES[law.corrected],
        regime=regime,
        reference="adam-covariance.md",
        configuration={
            "problem": repr(problem),
            "optimizer": repr(optimizer),
            "batch_size": setting.batch_size,
            "sampling": setting.sampling,
        },
        theory_error=law.error,
        out_of_regime="" if law.error <= WORST else f"beyond the theory's regime: {regime}",
    )


def _slowest(setting: AdaptiveSetting, preconditioner: np.ndarray) -> float:
    """The slower of the second moment of the weights and of v: where both have settled, so has the law."""
    feedback, rate = setting.feedback(preconditioner), setting.rate * (1 - setting.b1)
    floor = feedback.dynamics.step_radius(rate) ** 2
    low = floor + _ABOVE * (1 - floor)
    if feedback.silent or feedback.radius(rate, low) <= 1:
        return max(low, setting.b2)
    root = scipy.optimize.brentq(lambda r: 1 / feedback.radius(rate, r) - 1, low, 1.0, xtol=1e-10)
    return max(float(root), setting.b2)


def _limit(setting: AdaptiveSetting, preconditioner: np.ndarray, v: np.ndarray) -> float:
    """Infinite where larger steps make a larger v, which makes the steps smaller again; else that of SGD."""
    if np.any(scaling_at(setting.optimizer.S, v).slope):
        return np.inf
    return setting.feedback(preconditioner).limit() / (1 - setting.b1)
