"""Minibatch gradients of linear networks of any depth on Gaussian inputs: a batch is one Wishart matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from sgdsim._specs import spec, static
from sgdsim._types import AnyArray
from sgdsim.kernels.base import none_if_zero, normals
from sgdsim.kernels.draws import random
from sgdsim.kernels.draws.chi_square import ChiSquareExact, ChiSquareQuantile, chi_square_sampler
from sgdsim.problems import DeepLinear, TwoLayerLinear
from sgdsim.problems.parts.linear_layers import Layers, shapes_of

# Up to so many rows and columns a product is written out over all chains at once: one matrix after another would
# spend its time in calls.
_SMALL = 16


def chain_by_chain(problem: Any) -> bool:
    """Whether the gradients of a problem are products of matrices of one chain after the other."""
    return isinstance(problem, Layers) and max(max(shape) for shape in problem.shapes) > _SMALL


def over_chains(problem: Layers, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of arrays whose last axis is the chains: as it is for small layers, else chain by chain.

    The same code serves both: matrices are (i, j, chains) or (i, j).
    """
    if not chain_by_chain(problem):
        return function
    # Axes are moved here, not by vmap: where parameters are kept chains first, XLA then sees that nothing moves.
    first = jax.vmap(function)

    def one_by_one(*arrays: jax.Array) -> Any:
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), first(*(jnp.moveaxis(x, -1, 0) for x in arrays)))

    return one_by_one


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """The matrix products of a (i, j, ...) and b (j, k, ...), one for each chain."""
    if a.ndim == 2:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    if a.shape[1] > _SMALL:
        return jnp.einsum("ijc,jkc->ikc", a, b, precision=jax.lax.Precision.HIGHEST)
    total = a[:, 0, None] * b[None, 0]
    for j in range(1, a.shape[1]):
        total = total + a[:, j, None] * b[None, j]
    return total


def transpose(a: jax.Array) -> jax.Array:
    """The matrices of a (i, j, ...) transposed."""
    return a.swapaxes(0, 1)


def wide(matrix: Any, like: jax.Array) -> jax.Array:
    """A matrix that all chains share, broadcast against those of `like`."""
    return matrix if like.ndim == 2 else matrix[:, :, None]


def forward(layers: tuple[jax.Array, ...]) -> list[jax.Array]:
    """W_1, W_2 W_1, ..., W_L ... W_1."""
    through = [layers[0]]
    for layer in layers[1:]:
        through.append(multiply(layer, through[-1]))
    return through


def backward(layers: tuple[jax.Array, ...], outer: jax.Array) -> list[jax.Array]:
    """G_l = (W_L ... W_{l+1})' G for every l: what the error at the output is to layer l."""
    back = [outer]
    for layer in layers[:0:-1]:
        back.append(multiply(transpose(layer), back[-1]))
    return back[::-1]


def layer_gradients(back: list[jax.Array], through: list[jax.Array]) -> list[jax.Array]:
    """The gradient of every layer, G_l (W_{l-1} ... W_1)'."""
    return [back[0], *(multiply(g, transpose(h)) for g, h in zip(back[1:], through, strict=False))]


def join(layers: list[jax.Array]) -> jax.Array:
    """One vector (D, ...), each layer row by row."""
    return jnp.concatenate([layer.reshape(-1, *layer.shape[2:]) for layer in layers])


@spec
class DirectFactor:
    """L (p, b): the b examples themselves."""

    inputs: int = static()
    examples: int = static()

    def draw(self, key: jax.Array, chains: int, dtype: DTypeLike) -> jax.Array:
        """L for every chain, (p, b, chains)."""
        return normals(key, (self.inputs, self.examples, chains), dtype)


@spec
class BartlettFactor:
    r"""L (p, k), k = min(b, p), lower trapezoidal, with $L L^\top \sim$ Wishart$_p(b, I)$; exact for b < p too.

    $L_{jj}$ is chi with b-j+1 degrees of freedom, j = 1, ..., k; below it standard normals; all independent.
    """

    inputs: int = static()
    columns: int = static()
    roots: ChiSquareQuantile | None  # of the first diagonal elements, all of their polynomials in one
    sums: tuple[ChiSquareExact, ...]  # of the last ones, where there are too few degrees of freedom

    def draw(self, key: jax.Array, chains: int, dtype: DTypeLike) -> jax.Array:
        """L for every chain, (p, k, chains)."""
        p, k = self.inputs, self.columns
        row, column = np.tril_indices(p, -1, k)
        z = normals(key, (k + len(row), chains), dtype)
        diagonal, smooth = [], k - len(self.sums)
        if self.roots is not None:
            diagonal.append(self.roots.from_normal(z[:smooth])[1])
        if self.sums:
            u = _uniforms(jax.random.fold_in(key, smooth), (sum(s.degrees // 2 for s in self.sums), chains), dtype)
            for j, chi_square in enumerate(self.sums, start=smooth):
                own, u = jnp.split(u, [chi_square.degrees // 2])
                diagonal.append(chi_square.from_uniforms(own, z[j])[1][None])
        entries = jnp.concatenate([*diagonal, z[k:], jnp.zeros((1, chains), dtype)])
        place = np.full((p, k), len(entries) - 1)
        place[np.arange(k), np.arange(k)] = np.arange(k)
        place[row, column] = k + np.arange(len(row))
        return entries[place]


def _uniforms(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Uniform numbers in (0, 1], all of a batch in one draw: eleven draws of a few rows cost as much as a thousand."""
    words = random.bits(key, shape) if dtype == np.float32 else jax.random.bits(key, shape, jnp.uint64)
    return random.uniform(words, dtype)


@spec
class LinearNetworkKernel(Layers):
    r"""The gradient of a batch through a factor of its Wishart matrix, $\hat\Sigma = L L^\top / b$.

    With $E = W_L \cdots W_1 - T$ the batch mean of (error)(input)' is $G = E \hat\Sigma - \frac1b \sum_i \sigma
    \varepsilon_i x_i^\top$. Given the inputs X (p, b) the second term is $\frac\sigma b Z X^\top$ with Z standard
    normal, rows of covariance $\frac{\sigma^2}{b} \hat\Sigma$, hence in law $\frac\sigma b Z L^\top$ for any factor L:

    $$G = \tfrac1b (E L - \sigma Z) L^\top, \qquad
      g_l = (W_L \cdots W_{l+1})^\top G \, (W_{l-1} \cdots W_1)^\top.$$
    """

    sizes: tuple[int, ...] = static()
    target: AnyArray
    factor: DirectFactor | BartlettFactor
    noise_std: AnyArray
    batch_size: Any

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of every layer."""
        return shapes_of(self.sizes)

    def init(self, key: jax.Array, chains: int) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def draw(self, key: jax.Array, params: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        """One gradient per chain; Bartlett's factor makes the cost the same for every b >= p."""
        dtype, chains = params.dtype, params.shape[1]
        given = [params, self.factor.draw(key, chains, dtype)]
        inputs, columns = given[1].shape[:2]
        outputs = self.sizes[-1]
        if self.noise_std is not None:
            z = normals(jax.random.fold_in(key, inputs), (outputs, columns, chains), dtype)
            given.append(jnp.asarray(self.noise_std) * z)
        wishart_first = self.noise_std is None and inputs * (columns + outputs) < 2 * outputs * columns

        def gradient(w: jax.Array, factor: jax.Array, *noise: jax.Array) -> jax.Array:
            layers = self.unflatten(w)
            through = forward(layers)
            error = through[-1] - wide(self.target, through[-1])
            if wishart_first:
                outer = multiply(error, multiply(factor, transpose(factor)))
            else:
                seen = multiply(error, factor)
                outer = multiply(seen - noise[0] if noise else seen, transpose(factor))
            return join(layer_gradients(backward(layers, outer / self.batch_size), through))

        return over_chains(self, gradient)(*given), state


def linear_network_kernel(
    problem: TwoLayerLinear | DeepLinear, batch_size: int, sampling: str, dtype: DTypeLike
) -> LinearNetworkKernel:
    """The faster kernel: few examples are drawn themselves, more through Bartlett's factor."""
    inputs = problem.shapes[0][1]
    if 2 * batch_size <= inputs or batch_size == 1:
        return direct_kernel(problem, batch_size)
    return bartlett_kernel(problem, batch_size, dtype)


def bartlett_kernel(problem: TwoLayerLinear | DeepLinear, batch_size: int, dtype: DTypeLike) -> LinearNetworkKernel:
    """The kernel whose cost does not depend on the batch size once it exceeds the number of inputs."""
    inputs = problem.shapes[0][1]
    degrees = [batch_size - j for j in range(min(batch_size, inputs))]
    samplers = [chi_square_sampler(d, dtype) for d in degrees]
    smooth = [s.coefficients for s in samplers if isinstance(s, ChiSquareQuantile)]
    roots = ChiSquareQuantile(np.stack(smooth, axis=1)[:, :, None]) if smooth else None
    sums = tuple(s for s in samplers if isinstance(s, ChiSquareExact))
    return _kernel(problem, BartlettFactor(inputs, len(degrees), roots, sums), batch_size)


def direct_kernel(problem: TwoLayerLinear | DeepLinear, batch_size: int) -> LinearNetworkKernel:
    """The kernel that draws every example of the batch; p b numbers in memory for each chain."""
    return _kernel(problem, DirectFactor(problem.shapes[0][1], batch_size), batch_size)


def _kernel(problem: Any, factor: Any, batch_size: int) -> LinearNetworkKernel:
    sizes = (problem.shapes[0][1], *(outputs for outputs, _ in problem.shapes))
    return LinearNetworkKernel(sizes, problem.target, factor, none_if_zero(problem.label_noise), np.float64(batch_size))
