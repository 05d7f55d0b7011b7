"""Adam's correction at the end of an epoch to second order in the noise, averaged over the order of the examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.solver.adam_noise import general_coefficients
from sgdsim.solver.adam_weights import WeightSums
from sgdsim.solver.batch_order import mean_gradient

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


def noise_moments(problem: Any, w: Vector) -> NoiseMoments:
    """Gradients and Hessians of all examples of a data set at `w`."""
    rows = jnp.arange(problem.n_examples)

    def example(v: Any, row: Any) -> Any:
        return mean_gradient(problem, v, row[None])

    @jax.jit
    def everything(v: Any) -> Any:
        h = jax.lax.map(lambda row: example(v, row), rows, batch_size=_CHUNK)
        turn = jax.lax.map(lambda row: jax.jacfwd(example)(v, row), rows, batch_size=_CHUNK)
        return h.mean(axis=0), turn.mean(axis=0), h - h.mean(axis=0), turn - turn.mean(axis=0)

    return NoiseMoments(*(np.asarray(value) for value in everything(jnp.asarray(w))))


def adam_second_order(g: Any, hessian: Any, h: Any, turn: Any, *, b: int, sums: WeightSums, eps: float) -> Vector:
    """E Corr_n of Adam to second order in the noise, from `NoiseMoments`."""
    examples = len(h)
    steps = examples // b

    def same_batches(s: Any, noise: Any, twist: Any) -> Any:  # Corr_n where every batch has the gradient g + s noise
        x, curvature = g + s * noise, hessian + s * twist
        size = x**2 + eps
        drift = sums.drift_M - sums.drift_N * x**2 / size
        return drift * (curvature @ (x / jnp.sqrt(size))) / jnp.sqrt(size)

    def bend(noise: Any, twist: Any) -> Any:
        return jax.jacfwd(jax.jacfwd(lambda s: same_batches(s, noise, twist)))(0.0) / 2

    with jax.enable_x64(True):
        const = jax.vmap(bend)(jnp.asarray(h), jnp.asarray(turn)).mean(axis=0)
        zeroth = same_batches(0.0, h[0], turn[0])
        diagonal = noise_terms(g, hessian, h, turn, sums=sums, eps=eps)
        return np.asarray(zeroth + steps / (examples - 1) * diagonal - const / (examples - 1))


def noise_terms(g: Any, hessian: Any, h: Any, turn: Any, *, sums: WeightSums, eps: float) -> Vector:
    """MBN_1 + ... + MBN_5 of Theorem B.2 over sqrt(g^2 + eps), without the prefactor n / (N - 1)."""
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
    return (first + second + third + fourth + fifth) / root


def _row(values: Any) -> Vector:
    return np.asarray(values).reshape(-1)
