"""Minibatch gradients of regressions whose weights are a function of the parameters: pulled back from the weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sgdsim._specs import spec, static
from sgdsim._types import AnyArray
from sgdsim.kernels.base import Kernel, none_if_zero
from sgdsim.kernels.dataset import RowsKernel, rows_kernel
from sgdsim.kernels.draws import subsets
from sgdsim.kernels.examples import Examples, lay_out
from sgdsim.kernels.label_noise import FreshNoise
from sgdsim.kernels.linear_network import backward, forward, join, layer_gradients, over_chains
from sgdsim.problems import DiagonalNetwork, MatrixFactorization
from sgdsim.problems.parts.linear_layers import Layers, shapes_of
from sgdsim.problems.parts.reparametrized import Reparametrized


@spec
class PulledBack:
    r"""The examples of $x_i^\top \phi(w) - y_i$ for the samplers of finite data sets.

    $$\sum_i (x_i^\top \phi - y_i - \delta_i) \, \nabla_w (x_i^\top \phi) = \phi'(w)^\top \sum_i (x_i^\top \phi - y_i
    - \delta_i) \, x_i .$$
    """

    map: Any  # with `effective` and `pull_effective`
    examples: Examples

    @property
    def targets(self) -> AnyArray:
        """y, shape (n,)."""
        return self.examples.targets

    def residual_sum(
        self, key: jax.Array, params: jax.Array, index: jax.Array, weight: jax.Array | None = None
    ) -> jax.Array:
        """The sum over the rows in `index`, weighted by `weight`, both (rows, chains)."""
        total = self.examples.residual_sum(key, self.map.effective(params), index, weight)
        return self.map.pull_effective(params, total)

    def decay(self, params: jax.Array) -> float:
        """No weight decay."""
        return 0.0


def reparametrized_kernel(
    problem: Reparametrized, map: Any, batch_size: int, sampling: str, dtype: DTypeLike
) -> Kernel:
    """The kernel of regression on `map.effective` for one sampling mode."""
    std = none_if_zero(problem.label_noise)
    noise = None if std is None else FreshNoise(np.asarray(std, dtype), problem.noise)
    data = lay_out(np.asarray(problem.features, dtype), np.asarray(problem.targets, dtype), noise, None)
    examples: Any = PulledBack(map, data)
    if batch_size == problem.n_examples and sampling != "with_replacement":  # one batch is one pass
        return RowsKernel(examples, batch_size, subsets.every_row)
    return rows_kernel(examples, batch_size, sampling)


def diagonal_kernel(
    problem: DiagonalNetwork, batch_size: int, sampling: str, dtype: DTypeLike
) -> Kernel:
    """The kernel of a `DiagonalNetwork` for one sampling mode."""
    return reparametrized_kernel(problem, DiagonalMap(), batch_size, sampling, dtype)


@spec
class DiagonalMap:
    r"""$\phi(u, v) = u^2 - v^2$."""

    def effective(self, params: jax.Array) -> jax.Array:
        """phi, shape (d, chains)."""
        u, v = jnp.split(params, 2)
        return u * u - v * v

    def pull_effective(self, params: jax.Array, total: jax.Array) -> jax.Array:
        """(2 u total, -2 v total)."""
        return 2 * params * jnp.concatenate([total, -total])


def matrix_kernel(
    problem: MatrixFactorization, batch_size: int, sampling: str, dtype: DTypeLike
) -> Kernel:
    """The kernel of a `MatrixFactorization` for one sampling mode."""
    return reparametrized_kernel(problem, MatrixMap(problem.sizes), batch_size, sampling, dtype)


@spec
class MatrixMap(Layers):
    r"""$\phi(W_1, \dots, W_L) = W_L \cdots W_1$, row by row."""

    sizes: tuple[int, ...] = static()

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of every layer."""
        return shapes_of(self.sizes)

    def effective(self, params: jax.Array) -> jax.Array:
        """phi, shape (rows * columns, chains)."""

        def product(w: jax.Array) -> jax.Array:
            return forward(self.unflatten(w))[-1].reshape(-1, *w.shape[1:])

        return over_chains(self, product)(params)

    def pull_effective(self, params: jax.Array, total: jax.Array) -> jax.Array:
        """The gradient of every layer."""

        def gradient(w: jax.Array, total: jax.Array) -> jax.Array:
            layers = self.unflatten(w)
            outer = total.reshape(layers[-1].shape[0], layers[0].shape[1], *w.shape[1:])
            return join(layer_gradients(backward(layers, outer), forward(layers)))

        return over_chains(self, gradient)(params, total)
