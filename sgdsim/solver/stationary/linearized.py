"""A problem and an optimizer, checked and written as the equations around the minimum see them."""

from __future__ import annotations

import dataclasses

import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import SGD, DampedNewton, NaturalGradient, check_optimizer, resolve
from sgdsim.optimizers.base import Optimizer, constant
from sgdsim.problems.base import Problem
from sgdsim.problems.sampling import check_sampling
from sgdsim.solver.laws.table import stationary_law_of
from sgdsim.solver.noise.averaged import AveragedNoise
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.stationary.dynamics import Dynamics
from sgdsim.solver.stationary.generalized_lyapunov import GeneralizedLyapunov
from sgdsim.solver.stationary.natural_gradient import stationary_preconditioner

_OUTSIDE = 1e-8  # the share of a gradient or a noise outside the range of H that rounding explains


@dataclasses.dataclass(frozen=True, eq=False)
class LinearizedSGD:
    """Everything the stationary equations need.

    Attributes:
        mean: where the chains settle: the minimum, and the start along directions that never move, (D,).
        rate: lambda.
        dynamics: noiseless motion in the range of the Hessian.
        noise: averaged gradient noise in the full space.
        feedback: the equation for the covariance in the range of the Hessian.
        batch_size: b.
        sampling: the sampling mode.
        self_consistent: whether the preconditioner is the inverse of the noise it leads to.
    """

    mean: Vector
    rate: float
    dynamics: Dynamics
    noise: AveragedNoise
    feedback: GeneralizedLyapunov
    batch_size: int
    sampling: str
    self_consistent: bool = False

    def limit(self) -> float:
        """The learning rate from which on the second moment does not exist.

        Self-consistent steps shrink as the noise grows: infinite, unless the noise is additive.
        """
        if self.self_consistent and not self.feedback.silent:
            return np.inf
        return self.feedback.limit()

    def embed(self, inside: Matrix) -> Matrix:
        """W X W': a covariance in the range of the Hessian, in the full space."""
        lift = self.dynamics.lift
        return lift @ inside @ lift.T


def linearize(problem: Problem, optimizer: Optimizer, batch_size: int, sampling: str | None) -> LinearizedSGD:
    """Check the request, then restrict it to the range of the Hessian.

    Raises:
        ValueError: an argument is out of range, the loss has no minimum, or noise drives a direction that
            nothing pulls back.
        NotImplementedError: there is no theory for the problem, the optimizer, the schedule or the sampling.
    """
    law = stationary_law_of(problem)
    b, mode = check_sampling(problem, batch_size, sampling)
    factor = factor_of(problem, mode)
    known = _described(problem, optimizer, b)
    hessian = np.asarray(problem.hessian())
    momentum, rate = constant(known.momentum), constant(known.learning_rate)
    estimating = isinstance(known, NaturalGradient)
    dynamics = Dynamics.around(hessian, getattr(known, "preconditioner", None), momentum)
    start = problem.default_start - problem.minimum
    mean = problem.minimum + start - dynamics.lift @ (dynamics.basis.T @ start)
    _check_minimum(problem, mean)
    noise = law.averaged_noise(mean, b, factor)
    outside = noise.carrier - dynamics.basis @ (dynamics.basis.T @ noise.carrier)
    if np.linalg.norm(outside) > _OUTSIDE * np.linalg.norm(noise.carrier):
        raise _checks.error("hessian", hessian, "non-singular wherever there is gradient noise",
                            "a flat direction with noise is a random walk: add weight decay")
    inside = noise.restrict(dynamics.basis)
    if estimating:
        own = stationary_preconditioner(dynamics.curvatures, inside, momentum, rate, b)
        dynamics = dataclasses.replace(dynamics, preconditioner=(own + own.T) / 2)
    return LinearizedSGD(mean, rate, dynamics, noise, GeneralizedLyapunov(dynamics, inside), b, mode, estimating)


def _described(problem: Problem, optimizer: Optimizer, batch_size: int) -> SGD | NaturalGradient:
    """The optimizer as SGD, or a natural gradient that estimates its own Fisher matrix."""
    known, _ = check_optimizer(optimizer, problem.dimension)
    if not isinstance(known, SGD | DampedNewton | NaturalGradient):
        name = type(optimizer).__name__ if known is not None else "an optax transformation"
        raise NotImplementedError(
            f"no stationary theory for {name}; it is there for SGD, DampedNewton and NaturalGradient: "
            "simulate it instead"
        )
    if isinstance(known, SGD) and known.nesterov:
        raise NotImplementedError("this theory is of heavy ball; with nesterov=True there is predict, not the rest")
    if callable(known.learning_rate) or callable(known.momentum):
        raise NotImplementedError(
            "learning_rate is a schedule, but a stationary law needs a constant rate; pass its final value"
        )
    return resolve(known, problem, batch_size)


def _check_minimum(problem: Problem, mean: Vector) -> None:
    scale = np.linalg.norm(problem.gradient(np.zeros_like(mean))) + np.linalg.norm(problem.hessian() @ mean)
    if np.linalg.norm(problem.gradient(mean)) > _OUTSIDE * scale:
        raise _checks.error("weight_decay", getattr(problem, "weight_decay", None), "such that the loss has a minimum",
                            "it cancels the curvature exactly in a direction where the data pull")
