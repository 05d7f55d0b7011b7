"""The one table of what the solver knows about each problem."""

from __future__ import annotations

from typing import Any

from sgdsim.problems import (
    DatasetRegression,
    DeepLinear,
    FlaxNetwork,
    FromLoss,
    LinearRegression,
    Quadratic,
    TwoLayerLinear,
)
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.residuals import Residuals
from sgdsim.solver.laws.dataset_regression import FiniteRegression
from sgdsim.solver.laws.example_losses import NetworkLoss, OwnLoss
from sgdsim.solver.laws.law import DataLaw, QuadraticLaw
from sgdsim.solver.laws.linear_layers import LinearNetworks
from sgdsim.solver.laws.linear_regression import GaussianRegression
from sgdsim.solver.laws.quadratic import NoisyQuadratic
from sgdsim.solver.laws.residuals import ResidualLosses

LAWS: dict[type, type[DataLaw[Any]]] = {
    Quadratic: NoisyQuadratic,
    LinearRegression: GaussianRegression,
    DatasetRegression: FiniteRegression,
    TwoLayerLinear: LinearNetworks,
    DeepLinear: LinearNetworks,
    Residuals: ResidualLosses,  # whatever is made of residual functions, a class of your own too
    FlaxNetwork: NetworkLoss,
    FromLoss: OwnLoss,
}


def law_of(problem: Problem) -> DataLaw[Any]:
    """The law of a problem's gradients.

    Raises:
        NotImplementedError: the problem's class is not in the table, nor a class that it is derived from.
    """
    law = _find(problem)
    if law is None:
        raise NotImplementedError(f"no theory for {type(problem).__name__}; it is there for {_names(DataLaw)}")
    return law


def quadratic_law_of(problem: Problem, theory: str, remedy: str) -> QuadraticLaw[Any]:
    """The law of a problem with quadratic loss.

    Raises:
        NotImplementedError: the problem has no such loss; it says which theory needs one.
    """
    law = _find(problem)
    if isinstance(law, QuadraticLaw):
        return law
    raise NotImplementedError(
        f"no {theory} for {type(problem).__name__}; it is there for {_names(QuadraticLaw)}: {remedy}"
    )


def stationary_law_of(problem: Problem) -> QuadraticLaw[Any]:
    """The law of a problem that settles around its minimum as the linear equations say."""
    return quadratic_law_of(problem, "stationary theory", "simulate it instead")


def _find(problem: Problem) -> DataLaw[Any] | None:
    laws = (LAWS[kind](problem) for kind in type(problem).__mro__ if kind in LAWS)
    return next(laws, None)


def _names(kind: type) -> str:
    names = [problem.__name__ for problem, law in LAWS.items() if issubclass(law, kind)]
    return f"{', '.join(names[:-1])} and {names[-1]}"
