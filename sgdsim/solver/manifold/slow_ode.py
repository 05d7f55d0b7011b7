"""Label noise moves an optimizer along its minima, in time 1/eta^2: the limiting differential equation."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._types import Vector
from sgdsim.optimizers import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.minimum import path_size, return_rate
from sgdsim.solver.manifold.slow_charts import chart_of
from sgdsim.solver.manifold.slow_setting import (
    SlowSetting,
    check_times,
    noise_level,
    scale_and_average,
    slow_setting,
)

_ABSOLUTE = 1e-3  # tolerance for small numbers, relative to that for large ones
_IMPLICIT = 500  # numbers in the state up to which a Jacobian is worth its cost
_FIRST = 1e-8  # of the first time: the step that is taken by hand


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
    positions: np.ndarray
    second_moment: np.ndarray | None
    loss: np.ndarray


@own_settings
def slow_ode(
    problem: Problem,
    optimizer: Optimizer,
    initial: ArrayLike,
    times: ArrayLike,
    *,
    batch_size: int = 1,
    unit: str = "slow",
    label_noise: float | None = None,
    second_moment: ArrayLike | None = None,
    tolerance: float = 1e-9,
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
        tolerance: relative error of a step of the solver, a local tolerance: the path is off by some hundred times it.

    Returns:
        A `SlowPath`; float64. A `DiagonalNetwork` is followed in logarithms of its weights' sizes, in which dying
        weights are not stiff.

    Raises:
        ValueError: an argument does not fit, `initial` is no minimum, the minima do not fit every example, or the
            learning rate is past the minimum's stability limit.
        NotImplementedError: there is no slow dynamics for the optimizer, or its rate is a schedule.
        NotConverged: the integration fails.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)
        >>> path = ss.solver.manifold.slow_ode(problem, ss.SGD(0.02), problem.point(1.0), [0.0, 2.0, 20.0])
        >>> path.positions.round(4).tolist(), path.steps.round(6).tolist()
        ([[1.3591, 0.1691], [1.4464, 0.3568], [1.4181, 1.4103]], [0.0, 5000.0, 50000.0])

    Source: "Slow dynamics of Adam" (paper 004), equation 3; the constant alpha/4 is ours (sheet C2).
    """
    setting = slow_setting(problem, optimizer)
    t = check_times(times, unit, setting.rate)
    alpha = noise_level(problem, label_noise, batch_size)
    given = None if second_moment is None else _check_second_moment(problem, setting, second_moment)
    error = _checks.positive("tolerance", tolerance)
    chart = chart_of(problem, setting, initial)
    diagonal, begin = chart.look(setting, chart.start, alpha, 0.0)
    squares = alpha * np.maximum(diagonal, 0)
    delayed = setting.corrected and given is None
    v = setting.average(squares) if given is None else given
    cap = setting.cap(v)
    scale = setting.scale(v, cap)
    setting.check_stable(chart.steepest(setting, scale))
    speed, span = begin(scale), max(float(t[-1]), 1e-300)
    path = path_size(chart.size, speed, span)
    pull = return_rate(path, speed, span)
    dimension = problem.dimension

    def velocity(now: float, state: Vector) -> Vector:
        z, v = np.split(state, [dimension])
        diagonal, move = chart.look(setting, z, alpha, pull)
        if setting.optimizer is None:
            return move(np.ones(dimension))
        squares = jnp.asarray(alpha * np.maximum(diagonal, 0))
        scale, average = map(np.asarray, scale_and_average(setting.optimizer, jnp.asarray(np.maximum(v, 0)), squares))
        gain = setting.decay / -np.expm1(-setting.decay * now) if delayed and now else setting.decay
        return np.concatenate([move(np.minimum(scale, cap)), gain * (average - v)])

    state = np.concatenate([chart.start, v]) if setting.adaptive else chart.start
    method = "LSODA" if len(state) <= _IMPLICIT else "DOP853"
    size = np.abs(state)
    size[:dimension], size[dimension:] = path, size[dimension:].max(initial=0.0)
    later = t[t > 0]
    states = np.tile(state, (len(t), 1))
    if len(later):
        first = 0.0
        with jax.enable_x64(True):
            if delayed:  # the average since the start has the gain 1/t, and begins in the middle of a straight piece
                first = _FIRST * float(later[0])
                moved_to = chart.start + first * velocity(0.0, state)[:dimension]
                squares = alpha * np.maximum(chart.look(setting, moved_to, alpha, pull)[0], 0)
                state = np.concatenate([moved_to, (v + setting.average(squares)) / 2])
            moved = scipy.integrate.solve_ivp(velocity, (first, float(t[-1])), state, t_eval=later, method=method,
                                              rtol=error, atol=_ABSOLUTE * error * np.maximum(size, 1e-300))
        if not moved.success:
            reached = np.reshape(moved.y, (len(state), -1)).T[-1:, :dimension]
            raise _checks.NotConverged(f"the slow dynamics could not be integrated beyond t = {moved.t[-1:]}: "
                                       f"{moved.message}", reached)
        states[t > 0] = moved.y.T
    moments = np.maximum(states[:, dimension:], 0) if setting.adaptive else np.zeros((len(t), dimension))
    ends = [chart.point(setting, z, setting.scale(moment, cap))
            for z, moment in zip(states[:, :dimension], moments, strict=True)]
    positions, left = map(np.array, zip(*ends, strict=True))
    return SlowPath(t, t / setting.rate**2, positions, moments if setting.adaptive else None, left)


def _check_second_moment(problem: Problem, setting: SlowSetting, value: ArrayLike) -> Vector:
    if not setting.adaptive:
        raise _checks.error("second_moment", value, "None for SGD", "leave it out")
    v = _checks.vector("second_moment", value, problem.dimension)
    if v.min() < 0:
        raise _checks.error("second_moment", value, "non-negative", "it is an average of squares")
    return v
