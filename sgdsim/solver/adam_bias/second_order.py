"""Adam's correction at the end of an epoch to second order in the noise, averaged over the order of the examples."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sgdsim._types import Matrix, Vector
from sgdsim.solver.adam_bias.batch_order import DataProblem, mean_gradient
from sgdsim.solver.adam_bias.noise_coefficients import general_coefficients
from sgdsim.solver.adam_bias.weight_sums import Number, WeightSums

_CHUNK = 64  # examples taken together


class NoiseMoments(NamedTuple):
    """The loss of a data set at a point, to second order.

    Attributes:
        g: full gradient, shape (D,).
        hessian: full Hessian, shape (D, D).
        h: noise of each example's gradient, shape (N, D).
        turn: noise of each example's Hessian, shape (N, D, D).
    """

    g: Vector
    hessian: Matrix
    h: np.ndarray
    turn: np.ndarray


def noise_moments(problem: DataProblem, w: Vector) -> NoiseMoments:
    """Gradients and Hessians of all examples of a data set at `w`."""
    rows = jnp.arange(problem.n_examples)

    def example(v: Array, row: Array) -> Array:
        return mean_gradient(problem, v, row[None])

    @jax.jit
    def everything(v: Array) -> tuple[Array, ...]:
        h = jax.lax.map(lambda row: example(v, row), rows, batch_size=_CHUNK)
        turn = jax.lax.map(lambda row: jax.jacfwd(example)(v, row), rows, batch_size=_CHUNK)
        return h.mean(axis=0), turn.mean(axis=0), h - h.mean(axis=0), turn - turn.mean(axis=0)

    return NoiseMoments(*(np.asarray(value) for value in everything(jnp.asarray(w))))


def adam_second_order(
    g: Vector, hessian: Matrix, h: np.ndarray, turn: np.ndarray, *, b: int, sums: WeightSums, eps: float
) -> Vector:
    """E Corr_n of Adam to second order in the noise, from `NoiseMoments`."""
    examples = len(h)
    zeroth, const = full_batch_terms(g, hessian, h, turn, sums=sums, eps=eps)
    diagonal = noise_terms(g, hessian, h, turn, sums=sums, eps=eps).sum(axis=0)
    return np.asarray(zeroth + examples // b / (examples - 1) * diagonal - const / (examples - 1))


def full_batch_terms(
    g: Vector, hessian: Matrix, h: np.ndarray, turn: np.ndarray, *, sums: WeightSums, eps: float
) -> tuple[Vector, Vector]:
    """Corr_n where every batch is the whole data set, and its second order where every batch is the same example."""

    def same_batches(s: Array | float, noise: Array, twist: Array) -> Array:
        # Corr_n where every batch has the gradient g + s noise
        x, curvature = jnp.asarray(g) + s * noise, jnp.asarray(hessian) + s * twist
        size = x**2 + eps
        drift = jnp.asarray(sums.drift_M - sums.drift_N * x**2 / size)
        return drift * (curvature @ (x / jnp.sqrt(size))) / jnp.sqrt(size)

    def bend(noise: Array, twist: Array) -> Array:
        return jax.jacfwd(jax.jacfwd(lambda s: same_batches(s, noise, twist)))(0.0) / 2

    with jax.enable_x64(True):
        const = jax.vmap(bend)(jnp.asarray(h), jnp.asarray(turn)).mean(axis=0)
        return np.asarray(same_batches(0.0, jnp.asarray(h[0]), jnp.asarray(turn[0]))), np.asarray(const)


def adam_main(g: Vector, h: np.ndarray, *, b: int, sums: WeightSums, eps: float) -> Vector:
    r"""E Main_n = E[M / R] to second order in the noise; a few lines (ours), as that of the correction.

    $$\frac{g}{\sqrt s} \Big\{1 + \frac{\Sigma_{jj}}{s (N-1)} \Big[-\frac n2 + \frac{3 g^2}{2 s}
      \big((n+1)\textstyle\sum \nu^2 - 1\big) - \big((n+1)\sum \mu\nu - 1\big)\Big]\Big\}, \qquad s = g^2 + \epsilon.$$
    """
    size, steps = g**2 + eps, len(h) // b
    noise = np.mean(h**2, axis=0) / (size * (len(h) - 1))
    bracket = -(steps - 1) / 2 + 1.5 * g**2 / size * (steps * sums.NN - 1) - (steps * sums.MN - 1)
    return g / np.sqrt(size) * (1 + noise * bracket)


def noise_terms(
    g: Vector, hessian: Matrix, h: np.ndarray, turn: np.ndarray, *, sums: WeightSums, eps: float
) -> np.ndarray:
    """MBN_1, ..., MBN_5 of Theorem B.2 over sqrt(g^2 + eps), without the prefactor n / (N - 1), shape (5, D)."""
    size = g**2 + eps
    root, share = np.sqrt(size), g**2 / size
    sigma = h.T @ h / len(h)
    # gradient_of[i, j] = d_i Sigma_jj
    gradient_of = 2 * np.einsum("pij,pj->ij", turn, h) / len(h)
    c = general_coefficients(sums, share[:, None], share[None, :])
    norm = hessian @ (g / root)  # d_j |g|_1, smoothed by epsilon
    first = norm * np.diag(sigma) / size * _row(c.c1)
    second = (hessian * c.c2 * (g * np.diag(sigma) / (size * root))[:, None]).sum(axis=0)
    third = g / size * _row(c.c3) * (g / root @ gradient_of)
    fourth = (c.c4 * gradient_of.T / root[:, None]).sum(axis=0)
    fifth = g / size * (hessian * c.c5 * sigma / root[:, None]).sum(axis=0)
    return np.stack([first, second, third, fourth, fifth]) / root


def _row(values: Number) -> Vector:
    return np.asarray(values).reshape(-1)
