"""SGD with heavy-ball momentum and a matrix learning rate."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgdsim import _checks
from sgdsim._types import apply, set_field, spec
from sgdsim.optimizers.base import check_learning_rate, check_momentum, rate_at


class SGDState(NamedTuple):
    """The heavy-ball momentum m (None without momentum) and the number of updates so far."""

    momentum: Any
    count: Any


@spec
class SGD:
    r"""Stochastic gradient descent, heavy-ball convention.

    $$m \leftarrow \mu m + g, \qquad w \leftarrow w - \lambda P m.$$

    This is `optax.sgd(momentum=mu)` and PyTorch's SGD, not the EMA form m <- mu m + (1-mu) g.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        momentum: mu in [0, 1).
        preconditioner: P, a length-D diagonal or a D x D matrix, not necessarily symmetric; None means I.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> float(ss.SGD(learning_rate=0.1, momentum=0.9).learning_rate)
        0.1
    """

    learning_rate: Any
    momentum: Any = 0.0
    preconditioner: Any = None

    def __post_init__(self):
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
        )

    def as_optax(self, problem: Any = None) -> optax.GradientTransformation:
        """The optax transformation; `problem` is not needed."""
        return heavy_ball(self.learning_rate, self.momentum, self.preconditioner)


def heavy_ball(learning_rate: Any, momentum: Any, preconditioner: Any) -> optax.GradientTransformation:
    """The update of `SGD`; a momentum that is a Python float counts as 0."""
    plain = isinstance(momentum, float)

    def init(params: Any) -> SGDState:
        trace = None if plain else jax.tree.map(jnp.zeros_like, params)
        return SGDState(trace, jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: SGDState, params: Any = None) -> tuple[Any, SGDState]:
        rate = rate_at(learning_rate, state.count)
        m = gradient
        if not plain:
            m = jax.tree.map(lambda old, g: (momentum * old + g).astype(g.dtype), state.momentum, gradient)
        direction = m if preconditioner is None else apply(preconditioner, m)
        step = jax.tree.map(lambda x, g: (-rate * x).astype(g.dtype), direction, gradient)
        return step, SGDState(None if plain else m, state.count + 1)

    return optax.GradientTransformation(init, update)
