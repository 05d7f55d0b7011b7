"""Natural gradient: steps measured by the covariance of the gradient noise."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import set_field, spec
from sgdsim._types import ArrayT, Scalar, Schedule, apply
from sgdsim.optimizers.base import check_learning_rate, check_momentum, is_traced, rate_at
from sgdsim.optimizers.sgd import SGD, heavy_ball
from sgdsim.problems.base import Problem

_DIVERGED = 1e18  # chains beyond it have diverged: they say nothing about the noise


class NaturalGradientState(NamedTuple):
    """Heavy-ball momentum (None without), the running average of C and its weight, and the updates so far."""

    momentum: PyTree
    fisher: PyTree
    weight: PyTree
    count: PyTree


@spec
class NaturalGradient:
    r"""Gradient steps multiplied by the inverse noise covariance, heavy-ball convention [84-89].

    $$m \leftarrow \mu m + g, \qquad w \leftarrow w - \frac{\lambda}{S} C^{-1} m.$$

    C is the covariance of the gradient of a BATCH (its mean over S examples): S C is that of one example, the
    empirical Fisher matrix, so that the size of a step does not depend on S.

    With `fisher` given, C stays as it is; that of `predict(problem, NaturalGradient(lambda), ...).noise_covariance`
    is the self-consistent one. Without it C is the ensemble's own estimate: at each step the mean of xi xi' over
    the chains of a block, xi the batch gradient less the full gradient, averaged over past steps,

    $$\hat C \leftarrow \rho \hat C + (1-\rho) \tfrac1M \sum_j \xi_j \xi_j^\top$$

    (corrected for its start at 0; diverged chains do not count). Every block of chains has its own estimate. The
    inverse of an estimate is too large by about (D+1)(1-rho)/(M(1+rho)), M chains a block: use many.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        momentum: mu in [0, 1); None is 0.
        fisher: C, a positive definite D x D matrix or its length-D diagonal, of the batch-MEAN gradient;
            None for the ensemble's estimate.
        memory: rho in [0, 1): 0 uses the current step alone, which oscillates at large learning rates.
        batch_size: S; `simulate`, `sweep` and `predict` fill it in, only `as_optax` needs it here.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 0.5], label_noise=0.5)
        >>> law = ss.predict(problem, ss.NaturalGradient(0.2), batch_size=8)
        >>> [round(float(x), 5) for x in law.covariance.diagonal()]  # proportional to A^-1
        [0.01858, 0.03715]
    """

    learning_rate: Scalar | Schedule
    momentum: Scalar | Schedule | None = None
    fisher: Any = None
    memory: Scalar = 0.9
    batch_size: Any = None

    def __post_init__(self) -> None:
        size = self.batch_size
        set_field(
            self,
            learning_rate=check_learning_rate(self.learning_rate),
            momentum=check_momentum(self.momentum),
            fisher=None if self.fisher is None else _positive_definite(self.fisher),
            memory=np.asarray(_checks.fraction("memory", self.memory, "0 remembers nothing, 0.9 is the default")),
            batch_size=None if size is None else np.asarray(float(_checks.integer("batch_size", _whole(size)))),
        )

    def resolve(self, problem: Problem, batch_size: int) -> Any:
        """The same optimizer with S filled in; with a given Fisher matrix, as SGD preconditioned by (S C)^-1.

        Raises:
            ValueError: the optimizer was made for another batch size.
        """
        if self.batch_size is not None and self.batch_size != batch_size:
            raise _checks.error("batch_size", batch_size, f"{int(self.batch_size)}, like the optimizer's",
                                "leave batch_size out of NaturalGradient")
        if self.fisher is None:
            return dataclasses.replace(self, batch_size=batch_size)
        return SGD(self.learning_rate, self.momentum, _inverse(self.fisher) / batch_size)

    def as_optax(self, problem: Problem | None = None) -> optax.GradientTransformation:
        """The optax transformation; without a Fisher matrix its gradients are (D, chains) of one ensemble.

        Raises:
            ValueError: the batch size is missing, or the problem where it is needed.
        """
        if self.batch_size is None:
            raise _checks.error("batch_size", None, "known to the optimizer",
                                "pass NaturalGradient(..., batch_size=S), or use simulate, which fills it in")
        if self.fisher is not None:
            return heavy_ball(self.learning_rate, self.momentum, _inverse(self.fisher) / self.batch_size)
        if problem is None:
            raise _checks.error("problem", None, "the problem that is being learned",
                                "as_optax(problem) takes its full gradient; or pass fisher=")
        return self._estimating(problem)

    def _estimating(self, problem: Problem) -> optax.GradientTransformation:
        plain = self.momentum is None

        def init(params: jax.Array) -> NaturalGradientState:
            if params.ndim != 2 or params.shape[1] < 2 * len(params):
                raise _checks.error("chains", params.shape[1:], f"at least {2 * len(params)} in a block (2 D)",
                                    "an estimate of C needs many chains: use more, or pass fisher=")
            square = jnp.zeros((len(params), len(params)), params.dtype)
            return NaturalGradientState(None if plain else jnp.zeros_like(params), square,
                                        jnp.zeros((), params.dtype), jnp.zeros((), jnp.int32))

        def update(
            g: jax.Array, state: NaturalGradientState, params: PyTree = None
        ) -> tuple[jax.Array, NaturalGradientState]:
            fisher, weight = self._average(problem, g, params, state)
            m = g if plain else (self.momentum * state.momentum + g).astype(g.dtype)
            inverse = jnp.linalg.pinv(fisher / weight, hermitian=True)
            rate = rate_at(self.learning_rate, state.count) / self.batch_size
            step = (-rate * apply(inverse, m)).astype(g.dtype)
            return step, NaturalGradientState(None if plain else m, fisher, weight, state.count + 1)

        return optax.GradientTransformation(init, update)

    def _average(
        self, problem: Problem, g: jax.Array, params: jax.Array, state: NaturalGradientState
    ) -> tuple[jax.Array, jax.Array]:
        """The running average of C, not yet divided by its weight, and that weight."""
        noise = (g - problem.gradient(params)).astype(g.dtype)
        # A comparison with NaN is false.
        live = ((jnp.abs(noise) <= _DIVERGED) & (jnp.abs(params) <= _DIVERGED)).all(axis=0)
        noise = jnp.where(live, noise, 0)
        now = jnp.matmul(noise, noise.T, precision=jax.lax.Precision.HIGHEST) / jnp.maximum(live.sum(), 1)
        share = jnp.where(jnp.isfinite(now).all() & live.any(), 1 - self.memory, 0).astype(g.dtype)
        fisher = (1 - share) * state.fisher + share * jnp.where(share > 0, now, 0)
        return fisher, (1 - share) * state.weight + share


def _whole(size: Any) -> Any:
    return int(size) if isinstance(size, np.ndarray) and size.ndim == 0 and size == int(size) else size


def _inverse(operator: ArrayT) -> ArrayT:
    backend: Any = jnp if is_traced(operator) else np
    return 1 / operator if operator.ndim == 1 else backend.linalg.inv(operator)


def _positive_definite(fisher: ArrayLike) -> np.ndarray:
    operator = _checks.positive_semidefinite("fisher", fisher)
    values = operator if operator.ndim == 1 else np.linalg.eigvalsh(operator)
    if values.min() <= 1e-13 * values.max():
        raise _checks.error("fisher", fisher, f"positive definite (smallest eigenvalue {values.min():.3g})",
                            "directions without gradient noise have no natural step: add a multiple of I")
    return operator
