"""Minibatch gradients of a network: every chain gathers its own examples and differentiates its own loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sgdsim._types import spec
from sgdsim.kernels import subsets
from sgdsim.problems import FlaxNetwork


@spec
class NetworkKernel:
    """Fresh examples each step, drawn by `choose` (None: all of them)."""

    problem: Any
    batch_size: int
    choose: Callable[..., jax.Array] | None

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """One gradient per chain."""
        index = None
        if self.choose is not None:
            index = self.choose(key, self.problem.n_examples, self.batch_size, params.shape[1])
        return batch_gradients(self.problem, params, index), state


@spec
class NetworkEpochKernel:
    """Shuffled passes, another order in every chain and pass; the last batch of a pass may be smaller."""

    problem: Any
    batch_size: int

    def init(self, key: jax.Array, chains: int) -> subsets.EpochState:
        """The start of the first pass."""
        return subsets.start_epochs(self.problem.n_examples, chains)

    def draw(
        self, key: jax.Array, params: jax.Array, state: subsets.EpochState
    ) -> tuple[jax.Array, subsets.EpochState]:
        """One gradient per chain: the mean over the examples of this batch."""
        index, counts, state = subsets.next_batch(key, state, self.batch_size)
        weight = counts.astype(params.dtype) / counts.sum()
        return batch_gradients(self.problem, params, index, weight), state


def batch_gradients(problem: FlaxNetwork, params: jax.Array, index: Any, weight: Any = None) -> jax.Array:
    """Gradient of each chain's batch loss and penalty, shape (D, chains).

    Args:
        problem: the network and its examples.
        params: shape (D, chains).
        index: which examples, shape (rows, chains); None means all of them for every chain.
        weight: of each row in the mean, shape (rows,), summing to 1; None means equal weights.
    """
    features, targets = jnp.asarray(problem.features), jnp.asarray(problem.targets)

    def mean_loss(w: jax.Array, rows: Any) -> jax.Array:
        x, y = (features, targets) if rows is None else (features[rows], targets[rows])
        losses = problem.batch_loss(w, x, y)
        data = losses.mean() if weight is None else weight @ losses
        return data + 0.5 * problem.weight_decay * jnp.sum(w * w)

    def gradient(chain: tuple[jax.Array, Any]) -> jax.Array:
        return jax.grad(mean_loss)(*chain)

    # One chain's parameters side by side: batched products over a leading axis of chains.
    chains = (params.T, None if index is None else index.T)
    together = problem.slice_chains(problem.n_examples if index is None else len(index))
    return jax.lax.map(gradient, chains, batch_size=_divisor(params.shape[1], together)).T


def _divisor(chains: int, most: int) -> int:
    """The largest divisor of `chains` up to `most`: a rest would be compiled as a second program."""
    return next(size for size in range(min(chains, most), 0, -1) if chains % size == 0)


def network_kernel(
    problem: FlaxNetwork, batch_size: int, sampling: str, dtype: Any
) -> NetworkKernel | NetworkEpochKernel:
    """The kernel of a `FlaxNetwork` for one sampling mode."""
    if sampling == "with_replacement":
        return NetworkKernel(problem, batch_size, subsets.with_replacement)
    if batch_size == problem.n_examples:  # one batch is one pass
        return NetworkKernel(problem, batch_size, None)
    if sampling == "epochs":
        return NetworkEpochKernel(problem, batch_size)
    return NetworkKernel(problem, batch_size, subsets.floyd_subset)
