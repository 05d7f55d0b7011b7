"""What linear networks of any depth share: layers in one flat vector, the loss of their product, its derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import derived
from sgdsim._types import AnyArray, ArrayT, Matrix, inner, is_array

START_SCALE = 1 / 3  # larger starts diverge at small batches already with learning rates of 0.1


def check_layer(name: str, value: ArrayLike) -> np.ndarray:
    """A finite, non-empty matrix."""
    layer = _checks.finite_array(name, value)
    if layer.ndim != 2 or layer.size == 0:
        raise _checks.error(name, value, f"a matrix (got shape {layer.shape})",
                            "one row an output, one column an input")
    return layer


def check_chain(names: Sequence[str], layers: Sequence[np.ndarray]) -> None:
    """Every layer takes as many inputs as the layer before it has outputs."""
    for before, name, below, layer in zip(names, names[1:], layers, layers[1:], strict=False):
        if layer.shape[1] != below.shape[0]:
            raise _checks.error(
                name, layer, f"of shape (any, {below.shape[0]}), to follow {before} (got shape {layer.shape})",
                "layers chain: (outputs, inputs), with the inputs of one the outputs of the one before",
            )


def product(a: Any, b: Any) -> Any:
    """The matrix product over the first two axes of a (i, j, ...) and b (j, k, ...); chains behind them."""
    if isinstance(a, jax.Array) or isinstance(b, jax.Array):
        return jnp.einsum("ij...,jk...->ik...", a, b, precision=jax.lax.Precision.HIGHEST)
    if a.ndim == b.ndim == 2:
        return a @ b
    a, b = (np.moveaxis(x, (0, 1), (-2, -1)) for x in (a, b))
    return np.moveaxis(a @ b, (-2, -1), (0, 1))


def through(layers: Sequence[ArrayT]) -> ArrayT:
    """W_L ... W_1."""
    mapped = layers[0]
    for layer in layers[1:]:
        mapped = product(layer, mapped)
    return mapped


def transpose(a: ArrayT) -> ArrayT:
    """The first two axes exchanged."""
    return a.swapaxes(0, 1)


def shapes_of(sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(outputs, inputs) of every layer of a network with so many units: inputs first, outputs last."""
    return tuple((out, into) for into, out in itertools.pairwise(sizes))


class Layers:
    """A product W_L ... W_1 of matrices in one vector: W_1, ..., W_L, each row by row, one after the other."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of every layer."""
        raise NotImplementedError

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def default_start(self) -> np.ndarray:
        """One fixed draw of Gaussian entries of standard deviation 1/3 inputs^(-1/2): no saddle, and small.

        The updates are cubic in the weights: from starts three times as large, small batches diverge.
        """
        rng = np.random.default_rng(0)
        drawn = [START_SCALE / np.sqrt(shape[1]) * rng.standard_normal(shape) for shape in self.shapes]
        return np.concatenate([layer.reshape(-1) for layer in drawn])

    def unflatten(self, w: ArrayT) -> tuple[ArrayT, ...]:
        """(W_1, ..., W_L) of parameters (D, ...): shapes (outputs, inputs, ...)."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        return tuple(
            w[end - math.prod(shape) : end].reshape(*shape, *w.shape[1:])
            for shape, end in zip(self.shapes, ends, strict=True)
        )

    def flatten(self, *layers: Any) -> Any:
        """Parameters (D, ...) of (W_1, ..., W_L).

        Raises:
            ValueError: not one matrix for each layer, or one of another shape.
        """
        if len(layers) != len(self.shapes):
            raise _checks.error("layers", len(layers), f"{len(self.shapes)} matrices", "pass W_1, ..., W_L")
        arrays = [layer if is_array(layer) else _checks.finite_array(f"layer {number}", layer)
                  for number, layer in enumerate(layers, start=1)]
        for number, (layer, shape) in enumerate(zip(arrays, self.shapes, strict=True), start=1):
            if layer.shape[:2] != shape:
                raise _checks.error(f"layer {number}", layer, f"of shape {shape} (got shape {layer.shape})",
                                    "the student has the teacher's shapes")
        backend = jnp if any(isinstance(layer, jax.Array) for layer in arrays) else np
        return backend.concatenate([layer.reshape(-1, *layer.shape[2:]) for layer in arrays])

    def _partial(self, layers: Sequence[ArrayT]) -> tuple[list[ArrayT], list[ArrayT]]:
        """For every l, W_{l-1} ... W_1 and W_L ... W_{l+1}: what comes before and after layer l."""
        ones: Any = [np.eye(size).reshape((size, size) + (1,) * (layers[0].ndim - 2))
                for size in (self.shapes[0][1], self.shapes[-1][0])]
        before, after = [ones[0]], [ones[1]]
        for layer in layers[:-1]:
            before.append(product(layer, before[-1]))
        for layer in layers[:0:-1]:
            after.append(product(after[-1], layer))
        return before, after[::-1]

    def _pull_back(self, layers: Sequence[ArrayT], outer: ArrayT) -> ArrayT:
        before, after = self._partial(layers)
        return self.flatten(*(product(product(transpose(a), outer), transpose(b))
                              for b, a in zip(before, after, strict=True)))

    def _bent(self, layers: Sequence[ArrayT], outer: ArrayT) -> ArrayT:
        """The Hessian of the sum of outer_ij (W_L ... W_1)_ij, for outer (outputs, inputs), shape (D, D)."""
        before, after = self._partial(layers)
        backend = jnp if isinstance(outer, jax.Array) else np
        rows = []
        for m, layer in enumerate(layers):
            blocks: list[Any] = []
            between: Any = np.eye(layer.shape[1])
            for l in range(m - 1, -1, -1):
                seen = product(product(after[m].T, outer), before[l].T)
                block = backend.einsum("ij,ka->ikaj", seen, between)
                blocks.insert(0, block.reshape(layer.size, layers[l].size))
                between = product(between, layers[l])
            rest = sum(later.size for later in layers[m:])
            rows.append(backend.concatenate([*blocks, np.zeros((layer.size, rest))], axis=1))
        below = backend.concatenate(rows)
        return below + below.T


class LinearLayers(Layers):
    """A linear student y = W_L ... W_1 x of a linear teacher, inputs N(0, I): subclasses hold the teacher.

    Parameters are W_1, ..., W_L, each row by row, one after the other.
    """

    label_noise: float

    @property
    def layers(self) -> tuple[np.ndarray, ...]:
        """The teacher's matrices, from the input to the output."""
        raise NotImplementedError

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of every layer."""
        return tuple(layer.shape for layer in self.layers)

    @derived
    def target(self) -> np.ndarray:
        """The teacher's map from inputs to outputs T, shape (outputs, inputs)."""
        return through(self.layers)

    @property
    def n_examples(self) -> None:
        """None: a population problem."""

    @property
    def minimum(self) -> np.ndarray:
        """The teacher: one of the minima, since any invertible matrix may pass between two layers."""
        backend = jnp if any(isinstance(layer, jax.Array) for layer in self.layers) else np
        return backend.concatenate([layer.reshape(-1) for layer in self.layers])

    def end_to_end(self, w: ArrayT) -> ArrayT:
        """The map from inputs to outputs W_L ... W_1 at parameters (D, ...), shape (outputs, inputs, ...)."""
        return through(self.unflatten(w))

    def _error(self, layers: Sequence[ArrayT]) -> ArrayT:
        """E = W_L ... W_1 - T, shape (outputs, inputs, ...)."""
        mapped = through(layers)
        return mapped - self.target.reshape(self.target.shape + (1,) * (mapped.ndim - 2))

    def test_loss(self, w: ArrayT) -> ArrayT:
        """1/2 ||W_L ... W_1 - T||^2: clean labels, averaged over inputs."""
        error = self._error(self.unflatten(w))
        flat = error.reshape(-1, *error.shape[2:])
        return 0.5 * inner(flat, flat)

    def loss(self, w: ArrayT) -> ArrayT:
        """Expected training loss: the label noise adds sigma^2/2 for each output."""
        return self.test_loss(w) + 0.5 * self.shapes[-1][0] * self.label_noise**2

    def gradient(self, w: ArrayT) -> ArrayT:
        """Layer l: (W_L ... W_{l+1})' E (W_{l-1} ... W_1)'."""
        layers = self.unflatten(w)
        return self._pull_back(layers, self._error(layers))

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """The same with (W_L ... W_1 x - y) x' in the place of E, for one example (x, y), shapes (p,), (outputs,)."""
        x, y = example
        layers = self.unflatten(w)
        missed = self._error(layers) + self.target.reshape(self.target.shape + (1,) * (w.ndim - 1))
        column = x.reshape(x.shape + (1,) * w.ndim)
        residual = product(missed, column) - y.reshape(y.shape + (1,) * w.ndim)
        return self._pull_back(layers, product(residual, transpose(column)))

    def hessian(self, w: AnyArray | None = None) -> Matrix:
        """J'J plus the part that E bends, at `w` (D,); None means the teacher. Shape (D, D)."""
        point: Any = self.minimum if w is None else w
        layers = self.unflatten(point)
        error = self._error(layers)
        before, after = self._partial(layers)
        backend = jnp if isinstance(error, jax.Array) else np
        jacobian = backend.concatenate(
            [backend.kron(a, b.T) for b, a in zip(before, after, strict=True)], axis=1
        )
        return product(jacobian.T, jacobian) + self._bent(layers, error)
