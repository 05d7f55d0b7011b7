"""Minibatch gradients of least squares on a finite data set: gather the drawn rows and contract them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import apply, spec
from sgdsim.kernels import subsets
from sgdsim.kernels.base import none_if_zero, square_root
from sgdsim.problems import DatasetRegression

# Rows gathered together: few enough that those of 4,096 chains stay in the cache of a core, whatever b is.
_SLICE = 8
# Beyond so many features one gather of all columns: unrolling them would compile for minutes.
_UNROLLED = 64


@spec
class Examples:
    """The data set with one feature a row, (D, n): a gather then reads one short column of the table.

    On a CPU this takes half the time of gathering whole examples (n = 442, D = 11, b = 32).
    """

    columns: Any
    targets: Any
    label_noise: Any
    weight_decay: Any

    def residual_sum(
        self, key: jax.Array, params: jax.Array, index: jax.Array, weight: jax.Array | None = None
    ) -> jax.Array:
        """Sum of x_i (x_i'w - y_i - noise) over the rows in `index` (rows, chains), weighted by `weight` (rows,)."""
        noise = None
        if self.label_noise is not None:
            noise = self.label_noise * jax.random.normal(key, index.shape, params.dtype)
        rows = index.shape[0]
        first = rows % _SLICE or _SLICE

        def part(start: Any, size: int) -> jax.Array:
            def cut(array: Any) -> Any:
                return None if array is None else jax.lax.dynamic_slice_in_dim(array, start, size)

            return self._contract(params, cut(index), cut(noise), cut(weight))

        def add_part(i: Any, total: jax.Array) -> jax.Array:
            return total + part(first + i * _SLICE, _SLICE)

        total = part(0, first)
        return total if first == rows else jax.lax.fori_loop(0, (rows - first) // _SLICE, add_part, total)

    def _contract(self, params: jax.Array, index: jax.Array, noise: Any, weight: Any) -> jax.Array:
        # Without the barriers XLA works out indices, or gathers, twice for every feature.
        index = jax.lax.optimization_barrier(index)

        def take(values: jax.Array) -> jax.Array:
            return values.at[index].get(mode="promise_in_bounds")

        table = jnp.asarray(self.columns)
        unrolled = len(table) <= _UNROLLED
        columns = [take(column) for column in table] if unrolled else jnp.take(table, index, axis=1)
        columns = jax.lax.optimization_barrier(columns)
        residual = -take(jnp.asarray(self.targets))
        if noise is not None:
            residual = residual - noise
        if unrolled:
            for column, w in zip(columns, params, strict=True):
                residual = residual + column * w
        else:
            residual = residual + (columns * params[:, None]).sum(axis=0)
        if weight is not None:
            residual = residual * weight[:, None]
        if unrolled:
            return jnp.stack([(column * residual).sum(axis=0) for column in columns])
        return (columns * residual).sum(axis=1)

    def decay(self, params: jax.Array) -> jax.Array | float:
        """Gamma w."""
        return 0.0 if self.weight_decay is None else apply(self.weight_decay, params)


@spec
class RowsKernel:
    """Fresh rows each step, drawn by `choose`: with replacement, or a subset."""

    examples: Examples
    batch_size: int
    choose: Callable[..., jax.Array]

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
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
    batch_size: int

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
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

    def draw(self, key: jax.Array, params: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """One gradient per chain."""
        gradient = apply(self.gram, params - self.least_squares[:, None])
        if self.noise_factor is not None:
            gradient = gradient + apply(self.noise_factor, jax.random.normal(key, params.shape, params.dtype))
        if self.weight_decay is not None:
            gradient = gradient + apply(self.weight_decay, params)
        return gradient, state


@spec
class EpochKernel:
    """Shuffled passes, another order in every chain and pass; the last batch of a pass may be smaller."""

    examples: Examples
    batch_size: int

    def init(self, key: jax.Array, chains: int) -> subsets.EpochState:
        """The start of the first pass."""
        return subsets.start_epochs(self.examples.targets.shape[0], chains)

    def draw(
        self, key: jax.Array, params: jax.Array, state: subsets.EpochState
    ) -> tuple[jax.Array, subsets.EpochState]:
        """One gradient per chain: the mean over the examples of this batch."""
        index_key, noise_key = jax.random.split(key)
        index, counts, state = subsets.next_batch(index_key, state, self.batch_size)
        uneven = self.examples.targets.shape[0] % self.batch_size > 0
        weight = counts.astype(params.dtype) if uneven else None
        total = self.examples.residual_sum(noise_key, params, index, weight)
        return total / counts.sum() + self.examples.decay(params), state


def dataset_kernel(problem: DatasetRegression, batch_size: int, sampling: str, dtype: Any) -> Any:
    """The kernel of a `DatasetRegression` for one sampling mode.

    Args:
        problem: the data set.
        batch_size: b; at most n unless drawn with replacement.
        sampling: "with_replacement", "without_replacement" (a fresh subset each step) or "epochs".
        dtype: of the chains.
    """

    def cast(values: Any) -> Any:
        return None if values is None else np.asarray(values, dtype)

    n = problem.n_examples
    decay, noise = cast(none_if_zero(problem.weight_decay)), cast(none_if_zero(problem.label_noise))
    gram, best = cast(problem.gram), cast(problem.least_squares)
    examples = Examples(cast(problem.features.T), cast(problem.targets), noise, decay)
    if sampling == "with_replacement":
        return RowsKernel(examples, batch_size, subsets.with_replacement)
    if batch_size == n:  # one batch is one pass
        factor = None if noise is None else cast(problem.label_noise / np.sqrt(n) * square_root(problem.gram))
        return FullDataKernel(gram, best, decay, factor)
    if sampling == "epochs":
        return EpochKernel(examples, batch_size)
    if 2 * batch_size > n and noise is None:
        return ComplementKernel(examples, gram, best, batch_size)
    return RowsKernel(examples, batch_size, subsets.floyd_subset)
