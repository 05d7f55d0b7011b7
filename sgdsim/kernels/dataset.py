"""Minibatch gradients of least squares on a finite data set: gather the drawn rows and contract them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike, DTypeLike

from sgdsim._specs import spec, static
from sgdsim._types import Matrix, apply, inner
from sgdsim.kernels.base import Kernel, none_if_zero, normals, square_root
from sgdsim.kernels.conditional_variance import GradientMoments, noise_factor
from sgdsim.kernels.draws import subsets
from sgdsim.kernels.examples import Examples, lay_out
from sgdsim.kernels.label_noise import FreshNoise
from sgdsim.problems import DatasetRegression
from sgdsim.problems.sampling import PASSES


@spec
class RowsKernel:
    """Fresh rows each step, drawn by `choose`: with replacement, or a subset."""

    examples: Examples
    batch_size: int = static()
    choose: Callable[..., jax.Array] = static()

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain."""
        index_key, noise_key = jax.random.split(key)
        n = self.examples.targets.shape[0]
        index = self.choose(index_key, n, self.batch_size, params.shape[1])
        total = self.examples.residual_sum(noise_key, params, index)
        return total / self.batch_size + self.examples.decay(params), state


@spec
class ComplementKernel:
    """A fresh subset of b > n/2 examples each step, as all of them less the n-b left out; no label noise."""

    examples: Examples
    gram: Any
    least_squares: Any
    batch_size: int = static()

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain."""
        n = self.examples.targets.shape[0]
        index = subsets.floyd_subset(key, n, n - self.batch_size, params.shape[1])
        everything = n * apply(self.gram, params - self.least_squares[:, None])
        total = everything - self.examples.residual_sum(key, params, index)
        return total / self.batch_size + self.examples.decay(params), state


@spec
class FullDataKernel:
    r"""All n examples each step; label noise enters as $\sum_i x_i\epsilon_i \sim N(0, \sigma^2 X^\top X)$."""

    gram: Any
    least_squares: Any
    weight_decay: Any
    noise_factor: Any

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain."""
        gradient = apply(self.gram, params - self.least_squares[:, None])
        if self.noise_factor is not None:
            gradient = gradient + apply(self.noise_factor, normals(key, params.shape, params.dtype))
        if self.weight_decay is not None:
            gradient = gradient + apply(self.weight_decay, params)
        return gradient, state


@spec
class EpochKernel:
    """Passes over the data, in another order in every chain and, shuffled, pass; the last batch may be smaller."""

    examples: Examples
    batch_size: int = static()
    shuffle: bool = static()

    def init(self, key: jax.Array, chains: int) -> subsets.EpochState:
        """The start of the first pass."""
        return subsets.start_passes(key, self.examples.targets.shape[0], chains, self.shuffle)

    def draw(
        self, key: jax.Array, params: jax.Array, state: subsets.EpochState
    ) -> tuple[jax.Array, subsets.EpochState]:
        """One gradient per chain: the mean over the examples of this batch."""
        index_key, noise_key = jax.random.split(key)
        index, counts, state = subsets.next_batch(index_key, state, self.batch_size, shuffle=self.shuffle)
        uneven = self.examples.targets.shape[0] % self.batch_size > 0
        weight = jnp.broadcast_to(counts.astype(params.dtype)[:, None], index.shape) if uneven else None
        total = self.examples.residual_sum(noise_key, params, index, weight)
        return total / counts.sum() + self.examples.decay(params), state


@spec
class BernoulliKernel:
    """Every example joins a step with chance b/n: batches of random sizes, of mean b."""

    examples: Examples
    batch_size: int = static()

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain: the mean over the examples that came."""
        index_key, noise_key = jax.random.split(key)
        n = self.examples.targets.shape[0]
        weight = subsets.bernoulli(index_key, n, self.batch_size, params.shape[1], params.dtype)
        index = subsets.every_row(key, n, n, params.shape[1])
        return self.examples.residual_sum(noise_key, params, index, weight) + self.examples.decay(params), state


def rows_kernel(examples: Examples, batch_size: int, sampling: str) -> RowsKernel | EpochKernel | BernoulliKernel:
    """The kernel of examples that are gathered, for one sampling mode."""
    if sampling == "bernoulli":
        return BernoulliKernel(examples, batch_size)
    if sampling in PASSES:
        return EpochKernel(examples, batch_size, sampling == "epochs")
    choose = subsets.with_replacement if sampling == "with_replacement" else subsets.floyd_subset
    return RowsKernel(examples, batch_size, choose)


@spec
class DatasetMoments:
    r"""Example i gives $x_i(x_i^\top d - r_i)$, d the distance from least squares: its variance is a quadratic form

    $$\frac1n \sum_i \bigl|(x_i x_i^\top - C)\, d - r_i x_i\bigr|^2 = |F (d; 1)|^2,$$

    made once, as a sum of squares so that nothing cancels in float32.
    """

    factor: Any
    least_squares: Any
    label_variance: Any

    def evaluate(self, problem: DatasetRegression, params: jax.Array) -> GradientMoments:
        """The moments of every chain."""
        d = params - self.least_squares[:, None]
        seen = apply(self.factor, jnp.concatenate([d, jnp.ones_like(d[:1])]))
        variance = inner(seen, seen)[None]
        labels = jnp.full_like(variance, self.label_variance)
        return GradientMoments(problem.loss(params), problem.gradient(params), variance, labels)


def dataset_kernel(problem: DatasetRegression, batch_size: int, sampling: str, dtype: DTypeLike) -> Kernel:
    """The kernel of a `DatasetRegression` for one sampling mode.

    Args:
        problem: the data set.
        batch_size: b; at most n unless drawn with replacement.
        sampling: one of a data set, see `simulate`.
        dtype: of the chains.
    """

    def cast(values: ArrayLike | None) -> Any:
        return None if values is None else np.asarray(values, dtype)

    n = problem.n_examples
    decay, std = cast(none_if_zero(problem.weight_decay)), cast(none_if_zero(problem.label_noise))
    noise = std if std is None or problem.noise == "gaussian" else FreshNoise(std, problem.noise)
    gram, best = cast(problem.gram), cast(problem.least_squares)
    examples = lay_out(cast(problem.features), cast(problem.targets), noise, decay)
    if batch_size == n and sampling != "with_replacement":  # one batch is one pass
        if isinstance(noise, FreshNoise):
            return RowsKernel(examples, batch_size, subsets.every_row)
        factor = None if noise is None else cast(problem.label_noise / np.sqrt(n) * square_root(problem.gram))
        return FullDataKernel(gram, best, decay, factor)
    if 2 * batch_size > n and noise is None and sampling == "without_replacement":
        return ComplementKernel(examples, gram, best, batch_size)
    return rows_kernel(examples, batch_size, sampling)


def dataset_noise(problem: DatasetRegression, batch_size: int, sampling: str) -> Matrix:
    """At the minimum: 1/b or c_b times the covariance over examples, 1/b times that of fresh labels; shape (D, D)."""
    x = problem.features
    gradients = x * (x @ problem.minimum - problem.targets)[:, None]
    spread = np.cov(gradients.T, bias=True).reshape(problem.dimension, -1)
    factor = noise_factor(batch_size, problem.n_examples, sampling)
    return factor * spread + problem.label_noise**2 / batch_size * x.T @ x / len(x)


def dataset_moments(problem: DatasetRegression) -> DatasetMoments:
    """The moments of a `DatasetRegression`."""
    x, gram = problem.features, problem.gram
    residual = problem.targets - x @ problem.least_squares
    reach = (x * x).sum(axis=1)
    form = np.zeros((problem.dimension + 1,) * 2)
    form[:-1, :-1] = (x * reach[:, None]).T @ x / len(x) - gram @ gram
    form[-1, :-1] = form[:-1, -1] = -(reach * residual) @ x / len(x)
    form[-1, -1] = np.mean(reach * residual**2)
    labels = np.asarray(problem.label_noise**2 * np.trace(gram))
    return DatasetMoments(square_root(form), problem.least_squares, labels)
