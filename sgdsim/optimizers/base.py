"""What an optimizer description offers, and how a learning rate is checked."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

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


def rate_at(learning_rate: Any, count: Any) -> Any:
    """The learning rate of step `count` (the first step is 0)."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def check_optimizer(optimizer: Any, dimension: int) -> tuple[Optimizer | None, Any]:
    """Tell a described optimizer from an optax transformation: one of the two returned is None.

    Raises:
        ValueError: it is neither, or its preconditioner has another dimension than the problem.
    """
    if isinstance(optimizer, Optimizer):
        p = getattr(optimizer, "preconditioner", None)
        if p is not None and p.shape[0] != dimension:
            raise _checks.error("preconditioner", p, f"of dimension {dimension} like the problem (got {p.shape})",
                                "give it one row and column for each parameter")
        return optimizer, None
    if isinstance(optimizer, optax.GradientTransformation):
        return None, optimizer
    raise _checks.error("optimizer", optimizer, "a sgdsim optimizer or an optax.GradientTransformation",
                        "try ss.SGD(learning_rate=0.1)")
