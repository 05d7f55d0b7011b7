"""The loss that label-noise SGD follows: L + lambda R, its gradient, and descent on it."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.derivatives import Landscape, Loss, hessian, read_landscape, read_point, third_against
from sgdsim.solver.manifold.label_noise_regularizer import label_noise_strength


@dataclasses.dataclass(frozen=True, eq=False)
class RegularizedLoss:
    """L + lambda R of a problem; made by `regularized_loss`.

    Attributes:
        learning_rate: eta.
        momentum: beta.
        strength: lambda.
        curvature: alpha.
    """

    learning_rate: float
    momentum: float
    strength: float
    curvature: float
    _landscape: Landscape

    @property
    def _settings(self) -> tuple[float, float, float]:
        return self.learning_rate, self.momentum, self.strength / self.curvature

    def value(self, w: ArrayLike) -> float:
        """L + lambda R at w.

        Raises:
            ValueError: a curvature at w is at or past 2(1+beta)/eta.
        """
        with jax.enable_x64(True):
            point = jnp.asarray(read_point("w", w, self._landscape))
            return float(self._checked(_value(self._landscape, point, *self._settings)))

    def gradient(self, w: ArrayLike) -> Vector:
        """Its gradient at w, shape (D,).

        Raises:
            ValueError: a curvature at w is at or past 2(1+beta)/eta.
        """
        with jax.enable_x64(True):
            point = jnp.asarray(read_point("w", w, self._landscape))
            return self._checked(_gradient(self._landscape, point, *self._settings))

    def descend(self, initial: ArrayLike, steps: int, every: int = 1) -> np.ndarray:
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
            start = jnp.asarray(read_point("initial", initial, self._landscape))
            return self._checked(_descend(self._landscape, start, *self._settings, inner, total // inner))

    def _checked(self, values: Array) -> np.ndarray:
        found = np.asarray(values)
        if not np.isfinite(found).all():
            limit = 2 * (1 + self.momentum) / self.learning_rate
            raise _checks.error("learning_rate", self.learning_rate,
                                f"so small that every curvature is below 2(1+momentum)/learning_rate = {limit:.6g}",
                                "lower it, or start at a flatter point")
        return found


def regularized_loss(
    problem: Problem | Loss,
    learning_rate: float,
    *,
    label_noise: float,
    batch_size: int,
    momentum: float = 0.0,
    curvature: float = 1.0,
) -> RegularizedLoss:
    r"""The loss whose descent label-noise SGD follows from a global minimum.

    $$\tilde L = L + \lambda R, \qquad R = -\frac{1+\beta}{2\eta\alpha} \mathrm{tr}\log\Big(1 - \frac{\eta}{2(1+\beta)}
      \nabla^2 L\Big), \qquad \lambda = \frac{\eta\sigma^2}{B(1-\beta)} .$$

    The gradient of R is computed without the eigenvectors of the Hessian,
    $\nabla R = \tfrac1{2\alpha} \nabla^3 L \big[ (2 - \tfrac{\eta}{1+\beta} \nabla^2 L)^{-1} \big]$.

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times. D x D matrices are kept.
        learning_rate: eta.
        label_noise: the STANDARD DEVIATION sigma of the noise on a label.
        batch_size: B.
        momentum: beta of the heavy ball, in [0, 1).
        curvature: alpha, for classification (`label_flip_constants`); 1 for the squared error.

    Returns:
        A `RegularizedLoss` with `.value(w)`, `.gradient(w)` and `.descend(initial, steps)`, in double precision.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> from sgdsim.solver.manifold import regularized_loss
        >>> valley = lambda w: 0.5 * (1 + w[1] ** 2) * w[0] ** 2  # minima at w[0] = 0, flattest at w[1] = 0
        >>> tilted = regularized_loss(valley, 0.5, label_noise=0.2, batch_size=1)
        >>> tilted.gradient([0.0, 1.0]).round(6).tolist()  # lambda / 2 times (2 - eta h)^-1 dh/dw
        [0.0, 0.02]

    Source: Damian, Ma and Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", equations (1), (13), (14).
    """
    landscape = read_landscape(problem)
    rate, beta = _checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum)
    strength = label_noise_strength(rate, label_noise=label_noise, batch_size=batch_size, momentum=beta)
    return RegularizedLoss(rate, beta, strength, _checks.positive("curvature", curvature), landscape)


def label_noise_gradient(
    problem: Problem | Loss, w: ArrayLike, learning_rate: float, momentum: float = 0.0, *, curvature: float = 1.0
) -> Vector:
    r"""Gradient of the label-noise regulariser with respect to the parameters.

    $$\nabla R = \tfrac1{2\alpha} \nabla^3 L \Big[ \Big(2 - \frac{\eta}{1+\beta} \nabla^2 L\Big)^{-1} \Big] .$$

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times.
        w: the point, shape (D,).
        learning_rate: eta.
        momentum: beta of the heavy ball, in [0, 1).
        curvature: alpha, for classification (`label_flip_constants`); 1 for the squared error.

    Returns:
        Shape (D,), in double precision; 0 for a quadratic loss.

    Raises:
        ValueError: a curvature at w is at or past 2(1+beta)/eta.

    Examples:
        >>> from sgdsim.solver.manifold import label_noise_gradient
        >>> label_noise_gradient(lambda w: 0.5 * (1 + w[1] ** 2) * w[0] ** 2, [0.0, 1.0], 0.5).tolist()
        [0.0, 1.0]
    """
    # With sigma^2 = B (1 - beta) / eta the strength is 1.
    unit = RegularizedLoss(_checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum),
                           1.0, _checks.positive("curvature", curvature), read_landscape(problem))
    with jax.enable_x64(True):
        point = jnp.asarray(read_point("w", w, unit._landscape))
        slope = unit._checked(_slope_of_r(unit._landscape, point, unit.learning_rate, unit.momentum))
    return slope / unit.curvature


def regularizer_slope(loss: Loss, w: Array, h: Array, rate: float, beta: float) -> Array:
    """The gradient of R where the Hessian is `h`, traceable; NaN at or past the limit."""
    factor = jnp.linalg.cholesky(2 * jnp.eye(len(w)) - rate / (1 + beta) * h)
    return 0.5 * third_against(loss, w, jax.scipy.linalg.cho_solve((factor, True), jnp.eye(len(w))))


@jax.jit
def _slope_of_r(landscape: Landscape, w: Array, rate: float, beta: float) -> Array:
    return regularizer_slope(landscape.loss, w, hessian(landscape.loss, w), rate, beta)


@jax.jit
def _value(landscape: Landscape, w: Array, rate: float, beta: float, strength: float) -> Array:
    factor = jnp.linalg.cholesky(jnp.eye(len(w)) - rate / (2 * (1 + beta)) * hessian(landscape.loss, w))
    return landscape.loss(w) - strength * (1 + beta) / rate * jnp.log(jnp.diagonal(factor)).sum()


@jax.jit
def _gradient(landscape: Landscape, w: Array, rate: float, beta: float, strength: float) -> Array:
    return jax.grad(landscape.loss)(w) + strength * _slope_of_r(landscape, w, rate, beta)


@partial(jax.jit, static_argnames=("every", "records"))
def _descend(
    landscape: Landscape, start: Array, rate: float, beta: float, strength: float, every: int, records: int
) -> Array:
    def step(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        w, before = state
        return w - rate * _gradient(landscape, w, rate, beta, strength) + beta * (w - before), w

    def stretch(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        moved = jax.lax.fori_loop(0, every, step, state)
        return moved, moved[0]

    kept = jax.lax.scan(stretch, (start, start), length=records)[1]
    return jnp.concatenate([start[None], kept])
