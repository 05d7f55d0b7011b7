"""Adaptive gradient methods in one form: a moving average of squared gradients that scales the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from sgdsim import _checks
from sgdsim._types import apply, is_array, set_field, spec
from sgdsim.optimizers.base import check_learning_rate, rate_at


class AdaptiveState(NamedTuple):
    """First (None without) and second moments of the gradient and the number of updates so far."""

    m: Any
    v: Any
    count: Any


@spec
class AdaptiveGradient:
    r"""Any adaptive gradient method of the form of "Slow dynamics of Adam" (C1 of the theory sheet).

    $$m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) V(g \odot g), \quad
      w \leftarrow w - \lambda\, S(\hat v) \odot \hat m.$$

    m is an average (EMA), not heavy ball: at S = 1 it equals `SGD(lambda (1 - beta_1), beta_1)`. With bias
    correction m^ = m / (1 - beta_1^t) and v^ = v / (1 - beta_2^t), t = 1 at the first step; otherwise m^ = m, v^ = v.
    `Adam`, `RMSProp`, `AdamE`, `AdamMini` and `Adalayer` are special cases.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        V: a LINEAR function from squared gradients (D, ...) to averages (D, ...), within each chain; None is the
            identity.
        S: an elementwise function from v (D, ...) to what multiplies the step; None is 1/sqrt(v).
        b1: beta_1 in [0, 1); 0 carries no m.
        b2: beta_2 in [0, 1).
        bias_correction: whether moments are corrected for their start at 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> clipped = ss.AdaptiveGradient(0.01, S=lambda v: 1 / (v + 1.0) ** 0.5, b2=0.99)
        >>> float(clipped.b2)
        0.99
    """

    learning_rate: Any
    V: Any = None
    S: Any = None
    b1: Any = 0.0
    b2: Any = 0.999
    bias_correction: Any = False

    def __post_init__(self):
        set_field(
            self,
            learning_rate=check_learning_rate(self.learning_rate),
            V=identity if self.V is None else _function("V", self.V),
            S=InverseRoot(np.asarray(0.0), np.asarray(0.0)) if self.S is None else _function("S", self.S),
            b1=check_beta("b1", self.b1),
            b2=np.asarray(_checks.fraction("b2", self.b2, "0.999 is common")),
            bias_correction=check_flag("bias_correction", self.bias_correction),
        )

    def as_optax(self, problem: Any = None) -> optax.GradientTransformation:
        """The optax transformation; `problem` is not needed."""
        return adaptive(self)


def adaptive(optimizer: Any) -> optax.GradientTransformation:
    """The update of `AdaptiveGradient` for any optimizer with its fields; a b1 that is a Python float counts as 0."""
    b1, b2, plain = optimizer.b1, optimizer.b2, isinstance(optimizer.b1, float)

    def init(params: Any) -> AdaptiveState:
        m = None if plain else jnp.zeros_like(params)
        return AdaptiveState(m, jnp.zeros_like(params), jnp.zeros((), jnp.int32))

    def update(g: Any, state: AdaptiveState, params: Any = None) -> tuple[Any, AdaptiveState]:
        count = state.count + 1
        m = g if plain else (b1 * state.m + (1 - b1) * g).astype(g.dtype)
        v = (b2 * state.v + (1 - b2) * optimizer.V(g**2)).astype(g.dtype)
        rate, v_hat = rate_at(optimizer.learning_rate, state.count), v
        if optimizer.bias_correction:
            rate = rate if plain else rate / (1 - b1**count)
            v_hat = v / (1 - b2**count)
        step = (-rate * m * optimizer.S(v_hat)).astype(g.dtype)
        return step, AdaptiveState(None if plain else m, v, count)

    return optax.GradientTransformation(init, update)


def identity(squares: Any) -> Any:
    """V of Adam and RMSProp: every parameter has its own average."""
    return squares


@spec
class InverseRoot:
    """S(v) = 1 / (sqrt(v + eps_root) + eps)."""

    eps: Any
    eps_root: Any

    def __call__(self, v: Any) -> Any:
        """S(v), the shape of `v`."""
        return 1 / (jnp.sqrt(v + self.eps_root) + self.eps)


@spec
class InversePower:
    """S(v) = 1 / ((v + eps_root)^exponent + eps)."""

    eps: Any
    eps_root: Any
    exponent: Any

    def __call__(self, v: Any) -> Any:
        """S(v), the shape of `v`."""
        return 1 / ((v + self.eps_root) ** self.exponent + self.eps)


@spec
class BlockMean:
    """V(g^2): the mean over each block of parameters, given back to every parameter of the block."""

    labels: tuple[int, ...]

    def __call__(self, squares: Any) -> Any:
        """The means, the shape of `squares` (D, ...)."""
        labels = np.array(self.labels)
        if len(labels) != len(squares):
            raise _checks.error("blocks", self.labels, f"of {len(squares)} parameters in all, like the problem",
                                "give every parameter one block")
        member = labels == np.arange(labels.max() + 1)[:, None]
        return apply(jnp.asarray(member / member.sum(axis=1, keepdims=True), squares.dtype), squares)[labels]


def check_beta(name: str, value: Any) -> Any:
    """A float64 array in (0, 1), or a static Python 0: then no first moment is ever carried."""
    beta = _checks.fraction(name, value)
    return np.asarray(beta) if beta else 0.0


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise _checks.error(name, value, "True or False", f"try {name}=True")
    return bool(value)


def check_epsilons(optimizer: Any) -> dict[str, np.ndarray]:
    """Both epsilons as float64 arrays."""
    return {name: np.asarray(_checks.non_negative(name, getattr(optimizer, name), "try 1e-8"))
            for name in ("eps", "eps_root")}


def check_moments(optimizer: Any) -> dict[str, Any]:
    """Every field that all of Adam's relatives share, checked."""
    return {
        "learning_rate": check_learning_rate(optimizer.learning_rate),
        "b1": np.asarray(_checks.fraction("b1", optimizer.b1)),
        "b2": np.asarray(_checks.fraction("b2", optimizer.b2, "0.999 is common")),
        "bias_correction": check_flag("bias_correction", optimizer.bias_correction),
        **check_epsilons(optimizer),
    }


def check_blocks(name: str, blocks: Any) -> tuple[tuple[int, ...], ...]:
    """Blocks of parameter numbers as tuples: every number from 0 to D - 1 exactly once.

    Raises:
        ValueError: they are no partition.
    """
    remedy = "such as [[0, 1], [2]]"
    listed = isinstance(blocks, Sequence | np.ndarray) and not isinstance(blocks, str) and len(blocks)
    if not listed or any(np.ndim(block) != 1 or not len(block) for block in blocks):
        raise _checks.error(name, blocks, "a list of lists of parameter numbers, none empty", remedy)
    chosen = tuple(tuple(_checks.integer(name, i, low=0, remedy=remedy) for i in block) for block in blocks)
    if sorted(i for block in chosen for i in block) != list(range(sum(map(len, chosen)))):
        raise _checks.error(name, blocks, "a partition: every number from 0 to D - 1 in exactly one block", remedy)
    return chosen


def labels_of(blocks: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The number of the block of every parameter."""
    where = {i: number for number, block in enumerate(blocks) for i in block}
    return tuple(where[i] for i in range(len(where)))


def _function(name: str, value: Any) -> Callable[[Any], Any]:
    if not callable(value) or is_array(value):
        raise _checks.error(name, value, "a function of an array (D, ...)", "or leave it out for Adam's own")
    return value
