"""What an optimizer description offers, and how a learning rate is checked."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax

from sgdsim import _checks


@runtime_checkable
class Optimizer(Protocol):
    """An optimizer as a frozen pytree whose hyperparameters are arrays, so that a sweep compiles once.

    Its transformation acts along the first axis of (D, ...) arrays: one call updates every chain.
    """

    learning_rate: Any

    def as_optax(self, problem: Any = None) -> optax.GradientTransformation:
        """The same optimizer as an optax transformation."""
        ...


def check_learning_rate(learning_rate: Any) -> Any:
    """A positive float64 array, or a schedule left as it is."""
    if callable(learning_rate):
        return learning_rate
    return np.asarray(_checks.positive("learning_rate", learning_rate, "try 0.1, or a schedule step -> rate"))


def check_momentum(momentum: Any) -> Any:
    """A float64 array in (0, 1), or a static Python 0: then no momentum array is ever carried."""
    mu = _checks.fraction("momentum", momentum)
    return np.asarray(mu) if mu else 0.0


def is_traced(value: Any) -> bool:
    """Whether `value` is known to JAX alone."""
    return isinstance(value, jax.Array)


def resolve(optimizer: Any, problem: Any, batch_size: int) -> Any:
    """The optimizer with what it takes from the problem and the batch size worked out, on the host in float64.

    `DampedNewton` becomes `SGD` with a preconditioner; most optimizers stay as they are.
    """
    method = getattr(optimizer, "resolve", None)
    return optimizer if method is None else method(problem, batch_size)


def rate_at(learning_rate: Any, count: Any) -> Any:
    """The learning rate of step `count` (the first step is 0)."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def check_optimizer(optimizer: Any, dimension: int) -> tuple[Optimizer | None, Any]:
    """Tell a described optimizer from an optax transformation: one of the two returned is None.

    Raises:
        ValueError: it is neither, or its preconditioner, Fisher matrix or blocks have another dimension than
            the problem.
    """
    if isinstance(optimizer, Optimizer):
        for name in ("preconditioner", "fisher"):
            p = getattr(optimizer, name, None)
            if p is not None and p.shape[0] != dimension:
                raise _checks.error(name, p, f"of dimension {dimension} like the problem (got {p.shape})",
                                    "give it one row and column for each parameter")
        if getattr(optimizer, "dimension", dimension) != dimension:
            name = "blocks" if hasattr(optimizer, "blocks") else "layers"
            raise _checks.error(name, getattr(optimizer, name),
                                f"of {dimension} parameters in all, like the problem",
                                "give every parameter one block")
        return optimizer, None
    if isinstance(optimizer, optax.GradientTransformation):
        return None, optimizer
    raise _checks.error("optimizer", optimizer, "a sgdsim optimizer or an optax.GradientTransformation",
                        "try ss.SGD(learning_rate=0.1)")
