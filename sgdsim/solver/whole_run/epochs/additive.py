"""Shuffled epochs with the noise of every batch as it is at the minimum: Kuehn and Rosenow's closed form."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sgdsim.problems import DatasetRegression
from sgdsim.solver.linear_algebra.lyapunov import discrete_lyapunov, spectral_radius
from sgdsim.solver.whole_run.epochs.fixed_point import EpochMoments
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.motion import enter, kick, transition


def additive_moments(problem: DatasetRegression, step: Affine, offset: Array, batch_size: int) -> EpochMoments:
    r"""The law before batch j of a pass.

    With S the covariance of example gradients,
    $\mathrm{Cov}(\xi_s, \xi_t) = \frac{S}{n-1} (\frac{n}{b_s} \delta_{st} - 1)$, so

    $$\Sigma_j = F^j \Sigma_0 F^{\top j} + W_j - V_j \tfrac{S}{n-1} V_j^\top, \quad
      W_{j+1} = F W_j F^\top + \tfrac{n}{b_j (n-1)} B S B^\top, \quad V_{j+1} = F V_j + B.$$

    Source: Kuehn and Rosenow, "Correlated noise in epoch-based stochastic gradient descent" (2023).

    Args:
        problem: the data set.
        step: of the optimizer.
        offset: what it does at the minimum without a gradient, shape (k, D).
        batch_size: b; a smaller last batch counts with its own size.
    """
    x, hessian = np.asarray(problem.features), jnp.asarray(problem.hessian())
    n, d = x.shape
    size = offset.size
    step = Affine(*map(jnp.asarray, step))
    gradients = x * (x @ problem.minimum - problem.targets)[:, None]
    centred = gradients - gradients.mean(axis=0)
    spread, label = jnp.asarray(centred.T @ centred / n / max(n - 1, 1)), float(problem.label_noise) ** 2
    f = np.asarray(transition(step, hessian))
    enters = np.asarray(enter(step, jnp.eye(d))).reshape(size, d)  # B
    powers, own, tangled = [np.eye(size)], [np.zeros((size, size))], np.zeros((size, d))
    kept = [np.zeros((size, size))]
    for first in range(0, n, batch_size):
        b = min(batch_size, n - first)
        fresh = np.asarray(kick(step, (spread * n + label * problem.gram) / b)).reshape(size, size)
        own.append(f @ own[-1] @ f.T + fresh)
        tangled = f @ tangled + enters
        kept.append(own[-1] - tangled @ spread @ tangled.T)
        powers.append(f @ powers[-1])
    settles = spectral_radius(f) < 1
    boundary = discrete_lyapunov(powers[-1], kept[-1]) if settles else np.full_like(f, np.nan)
    shift = np.linalg.solve(np.eye(size) - f, np.asarray(offset).ravel())[:d]
    second = np.stack([(p @ boundary @ p.T + q)[:d, :d] for p, q in zip(powers[:-1], kept[:-1], strict=True)])
    return EpochMoments(np.tile(shift, (len(second), 1)), second + np.outer(shift, shift), settles)
