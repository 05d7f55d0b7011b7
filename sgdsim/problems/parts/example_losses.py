"""What problems share whose example losses are differentiated automatically: networks and a user's own loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim._types import AnyArray, ArrayT

# Numbers of one slice of chains: they stay in a core's cache, or fill a GPU.
_CPU_NUMBERS = 2**18
_GPU_NUMBERS = 2**28


class ExampleLosses:
    """Means over n examples of `batch_loss`, plus half the weight decay times |w|^2; chains on the last axis."""

    features: np.ndarray
    targets: np.ndarray
    test_features: np.ndarray | None
    test_targets: np.ndarray | None
    weight_decay: np.ndarray

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        raise NotImplementedError

    @property
    def slice_numbers(self) -> int:
        """Numbers made by one example of one chain."""
        raise NotImplementedError

    def batch_loss(self, w: AnyArray, features: AnyArray, targets: AnyArray) -> jax.Array:
        """Losses of the examples of a batch from one vector w, shape (b,); no penalty."""
        raise NotImplementedError

    def expected_loss(self, w: AnyArray, features: AnyArray, targets: AnyArray) -> jax.Array:
        """`batch_loss`, averaged over what is random in the labels beside additive noise; shape (b,)."""
        return self.batch_loss(w, features, targets)

    @property
    def noise_floor(self) -> float:
        """What fresh label noise adds to the expected loss."""
        return 0.0

    @property
    def n_examples(self) -> int:
        """Number of examples n."""
        return self.features.shape[0]

    @property
    def loss_examples(self) -> int:
        """How many examples `loss` and `test_loss` look at: the engine measures them less often."""
        return self.n_examples + (0 if self.test_features is None else len(self.test_features))

    @property
    def minimum(self) -> Any:
        """None: not known beforehand."""

    def mean_loss(self, w: AnyArray) -> jax.Array:
        """Loss and penalty of one vector w, without additive label noise."""
        return self.loss_of(w, self.features, self.targets)

    def loss_of(self, w: AnyArray, features: AnyArray, targets: AnyArray) -> jax.Array:
        """The same of some examples."""
        return self.expected_loss(w, features, targets).mean() + 0.5 * self.weight_decay * jnp.sum(w * w)

    @jax.jit
    def loss(self, w: AnyArray) -> jax.Array:
        """Expected training loss with label noise and penalty, (D, *chains) to (*chains): a pass over all examples."""
        return self.each_chain(self.mean_loss, jnp.asarray(w), self.n_examples) + self.noise_floor

    @jax.jit
    def test_loss(self, w: AnyArray) -> jax.Array:
        """Loss of the held-out examples (the training examples if there are none), without penalty and label noise."""
        x, y = self.test_features, self.test_targets
        if x is None or y is None:
            x, y = self.features, self.targets
        return self.each_chain(lambda v: self.batch_loss(v, x, y).mean(), jnp.asarray(w), len(x))

    @jax.jit
    def gradient(self, w: AnyArray) -> jax.Array:
        """Full-data gradient of `loss`."""
        return self.each_chain(jax.grad(self.mean_loss), jnp.asarray(w), self.n_examples)

    @jax.jit
    def hessian(self, w: AnyArray | None = None) -> jax.Array:
        """Hessian of `loss` at w of shape (D,), column by column.

        Raises:
            ValueError: no point is given.
        """
        if w is None:
            raise _checks.error("w", w, "a point of shape (D,)", "this Hessian changes from point to point")
        point = jnp.asarray(w)

        def column(direction: jax.Array) -> jax.Array:
            return jax.jvp(jax.grad(self.mean_loss), (point,), (direction,))[1]

        return jax.lax.map(column, jnp.eye(self.dimension, dtype=point.dtype))

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """Gradient of the expected loss of one example (x_i, y_i) and of the penalty, at w of shape (D,)."""
        x, y = example
        return jax.grad(self.loss_of)(jnp.asarray(w), x[None], y[None])

    def slice_chains(self, examples: int, numbers: int = _CPU_NUMBERS) -> int:
        """How many chains to take together when each looks at so many examples and all may make so many numbers."""
        return max(1, numbers // (examples * self.slice_numbers + self.dimension))

    def in_slices(self, function: Callable[..., jax.Array], chains: PyTree, examples: int) -> jax.Array:
        """`function` of every chain, the first axis of `chains` and of the result; slices bound the memory."""
        number = len(jax.tree.leaves(chains)[0])

        def with_numbers(numbers: int, chains: PyTree) -> jax.Array:
            size = _slice_size(number, self.slice_chains(examples, numbers))
            return jax.vmap(function)(chains) if size == number else jax.lax.map(function, chains, batch_size=size)

        cpu, default = (functools.partial(with_numbers, numbers) for numbers in (_CPU_NUMBERS, _GPU_NUMBERS))
        return jax.lax.platform_dependent(chains, cpu=cpu, default=default)

    def each_chain(self, function: Callable[[jax.Array], jax.Array], w: jax.Array, examples: int) -> jax.Array:
        """`function` of every chain of w (D, *chains), chains last."""
        if w.ndim == 1:
            return function(w)
        out = self.in_slices(function, w.reshape(self.dimension, -1).T, examples)
        return jnp.moveaxis(out, 0, -1).reshape(*out.shape[1:], *w.shape[1:])


def _slice_size(chains: int, most: int) -> int:
    """A large divisor of `chains` up to `most` (a rest would be compiled as a second program), or `most`."""
    return next((size for size in range(min(chains, most), most // 2, -1) if chains % size == 0), min(chains, most))
