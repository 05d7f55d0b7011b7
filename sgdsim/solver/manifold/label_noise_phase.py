"""The slow motion of SGD along a curve of minima, under gradient noise of any covariance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.derivatives import Landscape, Loss, LossFunction, expand, read_landscape, third_against
from sgdsim.solver.manifold.label_noise_arbitrary import normalized_covariance
from sgdsim.solver.noise.at_point import gradient_covariance

_POINTS = 128
_NEAR = 1e-6  # of the largest curvature times the size of the curve: a gradient beyond it is no rounding


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
    def _spline(self) -> scipy.interpolate.CubicSpline:
        around = np.append(self.phases, 2 * np.pi)
        return scipy.interpolate.CubicSpline(around, np.append(self.speed, self.speed[0]), bc_type="periodic")

    @property
    def period(self) -> float:
        """Steps for one turn; infinite where the speed vanishes or changes its sign."""
        if self.speed.min() * self.speed.max() <= 0:
            return np.inf
        return float(2 * np.pi * np.abs(1 / self.speed).mean())

    def phase(self, steps: ArrayLike, initial: float = 0.0) -> Vector:
        """The phase after so many steps (increasing from 0 on, shape (T,)) from `initial`, unwrapped.

        Raises:
            ValueError: the steps do not increase from 0 on.
        """
        times = _checks.finite_array("steps", steps)
        if times.ndim != 1 or times.size == 0 or times[0] < 0 or (np.diff(times) < 0).any():
            raise _checks.error("steps", steps, "increasing from 0 on, shape (T,)", "try np.arange(0, 1000, 100)")
        start = _checks.real("initial", initial, "a number", "phases are in radians")
        span = (0.0, max(float(times[-1]), 1e-300))
        found = scipy.integrate.solve_ivp(lambda _, phase: self._spline(phase % (2 * np.pi)), span, [start],
                                          method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12)
        return found.y[0]


def phase_drift(
    problem: Problem | Loss,
    curve: Callable[[Array], Array] | None = None,
    *,
    learning_rate: float,
    batch_size: int = 1,
    momentum: float = 0.0,
    noise_covariance: Callable[[Vector], Matrix] | None = None,
    points: int = _POINTS,
) -> PhaseDrift:
    r"""The slow speed along a closed curve theta(phi) of minima, 0 <= phi < 2 pi.

    $$\dot\phi = -\frac{\eta}{1-\beta} \frac{\langle \theta', \tfrac12 \nabla^3 L[S] \rangle}{|\theta'|^2}
      \;\text{per step}, \qquad S \text{ the stationary covariance around } \theta(\phi) .$$

    To leading order in eta, and for noise without a component along the curve. No potential need exist: SGD may turn
    for ever.

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times.
        curve: phi -> theta(phi), shape (D,), traceable by JAX; a minimum of the loss for every phi. None where the
            problem has its own, `problem.point`.
        learning_rate: eta.
        batch_size: B, of batches drawn with replacement.
        momentum: beta of the heavy ball, in [0, 1).
        noise_covariance: w -> covariance of the gradient of a BATCH there; None is that of the problem's own examples
            and labels.
        points: how many phases are computed.

    Raises:
        ValueError: a point of the curve is not a minimum, the noise pushes along the curve, or the learning rate is at
            or past the limit somewhere.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from sgdsim.solver.manifold import phase_drift
        >>> def loss(w):  # a circle of minima with a fluctuating direction z = w[2], stiffer at phi = 0
        ...     return 0.5 * (w[0] ** 2 + w[1] ** 2 - 1) ** 2 + 0.5 * (2 + w[0]) * w[2] ** 2
        >>> circle = lambda phi: jnp.stack([jnp.cos(phi), jnp.sin(phi), jnp.zeros_like(phi)])
        >>> found = phase_drift(loss, circle, learning_rate=0.01,
        ...                     noise_covariance=lambda w: np.diag([0.0, 0.0, 1.0]))
        >>> round(float(found.speed[32] * 1e4), 10), found.period  # eta S / 2 with S = eta / (h (2 - eta h)), h = 2
        (0.1262626263, inf)

    Source: Damian, Ma and Lee, section 5.3 and appendix F.2; the speed is derived here.
    """
    landscape = read_landscape(problem)
    if curve is None:
        curve = getattr(problem, "point", None)
        if curve is None:
            raise _checks.error("curve", None, "given for this problem", "pass phi -> theta(phi)")
    rate, beta = _checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum)
    count = _checks.integer("points", points, low=8)
    if noise_covariance is None:
        if isinstance(landscape, LossFunction):
            raise _checks.error("noise_covariance", None, "given beside a function",
                                "pass w -> covariance of the gradient")
        size = _checks.integer("batch_size", batch_size)
        noise_covariance = partial(gradient_covariance, landscape, batch_size=size)
    phases = 2 * np.pi * np.arange(count) / count
    with jax.enable_x64(True):
        w, tangent, slope, h = (np.asarray(x) for x in _along(landscape, jnp.asarray(phases), curve))
    tops = np.linalg.norm(h, ord=2, axis=(1, 2))
    if (np.abs(slope) > _NEAR * tops[:, None] * np.linalg.norm(tangent, axis=1).max()).any():
        worst = int(np.abs(slope).max(axis=1).argmax())
        raise _checks.error("curve", f"at phase {phases[worst]:.3g} a point with a gradient of "
                            f"{np.abs(slope[worst]).max():.3g}", "made of minima", "check the loss along it")
    covariances = np.stack([noise_covariance(x) for x in w])
    push = np.einsum("pi,pij,pj->p", tangent, covariances, tangent) / (tangent**2).sum(axis=1)
    if (push > _NEAR * np.trace(covariances, axis1=1, axis2=2)).any():
        raise _checks.error("noise_covariance", f"of variance {push.max():.3g} along the curve", "normal to the curve",
                            "a drift along the minima is then not all that moves: simulate it")
    # A curvature of rounding size and either sign is flat.
    s = np.stack([normalized_covariance(_without_rounding(a), rate / (1 - beta) * c, rate, beta)
                  for a, c in zip(h, covariances, strict=True)])
    with jax.enable_x64(True):
        pull = np.asarray(_pulls(landscape, jnp.asarray(w), jnp.asarray(s)))
    speed = -rate / (1 - beta) * (tangent * pull).sum(axis=1) / (tangent**2).sum(axis=1)
    return PhaseDrift(phases, speed, s)


def _without_rounding(h: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh((h + h.T) / 2)
    return (vectors * np.where(np.abs(values) < _NEAR * np.abs(values).max(), 0.0, values)) @ vectors.T


@partial(jax.jit, static_argnames="curve")
def _along(
    landscape: Landscape, phases: Array, curve: Callable[[Array], Array]
) -> tuple[Array, Array, Array, Array]:
    def one(phase: Array) -> tuple[Array, Array, Array, Array]:
        w, tangent = jax.jvp(curve, (phase,), (jnp.ones_like(phase),))
        _, slope, h = expand(landscape.loss, w)
        return w, tangent, slope, h

    return jax.lax.map(one, phases)


@jax.jit
def _pulls(landscape: Landscape, points: Array, covariances: Array) -> Array:
    return jax.lax.map(lambda at: 0.5 * third_against(landscape.loss, *at), (points, covariances))
