"""Expected losses of a law of the parameters: losses are quadratic, so mean and covariance are enough."""

from __future__ import annotations

from typing import TypeVar

import jax
import numpy as np

from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver.laws.table import stationary_law_of

AnyArray = TypeVar("AnyArray", np.ndarray, jax.Array)


def expected_losses(
    problem: Quadratic | LinearRegression | DatasetRegression, mean: AnyArray, covariance: AnyArray
) -> tuple[AnyArray, AnyArray]:
    """E of `problem.loss` and of `problem.test_loss`."""
    train = problem.loss(mean) + (problem.hessian() * covariance).sum() / 2
    return train, problem.test_loss(mean) + (stationary_law_of(problem).test_hessian * covariance).sum() / 2
