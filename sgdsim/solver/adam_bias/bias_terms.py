"""The terms of Adam's averaged memory correction, one by one."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._types import Vector
from sgdsim.optimizers import Adam
from sgdsim.problems.base import Problem
from sgdsim.solver.adam_bias.batch_order import check_data_set
from sgdsim.solver.adam_bias.noise_coefficients import checked_sums
from sgdsim.solver.adam_bias.second_order import full_batch_terms, noise_moments, noise_terms


class AdamBiasTerms(NamedTuple):
    """What |g_j| E Corr_j is the sum of; with epsilon |g_j| is `root`.

    Attributes:
        full_batch: FB, shape (D,).
        noise: MBN_1, ..., MBN_5, shape (5, D).
        anticorrelation: of different batches of one epoch, shape (D,); 0 for n -> infinity.
        noise_ratio: variance of the batch gradient over its squared mean plus epsilon, shape (D,).
        root: sqrt(g_j^2 + epsilon), shape (D,).
    """

    full_batch: Vector
    noise: np.ndarray
    anticorrelation: Vector
    noise_ratio: Vector
    root: Vector

    @property
    def correction(self) -> Vector:
        """E Corr to second order in the noise, shape (D,)."""
        return (self.full_batch + self.noise.sum(axis=0) + self.anticorrelation) / self.root


@own_settings
def adam_bias_terms(
    problem: Problem, w: ArrayLike, optimizer: Adam, *, batch_size: int, n: int | None = None
) -> AdamBiasTerms:
    r"""The full-batch term and the five mini-batch terms of Adam's correction at a point, for every parameter.

    $$|g_j|\,E\,\mathrm{Corr}_j = \mathrm{FB}_j + \mathrm{MBN}_{1,j} + \dots + \mathrm{MBN}_{5,j},$$

    with the terms of Table 1, written out at `adam_noise_coefficients`. For an epoch of n + 1 batches they have the
    coefficients of Theorem B.2, the prefactor (n+1)/(N-1) in place of 1/b, N = (n+1) b, and there is a share from noise
    of different batches, anticorrelated (docs/errata.md). Of use where the noise ratios are small: beyond 0.05 what
    the second order leaves out counts, and from 1 on the series has ended.

    Args:
        problem: a `DatasetRegression` or `FlaxNetwork`; D x D matrices are built for every example.
        w: the point, shape (D,).
        optimizer: `Adam` with eps=0 (its eps_root counts) and bias correction.
        batch_size: b.
        n: index of the last step of an epoch; None means n -> infinity.

    Returns:
        `AdamBiasTerms`.

    Raises:
        ValueError: an argument is out of range, or a parameter without a gradient meets eps_root = 0.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression([[1.0], [1.1], [0.9], [1.0]], [0.0, 0.1, 0.0, -0.1])
        >>> adam = ss.Adam(0.01, b1=0.9, b2=0.99, eps=0.0)
        >>> found = ss.solver.adam_bias.adam_bias_terms(problem, [2.0], adam, batch_size=2)
        >>> found.full_batch.round(2).tolist(), found.noise[:, 0].round(3).tolist(), found.noise_ratio.round(4).tolist()
        ([-90.45], [1.121, 0.352, -0.84, -0.0, -0.001], [0.0078])

    Source: Cattaneo and Shigida, equations (6) to (8), Table 1, Theorems B.2 and B.3.
    """
    data = check_data_set(problem, "in random order")
    point = _checks.vector("w", w, problem.dimension)
    size = _checks.integer("batch_size", batch_size, high=len(data.features))
    if not isinstance(optimizer, Adam) or optimizer.eps != 0 or not optimizer.bias_correction:
        raise _checks.error("optimizer", optimizer, "Adam with eps=0 and bias correction",
                            "the expansion has epsilon inside the root: give Adam eps_root")
    sums, eps = checked_sums(float(optimizer.b1 or 0), float(optimizer.b2), n), float(optimizer.eps_root)
    with jax.enable_x64(True):
        g, hessian, h, turn = noise_moments(data, point)
    flat = np.flatnonzero(g**2 + eps == 0)
    if len(flat):
        raise _checks.error("optimizer", "eps = eps_root = 0", f"with eps_root above 0 where a gradient is 0 (here "
                            f"parameter {flat[0]})", "give eps_root, or move the point")
    root = np.sqrt(g**2 + eps)
    zeroth, const = full_batch_terms(g, hessian, h, turn, sums=sums, eps=eps)
    noise = noise_terms(g, hessian, h, turn, sums=sums, eps=eps)
    drawn, shared = (1 / size, 0.0) if n is None else np.array([n + 1, -1]) / ((n + 1) * size - 1)
    ratio = np.mean(h**2, axis=0) / (size * root**2)
    return AdamBiasTerms(zeroth * root, drawn * noise * root, shared * const * root, ratio, root)
