"""Minibatch gradients of a network: every chain gathers its own examples and differentiates its own loss."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import PyTree

from sgdsim._specs import spec, static
from sgdsim.kernels.base import Kernel, none_if_zero
from sgdsim.kernels.draws import subsets
from sgdsim.kernels.label_noise import FreshNoise, LabelFlips
from sgdsim.problems import FlaxNetwork, FromLoss
from sgdsim.problems.sampling import PASSES

FreshLabels = FreshNoise | LabelFlips


@spec
class NetworkKernel:
    """Fresh examples each step, drawn by `choose` (None: all of them)."""

    problem: FlaxNetwork | FromLoss
    batch_size: int = static()
    choose: Callable[..., jax.Array] | None = static()
    label_noise: FreshLabels | None

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain."""
        index_key, noise_key = _split(key, self.label_noise)
        index = None
        if self.choose is not None:
            index = self.choose(index_key, self.problem.n_examples, self.batch_size, params.shape[1])
        rows = self.problem.n_examples if index is None else self.batch_size
        noise = _fresh_noise(noise_key, self.label_noise, self.problem, rows, params)
        return batch_gradients(self.problem, params, index, noise=noise), state


@spec
class NetworkEpochKernel:
    """Passes over the data, in another order in every chain and, shuffled, pass; the last batch may be smaller."""

    problem: FlaxNetwork | FromLoss
    batch_size: int = static()
    shuffle: bool = static()
    label_noise: FreshLabels | None

    def init(self, key: jax.Array, chains: int) -> subsets.EpochState:
        """The start of the first pass."""
        return subsets.start_passes(key, self.problem.n_examples, chains, self.shuffle)

    def draw(
        self, key: jax.Array, params: jax.Array, state: subsets.EpochState
    ) -> tuple[jax.Array, subsets.EpochState]:
        """One gradient per chain: the mean over the examples of this batch."""
        index_key, noise_key = _split(key, self.label_noise)
        index, counts, state = subsets.next_batch(index_key, state, self.batch_size, shuffle=self.shuffle)
        weight = jnp.broadcast_to((counts.astype(params.dtype) / counts.sum())[:, None], index.shape)
        noise = _fresh_noise(noise_key, self.label_noise, self.problem, len(index), params)
        return batch_gradients(self.problem, params, index, weight, noise), state


@spec
class NetworkBernoulliKernel:
    """Every example joins a step with chance b/n: batches of random sizes, of mean b."""

    problem: FlaxNetwork | FromLoss
    batch_size: int = static()
    label_noise: FreshLabels | None

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain: the mean over the examples that came."""
        index_key, noise_key = _split(key, self.label_noise)
        n = self.problem.n_examples
        weight = subsets.bernoulli(index_key, n, self.batch_size, params.shape[1], params.dtype)
        noise = _fresh_noise(noise_key, self.label_noise, self.problem, n, params)
        return batch_gradients(self.problem, params, None, weight, noise), state


def _split(key: jax.Array, label_noise: FreshLabels | None) -> tuple[jax.Array, jax.Array]:
    """A key for the examples and one for their noise; without noise the first is `key` itself."""
    if label_noise is None:
        return key, key
    examples, noise = jax.random.split(key)
    return examples, noise


def _fresh_noise(
    key: jax.Array, label_noise: FreshLabels | None, problem: FlaxNetwork | FromLoss, rows: int, params: jax.Array
) -> jax.Array | None:
    """Noise for the targets of each chain's batch, shape (chains, rows, ...)."""
    if label_noise is None:
        return None
    return label_noise.draw(key, (params.shape[1], rows, *problem.targets.shape[1:]), params.dtype)


def batch_gradients(
    problem: FlaxNetwork | FromLoss,
    params: jax.Array,
    index: jax.Array | None,
    weight: jax.Array | None = None,
    noise: jax.Array | None = None,
) -> jax.Array:
    """Gradient of each chain's batch loss and penalty, shape (D, chains).

    Args:
        problem: the network and its examples.
        params: shape (D, chains).
        index: which examples, shape (rows, chains); None means all of them for every chain.
        weight: of each row in the mean, shape (rows, chains), summing to 1; None means equal weights.
        noise: of the targets, shape (chains, rows, ...); None means none.
    """
    features, targets = jnp.asarray(problem.features), jnp.asarray(problem.targets)

    def mean_loss(
        w: jax.Array, rows: jax.Array | None, share: jax.Array | None, fresh: jax.Array | None
    ) -> jax.Array:
        x, y = (features, targets) if rows is None else (features[rows], targets[rows])
        if fresh is not None:
            assert isinstance(problem, FlaxNetwork), "a loss of one's own has no label noise"
            y = problem.relabel(y, fresh)
        losses = problem.batch_loss(w, x, y)
        data = losses.mean() if share is None else share @ losses
        return data + 0.5 * problem.weight_decay * jnp.sum(w * w)

    def gradient(chain: tuple[jax.Array, jax.Array | None, jax.Array | None, jax.Array | None]) -> jax.Array:
        return jax.grad(mean_loss)(*chain)

    # One chain's parameters side by side: batched products over a leading axis of chains.
    chains = (params.T, *(None if x is None else x.T for x in (index, weight)), noise)
    examples = problem.n_examples if index is None else len(index)
    return problem.in_slices(gradient, chains, examples).T


def network_kernel(
    problem: FlaxNetwork | FromLoss, batch_size: int, sampling: str, dtype: DTypeLike
) -> Kernel:
    """The kernel of a problem whose example losses are differentiated, for one sampling mode."""
    noise = fresh_labels(problem)
    if sampling == "with_replacement":
        return NetworkKernel(problem, batch_size, subsets.with_replacement, noise)
    if batch_size == problem.n_examples:  # one batch is one pass
        return NetworkKernel(problem, batch_size, None, noise)
    if sampling == "bernoulli":
        return NetworkBernoulliKernel(problem, batch_size, noise)
    if sampling in PASSES:
        return NetworkEpochKernel(problem, batch_size, sampling == "epochs", noise)
    return NetworkKernel(problem, batch_size, subsets.floyd_subset, noise)


def fresh_labels(problem: FlaxNetwork | FromLoss) -> FreshLabels | None:
    """What is drawn afresh for every label; None where labels stay."""
    if isinstance(problem, FlaxNetwork) and problem.label_flip:
        return LabelFlips(problem.label_flip, problem.classes, problem.loss_name == "logistic")
    noise = none_if_zero(problem.label_noise)
    return FreshNoise(noise, problem.noise) if noise is not None and isinstance(problem, FlaxNetwork) else None
