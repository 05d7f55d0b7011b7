"""The slow motion of label-noise SGD along the global minima, as an ordinary differential equation."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from sgdsim import _checks
from sgdsim.solver.label_noise.derivatives import Loss, hessian, point, read_loss, slope_and_hessian
from sgdsim.solver.label_noise.regularized_loss import regularizer_slope

_FLAT = 1e-6  # of the largest curvature: below it a direction is tangent to the minima
_NEAR = 1e-4  # relative distance from the minima that is put down to rounding, and removed
_NEWTON = 8
_RETURN = 10.0  # rate, per unit of slow time, at which rounding errors normal to the minima are taken back


def label_noise_flow(
    problem: Any, initial: Any, times: Any, *, learning_rate: float, momentum: float = 0.0, accuracy: float = 1e-8
) -> np.ndarray:
    r"""The limit of the regularised trajectory for lambda to 0, in slow time: gradient flow of R along the minima.

    $$\frac{d\theta}{d\tau} = -P \nabla R(\theta), \qquad \tau = \frac{\eta \lambda}{1-\beta} k, \qquad
      \lambda = \frac{\eta\sigma^2}{B(1-\beta)},$$

    with P the projector on the null space of the Hessian, the tangent space of the global minima, and k the steps of
    SGD. Only eta (through R) and the geometry enter; sigma and B only set the clock. The error of SGD's mean
    against it is of order lambda. Needs the OU process to settle in every stiff direction long before the flow
    moves: the smallest curvature that is not 0 much above lambda. Directions with less than 1e-6 of the largest
    curvature count as tangent.

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times. D x D matrices are kept.
        initial: a global minimum, shape (D,).
        times: tau, increasing from 0 on, shape (T,).
        learning_rate: eta.
        momentum: beta of the heavy ball, in [0, 1).
        accuracy: relative and absolute error of a step of the solver.

    Returns:
        theta at those times, shape (T, D), to about ten times `accuracy`.

    Raises:
        ValueError: `initial` is not a minimum, times do not increase, or a curvature reaches 2(1+beta)/eta.

    Examples:
        >>> from sgdsim.solver import label_noise_flow
        >>> valley = lambda w: 0.5 * (1 + w[1] ** 2) * w[0] ** 2
        >>> label_noise_flow(valley, [0.0, 1.0], [0.0, 2.0], learning_rate=1e-9).round(4).tolist()  # e^(-tau/2)
        [[0.0, 1.0], [0.0, 0.3679]]
    """
    loss, known = read_loss(problem)
    start = point("initial", initial, known)
    moments = _checks.finite_array("times", times)
    if moments.ndim != 1 or moments.size == 0 or moments[0] < 0 or (np.diff(moments) < 0).any():
        raise _checks.error("times", times, "increasing from 0 on, shape (T,)", "try np.linspace(0, 1, 11)")
    rate, beta = _checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum)
    error = _checks.positive("accuracy", accuracy)
    with jax.enable_x64(True):
        start = _exact_minimum(loss, known, start)

        def drift(_: float, w: np.ndarray) -> np.ndarray:
            return np.asarray(_drift(loss, known, jnp.asarray(w), jnp.float64(rate), jnp.float64(beta)))

        if not np.isfinite(drift(0.0, start)).all():
            raise _checks.error("learning_rate", rate,
                                f"such that every curvature is below 2(1+momentum)/learning_rate = "
                                f"{2 * (1 + beta) / rate:.6g}", "lower it, or start at a flatter minimum")
        # R falls along the flow: only a trial step can pass the limit. It is NaN there, and a shorter one follows.
        with np.errstate(invalid="ignore"):
            found = solve_ivp(drift, (0.0, max(float(moments[-1]), 1e-300)), start, method="DOP853", t_eval=moments,
                              rtol=error, atol=error)
    return found.y.T


def _exact_minimum(loss: Loss, problem: Any, given: np.ndarray) -> np.ndarray:
    """The minimum next to `given`, by Newton steps in the stiff directions.

    Raises:
        ValueError: it is not next to it.
    """
    w = given
    for _ in range(_NEWTON):
        slope, h = (np.asarray(x) for x in slope_and_hessian(loss, problem, jnp.asarray(w)))
        values, vectors = np.linalg.eigh(h)
        stiff = values > _FLAT * max(values[-1], 0.0)
        w = w - vectors[:, stiff] @ ((vectors.T @ slope)[stiff] / values[stiff])
    moved, size = float(np.linalg.norm(w - given)), 1 + float(np.linalg.norm(given))
    # `not <=`: NaN too
    if not (stiff.any() and moved <= _NEAR * size and values[0] >= -_FLAT * values[-1]
            and np.abs(slope).max() <= _FLAT**2 * values[-1] * size):
        raise _checks.error("initial", f"a point {moved:.3g} away from one with gradient {np.abs(slope).max():.3g} and "
                            f"curvatures from {values[0]:.3g}", "a global minimum",
                            "train on with the full batch and without noise")
    return w


@partial(jax.jit, static_argnums=0)
def _drift(loss: Loss, problem: Any, w: Any, rate: Any, beta: Any) -> Any:
    h = hessian(loss, problem, w)
    values, vectors = jnp.linalg.eigh(h)
    stiff = values > _FLAT * values[-1]
    slope = vectors.T @ regularizer_slope(loss, problem, w, h, rate, beta)
    off = vectors.T @ jax.grad(partial(loss, problem))(w) / jnp.where(stiff, values, 1.0)
    return -vectors @ jnp.where(stiff, _RETURN * off, slope)
