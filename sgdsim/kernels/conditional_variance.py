"""Full gradient and exact variance of the minibatch gradient given the weights, for every chain."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import apply, inner, spec, total
from sgdsim.kernels.base import none_if_zero, square_root
from sgdsim.kernels.linear_network import backward, forward, join, layer_gradients, over_chains, transpose, wide
from sgdsim.problems import DatasetRegression, DeepLinear, LinearRegression, Problem, Quadratic, TwoLayerLinear


class Moments(NamedTuple):
    """What is known of every chain given its weights."""

    loss: jax.Array  # (chains,)
    gradient: jax.Array  # of the loss, (D, chains)
    data: jax.Array  # variance of one example's gradient from the inputs, (layers, chains)
    labels: jax.Array  # and from fresh label noise, (layers, chains)



@spec
class QuadraticMoments:
    """tr C of one example, wherever the weights are."""

    trace: Any

    def evaluate(self, problem: Problem, params: jax.Array) -> Moments:
        """The moments of every chain."""
        constant = jnp.full((1, params.shape[1]), self.trace, params.dtype)
        return Moments(problem.loss(params), problem.gradient(params), constant, jnp.zeros_like(constant))


@spec
class GaussianMoments:
    r"""One example gives x r, jointly Gaussian: $E r^2 |x|^2 - |E x r|^2 = s^2\,\mathrm{tr} K + |Kd|^2$."""

    def evaluate(self, problem: LinearRegression, params: jax.Array) -> Moments:
        """The moments of every chain."""
        k = problem.second_moment
        trace = k.sum() if k.ndim == 1 else jnp.trace(k)
        d = params - problem.effective_teacher[:, None]
        c = apply(k, d)
        variance = (inner(c, d) + problem.residual_variance) * trace + inner(c, c)
        zero = jnp.zeros_like(variance)[None]
        return Moments(problem.loss(params), problem.gradient(params), variance[None], zero)


@spec
class DatasetMoments:
    r"""Example i gives $x_i(x_i^\top d - r_i)$, d the distance from least squares: its variance is a quadratic form

    $$\frac1n \sum_i \bigl|(x_i x_i^\top - C)\, d - r_i x_i\bigr|^2 = |F (d; 1)|^2,$$

    made once, as a sum of squares so that nothing cancels in float32.
    """

    factor: Any
    label_variance: Any

    def evaluate(self, problem: DatasetRegression, params: jax.Array) -> Moments:
        """The moments of every chain."""
        d = params - problem.least_squares[:, None]
        seen = apply(self.factor, jnp.concatenate([d, jnp.ones_like(d[:1])]))
        variance = inner(seen, seen)[None]
        labels = jnp.full_like(variance, self.label_variance)
        return Moments(problem.loss(params), problem.gradient(params), variance, labels)


@spec
class LinearNetworkMoments:
    r"""Layer l sees $A^\top (E x x^\top - \sigma\varepsilon x^\top) B^\top$, A behind it and B before it.

    From $E[x x^\top N x x^\top] = N + N^\top + \mathrm{tr}(N) I$,

    $$\mathrm{Var} = |A^\top E|_F^2 |B|_F^2 + |A^\top E B^\top|_F^2 + \sigma^2 |A|_F^2 |B|_F^2 .$$
    """

    label_variance: Any

    def evaluate(self, problem: TwoLayerLinear | DeepLinear, params: jax.Array) -> Moments:
        """The moments of every chain, layer by layer."""
        return over_chains(problem, functools.partial(self._evaluate, problem))(params)

    def _evaluate(self, problem: TwoLayerLinear | DeepLinear, params: jax.Array) -> Moments:
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
        return Moments(loss, join(gradients), jnp.stack(variance), jnp.stack(noise))


def square(matrices: jax.Array) -> jax.Array:
    """Squared Frobenius norms of (i, j, ...)."""
    flat = matrices.reshape(-1, *matrices.shape[2:])
    # A batch of dot products is far slower on a CPU than a plain sum.
    return total(flat * flat) if flat.ndim > 1 else (flat * flat).sum()


def conditional_moments(problem: Problem, sampling: str) -> Any:
    """What evaluates the moments of a problem; None where no formula is known, or batches depend on each other.

    Given the weights, Var(g) is `noise_factor(...)` times the variance from the inputs plus 1/b times that from
    fresh labels.
    """
    if sampling == "epochs":
        return None
    if isinstance(problem, Quadratic):
        c = problem.noise_covariance
        return QuadraticMoments(np.asarray(c.sum() if c.ndim == 1 else np.trace(c)))
    if isinstance(problem, LinearRegression):
        return GaussianMoments()
    if isinstance(problem, DatasetRegression):
        x, gram = problem.features, problem.gram
        residual = problem.targets - x @ problem.least_squares
        reach = (x * x).sum(axis=1)
        form = np.zeros((problem.dimension + 1,) * 2)
        form[:-1, :-1] = (x * reach[:, None]).T @ x / len(x) - gram @ gram
        form[-1, :-1] = form[:-1, -1] = -(reach * residual) @ x / len(x)
        form[-1, -1] = np.mean(reach * residual**2)
        return DatasetMoments(square_root(form), np.asarray(problem.label_noise**2 * np.trace(gram)))
    if isinstance(problem, TwoLayerLinear | DeepLinear):
        return LinearNetworkMoments(none_if_zero(problem.label_noise**2))
    return None


def noise_factor(batch_size: int, n_examples: int | None, sampling: str) -> float:
    """Variance of the mean of a batch over that of one example: 1/b, or c_b for subsets."""
    if sampling != "without_replacement" or n_examples is None:
        return 1 / batch_size
    return (n_examples - batch_size) / (batch_size * max(n_examples - 1, 1))
