"""What is known of a minibatch gradient given the weights: the full gradient, and the variance around it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax


class GradientMoments(NamedTuple):
    """What is known of every chain given its weights."""

    loss: jax.Array  # (chains,)
    gradient: jax.Array  # of the loss, (D, chains)
    data: jax.Array  # variance of one example's gradient from the inputs, (layers, chains)
    labels: jax.Array  # and from fresh label noise, (layers, chains)


class ConditionalMoments(Protocol):
    """Evaluates the moments of every chain of a block, as a frozen pytree."""

    def evaluate(self, problem: Any, params: jax.Array) -> GradientMoments:
        """The moments of every chain."""
        ...


def noise_factor(batch_size: int, n_examples: int | None, sampling: str) -> float:
    """Variance of the mean of a batch over that of one example: 1/b, or c_b for subsets."""
    if sampling != "without_replacement" or n_examples is None:
        return 1 / batch_size
    return (n_examples - batch_size) / (batch_size * max(n_examples - 1, 1))
