"""The covariance of a minibatch gradient at a point."""

from __future__ import annotations

from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.problems.base import Problem
from sgdsim.problems.sampling import check_sampling
from sgdsim.solver.laws.table import law_of
from sgdsim.solver.noise.factor import factor_of


def gradient_covariance(problem: Problem, w: ArrayLike, batch_size: int, sampling: str | None = None) -> Matrix:
    r"""Exact covariance of a minibatch-mean gradient at the point w, for every problem [99, 108, 116].

    $$C(w) = f \Big( \tfrac1n \sum_i g_i g_i^\top - \bar g \bar g^\top \Big) + \text{label noise} / b,$$

    with f = 1/b, or c_b without replacement; for a population the mean is over its law.

    Args:
        problem: any problem of sgdsim.
        w: the point, shape (D,).
        batch_size: b >= 1.
        sampling: "online", "with_replacement" or "without_replacement"; None for the problem's default.

    Returns:
        C, shape (D, D), in double precision.

    Raises:
        ValueError: `w` or `batch_size` is out of range, or `sampling` does not fit the problem.
        NotImplementedError: "epochs", or a class of your own whose law is not known.

    Examples:
        >>> import sgdsim as ss
        >>> from sgdsim.solver import gradient_covariance
        >>> problem = ss.DatasetRegression(features=[[1.0], [1.0]], targets=[1.0, -1.0])
        >>> float(gradient_covariance(problem, [0.0], batch_size=1)[0, 0])
        1.0
    """
    law = law_of(problem)
    b, mode = check_sampling(problem, batch_size, sampling)
    return law.noise_covariance(_checks.vector("w", w, problem.dimension), b, factor_of(problem, mode))
