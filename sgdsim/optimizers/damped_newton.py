"""Damped Newton: steps measured by the curvature of the data loss."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from sgdsim import _checks
from sgdsim._specs import set_field, spec
from sgdsim._types import Scalar, Schedule, as_matrix, is_array
from sgdsim.optimizers.base import check_learning_rate, check_momentum, is_traced
from sgdsim.optimizers.sgd import SGD, heavy_ball
from sgdsim.problems.base import Problem

_RANK = 1e-13  # eigenvalues below this share of the largest are rounding


@spec
class DampedNewton:
    r"""Gradient steps multiplied by the inverse curvature, heavy-ball convention [83].

    $$m \leftarrow \mu m + g, \qquad w \leftarrow w - \lambda A^{-1} m.$$

    A is the Hessian of the data loss WITHOUT weight decay, fixed and exact (not estimated from the batch):
    E[x x'] of the inputs as the learner sees them for `LinearRegression` (input noise included), X'X/n for
    `DatasetRegression`, the Hessian of a `Quadratic`. Where A is singular its pseudo-inverse takes its place.
    lambda = 1 without noise reaches the minimum in one step.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        momentum: mu in [0, 1); None is 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
        >>> law = ss.predict(problem, ss.DampedNewton(0.2), batch_size=8)
        >>> [round(float(x), 6) for x in law.covariance.diagonal()]  # proportional to A^-1
        [0.003623, 0.007246]
    """

    learning_rate: Scalar | Schedule
    momentum: Scalar | Schedule | None = None

    def __post_init__(self) -> None:
        set_field(self, learning_rate=check_learning_rate(self.learning_rate), momentum=check_momentum(self.momentum))

    def resolve(self, problem: Problem, batch_size: Any = None) -> SGD:
        """The same optimizer as SGD with preconditioner A^-1, computed on the host in float64."""
        return SGD(self.learning_rate, self.momentum, inverse_curvature(problem))

    def as_optax(self, problem: Problem | None = None) -> optax.GradientTransformation:
        """The optax transformation for this problem.

        Raises:
            ValueError: there is no problem.
        """
        if problem is None:
            raise _checks.error("problem", problem, "the problem that is being learned",
                                "as_optax(problem) takes its curvature")
        return heavy_ball(self.learning_rate, self.momentum, inverse_curvature(problem))


def inverse_curvature(problem: Problem) -> Any:
    """The (pseudo-)inverse of the Hessian of the data loss, weight decay left out, shape (D, D).

    Raises:
        ValueError: the Hessian has a negative eigenvalue, or is 0.
    """
    hessian = problem.hessian()
    decay: Any = getattr(problem, "weight_decay", None)
    if is_array(decay):
        hessian = hessian - as_matrix(decay, problem.dimension)
    if is_traced(hessian):
        return jnp.linalg.pinv(hessian, hermitian=True)
    hessian = np.asarray(hessian, np.float64)
    scales = np.sqrt(np.clip(np.diag(hessian), 0, None))
    scales[scales == 0] = scales.max() or 1.0
    alike = hessian / np.outer(scales, scales)
    values = np.linalg.eigvalsh(alike)
    if values[-1] <= 0 or values[0] < -1e-10 * values[-1]:
        raise _checks.error("hessian", np.linalg.eigvalsh(hessian)[0], "without negative eigenvalues, and not 0",
                            "Newton steps climb where the curvature is negative: use SGD")
    return _pseudo_inverse(hessian)


def _pseudo_inverse(hessian: np.ndarray) -> np.ndarray:
    """Parameters without any curvature are left out, the others scaled alike: their sizes are units, not rank."""
    found, seen = np.zeros_like(hessian), np.flatnonzero(np.diag(hessian))
    inside = np.ix_(seen, seen)
    scales = np.sqrt(np.diag(hessian)[seen])
    alike = hessian[inside] / np.outer(scales, scales)
    values = np.linalg.eigvalsh(alike)
    if values[0] > _RANK * values[-1]:
        found[inside] = np.linalg.inv(alike) / np.outer(scales, scales)
    else:
        _checks.scales_of_singular("hessian", scales)
        found[inside] = np.linalg.pinv(hessian[inside], rcond=_RANK, hermitian=True)
    return found
