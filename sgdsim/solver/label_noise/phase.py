"""The slow motion of SGD along a curve of minima, under gradient noise of any covariance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.problems import CyclingToy
from sgdsim.problems._residuals import Residuals
from sgdsim.solver.label_noise.arbitrary import noise_fixed_point
from sgdsim.solver.label_noise.derivatives import Loss, hessian, read_loss, third
from sgdsim.solver.noise import gradient_covariance, spread

_POINTS = 128
_NEAR = 1e-6  # of the largest curvature: a gradient beyond it is no rounding


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseDrift:
    """How fast SGD moves along a closed curve of minima; made by `phase_drift`.

    Attributes:
        phases: equally spaced in [0, 2 pi), shape (P,).
        speed: of the phase, per step, at each of them, shape (P,).
        covariance: of the fluctuations around each of them, shape (P, D, D).
    """

    phases: Vector
    speed: Vector
    covariance: np.ndarray

    @cached_property
    def _spline(self) -> CubicSpline:
        around = np.append(self.phases, 2 * np.pi)
        return CubicSpline(around, np.append(self.speed, self.speed[0]), bc_type="periodic")

    @property
    def period(self) -> float:
        """Steps for one turn; infinite where the speed vanishes or changes its sign."""
        if self.speed.min() * self.speed.max() <= 0:
            return np.inf
        return float(2 * np.pi * np.abs(1 / self.speed).mean())

    def phase(self, steps: Any, initial: float = 0.0) -> Vector:
        """The phase after so many steps (increasing from 0 on, shape (T,)) from `initial`, unwrapped.

        Raises:
            ValueError: the steps do not increase from 0 on.
        """
        times = _checks.finite_array("steps", steps)
        if times.ndim != 1 or times.size == 0 or times[0] < 0 or (np.diff(times) < 0).any():
            raise _checks.error("steps", steps, "increasing from 0 on, shape (T,)", "try np.arange(0, 1000, 100)")
        start = _checks.real("initial", initial, "a number", "phases are in radians")
        found = solve_ivp(lambda _, phase: self._spline(phase % (2 * np.pi)), (0.0, max(float(times[-1]), 1e-300)),
                          [start], method="DOP853", t_eval=times, rtol=1e-10, atol=1e-10)
        return found.y[0]


def phase_drift(
    problem: Any,
    curve: Callable[[Any], Any] | None = None,
    *,
    learning_rate: float,
    batch_size: int = 1,
    momentum: float = 0.0,
    noise: Callable[[Vector], Matrix] | None = None,
    points: int = _POINTS,
) -> PhaseDrift:
    r"""The slow speed along a closed curve theta(phi) of minima, 0 <= phi < 2 pi.

    $$\dot\phi = -\frac{\eta}{1-\beta} \frac{\langle \theta', \tfrac12 \nabla^3 L[S] \rangle}{|\theta'|^2}
      \;\text{per step}, \qquad S \text{ the stationary covariance around } \theta(\phi) .$$

    To leading order in eta, and for noise without a component along the curve. No potential need exist: SGD may turn
    for ever (`CyclingToy`).

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times.
        curve: phi -> theta(phi), shape (D,), traceable by JAX; a minimum of the loss for every phi. None for a
            `CyclingToy`: its circle.
        learning_rate: eta.
        batch_size: B, of batches drawn with replacement.
        momentum: beta of the heavy ball, in [0, 1).
        noise: w -> covariance of the gradient of a BATCH there; None is that of the problem's own examples and labels.
        points: how many phases are computed.

    Raises:
        ValueError: a point of the curve is not a minimum, the noise pushes along the curve, or the learning rate is at
            or past the limit somewhere.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from sgdsim.solver import phase_drift
        >>> def loss(w):  # a circle of minima with a fluctuating direction z = w[2], stiffer at phi = 0
        ...     return 0.5 * (w[0] ** 2 + w[1] ** 2 - 1) ** 2 + 0.5 * (2 + w[0]) * w[2] ** 2
        >>> circle = lambda phi: jnp.stack([jnp.cos(phi), jnp.sin(phi), jnp.zeros_like(phi)])
        >>> found = phase_drift(loss, circle, learning_rate=0.01, noise=lambda w: np.diag([0.0, 0.0, 1.0]))
        >>> round(float(found.speed[32] * 1e4), 10), found.period  # eta S / 2 with S = eta / (h (2 - eta h)), h = 2
        (0.1262626263, inf)

    Source: Damian, Ma and Lee, section 5.3 and appendix F.2; the speed is derived here.
    """
    loss, known = read_loss(problem)
    if curve is None:
        if not isinstance(problem, CyclingToy):
            raise _checks.error("curve", None, "given for this problem", "pass phi -> theta(phi)")
        curve = _circle
    rate, beta = _checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum)
    count = _checks.integer("points", points, low=8)
    if noise is None:
        if known is None:
            raise _checks.error("noise", None, "given beside a function", "pass w -> covariance of the gradient")
        size = _checks.integer("batch_size", batch_size)
        own = _residual_noise if isinstance(problem, Residuals) else gradient_covariance
        noise = partial(own, problem, batch_size=size)
    phases = 2 * np.pi * np.arange(count) / count
    with jax.enable_x64(True):
        w, tangent, slope, h = (np.asarray(x) for x in _along(loss, curve, known, jnp.asarray(phases)))
    tops = np.linalg.norm(h, ord=2, axis=(1, 2))
    if (np.abs(slope) > _NEAR * tops[:, None] * (1 + np.abs(w).max())).any():
        worst = int(np.abs(slope).max(axis=1).argmax())
        raise _checks.error("curve", f"at phase {phases[worst]:.3g} a point with a gradient of "
                            f"{np.abs(slope[worst]).max():.3g}", "made of minima", "check the loss along it")
    covariances = np.stack([noise(x) for x in w])
    push = np.einsum("pi,pij,pj->p", tangent, covariances, tangent) / (tangent**2).sum(axis=1)
    if (push > _NEAR * np.trace(covariances, axis1=1, axis2=2)).any():
        raise _checks.error("noise", f"of variance {push.max():.3g} along the curve", "normal to the curve",
                            "a drift along the minima is then not all that moves: simulate it")
    # A curvature of rounding size and either sign is flat.
    s = np.stack([noise_fixed_point(_without_rounding(a), rate / (1 - beta) * c, rate, beta)
                  for a, c in zip(h, covariances, strict=True)])
    with jax.enable_x64(True):
        pull = np.asarray(_pulls(loss, known, jnp.asarray(w), jnp.asarray(s)))
    speed = -rate / (1 - beta) * (tangent * pull).sum(axis=1) / (tangent**2).sum(axis=1)
    return PhaseDrift(phases, speed, s)


def _circle(phase: Any) -> Any:
    still = jnp.zeros_like(phase)
    return jnp.stack([jnp.cos(phase), jnp.sin(phase), still, still, still, still])


def _residual_noise(problem: Residuals, w: Vector, batch_size: int) -> Matrix:
    """Covariance of the mean gradient of a batch drawn with replacement, its label noise included."""
    f, jacobian = problem.residuals(w), problem.jacobian(w)
    label_noise = float(problem.label_noise) ** 2 * jacobian.T @ jacobian / len(f)
    return spread(f[:, None] * jacobian, 1 / batch_size) + label_noise / batch_size


def _without_rounding(h: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh((h + h.T) / 2)
    return (vectors * np.where(np.abs(values) < _NEAR * np.abs(values).max(), 0.0, values)) @ vectors.T


@partial(jax.jit, static_argnums=(0, 1))
def _along(loss: Loss, curve: Any, problem: Any, phases: Any) -> tuple[Any, Any, Any, Any]:
    def one(phase: Any) -> tuple[Any, Any, Any, Any]:
        w, tangent = jax.jvp(curve, (phase,), (jnp.ones_like(phase),))
        return w, tangent, jax.grad(partial(loss, problem))(w), hessian(loss, problem, w)

    return jax.lax.map(one, phases)


@partial(jax.jit, static_argnums=0)
def _pulls(loss: Loss, problem: Any, points: Any, covariances: Any) -> Any:
    return jax.lax.map(lambda at: 0.5 * third(loss, problem, *at), (points, covariances))
