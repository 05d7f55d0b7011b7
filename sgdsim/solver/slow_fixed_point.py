"""Where the slow dynamics ends: a critical point, on the manifold of minima, of a sharpness made by the optimizer."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.solver.minima import geometry, polish, settle
from sgdsim.solver.slow_setting import SlowSetting, label_noise_strength, slow_setting

_FIRST, _SHRINK = 0.03, 0.1  # epsilon at first, of the smallest root at the start, and from stage to stage
_UNSTABLE = 1e-6  # of the largest curvature: a negative one beyond it is left
_ROUNDS = 300
_DIFFERENCE = 1e-4  # of 1 + |w|: step of central differences
_LONGEST = 0.1  # step, relative to 1 + |w|
_SHORTEST = 1e-14
_SETTLED = 1e-11  # tangent slope, relative to all of it
_TINY = 1e-300  # keeps the root of a curvature 0 differentiable


def slow_fixed_point(
    problem: Any, optimizer: Any, initial: Any, *, batch_size: int = 1, label_noise: float | None = None
) -> Vector:
    r"""The point that `slow_ode` comes to rest at, downhill of a given minimum.

    $$\partial\Phi\, \nabla^3 L(\zeta)[S(V(\alpha\,\mathrm{diag} H))] = 0, \qquad \text{with } V = 1:\quad
      \zeta \in \arg\min_\Gamma \Psi, \quad \Psi = \sum_i \psi(H_{ii}), \quad \psi'(h) = S(\alpha h).$$

    At epsilon = 0 Psi is tr H for SGD, tr Diag(H)^{1/2} for Adam and tr Diag(H)^{1 - rho} for AdamE, up to a factor;
    Adam with epsilon has psi = (2/alpha) (w - eps log(1 + w/eps)), w = (alpha h)^{1/2}. Only the gradient along the
    manifold vanishes. At epsilon = 0 Psi may have a kink where some H_ii = 0, and Adam often ends in one: then the
    point found is that of the given small epsilon, a distance of about epsilon from the kink.

    Found by Newton's method along the manifold. Kinks are approached through a sequence of epsilons, from
    one small against every 1/S at the start down to the optimizer's. There may be
    several fixed points: start from a late point of `slow_ode` to have the one it goes to.

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
        RuntimeError: none was found.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)
        >>> ss.solver.slow_fixed_point(problem, ss.SGD(0.01), problem.point(1.0)).round(5).tolist()
        [1.41421, 1.41421]
        >>> ss.solver.slow_fixed_point(problem, ss.Adam(0.01), problem.point(1.0)).round(5).tolist()
        [1.58114, 0.94868]

    Source: "Slow dynamics of Adam" (paper 004), theorems 5.1 and 5.2, which print the full gradient (see the errata).
    """
    setting = slow_setting(problem, optimizer)
    alpha = label_noise_strength(problem, label_noise, batch_size)
    w, here = settle(problem, "initial", initial, np.eye(problem.dimension), interpolating=True)
    for stage in _stages(setting, alpha * np.diag(here.hessian)):
        w = _descend(stage, alpha, w, here.rank)
    return w


def _stages(setting: SlowSetting, squares: Vector) -> list[SlowSetting]:
    """The optimizer with shrinking epsilons, itself last."""
    if not hasattr(setting.optimizer, "eps"):
        return [setting]
    moving = setting.average(np.maximum(squares, 0))
    bare = dataclasses.replace(setting.optimizer, eps=0.0)
    roots = 1 / dataclasses.replace(setting, optimizer=bare).scale(moving)[moving > 0]
    own, eps = float(setting.optimizer.eps), _FIRST * float(roots.min())
    found = []
    while eps > max(own, 1e-12 * roots.max()):
        found.append(dataclasses.replace(setting, optimizer=dataclasses.replace(setting.optimizer, eps=eps)))
        eps *= _SHRINK
    return [*found, setting]


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
            w = polish(setting.problem, w + _LONGEST / 10 * (1 + np.linalg.norm(w)) * tangent @ vectors[:, 0],
                       identity, rank)[0]  # off a saddle, to either side
            continue
        step = tangent @ (vectors @ ((vectors.T @ -part) / np.maximum(np.abs(values), 1e-12 * np.abs(values).max())))
        step *= min(1.0, _LONGEST * (1 + np.linalg.norm(w)) / np.linalg.norm(step))
        before = float(slope @ step)
        while True:
            new = polish(setting.problem, w + step, identity, rank)[0]
            beyond, there, _ = _tangent_slope(setting, alpha, new, rank)
            if float(there @ (there.T @ beyond) @ (new - w)) <= -0.5 * before or np.linalg.norm(step) < _SHORTEST:
                break
            step, before = step / 2, before / 2
        if np.linalg.norm(new - w) <= _SHORTEST * (1 + np.linalg.norm(w)):
            return new
        w = new
    raise RuntimeError(f"no fixed point of the slow dynamics after {_ROUNDS} steps: the last one is at {w}")


def _tangent_slope(setting: SlowSetting, alpha: float, w: Vector, rank: int) -> tuple[Vector, Matrix, Matrix]:
    """The semi-gradient, a basis of the tangent space, and the derivative of its tangent part along the manifold.

    What is smooth is differentiated by central differences; S, which may be steep, is not.
    """
    problem, directions = setting.problem, setting.directions()

    def geometry_at(point: Vector) -> tuple[Matrix, Matrix]:
        with jax.enable_x64(True):
            _, hessian, bends = geometry(problem, point, directions)
        return np.asarray(hessian), np.asarray(bends)

    hessian, bends = geometry_at(w)
    values, vectors = np.linalg.eigh(hessian)
    normal, tangent = vectors[:, len(w) - rank :], vectors[:, : len(w) - rank]
    v = np.maximum(setting.average(alpha * np.diag(hessian)), _TINY)
    scale = setting.scale(v)
    slope = bends @ scale
    step = _DIFFERENCE * (1 + np.linalg.norm(w))

    def central(function: Any, d: Vector) -> Any:
        return (function(w + step * d) - function(w - step * d)) / (2 * step)

    smooth = [central(lambda x: geometry_at(x)[1] @ scale, d) for d in tangent.T]
    steep = [bends @ (setting.slope(v) * setting.average(alpha * (bends.T @ d))) for d in tangent.T]
    lift = (normal / values[len(w) - rank :]) @ (normal.T @ slope)
    length = float(np.linalg.norm(lift))
    bend = central(lambda x: geometry_at(x)[0], lift / length) * length if length else np.zeros_like(hessian)
    turn = tangent.T @ (np.reshape(smooth, (-1, len(w))).T + np.reshape(steep, (-1, len(w))).T - bend @ tangent)
    return slope, tangent, (turn + turn.T) / 2
