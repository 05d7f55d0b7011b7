"""SGD with heavy-ball momentum and a matrix learning rate."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static, summary
from sgdsim._types import Scalar, Schedule, apply
from sgdsim.optimizers.base import check_learning_rate, check_momentum, rate_at
from sgdsim.problems.base import Problem


class SGDState(NamedTuple):
    """The heavy-ball momentum m (None without momentum) and the number of updates so far."""

    momentum: PyTree
    count: PyTree


@spec
class SGD:
    r"""Stochastic gradient descent, heavy-ball convention.

    $$m \leftarrow \mu m + g, \qquad w \leftarrow w - \lambda P m.$$

    This is `optax.sgd(momentum=mu)` and PyTorch's SGD, not the EMA form m <- mu m + (1-mu) g. Nesterov's form steps
    along g + mu m with the new m, as both have it.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        momentum: mu in [0, 1); None is 0. Or a schedule.
        preconditioner: P, a length-D diagonal or a D x D matrix, not necessarily symmetric; None means I.
        nesterov: look ahead along the momentum.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> float(ss.SGD(learning_rate=0.1, momentum=0.9).learning_rate)
        0.1
    """

    learning_rate: Scalar | Schedule
    momentum: Scalar | Schedule | None = None
    preconditioner: Any = None
    nesterov: bool = static(default=False)

    def __post_init__(self) -> None:
        p = self.preconditioner
        if p is not None:
            p = _checks.finite_array("preconditioner", p)
            if p.ndim not in (1, 2) or p.size == 0 or len(set(p.shape)) != 1:
                raise _checks.error("preconditioner", self.preconditioner,
                                    f"a D x D matrix or a length-D diagonal (got shape {p.shape})",
                                    "for a scalar use learning_rate alone")
        set_field(
            self,
            learning_rate=check_learning_rate(self.learning_rate),
            momentum=check_momentum(self.momentum),
            preconditioner=p,
            nesterov=_checks.flag("nesterov", self.nesterov),
        )

    def __repr__(self) -> str:
        shown = f"learning_rate={summary(self.learning_rate)}, momentum={summary(self.momentum)}"
        ahead = ", nesterov=True" if self.nesterov else ""
        return f"SGD({shown}, preconditioner={summary(self.preconditioner)}{ahead})"

    def as_optax(self, problem: Problem | None = None) -> optax.GradientTransformation:
        """The optax transformation; `problem` is not needed."""
        return heavy_ball(self.learning_rate, self.momentum, self.preconditioner, self.nesterov)


def is_heavy_ball(optimizer: object) -> TypeGuard[SGD]:
    """Whether it is `SGD` of constant momentum, without Nesterov's step ahead: what most theories are about."""
    return isinstance(optimizer, SGD) and not optimizer.nesterov and not callable(optimizer.momentum)


def heavy_ball(
    learning_rate: Any, momentum: Any, preconditioner: Any, nesterov: bool = False
) -> optax.GradientTransformation:
    """The update of `SGD`."""
    plain = momentum is None

    def init(params: PyTree) -> SGDState:
        trace = None if plain else jax.tree.map(jnp.zeros_like, params)
        return SGDState(trace, jnp.zeros((), jnp.int32))

    def update(gradient: PyTree, state: SGDState, params: PyTree = None) -> tuple[PyTree, SGDState]:
        rate = rate_at(learning_rate, state.count)
        mu = rate_at(momentum, state.count)

        def decayed(old: Any, g: PyTree) -> Any:
            return (mu * old + g).astype(g.dtype)

        m = gradient if plain else jax.tree.map(decayed, state.momentum, gradient)
        ahead = jax.tree.map(decayed, m, gradient) if nesterov and not plain else m
        direction = ahead if preconditioner is None else apply(preconditioner, ahead)
        step = jax.tree.map(lambda x, g: (-rate * x).astype(g.dtype), direction, gradient)
        return step, SGDState(None if plain else m, state.count + 1)

    return optax.GradientTransformation(init, update)
