"""Full gradient and exact variance of the minibatch gradient of a linear network given its weights."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from sgdsim._specs import spec
from sgdsim._types import AnyArray, total
from sgdsim.kernels.base import none_if_zero
from sgdsim.kernels.conditional_variance import GradientMoments
from sgdsim.kernels.linear_network import backward, forward, join, layer_gradients, over_chains, transpose, wide
from sgdsim.problems import DeepLinear, TwoLayerLinear


@spec
class LinearNetworkMoments:
    r"""Layer l sees $A^\top (E x x^\top - \sigma\varepsilon x^\top) B^\top$, A behind it and B before it.

    From $E[x x^\top N x x^\top] = N + N^\top + \mathrm{tr}(N) I$,

    $$\mathrm{Var} = |A^\top E|_F^2 |B|_F^2 + |A^\top E B^\top|_F^2 + \sigma^2 |A|_F^2 |B|_F^2 .$$
    """

    label_variance: AnyArray

    def evaluate(self, problem: TwoLayerLinear | DeepLinear, params: jax.Array) -> GradientMoments:
        """The moments of every chain, layer by layer."""
        return over_chains(problem, functools.partial(self._evaluate, problem))(params)

    def _evaluate(self, problem: TwoLayerLinear | DeepLinear, params: jax.Array) -> GradientMoments:
        layers = problem.unflatten(params)
        through = forward(layers)
        error = through[-1] - wide(problem.target, through[-1])
        back = backward(layers, error)
        gradients = layer_gradients(back, through)
        inputs = jnp.full(params.shape[1:], error.shape[1], params.dtype)
        before = [inputs, *(square(h) for h in through[:-1])]
        variance = [square(g) * b + square(q) for g, b, q in zip(back, before, gradients, strict=True)]
        if self.label_variance is None:
            noise = [jnp.zeros_like(v) for v in variance]
        else:
            behind = [square(a) for a in backward(layers[:-1], transpose(layers[-1]))] if layers[1:] else []
            ends = [*behind, jnp.full_like(inputs, len(error))]
            noise = [self.label_variance * a * b for a, b in zip(ends, before, strict=True)]
        loss = 0.5 * square(error) + 0.5 * len(error) * problem.label_noise**2
        return GradientMoments(loss, join(gradients), jnp.stack(variance), jnp.stack(noise))


def square(matrices: jax.Array) -> jax.Array:
    """Squared Frobenius norms of (i, j, ...)."""
    flat = matrices.reshape(-1, *matrices.shape[2:])
    # A batch of dot products is far slower on a CPU than a plain sum.
    return total(flat * flat) if flat.ndim > 1 else (flat * flat).sum()


def linear_network_moments(problem: TwoLayerLinear | DeepLinear) -> LinearNetworkMoments:
    """The moments of a linear network."""
    return LinearNetworkMoments(none_if_zero(problem.label_noise**2))
