"""The loss that label-noise SGD follows: L + lambda R, its gradient, and descent on it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.solver.label_noise.derivatives import Loss, hessian, point, read_loss, third
from sgdsim.solver.label_noise.regularizer import label_noise_strength


@dataclasses.dataclass(frozen=True, eq=False)
class RegularizedLoss:
    """L + lambda R of a problem; made by `regularized_loss`.

    Attributes:
        learning_rate: eta.
        momentum: beta.
        strength: lambda.
    """

    learning_rate: float
    momentum: float
    strength: float
    _loss: Loss
    _problem: Any

    @property
    def _settings(self) -> tuple[Any, ...]:
        return tuple(jnp.float64(x) for x in (self.learning_rate, self.momentum, self.strength))

    def value(self, w: Any) -> float:
        """L + lambda R at w.

        Raises:
            ValueError: a curvature at w is at or past 2(1+beta)/eta.
        """
        with jax.enable_x64(True):
            start = jnp.asarray(point("w", w, self._problem))
            return float(self._checked(_value(self._loss, self._problem, start, *self._settings)))

    def gradient(self, w: Any) -> Vector:
        """Its gradient at w, shape (D,).

        Raises:
            ValueError: a curvature at w is at or past 2(1+beta)/eta.
        """
        with jax.enable_x64(True):
            start = jnp.asarray(point("w", w, self._problem))
            return self._checked(_compiled_gradient(self._loss, self._problem, start, *self._settings))

    def descend(self, initial: Any, steps: int, every: int = 1) -> np.ndarray:
        r"""The regularised trajectory, heavy-ball descent on it at the learning rate of SGD itself (equation (14)).

        $$\Phi_{k+1} = \Phi_k - \eta \nabla \tilde L(\Phi_k) + \beta (\Phi_k - \Phi_{k-1}) .$$

        Args:
            initial: Phi_0, shape (D,).
            steps: how many, a multiple of `every`.
            every: keep every so many steps.

        Returns:
            Phi_0, Phi_every, ..., Phi_steps, shape (steps / every + 1, D).

        Raises:
            ValueError: the path meets a curvature at or past 2(1+beta)/eta.
        """
        inner = _checks.integer("every", every)
        total = _checks.integer("steps", steps)
        if total % inner:
            raise _checks.error("steps", steps, f"a multiple of every = {inner}", f"try {total - total % inner}")
        with jax.enable_x64(True):
            start = jnp.asarray(point("initial", initial, self._problem))
            return self._checked(_descend(self._loss, self._problem, start, *self._settings, inner, total // inner))

    def _checked(self, values: Any) -> np.ndarray:
        found = np.asarray(values)
        if not np.isfinite(found).all():
            limit = 2 * (1 + self.momentum) / self.learning_rate
            raise _checks.error("learning_rate", self.learning_rate,
                                f"so small that every curvature is below 2(1+momentum)/learning_rate = {limit:.6g}",
                                "lower it, or start at a flatter point")
        return found


def regularized_loss(
    problem: Any, learning_rate: float, *, label_noise: float, batch_size: int, momentum: float = 0.0
) -> RegularizedLoss:
    r"""The loss whose descent label-noise SGD follows from a global minimum.

    $$\tilde L = L + \lambda R, \qquad R = -\frac{1+\beta}{2\eta} \mathrm{tr}\log\Big(1 - \frac{\eta}{2(1+\beta)}
      \nabla^2 L\Big), \qquad \lambda = \frac{\eta\sigma^2}{B(1-\beta)} .$$

    The gradient of R is computed without the eigenvectors of the Hessian,
    $\nabla R = \tfrac12 \nabla^3 L \big[ (2 - \tfrac{\eta}{1+\beta} \nabla^2 L)^{-1} \big]$.

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times. D x D matrices are kept.
        learning_rate: eta.
        label_noise: the STANDARD DEVIATION sigma of the noise on a label.
        batch_size: B.
        momentum: beta of the heavy ball, in [0, 1).

    Returns:
        A `RegularizedLoss` with `.value(w)`, `.gradient(w)` and `.descend(initial, steps)`, in double precision.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> from sgdsim.solver import regularized_loss
        >>> valley = lambda w: 0.5 * (1 + w[1] ** 2) * w[0] ** 2  # minima at w[0] = 0, flattest at w[1] = 0
        >>> tilted = regularized_loss(valley, 0.5, label_noise=0.2, batch_size=1)
        >>> tilted.gradient([0.0, 1.0]).round(6).tolist()  # lambda / 2 times (2 - eta h)^-1 dh/dw
        [0.0, 0.02]

    Source: Damian, Ma and Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", equations (1), (13), (14).
    """
    loss, known = read_loss(problem)
    rate, beta = _checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum)
    strength = label_noise_strength(rate, label_noise=label_noise, batch_size=batch_size, momentum=beta)
    return RegularizedLoss(rate, beta, strength, loss, known)


def label_noise_gradient(problem: Any, w: Any, learning_rate: float, momentum: float = 0.0) -> Vector:
    r"""Gradient of the label-noise regulariser with respect to the parameters.

    $$\nabla R = \tfrac12 \nabla^3 L \Big[ \Big(2 - \frac{\eta}{1+\beta} \nabla^2 L\Big)^{-1} \Big] .$$

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times.
        w: the point, shape (D,).
        learning_rate: eta.
        momentum: beta of the heavy ball, in [0, 1).

    Returns:
        Shape (D,), in double precision; 0 for a quadratic loss.

    Raises:
        ValueError: a curvature at w is at or past 2(1+beta)/eta.

    Examples:
        >>> from sgdsim.solver import label_noise_gradient
        >>> label_noise_gradient(lambda w: 0.5 * (1 + w[1] ** 2) * w[0] ** 2, [0.0, 1.0], 0.5).tolist()
        [0.0, 1.0]
    """
    # With sigma^2 = B (1 - beta) / eta the strength is 1.
    unit = RegularizedLoss(_checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum),
                           1.0, *read_loss(problem))
    with jax.enable_x64(True):
        start = jnp.asarray(point("w", w, unit._problem))
        rate, beta, _ = unit._settings
        return unit._checked(_slope_of_r(unit._loss, unit._problem, start, rate, beta))


def regularizer_slope(loss: Loss, problem: Any, w: Any, h: Any, rate: Any, beta: Any) -> Any:
    """The gradient of R where the Hessian is `h`, traceable; NaN at or past the limit."""
    factor = jnp.linalg.cholesky(2 * jnp.eye(len(w)) - rate / (1 + beta) * h)
    return 0.5 * third(loss, problem, w, jax.scipy.linalg.cho_solve((factor, True), jnp.eye(len(w))))


@partial(jax.jit, static_argnums=0)
def _slope_of_r(loss: Loss, problem: Any, w: Any, rate: Any, beta: Any) -> Any:
    return regularizer_slope(loss, problem, w, hessian(loss, problem, w), rate, beta)


@partial(jax.jit, static_argnums=0)
def _value(loss: Loss, problem: Any, w: Any, rate: Any, beta: Any, strength: Any) -> Any:
    factor = jnp.linalg.cholesky(jnp.eye(len(w)) - rate / (2 * (1 + beta)) * hessian(loss, problem, w))
    return loss(problem, w) - strength * (1 + beta) / rate * jnp.log(jnp.diagonal(factor)).sum()


def _gradient(loss: Loss, problem: Any, w: Any, rate: Any, beta: Any, strength: Any) -> Any:
    slope = jax.grad(partial(loss, problem))(w)
    return slope + strength * _slope_of_r(loss, problem, w, rate, beta)


_compiled_gradient = jax.jit(_gradient, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 7))
def _descend(
    loss: Loss, problem: Any, start: Any, rate: Any, beta: Any, strength: Any, every: Any, records: int
) -> Any:
    def step(_: Any, state: Any) -> Any:
        w, before = state
        return w - rate * _gradient(loss, problem, w, rate, beta, strength) + beta * (w - before), w

    def stretch(state: Any, _: Any) -> Any:
        moved = jax.lax.fori_loop(0, every, step, state)
        return moved, moved[0]

    kept = jax.lax.scan(stretch, (start, start), length=records)[1]
    return jnp.concatenate([start[None], kept])
