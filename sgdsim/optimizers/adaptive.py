"""Adaptive gradient methods in one form: a moving average of squared gradients that scales the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim._types import Params, Scalar, Schedule, apply, is_array
from sgdsim.optimizers.base import AdaptiveOptimizer, as_tree, check_learning_rate, rate_at
from sgdsim.problems.base import Problem


class AdaptiveState(NamedTuple):
    """First (None without) and second moments of the gradient and the number of updates so far."""

    m: PyTree
    v: PyTree
    count: PyTree


@spec
class AdaptiveGradient:
    r"""Any adaptive gradient method of the form of "Slow dynamics of Adam" (C1 of the theory sheet).

    $$m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) V(g \odot g), \quad
      w \leftarrow w - \lambda\, S(\hat v) \odot \hat m.$$

    With decoupled weight decay gamma each step takes lambda gamma w off as well.

    m is an average (EMA), not heavy ball: at S = 1 it equals `SGD(lambda (1 - beta_1), beta_1)`. With bias
    correction m^ = m / (1 - beta_1^t) and v^ = v / (1 - beta_2^t), t = 1 at the first step; otherwise m^ = m, v^ = v.
    `Adam`, `RMSProp`, `AdamE`, `AdamMini` and `Adalayer` are special cases.

    Args:
        learning_rate: lambda > 0, or a schedule from the step (0, 1, ...) to a rate.
        V: a LINEAR function from squared gradients (D, ...) to averages (D, ...), within each chain; None is the
            identity.
        S: an elementwise function from v (D, ...) to what multiplies the step; None is 1/sqrt(v).
        b1: beta_1 in [0, 1); None and 0 carry no m.
        b2: beta_2 in [0, 1).
        bias_correction: whether moments are corrected for their start at 0.
        weight_decay: gamma, decoupled as in `AdamW`; None is 0.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> clipped = ss.AdaptiveGradient(0.01, S=lambda v: 1 / (v + 1.0) ** 0.5, b2=0.99)
        >>> float(clipped.b2)
        0.99
    """

    learning_rate: Scalar | Schedule
    V: Any = None
    S: Any = None
    b1: Scalar | None = None
    b2: Scalar = 0.999
    bias_correction: bool = static(default=False)
    weight_decay: Scalar | None = None

    def __post_init__(self) -> None:
        set_field(
            self,
            learning_rate=check_learning_rate(self.learning_rate),
            V=as_tree(identity if self.V is None else _function("V", self.V)),
            S=InverseRoot(np.asarray(0.0), np.asarray(0.0)) if self.S is None else as_tree(_function("S", self.S)),
            b1=check_beta("b1", self.b1),
            b2=np.asarray(_checks.fraction("b2", self.b2, "0.999 is common")),
            bias_correction=_checks.flag("bias_correction", self.bias_correction),
            weight_decay=check_decoupled(self.weight_decay),
        )

    def as_optax(self, problem: Problem | None = None) -> optax.GradientTransformation:
        """The optax transformation; `problem` is not needed."""
        return adaptive(self)


def adaptive(optimizer: AdaptiveOptimizer) -> optax.GradientTransformation:
    """The update of `AdaptiveGradient` for any optimizer with its fields."""
    plain = optimizer.b1 is None
    b1, b2 = 0.0 if optimizer.b1 is None else optimizer.b1, optimizer.b2
    decay = getattr(optimizer, "weight_decay", None)

    def init(params: PyTree) -> AdaptiveState:
        m = None if plain else jnp.zeros_like(params)
        return AdaptiveState(m, jnp.zeros_like(params), jnp.zeros((), jnp.int32))

    def update(g: PyTree, state: AdaptiveState, params: PyTree = None) -> tuple[PyTree, AdaptiveState]:
        count = state.count + 1
        m = g if plain else (b1 * state.m + (1 - b1) * g).astype(g.dtype)
        v = (b2 * state.v + (1 - b2) * optimizer.V(g**2)).astype(g.dtype)
        rate, v_hat = rate_at(optimizer.learning_rate, state.count), v
        if optimizer.bias_correction:
            rate = rate if plain else rate / (1 - b1**count)
            v_hat = v / (1 - b2**count)
        step = (-rate * m * optimizer.S(v_hat)).astype(g.dtype)
        if decay is not None:
            if params is None:
                raise _checks.error("params", None, "the parameters, which decay", "pass them to update")
            step = (step - rate_at(optimizer.learning_rate, state.count) * decay * params).astype(g.dtype)
        return step, AdaptiveState(None if plain else m, v, count)

    return optax.GradientTransformation(init, update)


class MomentScaled:
    """What Adam and its relatives share: a step divided by the root of the second moment."""

    eps: Scalar
    eps_root: Scalar

    def __post_init__(self) -> None:
        set_field(self, **check_moments(self))

    @property
    def S(self) -> Callable[[Params], Params]:
        """What multiplies the step, as a function of v."""
        return InverseRoot(self.eps, self.eps_root)

    def as_optax(self: AdaptiveOptimizer, problem: Problem | None = None) -> optax.GradientTransformation:
        """The optax transformation; `problem` is not needed."""
        return adaptive(self)


def identity(squares: Params) -> Params:
    """V of Adam and RMSProp: every parameter has its own average."""
    return squares


@spec
class InverseRoot:
    """S(v) = 1 / (sqrt(v + eps_root) + eps)."""

    eps: Scalar
    eps_root: Scalar

    def __call__(self, v: Params) -> Params:
        """S(v), the shape of `v`."""
        return 1 / (jnp.sqrt(v + self.eps_root) + self.eps)


@spec
class InversePower:
    """S(v) = 1 / ((v + eps_root)^exponent + eps)."""

    eps: Scalar
    eps_root: Scalar
    exponent: Scalar

    def __call__(self, v: Params) -> Params:
        """S(v), the shape of `v`."""
        return 1 / ((v + self.eps_root) ** self.exponent + self.eps)


@spec
class BlockMean:
    """V(g^2): the mean over each block of parameters, given back to every parameter of the block."""

    labels: tuple[int, ...] = static()

    def __call__(self, squares: Params) -> Params:
        """The means, the shape of `squares` (D, ...)."""
        labels = np.array(self.labels)
        if len(labels) != len(squares):
            raise _checks.error("blocks", self.labels, f"of {len(squares)} parameters in all, like the problem",
                                "give every parameter one block")
        member = labels == np.arange(labels.max() + 1)[:, None]
        return apply(jnp.asarray(member / member.sum(axis=1, keepdims=True), squares.dtype), squares)[labels]


def check_beta(name: str, value: Scalar | None) -> np.ndarray | None:
    """A float64 array in (0, 1), or None for 0: then no first moment is ever carried."""
    beta = 0.0 if value is None else _checks.fraction(name, value)
    return np.asarray(beta) if beta else None


def check_decoupled(value: Scalar | None) -> np.ndarray | None:
    """A float64 array above 0, or None for 0: then the parameters are never looked at."""
    decay = 0.0 if value is None else _checks.non_negative("weight_decay", value, "0.01 is common; None is 0")
    return np.asarray(decay) if decay else None


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
        "bias_correction": _checks.flag("bias_correction", optimizer.bias_correction),
        **check_epsilons(optimizer),
        **({"weight_decay": check_decoupled(optimizer.weight_decay)} if hasattr(optimizer, "weight_decay") else {}),
    }


def check_blocks(name: str, blocks: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
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


def _function(name: str, value: object) -> Callable[[Params], Params]:
    if not callable(value) or is_array(value):
        raise _checks.error(name, value, "a function of an array (D, ...)", "or leave it out for Adam's own")
    return value
