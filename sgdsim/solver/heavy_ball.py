"""SGD with momentum and a matrix learning rate under additive noise, as one linear step of (w, m)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import is_array
from sgdsim.solver.lyapunov import discrete_lyapunov


def companion(hessian: Any, learning_rate_matrix: Any, momentum: Any) -> tuple[Any, Any]:
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


def stationary_covariance(hessian: Any, noise: Any, learning_rate_matrix: Any, momentum: Any = 0.0) -> Any:
    r"""Covariance of w under m <- mu m + H (w - w*) + xi, w <- w - L m, with Cov(xi) = C.

    $$(1-\mu)(LH\Sigma + \Sigma HL) - \tfrac{1+\mu^2}{1-\mu^2} LH\Sigma HL
        + \tfrac{\mu}{1-\mu^2}(LHLH\Sigma + \Sigma HLHL) = LCL \quad [3].$$

    L need neither be symmetric nor commute with H (then read L' for the right-hand L). Differentiable.

    Args:
        hessian: H, shape (D, D).
        noise: C, covariance of the gradient the optimizer sees (already divided by the batch size), (D, D).
        learning_rate_matrix: L = lambda P, shape (D, D).
        momentum: mu in [0, 1).

    Raises:
        ValueError: full-batch descent itself is unstable (spectral radius >= 1; concrete inputs only).

    Examples:
        >>> import numpy as np
        >>> from sgdsim.solver import stationary_covariance
        >>> float(stationary_covariance(np.eye(1), np.eye(1), 0.5 * np.eye(1))[0, 0])  # l / (2 - l)
        0.3333333333333333
    """
    if not any(isinstance(x, jax.core.Tracer) for x in (hessian, noise, learning_rate_matrix, momentum)):
        hessian, noise, learning_rate_matrix, momentum = (
            np.asarray(x, np.float64) for x in (hessian, noise, learning_rate_matrix, momentum)
        )
        momentum = float(momentum)
    step, entry = companion(hessian, learning_rate_matrix, momentum)
    dimension = hessian.shape[-1]
    return discrete_lyapunov(step, entry @ noise @ entry.T)[:dimension, :dimension]
