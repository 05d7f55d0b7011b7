"""Lookahead as one transformation of one vector of parameters."""

from __future__ import annotations

from typing import NamedTuple

import jax
import optax
from jaxtyping import PyTree

from sgdsim import _checks


class LookaheadState(NamedTuple):
    """The state of `optax.lookahead`, and the slow weights."""

    inner: PyTree
    slow: PyTree


def lookahead(
    fast_optimizer: optax.GradientTransformation, sync_period: int, slow_step_size: float, reset_state: bool = False
) -> optax.GradientTransformation:
    r"""`optax.lookahead` with its slow weights in the state: a transformation of one vector, as all others are.

    $$\text{every } k \text{ fast steps:} \quad s \leftarrow s + \alpha (w - s), \quad w \leftarrow s.$$

    `optax.lookahead` itself steps pairs of fast and slow weights, which `simulate` and `predict` do not know. Here w
    are the fast weights. It is linear where the fast optimizer is.

    `predict` averages over the k places in a period. `simulate` measures every `provenance["thin"]`-th step, a prime:
    all places equally often unless k is a multiple of it.

    Args:
        fast_optimizer: an optax transformation; of a sgdsim optimizer, its `as_optax()`.
        sync_period: k >= 1.
        slow_step_size: alpha in (0, 1]; 1 is the fast optimizer alone.
        reset_state: whether the fast optimizer forgets its state at the end of each period.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import optax
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> theory = ss.predict(problem, ss.lookahead(optax.sgd(0.3), 5, 0.5), batch_size=4)
        >>> theory.test_loss < ss.predict(problem, ss.SGD(0.3), batch_size=4).test_loss
        True

    Source: Zhang et al., "Lookahead optimizer: k steps forward, 1 step back" (2019), algorithm 1.
    """
    if not isinstance(fast_optimizer, optax.GradientTransformation):
        raise _checks.error("fast_optimizer", fast_optimizer, "an optax transformation",
                            "try optax.sgd(0.1), or ss.SGD(0.1).as_optax()")
    share = _checks.positive("slow_step_size", slow_step_size, "try 0.5")
    if share > 1:
        raise _checks.error("slow_step_size", slow_step_size, "in (0, 1]", "try 0.5")
    pairs = optax.lookahead(fast_optimizer, _checks.integer("sync_period", sync_period), share,
                            _checks.flag("reset_state", reset_state))

    def init(params: PyTree) -> LookaheadState:
        return LookaheadState(pairs.init(optax.LookaheadParams(params, params)), params)

    def update(gradient: PyTree, state: LookaheadState, params: PyTree = None) -> tuple[PyTree, LookaheadState]:
        step, inner = pairs.update(gradient, state.inner, optax.LookaheadParams(params, state.slow))
        slow = jax.tree.map(lambda s, moved: (s + moved).astype(s.dtype), state.slow, step.slow)
        return step.fast, LookaheadState(inner, slow)

    return optax.GradientTransformation(init, update)
