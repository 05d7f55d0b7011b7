"""Where the slow dynamics ends: a critical point, on the manifold of minima, of a sharpness made by the optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import Optimizer, mixes_parameters
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.minimum import polish
from sgdsim.solver.manifold.slow_charts import Ambient, LogSizes, chart_of
from sgdsim.solver.manifold.slow_setting import SlowSetting, bends_at, noise_level, slow_setting

_FIRST, _SHRINK = 0.03, 0.1  # epsilon at first, of the smallest root at the start, and from stage to stage
_UNSTABLE = 1e-6  # of the largest curvature: a negative one beyond it is left
_ROUNDS = 300
_DIFFERENCE = 1e-4  # of |w|: step of central differences
_LONGEST = 0.1  # step, relative to |w|
_SHORTEST = 1e-14
_SETTLED = 1e-11  # tangent slope, relative to all of it
_STEEPEST = 1e9  # the largest entry of S that a linear programme tells from infinity, relative to the least
_TINY = 1e-300  # keeps the root of a curvature 0 differentiable


def slow_fixed_point(
    problem: Problem, optimizer: Optimizer, initial: ArrayLike, *, batch_size: int = 1, label_noise: float | None = None
) -> Vector:
    r"""The point that `slow_ode` comes to rest at, downhill of a given minimum.

    $$\partial\Phi\, \nabla^3 L(\zeta)[S(V(\alpha\,\mathrm{diag} H))] = 0, \qquad \text{with } V = 1:\quad
      \zeta \in \arg\min_\Gamma \Psi, \quad \Psi = \sum_i \psi(H_{ii}), \quad \psi'(h) = S(\alpha h).$$

    At epsilon = 0 Psi is tr H for SGD, tr Diag(H)^{1/2} for Adam and tr Diag(H)^{1 - rho} for AdamE, up to a factor;
    Adam with epsilon has psi = (2/alpha) (w - eps log(1 + w/eps)), w = (alpha h)^{1/2}. Only the gradient along the
    manifold vanishes. At epsilon = 0 Psi may have a kink where some H_ii = 0, and Adam often ends in one: then the
    point found is that of the given small epsilon, a distance of about epsilon from the kink.

    On a `DiagonalNetwork` with V = 1 Psi is concave in the squares of the weights and its minima are vertices: they are
    found by linear programmes, each with the weights S of the last, from the given minimum down. Weights that are 0
    stay so. For all other problems Newton's method goes along the manifold. Kinks are approached through a
    sequence of epsilons, from one small against every 1/S at the start down to the optimizer's. There may be several
    fixed points: start from a late point of `slow_ode` to have the one it goes to.

    Args:
        problem: as for `slow_ode`.
        optimizer: as for `slow_ode`; the learning rate does not matter. With eps = 0 a kink has no fixed point.
        initial: a minimum, shape (D,).
        batch_size: b.
        label_noise: the STANDARD DEVIATION sigma; None takes the problem's.

    Returns:
        The fixed point, shape (D,).

    Raises:
        ValueError: an argument does not fit.
        NotImplementedError: there is no slow dynamics for the optimizer.
        NotConverged: none was found.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)
        >>> ss.solver.manifold.slow_fixed_point(problem, ss.SGD(0.01), problem.point(1.0)).round(5).tolist()
        [1.41421, 1.41421]
        >>> ss.solver.manifold.slow_fixed_point(problem, ss.Adam(0.01), problem.point(1.0)).round(5).tolist()
        [1.58114, 0.94868]

    Source: "Slow dynamics of Adam" (paper 004), theorems 5.1 and 5.2, which print the full gradient (see the errata).
    """
    setting = slow_setting(problem, optimizer)
    if mixes_parameters(optimizer):
        raise NotImplementedError("no fixed point of a factored second moment: follow slow_ode")
    alpha = noise_level(problem, label_noise, batch_size)
    chart = chart_of(problem, setting, initial)
    if isinstance(chart, LogSizes):
        return _vertex(setting, alpha, chart)
    assert isinstance(chart, Ambient)
    w, here = chart.start, chart.here
    for stage in _stages(setting, alpha * np.diag(here.hessian)):
        w = _descend(stage, alpha, w, here.rank)
    return w


def _vertex(setting: SlowSetting, alpha: float, chart: LogSizes) -> Vector:
    """The vertex least in sum c_i S_i e_i over squares e that fit the examples, S that of the vertex itself."""
    problem, c = chart.problem, chart.curvature
    squares = chart.signs**2 * np.exp(2 * chart.start)
    fits = chart.basis @ problem.best
    unit = np.abs(fits).max() or 1.0  # the tolerances of linear programmes are absolute
    signed = np.hstack([chart.basis, -chart.basis])
    bounds = [(0.0, None if sign else 0.0) for sign in chart.signs]
    for _ in range(_ROUNDS):
        s = chart.metric * setting.scale(setting.average(4 * alpha * c * squares))
        cost = c * np.minimum(s, _STEEPEST * s.min())
        found = scipy.optimize.linprog(cost / cost.min(), A_eq=signed, b_eq=fits / unit, bounds=bounds, method="highs")
        if found.status != 0:
            break
        kept = np.flatnonzero(found.x)
        new = np.zeros(len(squares))
        new[kept] = np.maximum(np.linalg.lstsq(signed[:, kept], fits, rcond=None)[0], 0.0)
        if np.allclose(new, squares, rtol=1e-12, atol=0):
            return chart.signs * np.sqrt(new)
        squares = new
    raise _checks.NotConverged("no vertex of the minima is a fixed point of the slow dynamics: start from a late point "
                               "of slow_ode", reached=chart.signs * np.sqrt(squares))


def _stages(setting: SlowSetting, squares: Vector) -> list[SlowSetting]:
    """The optimizer with shrinking epsilons, its own last, or what rounding tells from none."""
    own = getattr(setting.optimizer, "eps", None)
    if own is None:
        return [setting]
    moving = setting.average(np.maximum(squares, 0))
    roots = 1 / _with_eps(setting, 0.0).scale(moving)[moving > 0]
    eps, least = _FIRST * float(roots.min()), max(float(own), 1e-12 * float(roots.max()))
    found = []
    while eps > least:
        found.append(_with_eps(setting, eps))
        eps *= _SHRINK
    return [*found, _with_eps(setting, least)]


def _with_eps(setting: SlowSetting, eps: float) -> SlowSetting:
    optimizer = dataclasses.replace(setting.optimizer, eps=eps)  # type: ignore[type-var]
    return dataclasses.replace(setting, optimizer=optimizer)


def _descend(setting: SlowSetting, alpha: float, w: Vector, rank: int) -> Vector:
    """Newton's method for the tangent part of the semi-gradient, in steps downhill that do not pass the bottom."""
    identity = np.eye(len(w))
    for _ in range(_ROUNDS):
        slope, tangent, turn = _tangent_slope(setting, alpha, w, rank)
        part = tangent.T @ slope
        values, vectors = np.linalg.eigh(turn)
        if np.linalg.norm(part) <= _SETTLED * np.linalg.norm(slope):
            if not len(values) or values[0] >= -_UNSTABLE * np.abs(values).max():
                return w
            w = polish(setting.problem, w + _LONGEST / 10 * np.linalg.norm(w) * tangent @ vectors[:, 0],
                       identity, rank)[0]  # off a saddle, to either side
            continue
        step = tangent @ (vectors @ ((vectors.T @ -part) / np.maximum(np.abs(values), 1e-12 * np.abs(values).max())))
        step *= min(1.0, _LONGEST * np.linalg.norm(w) / np.linalg.norm(step))
        before = float(slope @ step)
        while True:
            new = polish(setting.problem, w + step, identity, rank)[0]
            beyond, there, _ = _tangent_slope(setting, alpha, new, rank)
            if float(there @ (there.T @ beyond) @ (new - w)) <= -0.5 * before or (
                    np.linalg.norm(step) < _SHORTEST * np.linalg.norm(w)):
                break
            step, before = step / 2, before / 2
        if np.linalg.norm(new - w) <= _SHORTEST * np.linalg.norm(w):
            return new
        w = new
    raise _checks.NotConverged(f"no fixed point of the slow dynamics after {_ROUNDS} steps: start from a late point of "
                               "slow_ode", reached=w)


def _tangent_slope(setting: SlowSetting, alpha: float, w: Vector, rank: int) -> tuple[Vector, Matrix, Matrix]:
    """The semi-gradient, a basis of the tangent space, and the derivative of its tangent part along the manifold.

    What is smooth is differentiated by central differences; S, which may be steep, is not.
    """
    _, hessian, bends = bends_at(setting, w)
    values, vectors = np.linalg.eigh(hessian)
    normal, tangent = vectors[:, len(w) - rank :], vectors[:, : len(w) - rank]
    v = np.maximum(setting.average(alpha * np.diag(hessian)), _TINY)
    scale = setting.scale(v)
    slope = bends @ scale
    step = _DIFFERENCE * np.linalg.norm(w)

    def central(function: Callable[[Vector], np.ndarray], d: Vector) -> np.ndarray:
        return (function(w + step * d) - function(w - step * d)) / (2 * step)

    smooth = [central(lambda x: bends_at(setting, x)[2] @ scale, d) for d in tangent.T]
    steep = [bends @ (setting.slope(v) * setting.average(alpha * (bends.T @ d))) for d in tangent.T]
    lift = (normal / values[len(w) - rank :]) @ (normal.T @ slope)
    length = float(np.linalg.norm(lift))
    bend = central(lambda x: bends_at(setting, x)[1], lift / length) * length if length else np.zeros_like(hessian)
    turn = tangent.T @ (np.reshape(smooth, (-1, len(w))).T + np.reshape(steep, (-1, len(w))).T - bend @ tangent)
    return slope, tangent, (turn + turn.T) / 2
