"""The stationary law of AdamW: decoupled decay holds the mean away from the minimum, where v sees the weights move."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.problems.base import Problem
from sgdsim.solver.laws.table import stationary_law_of
from sgdsim.solver.linear_algebra.anderson import fixed_point
from sgdsim.solver.linear_algebra.lyapunov import discrete_lyapunov
from sgdsim.solver.noise.cumulants import Cumulants
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.stationary.adaptive_correction import Correction, Scaling, scaling_at
from sgdsim.solver.stationary.adaptive_law import AdaptiveLaw, AdaptiveSetting
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.predict_linear import settle_linear


class _MeanField(NamedTuple):
    """At a constant preconditioner: what multiplies the step, where the mean is, Sigma and the noise there."""

    scaling: Scaling
    mean: Vector
    sigma: Matrix
    noise: Matrix
    second_moment: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class DecoupledDecay:
    r"""AdamW and its relatives around their mean, $D H (\bar w - w^*) + \gamma \bar w = 0$."""

    problem: Any
    setting: AdaptiveSetting

    @property
    def decay(self) -> float:
        """The decay gamma."""
        return self.setting.decay

    def mean_field(self, v: Vector) -> _MeanField | None:
        """The law if v were constant, with the E v that it leads to; None where second moments do not exist."""
        setting = self.setting
        scaling = scaling_at(setting.optimizer.S, v)
        rate, b1, d, ones = setting.rate, setting.b1, scaling.value, np.ones_like(v)
        a = np.array([[-rate * self.decay * ones, -rate * b1 * d], [0 * ones, b1 * ones]])
        b = np.array([-rate * (1 - b1) * d, (1 - b1) * ones])
        with jax.enable_x64(True):
            step = Affine(jnp.asarray(a), jnp.asarray(b), jnp.zeros((2, len(v))))
        if b1 == 0:
            step = Affine(step.a[:1, :1], step.b[:1], step.c[:1])
        state = settle_linear(self.problem, [step], setting.batch_size, setting.sampling)
        if not state.settles:
            return None
        mean, sigma, noise = map(np.asarray, (state.mean[0, 0], state.covariance[0, 0, :, 0], state.noise[0]))
        pull = setting.hessian @ (mean - self.problem.minimum)
        gradient = setting.hessian @ sigma @ setting.hessian + noise
        return _MeanField(scaling, mean, sigma, noise, setting.averaging @ (np.diag(gradient) + pull**2))

    def correction(self, at: _MeanField) -> Correction:
        r"""What the motion of v with the weights changes.

        Around the mean the gradient is $\bar g + H e + \xi$ with $\bar g \ne 0$, so $\delta = v / E v - 1$ is linear:

        $$\delta' = \beta_2 \delta + (1-\beta_2) W (2 \bar g \odot (H e + \xi) + \xi^2 - C + \partial C\, e),$$

        and the step has $-\lambda D s \odot \bar g \odot \delta'$ in it: one linear system of (e, m, delta). The mean
        moves by $E[s \delta m] + \tfrac12 s_2 R \bar g$.
        """
        setting, problem = self.setting, self.problem
        h, b1, b2, d = setting.hessian, setting.b1, setting.b2, len(at.mean)
        law, eye, zero = stationary_law_of(problem), np.eye(d), np.zeros((d, d))
        noise = law.averaged_noise(at.mean, setting.batch_size, factor_of(problem, setting.sampling))
        known: Cumulants = noise.cumulants(at.sigma)
        pull = h @ (at.mean - problem.minimum)
        weights = setting.averaging / at.second_moment[:, None]
        seen = weights @ (2 * pull[:, None] * h + known.variance_slope)
        # new m and delta first, for the step uses them
        m = np.hstack([(1 - b1) * h, b1 * eye, zero])
        delta = np.hstack([(1 - b2) * seen, zero, b2 * eye])
        enter_m, enter_delta = np.hstack([(1 - b1) * eye, zero]), np.hstack([zero, (1 - b2) * eye])
        push = setting.rate * at.scaling.value[:, None]
        felt = (at.scaling.slope * pull)[:, None]
        w = np.hstack([(1 - setting.rate * self.decay) * eye, zero, zero]) - push * (m + felt * delta)
        step = np.vstack([w, m, delta])
        enter = np.vstack([-push * (enter_m + felt * enter_delta), enter_m, enter_delta])
        plain_step = np.vstack([w + push * felt * delta, m])[:, : 2 * d]
        plain_enter = np.vstack([-push * enter_m, enter_m])
        cross = weights @ (2 * pull[:, None] * at.noise + known.third)
        skewed = 2 * known.third * pull  # Cov(xi_i^2, 2 g_j xi_j)
        pairs = 2 * at.noise**2 + 4 * np.outer(pull, pull) * at.noise + np.einsum("kll->kl", known.fourth)
        pairs += skewed + skewed.T
        drive = np.block([[at.noise, cross.T], [cross, weights @ pairs @ weights.T]])
        with_v = discrete_lyapunov(step, enter @ drive @ enter.T)
        without = discrete_lyapunov(plain_step, plain_enter @ drive @ plain_enter.T)
        fluctuation, together = with_v[2 * d :, 2 * d :], np.diag(with_v[2 * d :, d : 2 * d])
        kick = -(at.scaling.slope * together + at.scaling.curvature / 2 * np.diag(fluctuation) * pull)
        shift = np.linalg.solve(h + np.diag(self.decay / at.scaling.value), kick)
        return Correction(with_v[:d, :d] - without[:d, :d], shift, fluctuation)


def decoupled_law(problem: Problem, setting: AdaptiveSetting, corrected: bool | None) -> AdaptiveLaw:
    """Where AdamW settles: mean field, and by default how v follows the weights.

    Raises:
        NotConverged: there is no self-consistent preconditioner.
    """
    decay = DecoupledDecay(problem, setting)
    try:
        at = fixed_point(
            lambda x: decay.mean_field(np.exp(x)),
            lambda found: np.log(found.second_moment),
            np.log(setting.averaging @ np.diag(setting.noise.additive)),
        )
    except _checks.NotConverged as failed:
        raise _checks.NotConverged(
            f"no self-consistent preconditioner at learning_rate={setting.rate:g}, far beyond the theory's regime: "
            "lower it, raise batch_size, or simulate", failed.reached
        ) from failed
    change = decay.correction(at)
    vary = float(np.max(np.maximum(2 * np.abs(at.scaling.slope), np.sqrt(np.abs(at.scaling.curvature) / 0.75))))
    relative = float(np.max(np.abs(np.diag(change.covariance)) / np.diag(at.sigma)))
    left = vary * float(np.diag(change.fluctuation).max())
    if corrected is False:
        sigma, mean, error = at.sigma, at.mean, left + relative
    else:
        sigma, mean, error = at.sigma + change.covariance, at.mean + change.mean, left + 2 * relative**2
    return AdaptiveLaw(sigma, mean - problem.minimum, at.second_moment, at.scaling.value, change.fluctuation, at.noise,
                       corrected is not False, error)
