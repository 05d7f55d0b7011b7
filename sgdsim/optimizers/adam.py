"""Adam."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from sgdsim import _checks
from sgdsim._types import set_field, spec
from sgdsim.optimizers.base import check_learning_rate, rate_at


class AdamState(NamedTuple):
    """First and second moments of the gradient and the number of updates so far."""

    m: Any
    v: Any
    count: Any


@spec
class Adam:
    r"""Adam with bias correction, epsilon outside the root (optax's default convention).

    $$m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
      w \leftarrow w - \lambda \frac{\hat m}{\sqrt{\hat v} + \epsilon}.$$

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        b1: beta_1 in [0, 1).
        b2: beta_2 in [0, 1).
        eps: epsilon >= 0, added to the root.

    Raises:
        ValueError: an argument is outside its range.

    Example:
        >>> import sgdsim as ss
        >>> float(ss.Adam(learning_rate=0.01).b2)
        0.999
    """

    learning_rate: Any
    b1: Any = 0.9
    b2: Any = 0.999
    eps: Any = 1e-8

    def __post_init__(self):
        set_field(
            self,
            learning_rate=check_learning_rate(self.learning_rate),
            b1=np.asarray(_checks.fraction("b1", self.b1)),
            b2=np.asarray(_checks.fraction("b2", self.b2)),
            eps=np.asarray(_checks.non_negative("eps", self.eps, "try 1e-8")),
        )

    def as_optax(self, problem: Any = None) -> optax.GradientTransformation:
        """The optax transformation; `problem` is not needed."""

        def init(params: Any) -> AdamState:
            return AdamState(jnp.zeros_like(params), jnp.zeros_like(params), jnp.zeros((), jnp.int32))

        def update(g: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
            count = state.count + 1
            m = (self.b1 * state.m + (1 - self.b1) * g).astype(g.dtype)
            v = (self.b2 * state.v + (1 - self.b2) * g**2).astype(g.dtype)
            m_hat = m / (1 - self.b1**count)
            v_hat = v / (1 - self.b2**count)
            step = -rate_at(self.learning_rate, state.count) * m_hat / (jnp.sqrt(v_hat) + self.eps)
            return step.astype(g.dtype), AdamState(m, v, count)

        return optax.GradientTransformation(init, update)
