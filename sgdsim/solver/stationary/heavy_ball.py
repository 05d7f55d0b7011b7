"""SGD with momentum and a matrix learning rate under additive noise, as one linear step of (w, m)."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import is_array
from sgdsim.solver.linear_algebra.lyapunov import discrete_lyapunov

A = TypeVar("A", np.ndarray, Array)


def companion(hessian: A, learning_rate_matrix: A, momentum: A | float) -> tuple[A, A]:
    r"""The step of z = (w - w*, m) and the way gradient noise enters it.

    $$z \leftarrow \begin{pmatrix} I - LH & -\mu L \\ H & \mu I \end{pmatrix} z
        + \begin{pmatrix} -L \\ I \end{pmatrix} \xi.$$

    Shapes (2D, 2D) and (2D, D); without momentum only the first block remains, (D, D) and (D, D).
    """
    backend = jnp if any(isinstance(x, jax.Array) for x in (hessian, learning_rate_matrix, momentum)) else np
    identity = backend.eye(hessian.shape[-1])
    step = identity - learning_rate_matrix @ hessian
    if is_array(momentum) or momentum:
        return (
            backend.block([[step, -momentum * learning_rate_matrix], [hessian, momentum * identity]]),
            backend.vstack([-learning_rate_matrix, identity]),
        )
    return step, -learning_rate_matrix


def stationary_covariance(
    hessian: ArrayLike, noise_covariance: ArrayLike, learning_rate_matrix: ArrayLike, momentum: ArrayLike = 0.0
) -> Any:
    r"""Covariance of w under m <- mu m + H (w - w*) + xi, w <- w - L m, with Cov(xi) = C.

    $$(1-\mu)(LH\Sigma + \Sigma HL) - \tfrac{1+\mu^2}{1-\mu^2} LH\Sigma HL
        + \tfrac{\mu}{1-\mu^2}(LHLH\Sigma + \Sigma HLHL) = LCL \quad [3].$$

    L need neither be symmetric nor commute with H (then read L' for the right-hand L). Differentiable.

    Args:
        hessian: H, shape (D, D).
        noise_covariance: C, of the batch's gradient (already divided by the batch size), (D, D).
        learning_rate_matrix: L = lambda P, shape (D, D).
        momentum: mu in [0, 1).

    Raises:
        ValueError: full-batch descent itself is unstable (spectral radius >= 1; concrete inputs only).

    Examples:
        >>> import numpy as np
        >>> from sgdsim.solver.stationary import stationary_covariance
        >>> float(stationary_covariance(np.eye(1), np.eye(1), 0.5 * np.eye(1))[0, 0])  # l / (2 - l)
        0.3333333333333333
    """
    given = {"hessian": hessian, "noise_covariance": noise_covariance, "learning_rate_matrix": learning_rate_matrix}
    if any(isinstance(x, jax.core.Tracer) for x in (*given.values(), momentum)):
        h, c, rate = (jnp.asarray(x) for x in given.values())
        return _covariance(h, c, rate, momentum if isinstance(momentum, jax.Array) else _number(momentum))
    matrices = [_checks.finite_array(name, x) for name, x in given.items()]
    return _covariance(matrices[0], matrices[1], matrices[2], _number(momentum))


def _number(momentum: ArrayLike) -> float:
    return float(np.asarray(momentum))


def _covariance(hessian: A, noise_covariance: A, learning_rate_matrix: A, momentum: A | float) -> Any:
    step, entry = companion(hessian, learning_rate_matrix, momentum)
    dimension = hessian.shape[-1]
    return discrete_lyapunov(step, entry @ noise_covariance @ entry.T)[:dimension, :dimension]
