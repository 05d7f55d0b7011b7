"""The stationary process of a problem and a linear optimizer, for its correlations in time."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import Matrix
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver.correlations import Process
from sgdsim.solver.whole_run.gradient_law import gradient_law
from sgdsim.solver.whole_run.linear_optimizer import Affine
from sgdsim.solver.whole_run.motion import both_sides, kick, transition
from sgdsim.solver.whole_run.stationary import StationaryState


def process_of(
    problem: Quadratic | LinearRegression | DatasetRegression,
    steps: Sequence[Affine],
    state: StationaryState,
    batch_size: int,
    sampling: str,
) -> Process:
    """F, M and the second-moment map.

    Raises:
        NotImplementedError: the steps are periodic.
    """
    if len(steps) > 1:
        raise NotImplementedError("correlations in time of a periodic optimizer are not there: predict with the batch "
                                  "size that it accumulates")
    with jax.enable_x64(True):
        step = Affine(*map(jnp.asarray, steps[0]))
        law = gradient_law(problem, float(batch_size), sampling)
        k, d = state.mean.shape[1:]
        f = np.asarray(transition(step, law.hessian))

    def moved(m: Matrix) -> Matrix:
        with jax.enable_x64(True):
            p = jnp.asarray(m).reshape(k, d, k, d)
            after = both_sides(step, law.hessian, p) + kick(step, law.linear(p[0, :, 0]))
            return np.asarray(after).reshape(k * d, k * d)

    m = np.asarray(state.covariance[0]).reshape(k * d, k * d)
    return Process(problem, np.asarray(state.mean[0, 0]), f, m, moved)
