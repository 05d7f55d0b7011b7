"""Gradient noise and fluctuations near a minimum of any differentiable model (Theorem 5 and its corollaries)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Params, Vector, as_matrix
from sgdsim.optimizers import is_heavy_ball
from sgdsim.optimizers.base import Optimizer, constant
from sgdsim.problems import FlaxNetwork, FromLoss, check_sampling
from sgdsim.problems.parts.example_losses import ExampleLosses
from sgdsim.solver.laws.example_losses import DifferentiatedLosses
from sgdsim.solver.laws.table import law_of
from sgdsim.solver.linear_algebra.graded import graded_eigh, own_scales
from sgdsim.solver.manifold.derivatives import expand
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.stationary.heavy_ball import stationary_covariance

FORMS = ("loss", "fisher")
_FLAT = 1e-8  # of the largest curvature
_FAR = 0.1  # of the loss, which one Newton step may still gain
_ROUNDING = 1e-16


@jax.jit
def _derivatives(problem: ExampleLosses, w: Params) -> tuple[jax.Array, jax.Array, jax.Array]:
    """L_0, its gradient and its Hessian: of the data alone, without weight decay."""

    def mean_loss(v: Params) -> jax.Array:
        return jnp.mean(problem.batch_loss(v, problem.features, problem.targets))

    return expand(mean_loss, w)


class _NearMinimum:
    """The data's loss L_0, its gradient and Hessian H_0 at a point, and the noise they are said to make."""

    def __init__(self, problem: FlaxNetwork | FromLoss, w: ArrayLike):
        law = law_of(problem)
        if not isinstance(law, DifferentiatedLosses):
            raise NotImplementedError(f"no law near a minimum for {type(problem).__name__}: it is there for "
                                      "FlaxNetwork and FromLoss, whose minimum is not known; use predict")
        if law.noise_floor > 0:
            raise _checks.error("label_noise", float(problem.label_noise), "0 here: this law is of the noise of "
                                "drawing", "use solver.gradient_covariance, or label_noise_covariance where every "
                                "example is fitted")
        self.law, self.w = law, _checks.vector("w", w, problem.dimension)
        with jax.enable_x64(True):
            level, slope, h = _derivatives(problem, jnp.asarray(self.w))
            self.level, self.slope, self.hessian = float(level), np.asarray(slope), np.asarray(h)

    def noise(self, batch_size: int, sampling: str | None, form: str | None) -> Matrix:
        """F (2 L_0 / k H_0 - g g')."""
        size, mode = check_sampling(self.law.problem, batch_size, sampling)
        factor = factor_of(self.law.problem, mode).of(float(size))
        own = "fisher" if self.law.likelihood else "loss"
        chosen = own if form is None else _checks.choice("form", form, FORMS)
        strength = 1.0 if chosen == "fisher" else 2 * self.level / self.law.outputs
        return factor * (strength * self.hessian - np.outer(self.slope, self.slope))


def noise_covariance_near_minimum(
    problem: FlaxNetwork | FromLoss,
    w: ArrayLike,
    *,
    batch_size: int,
    sampling: str | None = None,
    form: str | None = None,
) -> Matrix:
    r"""Gradient noise near a minimum of small loss, approximately (Theorem 5 [14]).

    $$C(w) \approx f \Big( \frac{2 L_0(w)}{k} H_0(w) - \nabla L_0(w) \nabla L_0(w)^\top \Big), \qquad f = \tfrac1S.$$

    L_0 and H_0 are the data's loss and Hessian WITHOUT weight decay, and so is the gradient (the paper writes the
    gradient of the full loss, which vanishes at the minimum: see the errata). k is the number of outputs: the
    paper has one, and a `FromLoss` counts as one. Without replacement f = (n-S)/(S(n-1)). It needs residuals whose
    size does not depend on where the gradients are large. For cross-entropy the squared slope of the loss is not twice
    the loss; where the model is calibrated the noise is Fisher's information, and form "fisher" puts 1 for 2 L_0/k.
    `solver.gradient_covariance` is exact.

    Args:
        problem: a FlaxNetwork or FromLoss.
        w: where, shape (D,).
        batch_size: S.
        sampling: "with_replacement" (None) or "without_replacement".
        form: "loss" as above, or "fisher"; None is "fisher" for a network with "cross_entropy", else "loss".

    Returns:
        C, shape (D, D); not necessarily positive semi-definite, as H_0 need not be.

    Raises:
        ValueError: an argument does not fit.
        NotImplementedError: sampling is "epochs", or another problem.

    Examples:
        >>> import sgdsim as ss
        >>> from sgdsim.solver.stationary import noise_covariance_near_minimum
        >>> line = lambda w, x, y: 0.5 * (x @ w - y) ** 2
        >>> problem = ss.FromLoss(line, [[1.0], [-1.0]], [1.5, -0.5], start=[1.0])  # both residuals 0.5 in size
        >>> float(noise_covariance_near_minimum(problem, [1.0], batch_size=4)[0, 0])
        0.0625
        >>> float(ss.solver.gradient_covariance(problem, [1.0], batch_size=4)[0, 0])
        0.0625
    """
    return _NearMinimum(problem, w).noise(batch_size, sampling, form)


def covariance_near_minimum(
    problem: FlaxNetwork | FromLoss,
    optimizer: Optimizer,
    w: ArrayLike,
    *,
    batch_size: int,
    sampling: str | None = None,
    form: str | None = None,
) -> Matrix:
    r"""Stationary covariance around a minimum, to leading order, on the range of its Hessian (Corollary 3).

    $$P\Sigma = \frac{2 L_0}{S(1-\mu)} P L \Big( 2I - \frac{L H_0}{1+\mu} \Big)^{-1} \quad (\Gamma = 0).$$

    It solves the generalised Lyapunov equation [3] for the noise of `noise_covariance_near_minimum` at w*, of which
    this is the solution where L and H_0 commute; with weight decay the Hessian is H_0 + gamma I and the noise
    2 L_0 H_0 / S less the square of gamma w* (Corollary 2 [15]). At L_0 = 0 it is 0. Along flat directions, where
    Sigma is arbitrary, it is 0 too.

    Args:
        problem: a FlaxNetwork or FromLoss.
        optimizer: an `SGD` with a constant learning rate; its preconditioner must keep the range of the Hessian.
        w: the minimum w*, shape (D,).
        batch_size: S.
        sampling: "with_replacement" (None) or "without_replacement".
        form: as for `noise_covariance_near_minimum`.

    Raises:
        ValueError: `w` is no minimum, or training around it is unstable.
        NotImplementedError: the optimizer is not SGD at a constant rate, sampling is "epochs", or another problem.

    Examples:
        >>> import sgdsim as ss
        >>> from sgdsim.solver.stationary import covariance_near_minimum
        >>> line = lambda w, x, y: 0.5 * (x @ w - y) ** 2
        >>> problem = ss.FromLoss(line, [[1.0], [-1.0]], [1.5, -0.5], start=[1.0])
        >>> round(float(covariance_near_minimum(problem, ss.SGD(0.1), [1.0], batch_size=4)[0, 0]), 6)
        0.003289
    """
    if not is_heavy_ball(optimizer) or callable(optimizer.learning_rate):
        raise NotImplementedError("the law near a minimum is there for SGD with a constant learning rate: simulate "
                                  "other optimizers instead")
    at = _NearMinimum(problem, w)
    noise, gamma = at.noise(batch_size, sampling, form), float(problem.weight_decay)
    full = at.hessian + gamma * np.eye(len(at.w))
    values, vectors = graded_eigh(full)
    _check_minimum(at, gamma, values, vectors)
    basis = vectors[:, values > _FLAT * own_scales(full, values, vectors)]
    p = np.eye(len(at.w)) if optimizer.preconditioner is None else as_matrix(optimizer.preconditioner, len(at.w))
    rate = constant(optimizer.learning_rate) * p @ basis
    inside = basis.T @ rate
    flat = basis.shape[1] < len(basis)
    if flat and np.linalg.norm(rate - basis @ inside) > _FLAT * np.linalg.norm(rate):
        raise _checks.error("preconditioner", optimizer.preconditioner, "one that keeps the range of the Hessian",
                            "add a little weight decay, so that no direction is flat")
    momentum = constant(optimizer.momentum)
    sigma = stationary_covariance(basis.T @ full @ basis, basis.T @ noise @ basis, inside, momentum)
    return basis @ sigma @ basis.T


def _check_minimum(at: _NearMinimum, gamma: float, values: Vector, vectors: Matrix) -> None:
    if values.max() <= 0 or values.min() < -1e-6 * values.max():
        raise _checks.error("w", f"a point with curvature {values.min():.3g}", "a minimum",
                            "train on with a small learning rate and the full batch")
    inside = values > _FLAT * values.max()
    pull = vectors.T @ (at.slope + gamma * at.w)
    gain = 0.5 * float(np.sum(pull[inside] ** 2 / values[inside]))
    rounding = _ROUNDING * float(values.max()) * (float(at.w @ at.w) or 1.0)
    if gain > _FAR * abs(at.level) + rounding:
        raise _checks.error("w", f"a point where a Newton step would lower the loss {at.level:.3g} by {gain:.3g}",
                            "a minimum", "train on with a small learning rate and the full batch")
