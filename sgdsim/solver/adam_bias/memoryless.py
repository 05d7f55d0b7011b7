"""Memory removal: an optimizer with memory, written as an iteration in the current point alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.optimizers import Optimizer, check_optimizer
from sgdsim.optimizers.base import constant
from sgdsim.problems.base import Problem
from sgdsim.solver.adam_bias.batch_order import Batches, BatchGradient, batch_gradients

KINDS = ("corrected", "main", "memory")
Carry: TypeAlias = tuple[Array, optax.OptState]


class Terms(NamedTuple):
    """Main_t and Corr_t at a point, each of shape (D,)."""

    main: Vector
    correction: Vector


@dataclasses.dataclass(frozen=True, eq=False)
class Memoryless:
    """The memoryless form of an optimizer; made by `memoryless`.

    Attributes:
        learning_rate: eta.
        dimension: number of parameters D.
        steps: number of batches in the order, or None where every step is known.
    """

    learning_rate: float
    dimension: int
    steps: int | None
    _gradient: BatchGradient
    _transformation: optax.GradientTransformation

    def terms(self, w: ArrayLike, step: int) -> Terms:
        """Main_t and Corr_t at `w` for t = `step` (0 is the first step)."""
        t = _checks.integer("step", step, low=0, high=None if self.steps is None else self.steps - 1)
        with jax.enable_x64(True):
            point = jnp.asarray(_checks.vector("w", w, self.dimension))
            found = self._terms(point, t, t + 1 if self.steps is None else self.steps)
            return Terms(*(np.asarray(value) for value in found))

    def main(self, w: ArrayLike, step: int) -> Vector:
        """F_t(w, ..., w): the direction had the chain stood at `w` all along."""
        return self.terms(w, step).main

    def correction(self, w: ArrayLike, step: int) -> Vector:
        """Corr_t(w): what the way travelled adds at first order in the learning rate."""
        return self.terms(w, step).correction

    def trajectory(self, initial: ArrayLike, steps: int | None = None, kind: str = "corrected") -> np.ndarray:
        """Follow the iteration.

        Args:
            initial: theta_0, shape (D,).
            steps: how many; None follows the whole batch order.
            kind: "corrected" steps by -eta Main - eta^2 Corr, "main" by -eta Main, and "memory" is the optimizer
                itself. A memoryless trajectory costs O(steps^2) gradients.

        Returns:
            theta_0, ..., theta_steps, shape (steps + 1, D).
        """
        _checks.choice("kind", kind, KINDS)
        length = self.steps if steps is None else _checks.integer("steps", steps, high=self.steps)
        if length is None:
            raise _checks.error("steps", None, "a whole number", "the batch order has no end of its own")
        with jax.enable_x64(True):
            start = jnp.asarray(_checks.vector("initial", initial, self.dimension))
            if kind == "memory":
                return np.asarray(self._with_memory(start, length))
            return np.asarray(self._without_memory(start, length, kind == "corrected"))

    @cached_property
    def _terms(self) -> Callable[[Array, int, int], tuple[Array, Array]]:
        gradient, transformation = self._gradient, self._transformation
        return jax.jit(lambda w, t, length: memoryless_terms(gradient, transformation, w, t, length), static_argnums=2)

    def _with_memory(self, start: Array, length: int) -> Array:
        def step(carry: Carry, k: Array) -> tuple[Carry, Array]:
            w, state = carry
            update, state = self._transformation.update(self._gradient(w, k), state, w)
            w = w + self.learning_rate * update
            return (w, state), w

        @jax.jit
        def follow(w: Array) -> Array:
            rest = jax.lax.scan(step, (w, self._transformation.init(w)), jnp.arange(length))[1]
            return jnp.concatenate([w[None], rest])

        return follow(start)

    def _without_memory(self, start: Array, length: int, corrected: bool) -> Array:
        def step(w: Array, t: Array) -> tuple[Array, Array]:
            main, correction = memoryless_terms(self._gradient, self._transformation, w, t, length)
            w = w - self.learning_rate * main
            if corrected:
                w = w - self.learning_rate**2 * correction
            return w, w

        @jax.jit
        def follow(w: Array) -> Array:
            return jnp.concatenate([w[None], jax.lax.scan(step, w, jnp.arange(length))[1]])

        return follow(start)


def memoryless(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    batches: Batches = None,
    *,
    learning_rate: float | None = None,
) -> Memoryless:
    r"""Remove the memory of an optimizer that sees a fixed order of batches.

    For $\theta_{t+1} = \theta_t - \eta F_t(\theta_t, \dots, \theta_0)$ the iteration

    $$\theta_{t+1} = \theta_t - \eta\,\mathrm{Main}_t(\theta_t) - \eta^2\,\mathrm{Corr}_t(\theta_t), \quad
      \mathrm{Main}_t(\theta) = F_t(\theta, \dots, \theta), \quad
      \mathrm{Corr}_t = \sum_{k=0}^{t-1} \frac{\partial F_t}{\partial \theta_k} T_k, \quad
      T_k = \sum_{s=k}^{t-1} \mathrm{Main}_s$$

    stays O(eta^2)-close for O(1/eta) steps (without Corr only O(eta)). Corr is one directional
    derivative: of the gradients along the T_k (a reverse cumulative sum), then of F along these and, where it looks at
    past parameters too (decay before the moments), along the T_k themselves. For heavy-ball SGD, F is the trace
    sum_k beta^(t-k) grad L_k, not the EMA.

    Args:
        problem: any differentiable problem.
        optimizer: `SGD`, `Adam` or another description with a constant learning rate; or an optax transformation
            for a learning rate of 1 (then give `learning_rate`). The paper's Adam is `Adam(..., eps=0, eps_root=...)`.
        batches: the batch order. None: the full loss at every step. An integer array (steps, b): the examples of
            each batch, for a data set. A function (w, k) -> gradient of L_k at w, traceable by JAX. Else the
            examples themselves, arrays with leading axes (steps, b), as `problem.example_gradient` takes them.
        learning_rate: eta, with an optax transformation only.

    Returns:
        A `Memoryless` with `.terms(w, step)` and `.trajectory(initial, steps)`; computed in float64.

    Raises:
        ValueError: an argument is out of range, or the batches do not fit the problem.
        NotImplementedError: the learning rate is a schedule.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.Quadratic(hessian=[2.0], example_noise_covariance=[0.0])
        >>> form = ss.solver.adam_bias.memoryless(problem, ss.SGD(0.01, momentum=0.5))
        >>> form.main([1.0], 2), form.correction([1.0], 2)  # (1 + .5 + .25) 2 and .5 (2 * 3) + .25 (2 * (3 + 2))
        (array([3.5]), array([5.5]))

    Source: Cattaneo and Shigida, "The Effect of Mini-Batch Noise on the Implicit Bias of Adam", Theorem C.1, equations
    (4), (5) and (11).
    """
    transformation, rate = unit_transformation(problem, optimizer, learning_rate)
    gradient, steps = batch_gradients(problem, batches)
    return Memoryless(rate, problem.dimension, steps, gradient, transformation)


def memoryless_terms(
    gradient: BatchGradient, transformation: optax.GradientTransformation, w: Array, t: Array | int, length: int
) -> tuple[Array, Array]:
    """Main_t and Corr_t for t < length; `w` and `t` may be traced."""
    steps = jnp.arange(length)

    def gradients(points: Array) -> Array:
        return jax.vmap(gradient)(points, steps)

    def directions(g: Array, points: Array) -> Array:
        def step(state: optax.OptState, seen: tuple[Array, Array]) -> tuple[optax.OptState, Array]:
            update, state = transformation.update(seen[0], state, seen[1])
            return state, -update

        return jax.lax.scan(step, transformation.init(points[0]), (g, points))[1]

    here = jnp.broadcast_to(w, (length, *w.shape))
    main = directions(gradients(here), here)
    past = jnp.where(steps[:, None] < t, main, 0)
    travelled = jnp.cumsum(past[::-1], axis=0)[::-1]
    g, turned = jax.jvp(gradients, (here,), (travelled,))
    correction = jax.jvp(lambda seen, at: directions(seen, at)[t], (g, here), (turned, travelled))[1]
    # A parameter that the data never touch has v = 0, where Adam's root has no derivative: it does not move.
    untouched = jnp.all((g == 0) & (turned == 0), axis=0)
    return main[t], jnp.where(untouched & jnp.isnan(correction), 0.0, correction)


def unit_transformation(
    problem: Problem, optimizer: Optimizer | optax.GradientTransformation, learning_rate: float | None
) -> tuple[optax.GradientTransformation, float]:
    """The optimizer for a learning rate of 1, and its learning rate.

    Raises:
        ValueError: `learning_rate` does not go with this optimizer.
        NotImplementedError: the learning rate is a schedule.
    """
    known, transformation = check_optimizer(optimizer, problem.dimension)
    if known is None:
        if learning_rate is None:
            raise _checks.error("learning_rate", None, "given with an optax transformation",
                                "make that for a learning rate of 1, and pass the true one here")
        return transformation, _checks.positive("learning_rate", learning_rate)
    if learning_rate is not None:
        raise _checks.error("learning_rate", learning_rate, "None: the optimizer has its own", "leave it out")
    if callable(known.learning_rate):
        raise NotImplementedError("memory removal needs a constant learning rate, not a schedule: pass one value")
    rate = constant(known.learning_rate)
    return dataclasses.replace(known, learning_rate=1.0).as_optax(problem), rate  # type: ignore[type-var]
