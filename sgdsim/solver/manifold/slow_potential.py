"""The sharpness that an optimizer's slow dynamics minimises along the minima."""

from __future__ import annotations

import jax
import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.optimizers import Optimizer, mixes_parameters
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.minimum import local
from sgdsim.solver.manifold.slow_setting import noise_level, slow_setting

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_ROOT = 8  # h = x^8: S(alpha h) may grow like h^-1/2 or faster


def sharpness(
    problem: Problem,
    w: ArrayLike,
    optimizer: Optimizer,
    *,
    batch_size: int = 1,
    label_noise: float | None = None,
    second_moment: ArrayLike | None = None,
) -> float:
    r"""What `slow_ode` brings down: Psi of the Hessian's diagonal, or its pull at a second moment v that stands still.

    $$\Psi = \sum_i \int_0^{H_{ii}} S_i(\alpha h)\, dh, \qquad \mu(\zeta, v) = \mathrm{tr}(S(v) H(\zeta)).$$

    Psi is tr(P H) for SGD, $\tfrac{2}{\sqrt\alpha} \mathrm{tr}\,\mathrm{Diag}(H)^{1/2}$ for Adam with eps = 0, and a
    multiple of $\mathrm{tr}\,\mathrm{Diag}(H)^{1-\rho}$ for AdamE; the limits of `slow_fixed_point` are its minima
    along the manifold. An optimizer that averages v over blocks has no such Psi but at a given v.

    Args:
        problem: any problem.
        w: the point, shape (D,).
        optimizer: as for `slow_ode`.
        batch_size: b.
        label_noise: the STANDARD DEVIATION sigma; None takes the problem's.
        second_moment: v, shape (D,): mu(zeta, v) in place of Psi.

    Raises:
        ValueError: an argument does not fit.
        NotImplementedError: there is no slow dynamics for the optimizer, or no Psi.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=2.0, b=1.0)
        >>> point = problem.point(1.0)
        >>> [round(ss.solver.manifold.sharpness(problem, point, o), 4) for o in (ss.SGD(0.1), ss.Adam(0.1, eps=0.0))]
        [3.1242, 9.5202]

    Source: "Slow dynamics of Adam" (paper 004), lemma 5.1 and theorems 5.1, 5.2; docs/theory/slow-dynamics.md.
    """
    setting = slow_setting(problem, optimizer)
    point = _checks.vector("w", w, problem.dimension)
    if not setting.adaptive and second_moment is not None:
        raise _checks.error("second_moment", second_moment, "None for SGD", "leave it out")
    v = None if second_moment is None else _checks.vector("second_moment", second_moment, problem.dimension)
    hessian = local(problem, point)[2]
    if not setting.adaptive:
        return float(np.sum(setting.directions @ setting.directions.T * hessian))
    h = np.maximum(np.diag(hessian), 0.0)
    if v is not None:
        return float(setting.scale(v) @ h)
    alpha = noise_level(problem, label_noise, batch_size)
    with jax.enable_x64(True):
        if mixes_parameters(optimizer) or not np.allclose(setting.average(h), h):
            raise NotImplementedError("means over parameters have a sharpness only at a second_moment: pass one")
    x = (1 + _NODES) / 2
    levels = h * x[:, None] ** _ROOT
    density = np.stack([setting.scale(alpha * level) for level in levels])
    weights = _WEIGHTS / 2 * _ROOT * x ** (_ROOT - 1)
    return float(np.sum(weights[:, None] * np.where(h > 0, density, 0.0) * h))
