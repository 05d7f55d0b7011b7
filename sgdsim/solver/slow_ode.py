"""Label noise moves an optimizer along its minima, in time 1/eta^2: the limiting differential equation."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from scipy.integrate import solve_ivp

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.solver.minima import Minima, geometry, local, polish, settle
from sgdsim.solver.slow_setting import SlowSetting, check_times, label_noise_strength, scale_and_average, slow_setting

_RELATIVE, _ABSOLUTE = 1e-9, 1e-12
_RETURN = 20.0  # over the whole span: rate at which what integration errors put off the manifold decays


@dataclasses.dataclass(frozen=True, eq=False)
class SlowPath:
    """Positions along the minima; made by `slow_ode` and `slow_sde`.

    Attributes:
        times: slow times t, shape (T,).
        steps: the same as numbers of optimizer steps k, t = k eta^2, shape (T,).
        positions: points of the manifold, shape (T, D); of `slow_sde` (T, chains, D).
        second_moment: v that scales the step there (corrected for its start where the optimizer does), same shape;
            None for SGD.
        loss: training loss without label noise that integration left, before the last projection, shape (T,).
    """

    times: Vector
    steps: Vector
    positions: Any
    second_moment: Any
    loss: Any


def slow_ode(
    problem: Any,
    optimizer: Any,
    initial: Any,
    times: Any,
    *,
    batch_size: int = 1,
    unit: str = "slow",
    label_noise: float | None = None,
    second_moment: Any = None,
) -> SlowPath:
    r"""Follow SGD or an adaptive optimizer along the minima of a model that fits every example, under label noise.

    $$\dot\zeta = -\tfrac\alpha4\, \partial\Phi_S\, S\, \nabla^3 L(\zeta)[S], \qquad
      \dot v = c\,(V(\alpha\,\mathrm{diag} H(\zeta)) - v), \qquad S = S(v), \quad \alpha = \sigma^2 / b,$$

    in the limit of small eta at fixed c = (1 - beta_2) / eta^2, where the gradient noise is alpha H. Slow time is
    t = k eta^2 after k steps, with eta = lambda for Adam and its relatives (beta_1 does not matter) and
    eta = lambda / (1 - mu) for heavy-ball SGD, which has S = P. The projection is that of `tangent_projection`.

    Args:
        problem: a problem whose minima fit every example, with label noise; a frozen pytree (`ss.spec`).
        optimizer: `SGD`, `Adam`, `RMSProp`, `AdamE`, `AdamMini`, `Adalayer` or `AdaptiveGradient`, at a constant rate.
        initial: a minimum, shape (D,); see `flow_to_minimum`.
        times: increasing, shape (T,).
        batch_size: b.
        unit: of `times`: "slow" for t = k eta^2, "steps" for k.
        label_noise: the STANDARD DEVIATION sigma; None takes the problem's.
        second_moment: v at time 0, shape (D,), of an optimizer that has run for long. None: as at the start of a run,
            where v = V(alpha diag H). With bias correction v is then the average since the start; without, an optimizer
            that really starts at v = 0 begins with steps of size 1/sqrt(c) that this theory does not cover.

    Returns:
        A `SlowPath`; float64, integrated to a relative tolerance of 1e-9.

    Raises:
        ValueError: an argument does not fit, `initial` is no minimum, the minima do not fit every example, or the
            learning rate is past the minimum's stability limit.
        NotImplementedError: there is no slow dynamics for the optimizer, or its rate is a schedule.
        RuntimeError: the integration fails.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)
        >>> path = ss.solver.slow_ode(problem, ss.SGD(0.02), problem.point(1.0), [0.0, 2.0, 20.0])
        >>> path.positions.round(4).tolist(), path.steps.round(6).tolist()
        ([[1.3591, 0.1691], [1.4464, 0.3568], [1.4181, 1.4103]], [0.0, 5000.0, 50000.0])

    Source: "Slow dynamics of Adam" (paper 004), equation 3; the constant alpha/4 is ours (sheet C2).
    """
    setting = slow_setting(problem, optimizer)
    t = check_times(times, unit, setting.rate)
    alpha = label_noise_strength(problem, label_noise, batch_size)
    given = None if second_moment is None else _check_second_moment(problem, setting, second_moment)
    start, here = settle(problem, "initial", initial, np.eye(problem.dimension), interpolating=True)
    delayed = setting.corrected and given is None
    v = setting.average(alpha * np.maximum(np.diag(here.hessian), 0)) if given is None else given
    cap = setting.cap(v)
    setting.check_stable(Minima.at(here.hessian, setting.root(setting.scale(v, cap)), here.rank))
    dimension, rank, directions = problem.dimension, here.rank, setting.directions()
    pull = _RETURN / max(float(t[-1]), 1e-300)

    def velocity(now: float, state: Any) -> Any:
        w, v = np.split(state, [dimension])
        slope, hessian, bends = map(np.asarray, geometry(problem, w, directions))
        scale, average = np.ones(dimension), v
        if setting.adaptive:
            squares = alpha * np.maximum(np.diag(hessian), 0)
            scale, average = map(np.asarray, scale_and_average(setting.optimizer, np.maximum(v, 0), squares))
        scale = np.minimum(scale, cap)
        root = setting.root(scale)
        inverse = Minima.at(hessian, root, rank).inverse
        drift = root @ (root.T @ (bends @ scale))
        moved = -alpha / 4 * (drift - inverse @ (hessian @ drift)) - pull * (inverse @ slope)
        if not setting.adaptive:
            return moved
        gain = setting.decay
        if delayed:
            gain = 0.0 if now == 0 else setting.decay / -np.expm1(-setting.decay * now)
        return np.concatenate([moved, gain * (average - v)])

    state = np.concatenate([start, v]) if setting.adaptive else start
    size = np.abs(state)
    size[:dimension], size[dimension:] = np.abs(start).max(), size[dimension:].max(initial=0.0)
    if t[-1] == 0:
        states = state[None]
    else:
        with jax.enable_x64(True):
            moved = solve_ivp(velocity, (0.0, float(t[-1])), state, t_eval=t, method="LSODA", rtol=_RELATIVE,
                              atol=_ABSOLUTE * np.maximum(size, 1e-300))
        if not moved.success:
            raise RuntimeError(f"the slow dynamics could not be integrated beyond t = {moved.t[-1:]}: {moved.message}")
        states = moved.y.T
    moments = np.maximum(states[:, dimension:], 0) if setting.adaptive else np.zeros((len(t), dimension))
    left, positions = np.empty(len(t)), np.empty((len(t), dimension))
    for i, (point, moment) in enumerate(zip(states[:, :dimension], moments, strict=True)):
        left[i] = local(problem, point)[0]
        positions[i] = polish(problem, point, setting.root(setting.scale(moment, cap)), rank)[0]
    return SlowPath(t, t / setting.rate**2, positions, moments if setting.adaptive else None, left)


def _check_second_moment(problem: Any, setting: SlowSetting, value: Any) -> Vector:
    if not setting.adaptive:
        raise _checks.error("second_moment", value, "None for SGD", "leave it out")
    v = _checks.vector("second_moment", value, problem.dimension)
    if v.min() < 0:
        raise _checks.error("second_moment", value, "non-negative", "it is an average of squares")
    return v
